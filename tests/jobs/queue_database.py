"""Catalogs for the tests of the queue."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hartonomous.catalog.database import Database, create_sqlite


@contextlib.contextmanager
def fresh_database() -> Iterator[Database]:
    """Yield an empty catalog of its own."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(create_sqlite(Path(folder) / "catalog.sqlite3"))
        try:
            yield database
        finally:
            database.close()
