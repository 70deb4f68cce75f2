"""A store and the backups of stores lie beside each other: in one another, each would hold both."""

from pathlib import Path

from hartonomous.errors import ConflictError


def refuse_nested(store: Path, folder: Path) -> None:
    """Raise ConflictError where a store and a folder of backups would lie in each other."""
    store, folder = store.resolve(), folder.resolve()
    if _lies_in(store, folder) or _lies_in(folder, store):
        raise ConflictError(
            f"the backups at {folder} and the store at {store} would lie in each other",
            hint="choose a folder beside the other one, better on another disk",
        )


def _lies_in(inner: Path, outer: Path) -> bool:
    """Say whether a path is a folder or below it, also where that is mounted at two places."""
    if outer in (inner, *inner.parents):
        return True
    return outer.exists() and any(
        above.exists() and above.samefile(outer) for above in (inner, *inner.parents)
    )
