"""The catalog's rates on SQLite and on PostgreSQL, beside the bare drivers with the same rows.

The same rows of atoms go in by transactions of 500 that nobody waits for the disk for, and one at
the end that is synced: through the catalog, by the driver's ``executemany``, and by psycopg's COPY.
The server is that of the tests (``HARTONOMOUS_TEST_POSTGRES`` names another one), with fsync on.
The family, three of its members when quick, is added with its catalog in a file and on the server,
in turns. Figures are medians of three turns, shares those of the turns' own shares.
While a child loads a million atoms, a reader of names and a small synced write ask again and again;
the rows of each of its transactions are those that the database itself says it wrote.
"""

import contextlib
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from context import Context, Result
from family import build, definition
from sqlalchemy import event
from tables import table

import hartonomous as hn
from hartonomous.catalog import artifacts, atoms, properties
from hartonomous.catalog.database import (
    ROWS_PER_TRANSACTION,
    Database,
    create_postgres,
    create_sqlite,
    open_postgres,
    open_sqlite,
)
from hartonomous.catalog.engines.postgres import ServerPlace, parse_url

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "engines"))

Row = tuple[bytes, int, int, int, int, int]
_NAMES = ("digest", "size_bytes", "stored_bytes", "encoding", "created_us", "depth")
_SCHEMA = "hart_benchmark"
_SERVER = ("fsync=on", "full_page_writes=on", "shared_buffers=256MB", "max_wal_size=4GB")
_TURNS = 3
_PAUSE_S = 0.002


def run(context: Context) -> Result:
    """Measure rates of rows and of files, and how long others wait meanwhile."""
    from postgres_server import running

    count = 20_000 if context.quick else 200_000
    with running(*_SERVER) as server:
        rates = _rates(context, server, count)
        files = _files(context, server)
        waits = _waits(context, server, count * 5)
    return Result(
        text="\n".join(
            (
                table(
                    f"catalog: {count:,} atoms by transactions of {ROWS_PER_TRANSACTION}",
                    ["engine", "way", "rows/s", "of the bare driver"],
                    rates,
                ),
                table(
                    "catalog: files of the family added",
                    ["engine", "seconds", "MB/s", "of SQLite"],
                    files,
                ),
                table(
                    f"catalog: while {count * 5:,} atoms are loaded",
                    ["engine", "load s", "reads", "longest read ms", "writes", "median write ms",
                     "longest write ms", "most rows a transaction"],
                    waits,
                ),
            )
        ),
        figures={"rates": rates, "files": files, "waits": waits},
    )  # fmt: skip


def _rows(count: int, seed: int) -> list[Row]:
    """Return rows of made-up atoms in the order in which a session stages them."""
    digests = np.random.default_rng(seed).bytes(32 * count)
    rows = [(digests[at : at + 32], 4096, 0, 2, 1, 0) for at in range(0, 32 * count, 32)]
    return [
        row
        for first in range(0, count, ROWS_PER_TRANSACTION)
        for row in sorted(rows[first : first + ROWS_PER_TRANSACTION])
    ]


def _pieces(rows: list[Row]) -> Iterator[list[Row]]:
    for first in range(0, len(rows), ROWS_PER_TRANSACTION):
        yield rows[first : first + ROWS_PER_TRANSACTION]


def _through_the_catalog(database: Database, rows: list[Row]) -> None:
    for piece in _pieces(rows):
        new = [
            atoms.NewAtom(digest=row[0], size_bytes=row[1], encoding=row[3], extents=())
            for row in piece
        ]
        with database.write(durable=False) as tx:
            atoms.add(tx, new, now_us=1)
    with database.write() as tx:
        properties.put(tx, "last", "1")


def _bare_sqlite(path: Path, rows: list[Row]) -> None:
    marks = ", ".join("?" * len(_NAMES))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "wal_autocheckpoint=4096",
                       "cache_size=-16384", "foreign_keys=ON"):  # fmt: skip
            connection.execute(f"PRAGMA {pragma}")
        for piece in _pieces(rows):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                f"INSERT INTO atom ({', '.join(_NAMES)}) VALUES ({marks})", piece
            )
            connection.execute("COMMIT")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("INSERT INTO store_property VALUES ('last', '1')")


def _bare_postgres(url: str, rows: list[Row], by_copy: bool) -> None:
    names = ", ".join(_NAMES)
    marks = ", ".join(["%s"] * len(_NAMES))
    with psycopg.connect(url, options=f"-c search_path={_SCHEMA}") as connection:
        cursor = connection.cursor()
        for piece in _pieces(rows):
            cursor.execute("SET LOCAL synchronous_commit = off")
            if by_copy:
                with cursor.copy(f"COPY atom ({names}) FROM STDIN") as copy:
                    for row in piece:
                        copy.write_row(row)
            else:
                cursor.executemany(f"INSERT INTO atom ({names}) VALUES ({marks})", piece)
            connection.commit()
        cursor.execute("INSERT INTO store_property VALUES ('last', '1')")


@contextlib.contextmanager
def _sqlite(folder: Path) -> Iterator[Path]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = folder / "catalog.sqlite3"
    Database(create_sqlite(path)).close()
    try:
        yield path
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _postgres(server: Any) -> Iterator[ServerPlace]:
    with server.database() as url:
        place = ServerPlace(parameters=parse_url(url), schema=_SCHEMA)
        Database(create_postgres(place)).close()
        yield place


@contextlib.contextmanager
def _opened(where: Path | ServerPlace) -> Iterator[Database]:
    if isinstance(where, Path):
        database = Database(open_sqlite(where, where.with_name("queue.lock")))
    else:
        database = Database(open_postgres(where))
    try:
        yield database
    finally:
        database.close()


def _rates(context: Context, server: Any, count: int) -> list[list[object]]:
    """Return the rates of each way, taken in turns."""
    folder = context.work / "catalog"
    taken: dict[tuple[str, str], list[float]] = {}

    def measure(engine: str, way: str, work: Callable[..., None], *words: Any) -> None:
        begun = time.perf_counter()
        work(*words)
        taken.setdefault((engine, way), []).append(time.perf_counter() - begun)

    for turn in range(1 if context.quick else _TURNS):
        rows = _rows(count, turn)
        with _sqlite(folder) as path, _opened(path) as database:
            measure("SQLite", "catalog", _through_the_catalog, database, rows)
        with _sqlite(folder) as path:
            measure("SQLite", "executemany", _bare_sqlite, path, rows)
        with _postgres(server) as place, _opened(place) as database:
            measure("PostgreSQL", "catalog", _through_the_catalog, database, rows)
        for way, by_copy in (("COPY", True), ("executemany", False)):
            with server.database() as url:
                place = ServerPlace(parameters=parse_url(url), schema=_SCHEMA)
                Database(create_postgres(place)).close()
                measure("PostgreSQL", way, _bare_postgres, url, rows, by_copy)
    return [
        [engine, way, count / statistics.median(some),
         None if way == "catalog" else _share(some, taken[engine, "catalog"])]
        for (engine, way), some in taken.items()
    ]  # fmt: skip


def _share(theirs: list[float], ours: list[float]) -> float:
    """Return our rate as a share of theirs: the median of the turns, by the seconds of each."""
    return statistics.median(a / b for a, b in zip(theirs, ours, strict=True))


def _files(context: Context, server: Any) -> list[list[object]]:
    """Add the same members with each engine, in turns."""
    members = (build.path_of(context.family, one) for one in definition.load().members)
    paths = [path for path in members if path.exists()]
    paths = paths[: 3 if context.quick else None]
    if not paths:
        return []
    taken: dict[str, list[float]] = {"SQLite": [], "PostgreSQL": []}
    size = 0
    for _ in range(1 if context.quick else _TURNS):
        for engine, times in taken.items():
            shutil.rmtree(context.work / "store", ignore_errors=True)
            with server.database() as url:
                where = "sqlite" if engine == "SQLite" else url
                with hn.init(context.work / "store", catalog=where) as store:
                    begun = time.perf_counter()
                    for path in paths:
                        store.add(path)
                    times.append(time.perf_counter() - begun)
                    size = store.stats().logical_bytes
    shutil.rmtree(context.work / "store")
    return [
        [engine, statistics.median(some), size / statistics.median(some) / 1e6,
         _share(taken["SQLite"], some)]
        for engine, some in taken.items()
    ]  # fmt: skip


_ROWS_WRITTEN = (  # by this transaction; they are then dropped from the server's memory
    "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint, "
    "pg_stat_force_next_flush()::text FROM pg_stat_xact_user_tables "
    "WHERE schemaname = current_schema()"
)
_LOAD = """
import sys
sys.path.insert(0, sys.argv[1])
import catalog_rates
print(catalog_rates.load(sys.argv[2], int(sys.argv[3])))
"""


def load(where: str, count: int) -> int:
    """Load made-up atoms; return the rows of the largest transaction, as the database counts."""
    place: Path | ServerPlace = Path(where)
    if where.startswith("postgresql://"):
        place = ServerPlace(parameters=parse_url(where), schema=_SCHEMA)
    most = before = 0
    with _opened(place) as database:

        @event.listens_for(database.engine, "commit")
        def _committed(connection: Any) -> None:
            nonlocal most, before
            if database.dialect == "sqlite":  # all that this connection wrote, and there is one
                total = connection.connection.dbapi_connection.total_changes
                most, before = max(most, total - before), total
            else:
                most = max(most, connection.exec_driver_sql(_ROWS_WRITTEN).one()[0])

        for first in range(0, count, 50_000):
            for piece in _pieces(_rows(50_000, 1000 + first)):
                with database.write(durable=False) as tx:
                    new = [
                        atoms.NewAtom(digest=row[0], size_bytes=1, encoding=0, extents=())
                        for row in piece
                    ]
                    assert not atoms.add(tx, new, now_us=1)
    return most


def _waits(context: Context, server: Any, count: int) -> list[list[object]]:
    found = []
    with _sqlite(context.work / "catalog") as path:
        found.append(["SQLite", *_wait_beside(path, str(path), count)])
    with server.database() as url:
        place = ServerPlace(parameters=parse_url(url), schema=_SCHEMA)
        Database(create_postgres(place)).close()
        found.append(["PostgreSQL", *_wait_beside(place, url, count)])
    return found


def _wait_beside(where: Path | ServerPlace, text: str, count: int) -> list[object]:
    here = str(Path(__file__).resolve().parent)
    source = str(Path(hn.__file__).parents[1])
    child = subprocess.Popen(
        [sys.executable, "-c", _LOAD, here, text, str(count)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": source},
    )  # fmt: skip
    reads, writes = [], []
    begun = time.perf_counter()
    with _opened(where) as database:
        while child.poll() is None:
            started = time.perf_counter()
            with database.read() as tx:
                artifacts.all_names(tx, limit=100)
            read = time.perf_counter()
            with database.write() as tx:
                properties.put(tx, "small", str(started))
            writes.append(time.perf_counter() - read)
            reads.append(read - started)
            time.sleep(_PAUSE_S)
    taken = time.perf_counter() - begun
    most = int(child.communicate()[0])
    return [
        taken, len(reads), max(reads) * 1000, len(writes), sorted(writes)[len(writes) // 2] * 1000,
        max(writes) * 1000, most,
    ]  # fmt: skip
