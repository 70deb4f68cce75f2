"""The catalog's file in a store's directory while a new one is made beside it."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from hartonomous.catalog.database import Database, create_sqlite
from hartonomous.errors import HartonomousError
from hartonomous.objects.durable import storage_error, sync_directory

CATALOG = "catalog.sqlite3"
_PARTS = ("-wal", "-shm", "-journal", "")


@contextlib.contextmanager
def rebuilding(directory: Path) -> Iterator[Database]:
    """Yield an empty catalog beside the one in use; what fails leaves nothing behind.

    Raises HartonomousError where the disk refuses something.
    """
    target = _draft(directory)
    _remove(target)
    try:
        database = Database(create_sqlite(target))
        try:
            yield database
            # The file alone is put in place: all of it must be in it, and on the disk.
            database.fold()
        finally:
            database.close()
    except BaseException as error:
        _remove_after(target, error)
        raise


def put_in_place(directory: Path, now_us: int) -> str | None:
    """Move the new catalog to its place; return where the former one is kept, if there was one.

    Raises HartonomousError, or StorageFullError, where the disk refuses that.
    """
    try:
        return _put_in_place(directory, now_us)
    except OSError as error:
        raised = storage_error(error, "put the new catalog in its place", directory)
        if (directory / CATALOG).exists():  # else it is all that there is
            _remove_after(_draft(directory), raised)
        raise raised from error


def _put_in_place(directory: Path, now_us: int) -> str | None:
    current = directory / CATALOG
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_us / 1e6))
    former = directory / f"{CATALOG}.before-repair-{stamp}-{now_us % 1_000_000:06d}"
    kept = str(former) if _keep_beside(current, former) else _move_parts(current, former)
    _draft(directory).replace(current)
    sync_directory(directory)
    return kept


def _keep_beside(current: Path, former: Path) -> bool:
    """Give the former catalog its other name too, so that one is in place at every moment.

    Not where a log lies beside it: that must not meet another catalog under the same name.
    """
    if any(current.with_name(current.name + ending).exists() for ending in _PARTS if ending):
        return False
    try:
        former.hardlink_to(current)
    except OSError:  # there is none, or the file system has no such links
        return False
    return True


def _move_parts(current: Path, former: Path) -> str | None:
    """Move the former catalog away; killed behind this, the store says that it needs a repair."""
    kept = None
    for ending in _PARTS:
        part = current.with_name(current.name + ending)
        if part.exists():
            part.replace(former.with_name(former.name + ending))
            kept = str(former)
    return kept


def _draft(directory: Path) -> Path:
    return directory / f"{CATALOG}.repair"


def drafts(directory: Path) -> list[Path]:
    """Return the files of a new catalog that is not in its place."""
    draft = _draft(directory)
    parts = [draft.with_name(draft.name + ending) for ending in _PARTS]
    return [path for path in parts if path.is_file() and not path.is_symlink()]


def _remove(path: Path) -> None:
    try:
        for ending in _PARTS:
            path.with_name(path.name + ending).unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, f"remove {path.name}", path.parent) from error


def _remove_after(path: Path, error: BaseException) -> None:
    """Remove a draft after an error, which says more than that this failed too."""
    try:
        _remove(path)
    except HartonomousError as second:
        error.add_note(second.message)
