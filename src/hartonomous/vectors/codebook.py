"""The fixed codebook: 16 points for two numbers of the standard normal distribution.

Found once by Lloyd's iteration on a grid weighted with the density; mean squared error 0.1076 a
number. A code has four bits for each pair of numbers. Packed codes are in the layout that faiss'
fast scan reads (``pq4_fast_scan``, 32 vectors a block), which is part of faiss' file format.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hartonomous.errors import UsageError
from hartonomous.ports.vector_index import Vectors

NUMBER = 1
"""Which codebook and layout; stands in every segment."""

BLOCK = 32
"""Vectors that are packed together."""

POINTS = np.array(
    [
        [-0.004495, 0.007288], [0.588797, -0.659868], [-0.877434, -0.175015], [0.274575, 0.855443],
        [-0.304889, -0.900672], [0.930135, 0.19948], [-0.63892, 0.720329], [0.643557, -1.745242],
        [1.639338, -0.883222], [1.193869, 1.43472], [-1.587985, -0.98295], [-1.843814, 0.313317],
        [-0.056797, 1.874196], [-0.653525, -1.889462], [1.964213, 0.374513], [-1.315463, 1.514432],
    ],
    dtype=np.float32,
)  # fmt: skip

Codes = NDArray[np.uint8]

# Byte j of a block's column holds vector _ORDER[j] in its lower half, that plus 16 in its upper.
_ORDER = np.array([0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15])


def faiss() -> Any:
    """Return the module ``faiss``; raises UsageError that names the extra where it is missing."""
    try:
        import faiss
    except ImportError as error:
        raise UsageError(
            "a compressed scan needs faiss, which is not installed here",
            hint="pip install 'hartonomous[search]'",
        ) from error
    return faiss


def simd_level() -> str | None:
    """Return which instructions faiss uses, such as ``AVX512``; None where it is not installed.

    ``NONE`` makes a scan some seventy times slower.
    """
    try:
        module = faiss()
    except UsageError:
        return None
    config = getattr(module, "SIMDConfig", None)
    if config is not None:
        return str(config.get_level_name())
    return str(module.get_compile_options()).strip()  # before faiss 1.14


def code_bytes(dimension: int) -> int:
    """Return the bytes of one vector's packed code; columns come in pairs of pairs."""
    pairs = (dimension + 1) // 2
    return (pairs + 1) // 2


def encoded(rows: Vectors) -> Codes:
    """Return the codes of rotated rows [n, d], d even: [n, code_bytes], the first pair lowest."""
    module = faiss()
    pairs = rows.shape[1] // 2
    quantiser = module.ProductQuantizer(rows.shape[1], pairs, 4)
    module.copy_array_to_vector(np.tile(POINTS, (pairs, 1)).ravel(), quantiser.centroids)
    return np.asarray(quantiser.compute_codes(np.ascontiguousarray(rows)))


def packed(codes: Codes) -> Codes:
    """Return codes [n, bytes], n a multiple of 32, packed: [n / 32, bytes, 32]."""
    count, wide = codes.shape
    columns = codes.reshape(count // BLOCK, BLOCK, wide).transpose(0, 2, 1)
    first, second = columns[:, :, _ORDER], columns[:, :, _ORDER + 16]
    out = np.empty((count // BLOCK, wide, BLOCK), dtype=np.uint8)
    out[:, :, :16] = (first & 15) | (second << 4)
    out[:, :, 16:] = (first >> 4) | (second & 0xF0)
    return out


def unpacked(blocks: Codes) -> Codes:
    """Return the codes [n, bytes] of packed blocks [n / 32, bytes, 32]."""
    low, high = blocks[:, :, :16], blocks[:, :, 16:]
    columns = np.empty(blocks.shape, dtype=np.uint8)
    columns[:, :, _ORDER] = (low & 15) | (high << 4)
    columns[:, :, _ORDER + 16] = (low >> 4) | (high & 0xF0)
    count = blocks.shape[0] * BLOCK
    return np.ascontiguousarray(columns.transpose(0, 2, 1)).reshape(count, blocks.shape[1])


def scan_of(blocks: Codes, dimension: int, *, by_distance: bool) -> Any:
    """Return a faiss index on a copy of packed blocks: squared distance or dot product."""
    module = faiss()
    pairs = dimension // 2
    metric = module.METRIC_L2 if by_distance else module.METRIC_INNER_PRODUCT
    index = module.IndexPQFastScan(dimension, pairs, 4, metric, BLOCK)
    module.copy_array_to_vector(np.tile(POINTS, (pairs, 1)).ravel(), index.pq.centroids)
    index.is_trained = True
    index.ntotal = index.ntotal2 = blocks.shape[0] * BLOCK
    module.copy_array_to_AlignedTable(blocks.reshape(-1), index.codes)
    return index
