"""SQLite: one file, one writer at a time.

Writes take the write lock at once (BEGIN IMMEDIATE), so that a transaction never fails half-way
because another one came first. Staged rows need no sync of their own: all connections of all
processes append to one write-ahead log, a sync covers the whole file, and recovery takes the log up
to the first frame that is not whole; so the sync of a publishing transaction makes everything that
was committed before it durable too, by whichever connection. A checkpoint in between syncs the log
itself before it copies from it.
"""

import contextlib
import shutil
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event

from hartonomous.errors import (
    HartonomousError,
    IntegrityError,
    LockedError,
    StorageFullError,
)

BUSY_TIMEOUT_S = 120

_CHECKPOINT_PAGES = 4096
"""The log is folded into the file every 16 MiB: an index's page that many transactions change is
then written there once for several of them, with fewer syncs (SQLite's own number is 1000)."""


def memory_engine() -> Engine:
    """Return an engine without a file or a schema."""
    return create_engine("sqlite://")


def file_engine(path: Path) -> Engine:
    """Return an engine on a database file, which is made if it is not there."""

    def connect() -> sqlite3.Connection:
        # Not by URL: in one, a path with '?', '%' or bytes that are no text would mean another.
        return sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)

    # As many connections as threads ask for: waiting for one another is the database's business.
    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, max_overflow=-1)

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
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        mode = connection.get_execution_options().get("begin", "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine


class SqliteRules:
    """SQLite's ways."""

    errors: tuple[type[Exception], ...] = (sqlite3.Error,)

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
        return connection.execution_options(begin="IMMEDIATE")

    def is_lost(self, error: BaseException) -> bool:
        """Say no: a file has no connection to lose."""
        del error
        return False

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
        if name == "SQLITE_FULL":
            return StorageFullError(
                f"no room for the catalog: {text}", hint="free some space on the store's disk"
            )
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
    """Copy the catalog file beside itself (through SQLite's backup) and return the copy."""
    target = path.with_name(f"{path.name}.before-{revision}")
    part = target.with_name(target.name + ".part")
    with (
        contextlib.closing(sqlite3.connect(path)) as source,
        contextlib.closing(sqlite3.connect(part)) as copy,
    ):
        source.backup(copy)
    shutil.move(part, target)
    return target
