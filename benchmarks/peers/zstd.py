"""zstd over each file alone: what compression saves without finding anything equal."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from made_files import size_of
from measure import Measured, run

from peers.peer import Peer, UnavailableError, link_into


class Zstd(Peer):
    """A folder of compressed files; as many threads as the machine has cores."""

    level = 3

    def version(self) -> str:
        """Return the program's version."""
        if shutil.which("zstd") is None:
            raise UnavailableError("zstd is not installed (system package zstd)")
        done = subprocess.run(["zstd", "-V"], capture_output=True, text=True, check=True)
        return next(word for word in done.stdout.split() if word.startswith("v")).strip("v,")

    def prepare(self) -> None:
        """Make the folders."""
        super().prepare()
        (self.work / "tree").mkdir()
        (self.work / "packed").mkdir()

    def add(self, paths: Sequence[Path]) -> Measured:
        """Compress each file."""
        names = link_into(self.work / "tree", paths)
        return run(
            ["zstd", "-q", "-T0", f"-{self.level}", "-r", "--output-dir-mirror", "../packed",
             *names],
            cwd=self.work / "tree",
        )  # fmt: skip

    def get(self, out: Path, names: Sequence[str] | None = None) -> Measured:
        """Decompress files."""
        out.mkdir(parents=True, exist_ok=True)
        packed = self.work / "packed"
        if names is None:
            names = [one.name.removesuffix(".zst") for one in packed.iterdir()]
        there = [name if (packed / name).is_dir() else f"{name}.zst" for name in names]
        command = ["zstd", "-q", "-d", "-r", "--output-dir-mirror", str(out.resolve()), *there]
        return run(command, cwd=packed)

    def stored_bytes(self) -> int:
        """Return the compressed files."""
        return size_of(self.work / "packed")


class Zstd3(Zstd):
    """The default level."""

    name = "zstd -3"


class Zstd19(Zstd):
    """The highest ordinary level."""

    name = "zstd -19"
    level = 19
    slow = True
