"""Writing stored files out: decoded and written by threads, hashed in order.

Each thread decodes a piece into a buffer that is used again and again, and writes it; the calling
thread hashes the buffers in the file's order. What lies raw in a pack is hashed and written from
the pack's mapping, without a copy.
"""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol

from hartonomous.core.closing import Closing
from hartonomous.core.digest import Bytes
from hartonomous.core.record import FRAME_BYTES
from hartonomous.packs.freed_memory import keep_freed_memory
from hartonomous.ports.progress import Progress

PIECE_BYTES = 8 * FRAME_BYTES
_IN_FLIGHT_BYTES = 64 * 1024 * 1024


class Hasher(Protocol):
    """What is fed every byte that is written."""

    def update(self, piece: Bytes) -> None:
        """Take the next piece."""
        ...


class Readable(Protocol):
    """What is written: ``packs.files.FileReader``, or something like it."""

    @property
    def size(self) -> int:
        """Bytes in all."""
        ...

    def pieces(
        self, offset: int = 0, length: int | None = None, size: int = PIECE_BYTES
    ) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) of pieces of at most ``size`` bytes."""
        ...

    def raw_view(self, offset: int, length: int) -> memoryview | None:
        """Return a checked view where the bytes lie as they are."""
        ...

    def decode_into(self, out: memoryview, start: int = 0) -> None:
        """Fill ``out`` with the bytes from ``start``."""
        ...


@dataclass(slots=True)
class _Piece:
    """A piece at work: the future gives its bytes once they are decoded and written."""

    buffer: memoryview
    done: Future[memoryview]


class FileWriter(Closing):
    """Threads and buffers for writing files, one after the other; use it as a context manager.

    Buffers of 2 MiB, two more than threads, are all the memory that it takes; never over 64 MiB.
    """

    def __init__(self, workers: int) -> None:
        keep_freed_memory()
        self._pool = ThreadPoolExecutor(workers, "decode")
        self._buffer_count = min(workers + 2, _IN_FLIGHT_BYTES // PIECE_BYTES)
        self._free: list[memoryview] = []

    def close(self) -> None:
        """Wait for what is being written, and end the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def write(
        self, descriptor: int, file: Readable, hasher: Hasher, progress: Progress, *, start: int = 0
    ) -> None:
        """Write the file's bytes from ``start`` on to the same places of ``descriptor``.

        Raises OSError, IntegrityError; some of the pieces may be written then, with gaps.
        """
        # Threads get a descriptor of their own: should this be interrupted while one of them still
        # writes, the number must not come to mean another file.
        own = os.dup(descriptor)
        waiting: deque[_Piece] = deque()
        try:
            for at, length in file.pieces(start, size=PIECE_BYTES):
                if len(waiting) == self._buffer_count:
                    self._finish(waiting.popleft(), hasher, progress)
                buffer = self._free.pop() if self._free else memoryview(bytearray(PIECE_BYTES))
                done = self._pool.submit(write_piece, own, file, at, buffer[:length])
                waiting.append(_Piece(buffer, done))
            while waiting:
                self._finish(waiting.popleft(), hasher, progress)
        finally:
            for piece in waiting:
                piece.done.cancel()
            wait([piece.done for piece in waiting])
            os.close(own)

    def _finish(self, piece: _Piece, hasher: Hasher, progress: Progress) -> None:
        content = piece.done.result()
        hasher.update(content)
        self._free.append(piece.buffer)
        progress.advance(len(content))


def write_piece(descriptor: int, file: Readable, at: int, buffer: memoryview) -> memoryview:
    """Write the bytes at ``at``, as many as ``buffer`` has, and return them; raises OSError.

    They are in ``buffer`` then, or in a pack's mapping.
    """
    content = file.raw_view(at, len(buffer))
    if content is None:
        content = buffer
        file.decode_into(content, at)
    left = content
    while left:
        left = left[os.pwrite(descriptor, left, at + len(content) - len(left)) :]
    return content
