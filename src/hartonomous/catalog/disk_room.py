"""What a full disk lacks: SQLite says of a file that it cannot be written, seldom why."""

import errno
import os
import tempfile
from pathlib import Path

from hartonomous.errors import StorageFullError

FULL = (errno.ENOSPC, errno.EDQUOT)
LEAST_BYTES = 32768
"""What SQLite's shared memory, the least of its files, needs before anything can be done."""
_BLOCK_BYTES = 512  # what st_blocks counts in


def lacks_room(folder: Path) -> bool:
    """Say whether nothing more can be written into a folder."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(LEAST_BYTES))
    except OSError as error:
        return error.errno in FULL
    return False


def full_disk(
    doing: str, place: Path, *, wanted_bytes: int = LEAST_BYTES, how: str = "at least "
) -> StorageFullError:
    """Return the error for a file that its disk has no room for, with how much is missing.

    ``doing`` is said first, such as "no room for the index", and ``how`` before ``wanted_bytes``.
    What of the file is written already is not wanted again.
    """
    told = f"{how}{wanted_bytes:,} bytes were wanted, {_free_text(place, wanted_bytes)}"
    return StorageFullError(
        f"{doing}: the disk is full; {told}",
        hint=f"free some space on the disk of {place.parent}, then run the same command again",
    )


def _free_text(place: Path, wanted_bytes: int) -> str:
    try:
        status = os.statvfs(place.parent)
    except OSError as error:
        return f"free space unknown ({error.strerror})"
    free = status.f_bavail * status.f_frsize
    try:
        missing = wanted_bytes - free - place.stat().st_blocks * _BLOCK_BYTES
    except OSError:
        missing = wanted_bytes - free
    return f"{free:,} bytes are free" + (f", {missing:,} are missing" if missing > 0 else "")
