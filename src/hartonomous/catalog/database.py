"""The catalog's database: transactions and migrations, on SQLite or PostgreSQL.

What the two do each in its own way is in ``catalog.engines``.
"""

import contextlib
import copy
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar, cast

from sqlalchemy import Connection, Engine, ExceptionContext, Pool, QueuePool, event, inspect
from sqlalchemy.exc import DBAPIError

from hartonomous.catalog.columns import damaged
from hartonomous.catalog.engines import postgres, sqlite
from hartonomous.catalog.engines.postgres import ServerPlace
from hartonomous.catalog.engines.rules import EngineRules
from hartonomous.errors import HartonomousError, NoStoreError, UsageError

T = TypeVar("T")

ROWS_PER_TRANSACTION = 500
"""Most rows that one staging transaction writes; keeps other writers waiting milliseconds only."""

SCHEMA_REVISION = "0003"
"""The revision that this program reads and writes; a test holds it to the newest migration."""

_REVISION = re.compile("[0-9]{1,9}")

MIGRATIONS = Path(__file__).parent / "migrations"

_ATTEMPTS = 5
_PAUSE_S = (0.01, 0.05)


def open_sqlite(path: Path, queue: Path | None = None) -> Engine:
    """Return an engine on the database file, which must exist; writers take turns by ``queue``."""
    if not path.exists():
        raise NoStoreError(
            f"the store has no catalog at {path}",
            hint="hart repair rebuilds it from the packs",
        )
    return sqlite.file_engine(path, queue)


def create_sqlite(path: Path) -> Engine:
    """Create the database file with the newest schema."""
    return _migrated(sqlite.file_engine(path))


def open_postgres(place: ServerPlace) -> Engine:
    """Return an engine on the schema of ``place``, which ``current_revision`` looks for."""
    return postgres.server_engine(place)


def create_postgres(place: ServerPlace) -> Engine:
    """Make the schema of ``place``, which must not be there, with the newest tables."""
    engine = open_postgres(place)
    try:
        with Database(engine).write() as tx:
            quoted = engine.dialect.identifier_preparer.quote(place.schema)
            tx.exec_driver_sql(f"CREATE SCHEMA {quoted}")
    except BaseException:
        engine.dispose()
        raise
    return _migrated(engine)


def _migrated(engine: Engine) -> Engine:
    try:
        migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def memory_engine() -> Engine:
    """Return an engine without a file or a schema, for work that must not read the catalog."""
    return sqlite.memory_engine()


def rules_of(engine: Engine) -> EngineRules:
    """Return the ways of an engine's database."""
    return sqlite.rules_of(engine) if engine.dialect.name == "sqlite" else postgres.PostgresRules()


_inherited: list[Pool] = []
"""Pools of a parent process. SQLite forbids even closing their connections in a forked child, and
the parent's server would hear a goodbye in the parent's name."""


class _State:
    """What a database and those that ``steady`` made of it share."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.closed = False
        self.losses = 0  # connections that were found to have ended


class Database:
    """Transactions on one engine; the only object that the upper floors hold.

    Threads may share it. A forked process gets connections of its own at its first transaction.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._rules = rules_of(engine)
        self._state = _State()
        self._losses: int | None = None  # when this was made, if by ``steady``

        @event.listens_for(engine, "handle_error")
        def _count(context: ExceptionContext) -> None:
            # Before the other connections are given up: who gets a new one finds this counted.
            # Ctrl-C ends a connection as well, by this side: nothing that was committed is lost.
            asked = not isinstance(context.original_exception, Exception)
            self._state.losses += context.is_disconnect and not asked

        @event.listens_for(engine, "handle_error", retval=True)
        def _refuse(context: ExceptionContext) -> HartonomousError | None:
            return _unsayable(context.original_exception)

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self.engine.dialect.name

    def steady(self) -> "Database":
        """Return the same database for work that goes over several transactions.

        Rows that were written with ``durable=False`` may be gone when a server starts anew: once a
        connection was lost, ``write`` raises HartonomousError there, and the work is begun again.
        """
        made = copy.copy(self)
        made._losses = self._state.losses
        return made

    def refresh(self) -> None:
        """Give up idle connections that a server ended meanwhile, so that none fails for that.

        For the beginning of a piece of work, never the middle: what was written without waiting for
        the disk may have gone with the connection (see ``steady``).
        """
        if self._state.closed or self.dialect == "sqlite":
            return
        engine = self._usable()
        with translated(self._rules), contextlib.ExitStack() as held:
            for _ in range(cast(QueuePool, engine.pool).checkedin()):
                one = held.enter_context(contextlib.closing(engine.raw_connection()))
                if one.dbapi_connection is not None and self._rules.has_ended(one.dbapi_connection):
                    self._state.losses += 1
                    one.invalidate()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view for reading."""
        engine = self._usable()
        with translated(self._rules), engine.connect() as plain:
            connection = self._rules.for_reading(plain)
            with connection.begin():
                yield connection

    @contextlib.contextmanager
    def write(self, *, durable: bool = True, alone: bool = True) -> Iterator[Connection]:
        """One write transaction; ``durable=False`` leaves the sync to the next durable one.

        No other such transaction of the store runs meanwhile. With ``alone=False`` others may, on
        PostgreSQL: for statements that are right whatever is written beside them.
        """
        engine = self._usable()
        try:
            with translated(self._rules), engine.connect() as plain:
                connection = self._rules.for_writing(plain, durable=durable, alone=alone)
                with connection.begin():
                    if self._losses not in (None, self._state.losses):
                        raise HartonomousError(
                            "the catalog's server went away in the middle of the work",
                            hint="what was published is safe; do the same again",
                        )
                    yield connection
        except HartonomousError as error:
            cause = _driver_error(error.__cause__)
            if cause is not None:
                self._rules.after(cause, engine)
            raise

    def mark(self) -> object:
        """Return what tells cheaply whether the change feed may have more than at a former mark.

        Where two marks are equal, nothing came between that ``events.after`` would give.
        """
        engine = self._usable()
        with translated(self._rules):
            connection = engine.raw_connection()
            try:
                return self._rules.mark(connection)
            except self._rules.errors as error:
                # SQLAlchemy does not hear of it: counted as above, before another takes its place.
                self._state.losses += self._rules.is_lost(error)
                connection.invalidate()
                raise
            finally:
                connection.close()

    def run(
        self, work: Callable[[Connection], T], *, durable: bool = True, alone: bool = True
    ) -> T:
        """Do ``work`` in a write transaction, again where another one collided with it.

        ``work`` must leave nothing behind but its rows.
        """
        for left in reversed(range(_ATTEMPTS)):
            try:
                with self.write(durable=durable, alone=alone) as tx:
                    return work(tx)
            except HartonomousError as error:
                cause = _driver_error(error.__cause__)
                if not left or cause is None or not self._rules.is_passing(cause):
                    raise
            # The one that won may not be awake yet: tried again at once, both would collide again.
            time.sleep(random.uniform(*_PAUSE_S))  # noqa: S311  # nothing secret
        raise AssertionError("the last attempt returns or raises")

    def refuse_lost(self, error: HartonomousError) -> None:
        """Raise ``error`` again if it says that the database went away, and nothing more."""
        cause = _driver_error(error.__cause__)
        if cause is not None and self._rules.is_lost(cause):
            raise error

    def close(self) -> None:
        """Close every connection; SQLite folds its log into the file with the last one."""
        self._leave_inherited()
        self._state.closed = True
        self.engine.dispose()

    def _usable(self) -> Engine:
        if self._state.closed:
            raise UsageError("this store was closed", hint="open it again")
        self._leave_inherited()
        return self.engine

    def _leave_inherited(self) -> None:
        if self._state.process != os.getpid():
            _inherited.append(self.engine.pool)
            self.engine.dispose(close=False)
            self._state.process = os.getpid()


@contextlib.contextmanager
def translated(rules: EngineRules) -> Iterator[None]:
    """Raise what a database says of locks, room and damage as errors of ours.

    ``rules`` are those of its engine, as ``rules_of`` gives them.
    """
    kinds: tuple[type[Exception], ...] = (DBAPIError, *rules.errors)
    try:
        yield
    except kinds as error:
        raise rules.meaning(_driver_error(error) or error) from error


def _unsayable(error: BaseException) -> HartonomousError | None:
    """Return what to raise where a statement was given what no database can be told."""
    match error:
        case UnicodeEncodeError():
            shown = str(error.object).encode("utf-8", "backslashreplace").decode()
            return UsageError(
                f"nothing is called '{shown[:80]}', which is not UTF-8",
                hint="bytes of a file's name that are no UTF-8 are written like \\xff",
            )
        case OverflowError():
            return UsageError("a number is larger than any in a catalog", hint="use less than 2^63")
        case _:
            return None


def _driver_error(error: BaseException | None) -> BaseException | None:
    return error.orig if isinstance(error, DBAPIError) else error


def current_revision(engine: Engine) -> str | None:
    """Return the schema's revision, None for an empty database."""
    with translated(rules_of(engine)), engine.connect() as connection:
        there = inspect(connection).has_table("alembic_version")
        return revision_of(connection) if there else None


def revision_of(connection: Connection) -> str | None:
    """Return the revision that a catalog says, None where it says none; IntegrityError for junk."""
    query = "SELECT version_num FROM alembic_version"
    found: object = connection.exec_driver_sql(query).scalar()
    if found is None or (isinstance(found, str) and _REVISION.fullmatch(found)):
        return found
    raise damaged(f"the schema's revision is no number: {found!r:.40}")


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest revision, in one transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    rules = rules_of(engine)
    with translated(rules), engine.connect() as plain:
        connection = rules.for_writing(plain, durable=True, alone=True)
        with connection.begin():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
