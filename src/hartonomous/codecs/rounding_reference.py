"""Rounded bytes in numpy: the codes that scales give, and the fit of scales to codes and values.

What runs where there is no C kernel, and what the kernel is held to: sums are taken in the order of
the elements, each operation is rounded once. See "Rounded bytes" in docs/format-quantised.md.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
_Doubles = NDArray[np.float64]
_Groups = NDArray[np.int64]

TYPES = {"I8": 1, "U8": 2, "F8_E4M3": 3, "F8_E5M2": 4}
"""The number of each type in a payload."""
GROUP_BYTES = 5
"""Of a table, for each scale: float32, and a zero point."""

# Mantissa bits, exponent bias, largest code that is a finite number.
_FLOATS = {"F8_E4M3": (3, 7, 0x7E), "F8_E5M2": (2, 15, 0x7B)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Which elements share a scale: blocks of ``block_rows`` × ``block_columns`` of a matrix.

    ``columns`` is the length of a row in elements. A block of 0 rows or columns has all of them:
    the default is one scale, ``block_rows=1`` one a row, ``block_columns=1`` one a column.
    """

    columns: int = 0
    block_rows: int = 0
    block_columns: int = 0

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Columns, and rows and columns of a block, as C takes them."""
        return self.columns, self.block_rows, self.block_columns

    def count(self, position: int, elements: int) -> int:
        """Return how many scales elements from ``position`` on have."""
        first, last = self._row_block(position), self._row_block(position + max(elements, 1) - 1)
        return (last - first + 1) * self._across()

    def groups(self, position: int, elements: int) -> _Groups:
        """Return the number of each element's scale, counted from the first one's row of blocks."""
        if not self.columns:
            return np.zeros(elements, np.int64)
        places = np.arange(position, position + elements, dtype=np.int64)
        rows, columns = np.divmod(places, self.columns)
        groups = np.zeros(elements, np.int64)
        if self.block_rows:
            groups = (rows // self.block_rows - self._row_block(position)) * self._across()
        if self.block_columns:
            groups = groups + columns // self.block_columns
        return groups

    def _row_block(self, place: int) -> int:
        return place // self.columns // self.block_rows if self.columns and self.block_rows else 0

    def _across(self) -> int:
        return -(-self.columns // self.block_columns) if self.columns and self.block_columns else 1


def rounded(  # noqa: PLR0917 - arrays, as C takes them
    dtype: str, table: Bytes, values: Floats, position: int, grid: Grid, residual: Bytes | None
) -> Bytes:
    """Return the codes of values that begin at an element, by a table of scales.

    ``residual``, a byte a code, is added to them.
    """
    rows = table.reshape(-1, GROUP_BYTES)
    scales = np.ascontiguousarray(rows[:, :4]).view("<f4").reshape(-1)
    groups = grid.groups(position, len(values))
    codes = _round(dtype, values, scales[groups], rows[:, 4][groups])
    return codes if residual is None else codes + residual


def fit(dtype: str, content: Bytes, values: Floats, position: int, grid: Grid) -> Bytes:
    """Return the table of scales and zero points that give most of ``content`` back."""
    groups, count = grid.groups(position, len(values)), grid.count(position, len(values))
    scales, zeros = _fit(dtype, content, values, groups, count)
    table = np.empty((count, GROUP_BYTES), np.uint8)
    table[:, :4] = scales.astype("<f4").view(np.uint8).reshape(-1, 4)
    table[:, 4] = zeros
    return table.reshape(-1)


def _round(dtype: str, values: Floats, scales: Floats, zeros: Bytes) -> Bytes:
    """Return the bytes that each value becomes; NaN becomes the smallest integer, or FP8's NaN."""
    with np.errstate(all="ignore"):
        scaled = values / scales
        if dtype in _FLOATS:
            return _round_float(dtype, scaled)
        low, high = (-128, 127) if dtype == "I8" else (0, 255)
        zero = zeros.view(np.int8) if dtype == "I8" else zeros
        number = np.rint(scaled) + zero.astype(np.float32)
        number = np.where(number > low, number, np.float32(low))
        number = np.where(number < high, number, np.float32(high))
        return number.astype(np.int16).astype(np.uint8)


def _round_float(dtype: str, scaled: Floats) -> Bytes:
    """Round to FP8: nearest, ties to even, finite numbers beyond the largest become it."""
    mantissa, bias, largest = _FLOATS[dtype]
    bits = scaled.view(np.uint32)
    size, drop = bits & np.uint32(0x7FFFFFFF), 23 - mantissa
    normal = (size + np.uint32((1 << drop - 1) - 1) + (size >> drop & 1)) >> drop
    normal = normal.astype(np.int32) - ((127 - bias) << mantissa)
    few = np.rint(
        np.minimum(np.abs(scaled), np.float32(1)) * np.float32(2.0 ** (bias - 1 + mantissa))
    )
    few = np.where(np.isnan(few), np.float32(0), few)
    small = size < np.uint32((128 - bias) << 23)
    codes = np.minimum(np.where(small, few.astype(np.int32), normal), largest)
    codes = np.where(size > 0x7F800000, 0x7F, codes)
    return (codes | (bits >> 24 & 0x80).astype(np.int32)).astype(np.uint8)


def _fit(
    dtype: str, content: Bytes, values: Floats, groups: _Groups, count: int
) -> tuple[Floats, Bytes]:
    """Return scales and zero points that give most of ``content`` back."""
    x = np.where(np.isfinite(values), values, np.float32(0)).astype(np.float64)
    zeros = np.zeros(count, np.uint8)
    sizes, lower, upper = steps(dtype)
    if dtype in _FLOATS:
        magnitude = (content & 0x7F).astype(np.int64)
    else:
        code = (content.view(np.int8) if dtype == "I8" else content).astype(np.float64)
        zero = _zero_points(dtype, code, x, groups, count)
        zeros = zero.astype(np.int16).astype(np.uint8)
        ends = (-128, 127) if dtype == "I8" else (0, 255)
        magnitude = np.abs(code - zero[groups]).astype(np.int64)
    size = np.abs(x)
    with np.errstate(all="ignore"):
        open_end = (
            np.zeros(len(x), bool) if dtype in _FLOATS else (code == ends[0]) | (code == ends[1])
        )
        least = np.where(open_end, 0, size / upper[magnitude])
        most = np.where(magnitude > 0, size / lower[magnitude], np.inf)
        most[size == 0] = np.inf
        bottom, top = np.zeros(count), np.full(count, np.inf)
        np.maximum.at(bottom, groups, least)
        np.minimum.at(top, groups, most)
        weight = np.bincount(groups, sizes[magnitude] ** 2, count)
        ratio = np.bincount(groups, size * sizes[magnitude], count) / weight
        middle = np.where(top < np.inf, (bottom + top) / 2, 2 * bottom)
        candidates = [np.where(one > 0, one, 1).astype(np.float32) for one in (middle, ratio)]
    candidates = [np.where(np.isfinite(one), one, np.float32(1)) for one in candidates]
    missed = [
        np.bincount(groups, _round(dtype, values, one[groups], zeros[groups]) != content, count)
        for one in candidates
    ]
    return np.where(missed[0] <= missed[1], candidates[0], candidates[1]), zeros


@cache
def steps(dtype: str) -> tuple[_Doubles, _Doubles, _Doubles]:
    """Return the size of each magnitude of a code, and where rounding to it begins and ends.

    Magnitudes of integers are their distances from the zero point, of FP8 the codes without sign.
    """
    if dtype not in _FLOATS:
        sizes = np.arange(256, dtype=np.float64)
        return sizes, np.maximum(sizes - 0.5, 0), sizes + 0.5
    mantissa, bias, largest = _FLOATS[dtype]
    codes = np.arange(128)
    exponent, fraction = codes >> mantissa, (codes & ((1 << mantissa) - 1)) / (1 << mantissa)
    whole = np.where(exponent > 0, 1 + fraction, fraction)
    sizes = whole * 2.0 ** (np.maximum(exponent, 1) - bias)
    sizes[largest + 1 :] = 0
    lower, upper = np.zeros(128), np.full(128, np.inf)
    lower[1 : largest + 1] = (sizes[:largest] + sizes[1 : largest + 1]) / 2
    upper[:largest] = lower[1 : largest + 1]
    return sizes, lower, upper


def _zero_points(dtype: str, code: _Doubles, x: _Doubles, groups: _Groups, count: int) -> _Doubles:
    """Return each group's zero point: where the line through (value, code) meets value 0."""
    low, high = (-128, 127) if dtype == "I8" else (0, 255)
    inside = ((code > low) & (code < high)).astype(np.float64)
    with np.errstate(all="ignore"):
        total = np.bincount(groups, inside, count)
        mean_x = np.bincount(groups, x * inside, count) / total
        mean_code = np.bincount(groups, code * inside, count) / total
        apart = (x - mean_x[groups]) * inside
        slope = np.bincount(groups, apart * code, count) / np.bincount(groups, apart * apart, count)
        found = np.rint(mean_code - slope * mean_x)
    found = np.where(np.isfinite(found), found, 0.0)
    return np.clip(found, low, high)
