"""git-lfs in a repository of its own; install it from the system's packages (git-lfs)."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from made_files import size_of
from measure import Measured, run

from peers.peer import Peer, UnavailableError, link_into, move_all, remove

_ENV = {
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "bench", "GIT_AUTHOR_EMAIL": "bench@bench.invalid",
    "GIT_COMMITTER_NAME": "bench", "GIT_COMMITTER_EMAIL": "bench@bench.invalid",
}  # fmt: skip

_ATTRIBUTES = "* filter=lfs diff=lfs merge=lfs -text\n.gitattributes -filter -diff -merge text\n"


class GitLfs(Peer):
    """A git repository whose files are all kept by git-lfs."""

    name = "git-lfs"

    def version(self) -> str:
        """Return the version; raises UnavailableError where it is not installed."""
        if shutil.which("git") is None or shutil.which("git-lfs") is None:
            raise UnavailableError("git or git-lfs is not installed (system package git-lfs)")
        done = subprocess.run(["git-lfs", "version"], capture_output=True, text=True, check=True)
        return done.stdout.split()[0].removeprefix("git-lfs/")

    @property
    def _tree(self) -> Path:
        return self.work / "tree"

    def prepare(self) -> None:
        """Make a repository that tracks everything."""
        super().prepare()
        self._tree.mkdir()
        (self._tree / ".gitattributes").write_text(_ATTRIBUTES, encoding="ascii")
        for command in (["init", "-q"], ["lfs", "install", "--local"]):
            made = run(["git", *command], cwd=self._tree, env=_ENV)
            if not made.ok:
                raise UnavailableError(f"git {' '.join(command)} failed: {made.output}")

    def add(self, paths: Sequence[Path]) -> Measured:
        """Add and commit."""
        link_into(self._tree, paths)
        command = "git add -A . && git commit -q -m add"
        return run(["sh", "-c", command], cwd=self._tree, env=_ENV)

    def get(self, out: Path, names: Sequence[str] | None = None) -> Measured:
        """Check files out again, as after a clone."""
        if names is None:
            names = [one.name for one in self._tree.iterdir() if not one.name.startswith(".git")]
        for name in names:
            remove(self._tree / name)
        done = run(["git", "checkout", "-q", "--", *names], cwd=self._tree, env=_ENV)
        if done.ok:
            move_all(self._tree, out, names)
        return done

    def stored_bytes(self) -> int:
        """Return the repository's own folder: git's objects and git-lfs's."""
        return size_of(self._tree / ".git")
