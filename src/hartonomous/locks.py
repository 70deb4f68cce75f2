"""Locks between processes of one machine: whole-file locks that the kernel drops with the process.

A lock file has no content; only whether somebody holds it counts. `flock` locks belong to the open
file, so threads of one process exclude each other too. Who holds one is asked of the kernel
(/proc/locks), and its file's time is when it was taken.
"""

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hartonomous.errors import HartonomousError, LockedError, StorageFullError

_POLL_S = 0.02
TOLD_AFTER_S = 2.0
"""Who waits for so long is told what for."""
NO_LOCKS = frozenset({errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL})
"""What file systems without locks say."""

_listeners: list[Callable[[str], None]] = []


class FileLock:
    """One held lock; ``release`` (or the end of the process) gives it back.

    A process that is forked meanwhile has the open file too. It does not keep the lock when the one
    that took it gives it back, nor can it give it back itself.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor
        self._owner = os.getpid()

    def release(self, *, remove: bool = False, leave_to_forked: bool = False) -> None:
        """Give the lock back; ``remove`` deletes the file first, while it is still held.

        With ``leave_to_forked``, processes that were forked meanwhile hold it until they end.
        Raises HartonomousError when the file cannot be deleted, or its file system fails; the lock
        is given back anyway.
        """
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        try:
            if remove and self._owner == os.getpid():
                self._path.unlink(missing_ok=True)
        except OSError as error:
            raise _disk_error(error, "remove", self._path) from error
        finally:
            try:
                if self._owner == os.getpid() and not leave_to_forked:
                    # Closing alone would leave it to those forked, such as a loader of data.
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
            except OSError as error:
                raise _disk_error(error, "give back", self._path) from error
            finally:
                os.close(descriptor)


def try_lock(path: Path, *, shared: bool = False, readable: bool = False) -> FileLock | None:
    """Take the lock without waiting; None if somebody else holds it against us.

    Raises StorageFullError or HartonomousError where the disk lets no lock file be or knows no
    locks, and where one that lies there may not be written; with ``readable`` it is enough that it
    can be read.
    """
    access = os.O_RDONLY if readable else os.O_RDWR
    while True:
        try:
            descriptor = os.open(path, access | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise _disk_error(error, "make", path) from error
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, descriptor)
            try:
                mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
                fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
                # The former holder may have removed the file between our open and our lock.
                if _is_current(path, descriptor):
                    undo.pop_all()
                    return FileLock(path, descriptor)
            except BlockingIOError:
                return None
            except OSError as error:
                raise _disk_error(error, "take", path) from error


def _disk_error(error: OSError, action: str, path: Path) -> HartonomousError:
    said = f"cannot {action} the lock file {path}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFullError(said, hint="free some space, then run the same command again")
    hint = "check the permissions of the store's directory"
    if error.errno == errno.EIO:
        hint = "the disk reports an input/output error: check its health and the system log"
    elif error.errno in NO_LOCKS:
        hint = "its file system has no locks: keep the store on a local disk"
    return HartonomousError(said, hint=hint)


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
    waiting = Waiting(what, lambda: holder(path))
    deadline = time.monotonic() + timeout_s
    while (lock := try_lock(path, shared=shared)) is None:
        if time.monotonic() >= deadline:
            raise LockedError(
                f"{what} was held by {holder(path)} for {timeout_s:g} s",
                hint="wait for the other command to end, or end it, and try again",
            )
        waiting.tell_in_time()
        time.sleep(_POLL_S)
    try:
        with contextlib.suppress(OSError):  # it is for people: see ``holder``
            os.utime(path)
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def telling(listener: Callable[[str], None]) -> Iterator[None]:
    """Tell ``listener`` of long waits for the time of a block; the newest listener is told.

    The line names what is waited for and, where it is known, who holds it.
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class Waiting:
    """A wait for ``what``, which is told once when it has become long."""

    def __init__(self, what: str, holder: Callable[[], str]) -> None:
        self._what = what
        self._holder = holder
        self._told_at: float | None = time.monotonic() + TOLD_AFTER_S

    def tell_in_time(self) -> None:
        """Tell of the wait if it is long and nobody was told yet; called again and again."""
        if self._told_at is None or time.monotonic() < self._told_at:
            return
        self._told_at = None
        if _listeners:
            _listeners[-1](f"waiting for {self._what}, held by {self._holder()}")


def holder(path: Path) -> str:
    """Return who holds a lock, such as ``process 71 (hart) on box since 08:30:00Z``.

    Processes of another container are not seen; then it is just another process.
    """
    try:
        status = path.stat()
        numbers = _holding_processes(status)
    except OSError:
        return "another process"
    if not numbers:
        return "another process"
    names = ", ".join(f"{number} ({_process_name(number)})" for number in numbers)
    word = "process" if len(numbers) == 1 else "processes"
    since = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(status.st_mtime))
    return f"{word} {names} on {socket.gethostname()} since {since}"


def _holding_processes(status: os.stat_result) -> list[int]:
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    wanted = f"{device}:{status.st_ino}"
    found = set()
    for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
        # "1: FLOCK  ADVISORY  WRITE 71 08:01:1234 0 EOF"; one that waits has "->" after the number.
        words = line.split()
        if len(words) >= 6 and words[1] == "FLOCK" and words[5] == wanted and int(words[4]) > 0:
            found.add(int(words[4]))
    return sorted(found)


def _process_name(number: int) -> str:
    try:
        words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "ended"
    shown = b" ".join(word.rpartition(b"/")[2] for word in words[:4] if word)
    return shown.decode(errors="replace")[:60] or "no command line"


def is_held(path: Path) -> bool:
    """Say whether another open file holds the lock; a missing file is not held.

    Asks with a shared lock, so that two who ask at once do not take each other for the holder.
    Raises HartonomousError where that cannot be told.
    """
    try:
        # O_NONBLOCK: opening a pipe that lies there must not wait for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _disk_error(error, "look at", path) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        raise _disk_error(error, "look at", path) from error
    finally:
        os.close(descriptor)
    return False
