"""Files that are written out: where they are written first, and what must not be in their way."""

import errno
import os
import stat
from pathlib import Path

from hartonomous.errors import ConflictError

_NAME_BYTES = 200
"""So much of a name goes into that of its part, which no file system takes over 255 bytes of."""


def part_path(target: Path, mark: str) -> Path:
    """Return where a file is written before it gets its name; ``mark`` tells what goes there."""
    name = os.fsdecode(os.fsencode(target.name)[:_NAME_BYTES])
    return target.with_name(f".{name}.{mark}.part")


def open_part(part: Path) -> int:
    """Open what an interrupted get left, or a new file; raises OSError.

    A link, a pipe, a file with a second name or another user's is nothing that a get left: it is
    taken away, so that no byte goes into somebody else's file.
    """
    try:
        status = part.lstat()
    except FileNotFoundError:
        pass
    else:
        ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
        if not ours or status.st_nlink != 1:
            part.unlink()
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(part, flags, 0o600)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
        return descriptor
    os.close(descriptor)  # somebody replaced it between the two calls
    raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), str(part))


def refuse_linked_folder(root: Path, target: Path) -> None:
    """Raise ConflictError where a folder between ``root`` and a file in it is a link."""
    for folder in target.parents:
        if folder == root or root not in folder.parents:
            return
        if folder.is_symlink():
            raise ConflictError(
                f"{folder} is a symbolic link, which would lead {target.name} out of {root}",
                hint="remove the link, or choose another place with -o",
            )
