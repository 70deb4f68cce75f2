"""Writing stored files out: decoded and written by threads, hashed in order.

Each thread decodes a piece into a buffer that is used again and again, and writes it; the calling
thread hashes the buffers in the file's order.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol

from hartonomous.core.closing import Closing
from hartonomous.core.digest import Bytes
from hartonomous.core.record import FRAME_BYTES
from hartonomous.packs.direct_file import BLOCK_BYTES, DirectFile, aligned_memory
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
    With ``cached`` the files are left in the page cache, for a program that reads them next.
    """

    def __init__(self, workers: int, *, cached: bool = False) -> None:
        keep_freed_memory()
        self._pool = ThreadPoolExecutor(workers, "decode")
        self._buffer_count = min(workers + 2, _IN_FLIGHT_BYTES // PIECE_BYTES)
        self._free: list[memoryview] = []
        self._cached = cached

    def close(self) -> None:
        """Wait for what is being written, and end the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def write(
        self, descriptor: int, file: Readable, hasher: Hasher, progress: Progress, *, start: int = 0
    ) -> None:
        """Write the file's bytes from ``start`` on to the same places of ``descriptor``.

        Raises OSError, IntegrityError; some of the pieces may be written then, with gaps.
        """
        target = DirectFile(descriptor, cached=self._cached)
        waiting: deque[_Piece] = deque()
        try:
            for at, length in file.pieces(start, size=PIECE_BYTES):
                if len(waiting) == self._buffer_count:
                    self._finish(waiting.popleft(), hasher, progress)
                buffer = self._free.pop() if self._free else piece_memory()
                done = self._pool.submit(write_piece, target, file, at, length, buffer)
                waiting.append(_Piece(buffer, done))
            while waiting:
                self._finish(waiting.popleft(), hasher, progress)
        finally:
            for piece in waiting:
                piece.done.cancel()
            wait([piece.done for piece in waiting])
            target.close()

    def _finish(self, piece: _Piece, hasher: Hasher, progress: Progress) -> None:
        content = piece.done.result()
        hasher.update(content)
        self._free.append(piece.buffer)
        progress.advance(len(content))


def piece_memory() -> memoryview:
    """Return a buffer for one piece, wherever in a block it begins."""
    return aligned_memory(PIECE_BYTES + BLOCK_BYTES)


def write_piece(
    target: DirectFile, file: Readable, at: int, length: int, buffer: memoryview
) -> memoryview:
    """Write ``length`` bytes from ``at``, and return them; raises OSError, IntegrityError.

    They are in ``buffer`` then, as far behind a block's start as in the file.
    """
    begin = at % BLOCK_BYTES
    content = buffer[begin : begin + length]
    raw = file.raw_view(at, length)
    if raw is None:
        file.decode_into(content, at)
    else:
        content[:] = raw
    target.write(content, at)
    return content
