"""Cutting long lists of rows or keys into pieces that one statement or transaction may carry."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

from hartonomous.catalog.database import ROWS_PER_TRANSACTION

T = TypeVar("T")


def batches(items: Sequence[T], size: int = ROWS_PER_TRANSACTION) -> Iterator[list[T]]:
    """Yield consecutive pieces of at most ``size`` items."""
    walk = iter(items)
    while piece := list(islice(walk, size)):
        yield piece


def insert_or_skip(table: Table, connection: Connection) -> Any:
    """Return the dialect's ``INSERT … ON CONFLICT DO NOTHING``."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    return dialect.insert(table).on_conflict_do_nothing()
