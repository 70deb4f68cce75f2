"""Frames of ``Encoding.FIELDS`` in numpy: the same bits as the C kernel, decided by the same rules.

docs/format-fields.md specifies the payload; what is said there of choices (which planes are
entropy-coded) binds nobody, but both implementations choose alike, so that equal bytes give equal
payloads on every machine.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hartonomous.codecs import rans
from hartonomous.codecs.layouts import DESCRIPTION_BYTES, Field, Layout, decode_layout
from hartonomous.codecs.rans import Counts, Symbols

MAX_FRAME_BYTES = 16 << 20
RAW, CONSTANT, RANS = 0, 1, 2
GROUP_BYTES = 16 << 20
"""Frames worked on at once hold about this many bytes; temporaries take ten times as much."""

_FIXED = struct.Struct("<IHB")  # decoded size, lead, number of fields
_LEAST_SYMBOLS = 256
_SAMPLED_FROM = 16_384
_SAMPLE_RUNS, _RUN_BYTES = 16, 256


@dataclass(slots=True, eq=False)
class _Plane:
    """The bytes of one significance of all words of a field, and how they are kept."""

    symbols: Symbols
    table: Counts | None = None
    body: bytes = b""

    def choose(self) -> None:
        """Decide between raw, one value, and a table to be tried."""
        size = len(self.symbols)
        self.body = bytes([RAW]) + self.symbols.tobytes()
        if not size or (size >= _SAMPLED_FROM and _looks_even(self.symbols)):
            return
        counts = np.bincount(self.symbols, minlength=256)
        if counts.max() == size:
            self.body = bytes([CONSTANT, int(self.symbols[0])])
        elif size >= _LEAST_SYMBOLS and 229 * _squares(counts) >= size * size:
            self.table = rans.normalise(counts)

    def take(self, stream: rans.Stream) -> None:
        """Keep the stream if it is at least 2 % smaller than the plane."""
        body = stream.encode()
        if 50 * len(body) <= 49 * len(self.symbols):
            self.body = bytes([RANS]) + body


def _squares(counts: Counts) -> int:
    return int((counts * counts).sum())


def _looks_even(plane: Symbols) -> bool:
    """Say whether a sample has nothing to gain: its collision entropy is close to 8 bits."""
    last = len(plane) - _RUN_BYTES
    starts = [k * last // (_SAMPLE_RUNS - 1) for k in range(_SAMPLE_RUNS)]
    sample = np.concatenate([plane[start : start + _RUN_BYTES] for start in starts])
    squares, size = _squares(np.bincount(sample, minlength=256)), len(sample)
    return 241 * (squares - size) < size * (size - 1)


def encode_many(
    frames: Sequence[memoryview], leads: Sequence[int], layout: Layout
) -> list[bytes | None]:
    """Encode frames whose first whole elements begin at ``leads``; None where it does not pay."""
    out: list[bytes | None] = []
    for first, last in groups([frame.nbytes for frame in frames]):
        out += _encode_group(frames[first:last], leads[first:last], layout)
    return out


def groups(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return (first, last) of the frames that are worked on at once."""
    found, first, room = [], 0, 0
    for index, size in enumerate(sizes):
        if size > MAX_FRAME_BYTES:
            raise ValueError(f"a frame of {size} bytes is over the limit of {MAX_FRAME_BYTES}")
        if room + size > GROUP_BYTES and index > first:
            found.append((first, index))
            first, room = index, 0
        room += size
    return [*found, (first, len(sizes))] if sizes else []


def _encode_group(
    frames: Sequence[memoryview], leads: Sequence[int], layout: Layout
) -> list[bytes | None]:
    heads, split = [], []
    for frame, lead in zip(frames, leads, strict=True):
        if not 0 <= lead < layout.element_bytes:
            raise ValueError(f"a lead of {lead} bytes is not shorter than an element")
        content = np.frombuffer(frame, np.uint8)
        begin = min(lead, len(content))
        end = len(content) - (len(content) - begin) % layout.element_bytes
        head = _FIXED.pack(len(content), begin, len(layout.fields)) + layout.encode()
        heads.append(head + content[:begin].tobytes() + content[end:].tobytes())
        planes = [_Plane(symbols) for symbols in _split(content[begin:end], layout)]
        for plane in planes:
            plane.choose()
        split.append(planes)
    tried = [plane for planes in split for plane in planes if plane.table is not None]
    tables = [plane.table for plane in tried if plane.table is not None]
    streams = rans.encode_streams([plane.symbols for plane in tried], tables)
    for plane, stream in zip(tried, streams, strict=True):
        plane.take(stream)
    payloads = [
        b"".join((head, *(plane.body for plane in planes)))
        for head, planes in zip(heads, split, strict=True)
    ]
    return [
        payload if 50 * len(payload) <= 49 * frame.nbytes and len(planes[0].symbols) else None
        for payload, frame, planes in zip(payloads, frames, split, strict=True)
    ]


def _split(elements: Symbols, layout: Layout) -> list[Symbols]:
    """Return the planes of all fields, the most significant of each first."""
    table = elements.reshape(-1, layout.element_bytes)
    planes, at = [], 0
    for one in layout.fields:
        content = np.ascontiguousarray(table[:, at : at + one.byte_count])
        words = content.reshape(-1).view(f"<u{one.width}")
        if one.rotated:
            words = words << 1 | words >> (8 * one.width - 1)
        columns = words.view(np.uint8).reshape(-1, one.width)
        planes += [np.ascontiguousarray(columns[:, k]) for k in reversed(range(one.width))]
        at += one.byte_count
    return planes


def _join(planes: Sequence[Symbols], one: Field) -> Symbols:
    """Return the bytes of a field of all elements; undoes ``_split``."""
    words = np.stack(planes[::-1], axis=1).reshape(-1).view(f"<u{one.width}")
    if one.rotated:
        words = words >> 1 | words << (8 * one.width - 1)
    return words.view(np.uint8)


@dataclass(slots=True, eq=False)
class _Frame:
    """A payload while it is being decoded: ``planes`` are bytes, or the number of a stream."""

    out: memoryview
    layout: Layout = field(default_factory=lambda: Layout(()))
    lead: int = 0
    count: int = 0
    planes: list[Symbols | int] = field(default_factory=list)
    fault: str | None = None


def decode_many(payloads: Sequence[memoryview], outs: Sequence[memoryview]) -> list[str | None]:
    """Fill each of ``outs``; returns for each payload None, or what is wrong with it."""
    if len(payloads) != len(outs):
        raise ValueError("there are not as many outputs as payloads")
    faults: list[str | None] = []
    for first, last in groups([out.nbytes for out in outs]):
        faults += _decode_group(payloads[first:last], outs[first:last])
    return faults


def _decode_group(payloads: Sequence[memoryview], outs: Sequence[memoryview]) -> list[str | None]:
    streams: list[rans.Stream] = []
    frames = [_Frame(out) for out in outs]
    for frame, payload in zip(frames, payloads, strict=True):
        known = len(streams)
        try:
            _open(frame, payload, streams)
        except ValueError as error:
            frame.fault = str(error)
            del streams[known:]
    decoded = rans.decode_streams(streams)
    for frame in frames:
        if frame.fault is None:
            _close(frame, decoded)
    return [frame.fault for frame in frames]


def _open(frame: _Frame, payload: memoryview, streams: list[rans.Stream]) -> None:
    """Read a payload's structure, appending its streams; raises ValueError on damage."""
    size = frame.out.nbytes
    if len(payload) < _FIXED.size:
        raise ValueError("it is cut short")
    declared, frame.lead, fields = _FIXED.unpack_from(payload)
    if declared != size:
        raise ValueError(f"it declares {declared} bytes where {size} are expected")
    at = _FIXED.size + DESCRIPTION_BYTES * fields
    frame.layout = decode_layout(bytes(payload[_FIXED.size : at]))
    element = frame.layout.element_bytes
    if frame.lead >= element or frame.lead > size:
        raise ValueError("its lead is not shorter than an element")
    frame.count, tail = divmod(size - frame.lead, element)
    edges = frame.lead + tail
    if len(payload) < at + edges:
        raise ValueError("it is cut short")
    frame.out[: frame.lead] = payload[at : at + frame.lead]
    frame.out[size - tail :] = payload[at + frame.lead : at + edges]
    at += edges
    for one in frame.layout.fields:
        for _ in range(one.width):
            at = _open_plane(frame, payload, at, frame.count * one.words, streams)
    if at != len(payload):
        raise ValueError("bytes follow its last plane")


def _open_plane(
    frame: _Frame, payload: memoryview, at: int, size: int, streams: list[rans.Stream]
) -> int:
    tag = payload[at] if at < len(payload) else RAW
    at += 1
    if tag == RANS:
        stream, at = rans.decode_stream(payload, at, size)
        frame.planes.append(len(streams))
        streams.append(stream)
        return at
    if tag not in (RAW, CONSTANT):
        raise ValueError("a plane has an unknown tag")
    stored = 1 if tag == CONSTANT else size
    if at + stored > len(payload):
        raise ValueError("it is cut short")
    content = np.frombuffer(payload, np.uint8, stored, at)
    frame.planes.append(np.repeat(content, size) if tag == CONSTANT else content)
    return at + stored


def _close(frame: _Frame, decoded: Sequence[Symbols | None]) -> None:
    """Put the elements together from their planes."""
    planes = [decoded[one] if isinstance(one, int) else one for one in frame.planes]
    whole = [plane for plane in planes if plane is not None]
    if len(whole) != len(planes):
        frame.fault = "an entropy-coded stream is damaged"
        return
    element = frame.layout.element_bytes
    end = frame.lead + frame.count * element
    table = np.frombuffer(frame.out[frame.lead : end], np.uint8).reshape(-1, element)
    at = 0
    for one in frame.layout.fields:
        part, whole = whole[: one.width], whole[one.width :]
        table[:, at : at + one.byte_count] = _join(part, one).reshape(-1, one.byte_count)
        at += one.byte_count
