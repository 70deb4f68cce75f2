"""The catalog's database: engine, transactions, migrations.

Writes take the write lock at once (BEGIN IMMEDIATE), so that a transaction never fails half-way
because another one came first. Staged rows need no sync of their own: all connections of all
processes append to one write-ahead log, a sync covers the whole file, and recovery takes the log up
to the first frame that is not whole; so the sync of a publishing transaction makes everything that
was committed before it durable too, by whichever connection. A checkpoint in between syncs the log
itself before it copies from it.
"""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Pool, QueuePool, create_engine, event, inspect
from sqlalchemy.exc import DatabaseError

from hartonomous.errors import (
    HartonomousError,
    IntegrityError,
    LockedError,
    NoStoreError,
    StorageFullError,
    UsageError,
)

BUSY_TIMEOUT_S = 120
ROWS_PER_TRANSACTION = 500
"""Most rows that one staging transaction writes; keeps other writers waiting milliseconds only."""

_CHECKPOINT_PAGES = 4096
"""The log is folded into the file every 16 MiB: an index's page that many transactions change is
then written there once for several of them, with fewer syncs (SQLite's own number is 1000)."""

SCHEMA_REVISION = "0001"
"""The revision that this program reads and writes; a test holds it to the newest migration."""

MIGRATIONS = Path(__file__).parent / "migrations"


def open_sqlite(path: Path) -> Engine:
    """Return an engine on the database file, which must exist."""
    if not path.exists():
        raise NoStoreError(
            f"the store has no catalog at {path}",
            hint="hart repair rebuilds it from the packs",
        )
    return _sqlite_engine(path)


def create_sqlite(path: Path) -> Engine:
    """Create the database file with the newest schema."""
    engine = _sqlite_engine(path)
    try:
        migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def memory_engine() -> Engine:
    """Return an engine without a file or a schema, for work that must not read the catalog."""
    return create_engine("sqlite://")


def _sqlite_engine(path: Path) -> Engine:
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
            try:
                connection.execute(f"PRAGMA {pragma}")
            except UnicodeDecodeError as error:  # SQLite quotes the damaged schema
                raise IntegrityError(
                    f"the catalog is damaged: {error}",
                    hint="hart repair rebuilds it from the packs",
                ) from error

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        mode = connection.get_execution_options().get("begin", "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine


_inherited: list[Pool] = []
"""Pools of a parent process. SQLite forbids even closing their connections in a forked child."""


class Database:
    """Transactions on one engine; the only object that the upper floors hold.

    Threads may share it. A forked process gets connections of its own at its first transaction.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._process = os.getpid()
        self._closed = False

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view for reading."""
        engine = self._usable()
        with _translated(), engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Connection]:
        """One write transaction; ``durable=False`` leaves the sync to the next durable one."""
        engine = self._usable()
        with _translated(), engine.connect() as plain:
            connection = plain.execution_options(begin="IMMEDIATE")
            # Before every transaction, so that it does not matter how the last one here ended.
            _set_synchronous(connection, "FULL" if durable else "NORMAL")
            with connection.begin():
                yield connection

    def fold(self) -> None:
        """Fold SQLite's log into the file, durably, and leave no log; of others nothing.

        Nobody else may use the file. Closing folds too, but tells nobody when that fails.
        """
        engine = self._usable()
        if engine.dialect.name != "sqlite":
            return
        with _translated(), contextlib.closing(engine.raw_connection()) as connection:
            busy, left, _ = (
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            )
        if busy or left:
            raise HartonomousError(
                f"the catalog's log could not be folded into its file: {left} pages are left",
                hint="see whether another program holds it, and try again",
            )

    def close(self) -> None:
        """Close every connection; SQLite folds its log into the file with the last one."""
        self._leave_inherited()
        self._closed = True
        self.engine.dispose()

    def _usable(self) -> Engine:
        if self._closed:
            raise UsageError("this store was closed", hint="open it again")
        self._leave_inherited()
        return self.engine

    def _leave_inherited(self) -> None:
        if self._process != os.getpid():
            _inherited.append(self.engine.pool)
            self.engine.dispose(close=False)
            self._process = os.getpid()


def _set_synchronous(connection: Connection, level: str) -> None:
    raw: Any = connection.connection.dbapi_connection
    if isinstance(raw, sqlite3.Connection):
        raw.execute(f"PRAGMA synchronous={level}")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn what the database says of locks, room and damage into errors of ours."""
    try:
        yield
    except DatabaseError as error:
        raise _meaning(error.orig, error) from error
    except sqlite3.DatabaseError as error:  # while a connection is being made
        raise _meaning(error, error) from error


def _meaning(cause: object, error: Exception) -> HartonomousError:
    text = str(cause)
    name = getattr(cause, "sqlite_errorname", None) or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return LockedError(
            f"the catalog stayed locked for {BUSY_TIMEOUT_S} s",
            hint="end the other command that writes to this store, and try again",
        )
    if name == "SQLITE_FULL":
        return StorageFullError(
            f"no room for the catalog: {text}", hint="free some space on the store's disk"
        )
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return IntegrityError(
            f"the catalog is damaged: {text}", hint="hart repair rebuilds it from the packs"
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return HartonomousError(
            f"the catalog cannot be written: {text}",
            hint="every use of a store writes to it: check the permissions of its directory",
        )
    if "decode to UTF-8" in text:
        return IntegrityError(
            f"the catalog is damaged: {text}", hint="hart repair rebuilds it from the packs"
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


def current_revision(engine: Engine) -> str | None:
    """Return the schema's revision, None for an empty database."""
    with _translated(), engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest revision, in one transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with _translated(), engine.connect() as plain:
        connection = plain.execution_options(begin="IMMEDIATE")
        with connection.begin():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


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
