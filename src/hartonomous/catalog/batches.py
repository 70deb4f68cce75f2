"""Cutting long lists of rows or keys into pieces that one statement or transaction may carry."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, Dialect, Table, insert
from sqlalchemy.dialects import postgresql, sqlite

from hartonomous.catalog.database import ROWS_PER_TRANSACTION

T = TypeVar("T")


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
    names = tuple(column.name for column in columns)
    text, positional = _insert_text(tx.dialect, columns[0].table, names)
    values: list[Any] = list(rows)
    if not values:
        return
    if not positional:
        values = [dict(zip(names, row, strict=True)) for row in values]
    tx.exec_driver_sql(text, values)


@lru_cache(maxsize=64)
def _insert_text(dialect: Dialect, table: Table, names: tuple[str, ...]) -> tuple[str, bool]:
    """Return the driver's text of an INSERT, and whether it takes a row's values by position."""
    compiled = insert(table).compile(dialect=dialect, column_keys=list(names))
    if compiled.positional and compiled.positiontup != list(names):
        raise ValueError(f"columns of {table.name} are not in the table's order: {names}")
    return str(compiled), compiled.positional


def insert_or_skip(table: Table, connection: Connection) -> Any:
    """Return the dialect's ``INSERT … ON CONFLICT DO NOTHING``."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    return dialect.insert(table).on_conflict_do_nothing()
