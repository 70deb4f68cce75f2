"""Cutting long lists of rows or keys into pieces that one statement or transaction may carry."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Dialect,
    LargeBinary,
    Table,
    insert,
    select,
    text,
)
from sqlalchemy import column as found_column

from hartonomous.catalog.columns import Words, escaped
from hartonomous.catalog.database import ROWS_PER_TRANSACTION

T = TypeVar("T")

COPIED_ROWS = 12
"""From so many rows on, PostgreSQL takes them by COPY; it costs one message more than INSERT."""


def batches(items: Sequence[T], size: int = ROWS_PER_TRANSACTION) -> Iterator[list[T]]:
    """Yield consecutive pieces of at most ``size`` items."""
    walk = iter(items)
    while piece := list(islice(walk, size)):
        yield piece


def insert_rows(
    tx: Connection, columns: Sequence[Column[Any]], rows: Iterable[tuple[Any, ...]]
) -> None:
    """Insert many rows of these columns of one table, bound by the driver as they are.

    Values must be of types that the driver takes itself: int, str, bytes, None. SQLAlchemy would
    look at each value of each row, which takes longer than the database.
    """
    values: list[Any] = list(rows)
    if not values:
        return
    names = tuple(column.name for column in columns)
    if tx.dialect.name != "sqlite":
        if any(isinstance(column.type, Words) for column in columns):
            values = [tuple(escaped(v) if type(v) is str else v for v in row) for row in values]
        if len(values) >= COPIED_ROWS:
            copy_rows(tx, columns[0].table.name, names, values)
            return
    said, positional = _insert_text(tx.dialect, columns[0].table, names)
    if not positional:
        values = [dict(zip(names, row, strict=True)) for row in values]
    tx.exec_driver_sql(said, values)


def insert_new_rows(
    tx: Connection,
    columns: Sequence[Column[Any]],
    rows: Sequence[tuple[Any, ...]],
    *,
    key: Column[Any],
) -> set[int]:
    """Insert those rows whose ``key``, a unique digest, is not there; return their ids.

    The id is a row's first value, and was given out for it alone. Mostly no key is there: so the
    rows are inserted without a question, which takes as long as they do. Only where one met
    another is it asked which.
    """
    ids = {row[0] for row in rows}
    if tx.dialect.name != "sqlite" and len(rows) >= COPIED_ROWS:
        tx.exec_driver_sql("SAVEPOINT new_rows")
        if _were_copied(tx, columns, rows):
            return ids
        at = list(columns).index(key)
        there = select(key).where(among(tx, key, [row[at] for row in rows]))
        met = set(tx.scalars(there))
        rows = [row for row in rows if row[at] not in met]
        insert_rows(tx, columns, rows)
        return {row[0] for row in rows}
    names = tuple(column.name for column in columns)
    said, positional = _insert_text(tx.dialect, columns[0].table, names)
    values: Any = rows if positional else [dict(zip(names, row, strict=True)) for row in rows]
    # No savepoint here: SQLite would copy each page that is written behind it once more.
    done = tx.exec_driver_sql(f"{said} ON CONFLICT ({key.name}) DO NOTHING", list(values))
    if done.rowcount == len(rows):
        return ids
    return set(tx.scalars(select(columns[0]).where(columns[0].in_(ids))))


def _were_copied(
    tx: Connection, columns: Sequence[Column[Any]], rows: Sequence[tuple[Any, ...]]
) -> bool:
    """Insert rows by COPY behind a savepoint; False, and back to it, where a key was there."""
    from psycopg.errors import UniqueViolation

    try:
        insert_rows(tx, columns, rows)
    except UniqueViolation:
        tx.exec_driver_sql("ROLLBACK TO SAVEPOINT new_rows")
        return False
    return True


def copy_rows(
    tx: Connection, table: str, names: Sequence[str], rows: Iterable[tuple[Any, ...]]
) -> None:
    """Append rows to a table of PostgreSQL by COPY; texts must be ``escaped`` already."""
    quote = tx.dialect.identifier_preparer.quote
    said = f"COPY {quote(table)} ({', '.join(map(quote, names))}) FROM STDIN"
    raw: Any = tx.connection.dbapi_connection
    with raw.cursor() as cursor, cursor.copy(said) as copy:
        for row in rows:
            copy.write_row(row)


@lru_cache(maxsize=64)
def _insert_text(dialect: Dialect, table: Table, names: tuple[str, ...]) -> tuple[str, bool]:
    """Return the driver's text of an INSERT, and whether it takes a row's values by position."""
    compiled = insert(table).compile(dialect=dialect, column_keys=list(names))
    if compiled.positional and compiled.positiontup != list(names):
        raise ValueError(f"columns of {table.name} are not in the table's order: {names}")
    return str(compiled), compiled.positional


def new_ids(tx: Connection, table: Table, count: int) -> Sequence[int]:
    """Return ids for new rows, which are given to nobody else; the caller inserts them.

    Needs a transaction that no other writer runs beside.
    """
    if not count:
        return ()
    if tx.dialect.name == "sqlite":
        last = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
        first = int(tx.scalar(last, {"name": table.name}) or 0) + 1
        return range(first, first + count)
    taken = text(
        "SELECT setval(one, nextval(one) + :count - 1) "
        "FROM CAST(pg_get_serial_sequence(:name, 'id') AS regclass) AS one"
    )
    last_id = int(tx.execute(taken, {"name": table.name, "count": count}).scalar_one())
    return range(last_id - count + 1, last_id + 1)


def among(tx: Connection, column: Column[Any], values: Sequence[bytes]) -> ColumnElement[bool]:
    """Return the condition that a column of digests has one of some values.

    A server gets them as one value of bytes: many, or an array, take it and the driver longer.
    """
    if tx.dialect.name == "sqlite":
        return column.in_(values)
    width = column.type.length  # type: ignore[attr-defined]  # of the type Binary
    parts = text(
        "SELECT substring(CAST(:joined AS bytea) FROM place FOR :width) "
        "FROM generate_series(1, :total, :width) AS place"
    ).bindparams(joined=b"".join(values), total=width * len(values), width=width)
    return column.in_(parts.columns(found_column("substring", LargeBinary())))


def insert_or_skip(table: Table, connection: Connection) -> Any:
    """Return the dialect's ``INSERT … ON CONFLICT DO NOTHING``."""
    return _insert_or_skip(table, connection.dialect.name)


@lru_cache(maxsize=64)
def _insert_or_skip(table: Table, dialect: str) -> Any:
    if dialect == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table).on_conflict_do_nothing()
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table).on_conflict_do_nothing()
