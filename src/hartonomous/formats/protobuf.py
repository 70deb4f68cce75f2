"""Protobuf's wire format, walked through a range reader without a schema.

A message is a run of fields: a varint of number and wire type, then a varint, 8 bytes, 4 bytes, or
a length and so many bytes (protobuf.dev, "Encoding"). Only what is between the lengths is read;
what lies under a length is passed over unless it is asked for, so a file of any size is walked in a
few KiB. Refused: groups (withdrawn since proto3), field number 0, varints of more than ten bytes or
64 bits, and lengths that reach out of the message around them.
"""

from collections.abc import Iterator
from typing import Final, NoReturn

from hartonomous.errors import LimitError, StructureError
from hartonomous.ports.format import RangeReader

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5

FIELD_LIMIT = 3_000_000
"""Fields of all messages of one file that are looked at."""

Field = tuple[int, int, int, int]
"""Number, wire type, and the value of a varint with 0, else where its bytes begin and end."""

_VARINT_BYTES = 10
# What is read beyond a field that is skipped counts in an estimate: every tensor's bytes are one.
_LEAST_READ_BYTES = 1 << 10
_MOST_READ_BYTES = 16 << 10
_BITS64 = (1 << 64) - 1


class Wire:
    """Reads fields of one file; best read front to back."""

    def __init__(self, reader: RangeReader) -> None:
        self._reader = reader
        self._buffer = b""
        self._start = 0
        self._read_bytes = _LEAST_READ_BYTES
        self._fields = 0
        self.size = reader.size

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """Yield the fields of the message ``[start, end)``; raises StructureError, LimitError."""
        at = start
        while at < end:
            self._fields += 1
            if self._fields > FIELD_LIMIT:
                raise LimitError(f"the file has more than {FIELD_LIMIT:,} fields")
            key, at = self._varint(at, end)
            number, kind = key >> 3, key & 7
            if number == 0 or number >= 1 << 29:
                _refuse(f"a field at {at} has the number {number}")
            if kind == VARINT:
                value, at = self._varint(at, end)
                yield number, VARINT, value, 0
                continue
            if kind == LENGTH:
                length, at = self._varint(at, end)
            elif kind == FIXED64:
                length = 8
            elif kind == FIXED32:
                length = 4
            else:
                _refuse(f"a field at {at} has the wire type {kind}")
            if length > end - at:
                _refuse(f"a field at {at} has {length} bytes where {end - at} are left")
            yield number, kind, at, at + length
            at += length

    def varints(self, start: int, end: int, *, limit: int) -> list[int]:
        """Return packed varints; raises LimitError if there are more than ``limit``."""
        found: list[int] = []
        at = start
        while at < end:
            value, at = self._varint(at, end)
            if len(found) == limit:
                raise LimitError(f"a list at {start} has more than {limit} numbers")
            found.append(value)
        return found

    def text(self, start: int, end: int, *, limit: int) -> str:
        """Return at most the first ``limit`` bytes as text; what is no UTF-8 is replaced."""
        length = min(end - start, limit)
        index = start - self._start
        if index < 0 or index + length > len(self._buffer):
            if length > _LEAST_READ_BYTES:
                return self._reader.read(start, length).decode(errors="replace")
            self._load(start)
            index = 0
        return self._buffer[index : index + length].decode(errors="replace")

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        index = at - self._start
        if index < 0 or index + _VARINT_BYTES > len(self._buffer):
            self._load(at)
            index = at - self._start
        buffer = self._buffer
        value = shift = 0
        for byte in buffer[index : index + min(_VARINT_BYTES, end - at)]:
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        else:
            _refuse(f"the varint at {at} is cut or has more than {_VARINT_BYTES} bytes")
        if value > _BITS64:
            _refuse(f"the varint at {at} has more than 64 bits")
        return value, at + shift // 7

    def _load(self, at: int) -> None:
        """Read on from ``at``: more at once while what is asked for follows what was read."""
        follows = self._start <= at <= self._start + len(self._buffer)
        grown = min(2 * self._read_bytes, _MOST_READ_BYTES)
        self._read_bytes = grown if follows else _LEAST_READ_BYTES
        self._buffer = self._reader.read(at, min(self._read_bytes, self.size - at))
        self._start = at


def _refuse(reason: str) -> NoReturn:
    raise StructureError(f"the protobuf is not well-formed: {reason}")
