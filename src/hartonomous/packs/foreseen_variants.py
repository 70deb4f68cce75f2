"""Which tensors outside the store would be kept as what differs from others, told from samples.

The sketches of new tensors are compared with those that the store has, and with those of the given
files that come before them; what a plan would leave is measured on the windows that are sampled
anyway, by the code that encodes.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from hartonomous.codecs import predicted
from hartonomous.codecs.predicted import Prediction
from hartonomous.core import plan as plans
from hartonomous.core.block_bytes import sparse_values, value_bytes
from hartonomous.core.dtype import DTYPES
from hartonomous.core.elements import Indices, ReadValues, Values, values_of
from hartonomous.core.record import FRAME_BYTES
from hartonomous.core.sketch import POSITIONS, Part, distances, furthest
from hartonomous.errors import HartonomousError, LimitError
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.base_search import (
    MOST_CANDIDATES,
    Candidate,
    SketchSamples,
    TensorQuery,
    can_be_searched,
    can_be_sketched,
    whole_views,
)
from hartonomous.packs.chain import NOBODY, Chain
from hartonomous.packs.frames import BaseReadError, FrameWork, encode_predicted
from hartonomous.packs.operands import Operands
from hartonomous.packs.orders import TRANSPOSED
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.plan_proposals import Proposal, propose
from hartonomous.packs.predictions import BaseGoneError, Variant, predict_spans
from hartonomous.packs.sampling import Sampler
from hartonomous.packs.variants import LEAST_ELEMENTS, Onlooker, VariantChoice

EXACT, NEAR = "computed from others", "like others"

_EXACT_BITS = 0.002
"""A proposal that leaves no more at the places looked at leaves next to nothing anywhere."""
_GIVEN = b"given"
_BASES_HELD = 64
_SOMEBODY = NOBODY.below(bytes(32))  # a tensor that no digest is known of
_FITTED = 0.25
"""Part of what tables take that is added for frequencies fitted to a sample; from the family."""
_UNREADABLE = 1 << 40


def looked_bytes(dtype: str) -> int:
    """Return what looking at a tensor reads: its sketch; a few times that in hard cases."""
    return POSITIONS * value_bytes(dtype)


class _Given:
    """A tensor of the given files: where its bytes are, and its sketch."""

    __slots__ = ("at", "digest", "dtype", "signs", "values")

    def __init__(self, at: int, digest: bytes, query: TensorQuery) -> None:
        sketch = query.sketch(Part(0, query.count))
        self.at = at
        self.digest = digest
        self.dtype = query.dtype
        self.signs = np.frombuffer(sketch.signs, np.uint8)
        self.values = sketch.values


class _Bases:
    """Reads bases: tensors of the given files, within what may be read of them, or stored atoms."""

    def __init__(self, reader: AtomReader | None, read: Callable[[bytes, int, int], bytes]) -> None:
        self.operands = reader.operands if reader is not None else Operands()
        self._reader = reader
        self._read = read

    def read_base(self, name: bytes, out: memoryview, start: int, chain: Chain) -> None:
        """Fill ``out`` with the bytes of a base from ``start``."""
        if name.startswith(_GIVEN) or self._reader is None:
            out[:] = self._read(name, start, len(out))
        else:
            self._reader.read_base(name, out, start, chain)


class ForeseenVariants:
    """Looks at the tensors of one set of files; ``places`` say where they lie.

    ``places[at]`` is (file, offset, bytes) of piece ``at``. Reads through ``sampler`` count.
    """

    def __init__(
        self, parts: StoreParts | None, sampler: Sampler, places: Sequence[tuple[int, int, int]]
    ) -> None:
        self._sampler = sampler
        self._places = places
        self._reader = AtomReader(parts) if parts is not None else None
        self._choice: VariantChoice | None = None
        if parts is not None and self._reader is not None:
            self._choice = VariantChoice(Onlooker(parts, self._reader), lambda _: None)
        self._bases = _Bases(self._reader, self._read_given)
        self._given: dict[int, list[_Given]] = {}
        self._by_digest: dict[bytes, int] = {}
        self._plans: dict[int, list[Proposal]] = {}
        self._spent: dict[int, list[int]] = {}  # by its proposals, in their order
        self._lately: dict[bytes, deque[tuple[int, bytes]]] = {}  # read of given bases

    def close(self) -> None:
        """Close what was opened of the store."""
        if self._reader is not None:
            self._reader.close()

    def look(
        self,
        at: int,
        dtype: str,
        shape: tuple[int, ...],
        *,
        name: str = "",
        heads: tuple[int, ...] = (),
    ) -> str | None:
        """Say whether a tensor would be ``EXACT``, ``NEAR``, or (None) kept on its own.

        ``name`` is what its file calls it, ``heads`` are the numbers of heads that the file names.
        Later ones are compared with it. Raises SourceChangedError, NotFoundError, and LimitError
        where more would be read than is granted.
        """
        if not can_be_searched(dtype, shape):
            return None
        whole = TensorQuery(
            dtype=dtype, shape=shape, read=self._values(at, dtype), heads=heads, name=name
        )
        if whole.count < LEAST_ELEMENTS:
            return None
        # As one row first: other ways of looking at it read other places.
        query = TensorQuery(dtype=dtype, shape=(whole.count,), read=whole.read)
        found = self._candidates(query)
        is_matrix = len(shape) > 1 and min(shape) > 1
        if is_matrix and found and all(one.shape == query.shape and not one.first for one in found):
            query, found = whole, [replace(one, shape=shape) for one in found]
        proposals = self._proposals(query, found)
        if is_matrix and not self._is_enough(dtype, proposals, found, heads):
            query, found = whole, self._candidates(whole)
            proposals = self._proposals(query, found)
        if can_be_sketched(dtype, shape):
            self._remember(at, query)
        if not proposals:
            return None
        self._plans[at] = proposals
        return EXACT if self._is_exact(dtype, proposals) else NEAR

    @staticmethod
    def _is_exact(dtype: str, proposals: Sequence[Proposal]) -> bool:
        best = min((one.bits for one in proposals), default=_UNREADABLE)
        return dtype in plans.FLOAT_TARGETS and best <= _EXACT_BITS

    def _is_enough(
        self, dtype: str, proposals: Sequence[Proposal], found: Sequence[Candidate],
        heads: tuple[int, ...],
    ) -> bool:  # fmt: skip
        """Say whether a matrix need not be looked at in other ways.

        Where rows may be permuted by heads, a relative that lies as it does may hide its source.
        """
        permuted = heads and dtype in plans.FLOAT_TARGETS
        return self._is_exact(dtype, proposals) if permuted else bool(found)

    def has_plans(self, at: int) -> bool:
        """Say whether a tensor was found to be ``EXACT`` or ``NEAR``."""
        return at in self._plans

    def base_bytes(self, at: int) -> float:
        """Return how many bytes of given files are read to predict a byte of a ``NEAR`` tensor."""
        size = self._element_bytes(self._plans[at][0].plan.dtype)
        found = [
            sum(
                self._element_bytes(operand.dtype) / size
                for operand, base in zip(one.plan.operands, one.bases, strict=False)
                if base in self._by_digest
            )
            for one in self._plans[at]
        ]
        return max(found)

    @staticmethod
    def _element_bytes(dtype: str) -> float:
        return DTYPES[dtype].block_bytes / DTYPES[dtype].block_elements

    def cost(self, at: int, offset: int, content: bytes) -> int | None:
        """Return what bytes of a ``NEAR`` tensor from ``offset`` on take at best, None if unknown.

        Windows are shorter than frames, which makes little of a difference and more of a table.
        """
        best: int | None = None
        spent = self._spent.setdefault(at, [0] * len(self._plans.get(at, ())))
        for number, one in enumerate(self._plans.get(at, ())):
            work = FrameWork(
                content, None, None, None, offset, Variant(one.plan, one.bases), bytes(32)
            )
            try:
                ((_, payload),) = encode_predicted([work], self._bases, check=False)
            except BaseReadError:
                spent[number] += _UNREADABLE
                continue
            taken = len(content) if payload is None else len(payload)
            spent[number] += taken
            best = taken if best is None else min(best, taken)
        return best

    def together(self, windows: Sequence[tuple[int, int, bytes]]) -> float | None:
        """Return what windows (tensor, offset, content) of one type take as parts of a full frame.

        They are repeated until they fill it: what differs is packed by frequencies alone, so that
        only the tables are shared. Each is predicted in the way that took least of its tensor so
        far. None where frames of the type depend on where they lie, or a base cannot be read.
        """
        predictions = []
        dtype = ""
        for at, offset, content in windows:
            spent = self._spent[at]
            one = self._plans[at][spent.index(min(spent))]
            dtype = one.plan.dtype
            span = offset, offset + len(content)
            try:
                variant = Variant(one.plan, one.bases)
                predictions += predict_spans(self._bases, variant, [span], _SOMEBODY)
            except (HartonomousError, BaseGoneError):
                return None
        if not predictions or not predicted.is_even(dtype):
            return None
        content = b"".join(content for _, _, content in windows)
        prediction = np.concatenate(predictions)
        once, full = (
            self._encoded(content, prediction, dtype, times)
            for times in (1, max(FRAME_BYTES // len(content), 1))
        )
        # Frequencies of few bytes fit these better than those of a frame would fit its own.
        return full + _FITTED * (once - full)

    @staticmethod
    def _encoded(content: bytes, prediction: Prediction, dtype: str, times: int) -> float:
        """Return what bytes take as one of so many repetitions of them."""
        (payload,) = predicted.encode_many(
            [memoryview(content * times)], [np.tile(prediction, times)], dtype, positions=[0]
        )
        return len(content) if payload is None else len(payload) / times

    def _values(self, at: int, dtype: str) -> ReadValues:
        """Return what reads elements of a tensor; the same ones once."""
        file, offset, _ = self._places[at]
        each = value_bytes(dtype)
        known: dict[bytes, Values] = {}

        def read(offsets: Indices, length: int) -> bytes:
            return b"".join(read_one(one, length) for one in offsets.tolist())

        def read_one(start: int, length: int) -> bytes:
            if length > self._sampler.left_bytes:
                raise LimitError("more would be read than is granted")
            return self._sampler.read(file, offset + start, length)

        plain = DTYPES[dtype].block_elements == 1
        values = values_of(read, dtype) if plain else sparse_values(read_one, dtype)

        def values_once(elements: Indices) -> Values:
            key = elements.tobytes()
            if key not in known:
                if len(elements) * each > self._sampler.left_bytes:
                    raise LimitError("more would be read than is granted")
                known[key] = values(elements)
            return known[key]

        return values_once

    def _candidates(self, query: TensorQuery) -> list[Candidate]:
        stored = [] if self._choice is None else self._choice.first_candidates(query)
        found = [*stored, *self._near_given(query)]
        return sorted(found, key=lambda one: one.distance)[:MOST_CANDIDATES]

    def _proposals(self, query: TensorQuery, found: Sequence[Candidate]) -> list[Proposal]:
        choice = self._choice
        if not found:
            return []
        made = (propose(query, found, SketchSamples()) if choice is None
                else choice.propose(query, found))  # fmt: skip
        given = [one for one in made if all(base in self._by_digest for base in one.bases)]
        stored = [one for one in made if not any(base in self._by_digest for base in one.bases)]
        if self._choice is not None:
            given += self._choice.allowed(stored, deepest=self._choice.deepest)
        return given

    def _remember(self, at: int, query: TensorQuery) -> None:
        digest = _GIVEN + hashlib.blake2b(at.to_bytes(8, "little"), digest_size=27).digest()
        self._by_digest[digest] = at
        self._given.setdefault(query.count, []).append(_Given(at, digest, query))

    def _near_given(self, query: TensorQuery) -> list[Candidate]:
        """Return tensors of the given files that resemble one beyond chance, in any known order."""
        others = self._given.get(query.count)
        if not others:
            return []
        table = np.stack([one.signs for one in others])
        ones = np.unpackbits(table, axis=1).sum(axis=1)
        found: list[Candidate] = []
        for view in whole_views(query):
            own = np.frombuffer(view.sketch.signs, np.uint8)
            apart = np.unpackbits(table ^ own, axis=1).sum(axis=1)
            close = apart <= furthest(int(np.unpackbits(own).sum()))[ones]
            near = [one for one, is_near in zip(others, close.tolist(), strict=True) if is_near]
            if not near:
                continue
            shape = query.shape[::-1] if view.orientation == TRANSPOSED else query.shape
            values = np.stack([one.values for one in near])
            away = distances(view.sketch.values, values, query.dtype)
            found += [
                Candidate(
                    digest=one.digest, atom_id=-1 - one.at, dtype=one.dtype, shape=shape, first=0,
                    orientation=view.orientation, heads=view.heads, distance=distance, depth=0,
                    values=one.values,
                )
                for one, distance in zip(near, away.tolist(), strict=True)
            ]  # fmt: skip
        return found

    def _read_given(self, name: bytes, start: int, length: int) -> bytes:
        stop = start + length
        for first, content in self._lately.get(name, ()):
            if first <= start and stop <= first + len(content):
                return content[start - first : stop - first]
        at = self._by_digest.get(name)
        if at is None or length > self._sampler.left_bytes:
            raise LimitError("more would be read than is granted")
        file, offset, size = self._places[at]
        if start + length > size:
            raise LimitError("a base is shorter than a plan needs")
        content = self._sampler.read(file, offset + start, length)
        # Other proposals for the same window need the same.
        self._lately.setdefault(name, deque(maxlen=_BASES_HELD)).append((start, content))
        return content
