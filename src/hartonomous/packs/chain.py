"""The way down to a base: which atoms need what is read, and what it may still cost.

Reading a base may need bases of its own, up to eight at each of eight levels. Nobody who writes for
a use makes that; a file made to harm could have one frame ask for millions. So all that is read for
one run of frames counts, whatever caches hold, and ends at a limit.
"""

from collections.abc import Iterator

from hartonomous.core.record import FRAME_BYTES
from hartonomous.errors import IntegrityError
from hartonomous.packs.bounded_cache import FrameCache

MAX_CHAIN = 8
"""Bases below bases that are followed at most; see ``catalog.bases.MAX_DEPTH``."""
MOST_READS = 2048
"""Ranges of bases that one run of frames may need, on all levels together."""
MOST_READ_BYTES = 2 << 30
"""Their bytes, each counted as a frame more: a part of a frame costs the whole."""
_KEPT_BYTES = 32 << 20


class Budget:
    """What one run of frames has read of bases, and the frames among them that may be met again."""

    __slots__ = ("_frames", "most_bytes", "most_reads", "read_bytes", "reads")

    def __init__(self, *, most_reads: int | None = None, most_bytes: int | None = None) -> None:
        self.most_reads = MOST_READS if most_reads is None else most_reads
        self.most_bytes = MOST_READ_BYTES if most_bytes is None else most_bytes
        self.reads = 0
        self.read_bytes = 0
        self._frames: FrameCache | None = None

    @property
    def frames(self) -> FrameCache:
        """Where a reader without a cache keeps frames for the length of one run."""
        if self._frames is None:
            self._frames = FrameCache(_KEPT_BYTES)
        return self._frames

    @property
    def is_spent(self) -> bool:
        """Whether more was read than may be."""
        return self.reads > self.most_reads or self.read_bytes > self.most_bytes

    def spend(self, size_bytes: int) -> None:
        """Count a range of a base."""
        self.reads += 1
        self.read_bytes += size_bytes + FRAME_BYTES


class Chain:
    """The digests of the atoms that need what is read, the outermost first."""

    __slots__ = ("budget", "names")

    def __init__(self, names: tuple[bytes, ...] = (), budget: Budget | None = None) -> None:
        self.names = names
        self.budget = budget

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def below(self, name: bytes) -> "Chain":
        """Return the chain of what ``name`` needs; the first of them opens a budget."""
        return Chain((*self.names, name), Budget() if self.budget is None else self.budget)

    def spend(self, size_bytes: int) -> None:
        """Count a range of a base; raises IntegrityError over the limit."""
        if self.budget is None:
            return
        self.budget.spend(size_bytes)
        if self.budget.is_spent:
            raise IntegrityError(
                f"atom blake3:{self.names[0].hex()} needs more of other atoms than is read for"
                f" one part of it ({self.budget.reads:,} ranges,"
                f" {self.budget.read_bytes >> 20:,} MiB)",
                hint="no program that keeps to docs/limits.md writes such atoms; do not trust"
                " where they came from",
            )


NOBODY = Chain()
"""Of what is read for its own sake."""
