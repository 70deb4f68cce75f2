"""SQLite: one file, one writer at a time.

Writes take the write lock at once (BEGIN IMMEDIATE), so that a transaction never fails half-way
because another one came first. Staged rows need no sync of their own: all connections of all
processes append to one write-ahead log, a sync covers the whole file, and recovery takes the log up
to the first frame that is not whole; so the sync of a publishing transaction makes everything that
was committed before it durable too, by whichever connection. A checkpoint in between syncs the log
itself before it copies from it.
"""

import contextlib
import itertools
import os
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, PoolProxiedConnection, QueuePool, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection

from hartonomous.catalog.disk_room import full_disk, lacks_room
from hartonomous.catalog.engines.write_queue import WriteQueue
from hartonomous.errors import (
    HartonomousError,
    IntegrityError,
    LockedError,
    StorageFullError,
)

BUSY_TIMEOUT_S = 120

_numbers = itertools.count()

_TO_WRITE = "to write"
_MEND_TIMEOUT_S = 5
_CHECKPOINT_PAGES = 4096
"""The log is folded into the file every 16 MiB: an index's page that many transactions change is
then written there once for several of them, with fewer syncs (SQLite's own number is 1000)."""
_LOG_BYTES = _CHECKPOINT_PAGES * 4096  # a page has so many


def memory_engine() -> Engine:
    """Return an engine without a file or a schema."""
    return create_engine("sqlite://")


def file_engine(path: Path, queue: Path | None = None) -> Engine:
    """Return an engine on a database file, which is made if it is not there.

    ``queue`` is the lock file by which its writers take turns.
    """
    writers = WriteQueue(queue, BUSY_TIMEOUT_S)

    def connect() -> sqlite3.Connection:
        # Not by URL: in one, a path with '?', '%' or bytes that are no text would mean another.
        return sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)

    # As many connections as threads ask for: waiting for one another is the database's business.
    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, max_overflow=-1)
    engine.update_execution_options(catalog_file=path)

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, DDL included
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"wal_autocheckpoint={_CHECKPOINT_PAGES}",
            "cache_size=-16384",
            "mmap_size=0",
            "trusted_schema=OFF",
        ):
            try:
                connection.execute(f"PRAGMA {pragma}")
            except UnicodeDecodeError as error:  # SQLite quotes the damaged schema
                raise IntegrityError(
                    f"the catalog is damaged: {error}",
                    hint="hart repair rebuilds it from the packs",
                ) from error

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        raw: Any = connection.connection.dbapi_connection
        if connection.get_execution_options().get("begin") == _TO_WRITE:
            writers.begin(raw)
        else:
            raw.execute("BEGIN DEFERRED")

    return engine


def fold(engine: Engine) -> None:
    """Fold the log into the file, durably, and leave no log.

    Nobody else may use the file. Closing folds too, but tells nobody when that fails. Raises
    HartonomousError.
    """
    try:
        with contextlib.closing(engine.raw_connection()) as connection:
            row = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        raise rules_of(engine).meaning(error) from error
    if row[0] or row[1]:
        raise HartonomousError(
            f"the catalog's log could not be folded into its file: {row[1]} pages are left",
            hint="see whether another program holds it, and try again",
        )


def write_anew(engine: Engine) -> None:
    """Bring what is in the log into the file, behind a sync of the log that failed.

    The kernel takes the pages of a failed sync for written, so that a later sync of the log has
    nothing to do and succeeds, whatever of it is on the disk. A checkpoint writes all of it once
    more, to another file; then the log begins anew. Nothing is said if that fails too: the error
    that led here is on its way.
    """
    with contextlib.suppress(sqlite3.Error, OSError):
        with contextlib.closing(engine.raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout={_MEND_TIMEOUT_S * 1000}")
            try:
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                place = cursor.execute("PRAGMA database_list").fetchone()[2]
            finally:
                cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000}")
        descriptor = os.open(f"{place}-wal", os.O_RDWR)
        try:
            os.fsync(descriptor)  # the old log must not come back over the newer file
        finally:
            os.close(descriptor)


def rules_of(engine: Engine) -> "SqliteRules":
    """Return the ways of an engine's file; of none for one in memory."""
    return SqliteRules(engine.get_execution_options().get("catalog_file"))


class SqliteRules:
    """SQLite's ways."""

    errors: tuple[type[Exception], ...] = (sqlite3.Error,)

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def for_reading(self, connection: Connection) -> Connection:
        """Return the connection as it is: its first statement takes a snapshot."""
        return connection

    def for_writing(self, connection: Connection, *, durable: bool, alone: bool) -> Connection:
        """Return the connection so that BEGIN takes the write lock; there is one writer anyway."""
        del alone
        # Before every transaction, so that it does not matter how the last one here ended.
        raw: Any = connection.connection.dbapi_connection
        if isinstance(raw, sqlite3.Connection):
            raw.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        return connection.execution_options(begin=_TO_WRITE)

    def mark(self, connection: PoolProxiedConnection) -> object:
        """Return what one connection says of others' commits and of changes of its own.

        The next mark may be another connection's: none has the number of one that was closed.
        """
        raw: Any = connection.dbapi_connection
        number = connection.info.setdefault("number", next(_numbers))
        version = raw.execute("PRAGMA data_version").fetchone()[0]
        return number, version, raw.total_changes

    def has_ended(self, connection: DBAPIConnection) -> bool:
        """Say no: nobody ends one but this process."""
        del connection
        return False

    def is_lost(self, error: BaseException) -> bool:
        """Say no: a file has no connection to lose."""
        del error
        return False

    def after(self, error: BaseException, engine: Engine) -> None:
        """Do what an error asks for before anything else is written."""
        if (getattr(error, "sqlite_errorname", None) or "").endswith("_FSYNC"):
            write_anew(engine)

    def is_passing(self, error: BaseException) -> bool:
        """Say no: who has the write lock has it, and waiting for it has ended already."""
        del error
        return False

    def meaning(self, error: BaseException) -> HartonomousError:
        """Turn what SQLite says of locks, room and damage into an error of ours."""
        text = str(error)
        name = getattr(error, "sqlite_errorname", None) or ""
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return LockedError(
                f"the catalog stayed locked for {BUSY_TIMEOUT_S} s",
                hint="end the other command that writes to this store, and try again",
            )
        silent = name.startswith(("SQLITE_CANTOPEN", "SQLITE_IOERR_SHM"))
        here = self._path
        if here is not None and (name == "SQLITE_FULL" or (silent and lacks_room(here.parent))):
            log = here.with_name(f"{here.name}-wal")
            doing = f"no room for the catalog at {here}"
            return full_disk(doing, log, wanted_bytes=_LOG_BYTES, how="for its log up to ")
        if name == "SQLITE_FULL":
            return StorageFullError(f"no room for a catalog in memory: {text}")
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "decode to UTF-8" in text:
            return IntegrityError(
                f"the catalog is damaged: {text}", hint="hart repair rebuilds it from the packs"
            )
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            return HartonomousError(
                f"the catalog cannot be written: {text}",
                hint="every use of a store writes to it: check the permissions of its directory",
            )
        if name.startswith("SQLITE_IOERR"):
            return HartonomousError(
                f"the disk refused the catalog: {text} ({name})",
                hint="the disk may be full or failing; see 'df' and the system log",
            )
        shown = text or type(error).__name__
        return HartonomousError(
            f"the catalog failed: {shown}", hint="hart verify --quick looks for damage"
        )


def copy_before_migration(path: Path, revision: str) -> Path:
    """Copy the catalog file beside itself (through SQLite's backup) and return the copy.

    What fails leaves nothing of it behind. Raises HartonomousError, and OSError where the copy
    cannot be named.
    """
    target = path.with_name(f"{path.name}.before-{revision}")
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)  # of one that was killed; or a link, which is not written through
    try:
        with (
            contextlib.closing(sqlite3.connect(path)) as source,
            contextlib.closing(sqlite3.connect(part)) as copy,
        ):
            source.backup(copy)
        part.replace(target)
    except sqlite3.Error as error:
        raise SqliteRules(path).meaning(error) from error
    finally:
        for ending in ("", "-journal"):
            part.with_name(part.name + ending).unlink(missing_ok=True)
    return target
