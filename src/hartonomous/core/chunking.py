"""Content-defined chunking (FastCDC): equal runs of bytes get equal cuts, wherever they lie.

Used for files without a structure that we read. Cuts depend on bytes alone; they decide what is
found to be equal, never what is kept, so any cutting restores. All the same they are fixed: other
cuts would find nothing equal in older stores. The rule, version 1:

- ``gear[b]`` = the first 4 bytes, little-endian, of BLAKE3(``"hartonomous chunking 1"`` followed
  by the byte ``b``), for each of the 256 bytes.
- The hash at position ``i`` of the stream is the sum over ``j = 0 … 31`` of
  ``gear[byte[i - j]] << j``, modulo 2^32: it sees the 32 bytes that end at ``i``.
- A chunk that begins at ``s`` ends with the first position ``i`` of length ``n = i - s + 1`` for
  which ``16 KiB <= n < 64 KiB`` and hash < 2^14, or ``64 KiB <= n < 256 KiB`` and hash < 2^18,
  or ``n = 256 KiB``, or the stream ends.

So the hash is all zero in its upper 18 bits below the normal size and in its upper 14 above
(normalised chunking, level 2: Xia et al., FastCDC, USENIX ATC 2016). Whatever the bytes, a chunk
has its windows inside itself, because 32 is less than the least length.

Windows are summed by doubling, ``H_2k[i] = H_k[i] + (H_k[i - k] << k)``, in numpy, one stretch of
16 Ki positions at a time; the first 16 KiB of each chunk are never hashed.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from hartonomous.core.digest import Bytes, digest

MIN_BYTES = 16 * 1024
NORMAL_BYTES = 64 * 1024
MAX_BYTES = 256 * 1024
WINDOW_BYTES = 32
STRICT_BELOW = 1 << 14
LOOSE_BELOW = 1 << 18

_SEED = b"hartonomous chunking 1"
# Not more than MIN_BYTES: after a cut in a stretch the next position of interest is beyond it.
_STRETCH = MIN_BYTES
_OVERLAP = WINDOW_BYTES - 1


def gear_table() -> npt.NDArray[np.uint32]:
    """Return the 256 constants of the hash."""
    names = (digest(_SEED + bytes([byte]))[:4] for byte in range(256))
    return np.frombuffer(b"".join(names), "<u4").astype(np.uint32)


_GEAR = gear_table()


class Chunker:
    """Cuts one stream, fed in blocks of any sizes; the cuts do not depend on the blocks.

    Keeps 31 bytes of the stream and some 130 KB of work space. Positions are counted from the
    beginning of the stream.
    """

    __slots__ = ("_end", "_hashes", "_scanned", "_shifted", "_start", "_tail")

    def __init__(self) -> None:
        self._start = 0  # of the current chunk
        self._scanned = 0  # positions before this one are no cuts
        self._end = 0  # bytes fed
        self._tail = np.empty(0, np.uint8)  # the last bytes fed, up to 31
        self._hashes = np.empty(_STRETCH + _OVERLAP, np.uint32)
        self._shifted = np.empty(_STRETCH + _OVERLAP, np.uint32)

    def feed(self, block: Bytes) -> list[int]:
        """Take the next bytes; return the lengths of the chunks that are now complete."""
        fresh = np.frombuffer(block, np.uint8)
        first = self._end - len(self._tail)
        # The few windows that reach back into earlier blocks are hashed from a small copy.
        seam = np.concatenate((self._tail, fresh[:_OVERLAP]))
        self._end += len(fresh)
        cuts = self._scan(seam, first, min(self._end, first + len(seam)))
        cuts += self._scan(fresh, self._end - len(fresh), self._end)
        self._tail = (fresh if len(fresh) >= _OVERLAP else seam)[-_OVERLAP:].copy()
        return cuts

    def finish(self) -> list[int]:
        """End the stream; return the length of its last chunk, or nothing."""
        rest = self._end - self._start
        self._start = self._end
        return [rest] if rest else []

    def _scan(self, content: npt.NDArray[np.uint8], first: int, end: int) -> list[int]:
        """Return the cuts from ``_scanned`` to ``end``; ``content`` begins at ``first``."""
        cuts: list[int] = []
        while True:
            start = self._start
            low = max(self._scanned, start + MIN_BYTES - 1)
            last = start + MAX_BYTES - 1
            if low >= end:
                return cuts
            if low == last:
                cut: int | None = last
            else:
                strict = start + NORMAL_BYTES - 1
                high = min(end, low + _STRETCH, strict if low < strict else last)
                limit = STRICT_BELOW if low < strict else LOOSE_BELOW
                cut = self._first_below(limit, content[low - _OVERLAP - first : high - first], low)
                self._scanned = high
            if cut is not None:
                cuts.append(cut + 1 - start)
                self._start = self._scanned = cut + 1

    def _first_below(self, limit: int, content: npt.NDArray[np.uint8], position: int) -> int | None:
        """Return the first position whose hash is under ``limit``.

        ``content`` begins 31 bytes before ``position``.
        """
        count = len(content)
        hashes, shifted = self._hashes[:count], self._shifted[:count]
        np.take(_GEAR, content, out=hashes, mode="clip")
        width = 1
        while width < WINDOW_BYTES:
            np.left_shift(hashes[:-width], width, out=shifted[:-width])
            hashes[width:] += shifted[:-width]
            width *= 2
        below = hashes[_OVERLAP:] < limit
        found = int(below.argmax())
        return position + found if below[found] else None


def cut_lengths(blocks: Iterable[Bytes]) -> Iterator[int]:
    """Yield the lengths of the chunks of a stream that comes in blocks; they add up to it."""
    chunker = Chunker()
    for block in blocks:
        yield from chunker.feed(block)
    yield from chunker.finish()
