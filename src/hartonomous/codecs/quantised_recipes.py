"""Predictions of quantised blocks from floats, in numpy: the same bits as the C kernel.

docs/format-quantised.md specifies each step. Every array operation here is one rounding of float32,
or exact; C does the same with contraction off. ``split`` takes blocks apart into differences from
the prediction, ``join`` puts them together again.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hartonomous.codecs import quantised_search
from hartonomous.codecs.quantised_blocks import (
    REFERENCE,
    SEARCHED,
    STORED,
    Blocks,
    Codes,
    Parts,
    Shape,
    empty_parts,
    gather_blocks,
    spread_blocks,
)
from hartonomous.codecs.quantised_numbers import (
    Floats,
    Halves,
    clip,
    from_half,
    greatest,
    inverse,
    nearest,
    ranges,
    to_half,
)

GROUP_BLOCKS = 2048
"""Blocks worked on at once, so that temporaries stay at some megabytes."""

_IQ4_BORDERS = (
    -115.5, -93.5, -74.0, -57.0, -42.0, -28.5, -16.0, -4.5,
    7.0, 19.0, 31.5, 45.5, 61.0, 79.0, 101.0,
)  # fmt: skip
_MXFP4_VALUES = (0, 1, 2, 3, 4, 6, 8, 12)


@dataclass(slots=True, eq=False)
class Differences:
    """The table of differences, (blocks, bytes); read where ``decoding``, else written."""

    table: NDArray[np.uint8]
    decoding: bool
    at: int = 0

    def halves(self, kept: Halves, predicted: Halves) -> Halves:
        """Settle an f16 number of each block: signed difference of its bits, zigzag."""
        column = self.table[:, self.at : self.at + 2]
        self.at += 2
        if self.decoding:
            turned = np.ascontiguousarray(column).view("<u2").reshape(-1)
            return predicted + ((turned >> 1) ^ (0 - (turned & 1)))
        difference = kept - predicted
        turned = difference << 1 ^ (difference >> 15) * np.uint16(0xFFFF)
        column[:] = turned.astype("<u2").view(np.uint8).reshape(-1, 2)
        return kept

    def bytes(self, kept: Codes, predicted: NDArray[np.int32], mask: int) -> Codes:
        """Settle columns of small numbers: difference within ``mask``."""
        column = self.table[:, self.at : self.at + predicted.shape[1]]
        self.at += predicted.shape[1]
        if self.decoding:
            settled: Codes = ((predicted + column) & mask).astype(np.uint8)
            return settled
        column[:] = (kept.astype(np.int32) - predicted) & mask
        return kept


def split(  # noqa: PLR0917 - arrays, as C takes them
    shape: Shape, recipe: int, blocks: Blocks, source: Floats,
    header: NDArray[np.uint8], residual: NDArray[np.uint8],
) -> int:  # fmt: skip
    """Fill ``header`` and ``residual`` with the differences; returns how many codes were wrong."""
    table = blocks.reshape(-1, shape.byte_count)
    wrong = 0
    for rows in _groups(len(table)):
        parts = spread_blocks(shape, table[rows])
        kept = Differences(header.reshape(len(table), -1)[rows], decoding=False)
        codes = _settle(shape, recipe, source.reshape(-1, shape.elements)[rows], parts, kept)
        missed = (parts.codes - codes) & np.uint8(shape.mask)
        residual.reshape(-1, shape.elements)[rows] = missed
        wrong += int(np.count_nonzero(missed))
    return wrong


def join(  # noqa: PLR0917 - arrays, as C takes them
    shape: Shape, recipe: int, header: NDArray[np.uint8], source: Floats,
    residual: NDArray[np.uint8] | None, blocks: Blocks,
) -> None:  # fmt: skip
    """Fill ``blocks`` from source and differences; undoes ``split``."""
    table = blocks.reshape(-1, shape.byte_count)
    for rows in _groups(len(table)):
        kept = Differences(header.reshape(len(table), -1)[rows], decoding=True)
        x = source.reshape(-1, shape.elements)[rows]
        parts = empty_parts(shape, len(x))
        parts.codes = _settle(shape, recipe, x, parts, kept)
        if residual is not None:
            parts.codes += residual.reshape(-1, shape.elements)[rows]
            parts.codes &= np.uint8(shape.mask)
        table[rows] = gather_blocks(shape, parts)


def _groups(count: int) -> list[slice]:
    return [slice(at, at + GROUP_BLOCKS) for at in range(0, count, GROUP_BLOCKS)]


def _settle(shape: Shape, recipe: int, x: Floats, parts: Parts, kept: Differences) -> Codes:
    """Settle the scales of ``parts``; returns the predicted codes."""
    name, searched = shape.name, recipe == SEARCHED
    with np.errstate(all="ignore"):
        if name in ("Q2_K", "Q4_K", "Q5_K"):
            return _minima(shape, x, parts, kept, searched=searched)
        if name in ("Q3_K", "Q6_K"):
            return _symmetric(shape, x, parts, kept, searched=searched)
        if name == "IQ4_XS":
            return _iq4_xs(x, parts, kept)
        if name == "IQ4_NL":
            parts.scale = kept.halves(parts.scale, to_half(greatest(x) / np.float32(127)))
            return _iq4_codes(x * inverse(from_half(parts.scale))[:, None])
        if name == "MXFP4":
            return _mxfp4(x, parts, kept)
        if name == "Q8_0":
            return _q8_0(x, recipe, parts, kept)
        return _plain(shape, x, recipe, parts, kept)


def _iq4_codes(x: Floats) -> Codes:
    codes = np.zeros(x.shape, np.uint8)
    for border in _IQ4_BORDERS:
        codes += x >= np.float32(border)
    return codes


# --- types ----------------------------------------------------------------------------------------


def _minima(shape: Shape, x: Floats, parts: Parts, kept: Differences, *, searched: bool) -> Codes:
    """Settle Q4_K, Q5_K, Q2_K: x = scale × code − minimum."""
    most, steps = shape.mask, 15 if shape.name == "Q2_K" else 63
    grouped = x.reshape(len(x), shape.scales, -1)
    low, high = ranges(grouped)
    low = np.where(low < 0, low, np.float32(0))
    width, depth = (high - low) / np.float32(most), -low
    if searched:
        found = quantised_search.search_minima(x, shape, steps)
        scale, minimum = found.scale, found.minimum
    else:
        scale = to_half(_most(width) / np.float32(steps))
        minimum = to_half(_most(depth) / np.float32(steps))
    parts.scale = kept.halves(parts.scale, scale)
    parts.minimum = kept.halves(parts.minimum, minimum)
    d, m = from_half(parts.scale)[:, None], from_half(parts.minimum)[:, None]
    if searched:
        scales, minima = found.scales.astype(np.int32), found.minima.astype(np.int32)
    else:
        scales = nearest(width * inverse(d), 0, steps)
        minima = nearest(depth * inverse(m), 0, steps)
    parts.scales = kept.bytes(parts.scales, scales, steps)
    parts.minima = kept.bytes(parts.minima, minima, steps)
    by, plus = d * parts.scales.astype(np.float32), m * parts.minima.astype(np.float32)
    codes = nearest((grouped + plus[..., None]) / by[..., None], 0, most).astype(np.uint8)
    zero = by == 0
    if zero.any():
        wide = (high - low)[zero]
        factor = np.where(wide != 0, np.float32(most) / wide, np.float32(0))
        scaled = (grouped[zero] - low[zero][:, None]) * factor[:, None]
        kept_codes = nearest(scaled, 0, most).astype(np.uint8)
        codes[zero] = found.codes.reshape(codes.shape)[zero] if searched else kept_codes
    return codes.reshape(x.shape)


def _most(values: Floats) -> Floats:
    """Return the largest of each row, at least 0; NaN is passed over."""
    most: Floats = np.fmax.reduce(values, axis=1, initial=np.float32(0)) + np.float32(0)
    return most


def _symmetric(
    shape: Shape, x: Floats, parts: Parts, kept: Differences, *, searched: bool
) -> Codes:
    """Settle Q6_K, Q3_K: x = scale × (code − half)."""
    half, steps, bias, mask = (4, 32, 32, 63) if shape.name == "Q3_K" else (32, 128, 0, 255)
    grouped = x.reshape(len(x), 16, 16)
    tops = greatest(grouped)
    peaks = tops / np.float32(-half)
    scale = to_half(greatest(peaks) / np.float32(-steps))
    if searched:
        found = quantised_search.search_symmetric(x, half, steps)
        scale = found.scale
    parts.scale = kept.halves(parts.scale, scale)
    d = from_half(parts.scale)[:, None]
    scales = nearest(peaks * inverse(d), -steps, steps - 1) + bias
    if searched:
        scales = found.scales.astype(np.int32)
    parts.scales = kept.bytes(parts.scales, scales, mask)
    stored = parts.scales.astype(np.float32) - bias if bias else parts.scales.view(np.int8)
    by = d * stored.astype(np.float32)
    codes = nearest(grouped / by[..., None], -half, half - 1) + half
    zero = by == 0
    if zero.any():
        scaled = grouped[zero] * (np.float32(-half) / tops[zero])[:, None]
        others = nearest(scaled, -half, half - 1) + half
        others[np.abs(tops[zero]) < np.float32(1e-15)] = 0
        codes[zero] = found.codes.reshape(codes.shape)[zero] if searched else others
    return codes.astype(np.uint8).reshape(x.shape)


def _iq4_xs(x: Floats, parts: Parts, kept: Differences) -> Codes:
    grouped = x.reshape(len(x), 8, 32)
    peaks = greatest(grouped) / np.float32(127)
    parts.scale = kept.halves(parts.scale, to_half(greatest(peaks) / np.float32(-32)))
    d = from_half(parts.scale)[:, None]
    parts.scales = kept.bytes(parts.scales, nearest(peaks * inverse(d), -32, 31) + 32, 63)
    factor = inverse(d * (parts.scales.astype(np.float32) - np.float32(32)))
    return _iq4_codes(grouped * factor[..., None]).reshape(x.shape)


def _mxfp4(x: Floats, parts: Parts, kept: Differences) -> Codes:
    largest = np.abs(greatest(x))
    exponent = (largest.view(np.uint32) >> 23).astype(np.int32) - 2
    parts.scales = kept.bytes(parts.scales, np.maximum(exponent, 0)[:, None], 255)
    stored = parts.scales.astype(np.uint32)
    bits = np.where(stored < 2, np.uint32(0x200000) << stored, (stored - 1) << 23)
    unit = bits.astype(np.uint32).view(np.float32)
    size, codes = np.abs(x), np.zeros(x.shape, np.uint8)
    best = size.copy()
    for code, value in enumerate(_MXFP4_VALUES):
        distance = np.abs(np.float32(value) * unit - size)
        nearer = (distance < best) & (code > 0)
        best = np.where(nearer, distance, best)
        codes[nearer] = code
    codes |= ((x < 0) & (codes > 0)).astype(np.uint8) << np.uint8(3)
    return codes


def _q8_0(x: Floats, recipe: int, parts: Parts, kept: Differences) -> Codes:
    scale = (np.abs(greatest(x)) / np.float32(127)).astype(np.float32)
    parts.scale = kept.halves(parts.scale, to_half(scale))
    factor = inverse(scale if recipe == REFERENCE else from_half(parts.scale))
    scaled = x * factor[:, None]
    size = clip(np.abs(scaled), 0, 127)
    whole = np.floor(size)
    codes = (whole + (size - whole >= np.float32(0.5))).astype(np.int16)
    return np.where(scaled < 0, -codes, codes).astype(np.uint8)


def _plain(shape: Shape, x: Floats, recipe: int, parts: Parts, kept: Differences) -> Codes:
    """Settle Q4_0, Q5_0 (``half`` is 8, 16), Q4_1, Q5_1 (0) by their scale."""
    half, most = _half_of(shape), shape.mask
    low, high = ranges(x)
    scale = greatest(x) / np.float32(-half) if half else (high - low) / np.float32(most)
    parts.scale = kept.halves(parts.scale, to_half(scale))
    if not half:
        parts.minimum = kept.halves(parts.minimum, to_half(low))
    if recipe == STORED:
        scale, low = from_half(parts.scale), from_half(parts.minimum)
    factor = inverse(scale)[:, None]
    if half:
        scaled = x * factor + np.float32(half + 0.5)
    else:
        scaled = (x - low[:, None]) * factor + np.float32(0.5)
    return clip(scaled, 0, most).astype(np.uint8)


def _half_of(shape: Shape) -> int:
    return {"Q4_0": 8, "Q5_0": 16}.get(shape.name, 0)
