"""Stored tensor bytes as numpy arrays: views without a copy, rows by byte range, printing.

Pure; numpy and ml_dtypes are imported when first needed, because they cost half of the start-up.
Everything stored is little-endian.
"""

from __future__ import annotations

from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any

from hartonomous.core.dtype import DTYPES
from hartonomous.core.strides import span
from hartonomous.errors import LimitError, StructureError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_NUMPY = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1",
    "BOOL": "|b1", "C64": "<c8", "C128": "<c16",
}  # fmt: skip

_ML_DTYPES = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}


REPEATED_LIMIT_BYTES = 64 << 20
"""What a broadcast view may be spread out to."""


@cache
def numpy_dtype(dtype: str) -> np.dtype[Any] | None:
    """Return numpy's type for a name of ``core.dtype``.

    None for types that share bytes among elements (ggml's blocks, F4, F6) and unknown names.
    """
    import numpy as np

    if dtype in _NUMPY:
        return np.dtype(_NUMPY[dtype])
    if dtype in _ML_DTYPES:
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, _ML_DTYPES[dtype]))
        return found
    return None


@cache
def _names_by_type() -> dict[np.dtype[Any], str]:
    types = {name: numpy_dtype(name) for name in (*_NUMPY, *_ML_DTYPES)}
    return {found: name for name, found in types.items() if found is not None}


def dtype_name(dtype: np.dtype[Any]) -> str | None:
    """Return the name of ``core.dtype`` for a type of numpy or ml_dtypes, in either byte order.

    None for types that have none there, such as text, times, structures and long doubles.
    """
    return _names_by_type().get(dtype.newbyteorder("<"))


def as_array(content: bytes | memoryview, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a view of a tensor's bytes as an array; nothing is copied.

    Plain types have ``shape``. Types whose elements share bytes (ggml's blocks, F4, F6) come as
    uint8 of shape ``(*leading, bytes of a row)``, or flat where a row is not whole blocks. Unknown
    types come as flat uint8. The view is read-only if ``content`` is. Raises StructureError if
    the bytes do not fit the shape, LimitError if numpy has no such shape.
    """
    import numpy as np

    size = memoryview(content).nbytes
    known = DTYPES.get(dtype)
    if known is None:
        return np.frombuffer(content, dtype=np.uint8)
    if known.byte_count(prod(shape)) != size:
        raise StructureError(f"{size} bytes are no {dtype} tensor of shape {list(shape)}")
    plain = numpy_dtype(dtype)
    flat = np.frombuffer(content, dtype=plain or np.uint8)
    if plain is not None:
        return _reshape(flat, shape)
    row_bytes = known.byte_count(shape[-1]) if shape else None
    return flat if row_bytes is None else _reshape(flat, (*shape[:-1], row_bytes))


def _reshape(flat: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    try:
        return flat.reshape(shape)
    except (ValueError, OverflowError) as error:
        # More than 64 axes, or extents beyond 2^63 beside a zero: legal in a file, not in numpy.
        raise LimitError(
            f"numpy has no array of {len(shape)} axes with these extents",
            hint="read the tensor's bytes instead",
        ) from error


def as_strided_array(
    content: bytes | memoryview, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...]
) -> NDArray[Any]:
    """Return a C-ordered copy of a view: element (0, …, 0) is the first of ``content``.

    ``strides`` are in elements; ``dtype`` is a plain type. Raises StructureError if the view
    reaches outside of the bytes, LimitError if it repeats elements until they fill more than
    ``REPEATED_LIMIT_BYTES``, or if numpy has no such shape.
    """
    import numpy as np

    plain = numpy_dtype(dtype)
    size = memoryview(content).nbytes
    if plain is None or len(strides) != len(shape) or min(strides, default=0) < 0:
        raise StructureError(f"{dtype} elements with strides {list(strides)} cannot be read")
    if span(shape, strides) * plain.itemsize > size:
        raise StructureError(
            f"{size} bytes are no {dtype} tensor of shape {list(shape)} and strides {list(strides)}"
        )
    if prod(shape) * plain.itemsize > max(size, REPEATED_LIMIT_BYTES):
        raise LimitError(
            f"a tensor of shape {list(shape)} repeats {size} bytes until they fill "
            f"{prod(shape) * plain.itemsize}",
            hint="read the tensor's bytes, or some of its rows",
        )
    steps = tuple(stride * plain.itemsize for stride in strides)
    try:
        # Numpy checks shape and strides against the buffer once more.
        view: NDArray[Any] = np.ndarray(shape, plain, content, strides=steps)
    except (ValueError, OverflowError) as error:
        raise LimitError(f"numpy has no array of shape {list(shape)}") from error
    return np.array(view, order="C")


def row_range(dtype: str, shape: tuple[int, ...], start: int, stop: int) -> tuple[int, int]:
    """Return ``(byte offset, byte length)`` of rows ``[start, stop)`` along the slowest axis.

    Raises UsageError when the rows are not all there, the tensor has no axis, its type's size is
    unknown, or the rows do not begin and end with whole blocks of the type.
    """
    known = DTYPES.get(dtype)
    if known is None:
        raise UsageError(
            f"the size of element type {dtype!r} is unknown, so its rows cannot be found",
            hint="ask for a byte range instead",
        )
    if not shape:
        raise UsageError("a scalar has no rows", hint="read the whole tensor")
    if not 0 <= start <= stop <= shape[0]:
        raise UsageError(
            f"rows {start}:{stop} are outside the tensor's {shape[0]} rows",
            hint=f"use 0 <= start <= stop <= {shape[0]}",
        )
    row_elements = prod(shape[1:])
    first, end = known.byte_count(start * row_elements), known.byte_count(stop * row_elements)
    if first is None or end is None:
        raise UsageError(
            f"rows {start}:{stop} of {row_elements} elements do not begin and end with whole "
            f"blocks of {known.block_elements} elements ({dtype})",
            hint="choose rows on block borders, or ask for a byte range",
        )
    return first, end - first


def print_array(array: NDArray[Any]) -> str:
    """Return the array as numpy prints it: bounded (long arrays are shortened), bf16 too."""
    return str(array)


def dequantise(content: bytes | memoryview, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the float32 values of a ggml-quantised tensor, of shape ``shape``.

    Raises UsageError for a type without a dequantiser (see ``core.ggml``), StructureError if the
    bytes do not fit the shape.
    """
    from hartonomous.core import ggml

    if not ggml.is_dequantisable(dtype):
        raise UsageError(
            f"{dtype} has no dequantiser here",
            hint=f"known: {', '.join(ggml.dequantisable_types())}; read the raw blocks instead",
        )
    size = memoryview(content).nbytes
    if DTYPES[dtype].byte_count(prod(shape)) != size:
        raise StructureError(f"{size} bytes are no {dtype} tensor of shape {list(shape)}")
    return _reshape(ggml.dequantise_blocks(content, dtype), shape)
