"""Which weighted sum of tensors another one is, told from some elements of each.

Least squares over two to eight tensors at the positions of their sketches; then the weights are
rounded to the simplest numbers that explain the target as well, since whoever merges models writes
halves, thirds and decimals. See docs/format-plans.md for the arithmetic of the sum.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from hartonomous.core.casts import cast
from hartonomous.core.plan import Linear, TaskVectors
from hartonomous.core.sums import linear, task_vectors

Values = NDArray[np.float32]
Reals = NDArray[np.float64]

MAX_PARENTS = 8
CLAIM = 0.1
"""A merge is claimed if it leaves less than this share of what its nearest parent leaves."""

_DENOMINATORS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20, 25, 100, 1000)
_FURTHEST = 0.03
"""What noise may have moved a weight by; see ``_simple``."""
_SETS_TRIED = 6
_WEIGHTS_TRIED = 8
_EXACT = 0.002
_STEP = {"F32": 2.0**-23, "F16": 2.0**-10, "BF16": 2.0**-7}
_FEW = 0.15
"""What a few elements that are rounded the other way add, as a share of a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """A weighted sum: of which parents (their numbers, in the order of the step), and the step.

    ``bits`` is the mean of log2(1 + numbers of the target's type in between), 0 if every element
    looked at is exact.
    """

    parents: tuple[int, ...]
    step: Linear | TaskVectors
    bits: float


def ordered(values: NDArray[np.generic]) -> NDArray[np.int64]:
    """Return whole numbers in the order of stored floats, one apart where these are neighbours."""
    size = values.dtype.itemsize
    bits = values.view(f"<u{size}").astype(np.int64)
    sign = 1 << (8 * size - 1)
    return np.where(bits & sign, sign - bits, bits)


def mean_steps(target: NDArray[np.generic], made: NDArray[np.generic]) -> float:
    """Return the mean of log2(1 + numbers in between) of stored floats of one type."""
    apart = np.abs(ordered(target) - ordered(made))
    return float(np.log2(1.0 + apart).mean())


def units(target: Reals) -> Reals:
    """Return what each element is weighed by: its size, but no less than a 64th of the median."""
    size = np.abs(target)
    return np.maximum(size, max(float(np.median(size)) / 64, 1e-30))


def fit_sum(target: Values, parents: Sequence[Values], dtype: str) -> Sum | None:
    """Return the weighted sum of two or more parents that ``target`` is, or None.

    ``target`` and each of the parents are the same elements, float32 of shape (n,), n at least four
    times the number of parents, of which the first eight are looked at. ``dtype`` is the target's
    type, F32, F16 or BF16: what it rounds away is not held against a sum.
    """
    parents = parents[:MAX_PARENTS]
    table = np.stack([target, *parents], axis=1).astype(np.float64)
    sound = np.isfinite(table).all(axis=1)
    if len(parents) < 2 or sound.sum() < 4 * len(parents):
        return None
    table = table[sound]
    problem = _Problem(table[:, 0], table[:, 1:], dtype)
    limit = CLAIM * min(problem.left([k], np.ones(1)) for k in range(len(parents)))
    found: Sum | None = None
    for chosen, weights in problem.best_sets(limit):
        one = problem.simplest(chosen, weights)
        # Sets come with the fewest parents first: more must leave less than a hundredth of a bit.
        if found is None or one.bits < found.bits - 0.01:
            found = one
    return found


class _Problem:
    """Least squares of a target by parents, each element weighed by what a float may be off."""

    def __init__(self, target: Reals, parents: Reals, dtype: str) -> None:
        self.parents = parents.astype(np.float32)
        self.dtype = dtype
        self.stored = cast(target.astype("<f4"), "F32", dtype)
        self.target = target
        self.unit = units(target)
        # Parents are alike: differences from the first one are what tells them apart.
        columns = parents / self.unit[:, None]
        columns[:, 1:] -= columns[:, :1]
        scale = np.sqrt((columns**2).sum(axis=0))
        self.scale = np.where(scale > 0, scale, 1.0)
        joined = np.column_stack([columns / self.scale, target / self.unit])
        self.reduced = np.asarray(np.linalg.qr(joined, mode="r"), np.float64)

    def rounded(self, values: Reals) -> Reals:
        """Return values rounded to the target's type."""
        stored = cast(values.astype("<f4"), "F32", self.dtype)
        return cast(stored, self.dtype, "F32").astype(np.float64)

    def left(self, chosen: Sequence[int], weights: Reals) -> float:
        """Return the root mean square of what a sum, rounded to the type, leaves."""
        made = self.rounded(self.parents[:, list(chosen)].astype(np.float64) @ weights)
        return float(np.sqrt((((self.target - made) / self.unit) ** 2).mean()))

    def best_sets(self, limit: float) -> Iterator[tuple[tuple[int, ...], Reals]]:
        """Yield sets of parents and weights that leave less than ``limit``, the best first."""
        count = self.parents.shape[1]
        found = []
        for size in (2, 3):
            found += self._solve_all(list(combinations(range(count), size)))
        found += self._eliminate(tuple(range(count)))
        unique = {chosen: (left, chosen, weights) for left, chosen, weights in found}
        ranked = sorted(unique.values(), key=lambda one: (one[0], len(one[1])))[: 4 * _SETS_TRIED]
        judged = [(self.left(chosen, weights), chosen, weights) for _, chosen, weights in ranked]
        judged = [one for one in judged if one[0] < limit or one[0] == 0.0]
        # One more parent always explains a little more; where that is noise, fewer come first.
        near = 1.5 * min((one[0] for one in judged), default=0.0) + 0.02 * limit
        alike = [one for one in judged if one[0] <= near]
        for _, chosen, weights in sorted(alike, key=lambda one: (len(one[1]), one[0]))[
            :_SETS_TRIED
        ]:
            yield chosen, weights

    def _solve_all(self, sets: list[tuple[int, ...]]) -> list[tuple[float, tuple[int, ...], Reals]]:
        """Solve the least squares of sets of one size together."""
        if not sets:
            return []
        wanted = self.reduced[:, -1]
        basis = np.stack([self._basis(chosen) for chosen in sets])
        solved = np.linalg.pinv(basis, rcond=1e-12) @ wanted
        left = wanted - (basis @ solved[..., None])[..., 0]
        square = (left**2).sum(axis=1)
        return [
            (float(square[k]), chosen, self._weights(chosen, solved[k]))
            for k, chosen in enumerate(sets)
        ]

    def _basis(self, chosen: tuple[int, ...]) -> Reals:
        """Return the columns of the first parent chosen and of differences from it, reduced."""
        first, *others = chosen
        whole = self.reduced[:, :-1] * self.scale
        base = whole[:, 0] + (whole[:, first] if first else 0)
        rest = [whole[:, k] - (whole[:, first] if first else 0) for k in others]
        columns = np.column_stack([base, *rest])
        return columns / self._lengths(columns)

    @staticmethod
    def _lengths(columns: Reals) -> Reals:
        lengths = np.sqrt((columns**2).sum(axis=0))
        return np.where(lengths > 0, lengths, 1.0)

    def _weights(self, chosen: tuple[int, ...], solved: Reals) -> Reals:
        first, *others = chosen
        whole = self.reduced[:, :-1] * self.scale
        base = whole[:, 0] + (whole[:, first] if first else 0)
        rest = [whole[:, k] - (whole[:, first] if first else 0) for k in others]
        weights = solved / self._lengths(np.column_stack([base, *rest]))
        # base: sum of all weights; others: their own.
        return np.concatenate([[weights[0] - weights[1:].sum()], weights[1:]])

    def _eliminate(self, chosen: tuple[int, ...]) -> list[tuple[float, tuple[int, ...], Reals]]:
        """Begin with all parents, and leave out again and again the one that explains least."""
        found = []
        while len(chosen) > 3:
            found += self._solve_all([chosen])
            fewer = self._solve_all(list(combinations(chosen, len(chosen) - 1)))
            chosen = min(fewer, key=lambda one: one[0])[1]
        return found

    def simplest(self, chosen: tuple[int, ...], weights: Reals) -> Sum:
        """Return the sum of these parents whose arithmetic leaves the fewest bits.

        Tries simple weights that leave hardly more than those that were found, then these; as they
        are, over a divisor, and, unless that is exact, as task vectors of each parent.
        """
        least = self.left(chosen, weights)
        near = [
            one
            for one in _simple(weights)
            if self.left(chosen, np.array(one)) <= 1.05 * least + _FEW * _STEP[self.dtype]
        ]
        tries = [*near[:_WEIGHTS_TRIED], tuple(weights.tolist())]
        types = tuple(dict.fromkeys(("F64", "F32", self.dtype)))
        best = self._best(chosen, (step for one in tries for step in _sums(one, types)))
        if best.bits < _EXACT:
            return best
        turned = [best]
        for k, base in enumerate(chosen):
            others = [(*one[:k], *one[k + 1 :]) for one in tries if abs(sum(one) - 1) <= _FURTHEST]
            order = (base, *chosen[:k], *chosen[k + 1 :])
            steps = [step for one in others for step in _task_vectors(one, types)]
            turned += [self._best(order, steps)] if steps else []
        return min(turned, key=lambda one: round(one.bits, 3))

    def _best(self, chosen: tuple[int, ...], steps: Iterable[Linear | TaskVectors]) -> Sum:
        """Return the step that leaves the fewest bits, the first among equals."""
        parents = [(np.ascontiguousarray(self.parents[:, k]), "F32") for k in chosen]
        found = []
        for step in steps:
            if isinstance(step, Linear):
                made = linear(parents, step.weights, step.dtype, step.divisor)
            else:
                made = task_vectors(parents, step.weights, step.dtype, step.scale)
            bits = mean_steps(self.stored, cast(made, step.dtype, self.dtype))
            found.append(Sum(parents=chosen, step=step, bits=bits))
        return min(found, key=lambda one: round(one.bits, 3))


def _sums(weights: tuple[float, ...], types: Sequence[str]) -> Iterator[Linear]:
    for dtype in types:
        yield Linear(weights, dtype)
        if min(weights) == max(weights) > 0:
            yield Linear((1.0,) * len(weights), dtype, round(1 / weights[0], 9))


def _task_vectors(weights: tuple[float, ...], types: Sequence[str]) -> Iterator[TaskVectors]:
    for dtype in types:
        yield TaskVectors(weights, dtype)
        if len(weights) > 1 and min(weights) == max(weights):
            yield TaskVectors((1.0,) * len(weights), dtype, weights[0])


def _simple(weights: Reals) -> Iterator[tuple[float, ...]]:
    """Yield fractions near the weights, those of small denominators first; no weight is 0."""
    seen = set()
    for denominator in _DENOMINATORS:
        whole = np.round(weights * denominator)
        near = np.abs(whole / denominator - weights).max() <= _FURTHEST
        simple = tuple(float(number) / denominator for number in whole)
        if near and whole.all() and simple not in seen:
            seen.add(simple)
            yield simple
