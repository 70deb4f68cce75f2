"""Who wants to write to a SQLite file next: one process or thread at a time.

SQLite's own waiting sleeps longer and longer, up to 100 ms, and looks once in between. Beside a
writer of many short transactions, each a moment behind the last, it hardly ever looks at the right
one. Here whoever is first in the queue looks again and again, at once when a transaction ends, and
the others wait for its place: so the one of many transactions too has to queue behind it.
"""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from hartonomous import locks

_FIRST_S, _NEXT_S = 0.0003, 0.001
"""Between two looks: of the first one in the queue, at SQLite's lock; of others, at its place."""


class WriteQueue:
    """The queue of one file's writers; ``path`` is its lock file, None for no queue."""

    def __init__(self, path: Path | None, timeout_s: float) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def begin(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction that writes; raises sqlite3.OperationalError if that takes too long.

        HartonomousError where the disk lets no lock file be.
        """
        deadline = time.monotonic() + self._timeout_s
        with self._first_place(deadline):
            connection.execute("PRAGMA busy_timeout=0")
            try:
                _begin(connection, deadline)
            finally:
                connection.execute(f"PRAGMA busy_timeout={int(self._timeout_s * 1000)}")

    @contextlib.contextmanager
    def _first_place(self, deadline: float) -> Iterator[None]:
        """Hold the first place; behind the deadline go on without, so that SQLite says it."""
        if self._path is None:
            yield
            return
        while (lock := locks.try_lock(self._path)) is None and time.monotonic() < deadline:
            time.sleep(_NEXT_S)
        try:
            yield
        finally:
            if lock is not None:
                lock.release()


def _begin(connection: sqlite3.Connection, deadline: float) -> None:
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_FIRST_S)
        else:
            return
