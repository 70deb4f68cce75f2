"""Jobs and schedules of a catalog that is replaced, written into the new one.

No pack tells of them, so a rebuilt catalog has them from the former one or not at all.
"""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select, text, update

from hartonomous.catalog.database import ROWS_PER_TRANSACTION, Database
from hartonomous.catalog.schema import job, schedule
from hartonomous.core.job import new_lease_us

_MOST_JOBS = 100_000
"""The newest jobs; of the others nothing is known any more."""


def carry(former: Database, fresh: Database, *, now_us: int) -> int:
    """Copy every schedule and the newest jobs; return how many rows.

    Ids stay. Jobs that run have a lease anew: who runs them may not have been able to say so.
    Raises IntegrityError where the former catalog cannot be read, before anything is written.
    """
    with former.read() as old:
        rows = {schedule: list(_rows(old, schedule)), job: list(_rows(old, job))}
    for table, held in rows.items():
        for start in range(0, len(held), ROWS_PER_TRANSACTION):
            with fresh.write(durable=False) as tx:
                tx.execute(insert(table), held[start : start + ROWS_PER_TRANSACTION])
    with fresh.write(durable=False) as tx:
        held_now = job.c.lease_until_us.is_not(None)
        tx.execute(update(job).where(held_now).values(lease_until_us=new_lease_us(now_us)))
        _go_on_counting(tx)
    return sum(map(len, rows.values()))


def _rows(old: Connection, table: Table) -> Iterator[dict[str, Any]]:
    query = select(*table.c)
    if table is job:
        query = query.order_by(job.c.id.desc()).limit(_MOST_JOBS)
    for row in old.execute(query):
        yield dict(row._mapping)


def _go_on_counting(tx: Connection) -> None:
    """Let the next job's id be behind those that were written; SQLite does that by itself."""
    if tx.dialect.name == "postgresql" and tx.scalar(select(func.count()).select_from(job)):
        sequence = "pg_get_serial_sequence('job', 'id')"
        tx.execute(text(f"SELECT setval({sequence}, (SELECT max(id) FROM job))"))  # noqa: S608
