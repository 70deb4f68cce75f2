"""Frames of every layout that the tests of FIELDS share: like weights, and like nothing."""

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from hartonomous.codecs.layouts import LAYOUTS

_FLOATS = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2,
}  # fmt: skip


def weights(dtype: str, size: int, *, seed: int = 0) -> bytes:
    """Return ``size`` bytes of normally distributed numbers, or of uneven bytes for blocks."""
    random = np.random.default_rng(seed)
    if dtype in _FLOATS:
        numbers = random.standard_normal(size // np.dtype(_FLOATS[dtype]).itemsize + 1) * 0.05
        return numbers.astype(_FLOATS[dtype]).tobytes()[:size]
    return (random.standard_normal(size) * 20).astype(np.int8).tobytes()


@st.composite
def frames(draw: st.DrawFn, *, most: int = 6000) -> tuple[str, bytes, int]:
    """Draw (type, content, position in the tensor) of a frame of any size and beginning."""
    dtype = draw(st.sampled_from(sorted(LAYOUTS)))
    size = draw(st.integers(0, most))
    kind = draw(st.sampled_from(("weights", "noise", "run", "halves", "drawn")))
    if kind == "weights":
        content = weights(dtype, size, seed=draw(st.integers(0, 99)))
    elif kind == "noise":
        content = np.random.default_rng(draw(st.integers(0, 99))).bytes(size)
    elif kind == "run":
        run = draw(st.binary(min_size=1, max_size=9))
        content = (run * (size // len(run) + 1))[:size]
    elif kind == "halves":
        content = weights(dtype, size // 2) + bytes(size - size // 2)
    else:
        content = draw(st.binary(max_size=most))
    return dtype, content, draw(st.integers(0, 10_000))


def plane_tags(payload: bytes, frame: bytes) -> list[int]:
    """Return how each plane of a frame of one-word elements is kept; read from the payload."""
    width, count = payload[7] & 15, payload[6]
    assert count == 1 and payload[8:10] == b"\x01\x00"
    lead = int.from_bytes(payload[4:6], "little")
    symbols, tail = divmod(len(frame) - lead, width)
    at, tags = 10 + lead + tail, []
    for _ in range(width):
        tags.append(payload[at])
        at += 1 + {0: symbols, 1: 1, 2: 0}[payload[at]]
        if tags[-1] == 2:
            at = _behind_stream(payload, at)
    assert at == len(payload)
    return tags


def _behind_stream(payload: bytes, at: int) -> int:
    groups = int.from_bytes(payload[at : at + 4], "little").bit_count()
    symbols = sum(one.bit_count() for one in payload[at + 4 : at + 4 + groups])
    at += 4 + groups
    for _ in range(symbols):
        at += 2 if payload[at] >= 128 else 1
    return at + 4 + 128 + 2 * int.from_bytes(payload[at : at + 4], "little")
