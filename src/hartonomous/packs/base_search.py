"""Base search: which stored tensors resemble a new one, over the whole store.

Nothing has to be declared: sketches (``core.sketch``) of tensors with as many elements are compared
by their signs, the nearest ones by their values. A candidate is a proposal; whether it helps is
measured by whoever encodes. See docs/sketches.md.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from hartonomous.catalog import bases, sketches
from hartonomous.catalog.database import Database
from hartonomous.core.casts import same_rounded
from hartonomous.core.dtype import DTYPES
from hartonomous.core.elements import Indices, ReadValues, Values, has_values, values_of
from hartonomous.core.plan import FLOAT_TARGETS
from hartonomous.core.record import FRAME_BYTES
from hartonomous.core.sketch import (
    LEAST_ELEMENTS,
    MOST_ELEMENTS,
    PREFIX_ROWS,
    Part,
    Sketch,
    decode_values,
    distances,
    encode_values,
    parts,
    positions,
    prefix,
    sketch_of,
)
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.orders import STRAIGHT, TRANSPOSED, matrix_of, orders
from hartonomous.packs.sign_table import SignTable

MOST_CANDIDATES = 8
_ROUND_ROWS = 64
_MOST_ROUNDS = 8
"""So many times more rows are read where those before were gone or too deep."""
_QUANTISED_BITS = 2.0
"""What a quantised source is put back by: it costs more to read and has lost bits."""
_DECLARED_BITS = 1.0
_MOST_QUANTISED = 4  # of a model's many copies; more would take the places of its fine-tunes

Depths = Callable[[Mapping[int, int]], Mapping[int, int]]
"""``depths({atom id: how many bases it needs before it can be read})`` returns what counts as its
depth; atoms that count as having none may be left out."""

_Place = tuple[int, str, int, int]
"""Whose values a candidate has: atom id of what it is a copy of, orientation, heads, first."""


@dataclass(slots=True, kw_only=True)
class TensorQuery:
    """A tensor for which bases are looked for.

    ``read`` returns float32 values of elements, as flat indices in C order. ``heads`` are numbers
    of attention heads that its rows may be grouped by. ``declared`` are digests of atoms said to be
    its sources, ``digest`` is its own, never a candidate. ``name`` is what its file calls it.
    """

    dtype: str
    shape: tuple[int, ...]
    read: ReadValues
    heads: tuple[int, ...] = ()
    declared: tuple[bytes, ...] = ()
    digest: bytes | None = None
    name: str = ""
    _sketches: dict[Part, Sketch] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Elements of the tensor."""
        return prod(self.shape)

    @property
    def matrix(self) -> tuple[int, int]:
        """The tensor as (rows, columns): its first axis, and all others."""
        return matrix_of(self.shape)

    def know(self, sketch: Sketch) -> None:
        """Take the sketch of the whole from somebody who has it."""
        self._sketches[Part(0, self.count)] = sketch

    def sketch(self, part: Part) -> Sketch:
        """Return the sketch of a part in its own order; read once."""
        found = self._sketches.get(part)
        if found is None:
            found = sketch_of(self.read(positions(part.count) + part.first))
            self._sketches[part] = found
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A stored tensor, or a run of its elements, that resembles a query or a part of it.

    ``shape`` is that of the part of the base from its element ``first`` on, before it is brought
    from ``orientation`` into the query's order ("transposed": the base is the transpose; "heads":
    permuting the base's rows by ``heads`` gives the query; "heads-inverse": permuting them back
    does). It predicts as many of the query's elements from ``target_first`` on. ``distance`` is in
    bits, see ``core.sketch.distances``; ``depth`` counts the bases that a plan on this one needs
    below it, where one that is exactly a copy of another (``copy_of``, an atom id) does not count.
    ``values`` are those of the part at the positions of its size, in the base's order; None where
    it was found by fewer of its rows.
    """

    digest: bytes
    atom_id: int
    dtype: str
    shape: tuple[int, ...]
    first: int
    orientation: str
    distance: float
    depth: int
    heads: int = 0
    target_first: int = 0
    copy_of: int = 0
    values: Values | None = field(default=None, compare=False, repr=False)


class SketchSamples:
    """What sketches hold of candidates, for those who compute with values before any is read."""

    def positions(self, count: int) -> Indices:
        """Return the elements by which a tensor of so many elements is sketched, ascending."""
        return positions(count)

    def values(self, candidate: object) -> Values | None:
        """Return a candidate's values at the positions of its size, None if not at hand."""
        return candidate.values if isinstance(candidate, Candidate) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One way of looking at the query: which part, in which order."""

    part: Part
    orientation: str
    sketch: Sketch
    heads: int = 0


@dataclass(slots=True)
class _Hits:
    """What the signs say of one view: ids, nearest first, and what came of them."""

    view: View
    ids: list[int]
    near: list[tuple[float, Candidate]] = field(default_factory=list)
    seen: set[_Place] = field(default_factory=set)


def can_be_sketched(dtype: str, shape: tuple[int, ...]) -> bool:
    """Say whether tensors of this type and shape have sketches."""
    fits = min(shape, default=0) > 0 and LEAST_ELEMENTS <= prod(shape) <= MOST_ELEMENTS
    return fits and has_values(dtype)


def can_be_searched(dtype: str, shape: tuple[int, ...]) -> bool:
    """Say whether relatives of such a tensor can be found: with a sketch, or codes of weights.

    U8 holds rounded weights in some files and packed bits in others: none has a sketch, but a
    matrix of it is compared with those that have.
    """
    codes = dtype == "U8" and len(shape) > 1 and min(shape) > 1
    return can_be_sketched("I8" if codes else dtype, shape)


def sketches_of(query: TensorQuery) -> tuple[sketches.NewSketch, ...]:
    """Return the rows by which a tensor is found; none for a constant, which resembles nothing."""
    if not can_be_sketched(query.dtype, query.shape):
        return ()
    found = []
    for part in (Part(0, query.count), *parts(query.shape)):
        sketch = query.sketch(part)
        if any(sketch.signs):
            found.append(
                sketches.NewSketch(
                    first_element=part.first,
                    element_count=part.count,
                    columns=query.matrix[1],
                    dtype=query.dtype,
                    signs=sketch.signs,
                    content=encode_values(sketch.values),
                )
            )
    return tuple(found)


def sketch_atom(
    reader: AtomReader, digest: bytes, dtype: str, shape: tuple[int, ...]
) -> tuple[sketches.NewSketch, ...]:
    """Return the rows of a stored tensor, from its bytes.

    Reads the frames in which positions lie: of a large tensor 256 for each part, one at a time.
    Raises IntegrityError where they are damaged.
    """
    return sketches_of(query_of(reader, digest, dtype, shape))


def query_of(
    reader: AtomReader, digest: bytes, dtype: str, shape: tuple[int, ...],
    heads: tuple[int, ...] = (),
) -> TensorQuery:  # fmt: skip
    """Return a stored tensor as it is compared with others; its bytes are read when needed."""
    read = values_of(_AtomRanges(reader, digest), dtype)
    return TensorQuery(dtype=dtype, shape=shape, read=read, heads=heads, digest=digest)


class _AtomRanges:
    """Reads ranges of a stored atom; what lies in one frame is decoded once."""

    def __init__(self, reader: AtomReader, digest: bytes) -> None:
        self._reader = reader
        self._digest = digest

    def __call__(self, offsets: Indices, length: int) -> bytes:
        out = np.empty((len(offsets), length), np.uint8)
        order = np.argsort(offsets, kind="stable")
        ascending = offsets[order]
        frames = ascending // FRAME_BYTES
        for group in np.split(np.arange(len(order)), np.flatnonzero(np.diff(frames)) + 1):
            start = int(ascending[group[0]])
            content = np.empty(int(ascending[group[-1]]) + length - start, np.uint8)
            self._reader.decode_into(self._digest, content.data, start)
            inside = ascending[group] - start
            out[order[group]] = content[inside[:, None] + np.arange(length)]
        return out.tobytes()


class BaseSearch:
    """Finds candidates in one store's catalog; safe to use from several threads.

    ``depths`` tells how deep atoms count as lying; without it none has bases or is a copy of
    another.
    """

    def __init__(
        self, database: Database, *, signs: SignTable | None = None, depths: Depths | None = None
    ) -> None:
        self._database = database
        self._signs = SignTable() if signs is None else signs
        self._depths = depths

    def candidates(
        self, query: TensorQuery, *, max_depth: int | None = None, in_passing: bool = False,
        most: int = MOST_CANDIDATES,
    ) -> list[Candidate]:  # fmt: skip
        """Return ``most`` candidates, the best first; those deeper than ``max_depth`` left out.

        ``in_passing`` is for one of many small tensors: where the signs in memory say that nothing
        is near, the catalog is not asked for newer ones (see ``SignTable.has_none``).

        Parts are looked for only where nothing resembles the whole; the candidates of the parts
        then take turns, the best of each part first.
        """
        if not can_be_searched(query.dtype, query.shape):
            return []

        def look(views: Sequence[View]) -> list[list[Candidate]]:
            none = in_passing and self._has_none(views)
            return [] if none else self._of_views(query, views, max_depth, most)

        found = look(whole_views(query))
        if not any(found):
            there = [(part, query.sketch(part)) for part in parts(query.shape)]
            found = look([View(part=one, orientation=STRAIGHT, sketch=of) for one, of in there])
        return _taking_turns(found)[:most]

    def _has_none(self, views: Sequence[View]) -> bool:
        signs: dict[int, list[bytes]] = {}
        for view in views:
            signs.setdefault(view.part.count, []).append(view.sketch.signs)
        return all(self._signs.has_none(count, some) for count, some in signs.items())

    def _of_views(
        self, query: TensorQuery, views: Sequence[View], max_depth: int | None, most: int
    ) -> list[list[Candidate]]:
        """Return the candidates of each part, nearest first."""
        if not views:
            return []
        with self._database.read() as tx:
            work = _Search(tx, query, self._signs, self._depths, max_depth, most)
            for count in dict.fromkeys(view.part.count for view in views):
                work.look(count, [view for view in views if view.part.count == count])
        by_part: dict[Part, list[tuple[float, Candidate]]] = {view.part: [] for view in views}
        for hits in work.hits:
            by_part[hits.view.part] += hits.near
        return [_best(near, query.dtype) for near in by_part.values()]


class _Search:
    """One search in one transaction."""

    def __init__(  # noqa: PLR0917 - what is looked for, and where
        self,
        tx: Any,
        query: TensorQuery,
        signs: SignTable,
        depths: Depths | None,
        max_depth: int | None,
        most: int,
    ) -> None:
        self._tx = tx
        self._query = query
        self._signs = signs
        self._depths = depths
        self._max_depth = max_depth
        self._most = most
        self.hits: list[_Hits] = []

    def look(self, count: int, views: Sequence[View]) -> None:
        """Find what resembles views of so many elements, and compare the values."""
        near = self._signs.near(self._tx, count, [view.sketch.signs for view in views])
        if not any(len(one.ids) for one in near):
            return
        declared = sketches.ids_of_atoms(self._tx, self._query.declared, count)
        waiting = []
        for view, one in zip(views, near, strict=True):
            # Of equally near ones the newest first: the last of many checkpoints is the nearest.
            order = np.lexsort((-one.ids, one.distances, ~np.isin(one.ids, declared)))
            ids = one.ids[order[: _MOST_ROUNDS * _ROUND_ROWS]].tolist()
            waiting.append(_Hits(view, ids))
        self._compare(count, waiting)

    def _compare(self, count: int, waiting: Sequence[_Hits]) -> None:
        for _ in range(_MOST_ROUNDS):
            open_ = [one for one in waiting if one.ids and len(one.seen) < self._most]
            if not open_:
                break
            share = max(self._most, _ROUND_ROWS // len(open_))
            chosen = [one.ids[:share] for one in open_]
            wanted = {key for ids in chosen for key in ids}
            rows = sketches.by_ids(self._tx, wanted)
            self._forget(count, wanted - rows.keys())
            for one, ids in zip(open_, chosen, strict=True):
                one.ids = one.ids[share:]
                self._measure(one, {key: rows[key] for key in ids if key in rows})
        self.hits += waiting

    def _forget(self, count: int, absent: set[int]) -> None:
        """Drop what is gone from the table; what is only damaged may be mended."""
        if absent:
            gone = absent - sketches.there(self._tx, sorted(absent))
            self._signs.forget(count, sorted(gone))

    def _measure(self, hits: _Hits, rows: Mapping[int, sketches.SketchRow]) -> None:
        usable = [row for row in rows.values() if row.digest != self._query.digest]
        if not usable:
            return
        depths: Mapping[int, int] = {}
        exact: Mapping[int, Sequence[int]] = {}
        if self._depths is not None:
            known = {row.atom_id: row.depth for row in usable}
            depths = self._depths(known)
            exact = bases.exactly_predicted(self._tx, [one for one in known if known[one]])
        # A plan on what is exactly predicted is rewritten onto the bases of that.
        depths = {one: depth - (one in exact) for one, depth in depths.items()}
        if self._max_depth is not None:
            usable = [row for row in usable if depths.get(row.atom_id, 0) <= self._max_depth]
        if not usable:
            return
        values = np.stack([decode_values(row.content) for row in usable])
        apart = distances(hits.view.sketch.values, values, self._query.dtype)
        for row, own, distance in zip(usable, values, apart.tolist(), strict=True):
            shape = _base_shape(self._query, hits.view, row)
            one = Candidate(
                digest=row.digest,
                atom_id=row.atom_id,
                dtype=row.dtype,
                shape=shape,
                first=row.first_element,
                orientation=hits.view.orientation,
                distance=distance,
                depth=depths.get(row.atom_id, 0),
                heads=hits.view.heads,
                target_first=hits.view.part.first,
                copy_of=_root(row.atom_id, exact),
                values=own.copy() if prod(shape) == row.element_count else None,
            )
            hits.near.append((self._cost(one), one))
            hits.seen.add(_place(one))

    def _cost(self, one: Candidate) -> float:
        cost = one.distance
        if _is_quantised(one):
            cost += _QUANTISED_BITS
        if one.digest in self._query.declared:
            cost -= _DECLARED_BITS
        return cost


def whole_views(query: TensorQuery) -> list[View]:
    """Return the query as it is, transposed, and with its rows permuted by heads."""
    whole = Part(0, query.count)
    return [
        View(
            part=whole, orientation=one.orientation, heads=one.heads,
            sketch=query.sketch(whole) if one.orientation == STRAIGHT
            else sketch_of(query.read(one.elements)),
        )
        for one in orders(query.shape, query.heads)
    ]  # fmt: skip


def _base_shape(query: TensorQuery, view: View, row: sketches.SketchRow) -> tuple[int, ...]:
    """Return the shape of the part of a base that a view of the query was found to resemble."""
    shape = query.shape
    if view.orientation == TRANSPOSED:
        return (shape[1], shape[0])
    if view.part == Part(0, query.count):
        return shape
    rows = view.part.count // query.matrix[1]
    if view.part == prefix(shape) and row.first_element == 0:
        rows = _common_rows(query, row)
    return (rows, *shape[1:])


def _common_rows(query: TensorQuery, row: sketches.SketchRow) -> int:
    """Return how many rows query and base share where the first rows of both are alike."""
    rows, columns = query.matrix
    known = DTYPES.get(row.dtype)
    if known is None or row.columns != columns:
        return PREFIX_ROWS
    there = row.size_bytes // known.block_bytes * known.block_elements // columns
    return max(PREFIX_ROWS, min(rows, there))


def _best(near: Sequence[tuple[float, Candidate]], dtype: str) -> list[Candidate]:
    """Return candidates of one part by cost; of one run of an atom only the best view.

    Of exact copies of one tensor only one, of the query's ``dtype`` or else what they are copies
    of: they would take the places of others, and a plan upon it can cast as each of them was cast.
    Of floats those of another type that are the values of one before, rounded, are left out too,
    and quantised ones but for a few.
    """
    found: dict[tuple[bytes, int], Candidate] = {}
    ranked = sorted(near, key=lambda one: (one[0], one[1].depth, -one[1].atom_id))
    copies: dict[_Place, Candidate] = {}
    alike = [one for _, one in ranked if one.dtype == dtype]
    roots = [one for _, one in ranked if one.atom_id == one.copy_of]
    for one in (*alike, *roots):
        copies.setdefault(_place(one), one)
    quantised = 0
    for _, one in ranked:
        if copies.setdefault(_place(one), one) is not one or (one.digest, one.first) in found:
            continue
        if dtype in FLOAT_TARGETS:
            quantised += _is_quantised(one)
            if _is_quantised(one) and quantised > _MOST_QUANTISED:
                continue
            if one.dtype != dtype and any(_rounds(other, one) for other in found.values()):
                continue
        found[one.digest, one.first] = one
    return list(found.values())


def _is_quantised(one: Candidate) -> bool:
    return one.dtype in DTYPES and DTYPES[one.dtype].kind == "quantised"


def _rounds(wide: Candidate, narrow: Candidate) -> bool:
    """Say whether one candidate has the values of another, rounded, in the same order."""
    if wide.dtype not in ("F32", "F64") or narrow.dtype not in ("F16", "BF16"):
        return False
    if wide.values is None or narrow.values is None or wide.target_first != narrow.target_first:
        return False
    alike = (wide.orientation, wide.heads, wide.shape)
    same = alike == (narrow.orientation, narrow.heads, narrow.shape)
    return same and same_rounded(wide.values, narrow.values, narrow.dtype)


def _place(one: Candidate) -> _Place:
    return one.copy_of, one.orientation, one.heads, one.first


def _root(atom_id: int, exact: Mapping[int, Sequence[int]]) -> int:
    """Return what an atom is in the end an exact copy of: itself where it has several bases."""
    for _ in range(bases.MAX_DEPTH):
        below = exact.get(atom_id, ())
        if len(below) != 1:
            break
        (atom_id,) = below
    return atom_id


def _taking_turns(found: Sequence[Sequence[Candidate]]) -> list[Candidate]:
    longest = max((len(some) for some in found), default=0)
    return [some[turn] for turn in range(longest) for some in found if turn < len(some)]
