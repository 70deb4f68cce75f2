"""Tensors of 8 bits that were rounded from floats by a scale: int8, uint8 and FP8.

value = round(x / scale), integers with a zero point added. Elements that share a scale form a grid
of the tensor (all, a row, a column, a block of both). Scales are found by fit: every one that gives
the same bytes serves, so the tensor that holds the true ones is not needed. See "Rounded
bytes" in docs/format-quantised.md.
"""

import struct
from math import prod

import numpy as np
from numpy.typing import NDArray

from hartonomous.codecs import kernel
from hartonomous.codecs.layouts import Field, Layout
from hartonomous.codecs.quantised_payload import BYTES, Payload, encode_table
from hartonomous.codecs.rounding_reference import GROUP_BYTES, TYPES, Grid

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

ROUNDED = 16
"""The kind of payload; those of blocks are below."""

SCALED_BLOCK = 128
"""Rows and columns that share a scale in FP8 checkpoints with scales by block."""

_PARAMS = struct.Struct("<QII")
PARAM_BYTES = _PARAMS.size
GROUP_LAYOUT = Layout((Field(width=4, rotated=True), Field(width=1)))


def grids(shape: tuple[int, ...]) -> tuple[Grid, ...]:
    """Return how scales of a tensor of this shape are usually laid out, the simplest first."""
    if len(shape) < 2:
        return (Grid(),)
    columns = prod(shape[1:])
    return (
        Grid(),
        Grid(columns=columns, block_rows=1),
        Grid(columns=columns, block_columns=1),
        Grid(columns=columns, block_rows=SCALED_BLOCK, block_columns=SCALED_BLOCK),
    )


def derive(dtype: str, content: Bytes, values: Floats, position: int, grid: Grid) -> Payload:
    """Return what a frame keeps beside ``values``; scales are fitted to both."""
    if (
        grid.count(position, len(values)) > len(values)
        or max(grid.block_rows, grid.block_columns) >> 32
    ):
        grid = Grid()
    table = kernel.active().fit_rounded(dtype, content, values, position, grid)
    codes = np.empty(len(values), np.uint8)
    kernel.active().round_values(dtype, table, values, position, grid, None, codes)
    return Payload(
        kind=ROUNDED, number=TYPES[dtype], elements=len(values),
        params=_PARAMS.pack(grid.columns, grid.block_rows, grid.block_columns),
        header=encode_table(table, GROUP_LAYOUT), residual=encode_table(content - codes, BYTES),
    )  # fmt: skip


def header_bytes(payload: Payload, position: int) -> int:
    """Return the size of a payload's table of scales; raises ValueError for too many."""
    count = _grid(payload).count(position, payload.elements)
    if count > max(payload.elements, 1):
        raise ValueError("it has more scales than elements")
    return GROUP_BYTES * count


def restore(  # noqa: PLR0917 - arrays, as C takes them
    dtype: str, payload: Payload, values: Floats, position: int,
    header: Bytes, residual: Bytes | None, out: Bytes,
) -> None:  # fmt: skip
    """Fill ``out`` from the source's values and what the payload keeps."""
    kernel.active().round_values(dtype, header, values, position, _grid(payload), residual, out)


def _grid(payload: Payload) -> Grid:
    columns, block_rows, block_columns = _PARAMS.unpack(payload.params)
    if columns >> 48:
        raise ValueError("its rows are too long")
    return Grid(columns=columns, block_rows=block_rows, block_columns=block_columns)
