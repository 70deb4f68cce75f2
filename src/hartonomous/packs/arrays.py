"""Tensors of stored files as numpy arrays: views of the pack where the bytes lie raw, else copies.

``TensorPlace`` says which bytes of which file a tensor is; everything here reads one. What decides
the result is the type: plain ones (bfloat16 and float8 through ml_dtypes) have the tensor's shape;
types whose elements share bytes come as rows of uint8, unless they are dequantised.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from operator import index
from typing import TYPE_CHECKING, Any

from hartonomous.core.array import (
    as_array,
    as_strided_array,
    dequantise,
    numpy_dtype,
    print_array,
    row_range,
)
from hartonomous.core.coding import Coding
from hartonomous.core.dtype import DTYPES
from hartonomous.core.manifest import Manifest
from hartonomous.core.strides import span as element_span
from hartonomous.errors import UsageError
from hartonomous.packs.coded_bytes import CodedBytes
from hartonomous.packs.files import CHUNK_BYTES, FileReader, fresh_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Rows = slice | tuple[int, int]
"""Rows ``[start, stop)`` of the slowest axis; a slice may be open and count from the end."""

_EDGE_ROWS = 3  # numpy prints so many rows from either end of a long array
_PRINTED_WHOLE = 1000  # and all of an array of at most so many elements


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorPlace:
    """A tensor of a stored file. ``member`` is the file's path inside its artifact.

    ``offset`` and ``length`` are what it takes in the file; ``strides`` and ``coding`` are those of
    ``core.description.Tensor``: None in C order, and where the bytes lie as they are. The methods
    read the tensor's own bytes, decoded; their positions count from the tensor's first.
    """

    member: str
    file: FileReader
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int
    digest: bytes | None = None
    strides: tuple[int, ...] | None = None
    coding: Coding | None = None

    @property
    def byte_count(self) -> int:
        """Bytes of the tensor, decoded."""
        return self.length if self.coding is None else self.coding.length

    def view(self, start: int, length: int) -> memoryview:
        """Return some of its bytes, read-only: a view of the pack where they lie raw in it."""
        if self.coding is None:
            return self.file.view(self.offset + start, length)
        return self.fresh(start, length).toreadonly()

    def fresh(self, start: int, length: int) -> memoryview:
        """Return some of its bytes in new memory."""
        if self.coding is not None:
            self.decoding(self.coding)  # which bounds the length before there is memory for it
        out = fresh_memory(length)
        self.decode_into(out, start)
        return out

    def decode_into(self, out: memoryview, start: int) -> None:
        """Fill ``out`` with its bytes from ``start`` on."""
        if self.coding is None:
            self.file.decode_into(out, self.offset + start)
        else:
            self.decoding(self.coding).read_into(out, start)

    def chunks(self, start: int, length: int) -> Iterator[memoryview]:
        """Yield some of its bytes in small read-only pieces."""
        if self.coding is None:
            return self.file.chunks(self.offset + start, length)
        reader = self.decoding(self.coding)
        return (
            reader.read(at, min(CHUNK_BYTES, start + length - at))
            for at in range(start, start + length, CHUNK_BYTES)
        )

    def decoding(self, coding: Coding) -> CodedBytes:
        """Return a reader of the bytes under its coding."""
        return CodedBytes(self.file.view, self.offset, self.length, coding=coding, dtype=self.dtype)

    @property
    def column_major(self) -> bool:
        """Whether the bytes run column by column, as `.npy` files in Fortran order have them."""
        return len(self.shape) > 1 and is_column_major(self.file.manifest)

    @property
    def shares_bytes(self) -> bool:
        """Whether elements share bytes (or are of an unknown type), so that it is read as uint8."""
        return numpy_dtype(self.dtype) is None


def is_column_major(manifest: Manifest) -> bool:
    """Say whether a file is a `.npy` in Fortran order."""
    described = manifest.description
    return described.format == "npy" and described.metadata.get("fortran_order") is True


def span(given: slice | tuple[int, int], size: int, what: str) -> tuple[int, int]:
    """Return (start, stop) inside ``size`` things; raises UsageError if they are not all there."""
    try:
        start, stop = (given.start, given.stop) if isinstance(given, slice) else given
        start, stop = (None if one is None else index(one) for one in (start, stop))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{str(given)[:100]} says no {what}",
            hint="give a slice or (start, stop) of whole numbers",
        ) from error
    if isinstance(given, slice) and given.step not in (None, 1):
        raise UsageError(f"{what} are read in one piece, not with step {given.step}")
    first = 0 if start is None else start + size if start < 0 else start
    end = size if stop is None else stop + size if stop < 0 else stop
    if not 0 <= first <= end <= size:
        raise UsageError(
            f"{what} {'' if start is None else start}:{'' if stop is None else stop} are outside "
            f"the tensor's {size}",
            hint=f"use 0 <= start <= stop <= {size}",
        )
    return first, end


def bytes_span(place: TensorPlace, bytes_range: slice | tuple[int, int] | None) -> tuple[int, int]:
    """Return the bytes asked for as (start, stop), all of them for None; raises UsageError."""
    return (
        (0, place.byte_count)
        if bytes_range is None
        else span(bytes_range, place.byte_count, "bytes")
    )


def row_span(place: TensorPlace, rows: Rows | None) -> tuple[int, int]:
    """Return the rows asked for as (start, stop), all of them for None; raises UsageError."""
    if rows is None:
        return 0, place.shape[0] if place.shape else 0
    if not place.shape:
        raise UsageError("a scalar has no rows", hint="read the whole tensor")
    return span(rows, place.shape[0], "rows")


def row_bytes(place: TensorPlace, rows: Rows | None) -> tuple[int, int, tuple[int, ...]]:
    """Return (start, length, shape) of some rows, start in the tensor; raises UsageError."""
    if rows is None:
        return 0, place.byte_count, place.shape
    if place.column_major:
        raise UsageError(
            f"{place.name!r} is kept column by column, so its rows do not lie together",
            hint="read the whole tensor, or its rows as an array",
        )
    if place.strides is not None:
        raise UsageError(
            f"{place.name!r} is a view whose elements do not lie in order, and neither do its rows",
            hint="read the whole tensor, or its rows as an array",
        )
    start, stop = row_span(place, rows)
    first, length = row_range(place.dtype, place.shape, start, stop)
    return first, length, (stop - start, *place.shape[1:])


def read_array(
    place: TensorPlace,
    *,
    rows: Rows | None = None,
    dequantised: bool = False,
    owned: bool = False,
) -> NDArray[Any]:
    """Return a tensor, or rows of it, as a C-contiguous array.

    Read-only, and a view of the pack where the bytes lie raw in one piece; its frames are checked
    when they are first given out, and it stays valid when the store is closed or collected.
    ``owned`` reads into fresh memory instead, and gives an array that may be changed.
    ``dequantised`` gives float32 values of ggml's blocks; plain types are not touched by it. Raises
    UsageError, IntegrityError, and LimitError for a shape that numpy does not have.
    """
    if place.column_major:
        return _column_major(place, rows, owned=owned)
    if place.strides is not None and not place.shares_bytes:
        return _strided(place, place.strides, rows, owned=owned)
    first, length, shape = row_bytes(place, rows)
    content = place.fresh(first, length) if owned else place.view(first, length)
    if dequantised and place.shares_bytes:
        values: NDArray[Any] = dequantise(content, place.dtype, shape)
        values.flags.writeable = owned
        return values
    return as_array(content, place.dtype, shape)


def _column_major(place: TensorPlace, rows: Rows | None, *, owned: bool) -> NDArray[Any]:
    """Read all of it and turn it around: rows of such a file do not lie together."""
    import numpy as np

    content = place.view(0, place.byte_count)
    turned = as_array(content, place.dtype, place.shape[::-1])
    if turned.ndim != len(place.shape):
        return turned  # a type that numpy has no name for: bytes, as they lie
    array = turned.T
    if rows is not None:
        start, stop = row_span(place, rows)
        array = array[start:stop]
    result = np.array(array, order="C")
    result.flags.writeable = owned
    return result


def _strided(
    place: TensorPlace, strides: tuple[int, ...], rows: Rows | None, *, owned: bool
) -> NDArray[Any]:
    """Read from the first to the last element of these rows, and put them in order."""
    shape, first = place.shape, 0
    if rows is not None:
        start, stop = row_span(place, rows)
        shape, first = (stop - start, *shape[1:]), start * strides[0]
    dtype = numpy_dtype(place.dtype)
    assert dtype is not None
    length = element_span(shape, strides) * dtype.itemsize
    content = place.view(first * dtype.itemsize if length else 0, length)
    result = as_strided_array(content, place.dtype, shape, strides)
    result.flags.writeable = owned
    return result


def array_form(
    place: TensorPlace, shape: tuple[int, ...], *, dequantised: bool = False
) -> tuple[str, tuple[int, ...]]:
    """Return dtype name and shape of the array that ``shape`` of this tensor is read as."""
    plain = numpy_dtype(place.dtype)
    if plain is not None:
        return plain.name, shape
    if dequantised:
        return "float32", shape
    known = DTYPES.get(place.dtype)
    if known is None:
        return "uint8", (place.byte_count,)
    row_bytes = known.byte_count(shape[-1]) if shape else None
    if row_bytes is None:
        return "uint8", (known.byte_count(prod(shape)) or 0,)
    return "uint8", (*shape[:-1], row_bytes)


def printed(place: TensorPlace, *, rows: Rows | None = None, dequantised: bool = False) -> str:
    """Return what numpy prints of a tensor; of a long one only the rows that are shown are read."""
    import numpy as np

    start, stop = row_span(place, rows)
    row_elements = prod(place.shape[1:])
    known = DTYPES.get(place.dtype)
    few = stop - start <= 2 * _EDGE_ROWS or (stop - start) * row_elements <= _PRINTED_WHOLE
    if few or place.column_major or known is None or row_elements % known.block_elements:
        return print_array(read_array(place, rows=rows, dequantised=dequantised))
    edges = [(start, start + _EDGE_ROWS + 1), (stop - _EDGE_ROWS, stop)]
    parts = [read_array(place, rows=edge, dequantised=dequantised) for edge in edges]
    # One row more than numpy shows, so that it leaves one out, as it would of the whole.
    return np.array2string(np.concatenate(parts), separator=" ", threshold=0)
