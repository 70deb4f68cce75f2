"""Copying a whole catalog from one database to another, of the same or another engine.

The rows are those of one moment of the source; the target is written in small transactions and then
compared with the source row by row. Ids stay, and so do the numbers that ids go on from.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Column, Connection, Table, select, text, tuple_

from hartonomous.catalog.batches import insert_rows
from hartonomous.catalog.database import ROWS_PER_TRANSACTION, Database
from hartonomous.catalog.schema import metadata
from hartonomous.errors import ConflictError, IntegrityError

_LARGE = {"version": 50, "change": 50, "sketch": 100}
"""Most rows at a time of tables with long texts."""


class CopiedCatalog(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows each table has, in both databases."""

    rows: dict[str, int]

    @property
    def row_count(self) -> int:
        """Rows of all tables."""
        return sum(self.rows.values())


def copy_catalog(source: Database, target: Database) -> CopiedCatalog:
    """Copy every table of ``source`` as it is now; ``target`` has the same schema and no rows.

    Others may go on writing to the source. Raises ConflictError where the target has rows, and
    IntegrityError where a row of it is not that of the source afterwards; the target is of no use
    then.
    """
    counts: dict[str, int] = {}
    with source.read() as there:
        for table in metadata.sorted_tables:
            _refuse_rows(target, table)
            counts[table.name] = _copy_table(there, target, table)
        last_ids = {table.name: _last_id(there, table) for table in _counting_tables()}
        with target.write() as tx:
            for table in _counting_tables():
                _go_on_from(tx, table, last_ids[table.name])
        with target.read() as here:
            for table in metadata.sorted_tables:
                _compare(there, here, table)
            for table in _counting_tables():
                if _last_id(here, table) != last_ids[table.name]:
                    raise IntegrityError(
                        f"the ids of {table.name} do not go on from where they were"
                    )
    return CopiedCatalog(rows=counts)


def _refuse_rows(target: Database, table: Table) -> None:
    with target.read() as tx:
        if tx.execute(select(*table.primary_key.columns).limit(1)).first() is not None:
            raise ConflictError(f"the catalog to copy to has rows in {table.name} already")


def _copy_table(there: Connection, target: Database, table: Table) -> int:
    count = 0
    columns = list(table.columns)
    for rows in _pages(there, table):
        with target.write(durable=False) as tx:
            insert_rows(tx, columns, rows)
        count += len(rows)
    return count


def _compare(there: Connection, here: Connection, table: Table) -> None:
    theirs, ours = _pages(there, table), _pages(here, table)
    for expected in theirs:
        if next(ours, None) != expected:
            raise IntegrityError(f"rows of {table.name} differ from those that were copied")
    if next(ours, None) is not None:
        raise IntegrityError(f"{table.name} has more rows than were copied")


def _pages(tx: Connection, table: Table) -> Iterator[list[tuple[Any, ...]]]:
    """Yield all rows in order of the primary key, some at a time."""
    key: Sequence[Column[Any]] = list(table.primary_key.columns)
    places = [list(table.columns).index(column) for column in key]
    size = _LARGE.get(table.name, ROWS_PER_TRANSACTION)
    query = select(table).order_by(*key).limit(size)
    page = [tuple(row) for row in tx.execute(query)]
    while page:
        yield page
        last = [page[-1][place] for place in places]
        after = key[0] > last[0] if len(key) == 1 else tuple_(*key) > tuple_(*last)
        page = [tuple(row) for row in tx.execute(query.where(after))]


def _counting_tables() -> list[Table]:
    """Return the tables whose ids the database gives out."""
    return [one for one in metadata.sorted_tables if one.dialect_options["sqlite"]["autoincrement"]]


def _last_id(tx: Connection, table: Table) -> int:
    """Return the highest id that a table ever had, 0 for none."""
    if tx.dialect.name == "sqlite":
        query = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
        return int(tx.scalar(query, {"name": table.name}) or 0)
    query = text(
        "SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence(:name, 'id')::regclass), 0)"
    )
    return int(tx.scalar(query, {"name": tx.dialect.identifier_preparer.format_table(table)}) or 0)


def _go_on_from(tx: Connection, table: Table, last_id: int) -> None:
    if not last_id:
        return
    if tx.dialect.name == "sqlite":
        values = {"name": table.name, "last": last_id}
        tx.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), values)
        tx.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :last)"), values)
        return
    query = text("SELECT setval(pg_get_serial_sequence(:name, 'id')::regclass, :last)")
    name = tx.dialect.identifier_preparer.format_table(table)
    tx.execute(query, {"name": name, "last": last_id})
