"""Whether a tensor is another one with a low-rank adapter merged into it, told from some elements.

LoRA (Hu et al. 2021) adds scale × B · A to a weight; the scale is alpha / r, or alpha / √r
(rank-stabilised). See docs/format-plans.md for the arithmetic.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product as product_of_sets

import numpy as np

from hartonomous.core.casts import Array, cast
from hartonomous.core.linear_fit import CLAIM, Values, mean_steps, units
from hartonomous.core.plan import LowRank
from hartonomous.core.sums import add_product

_NEAR = 0.02
"""What noise may have moved a scale by, as a share of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSum:
    """How an adapter was added; ``bits`` as in ``core.linear_fit``."""

    step: LowRank
    bits: float


def fit_adapter(
    target: Values, base: Values, products: Mapping[str, Array], *, rank: int, dtype: str
) -> AdapterSum | None:
    """Return how ``target`` is ``base`` plus a multiple of a product, or None if it is not.

    All are the same elements, shape (n,); ``products`` are those of B · A, of this rank, by the
    type they were summed in, F64 among them. ``dtype`` is the target's type, F32, F16 or BF16.
    """
    sound = np.isfinite(target) & np.isfinite(base)
    for product in products.values():
        sound &= np.isfinite(product)
    target, base = target[sound], base[sound]
    if len(target) < 8:
        return None
    stored = cast(target, "F32", dtype)
    unit = units(target.astype(np.float64))
    apart = (target.astype(np.float64) - base) / unit
    along = products["F64"][sound] / unit
    if not (square := float(along @ along)) or not (scale := float(along @ apart) / square):
        return None

    def left(made: Values) -> float:
        """Return what a sum of the target's type leaves, squared and added up."""
        again = cast(made, dtype, "F32").astype(np.float64)
        return float((((target - again) / unit) ** 2).sum())

    with np.errstate(all="ignore"):
        sums = (base + scale * products["F64"][sound]).astype("<f4")
    if left(cast(sums, "F32", dtype)) >= CLAIM**2 * left(cast(base, "F32", dtype)):
        return None
    found = []
    types = dict.fromkeys(("F64", "F32", dtype))
    for one, work, kind in product_of_sets(_scales(scale, rank), types, products):
        made = cast(add_product((base, "F32"), products[kind][sound], one, work), work, dtype)
        found.append(AdapterSum(step=LowRank(one, work, kind), bits=mean_steps(stored, made)))
    return min(found, key=lambda one: round(one.bits, 3))


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
