"""Which bytes of a quantised block the value of one element takes, and values read by these alone.

Pure. A block of Q4_K has 144 bytes, of which a value needs some eight: the code, the scales of its
group and of the block. Which they are is found by changing each byte of random blocks, so that it
need not be written down for each type.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hartonomous.core import ggml
from hartonomous.core.dtype import DTYPES
from hartonomous.core.elements import Indices, ReadValues, Values

ReadRange = Callable[[int, int], bytes]
"""``read(offset, length)`` returns bytes of a tensor."""

_CHANGES = (0x01, 0x10, 0x55, 0x80, 0xAA, 0xFF)
_BLOCKS = 8
_SEED = 1


@lru_cache(maxsize=64)
def needed_bytes(dtype: str) -> NDArray[np.bool_]:
    """Return which bytes each element's value depends on, shape (block elements, block bytes).

    Raises KeyError for a type that ``core.ggml.is_dequantisable`` denies.
    """
    known = DTYPES[dtype]
    chooser = np.random.default_rng(_SEED)
    found = np.zeros((known.block_elements, known.block_bytes), np.bool_)
    for _ in range(_BLOCKS):
        block = chooser.integers(0, 256, known.block_bytes, np.uint8)
        plain = _bits(block, dtype)
        for change in _CHANGES:
            changed = np.repeat(block[None], known.block_bytes, axis=0)
            np.fill_diagonal(changed, block ^ np.uint8(change))
            found |= (_bits(changed, dtype) != plain).T
    found.flags.writeable = False
    return found


def value_bytes(dtype: str) -> int:
    """Return how many bytes a value takes to be read: on the average, rounded up."""
    known = DTYPES[dtype]
    if known.block_elements == 1:
        return known.block_bytes
    return -(-int(needed_bytes(dtype).sum()) // known.block_elements)


def sparse_values(read: ReadRange, dtype: str) -> ReadValues:
    """Return a reader of the values of a quantised tensor that reads no bytes but those needed."""
    known = DTYPES[dtype]

    def values(elements: Indices) -> Values:
        blocks = np.zeros((len(elements), known.block_bytes), np.uint8)
        which, inside = np.divmod(elements, known.block_elements)
        for row, (block, element) in enumerate(zip(which.tolist(), inside.tolist(), strict=True)):
            for start, stop in _runs(dtype, element):
                content = read(block * known.block_bytes + start, stop - start)
                blocks[row, start:stop] = np.frombuffer(content, np.uint8)
        decoded = ggml.dequantise_blocks(blocks.data, dtype).reshape(len(elements), -1)
        found: Values = decoded[np.arange(len(elements)), inside]
        return found

    return values


def _bits(blocks: NDArray[np.uint8], dtype: str) -> NDArray[np.uint32]:
    """Return the values of blocks as bits, so that NaN equals itself; shape (blocks, elements)."""
    content = np.ascontiguousarray(blocks).data
    values = ggml.dequantise_blocks(content, dtype)
    return values.view(np.uint32).reshape(-1, DTYPES[dtype].block_elements)


@lru_cache(maxsize=4096)
def _runs(dtype: str, element: int) -> tuple[tuple[int, int], ...]:
    """Return the byte ranges [start, stop) that an element needs."""
    edges = np.flatnonzero(np.diff(needed_bytes(dtype)[element], prepend=False, append=False))
    return tuple((int(start), int(stop)) for start, stop in edges.reshape(-1, 2))
