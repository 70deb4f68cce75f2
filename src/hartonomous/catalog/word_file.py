"""The file of an index of words: made, opened, deleted, and what its errors mean.

A file that is damaged, or of another schema, is deleted and made anew: it is derived.
"""

import contextlib
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from hartonomous.errors import HartonomousError, IntegrityError, LockedError, StorageFullError

SCHEMA = 2
"""A file of another schema is deleted and built anew."""

_BUSY_S = 60
# Terms are alphanumeric already: the tokenizer ``ascii`` only parts them at blanks.
_TABLES = f"""
CREATE TABLE source (
  id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, recipe TEXT NOT NULL, kind TEXT NOT NULL,
  title TEXT NOT NULL, pages TEXT NOT NULL, metadata TEXT NOT NULL, notices TEXT NOT NULL,
  passages INTEGER NOT NULL
);
CREATE TABLE passage (
  id INTEGER PRIMARY KEY, source_id INTEGER NOT NULL REFERENCES source (id), kind TEXT NOT NULL,
  heading TEXT NOT NULL, page INTEGER NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL,
  body TEXT NOT NULL
);
CREATE INDEX ix_passage_source ON passage (source_id);
CREATE VIRTUAL TABLE words USING fts5(heading, body, content='', tokenize='ascii');
CREATE TABLE term (term TEXT PRIMARY KEY, passages INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE spelling (key INTEGER, term TEXT, PRIMARY KEY (key, term)) WITHOUT ROWID;
CREATE TABLE said (
  id INTEGER PRIMARY KEY, uid BLOB NOT NULL UNIQUE, stamp BLOB NOT NULL, terms TEXT NOT NULL
);
CREATE VIRTUAL TABLE said_words USING fts5(terms, content='', tokenize='ascii');
CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {SCHEMA};
"""
_MACHINE = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_NOMEM")
_TABLE_NAMES = frozenset(
    ("source", "passage", "words", "term", "spelling", "said", "said_words", "state")
)


def opened(path: Path) -> sqlite3.Connection:
    """Open the file, made anew where it is missing, damaged or of another schema.

    Raises IntegrityError where a folder lies in its place.
    """
    _remove_strange(path)
    for attempt in range(2):
        try:
            connection = _connected(path)
        except sqlite3.DatabaseError as error:
            if attempt or _is_passing(error) or not path.exists():
                raise _meaning(error) from error
            delete_index(path)
            continue
        if _is_current(connection):
            return connection
        connection.close()
        delete_index(path)
    raise HartonomousError(
        f"the index at {path} cannot be made", hint="delete that folder, and search again"
    )


def _connected(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(exist_ok=True)
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        # Derived, so a power cut may cost the newest rows: they are made again.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA trusted_schema=OFF")
        if connection.execute("PRAGMA user_version").fetchone()[0]:
            return connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in _TABLES.split(";\n"):
                    connection.execute(statement)
        except BaseException:
            connection.rollback()
            raise
        connection.commit()
    except BaseException:
        connection.close()
        raise
    return connection


def _is_current(connection: sqlite3.Connection) -> bool:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master"
                                                    " WHERE type = 'table'")}  # fmt: skip
    return bool(version == SCHEMA and names.issuperset(_TABLE_NAMES))


def delete_index(path: Path) -> None:
    """Delete an index; who has it open goes on with what it was."""
    for one in files_of(path):
        _refuse_folder(one)
    for one in files_of(path):
        one.unlink(missing_ok=True)


def files_of(path: Path) -> list[Path]:
    """Return the index's file and those that SQLite keeps beside it."""
    return [path.with_name(path.name + ending) for ending in ("", "-wal", "-shm")]


def _refuse_folder(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        raise IntegrityError(
            f"{path} is a folder, and the index of words is a file",
            hint="move it away: the next search makes the index anew",
        )


def _remove_strange(path: Path) -> None:
    """Remove what is no plain file: through a link another database would be written."""
    for one in files_of(path):
        _refuse_folder(one)
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(one.lstat().st_mode):
                one.unlink()


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what SQLite says into errors of ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _meaning(error) from error


def _is_passing(error: sqlite3.Error) -> bool:
    """Say whether an error is the machine's: an index that took hours is not deleted for it."""
    return _is_busy(error) or _name(error).startswith(_MACHINE)


def _name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", None) or ""


def _is_busy(error: sqlite3.Error) -> bool:
    return _name(error).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def _meaning(error: sqlite3.Error) -> HartonomousError:
    name = _name(error)
    if _is_busy(error):
        return LockedError(
            f"the index of words stayed locked for {_BUSY_S} s", hint="try again in a while"
        )
    if name == "SQLITE_FULL":
        return StorageFullError(
            f"no room for the index of words: {error}", hint="free some space on the store's disk"
        )
    if name.startswith(_MACHINE):
        return HartonomousError(
            f"the index of words cannot be opened or written: {error}",
            hint="look at the room on the store's disk, open files and rights; hart views drop"
            " deletes the index",
        )
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return IntegrityError(
            f"the index of words is damaged: {error}", hint="hart views rebuild makes it anew"
        )
    if "no such module: fts5" in str(error):
        return HartonomousError(
            f"this Python's SQLite ({sqlite3.sqlite_version}) cannot search texts: {error}",
            hint="use a Python whose SQLite has FTS5",
        )
    return HartonomousError(
        f"the index of words failed: {error}", hint="hart views rebuild makes it anew"
    )
