"""Looking at files outside the store through a few of their bytes, within a limit on them."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hartonomous.core.estimation import Guess, guess_from_samples, spots, steps
from hartonomous.core.record import FRAME_BYTES
from hartonomous.packs.frames import encode_frame
from hartonomous.packs.source_file import SourceFile
from hartonomous.ports.source import MemberSource

PIECE = np.dtype(
    [("file", "<u4"), ("offset", "<u8"), ("length", "<u8"), ("kind", "<u2"), ("state", "u1")]
)
"""A byte range of one file: index of the file, its class, and what was found of it so far."""
NEW, EQUAL, STORED, COMPUTED = 0, 1, 2, 3

Pieces = npt.NDArray[np.void]

_LEAST_WINDOW_BYTES = 4096
_GOOD_SAMPLES = 16


@dataclass(slots=True, kw_only=True)
class Sampler:
    """Reads samples of files and counts every byte; never over ``limit_bytes``."""

    files: list[MemberSource] = field(default_factory=list)
    limit_bytes: int
    read_bytes: int = 0
    _open: tuple[int, SourceFile] | None = None

    @property
    def left_bytes(self) -> int:
        """Bytes that may still be read."""
        return self.limit_bytes - self.read_bytes

    def open(self, index: int) -> SourceFile:
        """Return a file, open; the one before it is closed."""
        if self._open is None or self._open[0] != index:
            self.close()
            self._open = (index, SourceFile(self.files[index].location))
        return self._open[1]

    def read(self, index: int, offset: int, length: int) -> bytes:
        """Return bytes of a file; the caller has seen that the limit grants them."""
        assert length <= self.left_bytes, "more would be read than is granted"
        content = self.open(index).read(offset, length)
        self.read_bytes += length
        return content

    def fingerprint(self, index: int, offset: int, length: int, spot: int) -> tuple[bytes, ...]:
        """Return the bytes at ``core.estimation.spots`` of a range."""
        return tuple(self.read(index, offset + start, size) for start, size in spots(length, spot))

    def close(self) -> None:
        """Close the file that is open."""
        if self._open is not None:
            self._open[1].close()
            self._open = None


def fingerprint_bytes(length: int, spot: int) -> int:
    """Return how many bytes a fingerprint of something this long reads."""
    return sum(size for _, size in spots(length, spot))


def encoded_size(frame: bytes, dtype: str | None) -> int:
    """Return the stored bytes of one frame, encoded as it would be in the store."""
    return len(encode_frame(frame, None, dtype, check=False).payload)


def measure(
    sampler: Sampler,
    pieces: Pieces,
    *,
    dtype: str | None,
    share: int,
    longest: int,
    advance: Callable[[int], None],
    cost: Callable[[int, int, bytes], int | None] | None = None,
) -> Guess:
    """Estimate what pieces of one class take, reading at most ``share`` bytes of them.

    ``longest`` is the size of a frame or chunk in the store. Windows are shorter where that is
    needed to look at enough places; short windows compress a little worse, which the least width
    of the range allows for. ``cost`` tells, of a piece (its row in ``pieces``), what bytes from an
    offset on take otherwise; the smaller counts.
    """
    total = int(pieces["length"].sum())
    whole = total <= share
    window = longest
    while not whole and window > _LEAST_WINDOW_BYTES and share // window < _GOOD_SAMPLES:
        window //= 2
    wanted = _all_windows(pieces, longest) if whole else _some_windows(pieces, share, window, total)
    samples: list[tuple[int, int]] = []
    for index, offset, length, at in sorted(wanted):
        if length > sampler.left_bytes:
            break  # what others are compared with was read too
        content = sampler.read(index, offset, length)
        taken = encoded_size(content, dtype)
        otherwise = cost(at, offset - int(pieces[at]["offset"]), content) if cost else None
        samples.append((length, taken if otherwise is None else min(taken, otherwise)))
        advance(length)
    floor = 0.01 if whole else 0.03 if window >= FRAME_BYTES // 4 else 0.1
    return guess_from_samples(total, samples, floor=floor, whole=whole)


def _all_windows(pieces: Pieces, window: int) -> set[tuple[int, int, int, int]]:
    return {
        (
            int(piece["file"]),
            int(piece["offset"]) + start,
            min(window, int(piece["length"]) - start),
            at,
        )
        for at, piece in enumerate(pieces)
        for start in range(0, int(piece["length"]), window)
    }


def _some_windows(
    pieces: Pieces, share: int, window: int, total: int
) -> list[tuple[int, int, int, int]]:
    """Return windows at equal steps over the bytes of all pieces.

    A window that is met twice counts twice, as its bytes do, but is asked for only once a step.
    """
    ends = np.cumsum(pieces["length"])
    found = []
    for position in steps(total, share // window, seed=total):
        at = int(np.searchsorted(ends, position, side="right"))
        piece = pieces[at]
        length = int(piece["length"])
        inside = position - (int(ends[at]) - length)
        start = inside - inside % window
        size = min(window, length - start)
        found.append((int(piece["file"]), int(piece["offset"]) + start, size, at))
    return found
