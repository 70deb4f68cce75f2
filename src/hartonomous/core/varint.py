"""Packed varints as elements: protobuf's encoding of repeated integers, decoded with numpy.

Source: protobuf.dev, "Encoding": seven bits a byte, the lowest first, the top bit says that more
follow; at most ten bytes. Negative numbers are spelled as 64-bit two's complement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hartonomous.core.dtype import DTYPES
from hartonomous.errors import StructureError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LONGEST_BYTES = 10


class VarintDecoder:
    """Turns packed varints into little-endian elements of one type, block by block.

    Each varint becomes one element of the type's width, its higher bits dropped (ONNX keeps
    float16 and int8 alike in ``int32_data``); of types that share bytes, one byte. A boolean is 0
    or 1. Raises StructureError on a varint of more than ten bytes or 64 bits, or a cut one.
    """

    def __init__(self, dtype: str) -> None:
        known = DTYPES.get(dtype)
        self._width = known.block_bytes if known is not None else 1
        if self._width not in (1, 2, 4, 8):
            raise StructureError(f"varints are no elements of the type {dtype[:40]!a}")
        self._is_boolean = dtype == "BOOL"
        self._rest = b""

    def decode(self, content: bytes) -> bytes:
        """Return the elements that end in this block."""
        import numpy as np

        content = self._rest + content
        held = np.frombuffer(content, np.uint8)
        ends = np.flatnonzero(held < 128)
        whole = int(ends[-1]) + 1 if len(ends) else 0
        self._rest = content[whole:]
        if len(self._rest) >= LONGEST_BYTES:
            raise StructureError(f"a varint has more than {LONGEST_BYTES} bytes")
        values = _values(held[:whole], ends)
        if self._is_boolean:
            values = (values != 0).astype(np.uint64)
        return values.astype(f"<u{self._width}").tobytes()

    def finish(self) -> None:
        """Raise StructureError if the last varint has no end."""
        if self._rest:
            raise StructureError("the last varint of a tensor is cut")


def _values(held: NDArray[np.uint8], ends: NDArray[np.intp]) -> NDArray[np.uint64]:
    import numpy as np

    starts = np.concatenate([np.zeros(1, np.intp), ends[:-1] + 1]) if len(ends) else ends
    lengths = ends - starts + 1
    longest = int(lengths.max(initial=0))
    if longest > LONGEST_BYTES:
        raise StructureError(f"a varint has more than {LONGEST_BYTES} bytes")
    values = np.zeros(len(ends), np.uint64)
    for at in range(longest):
        those = np.flatnonzero(lengths > at)
        bits = held[starts[those] + at].astype(np.uint64) & np.uint64(127)
        if at == LONGEST_BYTES - 1 and bits.max(initial=0) > 1:
            raise StructureError("a varint has more than 64 bits")
        values[those] |= bits << np.uint64(7 * at)
    return values
