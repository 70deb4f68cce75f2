"""ggml's search for the scales of a block of 256 without importance matrix, in numpy.

Port of ggml-quants.c (MIT, the ggml authors): ``quantize_row_q{2,3,4,5,6}_K_ref`` with
``make_qkx2_quants``, ``make_q3_quants``, ``make_qx_quants``. Sums run in the order of the elements,
one rounding an operation, so results equal C's. Vectorised over sub-blocks; slow all the same.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hartonomous.codecs.quantised_blocks import Codes, Shape
from hartonomous.codecs.quantised_numbers import Floats, Halves, greatest, nearest, to_half

_Signed = NDArray[np.int32]
_SMALLEST_PEAK = np.float32(1e-15)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Scales of blocks, as they are stored, and the codes that stay where a scale is 0."""

    scale: Halves
    minimum: Halves
    scales: Codes
    minima: Codes
    codes: Codes


def _sum(columns: Floats) -> Floats:
    """Add up the columns from the first to the last, as a loop does."""
    total = np.zeros(len(columns), np.float32)
    for column in columns.T:
        total = total + column
    return total


def _largest(values: Floats) -> Floats:
    found = np.zeros(len(values), np.float32)
    for column in values.T:
        found = np.where(column > found, column, found)
    return found


def search_minima(x: Floats, shape: Shape, steps: int) -> Found:
    """Search Q4_K, Q5_K or Q2_K blocks; ``x`` is (blocks, 256)."""
    n, most = shape.elements // shape.scales, shape.mask
    rows = x.reshape(-1, n)
    with np.errstate(all="ignore"):
        weights = np.abs(rows)
        if n == 32:
            weights = np.sqrt(_sum(rows * rows) / np.float32(32))[:, None] + weights
        scales, depths, codes = _minima_scales(rows, weights, most, absolute=n == 16)
        scales, depths = scales.reshape(len(x), -1), depths.reshape(len(x), -1)
        widest, deepest, top = _largest(scales), _largest(depths), np.float32(steps)
        by_scale = np.where(widest > 0, top / widest, np.float32(0))[:, None]
        by_depth = np.where(deepest > 0, top / deepest, np.float32(0))[:, None]
        return Found(
            to_half(widest / top), to_half(deepest / top),
            np.minimum(nearest(by_scale * scales, -255, 255) & 255, steps).astype(np.uint8),
            np.minimum(nearest(by_depth * depths, -255, 255) & 255, steps).astype(np.uint8),
            codes.reshape(len(x), -1),
        )  # fmt: skip


def _error(
    x: Floats, weights: Floats, codes: _Signed, scale: Floats, low: Floats, *, absolute: bool
) -> Floats:
    difference = scale[:, None] * codes.astype(np.float32) + low[:, None] - x
    difference = np.abs(difference) if absolute else difference * difference
    return _sum(weights * difference)


def _minima_scales(
    x: Floats, weights: Floats, most: int, *, absolute: bool
) -> tuple[Floats, Floats, Codes]:
    """Return scale, depth and codes of each row: ``make_qkx2_quants``."""
    tries, first = (20, -1.0) if most == 15 else (15, -0.5)
    low, high, sum_w = x[:, 0], x[:, 0], weights[:, 0]
    sum_x = sum_w * x[:, 0]
    for k in range(1, x.shape[1]):
        low = np.where(x[:, k] < low, x[:, k], low)
        high = np.where(x[:, k] > high, x[:, k], high)
        sum_w, sum_x = sum_w + weights[:, k], sum_x + weights[:, k] * x[:, k]
    low = np.where(low > 0, np.float32(0), low)
    flat, deep = high == low, -low
    factor = np.float32(most) / (high - low)
    scale = np.float32(1) / factor
    codes = nearest(factor[:, None] * (x - low[:, None]), 0, most)
    best = _error(x, weights, codes, scale, low, absolute=absolute)
    for turn in range(tries + 1):
        step = np.float32(first) + np.float32(0.1) * np.float32(turn) + np.float32(most)
        tried = nearest((step / (high - low))[:, None] * (x - low[:, None]), 0, most)
        l_ = tried.astype(np.float32)
        weighted = weights * l_
        sum_l, sum_l2, sum_xl = _sum(weighted), _sum(weighted * l_), _sum(weighted * x)
        divisor = sum_w * sum_l2 - sum_l * sum_l
        line = ((sum_w * sum_xl - sum_x * sum_l) / divisor).astype(np.float32)
        base = ((sum_l2 * sum_x - sum_l * sum_xl) / divisor).astype(np.float32)
        through_zero = (sum_xl / sum_l2).astype(np.float32)
        this_scale = np.where(base > 0, through_zero, line)
        this_low = np.where(base > 0, np.float32(0), base)
        error = _error(x, weights, tried, this_scale, this_low, absolute=absolute)
        better = (divisor > 0) & (error < best)
        codes[better] = tried[better]
        best = np.where(better, error, best)
        scale, low = np.where(better, this_scale, scale), np.where(better, this_low, low)
    codes[flat] = 0
    scale, depth = np.where(flat, np.float32(0), scale), np.where(flat, deep, -low)
    return scale, depth, codes.astype(np.uint8)


def search_symmetric(x: Floats, half: int, steps: int) -> Found:
    """Search Q3_K (``half`` 4, ``steps`` 32) or Q6_K (32, 128) blocks; ``x`` is (blocks, 256)."""
    three = half == 4
    with np.errstate(all="ignore"):
        rows = x.reshape(-1, 16)
        scales, codes = _q3_scales(rows) if three else _symmetric_scales(rows, half)
        scales, codes = scales.reshape(len(x), 16), codes.reshape(len(x), 256)
        largest = greatest(scales)
        factor = np.float32(-steps) / largest
        none = largest == 0 if three else np.abs(largest) < _SMALLEST_PEAK
        stored = nearest(factor[:, None] * scales, -steps, steps - 1) + steps * three
        stored[none] = 0
        if not three:
            codes[none] = 0
        scale = np.where(none, np.float32(0), np.float32(1) / factor)
    nothing = np.zeros((len(x), 0), np.uint8)
    return Found(
        to_half(scale), np.zeros_like(to_half(scale)), stored.astype(np.uint8), nothing, codes
    )


def _symmetric_scales(x: Floats, half: int) -> tuple[Floats, Codes]:
    """Return scale and codes of each row of 16: ``make_qx_quants`` with squares as weights."""
    peaks = greatest(x)
    weights = x * x

    def sums(l_: _Signed) -> tuple[Floats, Floats]:
        number = l_.astype(np.float32)
        return _sum(weights * x * number), _sum(weights * number * number)

    codes = nearest((np.float32(-half) / peaks)[:, None] * x, -half, half - 1)
    sum_lx, sum_l2 = sums(codes)
    scale = np.where(sum_l2 != 0, sum_lx / sum_l2, np.float32(0))
    best = scale * sum_lx
    for turn in [*range(-9, 0), *range(1, 10)]:
        factor = -(np.float32(half) + np.float32(0.1) * np.float32(turn)) / peaks
        tried = nearest(factor[:, None] * x, -half, half - 1)
        sum_lx, sum_l2 = sums(tried)
        better = (sum_l2 > 0) & (sum_lx * sum_lx > best * sum_l2)
        codes[better] = tried[better]
        scale = np.where(better, sum_lx / sum_l2, scale)
        best = np.where(better, scale * sum_lx, best)
    flat = np.abs(peaks) < _SMALLEST_PEAK
    codes += half
    codes[flat] = 0
    return np.where(flat, np.float32(0), scale), codes.astype(np.uint8)


def _q3_scales(x: Floats) -> tuple[Floats, Codes]:
    """Return scale and codes of each row of 16: ``make_q3_quants``."""
    peaks = greatest(x)
    found = nearest((np.float32(-4) / peaks)[:, None] * x, -4, 3)
    weights = x * x
    number = found.astype(np.float32)
    sum_lx, sum_l2 = _sum(weights * x * number), _sum(weights * number * number)
    going = np.ones(len(x), bool)
    for _ in range(5):
        changed = np.zeros(len(x), bool)
        for k in range(16):
            w, now = weights[:, k], found[:, k].astype(np.float32)
            lx, l2 = sum_lx - w * x[:, k] * now, sum_l2 - w * now * now
            quotient = (x[:, k] * l2 / lx).astype(np.float32)
            other = nearest(quotient, -4, 3)
            moves = going & (lx > 0) & (other != found[:, k])
            new = other.astype(np.float32)
            lx, l2 = lx + w * x[:, k] * new, l2 + w * new * new
            moves &= (l2 > 0) & (lx * lx * sum_l2 > sum_lx * sum_lx * l2)
            found[moves, k] = other[moves]
            sum_lx, sum_l2 = np.where(moves, lx, sum_lx), np.where(moves, l2, sum_l2)
            changed |= moves
        going &= changed
    flat = np.abs(peaks) < _SMALLEST_PEAK
    found += 4
    found[flat] = 0
    scale = np.where(sum_l2 > 0, sum_lx / sum_l2, np.float32(0))
    return np.where(flat, np.float32(0), scale), found.astype(np.uint8)
