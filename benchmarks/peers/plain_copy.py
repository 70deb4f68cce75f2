"""cp: what doing nothing about it costs."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from made_files import size_of
from measure import Measured, run

from peers.peer import Peer

_CP = ["cp", "-r", "--reflink=never"]


class PlainCopy(Peer):
    """A folder of copies."""

    name = "cp"

    def version(self) -> str:
        """Return the version of coreutils."""
        done = subprocess.run(["cp", "--version"], capture_output=True, text=True, check=True)
        return done.stdout.split("\n")[0].split()[-1]

    def prepare(self) -> None:
        """Make the folder."""
        super().prepare()
        (self.work / "copies").mkdir()

    def add(self, paths: Sequence[Path]) -> Measured:
        """Copy in."""
        return run([*_CP, *map(str, paths), str(self.work / "copies")])

    def get(self, out: Path, names: Sequence[str] | None = None) -> Measured:
        """Copy out."""
        out.mkdir(parents=True, exist_ok=True)
        copies = self.work / "copies"
        sources = [f"{copies}/."] if names is None else [str(copies / name) for name in names]
        return run([*_CP, *sources, str(out)])

    def stored_bytes(self) -> int:
        """Return the copies."""
        return size_of(self.work / "copies")
