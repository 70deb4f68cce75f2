"""A look at a derived SQLite file for a check of its rows, which may be any rows."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_READ_AT_ONCE = 200
"""Rows; a thumbnail among them may have 64 KiB."""
_BUSY_S = 60


@contextmanager
def checking(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection on which every statement stands for itself; raises sqlite3.Error."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_S)
    try:
        connection.isolation_level = None
        connection.execute("PRAGMA trusted_schema=OFF")
        yield connection
    finally:
        connection.close()


def rows_of(
    connection: sqlite3.Connection, query: str, values: tuple[object, ...] = ()
) -> Iterator[Any]:
    """Yield the rows of a query, some at a time."""
    cursor = connection.execute(query, values)
    while rows := cursor.fetchmany(_READ_AT_ONCE):
        yield from rows
