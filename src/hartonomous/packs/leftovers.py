"""What dead processes leave in a store's directory, apart from objects in the making.

Small files are replaced through a temporary one beside them, which nobody locks: only old ones are
leftovers. A writing session holds a lock file as long as it lives; one that finds its fresh file
held by a collection takes another name.
"""

import re
from pathlib import Path

from hartonomous import locks
from hartonomous.objects.durable import draft_of

LEAST_AGE_US = 3_600_000_000
"""A younger file may be somebody's work, however short that work is."""

_REPLACED = ("store.json", "FORMAT.md", "rescue.py")
_WRITER_LOCK = re.compile(r"writer-([0-9a-f]{32})\.lock")


def old_files(directory: Path, *, before_us: int) -> list[Path]:
    """Return temporary files of replacements that were never finished."""
    return [path for path in _older(directory, before_us) if draft_of(path.name) in _REPLACED]


def dead_writer_locks(directory: Path, known: set[str]) -> list[Path]:
    """Return lock files that nobody holds, of sessions that the catalog does not know.

    ``known`` are the keys, in hex, of those that it knows.
    """
    found = []
    for path in sorted((directory / "locks").iterdir()):
        match = _WRITER_LOCK.fullmatch(path.name)
        if match is not None and match[1] not in known and not locks.is_held(path):
            found.append(path)
    return found


def drop_writer_locks(directory: Path, known: set[str]) -> int:
    """Remove what ``dead_writer_locks`` returns; return how many."""
    count = 0
    for path in dead_writer_locks(directory, known):
        lock = locks.try_lock(path)
        if lock is not None:
            lock.release(remove=True)
            count += 1
    return count


def _older(folder: Path, before_us: int) -> list[Path]:
    found = []
    for path in sorted(folder.iterdir()):
        try:
            if path.lstat().st_mtime_ns // 1000 < before_us:
                found.append(path)
        except FileNotFoundError:
            continue
    return found
