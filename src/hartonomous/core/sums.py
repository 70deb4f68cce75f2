"""Weighted sums and products of low rank, to the bit, as docs/format-plans.md specifies them.

No operation is fused with another: a product is rounded before it is added. A NaN that comes out
is the positive quiet one without payload, since processors differ in what they make.
"""

from collections.abc import Sequence

import numpy as np

from hartonomous.core.casts import Array, cast, without_payload

Typed = tuple[Array, str]
"""Elements and the name of their type."""


def linear(values: Sequence[Typed], weights: Sequence[float], dtype: str, divisor: float) -> Array:
    """Return Σ weight × value in the order of the values, over ``divisor`` unless that is 1.

    Each product, sum and quotient is rounded to ``dtype``; see ``_Arithmetic``.
    """
    work = _Arithmetic(dtype)
    with np.errstate(all="ignore"):
        total = work.scaled(values[0], weights[0])
        for value, weight in zip(values[1:], weights[1:], strict=True):
            total = work.rounded(np.add(total, work.scaled(value, weight), out=total))
        if divisor != 1:
            total = work.rounded(np.divide(total, work.wide.type(divisor), out=total))
        return work.result(total)


def low_rank(base: Typed, left: Typed, right: Typed, scale: float, dtype: str) -> Array:
    """Return base + scale × left · right: arrays (rows, columns), (rows, r) and (r, columns).

    The product of matrices is summed in F64 over r in order; see ``add_product`` for the rest.
    """
    with np.errstate(all="ignore"):
        columns, rows = cast(*left, "F64"), cast(*right, "F64")
        product = columns[:, :1] * rows[:1]
        term = np.empty_like(product)
        for k in range(1, len(rows)):
            np.multiply(columns[:, k : k + 1], rows[k : k + 1], out=term)
            product += term
    return add_product(base, product, scale, dtype)


def add_product(base: Typed, product: Array, scale: float, dtype: str) -> Array:
    """Return base + scale × product, elements of one shape; ``product`` is F64.

    The product is rounded to ``dtype``, scaled and rounded, added and rounded.
    """
    work = _Arithmetic(dtype)
    with np.errstate(all="ignore"):
        product = work.rounded(cast(product, "F64", work.wide_name))
        product = work.rounded(product * work.wide.type(scale))
        return work.result(work.rounded(work.read(base) + product))


class _Arithmetic:
    """Operations rounded to one type.

    F64 and F32 are computed in themselves. BF16 and F16 are computed in F32, each result rounded to
    the type; weights are F32 there, as in PyTorch.
    """

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.wide_name = "F64" if dtype == "F64" else "F32"
        self.wide = np.dtype("<f8" if dtype == "F64" else "<f4")

    def read(self, value: Typed) -> Array:
        """Return the elements as F64 or F32, rounded if they are wider than that."""
        return cast(*value, self.wide_name)

    def scaled(self, value: Typed, weight: float) -> Array:
        """Return weight × value in an array of its own."""
        return self.rounded(self.read(value) * self.wide.type(weight))

    def rounded(self, values: Array) -> Array:
        """Round to the type; the array stays F64 or F32."""
        if self.dtype == self.wide_name:
            return values
        return cast(cast(values, "F32", self.dtype), self.dtype, "F32")

    def result(self, values: Array) -> Array:
        """Return the elements as the type has them, NaNs made one."""
        return cast(without_payload(values), self.wide_name, self.dtype)
