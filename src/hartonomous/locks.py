"""Locks between processes of one machine: whole-file locks that the kernel drops with the process.

A lock file's content is never read; only whether somebody holds it counts. `flock` locks belong to
the open file, so threads of one process exclude each other too.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from hartonomous.errors import LockedError

_POLL_S = 0.02


class FileLock:
    """One held lock; ``release`` (or the end of the process) gives it back."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor

    def release(self, *, remove: bool = False) -> None:
        """Give the lock back; ``remove`` deletes the file first, while it is still held."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        try:
            if remove:
                self._path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def try_lock(path: Path, *, shared: bool = False) -> FileLock | None:
    """Take the lock without waiting; None if somebody else holds it against us."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        # The former holder may have removed the file between our open and our lock.
        if _is_current(path, descriptor):
            return FileLock(path, descriptor)
        os.close(descriptor)


def _is_current(path: Path, descriptor: int) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)


@contextlib.contextmanager
def held(
    path: Path, *, what: str, timeout_s: float = 600.0, shared: bool = False
) -> Iterator[None]:
    """Hold a lock for a block; raises LockedError naming ``what`` after ``timeout_s`` seconds."""
    deadline = time.monotonic() + timeout_s
    while (lock := try_lock(path, shared=shared)) is None:
        if time.monotonic() >= deadline:
            raise LockedError(
                f"{what} was held by another process for {timeout_s:g} s",
                hint="wait for the other command to end, or end it, and try again",
            )
        time.sleep(_POLL_S)
    try:
        yield
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Say whether another open file holds the lock; a missing file is not held.

    Asks with a shared lock, so that two who ask at once do not take each other for the holder.
    """
    try:
        # O_NONBLOCK: opening a pipe that lies there must not wait for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
