"""Kinship: what the tensors of a version have in common with those of every other one.

What is measured follows from how atoms are kept: the same atom in both, or one predicted from the
other, and then the plan in its record says how (a cast, a sum of several, what a quantiser made).
The distance of near ones comes from their sketches.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hartonomous.catalog import kin, sketches, versions
from hartonomous.catalog.kin import OwnTensor, Tie
from hartonomous.core import plan as plans
from hartonomous.core.dtype import DTYPES
from hartonomous.core.record import Encoding, RecordHeader
from hartonomous.core.relation import Shares, Side
from hartonomous.core.sketch import decode_values, distances
from hartonomous.errors import IntegrityError
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.parts import StoreParts

LEAST_BYTES = 4096
"""Smaller tensors (norms, biases that are zero) may be equal without anything in common."""

_DISTANCES = 64
"""Pairs of tensors, the largest first, from which the distance of two versions is taken."""
_ORDER = ("equal", "cast", "transposed", "quantised", "merged", "near")
"""Of several ways in which a tensor is related to another version the first one counts."""


@dataclass(slots=True)
class Relative:
    """Another version with tensors in common; ``shares`` are bytes of this version's tensors.

    ``built_on_it`` are the bytes of this version that cannot be read without the other's atoms,
    ``carries`` those that the other's need. ``distance`` is in log2 ulps, None if nothing is near.
    ``undone`` are bytes where an adapter is taken away, not added: a base that came last is kept as
    what was merged less the adapter, and is not what came from the two.
    """

    version_id: int
    shares: Shares = field(default_factory=Shares)
    built_on_it: int = 0
    carries: int = 0
    undone: int = 0
    distance: float | None = None


@dataclass(frozen=True, slots=True)
class _How:
    """How one tensor is made of another; ``undone`` where an adapter is taken away."""

    kind: str
    weight: float | None = None
    undone: bool = False


@dataclass(slots=True)
class _Pair:
    """How one of our tensors is related to another version, and to which of its atoms."""

    how: _How
    atom_id: int


def side_of(tx: Any, version_id: int) -> Side:
    """Return what may give a relation of this version its direction."""
    summary = versions.model_of(tx, version_id) or {}
    shares: Mapping[str, Mapping[str, int]] = summary.get("dtypes") or {}
    main = max(shares, key=lambda name: int(shares[name].get("bytes") or 0), default="")
    dtype = DTYPES.get(main)
    training = summary.get("training") or {}
    return Side(
        tensor_bytes=int(summary.get("tensor_bytes") or 0),
        formats=frozenset(summary.get("formats") or ()),
        float_bits=8 * dtype.block_bytes if dtype is not None and dtype.kind == "float" else 0,
        quantised=bool(main) and (dtype is None or dtype.kind != "float"),
        adapter=bool(summary.get("adapter")),
        step=training.get("step"),
        optimizer=bool(training.get("has_optimizer_state")),
    )


def relatives(parts: StoreParts, reader: AtomReader, version_id: int) -> list[Relative]:
    """Return the versions in use that have tensors in common with this one, the nearest first."""
    with parts.database.read() as tx:
        own = {one.atom_id: one for one in kin.tensors_of(tx, version_id, least_bytes=LEAST_BYTES)}
        below = kin.ties_below(tx, own)
        above = kin.ties_above(tx, own)
        others = {tie.base_atom_id for tie in below} | {tie.atom_id for tie in above}
        used = kin.versions_with(tx, others | set(own))
    pairs: dict[int, dict[int, _Pair]] = defaultdict(dict)  # other version: own atom: pair
    found: dict[int, Relative] = {}

    def note(mine: int, other: int, how: _How) -> None:
        for one in used.get(other, ()):
            if one != version_id:
                held = pairs[one].get(mine)
                if held is None or _ORDER.index(how.kind) < _ORDER.index(held.how.kind):
                    pairs[one][mine] = _Pair(how, other)

    for atom_id in own:
        note(atom_id, atom_id, _How("equal"))
    for tie, mine, other in (
        *((tie, tie.atom_id, tie.base_atom_id) for tie in below),
        *((tie, tie.base_atom_id, tie.atom_id) for tie in above),
    ):
        note(mine, other, _how(reader, tie))
    for other_version, by_atom in pairs.items():
        found[other_version] = _relative(other_version, by_atom, own)
    _dependence(found, used, below, above, own)
    _add_distances(parts, found, pairs, own)
    return sorted(found.values(), key=lambda one: (-one.shares.related, one.version_id))


def _relative(
    version_id: int, by_atom: Mapping[int, _Pair], own: Mapping[int, OwnTensor]
) -> Relative:
    made = Relative(version_id)
    for atom_id, pair in by_atom.items():
        length = own[atom_id].length
        kind, weight = pair.how.kind, pair.how.weight
        setattr(made.shares, kind, getattr(made.shares, kind) + length)
        made.undone += length if pair.how.undone else 0
        if weight is not None:
            weights = made.shares.weights
            weights[weight] = weights.get(weight, 0) + length
    return made


def _dependence(
    found: Mapping[int, Relative],
    used: Mapping[int, set[int]],
    below: Iterable[Tie],
    above: Iterable[Tie],
    own: Mapping[int, OwnTensor],
) -> None:
    """Count what is built on what, each own tensor once for each other version."""
    for ties, mine, other, name in (
        (below, "atom_id", "base_atom_id", "built_on_it"),
        (above, "base_atom_id", "atom_id", "carries"),
    ):
        seen: set[tuple[int, int]] = set()
        for tie in ties:
            atom_id = getattr(tie, mine)
            for one in used.get(getattr(tie, other), ()):
                if one in found and (one, atom_id) not in seen:
                    seen.add((one, atom_id))
                    relative = found[one]
                    setattr(relative, name, getattr(relative, name) + own[atom_id].length)


def _how(reader: AtomReader, tie: Tie) -> _How:
    """Return how the upper atom of a tie is made of the lower one, and its weight in a sum."""
    _, header = reader.record(tie.pack_key, tie.header_offset)
    return _how_predicted(header, tie.ordinal)


def _how_predicted(header: RecordHeader, ordinal: int) -> _How:
    """Return the kind of relation (a field of ``Shares``) that a record has to one of its bases."""
    if header.encoding not in (Encoding.DELTA, Encoding.DERIVED):
        return _How("near")
    plan = plans.decode(header.params)
    if header.encoding == Encoding.DERIVED:
        return _How("quantised")
    adapter = next((step for step in plan.steps if isinstance(step, plans.LowRank)), None)
    if adapter is not None:
        return _How("merged", undone=adapter.scale < 0)
    if any(isinstance(step, plans.TaskVectors) for step in plan.steps):
        return _How("merged")
    linear = next((step for step in plan.steps if isinstance(step, plans.Linear)), None)
    if linear is not None and len(linear.weights) > 1:
        weight = linear.weights[ordinal] if ordinal < len(linear.weights) else None
        return _How("merged", None if weight is None else weight / linear.divisor)
    if header.stored:
        return _How("near")
    operand = plan.operands[min(ordinal, len(plan.operands) - 1)]
    return _How("cast" if operand.dtype != plan.dtype else "transposed")


def _add_distances(
    parts: StoreParts,
    found: Mapping[int, Relative],
    pairs: Mapping[int, Mapping[int, _Pair]],
    own: Mapping[int, OwnTensor],
) -> None:
    """Set the distance of every relative with near tensors, a mean weighted by bytes."""
    for version_id, relative in found.items():
        near = [(own[mine], pair.atom_id) for mine, pair in pairs[version_id].items()
                if pair.how.kind in ("near", "merged")]  # fmt: skip
        near.sort(key=lambda one: (-one[0].length, one[0].atom_id))
        relative.distance = _mean_distance(parts, near[:_DISTANCES])


def _mean_distance(parts: StoreParts, near: Sequence[tuple[OwnTensor, int]]) -> float | None:
    if not near:
        return None
    atoms = {one.atom_id for one, _ in near} | {other for _, other in near}
    with parts.database.read() as tx:
        values = sketches.whole(tx, atoms)
    total = weight = 0.0
    for one, other in near:
        mine, theirs = values.get(one.atom_id), values.get(other)
        if mine is None or theirs is None:
            continue
        try:
            apart = distances(decode_values(mine), decode_values(theirs)[None], one.dtype)
        except IntegrityError:
            continue
        if np.isfinite(apart[0]):
            total += float(apart[0]) * one.length
            weight += one.length
    return total / weight if weight else None
