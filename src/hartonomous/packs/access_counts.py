"""Counting what is read: in memory, written in batches, and never in the way of reading."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterable

from hartonomous.catalog import accesses
from hartonomous.catalog.database import Database
from hartonomous.errors import HartonomousError

_WRITTEN_AT = 256
"""Different things whose counts are kept in memory."""


class AccessCounts:
    """The reads of one open store since they were written last; safe to use from several threads.

    They are written when many different things were read and when the store is closed. Who may not
    write to the catalog counts nothing, and a process that is killed loses what it had in memory.
    """

    def __init__(self, database: Database, clock: Callable[[], int]) -> None:
        self._database = database
        self._clock = clock
        self._guard = threading.Lock()
        self._process = os.getpid()
        self._waiting: dict[tuple[str, bytes], tuple[int, int]] = {}

    def count(self, version_uid: bytes, file_digests: Iterable[bytes] = ()) -> None:
        """Count one read of a version, and of some of its files."""
        now_us = self._clock()
        keys = [(accesses.VERSION, version_uid)]
        keys += [(accesses.FILE, digest) for digest in file_digests]
        with self._guard:
            if self._process != os.getpid():  # the parent writes what it counted
                self._process, self._waiting = os.getpid(), {}
            for key in keys:
                self._waiting[key] = (self._waiting.get(key, (0, 0))[0] + 1, now_us)
            full = len(self._waiting) >= _WRITTEN_AT
        if full:
            self.write()

    def write(self) -> None:
        """Write what was counted; what cannot be written is forgotten."""
        with self._guard:
            waiting, self._waiting = self._waiting, {}
            if not waiting or self._process != os.getpid():
                return
        # A count is worth less than the read that it is about: it must not fail for it.
        with (
            contextlib.suppress(HartonomousError),
            self._database.write(durable=False) as tx,
        ):
            accesses.add(tx, waiting)
