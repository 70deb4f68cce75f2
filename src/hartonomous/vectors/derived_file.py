"""Files that an index keeps beside the truth: whole or not there, and never believed unchecked.

A file ends with the BLAKE3 digest of everything before. It is written beside, synced, renamed.
"""

import contextlib
import errno
import mmap
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

import blake3

from hartonomous.core.digest import DIGEST_BYTES, Bytes, digest
from hartonomous.errors import HartonomousError, IntegrityError, StorageFullError

TEMPORARY = ".tmp"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_derived(path: Path, pieces: Iterable[Bytes]) -> None:
    """Write a file: after a crash it is there whole, or the one before is.

    Raises StorageFullError when there is no room, HartonomousError for other errors of the disk.
    """
    beside = path.with_name(f"{path.name}.{secrets.token_hex(8)}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("xb") as file:
            hasher = blake3.blake3()
            for piece in pieces:
                hasher.update(piece)
                file.write(piece)
            file.write(hasher.digest())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        text = f"cannot write {path}: {error.strerror or error}"
        hint = "free some space, then run the same command again"
        if error.errno in _FULL:
            raise StorageFullError(text, hint=hint) from error
        raise HartonomousError(text, hint="check the store's directory and disk") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def open_derived(path: Path) -> memoryview:
    """Return a file's content without its digest, mapped; IntegrityError unless it is whole.

    Raises OSError, FileNotFoundError among them, when it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        size = os.fstat(descriptor).st_size
        if size < DIGEST_BYTES:
            raise IntegrityError(f"{path} is cut short")
        content = memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ))
    except (ValueError, OSError) as error:  # no file that can be mapped
        raise IntegrityError(f"{path} is no file of an index") from error
    finally:
        os.close(descriptor)
    if digest(content[:-DIGEST_BYTES]) != bytes(content[-DIGEST_BYTES:]):
        raise IntegrityError(f"{path} has other bytes than were written")
    return content[:-DIGEST_BYTES]
