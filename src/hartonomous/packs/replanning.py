"""Replanning: how a stored tensor would be built on others, now that all of them are there.

At the time a tensor came its best base may not have been there yet. Three things can be better now:
it is built on another tensor; something that is built on it becomes its base instead (a float model
that came after its quantised one); or, where its chain of bases is too long, it lies less deep.
What is planned here is estimated from samples and changes nothing; ``hart repack`` carries it out.
"""

from collections.abc import Callable, Collection, Sequence
from math import prod

import msgspec

from hartonomous.catalog import atoms as rows
from hartonomous.catalog import bases, families
from hartonomous.catalog.families import Limits, TensorUse
from hartonomous.codecs.choice import MIN_GAIN
from hartonomous.codecs.quantised import supported
from hartonomous.core.dtype import DTYPES
from hartonomous.core.record import PREDICTED, Encoding
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.base_search import TensorQuery, can_be_sketched, query_of
from hartonomous.packs.plan_proposals import Proposal
from hartonomous.packs.predictions import variant_of
from hartonomous.packs.reencoding import StoredFrames
from hartonomous.packs.variants import MOST_SHARE, Chosen, Holder, VariantChoice, alone

_MOST_LIFTED = 2
"""Of what cannot be a base as it is kept now so many are looked at."""
_ALMOST = 0.05
"""Where so small a part of a tensor stays, nothing better is looked for."""


class Step(msgspec.Struct, frozen=True):
    """One atom written anew: as ``chosen``, or on its own.

    ``larger``: even where it takes more than before. ``stored_bytes`` is what it is thought to
    take.
    """

    row: rows.StoredAtom
    chosen: Chosen | None
    stored_bytes: int
    larger: bool = False


class Replan(msgspec.Struct, frozen=True):
    """Steps that belong together; the rows of each must be there before the next is taken.

    ``touches`` are the ids of atoms whose bases, or what is built on them, change; ``near`` those
    of atoms that may have a better base then.
    """

    steps: tuple[Step, ...]
    touches: frozenset[int]
    near: frozenset[int] = frozenset()

    @property
    def saved_bytes(self) -> int:
        """What the atoms take now and would not any more; less than nothing where it is more."""
        return sum(one.row.stored_bytes - one.stored_bytes for one in self.steps)


class Replanning:
    """Plans for one run over a store; ``look`` comes before ``better`` for the atoms of a page."""

    def __init__(
        self,
        session: Holder,
        reader: AtomReader,
        note: Callable[[str], None],
        *,
        smallest: bool = False,
    ) -> None:
        self._parts = session.parts
        self._reader = reader
        self._smallest = smallest
        self._choice = VariantChoice(session, note, smallest=smallest)
        self.limits = Limits(session.parts.max_depth, session.parts.hot_labels)
        self._uses: dict[int, TensorUse] = {}

    def look(self, atom_ids: Sequence[int]) -> None:
        """Find out what the atoms that come next are."""
        with self._parts.database.read() as tx:
            self._uses = families.tensors(tx, atom_ids)

    def relatives(self, row: rows.StoredAtom) -> set[int]:
        """Return the ids of an atom and of all that is built on it."""
        with self._parts.database.read() as tx:
            return {row.id, *bases.dependents(tx, [row.id])}

    def has_newer(self, row: rows.StoredAtom, sketch_id: int) -> bool:
        """Say whether a tensor that resembles this one came after a sketch; reads no data."""
        with self._parts.database.read() as tx:
            found = families.whole_sketch(tx, row.id)
        return found is not None and any(one > sketch_id for one in self._choice.near(*found))

    def better(self, row: rows.StoredAtom) -> Replan | None:
        """Return how an atom would take less; None if nothing is worth the work.

        Raises IntegrityError when what is sampled is damaged.
        """
        query = self._query(row)
        if query is None or not row.stored_bytes:
            return None
        rebased = self._rebased(row, query)
        if rebased is not None and rebased.steps[0].stored_bytes <= _ALMOST * row.stored_bytes:
            return rebased
        lifted = self._lifted(row, query)
        found = [one for one in (rebased, lifted) if one is not None]
        return max(found, key=lambda one: one.saved_bytes) if found else None

    def shallower(self, row: rows.StoredAtom) -> Replan | None:
        """Return how an atom that lies too deep comes to lie less deep, whatever that takes."""
        with self._parts.database.read() as tx:
            depth, above = families.room(tx, row.id, self.limits)
        if row.depth <= max(0, depth):
            return None
        return self._plan([self.without(row, above.__contains__, most=depth)], above)

    def without(self, row: rows.StoredAtom, refused: Callable[[int], bool], *, most: int) -> Step:
        """Return how an atom is best kept without bases that are ``refused``, ``most`` deep."""
        with self._parts.database.read() as tx:
            above = bases.dependents(tx, [row.id])
            if row.id not in self._uses:
                self._uses |= families.tensors(tx, [row.id])
        query = self._query(row)
        frames = StoredFrames(self._reader, row)
        own = alone(frames, row.dtype, row.size_bytes)
        chosen = None
        if query is not None:

            def usable(one: int) -> bool:
                return one not in above and not refused(one)

            found = self._choice.candidates(query, deepest=most - 1, usable=usable)
            chosen = self._choice.estimate(
                query, row.digest, row.size_bytes, frames, found, deepest=most - 1, usable=usable
            )
        if chosen is None or chosen.stored_bytes >= MOST_SHARE * own:
            return Step(row, None, own, larger=True)
        return Step(row, chosen, chosen.stored_bytes, larger=True)

    def _query(self, row: rows.StoredAtom) -> TensorQuery | None:
        use = self._uses.get(row.id)
        if use is None or not can_be_sketched(use.dtype, use.shape):
            return None
        if DTYPES[use.dtype].byte_count(prod(use.shape)) != row.size_bytes:
            return None
        return query_of(self._reader, row.digest, use.dtype, use.shape, use.heads)

    def _rebased(self, row: rows.StoredAtom, query: TensorQuery) -> Replan | None:
        with self._parts.database.read() as tx:
            depth, above = families.room(tx, row.id, self.limits)

        def usable(one: int) -> bool:
            return one not in above and one != row.id

        found = self._choice.candidates(query, deepest=depth - 1, usable=usable)
        frames = StoredFrames(self._reader, row)
        also = self._current(row) if depth >= row.depth else []
        chosen = self._choice.estimate(
            query, row.digest, row.size_bytes, frames, found,
            deepest=depth - 1, usable=usable, also=also,
        )  # fmt: skip
        # What is read on its own now must save more: reading it will need its bases.
        share = 1 - MIN_GAIN if row.encoding in PREDICTED else MOST_SHARE
        if chosen is None or chosen.stored_bytes > share * row.stored_bytes:
            return None
        plan = self._plan([Step(row, chosen, chosen.stored_bytes)], above)
        with self._parts.database.read() as tx:
            # With less built on them these may lie deeper themselves.
            left = families.base_ids(tx, [row.id])
        return msgspec.structs.replace(plan, near=frozenset(left))

    def _current(self, row: rows.StoredAtom) -> list[Proposal]:
        """Return the plan that an atom has, where a slower recipe may take less of it."""
        if not self._smallest or row.encoding != Encoding.DERIVED:
            return []
        if not supported(row.dtype, smallest=True):
            return []
        place = self._reader.locate([row.digest])[row.digest][0]
        _, header = self._reader.record(place.pack_key, place.header_offset)
        variant = variant_of(header)
        return [Proposal(plan=variant.plan, bases=variant.bases, bits=0.0)]

    def _lifted(self, row: rows.StoredAtom, query: TensorQuery) -> Replan | None:
        """Return how a tensor is built on one that cannot be its base as it is kept now.

        That one is built on the tensor itself, or lies too deep: it is written anew first, on
        something else or on its own.
        """
        with self._parts.database.read() as tx:
            _, built = families.room(tx, row.id, self.limits)
        found = self._choice.candidates(
            query, deepest=bases.MAX_DEPTH, usable=lambda one: one != row.id
        )
        with self._parts.database.read() as tx:
            near = rows.stored_by_ids(tx, {one.atom_id for one in found})
        near.sort(key=lambda one: -one.stored_bytes)
        tried = 0
        for base in near:
            if not base.stored_bytes or tried == _MOST_LIFTED:
                continue
            with self._parts.database.read() as tx:
                depth, others = families.room(tx, row.id, self.limits, without={base.id})
            if depth < 1 or (base.id not in built and base.depth < depth):
                continue
            tried += 1
            chosen = self._choice.estimate(
                query, row.digest, row.size_bytes, StoredFrames(self._reader, row),
                [one for one in found if one.atom_id == base.id],
                deepest=bases.MAX_DEPTH,
            )  # fmt: skip
            before = row.stored_bytes + base.stored_bytes
            if chosen is None or chosen.stored_bytes >= MOST_SHARE * row.stored_bytes:
                continue
            refused = built | {row.id}
            first = self.without(base, refused.__contains__, most=depth - 1)
            if first.stored_bytes + chosen.stored_bytes > (1 - MIN_GAIN) * before:
                continue
            second = Step(row, chosen, chosen.stored_bytes, larger=True)
            plan = self._plan([first, second], others | built | {base.id})
            return msgspec.structs.replace(plan, near=frozenset(one.id for one in near))
        return None

    def _plan(self, steps: Sequence[Step], above: Collection[int]) -> Replan:
        names = {base for one in steps if one.chosen for base in one.chosen.bases}
        with self._parts.database.read() as tx:
            below = {one.id for one in bases.find(tx, names).values()}
        return Replan(tuple(steps), frozenset({one.row.id for one in steps} | below | set(above)))
