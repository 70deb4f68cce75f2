"""Which new tensors are kept as what differs from stored ones.

Base search finds what a tensor resembles, proposals say how it might be computed from that, and a
sample of its frames says what would be left. Only where that is well under what the tensor takes on
its own is it built on others: reading it then needs them too. Whatever is chosen, the bytes come
back; a bad choice only takes more room.
"""

from collections.abc import Callable, Sequence

import msgspec

from hartonomous.catalog import atoms, bases
from hartonomous.codecs.choice import best, measure, spread
from hartonomous.core import plan as plans
from hartonomous.core.dtype import DTYPES
from hartonomous.core.plan import Plan
from hartonomous.core.record import FRAME_BYTES
from hartonomous.packs.adapter_factors import AdapterFactors
from hartonomous.packs.base_search import BaseSearch, Candidate, SketchSamples, TensorQuery
from hartonomous.packs.frames import BaseReadError, FrameWork, encode_predicted
from hartonomous.packs.plan_proposals import Proposal, propose
from hartonomous.packs.predictions import Variant
from hartonomous.packs.session import WriteSession

LEAST_ELEMENTS = 2048
"""Of smaller tensors the record alone would take what could be saved."""
MOST_SHARE = 0.8
"""A tensor is built on others if that takes less than this share of what it takes on its own."""
NOTHING_SHARE = 0.001


class Chosen(msgspec.Struct, frozen=True):
    """How a tensor is to be kept: its plan and bases, and what a sample says it will take."""

    plan: Plan
    bases: tuple[bytes, ...]
    stored_bytes: int


class VariantChoice:
    """Chooses for one writing session; the bases that it chooses are held by the session.

    ``note`` is told of bases that cannot be read.
    """

    def __init__(self, session: WriteSession, note: Callable[[str], None]) -> None:
        self._session = session
        self._parts = session.parts
        self._note = note
        self._search = BaseSearch(session.parts.database, depths=bases.depths)
        self._factors = AdapterFactors(session.parts.database, session.bases)

    def choose(
        self, query: TensorQuery, name: bytes, size: int, frames: Sequence[memoryview]
    ) -> Chosen | None:
        """Return how a new tensor is best built on stored ones, None if it is not worth it.

        ``frames`` are its frames of 256 KiB, each made when it is asked for; ``name`` is the digest
        of its ``size`` bytes.
        """
        if not self._may(query):
            return None
        found = self._search.candidates(query, max_depth=self._parts.max_depth - 1)
        proposals = self._propose(query, found)
        if not proposals or self._is_damaged(name):
            return None
        held = self._session.hold({base for one in proposals for base in one.bases})
        indexes = spread(len(frames))
        sample = [(index * FRAME_BYTES, frames[index]) for index in indexes]
        whole = sum(frame.nbytes for _, frame in sample)
        best = self._best(proposals, held, name, sample)
        if best is None:
            return None
        taken, one = best
        if taken >= MOST_SHARE * whole or taken >= MOST_SHARE * _alone(frames, query, taken):
            return None
        return Chosen(one.plan, one.bases, size * taken // whole)

    def _propose(self, query: TensorQuery, found: Sequence[Candidate]) -> list[Proposal]:
        if not found:
            return []
        return propose(
            query, found, SketchSamples(), factors=lambda: self._factors.of(query),
        )  # fmt: skip

    def _best(
        self,
        proposals: Sequence[Proposal],
        held: set[bytes],
        name: bytes,
        sample: Sequence[tuple[int, memoryview]],
    ) -> tuple[int, Proposal] | None:
        """Return what takes least of the sample, the first of equals.

        What leaves next to nothing ends the search: no other can save more than that.
        """
        whole = sum(frame.nbytes for _, frame in sample)
        best: tuple[int, Proposal] | None = None
        for one in proposals:
            taken = self._measure(one, name, sample) if held.issuperset(one.bases) else None
            if taken is None or (best is not None and taken >= best[0]):
                continue
            best = taken, one
            if taken <= NOTHING_SHARE * whole:
                break
        return best

    def _may(self, query: TensorQuery) -> bool:
        known = DTYPES.get(query.dtype)
        enough = known is not None and query.count >= LEAST_ELEMENTS
        return enough and self._parts.variants and self._parts.max_depth > 0

    def _is_damaged(self, name: bytes) -> bool:
        """Say whether the tensor is stored and was found damaged: others may be built on it."""
        with self._parts.database.read() as tx:
            return name in atoms.find(tx, [name])

    def _measure(
        self, proposal: Proposal, name: bytes, sample: Sequence[tuple[int, memoryview]]
    ) -> int | None:
        """Return what the sample takes; None if a base cannot be read or takes too much memory."""
        variant = Variant(proposal.plan, proposal.bases)
        taken = 0
        for position, frame in sample:
            windows = plans.windows(variant.plan, position, position + frame.nbytes)
            if sum(one.stop - one.start for one in windows) > self._parts.operands.limit_bytes:
                return None
            work = FrameWork(frame, None, None, None, position, variant, name)
            try:
                ((_, payload),) = encode_predicted([work], self._session.bases, check=False)
            except BaseReadError as error:
                self._note(f"a tensor is not built on blake3:{variant.bases[0].hex()}: {error}")
                return None
            taken += frame.nbytes if payload is None else len(payload)
        return taken


def _alone(frames: Sequence[memoryview], query: TensorQuery, taken: int) -> int:
    """Return what the sample takes without bases; not looked at where nothing is left to take."""
    if not taken:
        return 1
    sizes = measure(frames, query.dtype)
    return sizes[best(sizes)]
