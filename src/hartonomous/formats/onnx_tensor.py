"""ONNX's tensors: a ``TensorProto`` as a range of the file, a coding, or why it is neither.

Field numbers and element types are those of onnx.proto3 (IR version 13). ``raw_data`` is the
little-endian array; so are packed ``float_data`` and ``double_data``. ``int32_data``,
``int64_data`` and ``uint64_data`` are varints and get the coding of that name. Data outside of the
file, strings, lists that are not packed and tensors without data have no range here.

``U4``, ``I4``, ``U2`` and ``I2`` are packed, the first element in the lowest bits, the last byte
filled up; so are F4 and F6, which keep ONNX's name where they fill no whole blocks.
"""

from typing import Final

import msgspec

from hartonomous.core.coding import VARINT as CODED_AS_VARINT
from hartonomous.core.coding import Coding
from hartonomous.core.description import Tensor
from hartonomous.core.dtype import DTYPES
from hartonomous.errors import LimitError, StructureError
from hartonomous.formats.protobuf import LENGTH, VARINT, Wire

AXIS_LIMIT = 64
NAME_LIMIT_BYTES = 4_096
_PATH_LIMIT_BYTES = 4_096
_EXTERNAL_ENTRIES = 16
_INTEGER_LIMIT = 2**63 - 1
_MOST_VARINT_BYTES = 10

_FLOATS, _INT32S, _STRINGS, _INT64S, _DOUBLES, _UINT64S = 4, 5, 6, 7, 10, 11
_TYPED = {_FLOATS, _INT32S, _STRINGS, _INT64S, _DOUBLES, _UINT64S}
_STRING = 8
_FLOAT6 = (27, 28)

# By number: name, bits of an element, the field that holds typed data.
TYPES: Final[dict[int, tuple[str, int, int]]] = {
    1: ("F32", 32, _FLOATS), 2: ("U8", 8, _INT32S), 3: ("I8", 8, _INT32S), 4: ("U16", 16, _INT32S),
    5: ("I16", 16, _INT32S), 6: ("I32", 32, _INT32S), 7: ("I64", 64, _INT64S),
    8: ("STRING", 0, _STRINGS), 9: ("BOOL", 8, _INT32S), 10: ("F16", 16, _INT32S),
    11: ("F64", 64, _DOUBLES), 12: ("U32", 32, _UINT64S), 13: ("U64", 64, _UINT64S),
    14: ("C64", 64, _FLOATS), 15: ("C128", 128, _DOUBLES), 16: ("BF16", 16, _INT32S),
    17: ("F8_E4M3", 8, _INT32S), 18: ("F8_E4M3FNUZ", 8, _INT32S), 19: ("F8_E5M2", 8, _INT32S),
    20: ("F8_E5M2FNUZ", 8, _INT32S), 21: ("U4", 4, _INT32S), 22: ("I4", 4, _INT32S),
    23: ("F4", 4, _INT32S), 24: ("F8_E8M0", 8, _INT32S), 25: ("U2", 2, _INT32S),
    26: ("I2", 2, _INT32S), 27: ("F6_E2M3", 6, _INT32S), 28: ("F6_E3M2", 6, _INT32S),
}  # fmt: skip
_ODD_NAMES = {"F4": "FLOAT4E2M1", "F6_E2M3": "FLOAT6E2M3", "F6_E3M2": "FLOAT6E3M2"}


class TensorProto(msgspec.Struct, kw_only=True):
    """What a tensor's message says. Ranges are (start, end) in the file.

    ``typed`` is the one run of packed typed data; ``scattered`` says that it does not lie in one.
    """

    start: int
    name: str = ""
    number: int = 0
    dims: tuple[int, ...] = ()
    raw: tuple[int, int] | None = None
    typed_field: int | None = None
    typed: tuple[int, int] | None = None
    scattered: bool = False
    segmented: bool = False
    is_external: bool = False
    external: dict[str, str] = {}

    @property
    def dtype(self) -> str:
        """The type's name, of ``core.dtype`` where it is there."""
        if self.number not in TYPES:
            return f"ONNX_{self.number}"
        name = TYPES[self.number][0]
        known = DTYPES.get(name)
        whole = known is None or known.byte_count(self.element_count) is not None
        return name if whole else _ODD_NAMES[name]

    @property
    def element_count(self) -> int:
        """Product of the shape, which was held to 63 bits."""
        count = 1
        for extent in self.dims:
            count *= extent
        return count

    @property
    def byte_count(self) -> int:
        """Bytes of the little-endian array; 0 for strings and types that are unknown."""
        bits = TYPES[self.number][1] if self.number in TYPES else 0
        return -(-self.element_count * bits // 8)


class NoRange(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor that is no range of this file, and why."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    reason: str


class External(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor in another file; ``location`` is as written, ``offset`` and ``length`` in it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    location: str
    offset: int
    length: int


def read_tensor(wire: Wire, start: int, end: int) -> TensorProto:
    """Return what the message ``[start, end)`` says; raises StructureError or LimitError."""
    found = TensorProto(start=start)
    dims: list[int] = []
    seen: set[int] = set()
    for number, kind, value, stop in wire.fields(start, end):
        if number in (2, 8, 9, 14):
            if number in seen:
                raise StructureError(f"the tensor at {start} has the field {number} twice")
            seen.add(number)
        if number == 1:
            dims += (
                [value] if kind == VARINT
                else wire.varints(value, stop, limit=AXIS_LIMIT)
            )  # fmt: skip
            if len(dims) > AXIS_LIMIT:
                raise LimitError(f"the tensor at {start} has more than {AXIS_LIMIT} axes")
        elif number in _TYPED:
            _note_typed(found, number, kind, (value, stop))
        elif kind == VARINT:
            if number == 2:
                found.number = value
            elif number == 14:
                found.is_external = value == 1
        elif kind == LENGTH:
            _note_bytes(wire, found, number, value, stop)
    found.dims = tuple(dims)
    _check_extents(found)
    return found


def _note_typed(found: TensorProto, number: int, kind: int, run: tuple[int, int]) -> None:
    if found.typed_field is not None or kind != LENGTH:
        found.scattered = True
    if found.typed_field not in (None, number):
        raise StructureError(f"the tensor at {found.start} has data of two types")
    found.typed_field = number
    found.typed = run


def _note_bytes(wire: Wire, found: TensorProto, number: int, start: int, end: int) -> None:
    if number == 8:
        if end - start > NAME_LIMIT_BYTES:
            raise LimitError(f"the tensor at {found.start} has a name of {end - start} bytes")
        found.name = wire.text(start, end, limit=NAME_LIMIT_BYTES)
    elif number == 9:
        found.raw = (start, end)
    elif number == 3:
        found.segmented = True
    elif number == 13:
        if len(found.external) >= _EXTERNAL_ENTRIES:
            raise LimitError(f"the tensor at {found.start} has too many entries of external data")
        key, value = read_entry(wire, start, end, limit=_PATH_LIMIT_BYTES)
        if key in found.external:
            raise StructureError(
                f"the tensor at {found.start} says its external {key[:40]!a} twice"
            )
        found.external = {**found.external, key: value}


def read_entry(wire: Wire, start: int, end: int, *, limit: int) -> tuple[str, str]:
    """Return key and value of a ``StringStringEntryProto``, each cut at ``limit`` bytes."""
    pair = ["", ""]
    for number, kind, value, stop in wire.fields(start, end):
        if number in (1, 2) and kind == LENGTH:
            pair[number - 1] = wire.text(value, stop, limit=limit)
    return pair[0], pair[1]


def _check_extents(found: TensorProto) -> None:
    count = 1
    for extent in found.dims:
        if extent > _INTEGER_LIMIT:
            raise StructureError(f"the tensor {_shown(found)} has a negative extent")
        count *= extent
        if count > _INTEGER_LIMIT:
            raise StructureError(f"the shape of the tensor {_shown(found)} overflows")


def place(found: TensorProto, name: str) -> Tensor | NoRange | External:
    """Return where the elements lie; raises StructureError where bytes and shape contradict.

    ``name`` is the tensor's in the description.
    """
    if found.raw is not None and (found.typed is not None or found.is_external):
        raise StructureError(f"the tensor {_shown(found)} has its data twice")
    if found.is_external:
        return _external(found, name)
    reason = _reason(found)
    if reason is not None:
        return NoRange(name=name, dtype=found.dtype, shape=found.dims, reason=reason)
    length = found.byte_count
    if found.raw is not None:
        _check_length(found, found.raw, length)
        return _tensor(found, name, found.raw)
    if found.typed is None:
        return _tensor(found, name, (found.start, found.start))
    if found.typed_field in (_FLOATS, _DOUBLES):
        _check_length(found, found.typed, length)
        return _tensor(found, name, found.typed)
    start, end = found.typed
    count = length if TYPES[found.number][1] < 8 else found.element_count
    if not count <= end - start <= _MOST_VARINT_BYTES * count:
        raise StructureError(
            f"the tensor {_shown(found)} has {end - start} bytes, which {count} varints do not fill"
        )
    return _tensor(found, name, found.typed, Coding(method=CODED_AS_VARINT, length=length))


def _reason(found: TensorProto) -> str | None:
    """Return why the elements are no one range; None if they are."""
    if found.number not in TYPES:
        return f"its element type {found.number} is unknown"
    if found.number == _STRING:
        return "strings are no array of numbers"
    if found.segmented:
        return "it is a segment of a larger tensor"
    if found.typed_field is not None and found.typed_field != TYPES[found.number][2]:
        raise StructureError(f"the tensor {_shown(found)} has data of another type than its own")
    if found.scattered:
        return "its numbers are not packed"
    if found.raw is None and found.typed is None and found.byte_count:
        return "it has no data"
    if found.typed is not None and found.number in _FLOAT6:
        return "its numbers are spelled one a byte"
    return None


def _external(found: TensorProto, name: str) -> NoRange | External:
    location = found.external.get("location", "")
    numbers = [_number(found.external.get(key)) for key in ("offset", "length")]
    offset, length = numbers[0] or 0, numbers[1]
    expected = found.byte_count
    if found.number not in TYPES or found.number == _STRING or not location:
        reason = "it lies in another file, in a way that is not known"
        return NoRange(name=name, dtype=found.dtype, shape=found.dims, reason=reason)
    if length not in (None, expected) or offset + expected > _INTEGER_LIMIT:
        raise StructureError(
            f"the tensor {_shown(found)} has {length} bytes at {offset} of another file, where its "
            f"shape needs {expected}"
        )
    return External(
        name=name,
        dtype=found.dtype,
        shape=found.dims,
        location=location,
        offset=offset,
        length=expected,
    )


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise StructureError(f"{text[:40]!a} is no offset or length of external data")
    return int(text)


def _check_length(found: TensorProto, held: tuple[int, int], length: int) -> None:
    if held[1] - held[0] != length:
        raise StructureError(
            f"the tensor {_shown(found)} has {held[1] - held[0]} bytes, its shape needs {length}"
        )


def _tensor(
    found: TensorProto, name: str, held: tuple[int, int], coding: Coding | None = None
) -> Tensor:
    return Tensor(
        name=name,
        dtype=found.dtype,
        shape=found.dims,
        offset=held[0],
        length=held[1] - held[0],
        coding=coding,
    )


def _shown(found: TensorProto) -> str:
    return ascii(found.name[:80] or f"at {found.start}")
