"""Blocks of ggml's quantised types taken apart, in numpy: scales, and one code an element.

Layouts are those of ggml-common.h. ``SHAPES`` has every type whose blocks are derived from floats.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hartonomous.codecs.layouts import Field, Layout
from hartonomous.codecs.quantised_numbers import Halves
from hartonomous.core.dtype import DTYPES, GGML_TYPES

Blocks = NDArray[np.uint8]
Codes = NDArray[np.uint8]

REFERENCE, STORED, SEARCHED = range(3)
"""How codes are predicted, by the number that a payload names; docs/format-quantised.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A type: its number in ggml, its block, the bits of a code, the differences it keeps.

    ``scales`` and ``minima`` are counts of sub-block scales; ``halves`` of f16 scales of the whole.
    """

    name: str
    number: int
    elements: int
    byte_count: int
    bits: int
    recipes: tuple[int, ...]
    halves: int = 1
    scales: int = 0
    minima: int = 0

    @property
    def mask(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1

    @property
    def layout(self) -> Layout:
        """How a block's differences of scales lie, as FIELDS cuts them."""
        fields = [Field(width=2)] * self.halves
        fields += [Field(width=1, words=count) for count in (self.scales, self.minima) if count]
        return Layout(tuple(fields))


def _shapes() -> dict[str, Shape]:
    numbers = {name: number for number, (name, _, _) in GGML_TYPES.items()}
    plain, simple = (REFERENCE, STORED), (STORED,)
    described = (
        ("Q4_0", 4, plain, 1, 0, 0), ("Q4_1", 4, plain, 2, 0, 0),
        ("Q5_0", 5, plain, 1, 0, 0), ("Q5_1", 5, plain, 2, 0, 0),
        ("Q8_0", 8, plain, 1, 0, 0),
        ("Q2_K", 2, (STORED, SEARCHED), 2, 16, 16), ("Q3_K", 3, (STORED, SEARCHED), 1, 16, 0),
        ("Q4_K", 4, (STORED, SEARCHED), 2, 8, 8), ("Q5_K", 5, (STORED, SEARCHED), 2, 8, 8),
        ("Q6_K", 6, (STORED, SEARCHED), 1, 16, 0),
        ("IQ4_NL", 4, simple, 1, 0, 0), ("IQ4_XS", 4, simple, 1, 8, 0),
        ("MXFP4", 4, simple, 0, 1, 0),
    )  # fmt: skip
    return {
        name: Shape(
            name=name, number=numbers[name], elements=DTYPES[name].block_elements,
            byte_count=DTYPES[name].block_bytes, bits=bits, recipes=recipes, halves=halves,
            scales=scales, minima=minima,
        )
        for name, bits, recipes, halves, scales, minima in described
    }  # fmt: skip


SHAPES: dict[str, Shape] = _shapes()


@dataclass(slots=True, eq=False)
class Parts:
    """Blocks taken apart: f16 bits of shape (blocks,), the rest (blocks, count)."""

    scale: Halves
    minimum: Halves
    scales: Codes
    minima: Codes
    codes: Codes


def empty_parts(shape: Shape, count: int) -> Parts:
    """Return parts of ``count`` blocks that are all zero."""
    return Parts(
        np.zeros(count, np.uint16), np.zeros(count, np.uint16),
        np.zeros((count, shape.scales), np.uint8), np.zeros((count, shape.minima), np.uint8),
        np.zeros((count, shape.elements), np.uint8),
    )  # fmt: skip


# Where a type's codes lie: (first byte, bytes, bytes of a group, bits, shift in the code).
_CODES: dict[str, tuple[tuple[int, int, int, int, int], ...]] = {
    "Q4_0": ((2, 16, 16, 4, 0),), "Q4_1": ((4, 16, 16, 4, 0),),
    "Q5_0": ((2, 4, 1, 1, 4), (6, 16, 16, 4, 0)), "Q5_1": ((4, 4, 1, 1, 4), (8, 16, 16, 4, 0)),
    "Q8_0": ((2, 32, 32, 8, 0),), "Q2_K": ((16, 64, 32, 2, 0),),
    "Q3_K": ((0, 32, 32, 1, 2), (32, 64, 32, 2, 0)), "Q4_K": ((16, 128, 32, 4, 0),),
    "Q5_K": ((16, 32, 32, 1, 4), (48, 128, 32, 4, 0)),
    "Q6_K": ((0, 128, 64, 4, 0), (128, 64, 32, 2, 4)),
    "IQ4_NL": ((2, 16, 16, 4, 0),), "IQ4_XS": ((8, 128, 16, 4, 0),), "MXFP4": ((1, 16, 16, 4, 0),),
}  # fmt: skip
_SCALES = {
    "Q2_K": ((0, 16, 16, 8, 0),), "Q3_K": ((96, 8, 8, 4, 0), (104, 4, 4, 2, 4)),
    "Q6_K": ((192, 16, 16, 8, 0),), "IQ4_XS": ((2, 2, 1, 2, 4), (4, 4, 1, 4, 0)),
    "MXFP4": ((0, 1, 1, 8, 0),),
}  # fmt: skip
_SCALE_AT = {"Q2_K": 80, "Q3_K": 108, "Q6_K": 208}
_MINIMUM_AT = {"Q2_K": 82, "Q4_K": 2, "Q5_K": 2, "Q4_1": 2, "Q5_1": 2}
_K_SCALES = ("Q4_K", "Q5_K")


def _spread(blocks: Blocks, runs: tuple[tuple[int, int, int, int, int], ...], count: int) -> Codes:
    """Read bit fields; in each group of bytes all lowest fields come first."""
    out = np.zeros((len(blocks), count), np.uint8)
    for at, size, group, bits, shift in runs:
        shifts = np.arange(0, 8, bits, dtype=np.uint8).reshape(1, 1, -1, 1)
        fields = blocks[:, at : at + size].reshape(len(blocks), -1, 1, group) >> shifts
        out |= (fields & np.uint8((1 << bits) - 1)).reshape(len(blocks), -1) << np.uint8(shift)
    return out


def _gather(codes: Codes, blocks: Blocks, runs: tuple[tuple[int, int, int, int, int], ...]) -> None:
    """Write them."""
    for at, size, group, bits, shift in runs:
        shifts = np.arange(0, 8, bits, dtype=np.uint8).reshape(1, 1, -1, 1)
        fields = codes >> np.uint8(shift) & np.uint8((1 << bits) - 1)
        grouped = fields.reshape(len(codes), size // group, 8 // bits, group) << shifts
        blocks[:, at : at + size] = np.bitwise_or.reduce(grouped, axis=2).reshape(len(codes), size)


def _half(blocks: Blocks, at: int) -> Halves:
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<u2").reshape(-1)


def spread_blocks(shape: Shape, blocks: Blocks) -> Parts:
    """Return the parts of blocks, uint8 of shape (blocks, block bytes)."""
    name, parts = shape.name, empty_parts(shape, len(blocks))
    parts.codes = _spread(blocks, _CODES[name], shape.elements)
    if shape.halves:
        parts.scale = _half(blocks, _SCALE_AT.get(name, 0))
    if name in _MINIMUM_AT:
        parts.minimum = _half(blocks, _MINIMUM_AT[name])
    if name in _SCALES:
        parts.scales = _spread(blocks, _SCALES[name], shape.scales)
    if name == "Q2_K":
        parts.minima, parts.scales = parts.scales >> np.uint8(4), parts.scales & np.uint8(15)
    if name in _K_SCALES:
        low, middle, high = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
        parts.scales = np.hstack([low & 63, (high & 15) | (low >> 6) << np.uint8(4)])
        parts.minima = np.hstack([middle & 63, (high >> 4) | (middle >> 6) << np.uint8(4)])
    return parts


def gather_blocks(shape: Shape, parts: Parts) -> Blocks:
    """Return the blocks that such parts make; undoes ``spread_blocks``."""
    name, count = shape.name, len(parts.codes)
    blocks = np.zeros((count, shape.byte_count), np.uint8)
    _gather(parts.codes, blocks, _CODES[name])
    scales = parts.scales | parts.minima << np.uint8(4) if name == "Q2_K" else parts.scales
    if name in _SCALES:
        _gather(scales, blocks, _SCALES[name])
    if name in _K_SCALES:
        scales, minima = parts.scales, parts.minima
        blocks[:, 4:8] = scales[:, :4] | scales[:, 4:] >> 4 << np.uint8(6)
        blocks[:, 8:12] = minima[:, :4] | minima[:, 4:] >> 4 << np.uint8(6)
        blocks[:, 12:16] = (scales[:, 4:] & 15) | (minima[:, 4:] & 15) << np.uint8(4)
    if shape.halves:
        at = _SCALE_AT.get(name, 0)
        blocks[:, at : at + 2] = parts.scale.astype("<u2").view(np.uint8).reshape(-1, 2)
    if name in _MINIMUM_AT:
        at = _MINIMUM_AT[name]
        blocks[:, at : at + 2] = parts.minimum.astype("<u2").view(np.uint8).reshape(-1, 2)
    return blocks
