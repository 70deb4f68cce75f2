"""Plans worth trying for a tensor, from stored tensors that resemble it.

Sketches, 256 values of each tensor, tell which casts, sums and adapters explain it: what is
proposed is computed at those places first. Whether a plan helps is measured by whoever encodes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hartonomous.core import plan as plans
from hartonomous.core.adapter_fit import fit_adapter
from hartonomous.core.casts import Array, cast
from hartonomous.core.dtype import DTYPES
from hartonomous.core.linear_fit import fit_sum, mean_steps
from hartonomous.core.plan import AnyStep, Operand, Plan
from hartonomous.core.sums import product_of

Indices = NDArray[np.int64]
Values = NDArray[np.float32]

MOST_PROPOSALS = 3
EXACT_BITS = 0.05
"""A tensor within so many bits of another is not looked at as a merge."""
UNKNOWN_BITS = 0.01
"""Put on what could not be computed, so that what could comes first."""
MOST_PAIRS = 32
"""How many pairs of adapter matrices are tried for one tensor."""
MOST_FACTOR_BYTES = 16 << 20
"""Larger ones are no matrices of an adapter."""
_ADAPTER_VALUES = 1 << 16
_ROUNDED_FIRST = ("F16", "BF16")
_SOURCE_ROUNDINGS: dict[str, tuple[tuple[str, ...], ...]] = {
    "F64": ((), ("F16",), ("BF16",)),
    "F32": ((), ("F16",), ("BF16",)),
    "BF16": ((), ("F16",)),
}
"""How the values of a type may have been rounded before they were quantised."""
_NEAR_BITS, _NEARER_BITS = 1.0, 0.5
_LEAST_VALUES = 16
_LEAST_SHARE = 2.0**-80
_BASES_OF_ADAPTERS = 16


class Query(Protocol):
    """The tensor to be stored; ``read`` returns the float32 values of elements in C order."""

    @property
    def dtype(self) -> str: ...  # noqa: D102
    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def read(self) -> Callable[[Indices], Values]: ...  # noqa: D102


class Candidate(Protocol):
    """A stored tensor or a part of one; see ``packs.base_search``."""

    @property
    def digest(self) -> bytes: ...  # noqa: D102
    @property
    def dtype(self) -> str: ...  # noqa: D102
    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def first(self) -> int: ...  # noqa: D102
    @property
    def orientation(self) -> str: ...  # noqa: D102
    @property
    def heads(self) -> int: ...  # noqa: D102
    @property
    def target_first(self) -> int: ...  # noqa: D102
    @property
    def distance(self) -> float: ...  # noqa: D102


class Samples(Protocol):
    """What sketches hold."""

    def positions(self, count: int) -> Indices:
        """Return the elements by which a tensor of so many elements is sketched, ascending."""
        ...

    def values(self, candidate: Candidate) -> Values | None:
        """Return the values of a candidate's part at the positions of its count, in its order.

        None where they are not at hand.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """A matrix of an adapter; ``read`` returns the float32 values of its elements.

    ``name`` is the tensor's, with ``lora_A`` or ``lora_B`` in it.
    """

    digest: bytes
    dtype: str
    shape: tuple[int, ...]
    name: str
    read: Callable[[Indices], Values]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A plan and the digests of its bases; ``bits`` is what it is thought to leave an element.

    For targets of F32, F16 and BF16 the mean of log2(1 + numbers in between) at the places looked
    at: 0 is exact there.
    """

    plan: Plan
    bases: tuple[bytes, ...]
    bits: float


def propose(
    query: Query,
    candidates: Sequence[Candidate],
    samples: Samples,
    *,
    factors: Callable[[], Sequence[Factor]] = tuple,
    most: int = MOST_PROPOSALS,
) -> list[Proposal]:
    """Return at most ``most`` plans worth trying, the most promising first.

    ``candidates`` come nearest first. Merges and adapters are looked for only where no candidate
    alone predicts the tensor almost exactly; ``factors`` is called for the matrices of adapters
    where the tensor is no merge either.
    """
    count = prod(query.shape)
    whole = [one for one in candidates if not one.target_first and prod(one.shape) == count]
    if query.dtype not in plans.FLOAT_TARGETS and whole:
        return _sources(query, whole, samples, most)
    found = [proposal for one in whole for proposal in _singles(query, one, samples)]
    if not whole:
        found += _pieces(query, candidates, samples)
    exact = any(one.bits <= EXACT_BITS for one in found)
    if query.dtype in plans.FLOAT_TARGETS and not exact:
        sampled = _sampled(query, whole, samples)
        found += _merges(query, sampled)
        if sampled is not None and not any(one.bits <= EXACT_BITS for one in found):
            found += _adapters(query, sampled, factors())
    unique: dict[tuple[Plan, tuple[bytes, ...]], Proposal] = {}
    for one in sorted(found, key=lambda one: one.bits):
        unique.setdefault((one.plan, one.bases), one)
    return list(unique.values())[:most]


def _made(
    query: Query, operands: Sequence[Operand], steps: Sequence[AnyStep], bases: Iterable[bytes],
    bits: float,
) -> Iterator[Proposal]:  # fmt: skip
    """Yield the proposal, if it is sound: what must be whole may be too large, for instance."""
    plan = Plan(query.dtype, query.shape, tuple(operands), tuple(steps))
    try:
        plans.encode(plan)
    except ValueError:
        return
    yield Proposal(plan=plan, bases=tuple(bases), bits=bits)


def rounds_to(query: Query, one: Candidate, samples: Samples) -> bool:
    """Say whether a candidate of a narrower type is the query rounded, at the places looked at."""
    if query.dtype not in plans.FLOAT_TARGETS or one.dtype not in plans.FLOAT_TARGETS:
        return False
    pair = _pair(query, one, samples)
    if pair is None or DTYPES[one.dtype].block_bytes >= DTYPES[query.dtype].block_bytes:
        return False
    wanted, values = (cast(part, "F32", one.dtype) for part in pair)
    return bool(np.array_equal(wanted.view(np.uint16), values.view(np.uint16)))


# --- one base -------------------------------------------------------------------------------------


def _singles(query: Query, one: Candidate, samples: Samples) -> Iterator[Proposal]:
    """Yield the candidate brought into order and cast."""
    steps = _ordered(one)
    if steps is not None:
        operand = Operand(one.dtype, one.shape, one.first)
        casts, bits = _ranked_casts(query, [one], samples)[0]
        yield from _made(query, [operand], [*steps, *casts], [one.digest], bits)


def _ordered(one: Candidate) -> list[AnyStep] | None:
    """Return the steps that make plain values in the query's order of a base; None if none do."""
    turned = _turned(one)
    quantised = one.dtype in plans.DEQUANTISED
    if turned is None or (quantised and turned):
        return None  # the blocks of a transposed matrix lie across its rows
    return [*([plans.Dequantise()] if quantised else []), *turned]


def _turned(one: Candidate) -> list[AnyStep] | None:
    """Return the steps that bring a base into the query's order; None for an unknown order."""
    orders: dict[str, list[AnyStep]] = {
        "straight": [],
        "transposed": [plans.Transpose()],
        "heads": [plans.PermuteHeads(one.heads)],
        "heads-inverse": [plans.PermuteHeads(one.heads, True)],
    }
    return orders.get(one.orientation)


def _ranked_casts(
    query: Query, parts: Sequence[Candidate], samples: Samples
) -> list[tuple[list[AnyStep], float]]:
    """Return ways to cast all of ``parts`` to the query's type and the bits each leaves.

    Models are often rounded to F16 or BF16 on their way. Where the query is quantised, or no values
    are at hand, the distance stands for all ways, the direct one first.
    """
    target = query.dtype if query.dtype in plans.FLOAT_TARGETS else "F32"
    source = {"F32" if one.dtype in plans.DEQUANTISED else one.dtype for one in parts}
    ways: list[tuple[str, ...]] = [() if source == {target} else (target,)]
    ways += [(way, target) for way in _ROUNDED_FIRST if way != target and source != {way}]
    known = query.dtype in plans.FLOAT_TARGETS
    pairs = [_pair(query, one, samples) for one in parts] if known else [None]
    distance = sum(one.distance for one in parts) / len(parts)
    ranked = []
    for number, way in enumerate(ways):
        bits = distance + UNKNOWN_BITS * (1 + number)
        if None not in pairs:
            left = [mean_steps(*_rounded(pair, way, target)) for pair in pairs if pair]
            bits = sum(left) / len(left)
        steps: list[AnyStep] = [plans.Cast(dtype) for dtype in way]
        ranked.append((steps, bits))
    return sorted(ranked, key=lambda one: one[1])


def _pair(query: Query, one: Candidate, samples: Samples) -> tuple[Values, Values] | None:
    """Return values of the query and of the base at the same places."""
    values = samples.values(one)
    if values is None:
        return None
    return query.read(_places(one, samples.positions(prod(one.shape)))), values


def _rounded(
    pair: tuple[Values, Values], way: Sequence[str], target: str
) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Return both as numbers of the query's type, the base's cast on the way."""
    wanted, values = pair
    made, dtype = values, "F32"
    for step in (*way, target):
        made, dtype = cast(made, dtype, step), step
    return cast(wanted, "F32", target), made


def _places(one: Candidate, elements: Indices) -> Indices:
    """Return where in the query the elements of a candidate's part are."""
    if one.orientation == "transposed":
        down, across = np.divmod(elements, one.shape[1])
        return across * one.shape[0] + down
    if one.orientation == "straight":
        return elements + one.target_first
    width = prod(one.shape[1:])
    row, column = np.divmod(elements, width)
    head = one.shape[0] // one.heads
    inside = row % head
    stride = head // 2 if one.orientation == "heads" else 2
    moved = inside % stride * (head // stride) + inside // stride
    places: Indices = (row - inside + moved) * width + column
    return places


# --- sources of a quantised tensor ----------------------------------------------------------------


def _sources(
    query: Query, whole: Sequence[Candidate], samples: Samples, most: int
) -> list[Proposal]:
    """Return ways to the values that a quantised tensor was made from.

    Only trying tells which it is: of the nearest plain tensors the values themselves, rounded to
    F16 and to BF16, each once, whichever tensor has them. Quantised relatives have lost what tells
    codes apart, so the nearest of them comes last, unless it is clearly nearer than all others.
    """
    ranked = sorted(
        ((_unexplained(query, one, samples), at, one) for at, one in enumerate(whole)),
        key=lambda item: item[:2],
    )
    plain = [item for item in ranked if item[2].dtype not in plans.DEQUANTISED]
    blocks = [item for item in ranked if item[2].dtype in plans.DEQUANTISED]
    found: dict[tuple[str, ...], list[Proposal]] = {}
    for bits, _, one in plain:
        if bits > plain[0][0] + _NEAR_BITS or (steps := _ordered(one)) is None:
            continue
        operand = Operand(one.dtype, one.shape, one.first)
        for rounded in _SOURCE_ROUNDINGS.get(one.dtype, ((),)):
            key = (*(() if one.dtype in ("F32", "F64") else (one.dtype,)), *rounded)
            types = [*rounded, "F32"] if rounded or one.dtype != "F32" else []
            casts = [plans.Cast(dtype) for dtype in types]
            if key not in found and (
                made := list(_made(query, [operand], [*steps, *casts], [one.digest], bits))
            ):
                found[key] = made
    ways = sorted(found, key=lambda key: (len(key), _ROUNDED_FIRST.index(key[0]) if key and
                  key[0] in _ROUNDED_FIRST else 0))  # fmt: skip
    chosen = [one for key in ways for one in found[key]]
    for bits, _, one in blocks:
        steps = _ordered(one)
        if steps is not None and (len(chosen) < most or bits < plain[0][0] - _NEARER_BITS):
            operand = Operand(one.dtype, one.shape, one.first)
            chosen[most - 1 :] = _made(query, [operand], steps, [one.digest], bits)
            break
    return chosen[:most]


def _unexplained(query: Query, one: Candidate, samples: Samples) -> float:
    """Return log2 of the share of the query's spread that a line through the base's values leaves.

    The scale and zero point of a quantised tensor need not be known for it. Where no values are at
    hand, the distance stands for it.
    """
    pair = _pair(query, one, samples)
    if pair is None:
        return one.distance
    with np.errstate(all="ignore"):
        wanted, values = (part.astype(np.float64) for part in pair)
        sound = np.isfinite(wanted) & np.isfinite(values)
        wanted, values = wanted[sound], values[sound]
        if len(wanted) < _LEAST_VALUES:
            return 0.0
        wanted, values = wanted - wanted.mean(), values - values.mean()
        square = float(wanted @ wanted) * float(values @ values)
        alike = float(wanted @ values) ** 2 / square if square > 0 else 0.0
    return 0.5 * float(np.log2(max(1.0 - alike, _LEAST_SHARE))) if np.isfinite(alike) else 0.0


# --- parts of the query ---------------------------------------------------------------------------


def _pieces(query: Query, candidates: Sequence[Candidate], samples: Samples) -> Iterator[Proposal]:
    """Yield the query put together of parts, one behind the other, and zeros where they end."""
    if not query.shape:
        return
    row, rows = prod(query.shape[1:]), query.shape[0]
    usable = [
        one
        for one in candidates
        if one.orientation == "straight" and one.shape[1:] == query.shape[1:]
    ]
    chosen: list[Candidate] = []
    at = 0
    while at < rows * row:
        here = [one for one in usable if one.target_first == at]
        here = [one for one in here if at + prod(one.shape) <= rows * row]
        if not here:
            break
        # Of parts that begin here the longest; of these the nearest.
        best = min(here, key=lambda one: (-one.shape[0], one.distance))
        chosen.append(best)
        at += prod(best.shape)
    if not chosen or len(chosen) > plans.MAX_OPERANDS or 2 * at < rows * row:
        return
    operands = [Operand(one.dtype, one.shape, one.first) for one in chosen]
    blocks = any(one.dtype in plans.DEQUANTISED for one in chosen)
    casts, bits = _ranked_casts(query, chosen, samples)[0]
    steps: list[AnyStep] = [plans.Dequantise()] if blocks else []
    steps += casts
    steps += [plans.Concatenate()] if len(chosen) > 1 else []
    steps += [plans.Append(rows - at // row)] if at < rows * row else []
    yield from _made(query, operands, steps, [one.digest for one in chosen], bits)


# --- sums and adapters ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sampled:
    """Candidates in the query's order, and what they and the query are at the same places."""

    elements: Indices
    target: Values
    bases: tuple[tuple[Candidate, Values], ...]


def _sampled(query: Query, whole: Sequence[Candidate], samples: Samples) -> _Sampled | None:
    seen: set[bytes] = set()
    bases = []
    for one in whole:
        plain = one.orientation == "straight" and one.dtype in plans.COMPUTED | plans.WIDENED
        if not plain or one.digest in seen:
            continue
        seen.add(one.digest)
        values = samples.values(one)
        if values is not None:
            bases.append((one, values))
    if not bases:
        return None
    elements = samples.positions(prod(query.shape))
    return _Sampled(elements, query.read(elements), tuple(bases))


def _operand(query: Query, one: Candidate) -> Operand:
    return Operand(one.dtype, query.shape, one.first)


def _cast_from(query: Query, dtype: str) -> list[AnyStep]:
    return [] if dtype == query.dtype else [plans.Cast(query.dtype)]


def _merges(query: Query, sampled: _Sampled | None) -> Iterator[Proposal]:
    """Yield the weighted sum that the query is, if it is one."""
    if sampled is None:
        return
    one = fit_sum(sampled.target, [values for _, values in sampled.bases], query.dtype)
    if one is None:
        return
    parents = [sampled.bases[number][0] for number in one.parents]
    steps = [one.step, *_cast_from(query, one.step.dtype)]
    operands = [_operand(query, parent) for parent in parents]
    yield from _made(query, operands, steps, [parent.digest for parent in parents], one.bits)


def _adapters(query: Query, sampled: _Sampled, factors: Sequence[Factor]) -> Iterator[Proposal]:
    """Yield the best of a base and an adapter merged into it."""
    if len(query.shape) != 2:
        return
    found: list[tuple[float, Proposal]] = []
    for left, right in islice(_factor_pairs(query.shape, factors), MOST_PAIRS):
        rank = left.shape[1]
        # Enough of the places, evenly spread, to be sure; not more than is quickly read.
        some = slice(None, None, -(-len(sampled.elements) * rank // _ADAPTER_VALUES))
        products = _products(left, right, sampled.elements[some])
        for base, values in sampled.bases[:_BASES_OF_ADAPTERS]:
            one = fit_adapter(
                sampled.target[some], values[some], products, rank=rank, dtype=query.dtype
            )
            if one is None:
                continue
            steps = [one.step, *_cast_from(query, one.step.dtype)]
            parts = [Operand(part.dtype, part.shape) for part in (left, right)]
            digests = [base.digest, left.digest, right.digest]
            operands = [_operand(query, base), *parts]
            found += [
                (made.bits, made) for made in _made(query, operands, steps, digests, one.bits)
            ]
        if found and min(bits for bits, _ in found) <= EXACT_BITS:
            break
    if found:
        yield min(found, key=lambda pair: pair[0])[1]


def _factor_pairs(
    shape: tuple[int, ...], factors: Sequence[Factor]
) -> Iterator[tuple[Factor, Factor]]:
    """Yield B and A of one adapter whose product has this shape, by their names."""
    small = [
        one
        for one in factors
        if len(one.shape) == 2
        and one.dtype in plans.COMPUTED
        and prod(one.shape) * 8 <= MOST_FACTOR_BYTES
    ]
    rights: dict[str, list[Factor]] = {}
    for one in small:
        if "lora_A" in one.name and one.shape[1] == shape[1]:
            rights.setdefault(one.name, []).append(one)
    for left in small:
        if "lora_B" not in left.name or left.shape[0] != shape[0]:
            continue
        for right in rights.get(left.name.replace("lora_B", "lora_A"), []):
            if right.shape[0] == left.shape[1]:
                yield left, right


def _products(left: Factor, right: Factor, elements: Indices) -> dict[str, Array]:
    """Return the elements of left · right, by the type they are summed in."""
    rank, width = right.shape
    row, column = np.divmod(elements, width)
    inner = np.arange(rank)
    columns = left.read((row[:, None] * rank + inner).reshape(-1)).reshape(-1, rank)
    rows = right.read((inner * width + column[:, None]).reshape(-1)).reshape(-1, rank)
    return {
        dtype: product_of((columns.T, "F32"), (rows.T, "F32"), dtype) for dtype in ("F64", "F32")
    }
