"""What can be told of SQLite and of a catalog file without changing anything in it."""

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, NullPool, create_engine, func, select
from sqlalchemy.exc import DBAPIError, OperationalError

from hartonomous.catalog.database import revision_of
from hartonomous.catalog.schema import change, pack, version, writer
from hartonomous.errors import HartonomousError, IntegrityError

LEAST_SQLITE = (3, 35, 0)
"""The first release with RETURNING."""
_WANTED_OPTIONS = ("ENABLE_FTS5",)
_MOST_COMPLAINTS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogHealth:
    """A catalog as it lies there. ``last_us`` is the latest time written into it, 0 for none."""

    revision: str | None
    journal_mode: str
    writers: tuple[tuple[bytes, str, int], ...]  # key, host, process
    packs: dict[bytes, int]  # key -> size in bytes
    last_us: int


def sqlite_version() -> tuple[int, int, int]:
    """Return the version of the SQLite library that Python uses."""
    return sqlite3.sqlite_version_info


def missing_options() -> tuple[str, ...]:
    """Return the compile-time options that this program would use and the library lacks."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        options = {row[0] for row in connection.execute("PRAGMA compile_options")}
    return tuple(name for name in _WANTED_OPTIONS if name not in options)


def examine(path: Path) -> CatalogHealth:
    """Read what a catalog says of itself.

    Raises IntegrityError when it is no catalog or damaged, HartonomousError when it cannot be read.
    """
    # Who opens a write-ahead log read-only cannot take its side files away again at the end.
    mode = "rw" if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK) else "ro"
    where = f"file:{quote(str(path.absolute()))}?mode={mode}"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(where, uri=True, timeout=5)

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    try:
        with engine.connect() as tx:
            tx.exec_driver_sql("PRAGMA query_only=ON")
            return _examine(tx)
    except OperationalError as error:
        raise HartonomousError(f"the catalog cannot be read: {error.orig}") from error
    except DBAPIError as error:
        raise IntegrityError(f"the catalog is damaged: {error.orig}") from error


def _examine(tx: Connection) -> CatalogHealth:
    mode = str(tx.exec_driver_sql("PRAGMA journal_mode").scalar())
    tables = set(tx.exec_driver_sql("SELECT name FROM sqlite_master").scalars())
    if not {"alembic_version", "writer", "pack", "version", "change"} <= tables:
        return CatalogHealth(revision=None, journal_mode=mode, writers=(), packs={}, last_us=0)
    return health_of(tx, revision=revision_of(tx), journal_mode=mode)


def health_of(tx: Connection, *, revision: str | None, journal_mode: str) -> CatalogHealth:
    """Return what the rows of a catalog say; raises IntegrityError for a value of another kind."""
    writers = tx.execute(select(writer.c.key, writer.c.host, writer.c.process))
    packs = tx.execute(select(pack.c.key, pack.c.size_bytes))
    times = (pack.c.created_us, version.c.created_us, change.c.time_us)
    return CatalogHealth(
        revision=revision,
        journal_mode=journal_mode,
        writers=tuple((row[0], row[1], row[2]) for row in writers),
        packs={row[0]: row[1] for row in packs},
        last_us=max(int(tx.scalar(select(func.coalesce(func.max(t), 0))) or 0) for t in times),
    )


def complaints(tx: Connection, *, quick: bool) -> list[str]:
    """Return what SQLite finds wrong with its own file, shortened; of other databases nothing.

    The thorough look compares indexes with their tables as well, and foreign keys.
    """
    if tx.dialect.name != "sqlite":
        return []
    check = "quick_check" if quick else "integrity_check"
    found = [str(row[0])[:300] for row in tx.exec_driver_sql(f"PRAGMA {check}({_MOST_COMPLAINTS})")]
    found = [one for one in found if one != "ok"]
    if not quick:
        found += [
            f"row {row[1]} of {row[0]} refers to a row of {row[2]} that is not there"
            for row in tx.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(_MOST_COMPLAINTS)
        ]
    return found
