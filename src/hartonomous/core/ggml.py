"""Arithmetic of ggml's quantised blocks: to float32, and float32 to Q8_0.

Pure. Block layouts are those of ggml-common.h; each function here takes blocks as uint8 of shape
``(blocks, block bytes)`` and returns float32 of shape ``(blocks, block elements)``. Results equal
ggml's reference functions bit for bit (one rounding per product and per difference).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hartonomous.core.dtype import DTYPES

Blocks = NDArray[np.uint8]
Floats = NDArray[np.float32]

_GROUP_BLOCKS = 16_384
"""Blocks worked on at once, so that temporaries stay at some tens of megabytes."""

_IQ4_VALUES = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32
)
# E2M1 values doubled; the scale is halved instead (ggml_e8m0_to_fp32_half).
_E2M1_VALUES = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32)


def _half(blocks: Blocks, at: int) -> Floats:
    """Return the f16 number at byte ``at`` of each block as float32, shape (blocks, 1)."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


def _fields(packed: Blocks, bits: int, group: int) -> Blocks:
    """Return bit fields in ggml's order: in each group of bytes all low fields come first.

    ``packed`` is (blocks, bytes); returns (blocks, bytes × 8 / bits).
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8).reshape(1, 1, -1, 1)
    spread = packed.reshape(len(packed), -1, 1, group) >> shifts
    return (spread & np.uint8((1 << bits) - 1)).reshape(len(packed), -1)


def _high_bits(blocks: Blocks, at: int) -> Blocks:
    """Return the 32 fifth bits of Q5_0 and Q5_1, as 0 or 16."""
    packed = np.ascontiguousarray(blocks[:, at : at + 4])
    return np.unpackbits(packed, axis=1, bitorder="little") << np.uint8(4)


def _q4_0(blocks: Blocks) -> Floats:
    codes = _fields(blocks[:, 2:], 4, 16).astype(np.float32)
    return _half(blocks, 0) * (codes - np.float32(8))


def _q4_1(blocks: Blocks) -> Floats:
    codes = _fields(blocks[:, 4:], 4, 16).astype(np.float32)
    return _half(blocks, 0) * codes + _half(blocks, 2)


def _q5_0(blocks: Blocks) -> Floats:
    codes = (_fields(blocks[:, 6:], 4, 16) | _high_bits(blocks, 2)).astype(np.float32)
    return _half(blocks, 0) * (codes - np.float32(16))


def _q5_1(blocks: Blocks) -> Floats:
    codes = (_fields(blocks[:, 8:], 4, 16) | _high_bits(blocks, 4)).astype(np.float32)
    return _half(blocks, 0) * codes + _half(blocks, 2)


def _q8_0(blocks: Blocks) -> Floats:
    return blocks[:, 2:].view(np.int8).astype(np.float32) * _half(blocks, 0)


def _scaled(codes: NDArray[Any], scales: Floats) -> Floats:
    """Multiply each block's codes by its sub-block scales, shape (blocks, sub-blocks)."""
    grouped = codes.astype(np.float32).reshape(*scales.shape, -1)
    product: Floats = scales[..., None] * grouped
    return product.reshape(len(codes), -1)


def _spread(values: Floats, elements: int) -> Floats:
    return np.repeat(values, elements // values.shape[1], axis=1)


def _q2_k(blocks: Blocks) -> Floats:
    packed = blocks[:, :16]
    scales = _half(blocks, 80) * (packed & 15).astype(np.float32)
    minima = _half(blocks, 82) * (packed >> 4).astype(np.float32)
    return _scaled(_fields(blocks[:, 16:80], 2, 32), scales) - _spread(minima, 256)


def _q3_k(blocks: Blocks) -> Floats:
    low = _fields(blocks[:, 96:104], 4, 8)
    high = _fields(blocks[:, 104:108], 2, 4)
    scales = (low | high << np.uint8(4)).astype(np.float32) - np.float32(32)
    # A set mask bit means "no offset of 4".
    offset = (_fields(blocks[:, :32], 1, 32) ^ np.uint8(1)) << np.uint8(2)
    codes = _fields(blocks[:, 32:96], 2, 32).astype(np.int8) - offset.astype(np.int8)
    return _scaled(codes, _half(blocks, 108) * scales)


def _k_scales(packed: Blocks) -> tuple[Floats, Floats]:
    """Unpack the 8 scales and 8 minima of 6 bits that Q4_K and Q5_K keep in 12 bytes."""
    scale, minimum, rest = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.hstack([scale & 63, (rest & 15) | (scale >> 6) << np.uint8(4)])
    minima = np.hstack([minimum & 63, (rest >> 4) | (minimum >> 6) << np.uint8(4)])
    return scales.astype(np.float32), minima.astype(np.float32)


def _q4_k(blocks: Blocks) -> Floats:
    scales, minima = _k_scales(blocks[:, 4:16])
    codes = _fields(blocks[:, 16:], 4, 32)
    return _scaled(codes, _half(blocks, 0) * scales) - _spread(_half(blocks, 2) * minima, 256)


def _q5_k(blocks: Blocks) -> Floats:
    scales, minima = _k_scales(blocks[:, 4:16])
    codes = _fields(blocks[:, 48:], 4, 32) | _fields(blocks[:, 16:48], 1, 32) << np.uint8(4)
    return _scaled(codes, _half(blocks, 0) * scales) - _spread(_half(blocks, 2) * minima, 256)


def _q6_k(blocks: Blocks) -> Floats:
    low, high = _fields(blocks[:, :128], 4, 64), _fields(blocks[:, 128:192], 2, 32)
    codes = (low | high << np.uint8(4)).astype(np.float32) - np.float32(32)
    scales = blocks[:, 192:208].view(np.int8).astype(np.float32)
    return _scaled(codes, _half(blocks, 208) * scales)


def _iq4_nl(blocks: Blocks) -> Floats:
    return _half(blocks, 0) * _IQ4_VALUES[_fields(blocks[:, 2:], 4, 16)]


def _iq4_xs(blocks: Blocks) -> Floats:
    high = _fields(blocks[:, 2:4], 2, 1)
    low = _fields(blocks[:, 4:8], 4, 1)
    scales = (low | high << np.uint8(4)).astype(np.float32) - np.float32(32)
    return _scaled(_IQ4_VALUES[_fields(blocks[:, 8:], 4, 16)], _half(blocks, 0) * scales)


def _mxfp4(blocks: Blocks) -> Floats:
    exponent = blocks[:, :1].astype(np.uint32)
    # Half of 2^(e - 127); the two smallest are subnormal.
    bits = np.where(exponent < 2, np.uint32(0x200000) << exponent, (exponent - 1) << 23)
    return bits.astype(np.uint32).view(np.float32) * _E2M1_VALUES[_fields(blocks[:, 1:], 4, 16)]


def _trits(packed: Blocks, group: int, count: int) -> Blocks:
    """Return ``count`` base-3 digits a byte (0, 1, 2), first digits of a group first."""
    powers = np.array([1, 3, 9, 27, 81][:count], np.uint8).reshape(1, 1, -1, 1)
    shifted = (packed.reshape(len(packed), -1, 1, group) * powers).astype(np.uint16)
    return ((shifted * 3) >> 8).astype(np.uint8).reshape(len(packed), -1)


def _tq1_0(blocks: Blocks) -> Floats:
    digits = np.hstack(
        [
            _trits(blocks[:, :32], 32, 5),
            _trits(blocks[:, 32:48], 16, 5),
            _trits(blocks[:, 48:52], 4, 4),
        ]
    )
    return _half(blocks, 52) * (digits.astype(np.float32) - np.float32(1))


def _tq2_0(blocks: Blocks) -> Floats:
    digits = _fields(blocks[:, :64], 2, 32).astype(np.float32)
    return _half(blocks, 64) * (digits - np.float32(1))


_DEQUANTISERS: dict[str, Callable[[Blocks], Floats]] = {
    "Q4_0": _q4_0, "Q4_1": _q4_1, "Q5_0": _q5_0, "Q5_1": _q5_1, "Q8_0": _q8_0,
    "Q2_K": _q2_k, "Q3_K": _q3_k, "Q4_K": _q4_k, "Q5_K": _q5_k, "Q6_K": _q6_k,
    "IQ4_NL": _iq4_nl, "IQ4_XS": _iq4_xs, "MXFP4": _mxfp4, "TQ1_0": _tq1_0, "TQ2_0": _tq2_0,
}  # fmt: skip


def is_dequantisable(dtype: str) -> bool:
    """Say whether ``dequantise_blocks`` knows this type."""
    return dtype in _DEQUANTISERS


def dequantisable_types() -> tuple[str, ...]:
    """Return the names of the types that ``dequantise_blocks`` knows."""
    return tuple(_DEQUANTISERS)


def dequantise_blocks(content: bytes | memoryview, dtype: str) -> Floats:
    """Return the values of whole blocks as flat float32.

    Scales that are NaN or infinite give NaN or infinite values, without a warning. Raises KeyError
    for a type that ``is_dequantisable`` denies and ValueError if a block is cut.
    """
    known, work = DTYPES[dtype], _DEQUANTISERS[dtype]
    blocks = np.frombuffer(content, np.uint8).reshape(-1, known.block_bytes)
    out = np.empty((len(blocks), known.block_elements), np.float32)
    with np.errstate(all="ignore"):
        for start in range(0, len(blocks), _GROUP_BLOCKS):
            out[start : start + _GROUP_BLOCKS] = work(blocks[start : start + _GROUP_BLOCKS])
    return out.reshape(-1)


def quantise_q8_0(values: NDArray[np.float32]) -> Blocks:
    """Return Q8_0 blocks, uint8 of shape ``(blocks, 34)``, of values in whole blocks of 32.

    The same arithmetic as ggml's ``quantize_row_q8_0_ref``: scale = largest magnitude / 127 kept
    as f16, codes = value × (1 / scale before that rounding), halves rounded away from zero.
    """
    blocks = np.asarray(values, np.float32).reshape(-1, 32)
    out = np.empty((len(blocks), 34), np.uint8)
    for start in range(0, len(blocks), _GROUP_BLOCKS):
        group = blocks[start : start + _GROUP_BLOCKS]
        scale = np.abs(group).max(axis=1, keepdims=True) / np.float32(127)
        with np.errstate(all="ignore"):
            inverse = np.where(scale == 0, np.float32(0), np.float32(1) / scale)
            scaled = group * inverse
            magnitude = np.abs(scaled)
            whole = np.floor(magnitude)
            # Adding one half before the floor would round 0.49999997 up.
            codes = np.copysign(whole + np.floor(2 * (magnitude - whole)), scaled)
            part = out[start : start + _GROUP_BLOCKS]
            part[:, :2] = scale.astype("<f2").view(np.uint8)
            part[:, 2:] = codes.astype(np.int8).view(np.uint8)
    return out
