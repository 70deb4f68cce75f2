"""Casts between float types, to the bit, as docs/format-plans.md specifies them.

Arrays hold F64, F32 and F16 as numpy's floats, BF16 as ``<u2`` and the types of eight bits as
``u1``. Rounding is to nearest, ties to even, with subnormals and infinities as IEEE 754 has them.
What a NaN becomes is computed from its bits, because processors and programs do not agree on it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

STORED: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"), "F8_E4M3": np.dtype("u1"), "F8_E5M2": np.dtype("u1"),
}  # fmt: skip
"""How an array holds the elements of each type."""

_MANTISSA_BITS = {"F64": 52, "F32": 23, "F16": 10, "BF16": 7}
_BITS: dict[int, np.dtype[Any]] = {
    8: np.dtype("<u8"), 4: np.dtype("<u4"), 2: np.dtype("<u2")
}  # fmt: skip


def cast(values: Array, source: str, target: str, nan: str = "quiet") -> Array:
    """Return ``values`` rounded to ``target``; the same array if that is their type.

    F64 goes to BF16 through F32, and F16 and BF16 to each other too; ``nan`` is one of
    ``core.plan.NAN_RULES`` and counts where the target has fewer bits of mantissa.
    """
    if source == target:
        return values
    if source == "F8_E5M2":  # the upper byte of an F16
        return cast((values.astype("<u2") << np.uint16(8)).view("<f2"), "F16", target, nan)
    if source == "F8_E4M3":
        return cast(_E4M3[values], "F32", target, nan)
    if source == "BF16" and target == "F32":
        return _widen_bf16(values)
    with np.errstate(all="ignore"):
        wide = _widen_bf16(values) if source == "BF16" else values
        if target == "BF16":
            wide = wide.astype("<f4", copy=False)
            out = _round_to_bf16(wide)
        else:
            out = wide.astype(STORED[target])
        seen = wide if wide.dtype.itemsize > 2 else out  # numpy's isnan is slow on F16
        lost = np.isnan(seen)
    if lost.any():
        bits = values[lost].view(_BITS[values.dtype.itemsize]).astype("<u8")
        out.view(_BITS[out.dtype.itemsize])[lost] = _nan_bits(bits, source, target, nan)
    return out


def same_rounded(values: Array, others: Array, dtype: str) -> bool:
    """Say whether F32 values are the same, bit for bit, once they are rounded to a type."""
    made, kept = (cast(one, "F32", dtype) for one in (values, others))
    return made.tobytes() == kept.tobytes()


def without_payload(values: Array) -> Array:
    """Make every NaN of F64 or F32 the positive quiet one without payload, in place."""
    lost = np.isnan(values)
    if lost.any():
        values[lost] = np.nan
    return values


def _widen_bf16(values: Array) -> Array:
    out = np.zeros((*values.shape, 2), "<u2")
    out[..., 1] = values
    return out.view("<f4")[..., 0]


def _round_to_bf16(values: Array) -> Array:
    """Add a half, less one bit if the last kept bit is 0, and take the upper half; no NaN."""
    bits = values.view("<u4")
    sums = bits >> np.uint32(16)
    sums &= np.uint32(1)
    sums += np.uint32(0x7FFF)
    sums += bits
    return np.ascontiguousarray(sums.view("<u2").reshape(*values.shape, 2)[..., 1])


def _nan_bits(bits: Array, source: str, target: str, rule: str) -> Array:
    """Return the bits of NaNs in another type; ``bits`` are uint64."""
    have, want = _MANTISSA_BITS[source], _MANTISSA_BITS[target]
    target_bits = STORED[target].itemsize * 8
    negative = bits >> np.uint64(STORED[source].itemsize * 8 - 1)
    payload = bits & np.uint64((1 << have) - 1)
    quiet = np.uint64(1 << (want - 1))
    if want >= have:
        payload = payload << np.uint64(want - have)
    else:
        payload = payload >> np.uint64(have - want)
        if rule == "quiet":
            payload |= quiet
        elif rule == "kept":
            payload = np.maximum(payload, np.uint64(1))
        elif rule == "ones":
            payload, negative = np.full_like(payload, (1 << want) - 1), np.ones_like(negative)
        else:
            payload = np.full_like(payload, quiet)
            negative = negative if rule == "signed" else np.zeros_like(negative)
    exponent = np.uint64((1 << (target_bits - 1)) - (1 << want))
    return negative << np.uint64(target_bits - 1) | exponent | payload


def _e4m3_values() -> Array:
    """Return the 256 values of F8_E4M3 (OCP, "FN": no infinity, one NaN of each sign) as F32."""
    codes = np.arange(256)
    exponent, mantissa = codes >> 3 & 15, codes & 7
    size = np.where(
        exponent == 0, np.ldexp(mantissa / 8, -6), np.ldexp(1 + mantissa / 8, exponent - 7)
    )
    values = np.where(codes >> 7, -size, size).astype("<f4")
    values.view("<u4")[[0x7F, 0xFF]] = 0x7FC00000, 0xFFC00000
    return values


_E4M3 = _e4m3_values()
