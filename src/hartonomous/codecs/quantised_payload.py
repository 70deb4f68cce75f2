"""Payloads of ``Encoding.DERIVED``, recipe 1: their structure, as docs/format-quantised.md has it.

Tables that are not all zero are kept as payloads of FIELDS, raw, or as a list of the few bytes.
"""

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hartonomous.codecs import kernel
from hartonomous.codecs.layouts import Field, Layout

NOTHING, RAW, FIELDS, LIST = range(4)
MAX_TABLE_BYTES = 16 << 20
BYTES = Layout((Field(width=1),))

_HEAD = struct.Struct("<BBHHI")  # kind, type, lead, tail, elements
_LENGTH = struct.Struct("<I")
_FEW = 4096  # a longer list is never smaller than entropy-coded bytes

Table = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A table of bytes as it lies in a payload: how it is kept, and its content."""

    kind: int
    content: bytes | memoryview = b""

    @property
    def byte_count(self) -> int:
        """Bytes in the payload."""
        return 1 + (0 if self.kind == NOTHING else _LENGTH.size + len(self.content))

    def encode(self) -> bytes:
        """Return kind, length and content; nothing but its kind where all is zero."""
        if self.kind == NOTHING:
            return bytes([NOTHING])
        return bytes([self.kind]) + _LENGTH.pack(len(self.content)) + self.content


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """A frame: bytes of cut blocks at its ends, parameters, the differences of scales and codes."""

    kind: int
    number: int
    elements: int
    lead: bytes | memoryview = b""
    tail: bytes | memoryview = b""
    params: bytes | memoryview = b""
    header: Section = field(default_factory=lambda: Section(kind=NOTHING))
    residual: Section = field(default_factory=lambda: Section(kind=NOTHING))

    def encode(self) -> bytes:
        """Return the payload's bytes."""
        edges = _HEAD.pack(self.kind, self.number, len(self.lead), len(self.tail), self.elements)
        parts = (edges, self.lead, self.tail, self.params)
        return b"".join((*parts, self.header.encode(), self.residual.encode()))


def decode_payload(content: memoryview, param_bytes: dict[int, int]) -> Payload:
    """Read a payload; ``param_bytes`` has the parameters' size by kind. Raises ValueError."""
    if len(content) < _HEAD.size:
        raise ValueError("it is cut short")
    kind, number, lead, tail, elements = _HEAD.unpack_from(content)
    if kind not in param_bytes:
        raise ValueError(f"its kind {kind} is unknown")
    ends = np.cumsum([_HEAD.size, lead, tail, param_bytes[kind]]).tolist()
    if ends[-1] > len(content):
        raise ValueError("it is cut short")
    header, at = _decode_section(content, ends[-1])
    residual, at = _decode_section(content, at)
    if at != len(content):
        raise ValueError("bytes follow its last section")
    edges = [content[begin:end] for begin, end in itertools.pairwise(ends)]
    return Payload(
        kind=kind, number=number, elements=elements, lead=edges[0], tail=edges[1],
        params=edges[2], header=header, residual=residual,
    )  # fmt: skip


def _decode_section(content: memoryview, at: int) -> tuple[Section, int]:
    kind = content[at] if at < len(content) else 255
    if kind == NOTHING:
        return Section(kind=NOTHING), at + 1
    if kind > LIST:
        raise ValueError("a section is missing or unknown")
    begin = at + 1 + _LENGTH.size
    if begin > len(content):
        raise ValueError("it is cut short")
    (length,) = _LENGTH.unpack_from(content, at + 1)
    if length > len(content) - begin:
        raise ValueError("it is cut short")
    return Section(kind=kind, content=content[begin : begin + length]), begin + length


def encode_table(table: Table, layout: Layout, *, wrong: int | None = None) -> Section:
    """Keep a table, flat bytes, as small as it gets; ``wrong`` is how many are not zero."""
    wrong = int(np.count_nonzero(table)) if wrong is None else wrong
    if not wrong:
        return Section(kind=NOTHING)
    found = [Section(kind=RAW, content=table.tobytes())]
    if wrong <= _FEW:
        places = np.flatnonzero(table)
        found.append(
            Section(kind=LIST, content=places.astype("<u4").tobytes() + table[places].tobytes())
        )
    if wrong > 32:
        (coded,) = kernel.active().encode_many([table.data], [0], layout)
        if coded is not None:
            found.append(Section(kind=FIELDS, content=coded))
    return min(found, key=lambda section: section.byte_count)


def decode_tables(wanted: Sequence[tuple[Section, int]]) -> list[Table | str]:
    """Return each section's table of the given size, or what is wrong with it."""
    tables: list[Table | str] = []
    coded: list[tuple[memoryview, memoryview]] = []
    places = []
    for section, size in wanted:
        table: Table | str = np.zeros(0, np.uint8)
        if size > MAX_TABLE_BYTES:
            table = "a table is too large"
        elif section.kind == NOTHING:
            table = np.zeros(size, np.uint8)
        elif section.kind == RAW:
            sound = len(section.content) == size
            table = np.frombuffer(section.content, np.uint8) if sound else "a table is cut short"
        elif section.kind == LIST:
            table = _decode_list(section.content, size)
        else:
            table = np.empty(size, np.uint8)
            places.append(len(tables))
            coded.append((memoryview(section.content), table.data))
        tables.append(table)
    faults = kernel.active().decode_many([one for one, _ in coded], [out for _, out in coded])
    for place, fault in zip(places, faults, strict=True):
        if fault is not None:
            tables[place] = fault
    return tables


def _decode_list(content: bytes | memoryview, size: int) -> Table | str:
    count, rest = divmod(len(content), 5)
    places = np.frombuffer(content, "<u4", count).astype(np.int64)
    if rest or count > _FEW or (np.diff(places) <= 0).any() or (places >= size).any():
        return "a list of differences is damaged"
    table = np.zeros(size, np.uint8)
    table[places] = np.frombuffer(content, np.uint8, count, 4 * count)
    return table
