"""Header of a GGUF file (version 3, little-endian): metadata, tensor table, padding.

Pure: the caller writes the header and then each tensor's bytes, each followed by ``padding``.
"""

import struct
from collections.abc import Mapping, Sequence
from math import prod

import msgspec

from hartonomous.core.dtype import DTYPES, GGML_TYPES
from hartonomous.errors import UsageError

ALIGNMENT = 32
"""Tensors begin at multiples of this; readers take it for granted when the file does not say."""

_MAGIC_AND_VERSION = struct.pack("<4sI", b"GGUF", 3)
_TYPE_NUMBERS = {name: number for number, (name, _, _) in GGML_TYPES.items()}

# Numbers of the value types in the GGUF specification.
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9

Scalar = str | int | float | bool
Value = Scalar | Sequence[str] | Sequence[int]


class GGUFTensor(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor to be written; ``shape`` has the slowest axis first, the file the fastest."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def byte_count(self) -> int:
        """Length of the tensor's bytes; raises UsageError when rows are not whole blocks."""
        known = DTYPES.get(self.dtype)
        if known is None or self.dtype not in _TYPE_NUMBERS or not self.shape:
            raise UsageError(f"GGUF cannot hold tensor {self.name!r}: {self.dtype} {self.shape}")
        row = known.byte_count(self.shape[-1])
        if row is None:
            raise UsageError(
                f"rows of tensor {self.name!r} ({self.shape[-1]} elements) are not whole blocks "
                f"of {known.block_elements} ({self.dtype})"
            )
        return row * prod(self.shape[:-1])


def padding(byte_count: int) -> bytes:
    """Return the zero bytes after a header or tensor of this length."""
    return bytes(-byte_count % ALIGNMENT)


def header_bytes(metadata: Mapping[str, Value], tensors: Sequence[GGUFTensor]) -> bytes:
    """Return everything before the first tensor byte, padding included.

    Whole numbers are written as uint32 where they fit, else int32; lists as arrays of strings or of
    int32. Raises UsageError for a value that fits none of these.
    """
    parts = [_MAGIC_AND_VERSION, struct.pack("<QQ", len(tensors), len(metadata))]
    for key, value in metadata.items():
        parts += [_text(key), _typed(key, value)]
    offset = 0
    for tensor in tensors:
        size = tensor.byte_count
        parts.append(_table_row(tensor, offset))
        offset += size
        offset += -offset % ALIGNMENT
    header = b"".join(parts)
    return header + padding(len(header))


def _table_row(tensor: GGUFTensor, offset: int) -> bytes:
    extents = tensor.shape[::-1]
    shape = struct.pack(f"<I{len(extents)}Q", len(extents), *extents)
    return _text(tensor.name) + shape + struct.pack("<IQ", _TYPE_NUMBERS[tensor.dtype], offset)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _typed(key: str, value: Value) -> bytes:
    try:
        if isinstance(value, bool):
            return struct.pack("<I?", _BOOL, value)
        if isinstance(value, int):
            return struct.pack("<II", _UINT32, value) if value >= 0 else _signed(value)
        if isinstance(value, float):
            return struct.pack("<If", _FLOAT32, value)
        if isinstance(value, str):
            return struct.pack("<I", _STRING) + _text(value)
        return _array(value)
    except (struct.error, OverflowError) as error:
        raise UsageError(f"GGUF metadata {key!r} does not fit: {error}") from error


def _signed(value: int) -> bytes:
    return struct.pack("<Ii", _INT32, value)


def _array(values: Sequence[str] | Sequence[int]) -> bytes:
    texts = [value for value in values if isinstance(value, str)]
    if values and len(texts) == len(values):
        head = struct.pack("<IIQ", _ARRAY, _STRING, len(texts))
        return head + b"".join(map(_text, texts))
    return struct.pack("<IIQ", _ARRAY, _INT32, len(values)) + struct.pack(
        f"<{len(values)}i", *values
    )
