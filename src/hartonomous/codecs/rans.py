"""rANS with a 12-bit model and 32 interleaved states, for many streams at once, in numpy.

The reference of the C kernel and what runs without it: each step handles 32 symbols of every
stream, so the more streams a call has, the better it is used. Streams and tables are those of
docs/format-fields.md. After J. Duda, "Asymmetric numeral systems" (2013), interleaved after
F. Giesen, "Interleaved entropy coders" (2014).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LANES = 32
TOTAL = 4096
LOW = 1 << 15
STATE_BYTES = 4 * LANES

Symbols = NDArray[np.uint8]
Counts = NDArray[np.int64]
_Words = NDArray[np.uint16]
_States = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """``count`` symbols as they are coded: frequencies, first states, words.

    Where there are ``contexts``, symbol ``i`` is coded by row ``contexts[i]`` of ``frequencies``.
    """

    count: int
    frequencies: Counts
    states: _States
    words: _Words
    contexts: Symbols | None = None

    def encode(self) -> bytes:
        """Return table, number of words, states and words as they lie in a payload."""
        tables = self.frequencies.reshape(-1, 256)
        return b"".join(
            (
                *(encode_table(table) for table in tables),
                len(self.words).to_bytes(4, "little"),
                self.states.astype("<u4").tobytes(),
                self.words.astype("<u2").tobytes(),
            )
        )


def normalise(counts: Counts) -> Counts:
    """Scale counts of at least two symbols to frequencies that add up to 4096, none of them lost.

    What rounding leaves is put where it changes the coded length least, the lowest symbol first.
    Quotients of such small integers differ by more than float64 rounds, so the choice is exact.
    """
    total = int(counts.sum())
    frequencies: Counts = (counts * TOTAL + total // 2) // total
    frequencies[(counts > 0) & (frequencies == 0)] = 1
    for _ in range(int(frequencies.sum()) - TOTAL):
        loss = np.where(frequencies > 1, counts / (2 * frequencies - 1), np.inf)
        frequencies[np.argmin(loss)] -= 1
    for _ in range(TOTAL - int(frequencies.sum())):
        gain = np.where(counts > 0, counts / (2 * frequencies + 1), -1)
        frequencies[np.argmax(gain)] += 1
    return frequencies


def encode_table(frequencies: Counts) -> bytes:
    """Return the bytes of a table: which symbols there are, and each one's frequency."""
    present = np.packbits(frequencies > 0, bitorder="little")
    out = bytearray(np.packbits(present > 0, bitorder="little").tobytes())
    out += present[present > 0].tobytes()
    for frequency in frequencies[frequencies > 0].tolist():
        less = frequency - 1
        out += bytes([less] if less < 128 else [128 | less >> 8, less & 255])
    return bytes(out)


def decode_table(content: memoryview, at: int) -> tuple[Counts, int]:
    """Return the frequencies of the table at ``at``, and where it ends.

    Raises ValueError where it is cut short, is not in its only form, or does not add up to 4096.
    """
    try:
        groups = int.from_bytes(_exactly(content, at, 4), "little")
        at += 4
        symbols = []
        for group in range(32):
            if groups >> group & 1:
                bits = content[at]
                at += 1
                if not bits:
                    raise ValueError("a group of a table is empty")
                symbols += [8 * group + k for k in range(8) if bits >> k & 1]
        frequencies = np.zeros(256, np.int64)
        for symbol in symbols:
            less = content[at]
            at += 1
            if less >= 128:
                less = (less & 127) << 8 | content[at]
                at += 1
                if less < 128:
                    raise ValueError("a frequency is longer than it needs to be")
            frequencies[symbol] = less + 1
    except IndexError:
        raise ValueError("a table is cut short") from None
    if int(frequencies.sum()) != TOTAL or len(symbols) < 2:
        raise ValueError("the frequencies of a table do not add up")
    return frequencies, at


def decode_stream(content: memoryview, at: int, count: int) -> tuple[Stream, int]:
    """Return the stream of ``count`` symbols at ``at``, still encoded, and where it ends.

    Raises ValueError on damage that shows without decoding.
    """
    frequencies, at = decode_table(content, at)
    return decode_coded(content, at, count, frequencies)


def decode_coded(
    content: memoryview, at: int, count: int, frequencies: Counts, contexts: Symbols | None = None
) -> tuple[Stream, int]:
    """Return the stream at ``at`` whose frequencies are known, still encoded, and where it ends.

    Raises ValueError on damage that shows without decoding.
    """
    length = int.from_bytes(_exactly(content, at, 4), "little")
    states = np.frombuffer(_exactly(content, at + 4, STATE_BYTES), "<u4").astype(np.int64)
    at += 4 + STATE_BYTES
    words = np.frombuffer(_exactly(content, at, 2 * length), "<u2")
    if ((states < LOW) | (states >= 1 << 31)).any():
        raise ValueError("a state is out of range")
    return Stream(count, frequencies, states, words, contexts), at + 2 * length


def _exactly(content: memoryview, at: int, length: int) -> memoryview:
    part = content[at : at + length]
    if len(part) != length:
        raise ValueError("a stream is cut short")
    return part


def encode_streams(
    planes: Sequence[Symbols],
    tables: Sequence[Counts],
    contexts: Sequence[Symbols | None] | None = None,
) -> list[Stream]:
    """Encode each plane with its frequencies; every symbol that occurs must have one.

    Where a plane has contexts, its frequencies have a row for each.
    """
    if not planes:
        return []
    within = [None] * len(planes) if contexts is None else contexts
    order = sorted(range(len(planes)), key=lambda k: -len(planes[k]))
    counts = np.array([len(planes[k]) for k in order])
    symbols = np.zeros((len(order), -(-int(counts[0]) // LANES) * LANES), np.uint8)
    for place, k in enumerate(order):
        symbols[place, : counts[place]] = planes[k]
    frequencies = np.concatenate([tables[k].ravel() for k in order])
    starts = (np.cumsum(frequencies.reshape(-1, 256), 1).ravel() - frequencies) % TOTAL
    states = np.full((len(order), LANES), LOW, np.int64)
    words = np.empty((len(order), symbols.shape[1]), np.uint16)
    ends: NDArray[np.int64] = np.full(len(order), symbols.shape[1])
    rows = _rows([tables[k] for k in order], [within[k] for k in order], symbols.shape[1])
    for first in range(symbols.shape[1] - LANES, -1, -LANES):
        active = int(np.searchsorted(-counts, -first))
        used = first + np.arange(LANES) < counts[:active, None]
        index = symbols[:active, first : first + LANES] + 256 * _part(rows, active, first)
        state, frequency = states[:active], np.where(used, frequencies[index], 1)
        full = used & (state >= frequency << 19)
        rank = np.cumsum(full, 1)
        ends[:active] -= rank[:, -1]
        row, lane = np.nonzero(full)
        words[row, ends[row] + rank[row, lane] - 1] = state[row, lane] & 0xFFFF
        state = np.where(full, state >> 16, state)
        quotient, rest = np.divmod(state, frequency)
        states[:active] = np.where(used, (quotient << 12) + rest + starts[index], states[:active])
    coded = [
        Stream(int(counts[place]), tables[k], states[place], words[place, ends[place] :], within[k])
        for place, k in enumerate(order)
    ]
    return [coded[place] for place in np.argsort(order)]


def decode_streams(streams: Sequence[Stream]) -> list[Symbols | None]:
    """Decode all streams; None stands for one that is damaged."""
    if not streams:
        return []
    order = sorted(range(len(streams)), key=lambda k: -streams[k].count)
    ordered = [streams[k] for k in order]
    counts = np.array([one.count for one in ordered])
    out = np.empty((len(order), -(-int(counts[0]) // LANES) * LANES), np.uint8)
    states = np.stack([one.states for one in ordered])
    # Words of all streams in a row; the last one guards reads beyond a damaged stream.
    words = np.concatenate([*(one.words for one in ordered), np.zeros(LANES, np.uint16)])
    words = words.astype(np.int64)
    begins = np.cumsum([0, *(len(one.words) for one in ordered)])
    ends, at = begins[1:], begins[:-1].copy()
    slots = np.concatenate(
        [_slots(table) for one in ordered for table in one.frequencies.reshape(-1, 256)]
    )
    tables, contexts = [one.frequencies for one in ordered], [one.contexts for one in ordered]
    rows = _rows(tables, contexts, out.shape[1])
    for first in range(0, out.shape[1], LANES):
        active = int(np.searchsorted(-counts, -first))
        state = states[:active]
        slot = slots[(state & (TOTAL - 1)) + TOTAL * _part(rows, active, first)]
        out[:active, first : first + LANES] = slot & 255
        state = (slot >> 20) * (state >> 12) + (slot >> 8 & (TOTAL - 1))
        used = first + np.arange(LANES) < counts[:active, None]
        low = used & (state < LOW)
        rank = np.cumsum(low, 1)
        place = np.minimum(at[:active, None] + rank - 1, len(words) - 1)
        state = np.where(low, state << 16 | words[np.maximum(place, 0)], state)
        states[:active] = np.where(used, state, states[:active])
        at[:active] = np.minimum(at[:active] + rank[:, -1], ends[:active] + 1)
    sound = (at == ends) & (states == LOW).all(1)
    decoded = [out[row, : counts[row]] if sound[row] else None for row in range(len(order))]
    return [decoded[row] for row in np.argsort(order)]


def _rows(
    tables: Sequence[Counts], contexts: Sequence[Symbols | None], width: int
) -> NDArray[np.int64]:
    """Return which of all tables codes a stream's symbols: one column, or one for each symbol."""
    sizes = [len(table.reshape(-1, 256)) for table in tables]
    begins: NDArray[np.int64] = (np.cumsum(sizes, dtype=np.int64) - sizes)[:, None]
    if all(one is None for one in contexts):
        return begins
    rows = np.repeat(begins, width, 1)
    for row, one in zip(rows, contexts, strict=True):
        if one is not None:
            row[: len(one)] += one
    return rows


def _part(rows: NDArray[np.int64], active: int, first: int) -> NDArray[np.int64]:
    return rows[:active] if rows.shape[1] == 1 else rows[:active, first : first + LANES]


def _slots(frequencies: Counts) -> NDArray[np.int64]:
    """Return, for each of 4096 slots, its frequency, its place in the share and its symbol."""
    symbol = np.repeat(np.arange(256), frequencies)
    place = np.arange(TOTAL) - (np.cumsum(frequencies) - frequencies)[symbol]
    slots: NDArray[np.int64] = frequencies[symbol] << 20 | place << 8 | symbol
    return slots
