"""A file that is written past the page cache, where its file system allows that.

What is restored is written once and synced before it gets its name, so that the page cache saves
nothing: it costs a copy into pages that must be found and cleared first, and pushes out what other
programs keep there. Only whole blocks can go past it, from memory that lies as the file does; the
edges of a piece go the ordinary way (open(2), O_DIRECT).
"""

import errno
import mmap
import os

from hartonomous.core.closing import Closing

BLOCK_BYTES = 4096
"""What offsets, lengths and memory are multiples of: no disk asks for more."""

_LEAST_BYTES = 256 * 1024  # what is shorter is not worth waiting for the disk


def aligned_memory(length: int) -> memoryview:
    """Return writable memory of ``length`` bytes that begins at a block's start."""
    return memoryview(mmap.mmap(-1, length))


class DirectFile(Closing):
    """Writes to the file of ``descriptor``, which stays open; several threads may write at once.

    With ``cached`` everything goes through the page cache, for what is read at once.
    """

    def __init__(self, descriptor: int, *, cached: bool = False) -> None:
        # A descriptor of its own: should a get be interrupted while a thread still writes, the
        # number must not come to mean another file.
        self._plain = os.dup(descriptor)
        self._direct = None if cached else _past_the_cache(descriptor)

    def close(self) -> None:
        """Close what it opened; nothing is synced."""
        os.close(self._plain)
        if self._direct is not None:
            os.close(self._direct)

    def write(self, content: memoryview, at: int) -> None:
        """Write all of ``content`` to offset ``at``; raises OSError.

        Its memory should lie as far behind a block's start as ``at`` does in the file: else it
        goes through the page cache.
        """
        head = min(-at % BLOCK_BYTES, len(content))
        whole = (len(content) - head) // BLOCK_BYTES * BLOCK_BYTES
        if self._direct is None or whole < _LEAST_BYTES:
            _write_all(self._plain, content, at)
            return
        _write_all(self._plain, content[:head], at)
        done = head + _write_blocks(self._direct, content[head : head + whole], at + head)
        _write_all(self._plain, content[done:], at + done)


def _past_the_cache(descriptor: int) -> int | None:
    """Open the same file once more; None where system or file system know no such way."""
    flag = getattr(os, "O_DIRECT", 0)
    if not flag:
        return None
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_CLOEXEC | flag)
    except OSError:
        return None


def _write_blocks(descriptor: int, content: memoryview, at: int) -> int:
    """Write as many whole blocks as the file system takes, and return their bytes."""
    done = 0
    while done < len(content) and done % BLOCK_BYTES == 0:
        try:
            done += os.pwrite(descriptor, content[done:], at + done)
        except OSError as error:
            if error.errno != errno.EINVAL:  # what it says of memory or offsets that it refuses
                raise
            break
    return done


def _write_all(descriptor: int, content: memoryview, at: int) -> None:
    done = 0
    while done < len(content):
        done += os.pwrite(descriptor, content[done:], at + done)
