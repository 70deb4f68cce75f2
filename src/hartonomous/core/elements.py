"""Values of single elements of a tensor, read by byte range wherever its bytes lie.

Pure: the caller passes the function that reads. Plain types are converted to float32 (F64 rounded
to nearest even), quantised ones are read by whole blocks and dequantised.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hartonomous.core import ggml
from hartonomous.core.array import numpy_dtype
from hartonomous.core.dtype import DTYPES

Indices = NDArray[np.int64]
Values = NDArray[np.float32]

ReadRanges = Callable[[Indices, int], bytes | memoryview]
"""``read(offsets, length)`` returns ``length`` bytes from each offset of a tensor, in that order,
one range behind the other."""

ReadValues = Callable[[Indices], Values]
"""``read(elements)`` returns the values of elements (flat indices in C order, any order)."""


def has_values(dtype: str) -> bool:
    """Say whether elements of this type are weights of which ``element_values`` reads the values.

    Floats of a byte and more, the quantised types that ``core.ggml`` decodes, and I8, which holds
    the codes of weights. Other integers are indices, counters and packed bits.
    """
    known = DTYPES.get(dtype)
    if known is None:
        return False
    if known.kind == "quantised":
        return ggml.is_dequantisable(dtype)
    is_weight = known.kind == "float" or dtype == "I8"
    return is_weight and dtype != "F8_E8M0" and numpy_dtype(dtype) is not None


def types_with_values() -> tuple[str, ...]:
    """Return the names of the types that ``has_values`` grants."""
    return tuple(name for name in DTYPES if has_values(name))


def element_values(read: ReadRanges, dtype: str, elements: Indices) -> Values:
    """Return the float32 values of a tensor's elements; NaN and infinite ones as they are.

    Raises KeyError for a type that ``has_values`` denies.
    """
    known = DTYPES[dtype]
    if known.block_elements > 1:
        blocks, which = np.unique(elements // known.block_elements, return_inverse=True)
        content = read(blocks * known.block_bytes, known.block_bytes)
        decoded = ggml.dequantise_blocks(content, dtype).reshape(len(blocks), -1)
        found: Values = decoded[which.reshape(-1), elements % known.block_elements]
        return found
    plain = numpy_dtype(dtype)
    if plain is None:
        raise KeyError(dtype)
    content = read(elements * plain.itemsize, plain.itemsize)
    with np.errstate(all="ignore"):  # what float32 cannot hold becomes infinite
        return np.frombuffer(content, plain).astype(np.float32)


def ranges_of(content: bytes | memoryview) -> ReadRanges:
    """Return a reader of a tensor whose bytes are at hand."""
    held: NDArray[Any] = np.frombuffer(content, np.uint8)

    def read(offsets: Indices, length: int) -> bytes:
        content: bytes = held[offsets[:, None] + np.arange(length)].tobytes()
        return content

    return read


def values_of(read: ReadRanges, dtype: str) -> ReadValues:
    """Return a reader of values through one of byte ranges."""

    def values(elements: Indices) -> Values:
        return element_values(read, dtype, elements)

    return values
