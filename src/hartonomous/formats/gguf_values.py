"""GGUF's metadata: a window over the header's bytes and the values read through it.

Belongs to ``formats/gguf.py``. The header is never held whole: a window of 8 KiB moves over it. Of
long strings and arrays only the beginning is kept; the rest is skipped by arithmetic where elements
have a fixed size, and by one length word an element where they are strings.
"""

import codecs
import math
import struct
from dataclasses import dataclass, field
from typing import Any

from hartonomous.errors import LimitError, StructureError
from hartonomous.ports.format import RangeReader

MAX_HEADER_BYTES = 64 * 1024 * 1024
"""Metadata and tensor list together; real vocabularies with merges reach some 15 MiB."""
MAX_KEPT_BYTES = 16 * 1024 * 1024
"""What a description may hold of one header: its text, and `VALUE_COST` for each value."""
MAX_DEPTH = 8
"""Arrays inside arrays; llama.cpp reads none at all."""
LIST_LENGTH = 16
"""Arrays of up to this many elements are kept whole."""
HEAD_LENGTH = 8
"""Longer arrays are summarised with this many of their first elements."""
ELEMENT_TEXT_BYTES = 1024
TEXT_BYTES = 4096

VALUE_COST = 16
ARRAY_COST = 256
"""An array takes time even where nothing of it is kept; this bounds how many there can be."""

_READ = 8 * 1024  # what is read beyond a header counts in an estimate

U32 = struct.Struct("<I")
U64 = struct.Struct("<Q")

TYPE_UINT32 = 4
TYPE_BOOL = 7
TYPE_STRING = 8
TYPE_ARRAY = 9

_SCALARS: dict[int, tuple[str, str, int]] = {
    0: ("uint8", "B", 1), 1: ("int8", "b", 1), 2: ("uint16", "H", 2), 3: ("int16", "h", 2),
    4: ("uint32", "I", 4), 5: ("int32", "i", 4), 6: ("float32", "f", 4), 7: ("bool", "B", 1),
    10: ("uint64", "Q", 8), 11: ("int64", "q", 8), 12: ("float64", "d", 8),
}  # fmt: skip
_FLOATS = {6, 12}
_NAMES = {number: name for number, (name, _, _) in _SCALARS.items()} | {8: "string", 9: "array"}
_LEAST_BYTES = {number: size for number, (_, _, size) in _SCALARS.items()} | {8: 8, 9: 12}


class ByteWindow:
    """A forward reader of a header through a small buffer.

    ``where`` is put into error messages: what is being read. Every method raises StructureError
    when the file ends first and LimitError past ``limit`` bytes.
    """

    __slots__ = ("_at", "_base", "_buffer", "_kept", "_limit", "_reader", "where")

    def __init__(self, reader: RangeReader, *, limit: int = MAX_HEADER_BYTES) -> None:
        self._reader = reader
        self._limit = limit
        self._base = 0
        self._buffer = b""
        self._at = 0
        self._kept = 0
        self.where = "the header"

    @property
    def position(self) -> int:
        """Where the next byte lies in the file."""
        return self._base + self._at

    @property
    def remaining(self) -> int:
        """Bytes from here to the end of the file."""
        return self._reader.size - self.position

    def charge(self, cost: int) -> None:
        """Count ``cost`` bytes as kept; raises LimitError when a description grows too large."""
        self._kept += cost
        if self._kept > MAX_KEPT_BYTES:
            raise LimitError(
                f"the GGUF header's names and values are over {MAX_KEPT_BYTES:,} bytes "
                f"(at {self.where})"
            )

    def seek(self, position: int) -> None:
        """Go to a later position, reading nothing."""
        self._check(position)
        self._at = position - self._base
        if self._at > len(self._buffer):
            self._base, self._buffer, self._at = position, b"", 0

    def _check(self, end: int) -> None:
        if end > self._reader.size:
            raise StructureError(
                f"the GGUF header wants {end:,} bytes, the file has {self._reader.size:,} "
                f"(at {self.where})",
                hint="the file may be cut off: compare its size with the source's",
            )
        if end > self._limit:
            raise LimitError(
                f"the GGUF header is larger than {self._limit:,} bytes (at {self.where})"
            )

    def skip(self, byte_count: int) -> None:
        """Leave out bytes."""
        self.seek(self.position + byte_count)

    def take(self, byte_count: int) -> bytes:
        """Return the next bytes; callers ask for small, bounded counts only."""
        self._fill(byte_count)
        start = self._at
        self._at += byte_count
        return self._buffer[start : self._at]

    def u32(self) -> int:
        """Return the next unsigned 32-bit integer."""
        return int(U32.unpack(self.take(4))[0])

    def u64(self) -> int:
        """Return the next unsigned 64-bit integer."""
        return int(U64.unpack(self.take(8))[0])

    def skip_strings(self, count: int) -> None:
        """Leave out ``count`` strings (a 64-bit length and its bytes each)."""
        unpack = U64.unpack_from
        while count:
            self._fill(8)
            buffer, at, last = self._buffer, self._at, len(self._buffer) - 8
            while count and at <= last:
                at += 8 + unpack(buffer, at)[0]
                count -= 1
            # ``at`` may lie past the buffer, or past the file: ``seek`` says so.
            self.seek(self._base + at)

    def _fill(self, byte_count: int) -> None:
        if len(self._buffer) - self._at >= byte_count:
            return
        position = self.position
        self._check(position + byte_count)
        wanted = min(max(byte_count, _READ), self._reader.size - position)
        self._base, self._at = position, 0
        self._buffer = self._reader.read(position, wanted)


def read_text(window: ByteWindow, *, limit: int, what: str) -> str:
    """Return a string that is kept whole, such as a key; raises LimitError when it is longer."""
    length = window.u64()
    if length > window.remaining:
        raise StructureError(
            f"{what} claims {length:,} bytes, {window.remaining:,} are left (at {window.where})"
        )
    if length > limit:
        raise LimitError(f"{what} has {length:,} bytes, at most {limit:,} are read")
    text = window.take(length).decode("utf-8", "backslashreplace")
    window.charge(VALUE_COST + len(text))
    return text


def read_value(window: ByteWindow, kind: int) -> Any:
    """Return one metadata value of type number ``kind`` as a JSON value.

    Strings over 4 KiB and arrays over 16 elements (or with a string over 1 KiB) are summarised.
    """
    if kind == TYPE_ARRAY:
        return _read_array(window)
    if kind == TYPE_STRING:
        text, length = _read_head_of_text(window, TEXT_BYTES)
        if length > TEXT_BYTES:
            return {"type": "string", "bytes": length, "head": text}
        return text
    _check_kind(window, kind)
    return _read_scalars(window, kind, 1)[0]


def read_value_and_text(window: ByteWindow, *, limit: int) -> tuple[Any, str]:
    """Return a string as ``read_value`` tells it, and its first ``limit`` bytes and one as text."""
    length = window.u64()
    if length > window.remaining:
        raise StructureError(
            f"a string claims {length:,} bytes, {window.remaining:,} are left (at {window.where})"
        )
    content = window.take(min(length, limit + 1))
    window.skip(length - len(content))
    text = content.decode("utf-8", "backslashreplace")
    if length <= TEXT_BYTES:
        window.charge(VALUE_COST + len(text))
        return text, text
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    head = decoder.decode(content[:TEXT_BYTES], final=False)
    window.charge(VALUE_COST + len(head))
    return {"type": "string", "bytes": length, "head": head}, text


def _check_kind(window: ByteWindow, kind: int) -> None:
    if kind not in _NAMES:
        raise StructureError(f"value type {kind} is none of GGUF's 0 to 12 (at {window.where})")


def _read_scalars(window: ByteWindow, kind: int, count: int) -> list[Any]:
    _, code, size = _SCALARS[kind]
    window.charge(VALUE_COST * count)
    values = struct.unpack(f"<{count}{code}", window.take(count * size))
    if kind == TYPE_BOOL:
        return [value != 0 for value in values]
    if kind in _FLOATS:
        return [_finite(value) for value in values]
    return list(values)


def _finite(value: float) -> float | str:
    """JSON has no NaN and no infinities: they become text."""
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _read_head_of_text(window: ByteWindow, limit: int) -> tuple[str, int]:
    """Return a string's first ``limit`` bytes as text, and its whole length in bytes."""
    length = window.u64()
    if length > window.remaining:
        raise StructureError(
            f"a string claims {length:,} bytes, {window.remaining:,} are left (at {window.where})"
        )
    kept = min(length, limit)
    # A character that the cut goes through is left out; one that is damaged is escaped.
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    text = decoder.decode(window.take(kept), final=kept == length)
    window.skip(length - kept)
    window.charge(VALUE_COST + len(text))
    return text, length


@dataclass(slots=True, kw_only=True)
class _Array:
    """An array that is being read; ``keep`` of its first elements are wanted."""

    kind: int
    count: int
    keep: int
    seen: int = 0
    kept: list[Any] = field(default_factory=list)
    has_long_text: bool = False

    def value(self) -> Any:
        if self.count <= LIST_LENGTH and not self.has_long_text:
            return self.kept
        return {
            "type": "array",
            "element_type": _NAMES[self.kind],
            "count": self.count,
            "head": self.kept[:HEAD_LENGTH],
        }


def _open_array(window: ByteWindow, *, wanted: bool) -> _Array:
    window.charge(ARRAY_COST)
    kind, count = window.u32(), window.u64()
    _check_kind(window, kind)
    if count * _LEAST_BYTES[kind] > window.remaining:
        raise StructureError(
            f"an array claims {count:,} elements of type {_NAMES[kind]}, {window.remaining:,} "
            f"bytes are left (at {window.where})"
        )
    keep = count if count <= LIST_LENGTH else HEAD_LENGTH
    return _Array(kind=kind, count=count, keep=keep if wanted else 0)


def _read_array(window: ByteWindow) -> Any:
    """Read an array with the arrays inside it, without recursion."""
    stack = [_open_array(window, wanted=True)]
    while True:
        array = stack[-1]
        if array.kind == TYPE_ARRAY and array.seen < array.count:
            if len(stack) == MAX_DEPTH:
                raise LimitError(f"arrays are nested deeper than {MAX_DEPTH} (at {window.where})")
            wanted = array.seen < array.keep
            array.seen += 1
            stack.append(_open_array(window, wanted=wanted))
            continue
        if array.kind != TYPE_ARRAY:
            _read_elements(window, array)
        stack.pop()
        if not stack:
            return array.value()
        outer = stack[-1]
        if len(outer.kept) < outer.keep:
            outer.kept.append(array.value())


def _read_elements(window: ByteWindow, array: _Array) -> None:
    if array.kind == TYPE_STRING:
        for _ in range(array.keep):
            text, length = _read_head_of_text(window, ELEMENT_TEXT_BYTES)
            array.kept.append(text)
            array.has_long_text = array.has_long_text or length > ELEMENT_TEXT_BYTES
        window.skip_strings(array.count - array.keep)
        return
    array.kept = _read_scalars(window, array.kind, array.keep)
    window.skip((array.count - array.keep) * _SCALARS[array.kind][2])
