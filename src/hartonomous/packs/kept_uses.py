"""What searches of one open store looked up in the catalog, kept until the catalog changes."""

import threading
from collections.abc import Sequence

from hartonomous.catalog.texts import TextUse, VersionWords

_MOST_KEPT = 100_000
"""Entries of each kind; about 40 MB where every file is used once."""


class Uses:
    """What was in use at one change number: versions by file and by uid, and what is said of them.

    What is not in it was not asked for yet. A version that is not in use is None.
    """

    def __init__(self, number: str) -> None:
        self.number = number
        self.files: dict[bytes, Sequence[TextUse]] = {}
        self.versions: dict[bytes, VersionWords | None] = {}
        self.said: dict[int, str] = {}

    def trim(self) -> None:
        """Forget everything of a kind of which there is too much."""
        # Others may look at what is there: it is put aside, not emptied.
        if len(self.files) > _MOST_KEPT:
            self.files = {}
        if len(self.versions) > _MOST_KEPT:
            self.versions = {}
        if len(self.said) > _MOST_KEPT:
            self.said = {}


class KeptUses:
    """The uses at the newest change number; safe to use from several threads.

    A search reads the change number before anything else, so what it looks up is not older than
    that, and whatever changes later has another number: no later search sees what was kept here.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._newest: Uses | None = None

    def at(self, number: str) -> Uses:
        """Return what is kept for a change number that was read just now."""
        with self._guard:
            if self._newest is None or self._newest.number != number:
                self._newest = Uses(number)
            self._newest.trim()
            return self._newest
