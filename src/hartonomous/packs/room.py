"""Room on a disk for files that are about to be written, told before the first byte is."""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hartonomous.errors import StorageFullError
from hartonomous.packs.directory import file_system_of

_KEEPS_EVERY_BYTE = frozenset({"ext2", "ext3", "ext4", "xfs", "tmpfs"})
"""File systems on which a file that is written takes at least its size: no compression."""
_BLOCK_BYTES = 512  # what st_blocks counts in


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """A file of ``size_bytes`` that is written to ``part`` and then put in the place ``target``."""

    target: Path
    part: Path
    size_bytes: int


def check_room(folder: Path, files: Iterable[PlannedFile], *, option: str = "-o") -> None:
    """Raise StorageFullError when files surely do not fit, written one after the other.

    Counted is what lies on the device of ``folder``: bytes that are there already, in partial files
    and in files that will be replaced, are not wanted again. Nothing is said where a file may take
    less than its size. ``option`` is that of the command that chooses the place.
    """
    there = _nearest(folder)
    device = there.stat().st_dev
    wanted = peak = 0
    for one in files:
        if _nearest(one.target).stat().st_dev == device:
            wanted += max(0, one.size_bytes - _held(one.part))
            peak = max(peak, wanted)
            wanted -= _held(one.target)
    status = os.statvfs(there)
    # Root may fill the blocks that are kept back for it.
    free = (status.f_bfree if os.geteuid() == 0 else status.f_bavail) * status.f_frsize
    if peak > free and file_system_of(there) in _KEEPS_EVERY_BYTE:
        raise StorageFullError(
            f"there is no room at {folder}: {peak:,} bytes were wanted, {free:,} bytes are free, "
            f"{peak - free:,} are missing",
            hint=f"free some space, or choose a place on another disk with {option}",
        )


def _nearest(path: Path) -> Path:
    """Return the path itself or the nearest folder above it that is there."""
    path = path.absolute()
    return next((one for one in (path, *path.parents) if one.exists()), Path(path.anchor))


def _held(path: Path) -> int:
    """Return the bytes that a file has on disk and that go with its name; 0 where there is none."""
    try:
        status = path.lstat()
    except OSError:
        return 0
    only = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
    return status.st_blocks * _BLOCK_BYTES if only else 0
