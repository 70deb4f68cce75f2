"""Frames of DELTA, recipe 1, in numpy: the reference of the C kernel, and what runs without it.

docs/format-delta.md specifies the payload; what is said there of choices is the same here and in
native/delta.c, so that equal frames and predictions give equal payloads on every machine.
"""

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hartonomous.codecs import rans
from hartonomous.codecs.differences import (
    BLOCK_ELEMENTS,
    KINDS,
    ROWS,
    STEPS,
    Kind,
    Words,
    differences,
    expanded,
    keys_of,
    pack_raw_bits,
    raw_widths,
    restored,
    rows_of,
    scaled,
    stepped,
    symbols_of,
)
from hartonomous.codecs.factor import find_factor, find_steps
from hartonomous.codecs.rans import Counts, Symbols
from hartonomous.codecs.reference import groups

LISTED, CODED = 1, 2
NOT_SCALED, ALL_SCALED, BLOCKS_SCALED = 0, 1, 2
HAS_LIVE, BY_STEPS = 0x40, 0x80
MAX_CONTEXTS = 16

_MOST_LISTED = 64
_SAMPLE_STRIDE = 61
_LEAST_SCALED = 4
_MOST_SUMMED = 1023
_TABLE_BITS, _ENTRY_BITS = 64, 11
_HEAD = struct.Struct("<HI")  # top, boundaries
_BY_NUMBER = {kind.number: kind for kind in KINDS.values()}


@dataclass(slots=True, eq=False)
class _Plan:
    """A frame while it is being encoded: everything before its stream, and the stream's symbols."""

    size: int
    head: bytes = b""
    payload: bytes | None = None
    symbols: Symbols = field(default_factory=lambda: np.zeros(0, np.uint8))
    contexts: Symbols = field(default_factory=lambda: np.zeros(0, np.uint8))
    tables: Counts = field(default_factory=lambda: np.zeros((0, 256), np.int64))
    raw: bytes = b""


def encode_many(
    frames: Sequence[memoryview],
    predictions: Sequence[memoryview],
    leads: Sequence[int],
    kind: Kind,
) -> list[bytes | None]:
    """Encode frames given predictions; empty where one is exact, None where it does not pay."""
    if [one.nbytes for one in frames] != [one.nbytes for one in predictions]:
        raise ValueError("there is not a prediction of each frame's size")
    out: list[bytes | None] = []
    for first, last in groups([frame.nbytes for frame in frames]):
        plans = [
            _plan(frame, prediction, lead, kind)
            for frame, prediction, lead in zip(
                frames[first:last], predictions[first:last], leads[first:last], strict=True
            )
        ]
        coded = [plan for plan in plans if plan.payload is None]
        streams = rans.encode_streams(
            [plan.symbols for plan in coded],
            [plan.tables for plan in coded],
            [plan.contexts for plan in coded],
        )
        for plan, stream in zip(coded, streams, strict=True):
            plan.payload = plan.head + stream.encode() + plan.raw
        out += [
            one.payload
            if one.payload is not None and 50 * len(one.payload) <= 49 * one.size
            else None
            for one in plans
        ]
    return out


def _plan(frame: memoryview, expected: memoryview, lead: int, kind: Kind) -> _Plan:
    if not 0 <= lead < kind.width:
        raise ValueError(f"a lead of {lead} bytes is not shorter than an element")
    plan = _Plan(frame.nbytes)
    if frame == expected:
        plan.payload = b""
        return plan
    begin = min(lead, frame.nbytes)
    end = frame.nbytes - (frame.nbytes - begin) % kind.width
    elements, prediction = kind.read(frame[begin:end]), kind.read(expected[begin:end])
    mode, scale, prediction = _choose_scaled(kind, prediction, elements)
    change = differences(kind, prediction, elements)
    live = _block_sums(change) > 0
    form = LISTED if np.count_nonzero(change) <= _MOST_LISTED else CODED
    flag = HAS_LIVE if form == CODED and not live.all() else 0
    head = bytes([form | kind.number << 2 | mode | flag, begin])
    head += bytes(frame[:begin]) + bytes(frame[end:]) + scale
    if form == LISTED:
        plan.payload = head + _list_changes(change)
        return plan
    used = np.repeat(live, BLOCK_ELEMENTS)[: len(change)]
    change, top = change[used], _find_top(kind, prediction)
    plan.symbols = symbols_of(change)
    plan.raw = pack_raw_bits(change, raw_widths(plan.symbols))
    rows = rows_of(kind, prediction[used], top)
    counts = np.bincount(rows.astype(np.int64) << 8 | plan.symbols, minlength=256 * ROWS)
    firsts, joined = _join_rows(counts.reshape(ROWS, 256))
    plan.tables = np.stack([_normalise(one) for one in joined])
    plan.contexts = (np.searchsorted(firsts, rows, side="right") - 1).astype(np.uint8)
    boundaries = sum(1 << first for first in firsts[1:])
    plan.head = head + (_bitmap(live) if flag else b"") + _HEAD.pack(top, boundaries)
    return plan


def _bitmap(blocks: NDArray[np.bool_]) -> bytes:
    return np.packbits(blocks, bitorder="little").tobytes()


def _block_sums(change: Words) -> NDArray[np.int64]:
    """Return the sum of each block's differences, one counting at most 1023."""
    if not len(change):
        return np.zeros(0, np.int64)
    capped = np.minimum(change, _MOST_SUMMED).astype(np.int64)
    sums: NDArray[np.int64] = np.add.reduceat(capped, np.arange(0, len(change), BLOCK_ELEMENTS))
    return sums


def _choose_scaled(kind: Kind, prediction: Words, elements: Words) -> tuple[int, bytes, Words]:
    """Return what the form says of scaling, its bytes, and the prediction.

    It is scaled in the blocks that gain by it: by a factor, or by steps where those predict more.
    """
    factor = find_factor(kind, prediction, elements)
    if factor is None:
        return NOT_SCALED, b"", prediction
    other = scaled(kind, prediction, factor)
    before = _block_sums(differences(kind, prediction, elements))
    after = _block_sums(differences(kind, other, elements))
    chosen = 4 * after < before
    if np.count_nonzero(chosen) < _LEAST_SCALED:
        return NOT_SCALED, b"", prediction
    flag, content = 0, factor.tobytes()
    mask = np.repeat(chosen, BLOCK_ELEMENTS)[: len(prediction)]
    if kind.width == 4:
        steps = find_steps(prediction[mask], elements[mask])
        moved = stepped(prediction, steps)
        after_steps = _block_sums(differences(kind, moved, elements))
        by_steps = 4 * after_steps < before
        total = np.where(chosen, after, before).sum()
        if (
            np.count_nonzero(by_steps) >= _LEAST_SCALED
            and np.where(by_steps, after_steps, before).sum() < total
        ):
            flag, content, chosen, other = BY_STEPS, steps.astype("<i2").tobytes(), by_steps, moved
    if chosen.all():
        return flag | ALL_SCALED << 4, content, other
    mask = np.repeat(chosen, BLOCK_ELEMENTS)[: len(prediction)]
    mixed = np.where(mask, other, prediction)
    return flag | BLOCKS_SCALED << 4, content + _bitmap(chosen), mixed


def _list_changes(change: Words) -> bytes:
    places = np.flatnonzero(change)
    gaps = np.diff(places, prepend=-1) - 1
    out = bytearray()
    for gap, one in zip(gaps.tolist(), change[places].tolist(), strict=True):
        out += _number(gap) + _number(one)
    return bytes(out)


def _number(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _find_top(kind: Kind, prediction: Words) -> int:
    keys = keys_of(kind, prediction[::_SAMPLE_STRIDE])
    above = np.cumsum(np.bincount(keys, minlength=512)[::-1])
    return int(511 - np.searchsorted(above, len(keys) // 256, side="right"))


def _cost(counts: Counts) -> int:
    """Return what symbols and their table cost, in 2^-16 bits; integers, so exact everywhere."""
    present = counts[counts > 0]
    if not len(present):
        return 0
    total = present.sum()
    logs = int(total * _log(total)) - int((present * _log(present)).sum())
    return logs + ((_ENTRY_BITS * len(present) + _TABLE_BITS) << 16)


def _log(values: Counts) -> Counts:
    """Return log2 in units of 2^-16: the line between powers of two, bent by a parabola."""
    bits = np.asarray(values, np.float32).view(np.int32).astype(np.int64)
    line = bits - (127 << 23) >> 7
    part = line & 0xFFFF
    logs: Counts = line + ((part * (65536 - part) >> 16) * 22713 >> 16)
    return logs


def _join_rows(counts: Counts) -> tuple[list[int], list[Counts]]:
    """Join neighbouring rows while that saves bits or there are too many; return their firsts."""
    firsts, joined = list(range(ROWS)), list(counts)
    alone = [_cost(one) for one in joined]
    pairs = [_cost(a + b) for a, b in itertools.pairwise(joined)]
    while len(joined) > 1:
        losses = [pairs[k] - alone[k] - alone[k + 1] for k in range(len(pairs))]
        best = losses.index(min(losses))
        if losses[best] > 0 and len(joined) <= MAX_CONTEXTS:
            break
        joined[best] = joined[best] + joined[best + 1]
        alone[best] = pairs[best]
        del joined[best + 1], alone[best + 1], pairs[best], firsts[best + 1]
        if best:
            pairs[best - 1] = _cost(joined[best - 1] + joined[best])
        if best + 1 < len(joined):
            pairs[best] = _cost(joined[best] + joined[best + 1])
    return firsts, joined


def _normalise(counts: Counts) -> Counts:
    """Return frequencies; a symbol that stands alone gets a neighbour that never occurs."""
    present = np.flatnonzero(counts)
    if len(present) > 1:
        return rans.normalise(counts)
    frequencies = np.zeros(256, np.int64)
    frequencies[present[0]], frequencies[present[0] ^ 1] = rans.TOTAL - 1, 1
    return frequencies


@dataclass(slots=True, eq=False)
class _Frame:
    """A payload while it is being decoded; ``stream`` is the number of its stream, if any."""

    out: memoryview
    kind: Kind = KINDS["BF16"]
    prediction: Words = field(default_factory=lambda: np.zeros(0, np.uint16))
    live: NDArray[np.bool_] | None = None
    begin: int = 0
    end: int = 0
    stream: int | None = None
    raw: memoryview = field(default_factory=lambda: memoryview(b""))
    fault: str | None = None

    @property
    def elements(self) -> Words:
        """Where the decoded elements go."""
        return self.kind.read(self.out[self.begin : self.end])


def decode_many(
    payloads: Sequence[memoryview], predictions: Sequence[memoryview], outs: Sequence[memoryview]
) -> list[str | None]:
    """Fill each of ``outs``; returns for each payload None, or what is wrong with it."""
    if len(payloads) != len(outs):
        raise ValueError("there are not as many outputs as payloads")
    if [one.nbytes for one in outs] != [one.nbytes for one in predictions]:
        raise ValueError("there is not a prediction of each frame's size")
    faults: list[str | None] = []
    for first, last in groups([out.nbytes for out in outs]):
        part = slice(first, last)
        faults += _decode_group(payloads[part], predictions[part], outs[part])
    return faults


def _decode_group(
    payloads: Sequence[memoryview], predictions: Sequence[memoryview], outs: Sequence[memoryview]
) -> list[str | None]:
    streams: list[rans.Stream] = []
    frames = [_Frame(out) for out in outs]
    for frame, payload, prediction in zip(frames, payloads, predictions, strict=True):
        try:
            _open(frame, payload, prediction, streams)
        except ValueError as error:
            frame.fault = str(error)
    decoded = rans.decode_streams(streams)
    for frame in frames:
        if frame.fault is None and frame.stream is not None:
            frame.fault = _close(frame, decoded[frame.stream])
    return [frame.fault for frame in frames]


def _open(
    frame: _Frame, payload: memoryview, expected: memoryview, streams: list[rans.Stream]
) -> None:
    """Read a payload's structure, appending its stream; raises ValueError on damage."""
    if not payload.nbytes:
        frame.out[:] = expected
        return
    if payload.nbytes < 2:
        raise ValueError("it is cut short")
    first, begin = payload[0], payload[1]
    form, mode = first & 3, first >> 4 & 3
    kind = _BY_NUMBER.get(first >> 2 & 3)
    known = form in (LISTED, CODED) and mode <= BLOCKS_SCALED
    if kind is None or not known or (form == LISTED and first & HAS_LIVE):
        raise ValueError("its form is unknown")
    if first & BY_STEPS and (mode == NOT_SCALED or kind.width != 4):
        raise ValueError("its form is unknown")
    size = frame.out.nbytes
    if begin >= kind.width or begin > size:
        raise ValueError("its lead is not shorter than an element")
    tail = (size - begin) % kind.width
    frame.kind, frame.begin, frame.end = kind, begin, size - tail
    at = 2 + begin + tail
    edges = _exactly(payload, 2, begin + tail)
    frame.out[:begin], frame.out[frame.end :] = edges[:begin], edges[begin:]
    frame.prediction = kind.read(expected[begin : frame.end])
    if mode:
        at = _scale(frame, payload, at, first)
    if form == LISTED:
        _apply_changes(frame, payload[at:])
        return
    if first & HAS_LIVE:
        frame.live, at = _take_bitmap(frame, payload, at)
    _open_stream(frame, payload, at, streams)


def _exactly(content: memoryview, at: int, length: int) -> memoryview:
    part = content[at : at + length]
    if len(part) != length:
        raise ValueError("it is cut short")
    return part


def _take_bitmap(frame: _Frame, payload: memoryview, at: int) -> tuple[NDArray[np.bool_], int]:
    """Return one truth for each element of the blocks that a bitmap names, and where it ends."""
    count = len(frame.prediction)
    blocks = -(-count // BLOCK_ELEMENTS)
    content = np.frombuffer(_exactly(payload, at, -(-blocks // 8)), np.uint8)
    bits = np.unpackbits(content, bitorder="little").astype(np.bool_)
    if bits[blocks:].any():
        raise ValueError("its blocks are damaged")
    return np.repeat(bits[:blocks], BLOCK_ELEMENTS)[:count], at + len(content)


def _scale(frame: _Frame, payload: memoryview, at: int, first: int) -> int:
    if first & BY_STEPS:
        steps = np.frombuffer(_exactly(payload, at, 2 * STEPS), "<i2")
        other = stepped(frame.prediction, steps)
        at += 2 * STEPS
    else:
        factor = np.frombuffer(_exactly(payload, at, 4), "<f4")
        if int(factor.view("<u4")[0]) >> 23 & 255 in (0, 255):
            raise ValueError("its form is unknown")
        other = scaled(frame.kind, frame.prediction, factor[0])
        at += 4
    if first >> 4 & 3 == BLOCKS_SCALED:
        chosen, at = _take_bitmap(frame, payload, at)
        other = np.where(chosen, other, frame.prediction)
    frame.prediction = other
    return at


def _apply_changes(frame: _Frame, content: memoryview) -> None:
    places, changes, at, place = [], [], 0, 0
    while at < len(content):
        gap, at = _take_number(content, at)
        change, at = _take_number(content, at)
        place += gap
        if place >= len(frame.prediction) or not 0 < change < 1 << 8 * frame.kind.width:
            raise ValueError("its list of changes is damaged")
        places.append(place)
        changes.append(change)
        place += 1
    difference = np.zeros_like(frame.prediction)
    difference[places] = changes
    frame.elements[:] = restored(frame.kind, frame.prediction, difference)


def _take_number(content: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 35, 7):
        if at >= len(content):
            break
        value |= (content[at] & 127) << shift
        at += 1
        if content[at - 1] < 128:
            return value, at
    raise ValueError("its list of changes is damaged")


def _open_stream(frame: _Frame, payload: memoryview, at: int, streams: list[rans.Stream]) -> None:
    top, boundaries = _HEAD.unpack(_exactly(payload, at, _HEAD.size))
    at += _HEAD.size
    firsts = [row for row in range(ROWS) if row == 0 or boundaries >> row & 1]
    if boundaries & 1 or len(firsts) > MAX_CONTEXTS:
        raise ValueError("its form is unknown")
    tables = []
    for _ in firsts:
        table, at = rans.decode_table(payload, at)
        if table[frame.kind.most_symbols :].any():
            raise ValueError("a table of frequencies is damaged")
        tables.append(table)
    used = frame.prediction if frame.live is None else frame.prediction[frame.live]
    rows = rows_of(frame.kind, used, top)
    contexts = (np.searchsorted(firsts, rows, side="right") - 1).astype(np.uint8)
    stream, at = rans.decode_coded(payload, at, len(used), np.stack(tables), contexts)
    frame.stream, frame.raw = len(streams), payload[at:]
    streams.append(stream)


def _close(frame: _Frame, symbols: Symbols | None) -> str | None:
    """Check the raw bits and put the elements together; returns what is wrong, if anything."""
    if symbols is None:
        return "an entropy-coded stream is damaged"
    widths = raw_widths(symbols)
    whole, rest = divmod(int(widths.sum()), 8)
    if len(frame.raw) != whole + (rest > 0):
        return "it is cut short" if len(frame.raw) < whole + (rest > 0) else "bytes follow its end"
    if rest and frame.raw[-1] >> rest:
        return "bytes follow its end"
    change = expanded(frame.kind, symbols, widths, np.frombuffer(frame.raw, np.uint8))
    if frame.live is not None:
        difference = np.zeros_like(frame.prediction)
        difference[frame.live] = change
        change = difference
    frame.elements[:] = restored(frame.kind, frame.prediction, change)
    return None
