"""The lock that a writing session holds while it lives: a collection asks for it."""

import os

from hartonomous import locks
from hartonomous.errors import HartonomousError, LockedError
from hartonomous.packs.parts import StoreParts

_KEY_ATTEMPTS = 100


def new_writer(parts: StoreParts) -> tuple[bytes, locks.FileLock]:
    """Take the lock of a new key; a collection may be looking at the fresh file just then."""
    for _ in range(_KEY_ATTEMPTS):
        key = os.urandom(16)
        lock = locks.try_lock(parts.writer_lock(key))
        if lock is not None:
            return key, lock
    raise LockedError("the locks of new writers are all held by somebody else")


def give_back(lock: locks.FileLock, error: BaseException) -> None:
    """Give a lock back after an error, which says more than that its file cannot be removed."""
    try:
        lock.release(remove=True)
    except HartonomousError as second:
        error.add_note(second.message)
