"""Header and order of a safetensors file, byte for byte those of the safetensors library.

Pure: the caller writes the header and then each tensor's bytes in the order that it was given.
The library sorts by type (widest first) and then by name; it writes metadata in random order, here
it is sorted.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from math import prod

import msgspec

from hartonomous.core.dtype import DTYPES
from hartonomous.errors import UsageError

# The library's enumeration, last first; that is how its sort puts them.
_ORDER = [
    "U64", "I64", "F64", "C64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16",
    "F8_E5M2FNUZ", "F8_E4M3FNUZ", "F8_E8M0", "F8_E4M3", "F8_E5M2", "I8", "U8", "F6_E3M2",
    "F6_E2M3", "F4", "BOOL",
]  # fmt: skip
_RANK = {name: rank for rank, name in enumerate(_ORDER)}

_ALIGNMENT = 8


def can_be_written(dtype: str) -> bool:
    """Say whether the format has an element type of this name."""
    return dtype in _RANK


_METADATA = "__metadata__"


class TensorEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor to be written: its name, element type and shape (slowest axis first)."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def byte_count(self) -> int:
        """Length of the tensor's bytes; raises UsageError when the type cannot be written."""
        if self.dtype not in _RANK:
            raise UsageError(
                f"safetensors has no element type {self.dtype!r} (tensor {self.name!r})",
                hint=f"known: {', '.join(_ORDER)}",
            )
        size = DTYPES[self.dtype].byte_count(prod(self.shape))
        if size is None:
            raise UsageError(
                f"tensor {self.name!r} of shape {list(self.shape)} does not fill whole bytes "
                f"of {self.dtype}"
            )
        return size


def in_file_order(entries: Iterable[TensorEntry]) -> list[TensorEntry]:
    """Return the entries in the order in which the library writes their bytes."""
    # Code points and UTF-8 bytes sort alike, so Python's order of names is the library's.
    return sorted(entries, key=lambda entry: (_RANK.get(entry.dtype, -1), entry.name))


def header_bytes(
    entries: Sequence[TensorEntry], metadata: Mapping[str, str] | None = None
) -> bytes:
    """Return everything before the first tensor byte; tensors follow in the order of ``entries``.

    Raises UsageError for a name that occurs twice, is no valid text or is reserved, and for types
    that the format does not have.
    """
    header: dict[str, object] = {}
    if metadata:
        header[_METADATA] = dict(sorted(metadata.items()))
    offset = 0
    for entry in entries:
        if entry.name in header or entry.name == _METADATA:
            raise UsageError(
                f"tensor name {entry.name!r} is taken or reserved", hint="rename the tensor"
            )
        end = offset + entry.byte_count
        header[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    return _framed(header)


def _framed(header: dict[str, object]) -> bytes:
    try:
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"a name or metadata value is not valid text: {error}", hint="use valid Unicode"
        ) from error
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
