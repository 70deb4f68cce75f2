"""Weighted sums and products of low rank, to the bit, as docs/format-plans.md specifies them.

No operation is fused with another: a product is rounded before it is added. A NaN that comes out
is the positive quiet one without payload, since processors differ in what they make.
"""

from collections.abc import Sequence

import numpy as np

from hartonomous.core.casts import STORED, Array, cast, without_payload

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


def task_vectors(
    values: Sequence[Typed], weights: Sequence[float], dtype: str, scale: float
) -> Array:
    """Return value 0 + scale × Σ weight × (each further value - value 0), in their order.

    Each operation is rounded to ``dtype``; without further values it is value 0.
    """
    work = _Arithmetic(dtype)
    with np.errstate(all="ignore"):
        base = work.rounded(work.read(values[0]))
        total = np.zeros_like(base)
        for number, (value, weight) in enumerate(zip(values[1:], weights, strict=True)):
            apart = work.rounded(work.read(value) - base)
            term = work.rounded(apart * work.wide.type(weight))
            total = work.rounded(total + term) if number else term
        total = work.rounded(total * work.wide.type(scale))
        return work.result(work.rounded(base + total))


def low_rank(
    base: Typed, left: Typed, right: Typed, scale: float, dtype: str, *, product: str = "F64"
) -> Array:
    """Return base + scale × left · right: arrays (rows, columns), (rows, r) and (r, columns).

    See ``product_of`` and ``add_product``.
    """
    columns, rows = left[0].T[..., None], right[0][:, None, :]
    made = product_of((columns, left[1]), (rows, right[1]), product)
    return add_product(base, made, scale, dtype)


def product_of(left: Typed, right: Typed, dtype: str) -> Array:
    """Return Σ left[k] × right[k] over k in order, F64 or F32 (``dtype``); NaN as it comes.

    The arrays have k as their first axis and broadcast in the others. For F32 they are cast to F32;
    each product and sum is computed in F64 and then rounded: that is what the fused multiplications
    of matrix libraries make (measured with OpenBLAS and MKL), except where F64 rounds to a tie.
    """
    with np.errstate(all="ignore"):
        columns, rows = (cast(cast(*one, dtype), dtype, "F64") for one in (left, right))
        total: Array = (columns[0] * rows[0]).astype(STORED[dtype])
        term = np.empty(total.shape, np.float64)
        for k in range(1, len(rows)):
            np.multiply(columns[k], rows[k], out=term)
            term += total
            total[...] = term
    return total


def add_product(base: Typed, product: Array, scale: float, dtype: str) -> Array:
    """Return base + scale × product, elements of one shape; ``product`` is F64 or F32.

    The product is rounded to ``dtype``, scaled and rounded, added and rounded.
    """
    work = _Arithmetic(dtype)
    with np.errstate(all="ignore"):
        product = work.rounded(product.astype(work.wide))
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
