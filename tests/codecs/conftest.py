"""What tests of the kernel share: its build, as a module, and programs made of it."""

import fcntl
import importlib.util
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def native_build():
    """Return native/build.py as a module."""
    spec = importlib.util.spec_from_file_location("native_build", ROOT / "native" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Frames:
    """The program native/fuzz/frames.c, run by ``prefix``."""

    def __init__(self, prefix: list[str]) -> None:
        self.prefix = prefix
        self.paths = self.run("paths").decode().split()

    def run(self, *words: str, items: list[tuple[int, bytes]] = ()) -> bytes:
        feed = b"".join(struct.pack("<II", number, len(one)) + one for number, one in items)
        done = subprocess.run([*self.prefix, *words], input=feed, capture_output=True, timeout=250)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def results(self, *words: str, items: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """Return (status, bytes) of each item."""
        out, at, found = self.run(*words, items=items), 0, []
        while at < len(out):
            status, size = struct.unpack_from("<II", out, at)
            found.append((status, out[at + 8 : at + 8 + size]))
            at += 8 + size
        return found


@pytest.fixture(scope="session")
def built(native_build, tmp_path_factory):
    """Return what builds the program once for all workers of a run; None where that fails."""
    place = tmp_path_factory.getbasetemp()
    place = place.parent if "PYTEST_XDIST_WORKER" in os.environ else place

    def build(name, **how):
        program, failed = place / name, place / f"{name}.failed"
        with (place / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not program.exists() and not failed.exists():
                try:
                    native_build.build_frames(place / f"{name}.part", **how)
                except subprocess.CalledProcessError:
                    failed.touch()
                else:
                    (place / f"{name}.part").rename(program)
        return None if failed.exists() else program

    return build


@pytest.fixture(scope="session")
def sanitised(native_build, built):
    """Return the program with the address and undefined-behaviour sanitizers."""
    if shutil.which(native_build.compiler()[0]) is None:
        pytest.skip("there is no C compiler")
    program = built("frames-sanitised", flags=native_build.SANITIZED)
    if program is None:
        pytest.skip("the C compiler has no sanitizers")
    return Frames([str(program)])


@pytest.fixture(scope="session")
def foreign(native_build, built):
    """Return the program for AArch64, run by an emulator."""
    compiler, emulator = "aarch64-linux-gnu-gcc", shutil.which("qemu-aarch64")
    if shutil.which(compiler) is None or emulator is None:
        pytest.skip(f"there is no {compiler} or no qemu-aarch64")
    flags = (*native_build.OPTIMISED, "-static")
    program = built("frames-aarch64", command=[compiler], flags=flags)
    assert program is not None, "the kernel does not compile for AArch64"
    return Frames([emulator, str(program)])
