"""Arithmetic of float32 that quantisers share, in numpy: one rounding an operation, as C does it.

"Arithmetic" of docs/format-quantised.md defines each of these.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Halves = NDArray[np.uint16]


def to_half(values: Floats) -> Halves:
    """Return f16 bits, rounded to nearest, ties to even; NaN becomes 0."""
    numbers = np.where(np.isnan(values), np.float32(0), values)
    return numbers.astype(np.float16).view(np.uint16)


def from_half(bits: Halves) -> Floats:
    """Return the values of f16 bits."""
    return bits.view(np.float16).astype(np.float32)


def inverse(values: Floats) -> Floats:
    """Return 1 / value, 0 for 0."""
    return np.where(values != 0, np.float32(1) / values, np.float32(0)).astype(np.float32)


def clip(values: Floats, low: float, high: float) -> Floats:
    """Return values within [low, high]; NaN becomes ``low``."""
    values = np.where(values > low, values, np.float32(low))
    return np.where(values < high, values, np.float32(high))


def nearest(values: Floats, low: float, high: float) -> NDArray[np.int32]:
    """Return the nearest integers within [low, high], halves to even; NaN gives ``low``."""
    return np.rint(clip(values, low, high)).astype(np.int32)


def ranges(x: Floats) -> tuple[Floats, Floats]:
    """Return smallest and largest value along the last axis, NaN left out, zeros positive."""
    low = np.fmin.reduce(x, axis=-1, initial=np.float32(np.inf)) + np.float32(0)
    return low, np.fmax.reduce(x, axis=-1, initial=np.float32(-np.inf)) + np.float32(0)


def greatest(x: Floats) -> Floats:
    """Return the value of the largest magnitude along the last axis, the first of equals.

    NaN is left out; 0 where there is nothing else.
    """
    low, high = ranges(x)
    peak = np.where(high > -low, high, np.where(high < -low, low, np.float32(0)))
    equal = (high == -low) & (high > 0)
    if equal.any():
        rows = x[equal]
        first = (np.abs(rows) == high[equal][:, None]).argmax(axis=1)
        peak[equal] = rows[np.arange(len(rows)), first]
    return peak
