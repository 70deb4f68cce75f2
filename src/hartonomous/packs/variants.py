"""Which new tensors are kept as what differs from stored ones.

Base search finds what a tensor resembles, proposals say how it might be computed from that, and a
sample of its frames says what would be left. Only where that is well under what the tensor takes on
its own is it built on others: reading it then needs them too. Whatever is chosen, the bytes come
back; a bad choice only takes more room.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import msgspec

from hartonomous.catalog import atoms, bases
from hartonomous.codecs.choice import best, measure, spread
from hartonomous.core import plan as plans
from hartonomous.core.dtype import DTYPES
from hartonomous.core.plan import Plan
from hartonomous.core.record import FRAME_BYTES, Encoding
from hartonomous.errors import HartonomousError
from hartonomous.packs.adapter_factors import AdapterFactors
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.base_search import BaseSearch, Candidate, SketchSamples, TensorQuery
from hartonomous.packs.exact_plans import ExactPlans
from hartonomous.packs.first_look import FirstLook
from hartonomous.packs.frames import BaseReadError, FrameWork, encode_predicted
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.plan_proposals import MOST_PROPOSALS, Proposal, propose, rounds_to
from hartonomous.packs.predictions import BaseCircleError, Variant
from hartonomous.packs.reading_cost import ReadingCost
from hartonomous.packs.sign_table import SignTable

LEAST_ELEMENTS = 2048
"""Of smaller tensors the record alone would take what could be saved."""
MOST_SHARE = 0.8
"""A tensor is built on others if that takes less than this share of what it takes on its own."""
NOTHING_SHARE = 0.001
"""What leaves so little of a sample ends the search: no other way can save more than that."""
DEEPER = 1.1
"""A base that lies one deeper must save so much more: what is built on it has less room above."""
ROUNDED_TOO = 1.15
"""A tensor is kept without its rounded copy if that takes less than this times what both take."""
_WORSE_BITS = 0.25
_MOST_LOOKED_AT = 16
"""Candidates: an adapter's base may be no nearer to what it was merged into than fine-tunes are."""
_NEVER = 1 << 16
"""A depth that no search allows."""


def _any(_atom_id: int) -> bool:
    return True


class Chosen(msgspec.Struct, frozen=True):
    """How a tensor is to be kept: its plan and bases, and what a sample says it will take."""

    plan: Plan
    bases: tuple[bytes, ...]
    stored_bytes: int


class Holder(Protocol):
    """Who needs bases: a writing session, or somebody who only looks."""

    @property
    def parts(self) -> StoreParts: ...  # noqa: D102
    @property
    def bases(self) -> AtomReader: ...  # noqa: D102
    def hold(self, digests: Iterable[bytes]) -> set[bytes]: ...  # noqa: D102


class Onlooker:
    """Somebody who only looks, for a dry run: nothing is held, so a collection may come first."""

    def __init__(self, parts: StoreParts, reader: AtomReader) -> None:
        self.parts = parts
        self.bases = reader

    def hold(self, digests: Iterable[bytes]) -> set[bytes]:
        """Return those of these atoms that are stored, and sound."""
        with self.parts.database.read() as tx:
            return set(atoms.find(tx, digests, sound=True))


class VariantChoice:
    """Chooses for one writing session; the bases that it chooses are held by the session.

    ``note`` is told of bases that cannot be read. ``smallest`` allows recipes that are slow.
    """

    def __init__(
        self, session: Holder, note: Callable[[str], None], *, smallest: bool = False
    ) -> None:
        self._session = session
        self._parts = session.parts
        self._note = note
        self._smallest = smallest
        self._signs = SignTable()
        self._search = BaseSearch(session.parts.database, signs=self._signs, depths=dict)
        self._factors = AdapterFactors(session.parts.database, session.bases)
        self._held: set[bytes] = set()
        self._depths: dict[bytes, int] = {}  # of bases, as they lay when they were last looked at
        self._lately: dict[str, tuple[object, ...]] = {}  # by type of target
        self._exact = ExactPlans(session.bases)
        self._cost = ReadingCost(session.bases)

    def choose(
        self, query: TensorQuery, name: bytes, size: int, frames: Sequence[memoryview]
    ) -> Chosen | None:
        """Return how a new tensor is best built on stored ones, None if it is not worth it.

        ``frames`` are its frames of 256 KiB, each made when it is asked for; ``name`` is the digest
        of its ``size`` bytes.
        """
        if not self._may(query):
            return None
        deepest = self.deepest
        found = self._search.candidates(
            query, max_depth=deepest, in_passing=size <= FRAME_BYTES, most=_MOST_LOOKED_AT
        )
        if not found:
            return None
        one = self.estimate(
            query, name, size, frames, found, deepest=deepest, deeper=DEEPER, new=True
        )
        if one is None:
            return None
        own = alone(frames, query.dtype, size) if one.stored_bytes else size
        if one.stored_bytes * self._weight(one.bases, DEEPER) >= MOST_SHARE * own:
            return None
        rounded = self._rounded_bytes(query, one, found)
        if rounded is None:
            return one
        above = [other for other in found if other.depth < deepest]
        other = self.estimate(query, name, size, frames, above, deepest=deepest - 1, deeper=DEEPER)
        if other is not None and other.stored_bytes >= MOST_SHARE * own:
            other = None
        taken = own if other is None else other.stored_bytes
        return other if taken <= ROUNDED_TOO * (one.stored_bytes + rounded) else one

    def _rounded_bytes(
        self, query: TensorQuery, one: Chosen, found: Sequence[Candidate]
    ) -> int | None:
        """Return what the base of a choice takes that is the tensor itself, rounded; else None.

        Where the tensor would lie as deep as any may, nothing could be built on it. Once it is
        there its rounded copy costs nothing more, so ``hart repack`` turns the two around; then the
        tensor itself must be kept without that copy.
        """
        if not one.stored_bytes or len(one.bases) != 1 or self._depths[one.bases[0]] < self.deepest:
            return None
        near = (other for other in found if other.digest == one.bases[0])
        if not self.deepest or not any(rounds_to(query, other, SketchSamples()) for other in near):
            return None
        with self._parts.database.read() as tx:
            return sum(stored for _, stored in atoms.find(tx, one.bases).values())

    def _weight(self, names: Iterable[bytes], deeper: float) -> float:
        """Return what the bytes of a tensor on these bases count for: more, the deeper they lie."""
        return deeper ** max(self._depths.get(one, 0) for one in names)

    def look_anew(self) -> None:
        """Have what was stored meanwhile found, before the tensors of another file are chosen."""
        self._signs.doubt()

    def forget_adapters(self) -> None:
        """Have the adapters in use looked up anew, after one was published."""
        self._factors.forget()

    def first_look(self) -> FirstLook:
        """Return what looks at many small tensors at once, with the signs that are held here."""
        return FirstLook(self._parts.database, self._signs)

    @property
    def deepest(self) -> int:
        """How deep a base of a new tensor may lie; less than 0 where there are none."""
        return self._parts.max_depth - 1

    def first_candidates(self, query: TensorQuery) -> list[Candidate]:
        """Return what a new tensor resembles, of what may be its base; for those who only look."""
        if not self._may(query):
            return []
        return self._search.candidates(query, max_depth=self.deepest)

    def candidates(
        self, query: TensorQuery, *, deepest: int, usable: Callable[[int], bool]
    ) -> list[Candidate]:
        """Return what a stored tensor resembles: atoms of at most a depth that are ``usable``.

        ``usable`` is asked with their ids. None where tensors are kept on their own.
        """
        if deepest < 0 or not self._may(query):
            return []

        def depths(known: Mapping[int, int]) -> dict[int, int]:
            return {one: depth if usable(one) else _NEVER for one, depth in known.items()}

        search = BaseSearch(self._parts.database, signs=self._signs, depths=depths)
        return search.candidates(query, max_depth=deepest, most=_MOST_LOOKED_AT)

    def near(self, count: int, signs: bytes) -> list[int]:
        """Return the ids of the sketches of so many elements that are near to these signs."""
        with self._parts.database.read() as tx:
            (found,) = self._signs.near(tx, count, [signs])
        return [int(one) for one in found.ids]

    def estimate(
        self,
        query: TensorQuery,
        name: bytes,
        size: int,
        frames: Sequence[memoryview],
        candidates: Sequence[Candidate],
        *,
        deepest: int,
        usable: Callable[[int], bool] = _any,
        also: Sequence[Proposal] = (),
        deeper: float = 1.0,
        new: bool = False,
    ) -> Chosen | None:
        """Return the best way to build a tensor on candidates, as a sample of its frames says.

        Its bases lie ``deepest`` at most and are ``usable``, which is asked with ids. ``also`` are
        tried beside what the candidates suggest. What needs a base that lies one deeper must take
        less by the factor ``deeper``. None if there is none, and where one that is ``new`` is
        stored all the same: it was found damaged, and the candidates may be built on it.
        """
        proposals = self.propose(query, candidates)
        proposals = [*proposals, *(one for one in also if one not in proposals)]
        proposals = self.allowed(
            proposals, deepest=deepest, usable=usable, unstored=name if new else None
        )
        if not proposals:
            return None
        indexes = spread(len(frames))
        sample = [(index * FRAME_BYTES, frames[index]) for index in indexes]
        whole = sum(frame.nbytes for _, frame in sample)
        best_one = self._best(proposals, name, sample, deeper)
        if best_one is None or not whole:
            return None
        taken, one = best_one
        return Chosen(one.plan, one.bases, size * taken // whole)

    def _hold(self, wanted: set[bytes]) -> set[bytes]:
        """Hold on to bases that are there; what the session holds, it holds to its end."""
        if new := wanted - self._held:
            self._held |= self._session.hold(new)
        return wanted & self._held

    def allowed(
        self, proposals: Sequence[Proposal], *, deepest: int,
        usable: Callable[[int], bool] = _any, unstored: bytes | None = None,
    ) -> list[Proposal]:  # fmt: skip
        """Return proposals, composed where that goes, whose bases are held and may be bases.

        They lie ``deepest`` at most, are ``usable``, and reading them is within its limits. None
        where ``unstored`` is stored.
        """
        with contextlib.suppress(HartonomousError):  # what is damaged is told where it is needed
            # All at once: else each is asked for on its own, as soon as its plan is looked at.
            self._session.bases.locate({base for one in proposals for base in one.bases})
        ways = [(self._composed(one), one) for one in proposals]
        names = {base for way in ways for one in way for base in one.bases}
        held = self._hold(names)
        with self._parts.database.read() as tx:
            there = bases.find(tx, held, perhaps=() if unstored is None else (unstored,))
        if unstored in there:
            return []
        fit = {name for name, one in there.items() if one.depth <= deepest and usable(one.id)}
        deep = {name for name in fit if there[name].depth > 0}
        self._depths.update({name: there[name].depth for name in fit})
        found: dict[tuple[Plan, tuple[bytes, ...]], Proposal] = {}
        for way in ways:
            one = next((one for one in way if fit.issuperset(one.bases)), None)
            if one is None:
                continue
            if deep.isdisjoint(one.bases) or self._cost.is_bounded(Variant(one.plan, one.bases)):
                found.setdefault((one.plan, one.bases), one)
        return list(found.values())

    def _composed(self, one: Proposal) -> Proposal:
        """Return a proposal without bases that are themselves exactly predicted, if that goes."""
        made = self._exact.composed(Variant(one.plan, one.bases))
        return one if made.bases == one.bases else replace(one, plan=made.plan, bases=made.bases)

    def propose(self, query: TensorQuery, found: Sequence[Candidate]) -> list[Proposal]:
        """Return the plans that candidates suggest, with the adapters that the store holds."""
        if not found:
            return []
        made = propose(
            query, found, SketchSamples(), factors=lambda: self._factors.of(query),
            most=len(found) + MOST_PROPOSALS,
        )  # fmt: skip
        depths = {one.digest: one.depth for one in found}
        return _first_by_depth(made, depths) if query.dtype in plans.FLOAT_TARGETS else made

    def _best(
        self,
        proposals: Sequence[Proposal],
        name: bytes,
        sample: Sequence[tuple[int, memoryview]],
        deeper: float,
    ) -> tuple[int, Proposal] | None:
        """Return what takes least of the sample, the first of equals.

        Bytes are weighed by how deep the bases lie. What takes no less of the first frame than the
        best so far is given up there; so is, without a look, a proposal for floats that is clearly
        worse at the places of the sketch.
        """
        whole = sum(frame.nbytes for _, frame in sample)
        found: tuple[list[int], Proposal] | None = None
        for one in self._in_turn(proposals):
            floats = one.plan.dtype in plans.FLOAT_TARGETS
            least: list[float] = []
            if found is not None:
                lighter = self._weight(found[1].bases, deeper) / self._weight(one.bases, deeper)
                if floats and one.bits > found[1].bits * max(1.0, lighter) + _WORSE_BITS:
                    continue
                least = [taken * lighter for taken in found[0]]
            taken = self._measure(one, name, sample, least)
            if taken is None:
                continue
            found = taken, one
            if taken[-1] <= NOTHING_SHARE * whole:
                break
        if found is None or not found[0]:
            return None
        self._lately[found[1].plan.dtype] = _way(found[1])
        return found[0][-1], found[1]

    def _in_turn(self, proposals: Sequence[Proposal]) -> Sequence[Proposal]:
        """Return the proposals, for a quantised tensor first the way that served the last one."""
        dtype = proposals[0].plan.dtype
        lately = self._lately.get(dtype)
        if dtype in plans.FLOAT_TARGETS or lately is None:
            return proposals
        return sorted(proposals, key=lambda one: _way(one) != lately)

    def _may(self, query: TensorQuery) -> bool:
        known = DTYPES.get(query.dtype)
        enough = known is not None and query.count >= LEAST_ELEMENTS
        return enough and self._parts.variants and self._parts.max_depth > 0

    def _measure(
        self,
        proposal: Proposal,
        name: bytes,
        sample: Sequence[tuple[int, memoryview]],
        least: Sequence[float],
    ) -> list[int] | None:
        """Return what the sample takes up to each of its frames.

        None if a base cannot be read or takes too much memory, or if that is no less than ``least``
        anywhere.
        """
        variant = Variant(proposal.plan, proposal.bases)
        taken: list[int] = []
        for at, (position, frame) in enumerate(sample):
            windows = plans.windows(variant.plan, position, position + frame.nbytes)
            if sum(one.stop - one.start for one in windows) > self._parts.operands.limit_bytes:
                return None
            work = FrameWork(frame, None, None, None, position, variant, name, self._smallest)
            try:
                ((_, payload),) = encode_predicted([work], self._session.bases, check=False)
            except BaseReadError as error:
                if isinstance(error.__cause__, BaseCircleError):
                    return None  # it is built on the tensor itself: no fault
                self._note(f"a tensor is not built on blake3:{variant.bases[0].hex()}: {error}")
                return None
            size = frame.nbytes if payload is None else len(payload)
            taken.append(size + (taken[-1] if taken else 0))
            if least and taken[at] >= least[at]:
                return None
        return taken


def _first_by_depth(made: Sequence[Proposal], depths: Mapping[bytes, int]) -> list[Proposal]:
    """Return the first proposals, and the first of those on bases that lie less deep."""
    chosen = [*made[:MOST_PROPOSALS]]
    least = min((_depth(one, depths) for one in chosen), default=0)
    for one in made[MOST_PROPOSALS:]:
        if (depth := _depth(one, depths)) < least:
            chosen.append(one)
            least = depth
    return chosen


def _depth(one: Proposal, depths: Mapping[bytes, int]) -> int:
    return max(depths.get(base, 0) for base in one.bases)


def _way(one: Proposal) -> tuple[object, ...]:
    """Return what proposals for tensors of one file have in common, whatever their bases."""
    return tuple(operand.dtype for operand in one.plan.operands), one.plan.steps


def alone(frames: Sequence[memoryview], dtype: str | None, size: int) -> int:
    """Return what a tensor of ``size`` bytes takes on its own, as a sample of its frames says."""
    sizes = measure(frames, dtype)
    whole = sizes[Encoding.RAW]
    return size * sizes[best(sizes)] // whole if whole else 0
