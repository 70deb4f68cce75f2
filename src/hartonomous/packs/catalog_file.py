"""The catalog's file in a store's directory, and a new one that is made beside it."""

import contextlib
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from hartonomous.catalog.database import Database, create_sqlite, open_sqlite
from hartonomous.catalog.engines.sqlite import copy_before_migration, fold
from hartonomous.errors import HartonomousError, IntegrityError
from hartonomous.objects.durable import not_plain, storage_error, sync_directory

CATALOG = "catalog.sqlite3"
_PARTS = ("-wal", "-shm", "-journal", "")


class CatalogFile:
    """One store's file."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.path = directory / CATALOG

    def shown(self) -> str:
        """Return the place as people may see it."""
        return str(self.path)

    def refuse_strange(self) -> None:
        """Raise IntegrityError where a pipe, device or folder lies in place of the files.

        SQLite would wait for a pipe's other end.
        """
        for ending in _PARTS:
            place = self.path.with_name(CATALOG + ending)
            mode = mode_of(place)
            if mode is not None and not stat.S_ISREG(mode):
                error = not_plain(place)
                raise IntegrityError(
                    error.message, hint="hart repair puts a new catalog in its place"
                )

    def create(self) -> None:
        """Make an empty catalog, over what a making that was cut short left."""
        for ending in ("", "-wal", "-shm"):
            self.path.with_name(CATALOG + ending).unlink(missing_ok=True)
        Database(create_sqlite(self.path)).close()

    def open(self) -> Database:
        """Open what is there, of whatever revision; raises NoStoreError where there is nothing."""
        return Database(open_sqlite(self.path, self._directory / "locks" / "catalog.lock"))

    def copy_aside(self, revision: str) -> str:
        """Copy the file beside itself; raises HartonomousError where the disk refuses that."""
        try:
            copy = copy_before_migration(self.path, revision)
            sync_directory(self._directory)
        except OSError as error:
            raise storage_error(error, "copy the catalog", self._directory) from error
        return str(copy)

    @contextlib.contextmanager
    def rebuilding(self) -> Iterator[Database]:
        """Yield an empty catalog beside the one in use; what fails leaves nothing behind.

        Raises HartonomousError where the disk refuses something.
        """
        target = _draft(self._directory)
        _remove(target)
        try:
            database = Database(create_sqlite(target))
            try:
                yield database
                # The file alone is put in place: all of it must be in it, and on the disk.
                fold(database.engine)
            finally:
                database.close()
        except BaseException as error:
            _remove_after(target, error)
            raise

    def remove_draft(self) -> None:
        """Remove the new catalog, which is not to be put in place."""
        _remove(_draft(self._directory))

    def put_in_place(self, now_us: int) -> str | None:
        """Move the new catalog to its place; return where a former one is kept.

        Raises HartonomousError, or StorageFullError, where the disk refuses that.
        """
        try:
            return self._put_in_place(now_us)
        except OSError as error:
            raised = storage_error(error, "put the new catalog in its place", self._directory)
            if self.path.exists():  # else it is all that there is
                _remove_after(_draft(self._directory), raised)
            raise raised from error

    def _put_in_place(self, now_us: int) -> str | None:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_us / 1e6))
        former = self._directory / f"{CATALOG}.before-repair-{stamp}-{now_us % 1_000_000:06d}"
        kept = str(former) if _keep_beside(self.path, former) else _move_parts(self.path, former)
        _draft(self._directory).replace(self.path)
        sync_directory(self._directory)
        return kept

    def check_set_aside(self, now_us: int) -> None:
        """Do nothing: who holds the store may rename the file."""

    def set_aside(self, now_us: int) -> str | None:
        """Move the file out of use; return where it is kept."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_us / 1e6))
        former = self._directory / f"{CATALOG}.before-move-{stamp}-{now_us % 1_000_000:06d}"
        kept = _move_parts(self.path, former)
        sync_directory(self._directory)
        return kept


def mode_of(path: Path) -> int | None:
    """Return what lies at ``path`` in one look, None for nothing: SQLite's files come and go."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


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
