"""Files that survive a power cut, and what the disk's errors mean.

Used by the local object store, and by whoever replaces a small file such as ``store.json``.
"""

import contextlib
import errno
import os
import re
import secrets
import stat
from pathlib import Path

from hartonomous.core.digest import Bytes
from hartonomous.errors import HartonomousError, IntegrityError, StorageFullError

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would grow past the allowed file size",
}
_READ_BYTES = 1 << 20
_DRAFT = re.compile(r"\.(.+)\.[0-9]+-[0-9a-f]{16}\.tmp")
"""The name that ``write_atomically`` gives to what it writes, until it is whole."""


def storage_error(
    error: OSError, action: str, place: Path, *, wanted_bytes: int | None = None
) -> HartonomousError:
    """Return the error to raise for ``error``, which came up while doing ``action`` at ``place``.

    No room (ENOSPC, EDQUOT, EFBIG) is a StorageFullError that says how many bytes were wanted and
    how many are free; everything else is a HartonomousError that names the cause.
    """
    if error.errno in _FULL:
        wanted = "" if wanted_bytes is None else f"; {wanted_bytes:,} bytes were wanted"
        return StorageFullError(
            f"cannot {action} at {place}: {_FULL[error.errno]}{wanted}, "
            f"{_free_text(place, wanted_bytes or 0)}",
            hint="free some space or raise the limit, then run the same command again",
        )
    hint = None
    if error.errno == errno.EIO:
        hint = "the disk reports an input/output error: check its health and the system log"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "check the permissions of the store's directory"
    reason = error.strerror or str(error)
    return HartonomousError(f"cannot {action} at {place}: {reason}", hint=hint)


def _free_text(place: Path, wanted_bytes: int) -> str:
    for folder in (place, *place.parents):
        try:
            status = os.statvfs(folder)
        except (FileNotFoundError, NotADirectoryError):  # not made yet: ask where it would be
            continue
        except OSError as error:
            return f"free space unknown ({error.strerror})"
        free = status.f_bavail * status.f_frsize
        missing = f", {wanted_bytes - free:,} are missing" if wanted_bytes > free else ""
        return f"{free:,} bytes are free{missing}"
    return "free space unknown"


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_plain(path: Path, *, limit_bytes: int) -> bytes:
    """Return the content of a small regular file.

    A pipe, socket, device or folder of that name raises IntegrityError and is not waited for; so
    does a file of more than ``limit_bytes``. Raises OSError when it cannot be opened.
    """
    # O_NONBLOCK: opening a pipe must not wait for its other end. Asked after opening, because what
    # lies there may be replaced at any moment.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise not_plain(path)
        content = bytearray()
        while len(content) <= limit_bytes and (
            piece := os.read(descriptor, min(limit_bytes + 1 - len(content), _READ_BYTES))
        ):
            content += piece
    finally:
        os.close(descriptor)
    if len(content) > limit_bytes:
        raise IntegrityError(f"{path} has more than the {limit_bytes:,} bytes that it may have")
    return bytes(content)


def not_plain(path: Path) -> IntegrityError:
    """Return the error for a path of a store where something else lies than a regular file."""
    return IntegrityError(
        f"{path} is no regular file", hint="move away what lies there; hart doctor says more"
    )


def flat(content: Bytes) -> memoryview:
    """Return contiguous ``content`` as a view of single bytes, without copying."""
    view = memoryview(content)
    return view.cast("B") if view.nbytes else memoryview(b"")


def write_fully(descriptor: int, content: memoryview) -> None:
    """Write all of ``content`` at the file's position; raises OSError."""
    while content:
        content = content[os.write(descriptor, content) :]


def write_atomically(path: Path, content: Bytes) -> None:
    """Replace the file ``path`` by ``content``: after a crash it is the old one or the new one.

    Raises StorageFullError when there is no room, HartonomousError for other disk errors; the old
    file is then untouched, unless only the last sync failed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(8)}.tmp")
    data = flat(content)
    try:
        _write_new(temporary, data)
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise storage_error(
            error, f"write {path.name}", path.parent, wanted_bytes=len(data)
        ) from error
    finally:
        with contextlib.suppress(OSError):  # it is not there; or the disk said why already
            temporary.unlink()


def draft_of(name: str) -> str | None:
    """Return the name of the file that ``write_atomically`` was writing as ``name`` when it ended.

    None for any other name.
    """
    found = _DRAFT.fullmatch(name)
    return None if found is None else found[1]


def _write_new(path: Path, data: memoryview) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        write_fully(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
