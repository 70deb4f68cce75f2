"""Looking at files outside the store through a few of their bytes, within a limit on them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from hartonomous.core.dtype import DTYPES
from hartonomous.core.estimation import Guess, guess_from_samples, spots, steps
from hartonomous.core.record import FRAME_BYTES
from hartonomous.errors import HartonomousError
from hartonomous.packs.frames import encode_frame
from hartonomous.packs.source_file import SourceFile
from hartonomous.packs.variants import MOST_SHARE
from hartonomous.ports.source import MemberSource

PIECE = np.dtype(
    [("file", "<u4"), ("offset", "<u8"), ("length", "<u8"), ("kind", "<u2"), ("state", "u1")]
)
"""A byte range of one file: index of the file, its class, and what was found of it so far."""
NEW, EQUAL, STORED, COMPUTED = 0, 1, 2, 3

Pieces = npt.NDArray[np.void]

_LEAST_WINDOW_BYTES = 4096
_SMALLEST_WINDOW_BYTES = 1024
"""Of what is predicted, where little may be read: what a frame takes anyway is told apart."""
_LONE_WINDOW_BYTES = 32 << 10
"""Longer windows tell what a frame takes; shorter ones are also looked at together."""
_FINE_WINDOW_BYTES = 16 << 10
_MANY_SAMPLES, _GOOD_SAMPLES = 64, 16
_GOOD_SAMPLES_OF_BLOCKS = 8
"""Tensors of a class differ more than places in one, so that many windows tell more than long ones,
down to 16 KiB; below, what is packed in so little of it differs. Of quantised tensors that are
predicted what is left varies little."""


@dataclass(slots=True, kw_only=True)
class Sampler:
    """Reads samples of files and counts every byte; never over ``limit_bytes``."""

    files: list[MemberSource] = field(default_factory=list)
    limit_bytes: int
    read_bytes: int = 0
    faults: dict[int, str] = field(default_factory=dict)
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
        """Return bytes of a file; the caller has seen that the limit grants them.

        What cannot be read any more counts as zeros; ``faults`` has why, by file.
        """
        assert length <= self.left_bytes, "more would be read than is granted"
        self.read_bytes += length
        try:
            return self.open(index).read(offset, length)
        except HartonomousError as error:
            self.faults.setdefault(index, error.message)
            return bytes(length)

    def fingerprint(self, index: int, offset: int, length: int, spot: int) -> "Fingerprint":
        """Return the bytes at ``core.estimation.spots`` of a range, each read when it is needed."""
        return Fingerprint(self, index, offset, spots(length, spot))

    def close(self) -> None:
        """Close the file that is open."""
        if self._open is not None:
            self._open[1].close()
            self._open = None


class Fingerprint:
    """A few places of a range; most things differ in the first, and then no other is read."""

    def __init__(
        self, sampler: Sampler, index: int, offset: int, places: list[tuple[int, int]]
    ) -> None:
        self._sampler = sampler
        self._index = index
        self._offset = offset
        self._read: list[bytes] = []
        self.places = places

    def content(self, number: int) -> bytes:
        """Return the bytes at a place; the caller has seen that the limit grants all places."""
        while len(self._read) <= number:
            start, size = self.places[len(self._read)]
            self._read.append(self._sampler.read(self._index, self._offset + start, size))
        return self._read[number]


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
    otherwise: "Otherwise | None" = None,
) -> Guess:
    """Estimate what pieces of one class take, reading at most ``share`` bytes of them.

    ``longest`` is the size of a frame or chunk in the store. Windows are shorter where that is
    needed to look at enough places; short windows compress a little worse, which the least width
    of the range allows for. What pieces take ``otherwise`` counts for those of which it saves
    enough to be chosen.
    """
    total = int(pieces["length"].sum())
    share = int(share / (1.0 + otherwise.others)) if otherwise else share
    whole = total <= share
    window = longest
    block = DTYPES[dtype].block_bytes if dtype in DTYPES else 1
    good = (
        _GOOD_SAMPLES_OF_BLOCKS
        if otherwise and DTYPES[dtype or ""].block_elements > 1
        else _GOOD_SAMPLES
    )
    is_even = dtype is None or dtype not in DTYPES or DTYPES[dtype].block_elements == 1
    many = _MANY_SAMPLES if is_even else good
    least = _SMALLEST_WINDOW_BYTES if otherwise else _LEAST_WINDOW_BYTES
    while not whole and share // window < (many if window > _FINE_WINDOW_BYTES else good):
        if window <= least:
            break
        window //= 2
    window -= window % block if window > block else 0
    wanted = _all_windows(pieces, longest) if whole else _some_windows(pieces, share, window, total)
    seen: list[_Sample] = []
    held: list[Window] = []
    for index, offset, length, at in sorted(wanted):
        if length > sampler.left_bytes:
            break  # what others are compared with was read too
        content = sampler.read(index, offset, length)
        taken = None
        if otherwise is not None:
            frame = min(longest, int(pieces[at]["length"]))
            inside = offset - int(pieces[at]["offset"])
            taken = _cost_in_frame(otherwise.cost, at, inside, content, frame=frame, block=block)
            if taken is not None and (len(held) + 1) * window <= FRAME_BYTES:
                held.append((at, inside, content))
        seen.append(_Sample(at, length, encoded_size(content, dtype), taken))
        advance(length)
    if otherwise is not None and window < _LONE_WINDOW_BYTES:
        seen = _scaled(seen, len(held), otherwise.together(held))
    samples = _chosen(seen)
    floor = 0.01 if whole else 0.03 if window >= FRAME_BYTES // 4 else 0.1
    floor = 0.15 if otherwise is not None and window < _LEAST_WINDOW_BYTES else floor
    return guess_from_samples(total, samples, floor=floor, whole=whole)


Window = tuple[int, int, bytes]
"""A piece, by its row, where a window of it begins, and its bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Otherwise:
    """How pieces would be kept but on their own.

    ``cost(piece, offset, content)`` is what bytes of a piece from an offset on take, ``together``
    what windows take as parts of a full frame, None where that is not known. ``others`` bytes of
    the files are read for each byte of a window.
    """

    cost: Callable[[int, int, bytes], int | None]
    together: Callable[[Sequence[Window]], float | None]
    others: float = 0.0


def _scaled(seen: Sequence["_Sample"], count: int, together: float | None) -> list["_Sample"]:
    """Return samples whose first ``count`` costs add up to what these windows take together.

    Scales and differences are only packed where there are enough of them: short windows alone
    would tell two or three times what a frame takes.
    """
    known = [one.otherwise for one in seen if one.otherwise is not None]
    alone = sum(known[:count])
    if together is None or alone <= 0:
        return list(seen)
    factor = min(together / alone, 1.0)
    return [
        one if one.otherwise is None else replace(one, otherwise=one.otherwise * factor)
        for one in seen
    ]


@dataclass(frozen=True, slots=True)
class _Sample:
    """A window of a piece: its bytes, what it takes on its own, and otherwise."""

    at: int
    length: int
    alone: int
    otherwise: float | None


def _cost_in_frame(
    cost: Callable[[int, int, bytes], int | None],
    at: int,
    offset: int,
    content: bytes,
    *,
    frame: int,
    block: int,
) -> float | None:
    """Return what a window takes as a part of a frame of ``frame`` bytes.

    What each frame takes whatever its length (tables, beginnings) is told from the window's first
    half, and counts by the window's share of the frame.
    """
    taken = cost(at, offset, content)
    half = len(content) // 2 // block * block
    if taken is None or len(content) >= frame or not half:
        return taken
    of_half = cost(at, offset, content[:half])
    if of_half is None:
        return taken
    a_byte = max(taken - of_half, 0) / (len(content) - half)
    fixed = max(taken - a_byte * len(content), 0.0)
    return a_byte * len(content) + fixed * len(content) / frame


def _chosen(seen: Sequence[_Sample]) -> list[tuple[int, int]]:
    """Return (bytes, stored bytes) of samples, of each piece by the way that would be chosen."""
    sums: dict[int, tuple[float, float]] = {}
    for one in seen:
        alone, otherwise = sums.get(one.at, (0.0, 0.0))
        best = one.alone if one.otherwise is None else one.otherwise
        sums[one.at] = alone + one.alone, otherwise + best
    built = {at for at, (alone, otherwise) in sums.items() if otherwise < MOST_SHARE * alone}
    return [
        (
            one.length,
            one.alone if one.otherwise is None or one.at not in built else round(one.otherwise),
        )
        for one in seen
    ]


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
