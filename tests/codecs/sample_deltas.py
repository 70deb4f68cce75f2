"""Pairs of predicted and real frames that the tests of DELTA share."""

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from hartonomous.codecs.differences import KINDS

TYPES = tuple(KINDS)
RELATIONS = (
    "equal", "ulp", "few", "trained", "scaled", "partly scaled", "decayed", "blocks", "unrelated",
    "bits",
)  # fmt: skip
_CASTS = {"F32": np.float32, "BF16": ml_dtypes.bfloat16, "F16": np.float16}
_SPECIAL = {
    "F32": (1 << 31, 0, 0x7F800000, 0xFF800000, 0x7FC00001, 0xFF800001, 1, 0x80000001, 0x7F7FFFFF),
    "BF16": (0x8000, 0, 0x7F80, 0xFF80, 0x7FC1, 0xFF81, 1, 0x8001, 0x7F7F),
    "F16": (0x8000, 0, 0x7C00, 0xFC00, 0x7E01, 0xFC01, 1, 0x8001, 0x7BFF),
}  # fmt: skip


def numbers(dtype: str, count: int, random: np.random.Generator) -> np.ndarray:
    """Return weights as unsigned integers, a few of them special values."""
    kind = KINDS[dtype]
    plain = (random.standard_normal(count) * 0.05).astype(_CASTS[dtype]).view(f"<u{kind.width}")
    if count:
        places = random.integers(0, count, 1 + count // 1000)
        plain[places] = random.choice(np.array(_SPECIAL[dtype], plain.dtype), len(places))
    return plain


def decayed(values: np.ndarray) -> np.ndarray:
    """Return values after 60 steps of weight decay so small that float32 rounds each to a unit."""
    after = values.astype(np.float32)
    for step in range(60):
        after = after * np.float32(1 - (step % 4 + 1) * 2.0**-24)
    return after


def related(dtype: str, base: np.ndarray, relation: str, random: np.random.Generator) -> np.ndarray:
    """Return elements that stand in some relation to their prediction."""
    count, word = len(base), base.dtype
    bits = random.integers(0, 1 << (8 * word.itemsize), count, dtype=word)
    values = base.view(_CASTS[dtype])
    with np.errstate(all="ignore"):
        shrunk = values.astype(np.float32) * np.float32(0.875 if word.itemsize == 2 else 1 - 3e-5)
        moved = values.astype(np.float64) + random.standard_normal(count) * 1e-3
        after = {
            "equal": base,
            "ulp": base + random.integers(0, 2, count).astype(word),
            "few": np.where(random.random(count) < 20 / (count + 1), bits, base),
            "trained": moved.astype(_CASTS[dtype]).view(word),
            "scaled": shrunk.astype(_CASTS[dtype]).view(word),
            "partly scaled": np.where(
                np.arange(count) < count // 2, moved, shrunk
            ).astype(_CASTS[dtype]).view(word),
            "decayed": np.where(
                np.arange(count) // 128 % 4 == 3, moved, decayed(values)
            ).astype(_CASTS[dtype]).view(word),
            "blocks": np.where(np.arange(count) // 300 % 3 == 0, base ^ (bits & 1023), base),
            "unrelated": numbers(dtype, count, random),
            "bits": bits,
        }  # fmt: skip
    return after[relation].astype(word)


def pair(
    dtype: str, count: int, relation: str, *, seed: int = 0, edges: tuple[bytes, bytes] = (b"", b"")
) -> tuple[bytes, bytes]:
    """Return (prediction, frame); the frame has ``edges`` of bytes that make no whole element."""
    random = np.random.default_rng(seed)
    base = numbers(dtype, count, random)
    after = related(dtype, base, relation, random)
    blanks = [bytes(len(edge)) for edge in edges]
    return blanks[0] + base.tobytes() + blanks[1], edges[0] + after.tobytes() + edges[1]


@st.composite
def pairs(draw: st.DrawFn, *, most: int = 3000) -> tuple[str, bytes, bytes, int]:
    """Draw (type, prediction, frame, lead), also frames of any bytes and leads of any kind."""
    dtype = draw(st.sampled_from(TYPES))
    width = KINDS[dtype].width
    if draw(st.integers(0, 9)) == 0:
        frame = draw(st.binary(max_size=200))
        prediction = draw(st.binary(min_size=len(frame), max_size=len(frame)))
        return dtype, prediction, frame, draw(st.integers(0, width - 1))
    edges = draw(st.tuples(*[st.binary(max_size=width - 1)] * 2))
    count = draw(st.sampled_from((0, 1, 127, 128, 129, 600, 1024))) + draw(st.integers(0, most))
    prediction, frame = pair(
        dtype, count, draw(st.sampled_from(RELATIONS)), seed=draw(st.integers(0, 999)), edges=edges
    )
    return dtype, prediction, frame, len(edges[0])
