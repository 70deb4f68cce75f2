"""The index of words of one open store, kept open between searches: opening it takes longest."""

import contextlib
import os
import threading
from collections.abc import Iterator

from hartonomous.catalog.word_index import WordIndex
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.text_views import open_index
from hartonomous.ports.text_index import TextIndex


class KeptIndex:
    """One index that is idle between searches; searches at the same time open their own."""

    def __init__(self, parts: StoreParts) -> None:
        self._parts = parts
        self._guard = threading.Lock()
        self._idle: WordIndex | None = None
        self._process = os.getpid()

    @contextlib.contextmanager
    def lent(self) -> Iterator[TextIndex]:
        """Lend the index, or another one where it is lent already or was deleted meanwhile."""
        with self._guard:
            found, self._idle = self._idle, None
            if self._process != os.getpid():  # what a parent process opened is not used by a child
                found, self._process = None, os.getpid()
        if found is not None and not found.is_in_place():
            found.close()
            found = None
        with contextlib.ExitStack() as stack:
            index = found or open_index(self._parts)
            stack.push(index)
            yield index
            if isinstance(index, WordIndex) and self._keeps(index):
                stack.pop_all()

    def _keeps(self, index: WordIndex) -> bool:
        with self._guard:
            if self._idle is None:
                self._idle = index
            return self._idle is index

    def close(self) -> None:
        """Close the index that is idle."""
        with self._guard:
            if self._idle is not None:
                self._idle.close()
                self._idle = None
