"""restic: a backup program with content-defined chunks and zstd (system package restic)."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from made_files import size_of
from measure import Measured, added_up, run

from peers.peer import Peer, UnavailableError, link_into


class Restic(Peer):
    """A repository of version 2 with its ordinary compression; each add is a snapshot."""

    name = "restic"
    syncs = True

    def __init__(self, work: Path, tools: Path) -> None:
        super().__init__(work, tools)
        self._snapshot_of: dict[str, str] = {}

    def version(self) -> str:
        """Return the version; raises UnavailableError where it is not installed."""
        if shutil.which("restic") is None:
            raise UnavailableError("restic is not installed (system package restic)")
        done = subprocess.run(["restic", "version"], capture_output=True, text=True, check=True)
        return done.stdout.split()[1]

    def _restic(self, *arguments: str) -> Measured:
        env = {"RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": str(self.work / "cache")}
        command = ["restic", "-q", "-r", str(self.work / "repository"), *arguments]
        return run(command, cwd=self.work / "tree", env=env)

    def prepare(self) -> None:
        """Make a repository."""
        super().prepare()
        self._snapshot_of.clear()
        (self.work / "tree").mkdir()
        made = self._restic("init", "--repository-version", "2")
        if not made.ok:
            raise UnavailableError(f"restic init failed: {made.output}")

    def add(self, paths: Sequence[Path]) -> Measured:
        """Make a snapshot of these paths."""
        names = link_into(self.work / "tree", paths)
        tag = f"add{len(set(self._snapshot_of.values()))}"
        self._snapshot_of |= dict.fromkeys(names, tag)
        return self._restic("backup", "--tag", tag, *names)

    def get(self, out: Path, names: Sequence[str] | None = None) -> Measured:
        """Restore names out of the snapshots that hold them; several add up."""
        wanted = list(self._snapshot_of if names is None else names)
        done: list[Measured] = []
        for tag in dict.fromkeys(self._snapshot_of[name] for name in wanted):
            included = [one for one in wanted if self._snapshot_of[one] == tag]
            chosen = [part for name in included for part in ("--include", f"/{name}")]
            done.append(self._restic(
                "restore", "latest", "--tag", tag, "--target", str(out.resolve()), *chosen
            ))  # fmt: skip
        return added_up(done)

    def stored_bytes(self) -> int:
        """Return the repository."""
        return size_of(self.work / "repository")
