"""Whether a tensor is another one with a low-rank adapter merged into it, told from some elements.

LoRA (Hu et al. 2021) adds scale × B · A to a weight; the scale is alpha / r, or alpha / √r
(rank-stabilised). See docs/format-plans.md for the arithmetic.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hartonomous.core.casts import cast
from hartonomous.core.linear_fit import CLAIM, Reals, Values, mean_steps, units
from hartonomous.core.sums import add_product

_NEAR = 0.02
"""What noise may have moved a scale by, as a share of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSum:
    """The scale of an adapter and the type that it was added in; ``steps`` as in ``linear_fit``."""

    scale: float
    dtype: str
    steps: float


def fit_adapter(
    target: Values, base: Values, product: Reals, *, rank: int, dtype: str
) -> AdapterSum | None:
    """Return how ``target`` is ``base`` plus a multiple of ``product``, or None if it is not.

    All are the same elements, shape (n,); ``product`` those of B · A, of this rank. ``dtype`` is
    the target's type, F32, F16 or BF16.
    """
    sound = np.isfinite(target) & np.isfinite(base) & np.isfinite(product)
    target, base, product = target[sound], base[sound], product[sound]
    if len(target) < 8:
        return None
    stored = cast(target, "F32", dtype)
    unit = units(target.astype(np.float64))
    apart = (target.astype(np.float64) - base) / unit
    along = product / unit
    if not (square := float(along @ along)) or not (scale := float(along @ apart) / square):
        return None

    def left(made: Values) -> float:
        """Return what a sum of the target's type leaves, squared and added up."""
        again = cast(made, dtype, "F32").astype(np.float64)
        return float((((target - again) / unit) ** 2).sum())

    with np.errstate(all="ignore"):
        sums = (base + scale * product).astype("<f4")
    if left(cast(sums, "F32", dtype)) >= CLAIM**2 * left(cast(base, "F32", dtype)):
        return None
    found = []
    for one in _scales(scale, rank):
        for work in dict.fromkeys(("F64", "F32", dtype)):
            made = cast(add_product((base, "F32"), product, one, work), work, dtype)
            found.append(AdapterSum(scale=one, dtype=work, steps=mean_steps(stored, made)))
    return min(found, key=lambda one: round(one.steps, 3))


def _scales(scale: float, rank: int) -> Iterator[float]:
    """Yield likely scales near the one found, then that one."""
    root = float(np.sqrt(rank))
    likely = (
        round(scale * rank) / rank,
        round(scale * root) / root,
        round(scale, 1),
        round(scale, 2),
    )
    for one in dict.fromkeys(likely):
        if one and abs(one - scale) <= _NEAR * abs(scale):
            yield one
    yield scale
