"""Files that are read for several members: through links, as blobs of Ollama, named twice."""

import os
from collections import Counter
from collections.abc import Iterable

from hartonomous.ports.source import Candidate, Skipped
from hartonomous.sources.discover import discover


class SharedFiles:
    """How many members of what lies at some places are read from one and the same file.

    Of a file that one member alone is read from only a number is kept.
    """

    def __init__(self, paths: Iterable[str | os.PathLike[str]], *, hidden: bool = False) -> None:
        """Look at everything at ``paths``, whatever patterns leave out; raises as ``discover``."""
        self._counts: Counter[int] = Counter()
        once: set[int] = set()
        for key in _keys(discover(paths, hidden=hidden)):
            if key in once:
                self._counts[key] += 1
            once.add(key)

    def count(self, key: int) -> int:
        """Return how many members are read from a file: 1 where nothing else is known."""
        return self._counts[key] + 1 if key in self._counts else 1


def file_key(location: str) -> int:
    """Return a number for the file that a location leads to, the same for every way to it."""
    return hash(os.path.realpath(location))


def _keys(found: Iterable[Candidate | Skipped]) -> Iterable[int]:
    for item in found:
        if isinstance(item, Candidate):
            for member in item.members:
                yield file_key(member.location)
