"""Weights as int8: a matrix with a scale for each column, a table with a scale for each row.

What goes into a matrix is quantised while it runs, each token by its own largest value. So a text's
vector does not depend on the texts beside it in a batch, as it does with the one scale for a whole
tensor that onnxruntime's ``DynamicQuantizeLinear`` gives. Matrices have values of -63 to 63: with
larger ones, processors without VNNI add pairs of products in 16 bits that overflow. So all sums are
exact, on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from hartonomous.inference.onnx_writer import GraphWriter, in_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LIMIT = 127.0
_MATRIX_LIMIT = 63.0  # 2 * 255 * 63 < 2**15
_LEAST = 1e-12  # so that a row of zeros divides by something


def quantised_linear(
    graph: GraphWriter,
    state: str,
    shape: tuple[int, int],
    matrix: Callable[[], NDArray[np.float32]],
    bias: str,
) -> str:
    """Add ``state`` [.., inputs] times a matrix [inputs, outputs] plus ``bias``."""
    weight = graph.weight(
        "int8", shape, lambda: (quantise(matrix(), axis=0, limit=_MATRIX_LIMIT)[0],)
    )
    scale = graph.weight(
        "float32", (shape[1],), lambda: (quantise(matrix(), axis=0, limit=_MATRIX_LIMIT)[1],)
    )
    largest = graph.node("ReduceMax", graph.node("Abs", state), axes=(-1,), keepdims=1)
    bounded = graph.node("Max", largest, graph.constant(np.array(_LEAST, np.float32)))
    step = graph.node("Mul", bounded, graph.constant(np.array(1 / _LIMIT, np.float32)))
    rounded = graph.node("Round", graph.node("Div", state, step))
    shifted = graph.node("Add", rounded, graph.constant(np.array(128, np.float32)))
    small = graph.nodes("Cast", [shifted], 1, "", {"to": 2})[0]
    zero = graph.constant(np.array(128, np.uint8))
    sums = graph.nodes("Cast", [graph.node("MatMulInteger", small, weight, zero)], 1, "",
                       {"to": 1})[0]  # fmt: skip
    scaled = graph.node("Mul", graph.node("Mul", sums, step), scale)
    return graph.node("Add", scaled, bias)


def quantised_table(
    graph: GraphWriter,
    ids: str,
    rows: int,
    width: int,
    read: Callable[[int, int], NDArray[np.float32]],
) -> str:
    """Gather rows of a table by id and give them as float32."""
    table = graph.weight(
        "int8",
        (rows, width),
        in_rows(rows, 4 * width, lambda a, b: quantise(read(a, b), axis=1)[0]),
    )
    scales = graph.weight(
        "float32", (rows, 1), in_rows(rows, 4 * width,
                                      lambda a, b: quantise(read(a, b), axis=1)[1][:, None])
    )  # fmt: skip
    values = graph.nodes("Cast", [graph.node("Gather", table, ids)], 1, "", {"to": 1})[0]
    return graph.node("Mul", values, graph.node("Gather", scales, ids))


def quantise(
    matrix: NDArray[np.float32], *, axis: int, limit: float = _LIMIT
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 values of at most ``limit``, and what they are multiplied by along ``axis``."""
    scale = np.maximum(np.abs(matrix).max(axis=axis), _LEAST) / np.float32(limit)
    values = np.round(matrix / np.expand_dims(scale, axis)).astype(np.int8)
    return values, scale.astype(np.float32)
