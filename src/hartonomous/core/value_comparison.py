"""Comparison of two tensors' values, in chunks, with memory that does not grow with the tensor.

Pure: the caller passes functions that read byte ranges. Norms are sums in float64 over the
elements that are finite on both sides; NaN and infinite ones are counted. ``changed`` is about
bits where the types are equal (so -0 is not 0, and NaN payloads count), else about values.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite, sqrt
from typing import TYPE_CHECKING, Any

import msgspec

from hartonomous.core.array import numpy_dtype
from hartonomous.core.dtype import DTYPES, DType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHUNK_ELEMENTS = 1 << 18
"""Elements read at once, a multiple of every block."""
_PART_ELEMENTS = 1 << 17
"""Elements compared at once: temporaries of 1 MB each; smaller parts took more CPU-seconds."""

Bytes = bytes | memoryview
ReadBytes = Callable[[int, int], Bytes]
"""``read(offset, length)`` returns exactly these bytes of a tensor."""


class ValueDifference(msgspec.Struct, frozen=True, kw_only=True):
    """How far the values of two tensors are apart; every number is finite or null.

    ``unit`` is what ``unit_count`` and ``changed_count`` count: ``element``, ``block`` (two
    tensors of one block type) or ``byte`` (a type of unknown size). ``l2_norm`` is that of b - a,
    ``relative_norm`` the same divided by the norm of a. ``largest_ulp`` counts the steps between
    two representable numbers, in the type with the fewer bits; for integers it is their distance.
    ``cast_exact`` tells of two types whether one side is the other, rounded to nearest even;
    ``cast_from`` says which side was rounded: ``a``, ``b``, or ``both`` when nothing was lost.
    """

    unit: str
    unit_count: int
    changed_count: int
    changed_share: float
    l2_norm: float | None = None
    relative_norm: float | None = None
    cosine: float | None = None
    largest_absolute: float | None = None
    largest_ulp: int | None = None
    nan_count_a: int = 0
    nan_count_b: int = 0
    infinite_count_a: int = 0
    infinite_count_b: int = 0
    cast_exact: bool | None = None
    cast_from: str | None = None


def compare_values(
    read_a: ReadBytes,
    read_b: ReadBytes,
    dtype_a: str,
    dtype_b: str,
    element_count: int,
) -> ValueDifference:
    """Compare two tensors of ``element_count`` elements, chunk by chunk.

    Where an element type is unknown, or has no decoder and differs from the other, only bits can be
    compared: of two equal types the blocks (for an unknown one ``element_count`` counts bytes), of
    different ones nothing, which raises ValueError. ``is_comparable`` tells beforehand.
    """
    if not is_comparable(dtype_a, dtype_b):
        raise ValueError(f"values of {dtype_a} and {dtype_b} cannot be compared")

    whole = Tally(dtype_a, dtype_b)
    for start in range(0, element_count, CHUNK_ELEMENTS):
        count = min(CHUNK_ELEMENTS, element_count - start)
        raw_a = memoryview(read_a(*_span(dtype_a, start, count)))
        raw_b = memoryview(read_b(*_span(dtype_b, start, count)))
        found = Tally(dtype_a, dtype_b)
        for at in range(0, count, _PART_ELEMENTS):
            size = min(_PART_ELEMENTS, count - at)
            (at_a, length_a), (at_b, length_b) = (
                _span(dtype, at, size) for dtype in (dtype_a, dtype_b)
            )
            found.add(raw_a[at_a : at_a + length_a], raw_b[at_b : at_b + length_b], size)
        whole.take(found)
    return whole.result()


def is_comparable(dtype_a: str, dtype_b: str) -> bool:
    """Say whether ``compare_values`` can compare these types."""
    return dtype_a == dtype_b or (_has_values(dtype_a) and _has_values(dtype_b))


def _has_values(dtype: str) -> bool:
    from hartonomous.core import ggml

    return numpy_dtype(dtype) is not None or ggml.is_dequantisable(dtype)


def _known(dtype: str) -> DType:
    unknown = DType(name=dtype, block_elements=1, block_bytes=1, kind="unknown")
    return DTYPES.get(dtype, unknown)


def _span(dtype: str, start: int, count: int) -> tuple[int, int]:
    known = _known(dtype)
    first, length = known.byte_count(start), known.byte_count(count)
    if first is None or length is None:
        raise ValueError(f"{count} elements are not whole blocks of {dtype}")
    return first, length


class Tally:
    """Sums and extremes over what was compared so far."""

    def __init__(self, dtype_a: str, dtype_b: str) -> None:
        self.dtypes = (dtype_a, dtype_b)
        self.kinds = (_known(dtype_a), _known(dtype_b))
        self.has_values = _has_values(dtype_a) and _has_values(dtype_b)
        plain = numpy_dtype(dtype_a) is not None and numpy_dtype(dtype_b) is not None
        self.in_parts = any(kind.kind == "complex" for kind in self.kinds)
        self.has_steps = plain and not self.in_parts
        self.is_cast = dtype_a != dtype_b
        self.units = self.changed = 0
        self.square_a = self.square_b = self.dot = self.square_difference = 0.0
        self.largest = 0.0
        self.steps = 0
        self.special = [0, 0, 0, 0]  # NaN in a, in b, infinite in a, in b
        self.compared = 0
        self.exact = [True, True]  # b is a rounded, a is b rounded

    def add(self, raw_a: Bytes, raw_b: Bytes, count: int) -> None:
        """Take one chunk of ``count`` elements."""
        import numpy as np

        with np.errstate(all="ignore"):
            same = not self.is_cast and not self._count_changed_bits(raw_a, raw_b)
            if not self.has_values:
                return
            a, b = _decode(raw_a, self.dtypes[0]), _decode(raw_b, self.dtypes[1])
            wide_a = _as_float64(a, in_parts=self.in_parts)
            wide_b = wide_a if same else _as_float64(b, in_parts=self.in_parts)
            self.units += count if self.is_cast else 0
            finite = self._add_norms(wide_a, wide_b)
            if self.is_cast:
                exact = finite and _is_float(a) and _is_float(b)
                self.changed += (
                    int(np.count_nonzero(wide_a != wide_b)) if exact else _count_unequal(a, b)
                )
            if self.has_steps and not same:
                self._add_steps(a, b, finite=finite)

    def take(self, other: Tally) -> None:
        """Add what another one counted behind this."""
        self.units += other.units
        self.changed += other.changed
        self.compared += other.compared
        self.square_a += other.square_a
        self.square_b += other.square_b
        self.dot += other.dot
        self.square_difference += other.square_difference
        self.largest = max(self.largest, other.largest)
        self.steps = max(self.steps, other.steps)
        self.special = [x + y for x, y in zip(self.special, other.special, strict=True)]
        self.exact = [x and y for x, y in zip(self.exact, other.exact, strict=True)]

    def _count_changed_bits(self, raw_a: Bytes, raw_b: Bytes) -> int:
        """Count, and return, the units whose bits differ."""
        import numpy as np

        size = self.kinds[0].block_bytes
        unit = np.dtype(f"<u{size}") if size in (1, 2, 4, 8) else np.dtype(np.uint8)
        a, b = np.frombuffer(raw_a, unit), np.frombuffer(raw_b, unit)
        unequal = a != b
        if size != unit.itemsize:
            unequal = unequal.reshape(-1, size // unit.itemsize).any(axis=1)
        changed = int(np.count_nonzero(unequal))
        self.units += len(unequal)
        self.changed += changed
        return changed

    def _add_norms(self, a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
        """Add to the sums; say whether all elements of both are known to be finite."""
        import numpy as np

        square_a = float(np.dot(a, a))
        square_b = square_a if b is a else float(np.dot(b, b))
        if isfinite(square_a) and isfinite(square_b):
            self._add_sums(a, b, square_a, square_b)
            return True
        for index, values in enumerate((a, b)):
            self.special[index] += int(np.count_nonzero(np.isnan(values)))
            self.special[index + 2] += int(np.count_nonzero(np.isinf(values)))
        finite = np.isfinite(a) & np.isfinite(b)
        if not finite.all():
            a, b = a[finite], b[finite]
        if len(a):
            self._add_sums(a, b, float(np.dot(a, a)), float(np.dot(b, b)))
        return False

    def _add_sums(
        self, a: NDArray[np.float64], b: NDArray[np.float64], square_a: float, square_b: float
    ) -> None:
        import numpy as np

        self.compared += len(a)
        self.square_a += square_a
        self.square_b += square_b
        if b is a:
            self.dot += square_a
            return
        difference = b - a
        self.dot += float(np.dot(a, b))
        self.square_difference += float(np.dot(difference, difference))
        self.largest = max(self.largest, float(difference.max()), -float(difference.min()))

    def _add_steps(self, a: NDArray[Any], b: NDArray[Any], *, finite: bool) -> None:
        """Find the largest ulp distance and, for two types, whether one side is the other rounded.

        Values are compared in the type with the fewer bits; of two equally wide ones in b's.
        """
        if not self.is_cast:
            step = _largest_short_step(a, b) if finite and _is_short_float(a) else None
            self.steps = max(self.steps, _largest_step(a, b) if step is None else step)
            return
        if _is_float(a) != _is_float(b):
            # An integer side cannot hold NaN or fractions: it is always the one that is cast.
            floats_of_b = not _is_float(a)
            a, b = (_round_to(a, b.dtype), b) if floats_of_b else (a, _round_to(b, a.dtype))
            exact = _count_unequal(a, b) == 0
            self._note_cast(
                b_is_rounded=exact and floats_of_b, a_is_rounded=exact and not floats_of_b
            )
        elif _is_float(a):
            rounded_a, rounded_b = _round_to(a, b.dtype), _round_to(b, a.dtype)
            self._note_cast(
                b_is_rounded=_count_unequal(rounded_a, b) == 0,
                a_is_rounded=_count_unequal(a, rounded_b) == 0,
            )
            a, b = (a, rounded_b) if a.itemsize < b.itemsize else (rounded_a, b)
        else:
            exact = _count_unequal(a, b) == 0
            self._note_cast(b_is_rounded=exact, a_is_rounded=exact)
        self.steps = max(self.steps, _largest_step(a, b))

    def _note_cast(self, *, b_is_rounded: bool, a_is_rounded: bool) -> None:
        self.exact[0] &= b_is_rounded
        self.exact[1] &= a_is_rounded

    def result(self) -> ValueDifference:
        """Return what the chunks add up to."""
        is_plain = self.kinds[0].block_elements == 1
        is_byte = self.kinds[0].kind == "unknown"
        judged = self.is_cast and self.has_steps
        return ValueDifference(
            unit="element" if self.is_cast or (is_plain and not is_byte)
            else "byte" if is_byte else "block",
            unit_count=self.units,
            changed_count=self.changed,
            changed_share=self.changed / self.units if self.units else 0.0,
            largest_ulp=self.steps if self.has_steps and self.compared else None,
            nan_count_a=self.special[0],
            nan_count_b=self.special[1],
            infinite_count_a=self.special[2],
            infinite_count_b=self.special[3],
            cast_exact=any(self.exact) if judged else None,
            cast_from=_cast_from(self.exact) if judged else None,
            **self._norms(),
        )  # fmt: skip

    def _norms(self) -> dict[str, float | None]:
        if not self.compared:
            return {}
        difference, norm_a, norm_b = map(
            _root, (self.square_difference, self.square_a, self.square_b)
        )
        product = None if norm_a is None or norm_b is None else norm_a * norm_b
        return {
            "l2_norm": difference,
            "relative_norm": _ratio(difference, norm_a),
            "cosine": _cosine(self.dot, product),
            "largest_absolute": self.largest if isfinite(self.largest) else None,
        }


def _cast_from(exact: list[bool]) -> str | None:
    return {(True, True): "both", (True, False): "a", (False, True): "b"}.get((exact[0], exact[1]))


def _root(square: float) -> float | None:
    return sqrt(square) if isfinite(square) else None


def _ratio(value: float | None, base: float | None) -> float | None:
    if value is None or base is None:
        return None
    if base == 0:
        return 0.0 if value == 0 else None
    return value / base if isfinite(value / base) else None


def _cosine(dot: float, product: float | None) -> float | None:
    if not product or not isfinite(dot) or not isfinite(product):
        return None
    return max(-1.0, min(1.0, dot / product))


def _decode(raw: bytes | memoryview, dtype: str) -> NDArray[Any]:
    """Return the values of whole blocks: in their own type, or float32 for ggml's blocks."""
    import numpy as np

    plain = numpy_dtype(dtype)
    if plain is None:
        from hartonomous.core import ggml

        return ggml.dequantise_blocks(raw, dtype)
    # A stored boolean may be any byte; numpy promises nothing for those other than 0 and 1.
    return np.frombuffer(raw, np.dtype(np.uint8) if plain.kind == "b" else plain)


def _as_float64(values: NDArray[Any], *, in_parts: bool) -> NDArray[np.float64]:
    """Return real numbers; ``in_parts``, every number becomes its real and imaginary part."""
    import numpy as np

    if in_parts:
        return values.astype(np.complex128).view(np.float64)
    return values.astype(np.float64)


def _round_to(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Round to nearest even. Small floats go through float64, which holds all of them exactly."""
    import numpy as np

    return (values.astype(np.float64) if _is_float(values) else values).astype(dtype)


def _is_float(values: NDArray[Any]) -> bool:
    return values.dtype.kind not in "iu"


def _count_unequal(a: NDArray[Any], b: NDArray[Any]) -> int:
    """Count elements whose values differ; two NaN are the same value here, and so are 0 and -0."""
    import numpy as np

    if not _is_float(a) and not _is_float(b):
        negative_a, size_a = _sign_and_size(a)
        negative_b, size_b = _sign_and_size(b)
        return int(np.count_nonzero((size_a != size_b) | (negative_a != negative_b)))
    wide = np.complex128 if "c" in (a.dtype.kind, b.dtype.kind) else np.float64
    left, right = a.astype(wide), b.astype(wide)
    unequal = left != right
    return int(np.count_nonzero(unequal & ~(np.isnan(left) & np.isnan(right))))


def _largest_step(a: NDArray[Any], b: NDArray[Any]) -> int:
    """Return the largest distance of two ordered bit patterns, over elements finite on both sides.

    Patterns are taken as sign and size, which are monotone in the value; -0 and 0 coincide.
    """
    import numpy as np

    if _is_float(a):
        finite = np.isfinite(a.astype(np.float64)) & np.isfinite(b.astype(np.float64))
        a, b = a[finite], b[finite]
    if not len(a):
        return 0
    negative_a, size_a = _sign_and_size(a)
    negative_b, size_b = _sign_and_size(b)
    together = np.where(size_a > size_b, size_a - size_b, size_b - size_a)
    across = size_a + size_b
    # Only -2^63 against nearly 2^64 can wrap around.
    across = np.where(across < size_a, np.uint64(2**64 - 1), across)
    return int(np.where(negative_a == negative_b, together, across).max())


def _is_short_float(values: NDArray[Any]) -> bool:
    """Say whether these are floats of 2 or 4 bytes with a sign bit."""
    return _is_float(values) and values.dtype.kind != "c" and values.itemsize in (2, 4)


def _largest_short_step(a: NDArray[Any], b: NDArray[Any]) -> int:
    """Return what ``_largest_step`` does, of floats of 2 or 4 bytes that are all finite."""
    import numpy as np

    def places(values: NDArray[Any]) -> NDArray[np.int32]:
        bits = values.view(f"<i{values.itemsize}").astype(np.int32, copy=False)
        sign = bits >> 31  # all ones of negative numbers, whose sizes are counted downwards
        return (bits ^ (sign & np.int32((1 << (8 * values.itemsize - 1)) - 1))) - sign

    apart = np.subtract(places(a), places(b), dtype=np.int64)
    return max(int(apart.max()), -int(apart.min()))


def _sign_and_size(values: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
    import numpy as np

    if values.dtype.kind == "u":
        return np.zeros(len(values), np.bool_), values.astype(np.uint64)
    if values.dtype.kind == "i":
        wide = values.astype(np.int64)
        return wide < 0, np.abs(wide).view(np.uint64)
    bits = values.view(f"<u{values.itemsize}").astype(np.uint64)
    if "e8m0" in values.dtype.name:  # an exponent only: no sign bit
        return np.zeros(len(values), np.bool_), bits
    top = np.uint64(1 << (8 * values.itemsize - 1))
    return (bits & top) != 0, bits & ~top
