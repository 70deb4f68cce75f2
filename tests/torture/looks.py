"""Remembers what was found in each state of a disk, so that no state is looked at twice.

Two states are the same when names, kinds, permissions and bytes are. SQLite's ``-shm`` file is left
out: it is rebuilt by whoever opens the catalog first.
"""

import json
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blake3

Answer = dict[str, Any]


def digest_of(*places: Path) -> str:
    """Return what differs wherever what lies at the places does."""
    hasher = blake3.blake3()
    for place in places:
        for path in sorted(place.rglob("*")):
            if path.name.endswith("-shm"):
                continue
            status = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            head = [str(path.relative_to(place)), status.st_mode, len(content)]
            hasher.update(json.dumps(head).encode())
            hasher.update(content)
        hasher.update(b"\n")
    return str(hasher.hexdigest())


class Looks:
    """What was found, by what was looked at; for several threads."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[Answer, ...]] = {}
        self._states: dict[str, Any] = {}
        self._guard = threading.Lock()

    def found(
        self, key: tuple[str, str], look: Callable[[], tuple[Answer, ...]]
    ) -> tuple[tuple[Answer, ...], bool]:
        """Return what was found at ``key``, and whether it was looked at now."""
        with self._guard:
            if key in self._found:
                return self._found[key], False
        answers = look()
        with self._guard:
            for one in answers:
                if "state" in one:  # mostly one of a few, so each is kept once
                    said = json.dumps(one["state"], sort_keys=True)
                    one["state"] = self._states.setdefault(said, one["state"])
            self._found[key] = answers
        return answers, True
