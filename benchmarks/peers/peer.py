"""What every peer is: a tool that takes files into a store of its own and gives them back."""

import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from made_files import size_of
from measure import Measured


class UnavailableError(Exception):
    """The tool cannot be had on this machine; says why."""


class Peer(ABC):
    """One tool with one store under ``work``; ``tools`` is kept between runs.

    ``prepare`` makes an empty store, ``add`` may be called again and again.
    """

    name = ""
    syncs = False
    """Whether an add that returned survives a power cut: it synced what it wrote."""
    slow = False
    """Whether one run has to do where the others get several."""

    def __init__(self, work: Path, tools: Path) -> None:
        self.work = work / self.name
        self.tools = tools

    @abstractmethod
    def version(self) -> str:
        """Install the tool if need be and return its version; raises UnavailableError."""

    def prepare(self) -> None:
        """Make an empty store."""
        self.clean()
        self.work.mkdir(parents=True)

    @abstractmethod
    def add(self, paths: Sequence[Path]) -> Measured:
        """Take files or folders in."""

    @abstractmethod
    def get(self, out: Path, names: Sequence[str] | None = None) -> Measured:
        """Write what was added below ``out``, each under its own name; all, or these names."""

    @abstractmethod
    def stored_bytes(self) -> int:
        """Return the bytes that the store takes."""

    def clean(self) -> None:
        """Remove the store."""
        shutil.rmtree(self.work, ignore_errors=True)


def python_with(
    requirement: str, tools: Path, *, first: str | None = None, beside: Sequence[str] = ()
) -> Path:
    """Return the interpreter of an environment of its own that has one package from the index.

    ``first`` is installed before it, where its own choice of that dependency would be too large;
    ``beside`` are packages that it needs here and does not ask for.
    """
    folder = tools / requirement
    python = folder / "bin" / "python"
    if (folder / "ready").exists():
        return python
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        *([[*install, first]] if first else []),
        [*install, *beside, requirement],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise UnavailableError(f"{' '.join(command[1:4])} … failed: {last}")
    (folder / "ready").touch()
    return python


def package_version(python: Path, package: str) -> str:
    """Return the version of an installed package."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def link_into(folder: Path, paths: Sequence[Path]) -> list[str]:
    """Put files and folders into a work tree by hard links; return their names there."""
    names = []
    for path in paths:
        target = folder / path.name
        if path.is_dir():
            shutil.copytree(path, target, copy_function=_link)
        else:
            _link(str(path), str(target))
        names.append(path.name)
    return names


def _link(source: str, target: str) -> str:
    Path(target).hardlink_to(source)
    return target


def move_all(source: Path, out: Path, names: Sequence[str]) -> None:
    """Move what a tool wrote into its own work tree to ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        (source / name).rename(out / name)


def remove(path: Path) -> None:
    """Remove a file, or a folder with what is in it; nothing there is fine."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def plain_bytes(paths: Sequence[Path]) -> int:
    """Return the bytes of files and folders as they are."""
    return sum(size_of(path) for path in paths)
