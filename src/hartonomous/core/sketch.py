"""Sketches: 256 values of a tensor that tell whether it resembles another one.

Pure. The positions follow from the number of elements alone (docs/sketches.md specifies them), so
that tensors of one size are compared place by place, and a transposed one by reading the same
places of its own. A bit for each value, above the median or not, finds resembling tensors by their
Hamming distance; the values then tell how far apart they are.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import lgamma, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hartonomous.core.array import numpy_dtype
from hartonomous.core.dtype import DTYPES
from hartonomous.core.elements import Indices, Values
from hartonomous.errors import IntegrityError

POSITIONS = 256
SIGN_BYTES = POSITIONS // 8
LEAST_ELEMENTS = 2048
"""Smaller tensors have no sketch: it would be a large part of what they take."""
MOST_ELEMENTS = 1 << 54
"""Products of positions with 256 stay inside 64 bits."""
PREFIX_ROWS = 1024
"""Rows of the part by which a vocabulary is found that has grown or shrunk."""
VOCABULARY_ROWS = 16_384
_FUSED_RATIO, _MOST_FUSED_RATIO = 4, 16

_CHANCE = 1e-9
"""How probable it may be that two unrelated sketches are taken for related ones."""

# The constants of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
_STEP = 0x9E3779B97F4A7C15
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))


@dataclass(frozen=True, slots=True)
class Part:
    """A run of a tensor's elements in C order that has a sketch of its own."""

    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Sketch:
    """``signs``: 32 bytes, a bit for each position; ``values``: float32 of shape (256,)."""

    signs: bytes
    values: Values


@lru_cache(maxsize=512)
def positions(count: int) -> Indices:
    """Return the 256 ascending elements by which a tensor of ``count`` elements is sketched.

    One in each of 256 runs of equal length, at a place that the i-th number of splitmix64 seeded
    with ``count`` chooses. Raises ValueError for fewer than 2,048 or more than 2^54 elements.
    """
    if not LEAST_ELEMENTS <= count <= MOST_ELEMENTS:
        raise ValueError(f"{count} elements have no sketch")
    index = np.arange(POSITIONS + 1, dtype=np.uint64)
    edges = index * np.uint64(count) >> np.uint64(8)
    chosen = np.uint64(count) + index[1:] * np.uint64(_STEP)
    for shift, factor in _MIX:
        chosen = (chosen ^ (chosen >> np.uint64(shift))) * np.uint64(factor)
    found = (edges[:-1] + chosen % (edges[1:] - edges[:-1])).astype(np.int64)
    found.flags.writeable = False
    return found


def sketch_of(values: Values) -> Sketch:
    """Return the sketch of the values at ``positions``, shape (256,).

    A bit is set where the value is greater than the lower median of the finite ones. Weights have
    a median near 0, so that the bits are signs there; norms, which are all positive, keep half of
    them. Casts keep the order of values, and with it the bits. NaN counts as not greater.
    """
    finite = np.sort(values[np.isfinite(values)])
    middle = finite[(len(finite) - 1) // 2] if len(finite) else np.float32(0)
    with np.errstate(invalid="ignore"):
        signs = np.packbits(values > middle, bitorder="little").tobytes()
    return Sketch(signs=signs, values=values)


def signs_of_rows(values: Values) -> NDArray[np.uint8]:
    """Return the signs of many sketches, (n, 32), each of a row of ``values``, (n, 256).

    Each is as ``sketch_of`` makes it.
    """
    if not np.isfinite(values).all():
        signs = b"".join(sketch_of(row).signs for row in values)
        return np.frombuffer(signs, np.uint8).reshape(-1, SIGN_BYTES)
    middle = (POSITIONS - 1) // 2
    medians = np.partition(values, middle, axis=1)[:, middle]
    return np.packbits(values > medians[:, None], axis=1, bitorder="little")


def prefix(shape: tuple[int, ...]) -> Part | None:
    """Return the first 1,024 rows of what is as long as a vocabulary, by its shape alone.

    A matrix is ``shape[0]`` rows of all its other axes; one that has grown or shrunk is found by
    its first rows.
    """
    rows, columns = _matrix(shape)
    long = rows > _FUSED_RATIO * columns or rows >= VOCABULARY_ROWS
    if rows <= PREFIX_ROWS or not long or PREFIX_ROWS * columns < LEAST_ELEMENTS:
        return None
    return Part(0, PREFIX_ROWS * columns)


def fused(shape: tuple[int, ...]) -> tuple[Part, ...]:
    """Return the parts of what may be several matrices in one, by its shape alone.

    Thirds of three squares (q, k and v in one); halves of what is between 4 and 16 times as long as
    it is wide (gate and up in one).
    """
    rows, columns = _matrix(shape)
    if rows == 3 * columns:
        size, several = columns * columns, 3
    elif rows % 2 == 0 and _FUSED_RATIO * columns < rows <= _MOST_FUSED_RATIO * columns:
        size, several = rows // 2 * columns, 2
    else:
        return ()
    return tuple(Part(index * size, size) for index in range(several) if size >= LEAST_ELEMENTS)


def parts(shape: tuple[int, ...]) -> tuple[Part, ...]:
    """Return all parts of a tensor that are sketched beside the whole."""
    first = prefix(shape)
    found = fused(shape) if first is None else (first, *fused(shape))
    return tuple(dict.fromkeys(found))


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    return (shape[0], prod(shape[1:])) if len(shape) > 1 else (1, prod(shape))


# -- the same elements in another order


def transposed(elements: Indices, rows: int, columns: int) -> Indices:
    """Return where in a (rows, columns) matrix the elements of its transpose lie."""
    across, down = np.divmod(elements, rows)
    return down * columns + across


def heads_permuted(
    elements: Indices, rows: int, columns: int, heads: int, *, inverse: bool
) -> Indices:
    """Return where a matrix has the elements of the one whose rows were permuted by heads.

    The base has rows of heads × 2 × half, the matrix heads × half × 2, as llama.cpp's converter
    makes them for its rotary embedding; with ``inverse`` the other way. ``rows`` must be a
    multiple of 2 × heads.
    """
    row, column = np.divmod(elements, columns)
    head, inner = np.divmod(row, rows // heads)
    half = rows // heads // 2
    if inverse:
        step, side = np.divmod(inner, 2)
        inner = side * half + step
    else:
        side, step = np.divmod(inner, half)
        inner = step * 2 + side
    return (head * (rows // heads) + inner) * columns + column


# -- how alike two sketches are


def distances(values: Values, others: Values, dtype: str = "F32") -> NDArray[np.float64]:
    """Return the mean log2 distance of sketches from one, in steps of numbers that ``dtype`` has.

    ``values`` (256,) are compared with each row of ``others`` (n, 256), both rounded to ``dtype``
    if that is a plain type, else in float32; shape (n,). 0: each is equal after rounding, as a cast
    is from its source. A step counts log2(1 + numbers in between), so this is about how many bits
    an element of the difference takes.
    """
    apart = np.abs(_ordered(others, dtype) - _ordered(values, dtype))
    found: NDArray[np.float64] = np.log2(1.0 + apart).mean(axis=1)
    return found


def distance(a: Sketch, b: Sketch, dtype: str = "F32") -> float:
    """Return the mean log2 ulp distance of two sketches; see ``distances``."""
    return float(distances(a.values, b.values[None], dtype)[0])


def _ordered(values: Values, dtype: str) -> NDArray[np.int64]:
    """Return whole numbers in the order of the values, one apart where these are neighbours."""
    known = DTYPES.get(dtype)
    plain = numpy_dtype(dtype) if known is not None and known.kind == "float" else None
    if plain is None or plain.itemsize > 4:
        plain = np.dtype(np.float32)
    with np.errstate(all="ignore"):
        rounded: NDArray[Any] = np.ascontiguousarray(values.astype(plain))
    bits = rounded.view(f"<u{plain.itemsize}").astype(np.int64)
    sign = 1 << (8 * plain.itemsize - 1)
    return np.where(bits & sign, sign - bits, bits)


@lru_cache(maxsize=POSITIONS + 1)
def furthest(ones: int) -> NDArray[np.int16]:
    """Return up to which Hamming distance a sketch with so many bits set is no chance match.

    Shape (257,), by the number of bits that the other sketch has set; -1 where every distance is
    likely enough. Of unrelated sketches the bits that both have set are distributed
    hypergeometrically, and a distance up to this one has a probability of at most 1e-9.
    """
    total = POSITIONS
    choose = np.array([lgamma(n + 1) for n in range(total + 1)])
    other, both = np.meshgrid(np.arange(total + 1), np.arange(total + 1), indexing="ij")
    possible = (both <= ones) & (both <= other) & (ones + other - both <= total)

    def logs(n: Any, k: Any) -> Any:
        k = np.clip(k, 0, n)
        return choose[n] - choose[k] - choose[n - k]

    chance = np.exp(logs(ones, both) + logs(total - ones, other - both) - logs(total, other))
    chance = np.where(possible, chance, 0.0)
    reached = np.cumsum(chance[:, ::-1], axis=1)[:, ::-1]  # at least so many in common
    rare = possible & (reached <= _CHANCE)
    least = np.where(rare.any(axis=1), rare.argmax(axis=1), -1)
    limits = np.where(least >= 0, ones + np.arange(total + 1) - 2 * least, -1).astype(np.int16)
    limits.flags.writeable = False
    return limits


# -- values as they are kept


def encode_values(values: Values) -> bytes:
    """Return values as little-endian float32, or as their upper halves if the lower ones are 0.

    The latter is the case for BF16 and the types that fit into it.
    """
    words = np.ascontiguousarray(values, "<f4").view("<u4")
    if (words & np.uint32(0xFFFF)).any():
        return words.tobytes()
    return (words >> np.uint32(16)).astype("<u2").tobytes()


def encode_rows(values: Values) -> list[bytes]:
    """Return each row of values, shape (n, 256), as ``encode_values`` does."""
    words = np.ascontiguousarray(values, "<f4").view("<u4")
    if (words & np.uint32(0xFFFF)).any():
        return [encode_values(row) for row in values]
    content = (words >> np.uint32(16)).astype("<u2").tobytes()
    size = 2 * POSITIONS
    return [content[at : at + size] for at in range(0, len(content), size)]


def decode_values(content: bytes) -> Values:
    """Return what ``encode_values`` was given; raises IntegrityError for another length."""
    if len(content) == 4 * POSITIONS:
        return np.frombuffer(content, "<f4").astype(np.float32)
    if len(content) == 2 * POSITIONS:
        halves = np.frombuffer(content, "<u2").astype(np.uint32)
        return (halves << np.uint32(16)).view(np.float32)
    raise IntegrityError(
        f"{len(content)} bytes are no values of a sketch",
        hint="hart repair rebuilds the catalog from the packs",
    )
