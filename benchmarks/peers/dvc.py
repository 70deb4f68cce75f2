"""dvc with a local cache of copies, without git."""

from collections.abc import Sequence
from pathlib import Path

from made_files import size_of
from measure import Measured, run

from peers.peer import (
    Peer,
    UnavailableError,
    link_into,
    move_all,
    package_version,
    python_with,
    remove,
)

_ENV = {"DVC_NO_ANALYTICS": "1", "DVC_GLOBAL_CONFIG_DIR": "/nonexistent"}


class Dvc(Peer):
    """A dvc project; ``cache.type`` is copy, so that a changed work tree cannot harm the cache."""

    name = "dvc"

    def version(self) -> str:
        """Return the package's version."""
        return package_version(python_with("dvc", self.tools), "dvc")

    @property
    def _program(self) -> str:
        return str(python_with("dvc", self.tools).with_name("dvc"))

    @property
    def _tree(self) -> Path:
        return self.work / "tree"

    def prepare(self) -> None:
        """Make a project."""
        super().prepare()
        self._tree.mkdir()
        for command in (["init", "-q", "--no-scm"], ["config", "cache.type", "copy"]):
            made = run([self._program, *command], cwd=self._tree, env=_ENV)
            if not made.ok:
                raise UnavailableError(f"dvc {' '.join(command)} failed: {made.output}")

    def add(self, paths: Sequence[Path]) -> Measured:
        """Add with ``dvc add``."""
        names = link_into(self._tree, paths)
        return run([self._program, "add", "-q", *names], cwd=self._tree, env=_ENV)

    def get(self, out: Path, names: Sequence[str] | None = None) -> Measured:
        """Check out of the cache again."""
        if names is None:
            known = [one.name.removesuffix(".dvc") for one in self._tree.glob("*.dvc")]
            names = [name for name in known if name]
        for name in names:
            remove(self._tree / name)
        targets = [f"{name}.dvc" for name in names]
        done = run([self._program, "checkout", "-q", *targets], cwd=self._tree, env=_ENV)
        if done.ok:
            move_all(self._tree, out, names)
        return done

    def stored_bytes(self) -> int:
        """Return the cache."""
        return size_of(self._tree / ".dvc" / "cache")
