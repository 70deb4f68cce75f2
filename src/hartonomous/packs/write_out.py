"""Writing a stored file out: decoded ahead on a pool, hashed and written in order."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from hartonomous.core.digest import Bytes
from hartonomous.packs.files import CHUNK_BYTES, FileReader
from hartonomous.ports.progress import Progress

_CHUNKS_IN_FLIGHT = 4


class Hasher(Protocol):
    """What is fed every byte that is written."""

    def update(self, piece: Bytes) -> None:
        """Take the next piece."""
        ...


def write_file(
    descriptor: int,
    pool: ThreadPoolExecutor,
    file: FileReader,
    hasher: Hasher,
    progress: Progress,
    *,
    start: int = 0,
) -> None:
    """Write the file's bytes from ``start`` to the same place of ``descriptor``; raises OSError.

    At most four pieces of 4 MiB are in memory.
    """
    starts = range(start, file.size, CHUNK_BYTES)  # no list: a hostile size would fill memory
    waiting = [
        pool.submit(file.read, at, min(CHUNK_BYTES, file.size - at))
        for at in starts[:_CHUNKS_IN_FLIGHT]
    ]
    for index, at in enumerate(starts):
        piece = waiting.pop(0).result()
        following = index + _CHUNKS_IN_FLIGHT
        if following < len(starts):
            ahead = starts[following]
            waiting.append(pool.submit(file.read, ahead, min(CHUNK_BYTES, file.size - ahead)))
        hasher.update(piece)
        view = memoryview(piece)
        while view:
            written = os.pwrite(descriptor, view, at + len(piece) - len(view))
            view = view[written:]
        progress.advance(len(piece))
