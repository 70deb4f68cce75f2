"""A database file of its own (SQLite) for something derived: it may be deleted and made anew.

What is found missing, damaged or of another schema is made anew, empty; what is in the file's place
and is none is removed, or refused. Readers and writers of several processes may use one at once;
one writes at a time.
"""

import contextlib
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from hartonomous.catalog.disk_room import full_disk, lacks_room
from hartonomous.errors import HartonomousError, IntegrityError, LockedError, StorageFullError

_BUSY_S = 60
_MAY_BE_FULL = ("SQLITE_IOERR", "SQLITE_CANTOPEN")
_MACHINE = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_NOMEM")


class DerivedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of derived file. ``what`` is said in messages, such as "the index of words".

    ``tables`` are the statements that make it, each ended by a semicolon and a line's end, the last
    of which sets ``user_version`` to ``schema``; ``names`` are the tables that have to be there.
    """

    what: str
    schema: int
    tables: str
    names: frozenset[str]

    def open(self, path: Path) -> sqlite3.Connection:
        """Open the file, made anew where it is missing, damaged or of another schema.

        Raises IntegrityError where a folder lies in its place.
        """
        self._remove_strange(path)
        for attempt in range(2):
            try:
                connection = self._connected(path)
            except sqlite3.DatabaseError as error:
                if attempt or _is_passing(error) or not path.exists():
                    raise self._meaning(error, path) from error
                connection = None
            except UnicodeDecodeError:  # SQLite quotes the damaged schema
                connection = None
            if connection is not None:
                return connection
            self.delete(path)
        raise HartonomousError(
            f"the index at {path} cannot be made", hint="delete that folder, and search again"
        )

    def delete(self, path: Path) -> None:
        """Delete a file; who has it open goes on with what it was."""
        for one in _files(path):
            self._refuse_folder(one)
        for one in _files(path):
            one.unlink(missing_ok=True)

    def stored_bytes(self, path: Path) -> int:
        """Return what a file takes, with those that SQLite keeps beside it while it is open."""
        total = 0
        for one in _files(path):
            with contextlib.suppress(FileNotFoundError):  # the last who closes it takes them away
                total += one.stat().st_size
        return total

    def damage(self, path: Path, look: Callable[[Path], str | None]) -> str | None:
        """Return what is wrong with a file; None where it is sound, missing or of another schema.

        ``look`` compares its rows with what is kept of them. The file is neither made nor deleted.
        Raises LockedError or HartonomousError where it cannot be looked at.
        """
        if not path.exists():
            return None
        try:
            with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True,
                                                    timeout=_BUSY_S)) as connection:  # fmt: skip
                if not self._is_current(connection):
                    return None
            return look(path)
        except sqlite3.Error as error:
            is_refused = _name(error).startswith("SQLITE_READONLY") and not os.access(path, os.W_OK)
            if _is_passing(error) or is_refused:
                raise self._meaning(error, path) from error
            return str(error)
        except (TypeError, ValueError) as error:  # a value of another kind than was written
            return f"{type(error).__name__}: {error}"

    @contextlib.contextmanager
    def writing(self, connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        """Run one transaction, which takes the file's lock at once."""
        with self.translated():
            path = Path(connection.execute("PRAGMA database_list").fetchone()[2])
        with self.translated(path):
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.commit()
            except BaseException:
                connection.rollback()
                raise

    @contextlib.contextmanager
    def translated(self, path: Path | None = None) -> Iterator[None]:
        """Raise SQLite's errors as ours; ``path`` is the file, where its disk may be full."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._meaning(error, path) from error

    def _connected(self, path: Path) -> sqlite3.Connection | None:
        """Open the file, and make the tables in a new one; None where it has another schema."""
        path.parent.mkdir(exist_ok=True)
        connection = sqlite3.connect(
            path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            # Derived, so a power cut may cost the newest rows: they are made again.
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA trusted_schema=OFF")
            if not connection.execute("PRAGMA user_version").fetchone()[0]:
                self._make(connection)
            if self._is_current(connection):
                return connection
        except BaseException:
            connection.close()
            raise
        connection.close()
        return None

    def _make(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                for statement in self.tables.split(";\n"):
                    connection.execute(statement)
        except BaseException:
            connection.rollback()
            raise
        connection.commit()

    def _is_current(self, connection: sqlite3.Connection) -> bool:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master"
                                                        " WHERE type = 'table'")}  # fmt: skip
        return bool(version == self.schema and names.issuperset(self.names))

    def _refuse_folder(self, path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            raise IntegrityError(
                f"{path} is a folder, and {self.what} is a file",
                hint="move it away: the next search makes the index anew",
            )

    def _remove_strange(self, path: Path) -> None:
        """Remove what is no plain file: through a link another database would be written."""
        for one in _files(path):
            self._refuse_folder(one)
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISREG(one.lstat().st_mode):
                    one.unlink()

    def _meaning(self, error: sqlite3.Error, path: Path | None) -> HartonomousError:
        name = _name(error)
        if _is_busy(error):
            return LockedError(
                f"{self.what} stayed locked for {_BUSY_S} s", hint="try again in a while"
            )
        full = name == "SQLITE_FULL" or name.startswith(_MAY_BE_FULL)
        if path is not None and full and (name == "SQLITE_FULL" or lacks_room(path.parent)):
            return full_disk(f"no room for {self.what} at {path}", path)
        if name == "SQLITE_FULL":
            return StorageFullError(
                f"no room for {self.what}: {error}", hint="free some space on the store's disk"
            )
        if name.startswith(_MACHINE):
            return HartonomousError(
                f"{self.what} cannot be opened or written: {error}",
                hint="look at the room on the store's disk, open files and rights; hart views drop"
                " deletes the index",
            )
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return IntegrityError(
                f"{self.what} is damaged: {error}", hint="hart views rebuild makes it anew"
            )
        if "no such module: fts5" in str(error):
            return HartonomousError(
                f"this Python's SQLite ({sqlite3.sqlite_version}) cannot search texts: {error}",
                hint="use a Python whose SQLite has FTS5",
            )
        return HartonomousError(
            f"{self.what} failed: {error}", hint="hart views rebuild makes it anew"
        )


def _files(path: Path) -> list[Path]:
    return [path.with_name(path.name + ending) for ending in ("", "-wal", "-shm")]


def _is_passing(error: sqlite3.Error) -> bool:
    """Say whether an error is the machine's: an index that took hours is not deleted for it."""
    return _is_busy(error) or _name(error).startswith(_MACHINE)


def _name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", None) or ""


def _is_busy(error: sqlite3.Error) -> bool:
    return _name(error).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
