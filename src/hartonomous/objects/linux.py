"""Linux calls that the standard library lacks: rename without overwriting, start of write-back.

Called by the local object store only.
"""

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_SYNC_FILE_RANGE_WRITE = 2

MADV_POPULATE_READ = 22
"""Linux 5.14: read pages in now and report failure as an error instead of a SIGBUS later."""

_LIBC = ctypes.CDLL(None, use_errno=True)


def _function(name: str, *argument_types: type) -> Callable[..., int] | None:
    try:
        function = getattr(_LIBC, name)
    except AttributeError:  # a C library older than the call
        return None
    function.argtypes = argument_types
    function.restype = ctypes.c_int
    return function  # type: ignore[no-any-return]


_renameat2 = _function(
    "renameat2", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint
)
_sync_file_range = _function(
    "sync_file_range", ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint
)


def rename_without_overwriting(source: Path, target: Path) -> None:
    """Rename; raises FileExistsError if ``target`` is taken.

    Raises OSError with EINVAL or ENOSYS where the file system or the C library cannot do it.
    """
    _rename(source, target, _RENAME_NOREPLACE)


def exchange_names(one: Path, other: Path) -> None:
    """Give two files each other's name, in one step; raises OSError as the function above."""
    _rename(one, other, _RENAME_EXCHANGE)


def _rename(source: Path, target: Path, flags: int) -> None:
    if _renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(target))
    old, new = os.fsencode(source), os.fsencode(target)
    if _renameat2(_AT_FDCWD, old, _AT_FDCWD, new, flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(target))


def boot_id() -> str | None:
    """Return what names this run of the machine, from its start to its end; None if not known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip() or None
    except OSError:
        return None


def start_writeback(descriptor: int, offset: int, length: int) -> None:
    """Ask the kernel to begin writing a range of dirty pages; does not wait.

    Advice only, so its result is not looked at: whatever goes wrong is reported by the fsync that
    must follow.
    """
    if _sync_file_range is not None:
        _sync_file_range(descriptor, offset, length, _SYNC_FILE_RANGE_WRITE)
