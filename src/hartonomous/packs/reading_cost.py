"""What reading an atom would cost with nothing in any cache, from records alone.

A reader refuses what needs too much of other atoms for one part of it (``packs.chain``). So that no
writer makes such, a plan upon atoms that have bases themselves is walked down first.
"""

from collections.abc import Iterator

from hartonomous.core import plan as plans
from hartonomous.core.record import FRAME_BYTES, RecordHeader
from hartonomous.errors import HartonomousError
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.chain import MAX_CHAIN, MOST_READ_BYTES, MOST_READS, Budget
from hartonomous.packs.predicted_frames import TOGETHER
from hartonomous.packs.predictions import Variant, variant_of

WRITTEN_READS = MOST_READS // 4
WRITTEN_READ_BYTES = MOST_READ_BYTES // 2
"""What a writer allows: less than a reader, for runs of frames that lie otherwise."""

_RUN_BYTES = TOGETHER * FRAME_BYTES


class ReadingCost:
    """Walks down the plans of one store's atoms."""

    def __init__(self, reader: AtomReader) -> None:
        self._reader = reader

    def is_bounded(self, variant: Variant) -> bool:
        """Say whether a run of frames in the middle may be kept so; False if a record is bad."""
        budget = Budget(most_reads=WRITTEN_READS, most_bytes=WRITTEN_READ_BYTES)
        known: dict[bytes, list[tuple[RecordHeader, Variant | None]]] = {}
        size = plans.target_bytes(variant.plan)
        position = size // 2 // FRAME_BYTES * FRAME_BYTES
        stop = min(size, position + _RUN_BYTES)
        try:
            self._walk(variant, position, stop, budget, known, MAX_CHAIN)
        except HartonomousError:
            return False
        return not budget.is_spent

    def _walk(  # noqa: PLR0917 - what is wanted, and what is known on the way
        self, variant: Variant, start: int, stop: int, budget: Budget,
        known: dict[bytes, list[tuple[RecordHeader, Variant | None]]], levels: int,
    ) -> None:  # fmt: skip
        for window in plans.windows(variant.plan, start, stop):
            size = window.stop - window.start
            if not size or budget.is_spent:
                continue
            budget.spend(size)
            name = variant.bases[window.operand]
            if name not in known:
                known[name] = list(self._records(name))
            for header, below in known[name]:
                if below is None or not levels:
                    continue
                low = max(window.start, header.position)
                high = min(window.stop, header.position + header.length)
                first = header.position + (low - header.position) // FRAME_BYTES * FRAME_BYTES
                for at in range(first, high, _RUN_BYTES):
                    end = min(at + _RUN_BYTES, header.position + header.length)
                    self._walk(below, at, end, budget, known, levels - 1)

    def _records(self, name: bytes) -> Iterator[tuple[RecordHeader, Variant | None]]:
        for place in self._reader.locate([name]).get(name, []):
            _, header = self._reader.record(place.pack_key, place.header_offset)
            yield header, variant_of(header) if header.bases else None
