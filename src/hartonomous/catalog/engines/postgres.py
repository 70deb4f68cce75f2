"""PostgreSQL: a schema of its own for each store, in a database that may hold many.

Writers take one advisory lock a store at the beginning of their transaction and keep it to its end,
as SQLite's writers take the file's: what was looked at before a row is written is still so when it
is. A transaction writes 500 rows at most, so nobody waits longer than for one of those; nobody can
wait in a circle. Every statement sees what was committed before it began (READ COMMITTED), and the
lock is the first one. Readers have a snapshot, and wait for nobody.

Staged rows are committed without waiting for the disk. The log is one and is synced up to a place,
so that the sync of a publishing transaction covers everything that was committed before it.
"""

import hashlib
import json
import logging
import re
import select
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Connection, Engine, PoolProxiedConnection, QueuePool, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection

from hartonomous.catalog.schema import tell_postgres
from hartonomous.errors import (
    HartonomousError,
    IntegrityError,
    LockedError,
    NoStoreError,
    StorageFullError,
    UnreachableError,
    UsageError,
)

if TYPE_CHECKING:
    import psycopg

LOCK_TIMEOUT_S = 120
"""How long a writer waits for the others, and how long one that has stopped keeps them waiting."""

_CONNECT_TIMEOUT_S = 10
_UNREAD = 4
"""So often is read what a server said unasked."""
_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_SYNCED = (
    "SELECT set_config('synchronous_commit', 'on', true) "
    "WHERE current_setting('synchronous_commit') = 'off'"
)
"""What is acknowledged is on the disk, also where the server is set not to wait for it."""
_OURS = frozenset({"options", "application_name", "client_encoding", "replication"})
"""What a connection needs to be as this program sets it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPlace:
    """Where on a server a catalog is: libpq's parameters, credentials among them, and a schema."""

    parameters: Mapping[str, str]
    schema: str

    def __repr__(self) -> str:
        return f"ServerPlace({self.shown()!r})"

    def shown(self) -> str:
        """Return the place as people may see it: no user, no password."""
        found = self.parameters
        host = found.get("host") or found.get("hostaddr") or "localhost"
        port = f":{found['port']}" if "port" in found else ""
        return f"postgresql://{host}{port}/{found.get('dbname', '')} (schema {self.schema})"


def driver() -> Any:
    """Return the module ``psycopg``; raises UsageError that names the extra where it is missing."""
    try:
        import psycopg
    except ImportError as error:
        raise UsageError(
            "a catalog in PostgreSQL needs psycopg, which is not installed here",
            hint="pip install 'hartonomous[postgres]'",
        ) from error
    # Of a lost connection it also warns, on standard error where the program has set up no logging.
    log = logging.getLogger("psycopg")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    return psycopg


def parse_url(url: str) -> dict[str, str]:
    """Return libpq's parameters of ``postgresql://…``; raises UsageError that does not show it."""
    psycopg = driver()
    if not url.startswith(("postgresql://", "postgres://")):
        raise UsageError(
            "a catalog's address begins with postgresql://",
            hint="such as postgresql://host:5432/database; see docs/postgresql.md",
        )
    try:
        found = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # libpq's own words repeat the address, and the password in it.
        raise UsageError(
            "the catalog's address cannot be understood",
            hint="letters such as @ : / % in a password are written as %40 %3A %2F %25",
        ) from None
    return {name: str(value) for name, value in found.items() if name not in _OURS}


def password_is_kept() -> dict[str, str]:
    """Return the parameter by which libpq refuses to send a password as it is."""
    known = driver().pq.version() >= 160000
    return {"require_auth": "!password"} if known else {}


def server_engine(place: ServerPlace) -> Engine:
    """Return an engine whose connections see the schema of ``place`` alone; connects to nothing."""
    module = driver()
    tell_postgres()
    options = (
        f"-c search_path={place.schema} -c lock_timeout={LOCK_TIMEOUT_S * 1000} "
        "-c client_min_messages=warning -c timezone=UTC -c bytea_output=hex "
        # What a server sets for short requests would end what takes long, or waits for the user.
        "-c statement_timeout=0 -c idle_session_timeout=0 -c idle_in_transaction_session_timeout=0"
    )

    def connect() -> "psycopg.Connection[Any]":
        return cast(
            "psycopg.Connection[Any]",
            module.connect(
                **{"connect_timeout": str(_CONNECT_TIMEOUT_S), **place.parameters},
                autocommit=True,  # we say BEGIN ourselves
                application_name="hartonomous",
                client_encoding="UTF8",
                options=options,
            ),
        )

    engine = create_engine(
        "postgresql+psycopg://",
        creator=connect,
        poolclass=QueuePool,
        max_overflow=-1,
        use_native_hstore=False,
        json_serializer=json.dumps,
    ).execution_options(lock=lock_number(place.schema), schema=place.schema)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        said = connection.get_execution_options().get("begin", _READ)
        # Several statements go in one message only where there are no parameters at all.
        connection.exec_driver_sql(said, execution_options={"no_parameters": True})

    return engine


def lock_number(schema: str) -> int:
    """Return the number of the advisory lock of a schema's writers, the same on every machine."""
    content = hashlib.blake2b(f"hartonomous catalog {schema}".encode(), digest_size=8).digest()
    return int.from_bytes(content, "big", signed=True)


class PostgresRules:
    """PostgreSQL's ways."""

    def __init__(self) -> None:
        self.errors: tuple[type[Exception], ...] = (driver().Error,)

    def for_reading(self, connection: Connection) -> Connection:
        """Return the connection so that BEGIN takes a snapshot that only reads."""
        return connection.execution_options(begin=_READ)

    def for_writing(self, connection: Connection, *, durable: bool, alone: bool) -> Connection:
        """Return the connection so that BEGIN waits for the other writers, in one message.

        ``alone=False`` is for rows that nobody looks at first: it takes no lock.
        """
        said = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
        # A process that stops in the middle, or a machine that is gone, frees the others in time.
        said += f"; SET LOCAL idle_in_transaction_session_timeout = '{LOCK_TIMEOUT_S}s'"
        said += f"; {_SYNCED}" if durable else "; SET LOCAL synchronous_commit = off"
        if alone:
            number = connection.get_execution_options()["lock"]
            said += f"; SELECT pg_advisory_xact_lock({number})"
        return connection.execution_options(begin=said)

    def mark(self, connection: PoolProxiedConnection) -> object:
        """Return the number below which every transaction has ended: the feed reads only those."""
        cursor = connection.cursor()
        cursor.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
        return cursor.fetchone()

    def has_ended(self, connection: DBAPIConnection) -> bool:
        """Say whether the server has ended a connection that nobody used for a while.

        What it says before it ends one, and the end itself, are there to be read: no message is
        sent. A server that is gone without a word is noticed by the first statement.
        """
        open_one = cast("psycopg.Connection[Any]", connection).pgconn
        ok = driver().pq.ConnStatus.OK
        watch = select.poll()
        watch.register(open_one.socket, select.POLLIN)
        for _ in range(_UNREAD):
            if open_one.status != ok or not watch.poll(0):
                break
            try:
                open_one.consume_input()
            except driver().OperationalError:
                return True
        return bool(open_one.status != ok)

    def is_lost(self, error: BaseException) -> bool:
        """Say whether the server is gone, went away, or ended the connection."""
        state = _state(error)
        return state[:2] == "08" or state in _ENDED or (not state and _is_operational(error))

    def after(self, error: BaseException, engine: Engine) -> None:
        """Do nothing: the server looks after its own log, and stops when a sync fails."""
        del error, engine

    def is_passing(self, error: BaseException) -> bool:
        """Say whether two transactions collided."""
        return _state(error) in {"40001", "40P01"}

    def meaning(self, error: BaseException) -> HartonomousError:
        """Turn what the server says into an error of ours."""
        state, text = _state(error), _text(error)
        for states, make in _MEANINGS:
            if any(state.startswith(one) for one in states):
                return make(text)
        if not state and _NO_DATABASE.search(text):
            return HartonomousError(
                f"the catalog's server has no such database: {text}", hint=_MAKE_DATABASE
            )
        if not state and _is_refused(error):
            return _refused(text)
        if self.is_lost(error):
            return UnreachableError(
                f"the catalog's server cannot be reached, or went away: {text}", hint=_WAY_IN
            )
        return HartonomousError(
            f"the catalog failed: {text}", hint="hart verify --quick looks for damage"
        )


class ForbiddenError(HartonomousError):
    """The role that is used on the server lacks a right."""


_ENDED = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"})


_WAY_IN = (
    "see that it runs; credentials come from PGUSER and PGPASSWORD, a password file, or "
    "HARTONOMOUS_CATALOG_URL (docs/postgresql.md)"
)


_NO_DATABASE = re.compile('database "[^"]*" does not exist')
_MAKE_DATABASE = "make it with CREATE DATABASE, or name another in the address"


def _locked(text: str) -> HartonomousError:
    del text
    return LockedError(
        f"the catalog stayed locked for {LOCK_TIMEOUT_S} s",
        hint="end the other command that writes to this store, and try again",
    )


def _collided(text: str) -> HartonomousError:
    return LockedError(
        f"another transaction came between: {text}", hint="try the same command again"
    )


def _full(text: str) -> HartonomousError:
    return StorageFullError(
        f"no room for the catalog: {text}", hint="free some space on the disk of its server"
    )


def _too_large(text: str) -> HartonomousError:
    return HartonomousError(
        f"the catalog's server has no place for a value this large: {text}",
        hint="names of more than 2,700 bytes need a catalog in SQLite",
    )


def _unsayable(text: str) -> HartonomousError:
    return HartonomousError(
        f"the catalog's database has no place for this text: {text}",
        hint="it needs the encoding UTF8: make a database with that, and hart catalog copy --to it",
    )


def _corrupt(text: str) -> HartonomousError:
    return IntegrityError(
        f"the catalog is damaged: {text}", hint="hart repair rebuilds it from the packs"
    )


def _missing(text: str) -> HartonomousError:
    return NoStoreError(
        f"the store has no catalog on its server: {text}",
        hint="see that it is the right database; hart repair rebuilds the catalog from the packs",
    )


def _refused(text: str) -> HartonomousError:
    return HartonomousError(
        f"the catalog's server does not let you in: {text}",
        hint=_WAY_IN,
    )


_OF_DATABASE = re.compile("permission denied for database")
_OF_OWNER = re.compile("must be owner of")
_READ_ONLY = re.compile("read-only transaction")


def may_not_write(text: str) -> HartonomousError:
    """Return the error of who reads a store and would have to write to it."""
    return ForbiddenError(
        f"this role may not do that, the right to write to the store is missing: {text}",
        hint="the command needs the store's writer role; hart catalog roles --sql prints the roles "
        "and who may do what",
    )


def _forbidden(text: str) -> HartonomousError:
    # What the server says may be in another language; then writing is what most lack.
    if _OF_DATABASE.search(text):
        return ForbiddenError(
            f"this role may not do that, the right to make a schema is missing: {text}",
            hint="who makes a store, repairs one or moves a catalog there needs CREATE on the "
            "database; the store's owner role has it",
        )
    if _OF_OWNER.search(text):
        return ForbiddenError(
            f"this role may not do that, it does not own the store's catalog: {text}",
            hint="the command needs the store's owner role; hart catalog roles --sql prints the "
            "roles and who may do what",
        )
    if _READ_ONLY.search(text):
        return ForbiddenError(
            f"this role may not do that, it only reads here: {text}",
            hint="see that the server is no standby, and that neither it nor the role sets "
            "default_transaction_read_only",
        )
    return may_not_write(text)


_MEANINGS = (
    (("55P03",), _locked),
    (("40001", "40P01"), _collided),
    (("53100",), _full),
    (("54",), _too_large),
    (("22P05", "22021"), _unsayable),
    (("XX001", "XX002"), _corrupt),
    (("3D000", "3F000", "42P01"), _missing),
    (("28",), _refused),
    (("42501", "25006"), _forbidden),
)


def _state(error: BaseException) -> str:
    return getattr(error, "sqlstate", None) or ""


def _is_operational(error: BaseException) -> bool:
    return isinstance(error, driver().OperationalError)


def _is_refused(error: BaseException) -> bool:
    """Say whether a server answered, and let nobody in with these credentials.

    While a connection is made libpq gives no SQLSTATE; it knows whether a password was asked for.
    The last words are the server's, which may speak another language.
    """
    connection = getattr(error, "pgconn", None)
    if connection is not None and (connection.needs_password or connection.used_password):
        return True
    return _NOT_LET_IN.search(str(error)) is not None


_NOT_LET_IN = re.compile(
    'authentication failed|no password supplied|no pg_hba.conf entry|role "[^"]*" (does not exist|'
    "is not permitted to log in)"
)


def _text(error: BaseException) -> str:
    """Return the first line of what was said; libpq and the server never repeat a password."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
