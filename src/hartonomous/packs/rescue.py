#!/usr/bin/env python3
"""Read a Hartonomous store without Hartonomous: list, restore and verify what its packs hold.

This file lies in every store and needs nothing of the program that wrote it. The layout that it
reads is described in FORMAT.md and the FORMAT-….md beside it. It reads packs only, never the
catalog, and changes nothing in the store. STORE is the folder that this file lies in, unless it is
named.

    python rescue.py list [STORE]
    python rescue.py restore [STORE] OUT [--name NAME] [--all-versions] [--include-removed]
    python rescue.py verify [STORE]

Needs Python 3.9 or later; for zstd, one of: Python 3.14, the packages backports.zstd or
zstandard, the program zstd; for tensors that are encoded otherwise, the package numpy. The
packages blake3 and xxhash are used if they are there: with them damage is found in the single
frame or atom, without them in the whole file, by its SHA-256.
Exit codes: 0 all well, 1 something could not be done, 2 usage, 4 damage was found.
"""

from __future__ import annotations

# ruff: noqa: T201, UP035, B905, PTH101, PTH104, PTH123, ARG001, PLW2901 - a script that prints, for Python 3.9
import argparse
import base64
import hashlib
import importlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any, BinaryIO, Iterator, NamedTuple

PACK_HEADER = struct.Struct("<8sHHII16s16sQI")  # magic, version, -, required, optional, key, …
FOOTER = struct.Struct("<8sQQQQ16sQ")  # magic, toc offset, toc bytes, records, -, key, checksum
RECORD = struct.Struct("<4sIBBHIQQQQQ32sIIHH")  # the fixed part of a record header
FRAME = struct.Struct("<IQ")  # stored bytes, XXH3-64 of them
CHECK = struct.Struct("<Q")  # XXH3-64 of the record header or footer that it closes
EXTENT, MANIFEST, COMMIT, CHANGE = 1, 2, 3, 4  # record kinds; others are skipped
RAW, ZSTD, FIELDS, DELTA, DERIVED = range(5)  # encodings; others need a newer rescue.py
RECIPES = {RAW: 0, ZSTD: 1, FIELDS: 1, DELTA: 1, DERIVED: 1}
FEATURES, FEATURE_BITS = {"variants", "postgresql-catalog"}, 1  # that stores, packs may require
MAX_BASES, MAX_CHAIN = 8, 8  # of one record, and below each other
KEPT_BASE_BYTES = 256 << 20  # decoded bases kept for the frames that need them next
BATCH_BYTES = 16 << 20  # frames of tensors are decoded together, since numpy's work is by the step
MAX_HEADER_BYTES = MAX_FRAME_BYTES = 16 << 20
MAX_JSON_BYTES = 512 << 20
MAX_JSON_VALUES = 1 << 25
SCAN_BYTES = 1 << 20


class DamageError(Exception):
    """Some bytes are not what they should be; the rest may still be read."""


class RefusedError(Exception):
    """The work cannot be done at all: no store, a newer format, a missing tool."""


FOUND: dict[str, set[str]] = {"NOTE": set(), "FAILED": set(), "DAMAGED": set()}


def say(kind: str, text: str) -> None:
    """Print a finding to standard error, once, and keep it: findings decide the exit code."""
    if text not in FOUND[kind]:
        FOUND[kind].add(text)
        print(f"{kind}: {shown(text)}", file=sys.stderr)


def shown(text: str) -> str:
    """Return text without control characters, which could steer a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def optional(*names: str) -> Any:
    """Return the first of these packages that is installed, or None."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


BLAKE3 = optional("blake3")
XXHASH = optional("xxhash")
NUMPY = optional("numpy")
ZSTD_MODULE = optional("compression.zstd", "backports.zstd", "zstandard")


def checksum_fits(content: bytes, expected: int) -> bool:
    """Compare the XXH3-64 of some bytes; without the package xxhash everything fits."""
    return XXHASH is None or bool(XXHASH.xxh3_64_intdigest(content) == expected)


def decode_zstd(frame: bytes, limit: int) -> bytes:
    """Decode a zstd frame; returns at most ``limit`` bytes, whatever the frame would grow to."""
    if ZSTD_MODULE is None:
        return decode_zstd_by_program(frame, limit)
    decompressor = ZSTD_MODULE.ZstdDecompressor()
    try:
        if hasattr(decompressor, "stream_reader"):  # the package zstandard
            return bytes(decompressor.stream_reader(frame).read(limit))
        return bytes(decompressor.decompress(frame, limit))
    except (ZSTD_MODULE.ZstdError, EOFError, ValueError) as error:
        raise DamageError(f"zstd: {error}") from error


def decode_zstd_by_program(frame: bytes, limit: int) -> bytes:
    """Do the same through the program zstd."""
    program = shutil.which("zstd")
    if program is None:
        raise RefusedError("install the program zstd or the Python package backports.zstd first")
    with tempfile.TemporaryFile() as feed:  # a pipe could fill up while nobody reads the answer
        feed.write(frame)
        feed.seek(0)
        quiet = subprocess.DEVNULL
        with subprocess.Popen([program, "-dcq"], stdin=feed, stdout=-1, stderr=quiet) as process:
            content = process.stdout.read(limit) if process.stdout else b""
            process.kill()  # does nothing to one that has ended
    return content


# --- frames of FIELDS, recipe 1: FORMAT-FIELDS.md -------------------------------------------------

LANES, TOTAL, LOW = 32, 4096, 1 << 15


class Stream(NamedTuple):
    """An entropy-coded plane: how many symbols, for each slot what it means, states, words.

    With contexts there are several tables of slots, and a context says which one codes a symbol.
    """

    size: int
    slots: Any
    states: Any
    words: Any
    contexts: Any = None


class FieldsFrame:
    """A payload of FIELDS, cut into its parts; every read is inside it, or DamageError."""

    def __init__(self, payload: bytes, length: int) -> None:
        """Read the structure; planes are arrays of bytes, or streams to be decoded."""
        self.payload, self.at, self.length = payload, 0, length
        size, self.lead, field_count = struct.unpack("<IHB", self.take(7))
        self.fields = [struct.unpack("<BH", self.take(3)) for _ in range(field_count)]
        self.element = sum((kind & 15) * words for kind, words in self.fields)
        known = all(kind in (1, 2, 4, 8, 0x12, 0x14, 0x18) and n for kind, n in self.fields)
        known = known and field_count <= 16 and self.element <= 4096
        if size != length or not known or not self.lead < self.element or self.lead > length:
            raise DamageError("a frame of fields has no sound header")
        self.count, tail = divmod(length - self.lead, self.element)
        self.head, self.tail = self.take(self.lead), self.take(tail)
        self.planes = [
            self.read_plane(self.count * words)
            for kind, words in self.fields
            for _ in range(kind & 15)
        ]
        if self.at != len(payload):
            raise DamageError("bytes follow the last plane of a frame")

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        self.at += count
        if self.at > len(self.payload):
            raise DamageError("a frame of fields is cut short")
        return self.payload[self.at - count : self.at]

    def read_plane(self, count: int) -> Any:
        """Return a plane's symbols, or its stream."""
        tag = self.take(1)[0]
        if tag == 0:
            return NUMPY.frombuffer(self.take(count), NUMPY.uint8)
        if tag == 1:
            return NUMPY.full(count, self.take(1)[0], NUMPY.uint8)
        if tag != 2:
            raise DamageError("a plane has an unknown tag")
        return self.read_stream(count, self.read_table(), None)

    def read_stream(self, count: int, slots: Any, contexts: Any) -> Stream:
        """Return the stream of so many symbols whose tables are known."""
        length = struct.unpack("<I", self.take(4))[0]
        states = NUMPY.frombuffer(self.take(4 * LANES), "<u4").astype(NUMPY.int64)
        words = NUMPY.frombuffer(self.take(2 * length), "<u2").astype(NUMPY.int64)
        if ((states < LOW) | (states >> 31 > 0)).any():
            raise DamageError("a stream begins with a wrong state")
        return Stream(count, slots, states, words, contexts)

    def read_table(self) -> Any:
        """Return for each slot its frequency << 20, its place in the share << 8, its symbol."""
        groups = struct.unpack("<I", self.take(4))[0]
        bits = {g: self.take(1)[0] for g in range(32) if groups >> g & 1}
        slots = []
        for symbol in (8 * g + k for g in bits for k in range(8) if bits[g] >> k & 1):
            less = self.take(1)[0]
            if less >= 128:
                less = (less & 127) << 8 | self.take(1)[0]
                less = less if less >= 128 else TOTAL  # longer than it needs to be
            if less > TOTAL - 2:
                raise DamageError("a table of frequencies is damaged")
            slots += [(less + 1) << 20 | place << 8 | symbol for place in range(less + 1)]
        if len(slots) != TOTAL or 0 in bits.values():
            raise DamageError("a table of frequencies does not add up")
        return NUMPY.array(slots, NUMPY.int64)

    def join(self, planes: list[Any]) -> bytes:
        """Return the decoded bytes, once every plane is there."""
        table = NUMPY.empty((self.count, self.element), NUMPY.uint8)
        at = 0
        for kind, count in self.fields:
            width = kind & 15
            words = NUMPY.stack(planes[:width][::-1], axis=1).reshape(-1).view(f"<u{width}")
            if kind > 15:  # rotated
                words = words >> 1 | words << (8 * width - 1)
            part = words.view(NUMPY.uint8).reshape(self.count, width * count)
            table[:, at : at + width * count] = part
            at, planes = at + width * count, planes[width:]
        return b"".join((self.head, table.tobytes(), self.tail))


def decode_streams(streams: list[Stream]) -> list[Any]:
    """Decode all streams together, 32 symbols of each a step; None for a damaged one."""
    if not streams:
        return []
    order = sorted(range(len(streams)), key=lambda k: -streams[k].size)
    counts = NUMPY.array([streams[k].size for k in order])
    out = NUMPY.empty((len(order), aligned(int(counts[0]), LANES)), NUMPY.uint8)
    states = NUMPY.stack([streams[k].states for k in order])
    slots = NUMPY.concatenate([streams[k].slots for k in order])
    words = NUMPY.concatenate([*(streams[k].words for k in order), NUMPY.zeros(1, NUMPY.int64)])
    ends = NUMPY.cumsum([len(streams[k].words) for k in order])
    at = ends - [len(streams[k].words) for k in order]
    sizes = [len(streams[k].slots) for k in order]
    rows = (NUMPY.cumsum(sizes) - sizes)[:, None]  # where the table of a stream's symbols begins
    contexts = NUMPY.zeros((len(order), 0), NUMPY.uint8)
    if any(stream.contexts is not None for stream in streams):
        contexts = NUMPY.zeros(out.shape, NUMPY.uint8)
    for row, k in zip(contexts, order):
        if streams[k].contexts is not None:
            row[: streams[k].size] = streams[k].contexts
    for first in range(0, out.shape[1], LANES):
        n = int(NUMPY.searchsorted(-counts, -first))  # streams that go on
        table = rows[:n]
        if contexts.size:
            table = table + contexts[:n, first : first + LANES].astype(NUMPY.int64) * TOTAL
        slot = slots[(states[:n] & (TOTAL - 1)) + table]
        out[:n, first : first + LANES] = slot & 255
        used = first + NUMPY.arange(LANES) < counts[:n, None]
        state = (slot >> 20) * (states[:n] >> 12) + (slot >> 8 & (TOTAL - 1))
        low = used & (state < LOW)
        rank = NUMPY.cumsum(low, 1)
        place = NUMPY.clip(at[:n, None] + rank - 1, 0, len(words) - 1)
        state = NUMPY.where(low, state << 16 | words[place], state)
        states[:n] = NUMPY.where(used, state, states[:n])
        at[:n] = NUMPY.minimum(at[:n] + rank[:, -1], ends[:n] + 1)
    sound = (at == ends) & (states == LOW).all(1)
    rank_of = {k: row for row, k in enumerate(order)}
    return [
        out[rank_of[k], : streams[k].size] if sound[rank_of[k]] else None
        for k in range(len(streams))
    ]


def decode_fields(payloads: list[bytes], lengths: list[int]) -> list[Any]:
    """Decode frames of FIELDS; returns the bytes of each, or the DamageError it has."""
    if NUMPY is None:
        raise RefusedError("install the Python package numpy first")
    frames: list[Any] = []
    for payload, length in zip(payloads, lengths):
        try:
            frames.append(FieldsFrame(payload, length))
        except DamageError as damage:
            frames.append(damage)
    sound = [frame for frame in frames if isinstance(frame, FieldsFrame)]
    streams = [plane for frame in sound for plane in frame.planes if isinstance(plane, Stream)]
    decoded = iter(decode_streams(streams))
    for number, frame in enumerate(frames):
        if isinstance(frame, FieldsFrame):
            planes = [next(decoded) if isinstance(p, Stream) else p for p in frame.planes]
            whole = all(plane is not None for plane in planes)
            frames[number] = frame.join(planes) if whole else DamageError("a stream is damaged")
    return frames


# --- frames of DELTA, recipe 1: FORMAT-DELTA.md ---------------------------------------------------

BLOCK = 128  # elements
KINDS = (("BF16", 2, 7), ("F16", 2, 10), ("F32", 4, 23))  # name, bytes, bits of the mantissa


class DeltaFrame(FieldsFrame):
    """A payload of DELTA with its prediction; its planes are one stream of symbols, or none."""

    def __init__(self, payload: bytes, prediction: bytes, dtype: str) -> None:
        """Read the structure; raises DamageError where there is none."""
        self.payload, self.at, self.length = payload, 0, len(prediction)
        first, self.lead = self.take(2)
        form, self.mode, kind = first & 3, first >> 4 & 3, first >> 2 & 3
        live, steps = first >> 6 & 1, first > 127
        if form not in (1, 2) or self.mode > 2 or kind > 2 or live > form - 1:
            raise DamageError("a frame of differences has no sound form")
        if steps and (not self.mode or kind != 2):
            raise DamageError("a frame of differences has no sound form")
        name, self.width, self.mantissa = KINDS[kind]
        if name != dtype or self.lead >= self.width or self.lead > self.length:
            raise DamageError("a frame of differences is not of this type")
        self.count, tail = divmod(self.length - self.lead, self.width)
        self.head, self.tail = self.take(self.lead), self.take(tail)
        self.words = f"<u{self.width}"
        self.sign = NUMPY.array(1 << (8 * self.width - 1), self.words)
        self.base = NUMPY.frombuffer(prediction, self.words, self.count, self.lead)
        if self.mode:
            moved = self.stepped() if steps else self.scaled()
            where = self.take_blocks() if self.mode == 2 else NUMPY.ones(self.count, bool)
            self.base = NUMPY.where(where, moved, self.base).astype(self.words)
        self.live = self.take_blocks() if live else NUMPY.ones(self.count, bool)
        self.planes = [self.read_coded()] if form == 2 else []
        self.changes = [] if form == 2 else list(self.read_changes())

    def take_blocks(self) -> Any:
        """Return one truth for each element of the blocks that the next bitmap names."""
        blocks = -(-self.count // BLOCK)
        packed = NUMPY.frombuffer(self.take(-(-blocks // 8)), NUMPY.uint8)
        bits = NUMPY.unpackbits(packed, bitorder="little").astype(bool)
        if bits[blocks:].any():
            raise DamageError("the blocks of a frame are damaged")
        return NUMPY.repeat(bits[:blocks], BLOCK)[: self.count]

    def stepped(self) -> Any:
        """Return the prediction moved towards zero as its mantissa's first six bits say."""
        steps = NUMPY.frombuffer(self.take(128), "<i2").astype(NUMPY.int64)
        wide, exponents = self.base.astype(NUMPY.int64), self.base >> 23 & 255
        moved = wide - steps[wide >> 17 & 63]
        return NUMPY.where((exponents > 0) & (exponents < 255), moved, wide)

    def scaled(self) -> Any:
        """Return the prediction times a factor, rounded once, where all is normal."""
        factor = NUMPY.frombuffer(self.take(4), "<f4")[0]
        if int(factor.view(NUMPY.uint32)) >> 23 & 255 in (0, 255):
            raise DamageError("the factor of a frame is no normal number")
        cut, wide = 23 - self.mantissa, self.base.astype(NUMPY.uint32)
        sign, magnitude = (
            wide >> (8 * self.width - 1),
            wide & int(self.sign - self.sign.dtype.type(1)),
        )
        bias = 112 << 23 if self.mantissa == 10 else 0
        inner = (magnitude << cut) + NUMPY.uint32(bias) | sign << 31
        with NUMPY.errstate(all="ignore"):
            product = (inner.view(NUMPY.float32) * factor).view(NUMPY.uint32)
        after, most = product >> 23 & 255, 30 if bias else 254
        before = magnitude >> self.mantissa
        fits = (before > 0) & (before <= most) & (after > (112 if bias else 1))
        fits &= after <= (142 if bias else 254)
        low = (product & 0x7FFFFFFF) - NUMPY.uint32(bias)
        if cut:
            low = (low + ((1 << (cut - 1)) - 1) + (low >> cut & 1)) >> cut
        return NUMPY.where(fits, low | (product >> 31) << (8 * self.width - 1), wide)

    def read_coded(self) -> Stream:
        """Return the stream of symbols; what follows it are their raw bits."""
        top, boundaries = struct.unpack("<HI", self.take(6))
        if boundaries & 1 or bin(boundaries).count("1") > 15:
            raise DamageError("the contexts of a frame are none")
        tables = [self.read_table() for _ in range(bin(boundaries).count("1") + 1)]
        if max(int((table & 255).max()) for table in tables) >= 8 * (8 * self.width - 2):
            raise DamageError("a table of frequencies is damaged")
        used = self.base[self.live]
        keys = (used & (self.sign - self.sign.dtype.type(1))) >> (self.mantissa - 1)
        rows = NUMPY.clip(top - keys.astype(NUMPY.int64), 0, 31)
        contexts = NUMPY.cumsum([boundaries >> row & 1 for row in range(32)])[rows]
        return self.read_stream(len(used), NUMPY.concatenate(tables), contexts)

    def read_changes(self) -> Iterator[tuple[int, int]]:
        """Yield (place, difference) of a list of changes."""
        place = 0
        while self.at < len(self.payload):
            place += self.take_number()
            difference = self.take_number()
            if place >= self.count or not 0 < difference < 1 << 8 * self.width:
                raise DamageError("a list of changes is damaged")
            yield place, difference
            place += 1

    def take_number(self) -> int:
        """Return the next number, seven bits a byte, the lowest first."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise DamageError("a number is too long")

    def raw_bits(self, symbols: Any) -> Any:
        """Return the differences of symbols, with the raw bits that end the payload."""
        widths = NUMPY.maximum((symbols >> 3).astype(NUMPY.int64) - 1, 0)
        total = int(widths.sum())
        raw = NUMPY.frombuffer(self.take(-(-total // 8)), NUMPY.uint8)
        if self.at != len(self.payload) or (total % 8 and raw[-1] >> total % 8):
            raise DamageError("bytes follow the end of a frame")
        padded = NUMPY.concatenate([raw, NUMPY.zeros(8, NUMPY.uint8)]).astype(NUMPY.int64)
        begins = NUMPY.cumsum(widths) - widths
        bits = sum(padded[(begins >> 3) + k] << 8 * k for k in range(5)) >> (begins & 7)
        lead = NUMPY.where(symbols < 8, symbols, symbols & 7 | 8).astype(NUMPY.int64)
        return lead << widths | bits & ((1 << widths) - 1)

    def join(self, planes: list[Any]) -> bytes:
        """Return the decoded bytes, once the stream is decoded."""
        differences = NUMPY.zeros(self.count, self.words)
        if planes:
            differences[self.live] = self.raw_bits(planes[0])
        for place, difference in self.changes:
            differences[place] = difference
        one, sign = self.sign.dtype.type(1), self.sign
        change = differences >> one ^ (~(differences & one) + one)
        negative = self.base >= sign
        change = NUMPY.where(negative, ~change + one, change)
        order = NUMPY.where(negative, ~self.base, self.base | sign) + change
        elements = NUMPY.where(order >= sign, order ^ sign, ~order).astype(self.words)
        return b"".join((self.head, elements.tobytes(), self.tail))


def decode_deltas(payloads: list[bytes], predictions: list[bytes], dtype: str) -> list[Any]:
    """Decode frames of DELTA; returns the bytes of each, or the DamageError it has."""
    if NUMPY is None:
        raise RefusedError("install the Python package numpy first")
    frames: list[Any] = []
    for payload, prediction in zip(payloads, predictions):
        try:
            if not payload:
                frames.append(prediction)
            elif payload[0] == 0:
                frames += decode_fields([payload[1:]], [len(prediction)])
            else:
                frames.append(DeltaFrame(payload, prediction, dtype))
        except DamageError as damage:
            frames.append(damage)
    streams = [plane for f in frames if isinstance(f, DeltaFrame) for plane in f.planes]
    decoded = iter(decode_streams(streams))
    for number, frame in enumerate(frames):
        if isinstance(frame, DeltaFrame):
            planes = [next(decoded) for _ in frame.planes]
            try:
                if any(plane is None for plane in planes):
                    raise DamageError("a stream is damaged")
                frames[number] = frame.join(planes)
            except DamageError as damage:
                frames[number] = damage
    return frames


def decode_delta(payload: bytes, prediction: bytes, dtype: str, size: int) -> bytes:
    """Decode one frame of DELTA of ``size`` bytes, given as many predicted ones."""
    if len(prediction) != size:
        raise DamageError("the prediction of a frame has another size")
    (frame,) = decode_deltas([payload], [prediction], dtype)
    if isinstance(frame, DamageError):
        raise frame
    return bytes(frame)


# --- predictions, recipe 1: FORMAT-PLANS.md -------------------------------------------------------

FLOATS = {"F64": (8, 52), "F32": (4, 23), "F16": (2, 10), "BF16": (2, 7)}  # bytes, bits of mantissa
FLOAT_TARGETS = ("F32", "F16", "BF16")
BLOCKS = {  # of ggml: elements and bytes
    "Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22), "Q5_1": (32, 24), "Q8_0": (32, 34),
    "Q2_K": (256, 84), "Q3_K": (256, 110), "Q4_K": (256, 144), "Q5_K": (256, 176),
    "Q6_K": (256, 210), "IQ4_NL": (32, 18), "IQ4_XS": (256, 136), "MXFP4": (32, 17),
    "TQ1_0": (256, 54), "TQ2_0": (256, 66),
}  # fmt: skip
IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
E2M1 = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)


class Wanted(NamedTuple):
    """Elements ``[first, stop)`` of what a step makes of value ``number``, or of all ``values``."""

    step: Any
    values: Any  # type and shape of each value before the step
    level: int  # the number of steps before
    number: int
    first: int
    stop: int


class Prediction:
    """The target that a plan (decoded JSON) makes of its bases, computed where it is asked for.

    ``read(operand, start, stop)`` returns these bytes of that operand's base.
    """

    def __init__(self, plan: dict[str, Any], read: Any) -> None:
        """Find the type and shape of every value; raises DamageError for an unsound plan."""
        self.plan, self.read = plan, read
        try:
            self.steps = plan.get("steps", [])
            values = [(one["dtype"], tuple(one["shape"])) for one in plan["operands"]]
            self.values = [values]
            for step in self.steps:
                self.values.append(values_after(step, self.values[-1]))
            dtype = plan["dtype"] if plan["dtype"] in FLOAT_TARGETS else "F32"
            sound = self.values[-1] == [(dtype, tuple(plan["shape"]))]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DamageError(f"a plan is damaged: {error!r}") from error
        if not sound:
            raise DamageError("a plan does not make its target")

    def bytes_of(self, start: int, stop: int) -> bytes:
        """Return bytes of the prediction of an F32, F16 or BF16 target."""
        size = FLOATS[self.plan["dtype"]][0]
        first = start // size
        content = self.elements(first, -(-stop // size)).tobytes()
        return bytes(content[start - first * size : stop - first * size])

    def elements(self, first: int, stop: int) -> Any:
        """Return elements of the last value: of a quantised target its F32 source."""
        if NUMPY is None:
            raise RefusedError("install the Python package numpy first")
        try:
            with NUMPY.errstate(all="ignore"):
                return self.part(len(self.steps), 0, first, stop)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DamageError(f"a plan cannot be carried out: {error!r}") from error

    def part(self, level: int, number: int, first: int, stop: int) -> Any:
        """Return elements of one value, flat: of an operand, or of what a step makes."""
        if first >= stop:
            return elements_of(b"", self.values[level][number][0])
        if level == 0:
            return self.operand(number, first, stop)
        step = self.steps[level - 1]
        made = getattr(self, "make_" + step["step"], None)
        if made is None:
            raise DamageError("a plan has an unknown step")
        return made(Wanted(step, self.values[level - 1], level - 1, number, first, stop))

    def operand(self, number: int, first: int, stop: int) -> Any:
        """Return elements of an operand; blocks of ggml come whole, as bytes."""
        one = self.plan["operands"][number]
        per_block, size = BLOCKS.get(one["dtype"]) or (1, FLOATS.get(one["dtype"], (1, 0))[0])
        start, end = one.get("first", 0) + first, one.get("first", 0) + stop
        content = self.read(number, start // per_block * size, -(-end // per_block) * size)
        return elements_of(content, one["dtype"])

    def make_cast(self, want: Wanted) -> Any:
        """Round to another type."""
        values = self.part(want.level, want.number, want.first, want.stop)
        return cast_elements(
            values, want.values[want.number][0], want.step["dtype"], want.step.get("nan", "quiet")
        )

    def make_transpose(self, want: Wanted) -> Any:
        """Exchange axes of the whole value."""
        shape = want.values[want.number][1]
        whole = self.part(want.level, want.number, 0, count_of(shape)).reshape(shape)
        return whole.transpose(want.step.get("axes", (1, 0))).reshape(-1)[want.first : want.stop]

    def make_permute_heads(self, want: Wanted) -> Any:
        """Exchange halves and pairs of the rows in each whole head that is touched."""
        shape = want.values[want.number][1]
        row, rows = count_of(shape[1:]), shape[0] // want.step["heads"]
        from_, to = want.first // (rows * row), -(-want.stop // (rows * row))
        heads = self.part(want.level, want.number, from_ * rows * row, to * rows * row)
        cut = (rows // 2, 2) if want.step.get("inverse", False) else (2, rows // 2)
        heads = heads.reshape(to - from_, *cut, row).swapaxes(1, 2).reshape(-1)
        return heads[want.first - from_ * rows * row : want.stop - from_ * rows * row]

    def make_rows(self, want: Wanted) -> Any:
        """Leave out the rows before the first one."""
        at = want.step["first"] * count_of(want.values[want.number][1][1:])
        return self.part(want.level, want.number, want.first + at, want.stop + at)

    def make_append(self, want: Wanted) -> Any:
        """Put zeros behind the value."""
        count = count_of(want.values[want.number][1])
        there = self.part(want.level, want.number, min(want.first, count), min(want.stop, count))
        return NUMPY.concatenate(
            [there, NUMPY.zeros(want.stop - want.first - len(there), there.dtype)]
        )

    def make_dequantise(self, want: Wanted) -> Any:
        """Compute the values of blocks."""
        if want.values[want.number][0] not in BLOCKS:
            return self.part(want.level, want.number, want.first, want.stop)
        values = block_values(
            self.part(want.level, want.number, want.first, want.stop), want.values[want.number][0]
        )
        at = want.first % BLOCKS[want.values[want.number][0]][0]
        return values[at : at + want.stop - want.first]

    def make_concatenate(self, want: Wanted) -> Any:
        """Take from each value what lies in the range."""
        parts, at = [], 0
        for k, (_, shape) in enumerate(want.values):
            count = count_of(shape)
            parts.append(
                self.part(want.level, k, max(want.first - at, 0), min(want.stop - at, count))
            )
            at += count
        return NUMPY.concatenate(parts)

    def make_linear(self, want: Wanted) -> Any:
        """Add the weighted values in order."""
        work = want.step.get("dtype", "F64")
        wide = "F64" if work == "F64" else "F32"
        total: Any = None
        divisor = want.step.get("divisor", 1.0)
        for k, weight in enumerate(want.step["weights"]):
            value = cast_elements(
                self.part(want.level, k, want.first, want.stop), want.values[k][0], wide
            )
            term = round_wide(value * value.dtype.type(weight), work)
            total = term if total is None else round_wide(total + term, work)
        if divisor != 1:
            total = round_wide(total / total.dtype.type(divisor), work)
        return from_wide(total, work)

    def make_task_vectors(self, want: Wanted) -> Any:
        """Add the weighted differences from the first value to it."""
        work = want.step.get("dtype", "F64")
        wide = "F64" if work == "F64" else "F32"
        values = [
            cast_elements(self.part(want.level, k, want.first, want.stop), dtype, wide)
            for k, (dtype, _) in enumerate(want.values)
        ]
        base = round_wide(values[0], work)
        total, number = NUMPY.zeros_like(base), base.dtype.type
        for k, weight in enumerate(want.step["weights"]):
            term = round_wide(round_wide(values[k + 1] - base, work) * number(weight), work)
            total = round_wide(total + term, work) if k else term
        total = round_wide(total * number(want.step.get("scale", 1.0)), work)
        return from_wide(round_wide(base + total, work), work)

    def make_low_rank(self, want: Wanted) -> Any:
        """Add the scaled product of two matrices."""
        work = want.step.get("dtype", "F64")
        wide = "F64" if work == "F64" else "F32"
        rank, width = want.values[2][1]
        row, end = want.first // width, -(-want.stop // width)
        base = cast_elements(
            self.part(want.level, 0, want.first, want.stop), want.values[0][0], wide
        )
        left = self.part(want.level, 1, row * rank, end * rank).reshape(-1, rank)
        right = self.part(want.level, 2, 0, rank * width).reshape(rank, width)
        kind = want.step.get("product", "F64")
        left = cast_elements(cast_elements(left, want.values[1][0], kind), kind, "F64")
        right = cast_elements(cast_elements(right, want.values[2][0], kind), kind, "F64")
        total = (left[:, :1] * right[:1]).astype(f"<f{FLOATS[kind][0]}")
        for k in range(1, rank):
            total = (left[:, k : k + 1] * right[k : k + 1] + total).astype(total.dtype)
        total = total.reshape(-1)[want.first - row * width : want.stop - row * width]
        total = round_wide(total.astype(base.dtype), work)
        total = round_wide(total * total.dtype.type(want.step["scale"]), work)
        return from_wide(round_wide(base + total, work), work)


def count_of(shape: Any) -> int:
    """Return the number of elements of a shape."""
    count = 1
    for extent in shape:
        count *= extent
    return count


def values_after(step: Any, values: Any) -> Any:
    """Return the types and shapes that a step makes of those."""
    kind, (dtype, shape) = step["step"], values[0]
    if kind == "concatenate":
        return [(dtype, (sum(one[0] for _, one in values), *shape[1:]))]
    if kind in ("linear", "task_vectors", "low_rank"):
        return [(step.get("dtype", "F64"), shape)]
    made = []
    for dtype, shape in values:
        if kind == "cast":
            made.append((step["dtype"], shape))
        elif kind == "transpose":
            made.append((dtype, tuple(shape[axis] for axis in step.get("axes", (1, 0)))))
        elif kind == "rows":
            made.append((dtype, (step["stop"] - step["first"], *shape[1:])))
        elif kind == "append":
            made.append((dtype, (shape[0] + step["rows"], *shape[1:])))
        else:
            made.append(("F32" if kind == "dequantise" and dtype in BLOCKS else dtype, shape))
    return made


def elements_of(content: bytes, dtype: str) -> Any:
    """Return an array of a type's elements; BF16 as words, what has no type of numpy as bytes."""
    kinds = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
    return NUMPY.frombuffer(content, kinds.get(dtype, "u1"))


def cast_elements(values: Any, source: str, target: str, rule: str = "quiet") -> Any:
    """Round to nearest, ties to even; the bits of NaN are computed from its bits by the rule."""
    if source == "F8_E5M2":
        values, source = (values.astype("<u2") << 8).view("<f2"), "F16"
    if source == "F8_E4M3":
        values, source = e4m3_values()[values], "F32"
    if source == target:
        return values
    size, have = FLOATS[source]
    target_size, want = FLOATS[target]
    bits = values.view(f"<u{size}").astype("<u8")
    wide = (bits << 16).astype("<u4").view("<f4") if source == "BF16" else values
    if target == "BF16":
        word = wide.astype("<f4").view("<u4").astype("<u8")
        out = (word + (word >> 16 & 1) + 0x7FFF) >> 16
    else:
        out = wide.astype(f"<f{target_size}").view(f"<u{target_size}").astype("<u8")
    negative, payload = bits >> (8 * size - 1), bits & ((1 << have) - 1)
    quiet = 1 << (want - 1)
    if want >= have:
        payload = payload << (want - have)
    elif rule == "ones":
        payload, negative = payload * 0 + 2 * quiet - 1, negative * 0 + 1
    elif rule in ("quiet", "kept"):
        payload = payload >> (have - want)
        payload = payload | quiet if rule == "quiet" else NUMPY.maximum(payload, 1)
    else:
        payload, negative = payload * 0 + quiet, negative * (rule == "signed")
    exponent = (1 << (8 * target_size - 1)) - (1 << want)
    lost = negative.astype("<u8") << (8 * target_size - 1) | payload.astype("<u8") | exponent
    out = NUMPY.where(NUMPY.isnan(wide), lost, out).astype(f"<u{target_size}")
    return out if target == "BF16" else out.view(f"<f{target_size}")


def round_wide(values: Any, work: str) -> Any:
    """Round F32 to F16 or BF16 and widen it again; F64 and F32 are computed in themselves."""
    if work in ("F64", "F32"):
        return values
    return cast_elements(cast_elements(values, "F32", work), work, "F32")


def from_wide(values: Any, work: str) -> Any:
    """Return the result of sums: every NaN the positive quiet one."""
    values = NUMPY.where(NUMPY.isnan(values), values.dtype.type(NUMPY.nan), values)
    return cast_elements(values, "F64" if work == "F64" else "F32", work)


def e4m3_values() -> Any:
    """Return the 256 values of F8_E4M3."""
    code = NUMPY.arange(256)
    exponent, mantissa = code >> 3 & 15, (code & 7) / 8
    size = NUMPY.where(exponent, 1 + mantissa, mantissa)
    size = NUMPY.ldexp(size, NUMPY.maximum(exponent, 1) - 7).astype("<f4")
    words = size.view("<u4") | (code >> 7 << 31).astype("<u4")
    words[[127, 255]] = 0x7FC00000, 0xFFC00000
    return words.view("<f4")


def block_values(content: Any, dtype: str) -> Any:
    """Return the F32 values of ggml's blocks, by its reference functions; NaN as after sums."""
    blocks = content.reshape(-1, BLOCKS[dtype][1])
    work = {"Q": simple_blocks, "T": ternary_blocks, "I": table_blocks, "M": table_blocks}
    values = (k_blocks if dtype.endswith("_K") else work[dtype[0]])(blocks, dtype)
    return from_wide(values.reshape(-1), "F32")


def half(blocks: Any, at: int) -> Any:
    """Return the F16 number at a byte of each block as F32, shape (blocks, 1)."""
    return NUMPY.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype("<f4")


def codes(packed: Any, bits: int, group: int) -> Any:
    """Return fields of bits as F32; in each group of bytes all low fields come first."""
    shifts = NUMPY.arange(0, 8, bits, dtype="u1").reshape(1, 1, -1, 1)
    fields = packed.reshape(len(packed), -1, 1, group) >> shifts & (1 << bits) - 1
    return fields.reshape(len(packed), -1).astype("<f4")


def scaled(numbers: Any, scales: Any) -> Any:
    """Multiply the numbers of each sub-block by its scale."""
    return (scales[..., None] * numbers.reshape(*scales.shape, -1)).reshape(len(numbers), -1)


def f32(number: float) -> Any:
    """Return a number that keeps arrays F32."""
    return NUMPY.float32(number)


def simple_blocks(blocks: Any, dtype: str) -> Any:
    """Return the values of Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0."""
    if dtype == "Q8_0":
        return blocks[:, 2:].view("i1").astype("<f4") * half(blocks, 0)
    numbers = codes(blocks[:, -16:], 4, 16)
    if dtype[1] == "5":
        packed = NUMPY.ascontiguousarray(blocks[:, -20:-16])
        numbers = numbers + f32(16) * NUMPY.unpackbits(packed, axis=1, bitorder="little")
    if dtype.endswith("_1"):
        return half(blocks, 0) * numbers + half(blocks, 2)
    return half(blocks, 0) * (numbers - f32(16 if dtype[1] == "5" else 8))


def k_blocks(blocks: Any, dtype: str) -> Any:
    """Return the values of Q2_K to Q6_K."""
    if dtype == "Q2_K":
        scales = half(blocks, 80) * (blocks[:, :16] & 15).astype("<f4")
        minima = half(blocks, 82) * (blocks[:, :16] >> 4).astype("<f4")
        return scaled(codes(blocks[:, 16:80], 2, 32), scales) - NUMPY.repeat(minima, 16, axis=1)
    if dtype == "Q3_K":
        scales = codes(blocks[:, 96:104], 4, 8) + f32(16) * codes(blocks[:, 104:108], 2, 4)
        high = codes(blocks[:, :32], 1, 32) * f32(4) - f32(4)
        numbers = codes(blocks[:, 32:96], 2, 32) + high
        return scaled(numbers, half(blocks, 108) * (scales - f32(32)))
    if dtype == "Q6_K":
        numbers = codes(blocks[:, :128], 4, 64) + f32(16) * codes(blocks[:, 128:192], 2, 32)
        scales = half(blocks, 208) * blocks[:, 192:208].view("i1").astype("<f4")
        return scaled(numbers - f32(32), scales)
    low, middle, rest = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = NUMPY.hstack([low & 63, (rest & 15) | (low >> 6) << 4]).astype("<f4")
    minima = NUMPY.hstack([middle & 63, (rest >> 4) | (middle >> 6) << 4]).astype("<f4")
    numbers = codes(blocks[:, -128:], 4, 32)
    if dtype == "Q5_K":
        numbers = numbers + f32(16) * codes(blocks[:, 16:48], 1, 32)
    minima = NUMPY.repeat(half(blocks, 2) * minima, 32, axis=1)
    return scaled(numbers, half(blocks, 0) * scales) - minima


def table_blocks(blocks: Any, dtype: str) -> Any:
    """Return the values of IQ4_NL, IQ4_XS and MXFP4."""
    table = NUMPY.array(E2M1 if dtype == "MXFP4" else IQ4, "<f4")
    numbers = table[codes(blocks[:, -128 if dtype == "IQ4_XS" else -16 :], 4, 16).astype("u1")]
    if dtype == "IQ4_NL":
        return half(blocks, 0) * numbers
    if dtype == "MXFP4":
        exponent = blocks[:, :1].astype("<i8")
        words = NUMPY.where(exponent < 2, 0x200000 << exponent % 2, (exponent - 1) << 23)
        return words.astype("<u4").view("<f4") * numbers
    scales = codes(blocks[:, 4:8], 4, 1) + f32(16) * codes(blocks[:, 2:4], 2, 1)
    return scaled(numbers, half(blocks, 0) * (scales - f32(32)))


def ternary_blocks(blocks: Any, dtype: str) -> Any:
    """Return the values of TQ1_0 and TQ2_0."""
    if dtype == "TQ2_0":
        return half(blocks, 64) * (codes(blocks[:, :64], 2, 32) - f32(1))
    digits = []
    for first, stop, group, count in ((0, 32, 32, 5), (32, 48, 16, 5), (48, 52, 4, 4)):
        powers = NUMPY.array([1, 3, 9, 27, 81][:count], "<u4").reshape(1, 1, -1, 1)
        packed = blocks[:, first:stop].reshape(len(blocks), -1, 1, group) * powers & 255
        digits.append((packed * 3 >> 8).reshape(len(blocks), -1))
    return half(blocks, 52) * (NUMPY.hstack(digits).astype("<f4") - f32(1))


# --- frames of DERIVED, recipe 1: FORMAT-QUANTISED.md ---------------------------------------------

# number, bits of a code, f16 numbers, scales, minima, elements and bytes of a block
QUANTISED = {
    "Q4_0": (2, 4, 1, 0, 0, 32, 18), "Q4_1": (3, 4, 2, 0, 0, 32, 20),
    "Q5_0": (6, 5, 1, 0, 0, 32, 22), "Q5_1": (7, 5, 2, 0, 0, 32, 24),
    "Q8_0": (8, 8, 1, 0, 0, 32, 34), "Q2_K": (10, 2, 2, 16, 16, 256, 84),
    "Q3_K": (11, 3, 1, 16, 0, 256, 110), "Q4_K": (12, 4, 2, 8, 8, 256, 144),
    "Q5_K": (13, 5, 2, 8, 8, 256, 176), "Q6_K": (14, 6, 1, 16, 0, 256, 210),
    "IQ4_NL": (20, 4, 1, 0, 0, 32, 18), "IQ4_XS": (23, 4, 1, 8, 0, 256, 136),
    "MXFP4": (39, 4, 0, 1, 0, 32, 17),
}  # fmt: skip
ROUNDED = {"I8": 1, "U8": 2, "F8_E4M3": 3, "F8_E5M2": 4}
# Where bits lie in a block: (first byte, bytes, bytes of a group, bits of a field, shift).
CODE_BITS = {
    "Q4_0": [(2, 16, 16, 4, 0)], "Q4_1": [(4, 16, 16, 4, 0)], "Q8_0": [(2, 32, 32, 8, 0)],
    "Q5_0": [(2, 4, 1, 1, 4), (6, 16, 16, 4, 0)], "Q5_1": [(4, 4, 1, 1, 4), (8, 16, 16, 4, 0)],
    "Q2_K": [(16, 64, 32, 2, 0)], "Q3_K": [(0, 32, 32, 1, 2), (32, 64, 32, 2, 0)],
    "Q4_K": [(16, 128, 32, 4, 0)], "Q5_K": [(16, 32, 32, 1, 4), (48, 128, 32, 4, 0)],
    "Q6_K": [(0, 128, 64, 4, 0), (128, 64, 32, 2, 4)], "IQ4_NL": [(2, 16, 16, 4, 0)],
    "IQ4_XS": [(8, 128, 16, 4, 0)], "MXFP4": [(1, 16, 16, 4, 0)],
}  # fmt: skip
SCALE_BITS = {
    "Q2_K": [(0, 16, 16, 8, 0)], "Q3_K": [(96, 8, 8, 4, 0), (104, 4, 4, 2, 4)],
    "Q6_K": [(192, 16, 16, 8, 0)], "IQ4_XS": [(2, 2, 1, 2, 4), (4, 4, 1, 4, 0)],
    "MXFP4": [(0, 1, 1, 8, 0)],
}  # fmt: skip
IQ4_BORDERS = (-115.5, -93.5, -74, -57, -42, -28.5, -16, -4.5, 7, 19, 31.5, 45.5, 61, 79, 101)


def decode_quantised(payload: bytes, source: Any, dtype: str, position: int, size: int) -> bytes:
    """Return the ``size`` bytes of a quantised tensor from ``position`` on; DamageError if damaged.

    ``source`` is float32 of the elements of the blocks that lie whole in there.
    """
    if NUMPY is None:
        raise RefusedError("install the Python package numpy first")
    elements, width = QUANTISED[dtype][5:] if dtype in QUANTISED else (1, 1)
    lead = min(-position % width, size)
    count, tail = divmod(size - lead, width)
    at = 10 + lead + tail
    head = struct.unpack("<BBHHI", payload[:10]) if len(payload) >= at else ()
    number = QUANTISED[dtype][0] if dtype in QUANTISED else ROUNDED.get(dtype)
    if head[1:] != (number, lead, tail, elements * count) or len(source) != elements * count:
        raise DamageError("a derived frame has no sound header")
    with NUMPY.errstate(all="ignore"):
        if dtype in QUANTISED:
            middle = derive_blocks(payload, at, source.reshape(count, elements), dtype, head[0])
        else:
            middle = derive_bytes(payload, at, source, dtype, head[0], position)
    return payload[10 : 10 + lead] + middle + payload[10 + lead : at]


def read_table(payload: bytes, at: int, size: int) -> tuple[Any, int]:
    """Return a section's table of bytes, and where it ends."""
    kind = payload[at] if at < len(payload) else 255
    if kind == 0:
        return NUMPY.zeros(size, NUMPY.uint8), at + 1
    length = int.from_bytes(payload[at + 1 : at + 5], "little")
    content = payload[at + 5 : at + 5 + length]
    if kind > 3 or len(content) != length or at + 5 > len(payload):
        raise DamageError("a section of a derived frame is damaged")
    if kind == 2:
        decoded = decode_fields([content], [size])[0]
        if isinstance(decoded, DamageError):
            raise decoded
        content = decoded
    table = NUMPY.zeros(size, NUMPY.uint8)
    if kind == 3:
        n = length // 5
        places = NUMPY.frombuffer(content, "<u4", n)
        ascending = (NUMPY.diff(places.astype(NUMPY.int64)) > 0).all()
        if length % 5 or n > 4096 or not ascending or (places >= size).any():
            raise DamageError("a list of a derived frame is damaged")
        table[places] = NUMPY.frombuffer(content, NUMPY.uint8, n, 4 * n)
    elif len(content) == size:
        table[:] = NUMPY.frombuffer(content, NUMPY.uint8)
    else:
        raise DamageError("a table of a derived frame is damaged")
    return table, at + 5 + length


def read_tables(payload: bytes, at: int, header: int, residual: int) -> tuple[Any, Any]:
    """Return both tables of a derived frame, which end it."""
    if max(header, residual) > MAX_FRAME_BYTES:
        raise DamageError("a table of a derived frame is too large")
    first, at = read_table(payload, at, header)
    second, at = read_table(payload, at, residual)
    if at != len(payload):
        raise DamageError("bytes follow the last section of a derived frame")
    return first, second


class BlockHeader:
    """The differences of scales of all blocks, added to what is predicted, in their order."""

    def __init__(self, table: Any) -> None:
        """Take the table, (blocks, bytes)."""
        self.table, self.at = table, 0

    def half(self, predicted: Any) -> Any:
        """Return f16 numbers: bits of the prediction plus a signed difference."""
        turned = NUMPY.ascontiguousarray(self.table[:, self.at : self.at + 2]).view("<u2")[:, 0]
        self.at += 2
        predicted = NUMPY.where(NUMPY.isnan(predicted), NUMPY.float32(0), predicted)
        bits = predicted.astype(NUMPY.float16).view(NUMPY.uint16)
        return (bits + ((turned >> 1) ^ (0 - (turned & 1)))).view(NUMPY.float16)

    def small(self, predicted: Any, mask: int) -> Any:
        """Return columns of small numbers."""
        columns = self.table[:, self.at : self.at + predicted.shape[1]]
        self.at += predicted.shape[1]
        return ((predicted + columns) & mask).astype(NUMPY.uint8)


def inverse(x: Any) -> Any:
    """Return 1 / x, 0 for 0."""
    return NUMPY.where(x != 0, NUMPY.float32(1) / x, NUMPY.float32(0))


def near(x: Any, low: float, high: float) -> Any:
    """Return the nearest integers within bounds, halves to even; NaN gives the lower bound."""
    x = NUMPY.where(x > low, x, NUMPY.float32(low))
    return NUMPY.rint(NUMPY.where(x < high, x, NUMPY.float32(high))).astype(NUMPY.int32)


def cut(x: Any, high: int) -> Any:
    """Return integers between 0 and a bound, cut off; NaN gives 0."""
    x = NUMPY.where(x > 0, x, NUMPY.float32(0))
    return NUMPY.where(x < high, x, NUMPY.float32(high)).astype(NUMPY.int32)


def limits_of(x: Any) -> tuple[Any, Any]:
    """Return smallest and largest values along the last axis, NaN left out, zeros positive."""
    low = NUMPY.fmin.reduce(x, axis=-1, initial=NUMPY.float32(NUMPY.inf)) + NUMPY.float32(0)
    high = NUMPY.fmax.reduce(x, axis=-1, initial=NUMPY.float32(-NUMPY.inf)) + NUMPY.float32(0)
    return low, high


def peaks_of(x: Any) -> Any:
    """Return the value of the largest magnitude of each row, the first of equals."""
    low, high = limits_of(x)
    zero = NUMPY.float32(0)
    peaks = NUMPY.where(high > -low, high, NUMPY.where(high < -low, low, zero))
    for row in NUMPY.flatnonzero((high == -low) & (high > 0)):
        peaks[row] = x[row][(NUMPY.abs(x[row]) == high[row]).argmax()]
    return peaks


def greatest_of(columns: Any) -> Any:
    """Return the same of some numbers each, in their order."""
    found = NUMPY.zeros(len(columns), NUMPY.float32)
    for column in columns.T:
        found = NUMPY.where(NUMPY.abs(column) > NUMPY.abs(found), column, found)
    return found


def derive_blocks(payload: bytes, at: int, x: Any, dtype: str, kind: int) -> bytes:
    """Return the blocks that a source makes with a payload's differences."""
    known = (1, 2) if dtype[3:] == "K" else (1,) if dtype[0] in "IM" else (0, 1)
    if kind not in known:
        raise DamageError("a derived frame is of an unknown kind")
    _, bits, halves, scales, minima, elements, _ = QUANTISED[dtype]
    width = 2 * halves + scales + minima
    table, residual = read_tables(payload, at, width * len(x), x.size)
    if not len(x):
        return b""
    header = BlockHeader(table.reshape(len(x), width))
    if dtype in ("Q2_K", "Q4_K", "Q5_K"):
        parts = derive_minima(x, header, dtype, kind == 2)
    elif dtype in ("Q3_K", "Q6_K"):
        parts = derive_symmetric(x, header, dtype == "Q3_K", kind == 2)
    elif dtype in ("IQ4_NL", "IQ4_XS", "MXFP4"):
        parts = derive_fours(x, header, dtype)
    else:
        parts = derive_plain(x, header, dtype, kind == 0)
    codes = parts[0].reshape(len(x), elements) + residual.reshape(len(x), elements)
    return gather_blocks(dtype, (codes & ((1 << bits) - 1)).astype(NUMPY.uint8), *parts[1:])


def gather_blocks(  # noqa: PLR0917
    dtype: str, codes: Any, d: Any, m: Any = None, s: Any = None, t: Any = None
) -> bytes:
    """Return blocks made of codes, f16 scale and minimum, scales and minima of sub-blocks."""
    blocks = NUMPY.zeros((len(codes), QUANTISED[dtype][6]), NUMPY.uint8)
    if dtype in ("Q4_K", "Q5_K"):
        blocks[:, 4:8] = s[:, :4] | s[:, 4:] >> 4 << 6
        blocks[:, 8:12] = t[:, :4] | t[:, 4:] >> 4 << 6
        blocks[:, 12:16] = (s[:, 4:] & 15) | (t[:, 4:] & 15) << 4
    numbers = s | t << 4 if dtype == "Q2_K" else s
    for values, runs in ((codes, CODE_BITS[dtype]), (numbers, SCALE_BITS.get(dtype, []))):
        for at, size, group, bits, shift in runs:
            shifts = NUMPY.arange(0, 8, bits, dtype=NUMPY.uint8).reshape(1, 1, -1, 1)
            fields = (values >> shift & ((1 << bits) - 1)).reshape(len(codes), -1, 8 // bits, group)
            packed = NUMPY.bitwise_or.reduce(fields << shifts, axis=2)
            blocks[:, at : at + size] = packed.reshape(len(codes), size)
    at = {"Q2_K": 80, "Q3_K": 108, "Q6_K": 208}.get(dtype, 0)
    for number in (d, m):
        if number is not None:
            blocks[:, at : at + 2] = number.view(NUMPY.uint8).reshape(-1, 2)
        at += 2
    return bytes(blocks.tobytes())


def derive_plain(x: Any, header: BlockHeader, dtype: str, reference: bool) -> tuple[Any, ...]:
    """Return the parts of Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 blocks."""
    low, high = limits_of(x)
    most = (1 << QUANTISED[dtype][1]) - 1
    m = None
    if dtype in ("Q4_1", "Q5_1"):
        scale = (high - low) / NUMPY.float32(most)
        d, m = header.half(scale), header.half(low)
        if not reference:
            scale, low = d.astype(NUMPY.float32), m.astype(NUMPY.float32)
        codes = cut((x - low[:, None]) * inverse(scale)[:, None] + NUMPY.float32(0.5), most)
        return codes, d, m
    half = most // 2 + 1
    scale = peaks_of(x) / NUMPY.float32(-half)
    if dtype == "Q8_0":
        scale = NUMPY.abs(peaks_of(x)) / NUMPY.float32(127)
    d = header.half(scale)
    scaled = x * inverse(scale if reference else d.astype(NUMPY.float32))[:, None]
    if dtype != "Q8_0":
        return cut(scaled + NUMPY.float32(half + 0.5), most), d
    size = NUMPY.abs(scaled)
    whole = cut(size, 127)
    size = NUMPY.where(size < 127, size, NUMPY.float32(127))
    whole += size - whole.astype(NUMPY.float32) >= NUMPY.float32(0.5)
    return NUMPY.where(scaled < 0, -whole, whole), d


def derive_fours(x: Any, header: BlockHeader, dtype: str) -> tuple[Any, ...]:
    """Return the parts of IQ4_NL, IQ4_XS, MXFP4 blocks."""
    if dtype == "MXFP4":
        size = NUMPY.abs(x)
        exponent = (NUMPY.abs(peaks_of(x)).view(NUMPY.uint32) >> 23).astype(NUMPY.int32) - 2
        e = header.small(NUMPY.maximum(exponent, 0)[:, None], 255)
        stored = e.astype(NUMPY.uint32)
        bits = NUMPY.where(stored < 2, NUMPY.uint32(0x200000) << stored, (stored - 1) << 23)
        unit = bits.astype(NUMPY.uint32).view(NUMPY.float32)
        best, codes = size, NUMPY.zeros(x.shape, NUMPY.int32)
        for code, value in list(enumerate((0, 1, 2, 3, 4, 6, 8, 12)))[1:]:
            distance = NUMPY.abs(NUMPY.float32(value) * unit - size)
            codes = NUMPY.where(distance < best, code, codes)
            best = NUMPY.where(distance < best, distance, best)
        return codes | ((x < 0) & (codes > 0)).astype(NUMPY.int32) << 3, None, None, e
    grouped = x.reshape(-1, 32)
    peaks = (peaks_of(grouped) / NUMPY.float32(127)).reshape(len(x), -1)
    s = None
    if dtype == "IQ4_NL":
        d = header.half(peaks[:, 0])
        factor = inverse(d.astype(NUMPY.float32))[:, None]
    else:
        d = header.half(greatest_of(peaks) / NUMPY.float32(-32))
        scale = d.astype(NUMPY.float32)[:, None]
        s = header.small(near(peaks * inverse(scale), -32, 31) + 32, 63)
        factor = inverse(scale * (s.astype(NUMPY.float32) - NUMPY.float32(32)))
    scaled = grouped * factor.reshape(-1, 1)
    codes = NUMPY.zeros(scaled.shape, NUMPY.int32)
    for border in IQ4_BORDERS:
        codes += scaled >= NUMPY.float32(border)
    return codes, d, None, s


def derive_minima(x: Any, header: BlockHeader, dtype: str, searched: bool) -> tuple[Any, ...]:
    """Return the parts of Q2_K, Q4_K, Q5_K blocks."""
    most, steps = (1 << QUANTISED[dtype][1]) - 1, 15 if dtype == "Q2_K" else 63
    grouped = x.reshape(len(x), QUANTISED[dtype][3], -1)
    low, high = limits_of(grouped)
    low = NUMPY.where(low < 0, low, NUMPY.float32(0))
    width, depth = (high - low) / NUMPY.float32(most), -low
    others = None
    if searched:
        width, depth, others = search_minima(grouped, most, dtype == "Q2_K")
    zero = NUMPY.float32(0)
    widest, deepest = zero, zero
    for k in range(width.shape[1]):
        widest = NUMPY.where(width[:, k] > widest, width[:, k], widest)
        deepest = NUMPY.where(depth[:, k] > deepest, depth[:, k], deepest)
    d, m = header.half(widest / NUMPY.float32(steps)), header.half(deepest / NUMPY.float32(steps))
    scale, minimum = d.astype(NUMPY.float32)[:, None], m.astype(NUMPY.float32)[:, None]
    if searched:
        by = NUMPY.where(widest > 0, NUMPY.float32(steps) / widest, zero)[:, None]
        to = NUMPY.where(deepest > 0, NUMPY.float32(steps) / deepest, zero)[:, None]
        s = NUMPY.minimum(near(by * width, -255, 255) & 255, steps)
        t = NUMPY.minimum(near(to * depth, -255, 255) & 255, steps)
    else:
        s, t = near(width * inverse(scale), 0, steps), near(depth * inverse(minimum), 0, steps)
    s, t = header.small(s, steps), header.small(t, steps)
    by = (scale * s.astype(NUMPY.float32))[..., None]
    plus = (minimum * t.astype(NUMPY.float32))[..., None]
    if others is None:
        wide = (high - low)[..., None]
        factor = NUMPY.where(wide != 0, NUMPY.float32(most) / wide, zero)
        others = near((grouped - low[..., None]) * factor, 0, most)
    return NUMPY.where(by == 0, others, near((grouped + plus) / by, 0, most)), d, m, s, t


def derive_symmetric(x: Any, header: BlockHeader, three: bool, searched: bool) -> tuple[Any, ...]:
    """Return the parts of Q3_K and Q6_K blocks."""
    half, steps, bias, mask = (4, 32, 32, 63) if three else (32, 128, 0, 255)
    grouped = x.reshape(len(x), 16, 16)
    tops = peaks_of(grouped.reshape(-1, 16)).reshape(-1, 16)
    peaks = tops / NUMPY.float32(-half)
    if searched:
        scales, others = search_symmetric(grouped, half)
        greatest = greatest_of(scales)
        none = greatest == 0 if three else NUMPY.abs(greatest) < NUMPY.float32(1e-15)
        factor = NUMPY.float32(-steps) / greatest
        d = header.half(NUMPY.where(none, NUMPY.float32(0), NUMPY.float32(1) / factor))
        predicted = near(factor[:, None] * scales, -steps, steps - 1) + bias
        predicted[none] = 0
        if not three:
            others[none] = 0
    else:
        d = header.half(greatest_of(peaks) / NUMPY.float32(-steps))
        predicted = (
            near(peaks * inverse(d.astype(NUMPY.float32))[:, None], -steps, steps - 1) + bias
        )
        others = near(grouped * (NUMPY.float32(-half) / tops)[..., None], -half, half - 1) + half
        others[NUMPY.abs(tops) < NUMPY.float32(1e-15)] = 0
    s = header.small(predicted, mask)
    stored = s.astype(NUMPY.float32) - bias if three else s.view(NUMPY.int8)
    by = (d.astype(NUMPY.float32)[:, None] * stored.astype(NUMPY.float32))[..., None]
    codes = near(grouped / by, -half, half - 1) + half
    return NUMPY.where(by == 0, others, codes), d, None, s


def total(values: Any) -> Any:
    """Add up along the last axis, from the first to the last, one rounding each."""
    out = NUMPY.zeros(values.shape[:-1], NUMPY.float32)
    for k in range(values.shape[-1]):
        out = out + values[..., k]
    return out


def search_minima(x: Any, most: int, absolute: bool) -> tuple[Any, Any, Any]:
    """Return scales, depths and codes of sub-blocks as ggml's make_qkx2_quants finds them."""
    tries, first = (20, -1.0) if most == 15 else (15, -0.5)
    weights = NUMPY.abs(x)
    if not absolute:
        weights = NUMPY.sqrt(total(x * x) / NUMPY.float32(32))[..., None] + weights
    low, high = x[..., 0], x[..., 0]
    for k in range(1, x.shape[-1]):
        low = NUMPY.where(x[..., k] < low, x[..., k], low)
        high = NUMPY.where(x[..., k] > high, x[..., k], high)
    low = NUMPY.where(low > 0, NUMPY.float32(0), low)
    flat, deep, sum_w, sum_x = high == low, -low, total(weights), total(weights * x)

    def missed(codes: Any, scale: Any, low: Any) -> Any:
        off = scale[..., None] * codes.astype(NUMPY.float32) + low[..., None] - x
        return total(weights * (NUMPY.abs(off) if absolute else off * off))

    factor = NUMPY.float32(most) / (high - low)
    scale = NUMPY.float32(1) / factor
    codes = near(factor[..., None] * (x - low[..., None]), 0, most)
    best = missed(codes, scale, low)
    for turn in range(tries + 1):
        step = NUMPY.float32(first) + NUMPY.float32(0.1) * NUMPY.float32(turn) + NUMPY.float32(most)
        tried = near((step / (high - low))[..., None] * (x - low[..., None]), 0, most)
        number = tried.astype(NUMPY.float32)
        weighted = weights * number
        sum_l, sum_l2, sum_xl = total(weighted), total(weighted * number), total(weighted * x)
        divisor = sum_w * sum_l2 - sum_l * sum_l
        new_scale = (sum_w * sum_xl - sum_x * sum_l) / divisor
        new_low = (sum_l2 * sum_x - sum_l * sum_xl) / divisor
        new_scale = NUMPY.where(new_low > 0, sum_xl / sum_l2, new_scale)
        new_low = NUMPY.where(new_low > 0, NUMPY.float32(0), new_low)
        error = missed(tried, new_scale, new_low)
        better = (divisor > 0) & (error < best)
        codes, best = NUMPY.where(better[..., None], tried, codes), NUMPY.where(better, error, best)
        scale, low = NUMPY.where(better, new_scale, scale), NUMPY.where(better, new_low, low)
    codes = NUMPY.where(flat[..., None], 0, codes)
    return NUMPY.where(flat, NUMPY.float32(0), scale), NUMPY.where(flat, deep, -low), codes


def search_symmetric(x: Any, half: int) -> tuple[Any, Any]:
    """Return scales and codes of sub-blocks as ggml's make_qx_quants, make_q3_quants do."""
    peaks = greatest_of(x.reshape(-1, 16)).reshape(x.shape[:-1])
    weights = x * x
    codes = near((NUMPY.float32(-half) / peaks)[..., None] * x, -half, half - 1)

    def sums(found: Any) -> tuple[Any, Any]:
        number = found.astype(NUMPY.float32)
        return total(weights * x * number), total(weights * number * number)

    lx, l2 = sums(codes)
    if half == 4:
        lx, l2 = improve_threes(x, weights, codes, lx, l2)
        scale = NUMPY.where(l2 > 0, lx / l2, NUMPY.float32(0))
    else:
        scale = NUMPY.where(l2 != 0, lx / l2, NUMPY.float32(0))
        best = scale * lx
        for turn in (*range(-9, 0), *range(1, 10)):
            step = NUMPY.float32(half) + NUMPY.float32(0.1) * NUMPY.float32(turn)
            tried = near((-step / peaks)[..., None] * x, -half, half - 1)
            lx, l2 = sums(tried)
            better = (l2 > 0) & (lx * lx > best * l2)
            codes = NUMPY.where(better[..., None], tried, codes)
            scale = NUMPY.where(better, lx / l2, scale)
            best = NUMPY.where(better, scale * lx, best)
    flat = NUMPY.abs(peaks) < NUMPY.float32(1e-15)
    codes = NUMPY.where(flat[..., None], 0, codes + half)
    return NUMPY.where(flat, NUMPY.float32(0), scale), codes


def improve_threes(x: Any, weights: Any, codes: Any, lx: Any, l2: Any) -> tuple[Any, Any]:
    """Change single codes of Q3_K while that helps, at most five times over; returns the sums."""
    going = NUMPY.ones(lx.shape, bool)
    for _ in range(5):
        changed = NUMPY.zeros(lx.shape, bool)
        for k in range(16):
            w, value, now = weights[..., k], x[..., k], codes[..., k].astype(NUMPY.float32)
            less, less2 = lx - w * value * now, l2 - w * now * now
            other = near(value * less2 / less, -4, 3)
            moves = going & (less > 0) & (other != codes[..., k])
            number = other.astype(NUMPY.float32)
            more, more2 = less + w * value * number, less2 + w * number * number
            moves &= (more2 > 0) & (more * more * l2 > lx * lx * more2)
            codes[..., k] = NUMPY.where(moves, other, codes[..., k])
            lx, l2 = NUMPY.where(moves, more, lx), NUMPY.where(moves, more2, l2)
            changed |= moves
        going &= changed
    return lx, l2


def derive_bytes(  # noqa: PLR0917
    payload: bytes, at: int, x: Any, dtype: str, kind: int, position: int
) -> bytes:
    """Return 8-bit numbers: values divided by their scale and rounded, plus the differences."""
    if kind != 16 or len(payload) < at + 16:
        raise DamageError("a derived frame is of an unknown kind")
    columns, rows_together, columns_together = struct.unpack_from("<QII", payload, at)
    if columns >> 48:
        raise DamageError("a derived frame has too long rows")
    across = -(-columns // columns_together) if columns and columns_together else 1
    rows, places = NUMPY.divmod(
        position + NUMPY.arange(len(x), dtype=NUMPY.int64), columns or 1 << 62
    )
    groups = NUMPY.zeros(len(x), NUMPY.int64)
    if columns and rows_together:
        first = position // columns // rows_together
        groups = (rows // rows_together - first) * across
    if columns and columns_together:
        groups = groups + places // columns_together
    last = (
        (position + max(len(x), 1) - 1) // columns // rows_together
        if columns and rows_together
        else 0
    )
    count = across * (
        1 + last - (position // columns // rows_together if columns and rows_together else 0)
    )
    if count > max(len(x), 1):
        raise DamageError("a derived frame has more scales than elements")
    header, residual = read_tables(payload, at + 16, 5 * count, len(x))
    table = header.reshape(count, 5)
    scaled = x / NUMPY.ascontiguousarray(table[:, :4]).view("<f4")[:, 0][groups]
    if dtype in ("I8", "U8"):
        zero = table[:, 4].view(NUMPY.int8 if dtype == "I8" else NUMPY.uint8)[groups]
        low = -128 if dtype == "I8" else 0
        codes = near(NUMPY.rint(scaled) + zero.astype(NUMPY.float32), low, low + 255)
    else:
        codes = round_eighths(scaled, *((3, 7, 0x7E) if dtype == "F8_E4M3" else (2, 15, 0x7B)))
    return bytes((codes + residual).astype(NUMPY.uint8).tobytes())


def round_eighths(x: Any, mantissa: int, bias: int, largest: int) -> Any:
    """Return FP8 codes: the nearest, ties to even, the largest finite one beyond it."""
    bits = x.view(NUMPY.uint32)
    size, drop = bits & NUMPY.uint32(0x7FFFFFFF), 23 - mantissa
    normal = (size + NUMPY.uint32((1 << (drop - 1)) - 1) + (size >> drop & 1)) >> drop
    normal = normal.astype(NUMPY.int64) - ((127 - bias) << mantissa)
    few = NUMPY.minimum(NUMPY.abs(x), NUMPY.float32(1)) * NUMPY.float32(
        2.0 ** (bias - 1 + mantissa)
    )
    few = NUMPY.rint(NUMPY.where(NUMPY.isnan(few), NUMPY.float32(0), few)).astype(NUMPY.int64)
    small = size < NUMPY.uint32((128 - bias) << 23)
    codes = NUMPY.minimum(NUMPY.where(small, few, normal), largest)
    codes = NUMPY.where(size > 0x7F800000, 0x7F, codes)
    return codes | (bits >> 24 & 0x80).astype(NUMPY.int64)


# --- packs and records ----------------------------------------------------------------------------


class Record(NamedTuple):
    """A record: its payload decodes to ``[position, position + length)`` of ``total`` bytes."""

    pack: Path
    at: int  # where this header begins, behind the payload
    size: int  # of the header
    kind: int
    encoding: int
    offset: int  # where the payload begins
    end: int  # and where it ends
    position: int
    length: int
    total: int
    digest: bytes  # BLAKE3 of the whole object
    frame_bytes: int  # decoded; the last frame is shorter
    frames: tuple[tuple[int, int], ...]  # stored bytes and checksum of each frame
    recipe: int = 0  # version of the encoding
    bases: tuple[bytes, ...] = ()  # digests of the atoms that it is predicted from
    params: bytes = b""  # and how: a plan


Index = dict[tuple[int, bytes], list[Record]]  # by kind and digest; without the frames
Chain = tuple[bytes, ...]  # the atoms that need what is read as a base


def aligned(value: int, step: int = 8) -> int:
    """Return ``value`` rounded up to a multiple of ``step``."""
    return -(-value // step) * step


def read_exactly(file: BinaryIO, at: int, length: int) -> bytes:
    """Return bytes of a pack; an end too early or a disk error is damage like any other."""
    try:
        file.seek(at)
        content = file.read(length)
    except (OSError, OverflowError, ValueError) as error:  # the last: a place beyond 2^63
        raise DamageError(f"cannot be read at {at}: {error}") from error
    if len(content) != length:
        raise DamageError(f"ends before byte {at + length}")
    return content


def read_record(file: BinaryIO, at: int) -> Record:
    """Read the record header at ``at``; raises DamageError when there is no sound one."""
    fixed = read_exactly(file, at, RECORD.size)
    (magic, size, kind, encoding, recipe, _flags, offset, stored, position, length, total, digest,
     frame_bytes, frame_count, base_count, param_bytes) = RECORD.unpack(fixed)  # fmt: skip
    table = RECORD.size + 32 * base_count + param_bytes
    if (
        magic != b"HREC"
        or size != aligned(table + FRAME.size * frame_count + CHECK.size)
        or size > MAX_HEADER_BYTES
        or not 0 < frame_bytes <= MAX_FRAME_BYTES
        or frame_count != -(-length // frame_bytes)
        or position + length > total
    ):
        raise DamageError(f"there is no sound record header at {at}")
    body = fixed + read_exactly(file, at + RECORD.size, size - RECORD.size)
    cut = RECORD.size + 32 * base_count
    bases = tuple(body[k : k + 32] for k in range(RECORD.size, cut, 32))
    frames = tuple(FRAME.iter_unpack(body[table : table + FRAME.size * frame_count]))
    sound = checksum_fits(body[:-8], CHECK.unpack(body[-8:])[0])
    if not sound or sum(frame[0] for frame in frames) != stored:
        raise DamageError(f"the record header at {at} is damaged")
    return Record(
        Path(file.name), at, size, kind, encoding, offset, offset + stored,
        position, length, total, digest, frame_bytes, frames, recipe, bases, body[cut:table],
    )  # fmt: skip


def read_contents(file: BinaryIO, size: int) -> Iterator[Record]:
    """Yield the records of the table of contents; each header there has a checksum of its own."""
    content = read_exactly(file, max(0, size - FOOTER.size), FOOTER.size)
    magic, at, length, count, _, _, check = FOOTER.unpack(content)
    if magic != b"HARTTOC1" or not checksum_fits(content[:-8], check):
        raise DamageError("the footer is damaged")
    end = at + length
    for _ in range(count if end + FOOTER.size == size else 0):
        record = read_record(file, at)
        yield record
        at += record.size
    if at != end or end + FOOTER.size != size:
        raise DamageError("the table of contents does not fit the footer")


def walk(file: BinaryIO, size: int) -> Iterator[Record]:
    """Salvage: yield the records whose headers lie behind their payloads, table or no table.

    What is left of the table of contents is met on the way: its entries are copies of the headers.
    """
    at = find_magic(file, PACK_HEADER.size, size)
    while at + RECORD.size + CHECK.size <= size:
        try:
            record = read_record(file, at)
            if aligned(record.end) != at and record.end > at:
                raise DamageError(f"the record header at {at} points to a wrong place")
        except DamageError:
            at = find_magic(file, at + 8, size)
            continue
        yield record
        at = find_magic(file, at + record.size, size)


def find_magic(file: BinaryIO, at: int, size: int) -> int:
    """Return the next place where a record header may begin, or ``size``."""
    for start in range(at, size, SCAN_BYTES):
        try:
            window = read_exactly(file, start, min(SCAN_BYTES, size - start))
        except DamageError:  # an unreadable sector: go on behind it
            continue
        hit = window.find(b"HREC")
        while hit > 0 and hit % 8:
            hit = window.find(b"HREC", hit + 1)
        if hit >= 0:
            return start + hit
    return size


def open_at_once(path: str, flags: int) -> int:
    """Open a plain file; refuses what else lies there, and never waits for a pipe's other end."""
    if not Path(path).is_file():
        raise RefusedError("it is no plain file")
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_pack(path: Path) -> list[Record]:
    """Return every record of a pack; reads nothing but headers."""
    with open(path, "rb", opener=open_at_once) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            start = read_exactly(file, 0, PACK_HEADER.size)
            magic, version, _, required, *_ = PACK_HEADER.unpack(start)
            if magic == b"HARTPACK" and (version != 1 or required & ~FEATURE_BITS):
                raise RefusedError(f"it needs format version {version} and features {required:#x}")
            if magic != b"HARTPACK":
                raise DamageError("it does not begin like a pack")
            return list(read_contents(file, size))
        except DamageError as damage:
            say("DAMAGED", f"{path.name}: {damage}; reading what is left of it")
        return list({record.offset: record for record in walk(file, size)}.values())


def read_store(store: Path) -> Index:
    """Find the records of all packs; refuses what is no store or needs a newer program."""
    if not (store / "packs").is_dir():
        raise RefusedError(f"{store} is no store: it has no folder named packs")
    try:
        with open(store / "store.json", "rb", opener=open_at_once) as file:
            card = json.loads(file.read(SCAN_BYTES))
        version, needed = card["version"], card["required_features"]
    except (RefusedError, OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        say("NOTE", f"store.json cannot be read, going on with the packs: {error!r}")
        version, needed = 1, []
    if version != 1 or set(needed) - FEATURES:
        raise RefusedError(
            f"the store needs a newer rescue.py: version {version}, features {needed}"
        )
    index: Index = defaultdict(list)
    for path in sorted((store / "packs").rglob("*.pack")):
        try:
            for record in read_pack(path):
                plain = record._replace(frames=(), bases=(), params=b"")
                index[record.kind, record.digest].append(plain)
        except (RefusedError, OSError) as problem:
            say("DAMAGED", f"{path.name} was left out: {problem}")
    return index


def read_frame(file: BinaryIO, record: Record, number: int, offset: int) -> bytes:
    """Return a frame as it is stored, checked; DamageError where it is not what it should be."""
    stored, check = record.frames[number]
    length = frame_length(record, number)
    if stored > length or (record.encoding == RAW and stored < length):
        raise DamageError(f"the frame at {offset} has a wrong size")
    content = read_exactly(file, offset, stored)
    if not checksum_fits(content, check):
        raise DamageError(f"the frame at {offset} fails its checksum")
    return content


def frame_length(record: Record, number: int) -> int:
    """Return how many bytes a frame decodes to."""
    return min(record.frame_bytes, record.length - number * record.frame_bytes)


def decode_frames(
    index: Index, record: Record, numbers: range, frames: list[bytes], chain: Chain
) -> list[Any]:
    """Decode frames; returns the bytes of each, or the DamageError it has. Raw ones pass."""
    out: list[Any] = list(frames)
    lengths = [frame_length(record, number) for number in numbers]
    coded = [k for k, frame in enumerate(frames) if len(frame) < lengths[k]]
    if record.encoding in (DELTA, DERIVED) and coded:
        numbers_of = [numbers[k] for k in coded]
        some = decode_predicted(index, record, numbers_of, [frames[k] for k in coded], chain)
        for k, content in zip(coded, some):
            out[k] = content
    elif record.encoding == FIELDS and coded:
        some = decode_fields([frames[k] for k in coded], [lengths[k] for k in coded])
        for k, content in zip(coded, some):
            out[k] = content
    elif record.encoding == ZSTD:
        for k in coded:
            out[k] = decode_zstd(frames[k], lengths[k] + 1)
    return out


def decode_predicted(
    index: Index, record: Record, numbers: list[int], payloads: list[bytes],
    chain: Chain,
) -> list[Any]:  # fmt: skip
    """Decode frames of which a prediction is computed from the record's bases."""
    try:
        plan = json.loads(record.params)
        dtype, operands = str(plan["dtype"]), len(plan["operands"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise DamageError(f"a plan is damaged: {error!r}") from error
    if not 0 < operands == len(record.bases) <= MAX_BASES:
        raise DamageError("a plan does not fit its bases")
    chain = (*chain, record.digest)

    def read(operand: int, start: int, stop: int) -> bytes:
        return read_base(index, record.bases[operand], start, stop, chain)

    prediction = Prediction(plan, read)
    starts = [record.position + number * record.frame_bytes for number in numbers]
    ends = [at + frame_length(record, number) for at, number in zip(starts, numbers)]
    if (record.encoding == DELTA) is not (dtype in FLOAT_TARGETS):
        raise DamageError("a plan is for another encoding")
    if record.encoding == DELTA:
        known = [prediction.bytes_of(at, end) for at, end in zip(starts, ends)]
        return decode_deltas(payloads, known, dtype)
    return [
        decode_derived(payload, prediction, dtype, at, end)
        for payload, at, end in zip(payloads, starts, ends)
    ]


def decode_derived(payload: bytes, prediction: Prediction, dtype: str, at: int, end: int) -> Any:
    """Decode bytes ``[at, end)`` of a quantised tensor; returns them, or the DamageError it has."""
    elements, block = QUANTISED[dtype][5:] if dtype in QUANTISED else (1, 1)
    first = aligned(at, block) // block
    source = prediction.elements(first * elements, max(first, end // block) * elements)
    try:
        return decode_quantised(payload, source, dtype, at, end - at)
    except DamageError as damage:
        return damage


KEPT_BASES: dict[bytes, bytes] = {}


def read_base(index: Index, digest: bytes, start: int, stop: int, chain: Chain) -> bytes:
    """Return bytes of an atom that others are predicted from; DamageError where some are lost."""
    if digest in chain or len(chain) > MAX_CHAIN:
        raise DamageError(f"the atom {digest.hex()} needs itself, or too many bases")
    if digest in KEPT_BASES:
        return KEPT_BASES[digest][start:stop]
    copies = index.get((EXTENT, digest), [])
    total = max((copy.total for copy in copies), default=0)
    if not 0 <= start <= stop <= total:
        raise DamageError(f"the base {digest.hex()} is missing or too short")
    for turn in range(len(copies)):
        keep = total <= KEPT_BASE_BYTES // 4
        low, high = (0, total) if keep else (start, stop)
        content = bytearray()
        for size, piece in read_object(index, copies, total, turn, chain=chain, at=low):
            if not piece and size:
                break
            content += piece
            if len(content) >= high - low:
                break
        if len(content) < high - low:
            continue
        if not keep:
            return bytes(content[: high - low])
        if BLAKE3 and BLAKE3.blake3(content).digest() != digest:
            continue
        while KEPT_BASES and sum(map(len, KEPT_BASES.values())) + total > KEPT_BASE_BYTES:
            del KEPT_BASES[next(iter(KEPT_BASES))]
        KEPT_BASES[digest] = bytes(content)
        return KEPT_BASES[digest][start:stop]
    raise DamageError(f"the base {digest.hex()} cannot be read")


def read_frames(index: Index, record: Record, at: int, chain: Chain = ()) -> Iterator[bytes]:
    """Yield decoded bytes from ``at`` of the object on; DamageError at the first bad frame."""
    with record.pack.open("rb") as file:
        record = read_record(file, record.at)
        if RECIPES.get(record.encoding, -1) != record.recipe and record.encoding > ZSTD:
            raise DamageError(f"the encoding {record.encoding} needs a newer rescue.py")
        first, skip = divmod(at - record.position, record.frame_bytes)
        offset = record.offset + sum(stored for stored, _ in record.frames[:first])
        together = max(1, BATCH_BYTES // record.frame_bytes) if record.encoding > ZSTD else 1
        for start in range(first, len(record.frames), together):
            numbers = range(start, min(start + together, len(record.frames)))
            frames: list[bytes] = []
            fault: DamageError | None = None
            places = [offset]
            for number in numbers:
                try:
                    frames.append(read_frame(file, record, number, offset))
                except DamageError as damage:  # those before it are still good
                    fault = damage
                    break
                offset += record.frames[number][0]
                places.append(offset)
            lengths = [frame_length(record, number) for number in numbers]
            for content, length, place in zip(
                decode_frames(index, record, numbers, frames, chain), lengths, places
            ):
                if isinstance(content, DamageError):
                    raise DamageError(f"the frame at {place}: {content}")
                if len(content) != length:
                    raise DamageError(f"the frame at {place} does not decode to its length")
                yield content[skip:]
                skip = 0
            if fault:
                raise fault


def read_object(
    index: Index, copies: list[Record], total: int, turn: int, *, chain: Chain = (), at: int = 0
) -> Iterator[tuple[int, bytes]]:
    """Yield (length, bytes) of an object in order, without bytes where no copy holds them.

    ``turn`` says which copy to prefer where there are several; the others fill its gaps.
    """
    copies = [copy for copy in copies if copy.total == total]
    while at < total:
        start = at
        here = [copy for copy in copies if copy.position <= at < copy.position + copy.length]
        for number in range(len(here)):
            copy = here[(number + turn) % len(here)]
            try:
                for piece in read_frames(index, copy, at, chain):
                    yield len(piece), piece
                    at += len(piece)
            except (DamageError, OSError) as damage:
                say("DAMAGED", f"{copy.pack.name}: {damage}")
            if at > start:
                break
        if at == start:  # go on behind the bad frame, or where another copy begins
            ends = [at + c.frame_bytes - (at - c.position) % c.frame_bytes for c in here]
            ends += [c.position + c.length for c in here]
            ends += [c.position for c in copies if c.position > at]
            at = min([*ends, total])
            yield at - start, b""


def has_too_many_values(content: bytes) -> bool:
    """Say whether a JSON text would become more objects than memory should have to hold."""
    marks, count, outside = (b",", b"[", b"{"), 0, 0
    if sum(map(content.count, marks)) <= MAX_JSON_VALUES:
        return False
    plain = content.replace(rb"\\", b"").replace(rb"\"", b"")  # now every quote ends or begins
    for start in range(0, len(plain), SCAN_BYTES):
        parts = plain[start : start + SCAN_BYTES].split(b'"')
        count += sum(map(b"".join(parts[outside::2]).count, marks))
        outside ^= len(parts) % 2 == 0
    return count > MAX_JSON_VALUES


def read_json(index: Index, kind: int, digest: bytes) -> dict[str, Any]:
    """Return the JSON object of a manifest, commit or change; raises Damage."""
    copies = index.get((kind, digest), [])
    for turn, copy in enumerate(copies):
        if copy.total > MAX_JSON_BYTES:
            continue
        content = b"".join(piece for _, piece in read_object(index, copies, copy.total, turn))
        if BLAKE3 and BLAKE3.blake3(content).digest() != digest:
            continue
        if has_too_many_values(content):
            continue
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and found.get("version") == 1:
            return found
    raise DamageError(f"a record of kind {kind} is missing or damaged: {digest.hex()}")


# --- names, versions and labels: commits and changes in their order -------------------------------


class State:
    """What the store holds after the commits and changes that were applied."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}  # artifact → name
        self.named: dict[str, str] = {}  # name → the artifact that got it last
        self.uids: dict[str, list[str]] = defaultdict(list)  # artifact → versions, also purged ones
        self.versions: dict[str, dict[str, Any]] = {}  # version → commit
        self.labels: dict[tuple[str, str], str] = {}  # artifact, label → version or nothing
        self.trash: set[str] = set()  # versions that were removed
        self.changes: dict[int, dict[str, Any]] = {}  # by number: an undo names one

    def apply(self, entry: dict[str, Any]) -> None:
        """Apply one commit or change; an unknown action changes nothing."""
        if entry["kind"] == "commit":
            name = str(entry["name"])  # first: one without it changes nothing
            self.versions[entry["uid"]] = entry
            self.uids[entry["artifact"]].append(entry["uid"])
            self.give_name(entry["artifact"], name)
            for label in entry["labels"]:
                self.labels[entry["artifact"], label] = entry["uid"]
            return
        self.changes[entry["seq"]] = entry
        back = False
        while entry["action"] == "undo":  # the undoing of an undoing does it again
            if entry["of"] >= entry["seq"] or entry["of"] not in self.changes:
                return
            entry, back = self.changes[entry["of"]], not back
        action = entry["action"]
        if action in ("label", "unlabel"):
            after = entry["version_uid"] if action == "label" else ""
            uid = entry["previous_uid"] if back else after
            self.labels[entry["artifact"], entry["label"]] = "" if uid in self.trash else uid or ""
        elif action == "rename":
            self.give_name(entry["artifact"], str(entry["previous_name" if back else "name"]))
        elif action == "remove":
            (self.trash.difference_update if back else self.trash.update)(entry["version_uids"])
            back_again = {self.versions[one]["artifact"] for one in entry["version_uids"] if back
                          and one in self.versions}  # fmt: skip
            for artifact in sorted(back_again):
                self.give_name(artifact, self.names[artifact])
            for lost in entry["labels"]:
                key, uid = (lost["artifact"], lost["label"]), lost["version_uid"]
                gone = uid not in self.versions and not back  # with what gave it the label
                if gone or self.labels.get(key, "") in ("", uid):  # else another version has it
                    self.labels[key] = uid if back else ""
        elif action == "drop-members" and entry["version_uid"] in self.versions:
            version = self.versions[entry["version_uid"]]
            paths = {member["path"] for member in entry["members"]}
            kept = [member for member in version["members"] if member["path"] not in paths]
            version["members"] = kept + (entry["members"] if back else [])
        elif action == "renumber" and entry["version_uid"] in self.versions:
            self.versions[entry["version_uid"]]["number"] = int(entry["number"])
        elif action == "purge" and not back:
            for uid in entry["version_uids"]:
                self.versions.pop(uid, None)

    def is_live(self, artifact: str) -> bool:
        """Say whether an artifact has a version that is not in the trash."""
        uids = self.uids[artifact]
        return any(uid in self.versions and uid not in self.trash for uid in uids)

    def give_name(self, artifact: str, name: str) -> None:
        """Give a name, and another one to whatever has it: as hart repair does.

        A store never gives a name that is in use, so the record that took it away was lost.
        """
        self.names[artifact] = name
        if not self.is_live(artifact):
            return
        other = self.named.get(name, artifact)
        if other != artifact and self.names[other] == name and self.is_live(other):
            self.give_name(other, f"recovered/{name}~{other[:8]}")
        self.named[name] = artifact

    def selected(self, name: str, every: bool, removed: bool) -> list[tuple[str, dict[str, Any]]]:
        """Return (name, commit): the newest version of each artifact of that name, or every one."""
        kept: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for uid, version in self.versions.items():
            if removed or uid not in self.trash:
                kept[version["artifact"]].append(version)
        chosen = []
        for artifact, versions in kept.items():
            versions.sort(key=lambda version: (version["number"], version["seq"]))
            if name in ("", self.names[artifact]):
                picked = versions if every else versions[-1:]
                chosen += [(self.names[artifact], version) for version in picked]
        return sorted(chosen, key=lambda item: (item[0], item[1]["number"]))


def check_entry(entry: dict[str, Any]) -> None:
    """Raise TypeError or LookupError when a commit or change lacks what is relied on below."""
    numbers, texts = [entry["seq"], entry["time_us"]], [entry["kind"]]
    if entry["kind"] == "commit":
        numbers += [entry["number"]]
        texts += [entry["artifact"], entry["uid"], entry["digest"], *entry["labels"]]
    for member in entry["members"] if entry["kind"] == "commit" else entry.get("members", []):
        numbers += [member["mode"], member["modified_us"], member["size"]]
        texts += [member["path"], member["manifest"]]
    if not all(isinstance(x, int) for x in numbers) or not all(isinstance(x, str) for x in texts):
        raise TypeError("a field has a wrong type")


def replay(index: Index) -> State:
    """Apply all commits and changes in the order of (seq, time, digest)."""
    entries = []
    for kind, digest in [key for key in index if key[0] in (COMMIT, CHANGE)]:
        try:
            entry = read_json(index, kind, digest)
            check_entry(entry)
            entries.append((entry["seq"], entry["time_us"], digest, entry))
        except (DamageError, LookupError, TypeError) as problem:
            say("DAMAGED", f"a commit or change cannot be read: {problem}")
    newest: dict[int, int] = {}
    for seq, time_us, *_ in entries:
        newest[seq] = max(time_us, newest.get(seq, time_us))
    # Two of one number: the earlier was never acknowledged, nor was anything else of its time.
    never = {time_us for seq, time_us, *_ in entries if time_us < newest[seq]}
    state = State()
    for _, time_us, digest, entry in sorted(entries, key=lambda item: item[:3]):
        try:
            if time_us in never and entry["kind"] != "commit":
                continue
            if time_us in never:  # an artifact of its own
                name = f"recovered/{entry['name']}@{entry['number']}"
                entry = {**entry, "artifact": entry["uid"], "name": name, "labels": []}
            state.apply(entry)
        except (LookupError, TypeError) as problem:
            say("DAMAGED", f"the change {digest.hex()} cannot be applied: {problem!r}")
    return state


# --- files ----------------------------------------------------------------------------------------


def read_manifest(index: Index, manifest: str) -> tuple[list[tuple[int, bytes, bytes]], bytes]:
    """Return a file's segments (length, digest or nothing, inline bytes) and its SHA-256."""
    try:
        found = read_json(index, MANIFEST, bytes.fromhex(manifest))
        segments = []
        for length, *held in found["segments"]:
            digest, inline = (base64.b64decode(text or "") for text in (*held, None, None)[:2])
            if length <= 0 or (not digest and len(inline) != length):
                raise DamageError("a segment of the manifest makes no sense")
            segments.append((length, digest, inline))
        if sum(segment[0] for segment in segments) != found["size"]:
            raise DamageError("the manifest's segments do not add up")
        return segments, base64.b64decode(found["sha256"])
    except (LookupError, TypeError, ValueError) as error:
        raise DamageError(f"the manifest cannot be understood: {error!r}") from error


def rebuild(index: Index, manifest: str, out: BinaryIO) -> bool:
    """Write a file from its segments; return whether its SHA-256 is right. Lost bytes are holes."""
    segments, expected = read_manifest(index, manifest)
    copies = [index.get((EXTENT, digest), []) for _, digest, _ in segments]
    for turn in range(min(8, max([1, *map(len, copies)]))):  # right checksum, wrong content?
        out.seek(0)
        hasher = hashlib.sha256()
        for (length, digest, inline), places in zip(segments, copies):
            pieces = read_object(index, places, length, turn) if digest else [(length, inline)]
            for size, piece in pieces:
                hasher.update(piece)
                out.write(piece)
                out.seek(size - len(piece), os.SEEK_CUR)
        if hasher.digest() == expected:
            if turn:
                say("DAMAGED", "one copy of an atom has wrong content, another copy served")
            return True
    return False


def safe_parts(member: dict[str, Any]) -> list[str]:
    """Return the parts of a member's path; DamageError if they could lead out of a folder."""
    path = member["path"]
    if member.get("raw_path") and os.name == "posix":  # a name on disk that was no UTF-8
        path = os.fsdecode(base64.b64decode(member["raw_path"]))
    strange = {"\0"} if os.name == "posix" else {"\0", "\\", ":"}
    parts: list[str] = path.split("/")
    if any(part in ("", ".", "..") or strange & set(part) for part in parts):
        raise DamageError("the path is refused, it could lead out of the output folder")
    return parts


def restore_file(index: Index, member: dict[str, Any], root: Path) -> bool:
    """Write one file under ``root``; what cannot be made whole gets the ending ``.damaged``."""
    target = root.joinpath(*safe_parts(member))
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(prefix=".rescue-", dir=target.parent)
    try:
        with open(handle, "wb") as out:
            good = rebuild(index, member["manifest"], out)
            out.truncate()
        if not good:
            say("DAMAGED", f"{target} is not what it was; what is lost of it is zero")
            target = target.with_name(fitting(target.name, 247) + ".damaged")
        os.utime(draft, ns=(member["modified_us"] * 1000, member["modified_us"] * 1000))
        os.chmod(draft, member["mode"] & 0o777)
        if os.path.lexists(target):
            raise FileExistsError(f"{target} is there already and is not overwritten")
        os.rename(draft, target)
    finally:
        Path(draft).unlink(missing_ok=True)
    return good


def fitting(part: str, most: int) -> str:
    """Return a name of at most so many bytes; a longer one is cut and closed by its SHA-256."""
    raw = os.fsencode(part)
    if len(raw) <= most:
        return part
    return raw[: most - 17].decode(errors="ignore") + "~" + hashlib.sha256(raw).hexdigest()[:16]


def folder_name(name: str, uid: str, taken: set[str]) -> str:
    """Return the folder of a version: its name made harmless, and not used before.

    A part that is too long for a disk is cut as hart get and hart export cut it.
    """
    clean = "".join(c if c.isprintable() and c not in "\\:" else "_" for c in name)
    parts = [part if part.strip(".") else "_" for part in clean.split("/") if part] or ["_"]
    *above, last = parts
    mark, used = "~" + hashlib.sha256(ascii(uid).encode()).hexdigest()[:8], ""
    while True:
        cut = fitting(last, 255 - len(used)) + used
        folder = "/".join([*(fitting(part, 255) for part in above), cut])
        if folder.casefold() not in taken:
            break
        used += mark
    taken.add(folder.casefold())
    return folder


def restore(index: Index, state: State, options: argparse.Namespace) -> None:
    """Write the newest versions, or those asked for, as plain files under OUT/NAME/."""
    chosen = state.selected(options.name, options.all_versions, options.include_removed)
    if not chosen:
        say("FAILED", "no version of that name was found")
    taken: set[str] = set()
    done = 0
    for name, version in chosen:
        name += f"@{version['number']}" if options.all_versions else ""
        root = options.out / folder_name(name, version["uid"], taken)
        for member in version["members"]:
            try:
                done += restore_file(index, member, root)
            except DamageError as damage:
                say("DAMAGED", f"{name}: {member['path']}: {damage}")
            except (OSError, ValueError, TypeError, OverflowError) as error:
                say("FAILED", f"{name}: {member['path']}: {error}")
    print(f"{done} files restored, each right by its SHA-256")


def show(index: Index, state: State, options: argparse.Namespace) -> None:
    """Print a line for each version, the removed ones too."""
    for name, version in state.selected("", True, True):
        members = version["members"]
        size = sum(member["size"] for member in members)
        about = f"{name}@{version['number']}  {size} bytes  {len(members)} files"
        labels = [key[1] for key, uid in state.labels.items() if uid == version["uid"]]
        removed = ["(removed)"] * (version["uid"] in state.trash)
        print(shown("  ".join([about, *sorted(labels), *removed])))


def verify(index: Index, state: State, options: argparse.Namespace) -> None:
    """Decode every record and rebuild every file of every version, keeping nothing."""
    for (_, digest), copies in index.items():
        for copy in copies:
            hasher = BLAKE3.blake3() if BLAKE3 and copy.length == copy.total else None
            try:
                for piece in read_frames(index, copy, copy.position):
                    if hasher:
                        hasher.update(piece)
                if hasher and hasher.digest() != digest:
                    raise DamageError(f"the record at {copy.at} has wrong content")
            except (DamageError, OSError) as damage:
                say("DAMAGED", f"{copy.pack.name}: {damage}")
    files = {m["manifest"]: (v, m) for v in state.versions.values() for m in v["members"]}
    for version, member in files.values():
        try:
            with open(os.devnull, "wb") as nowhere:
                if not rebuild(index, member["manifest"], nowhere):
                    raise DamageError("its SHA-256 is wrong")
        except (DamageError, OSError, ValueError, OverflowError) as problem:
            say("DAMAGED", f"{version['name']}: {member['path']}: {problem}")
    print(f"{sum(map(len, index.values()))} records and {len(files)} files verified")


def main() -> int:
    """Do what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(description="Read a Hartonomous store from its packs alone.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, work in (("list", show), ("restore", restore), ("verify", verify)):
        command = commands.add_parser(name, help=work.__doc__)
        command.set_defaults(work=work)
        command.add_argument("store", nargs="?", type=Path, default=Path(__file__).resolve().parent)
        if name == "restore":
            command.add_argument("out", type=Path)
            command.add_argument("--name", default="", help="only this artifact")
            command.add_argument("--all-versions", action="store_true", help="as NAME@NUMBER")
            command.add_argument("--include-removed", action="store_true", help="the trash too")
    options = parser.parse_args()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    for package, module in (("blake3", BLAKE3), ("xxhash", XXHASH)):
        if module is None:
            say("NOTE", f"no {package} here: files are checked by SHA-256; pip install {package}")
    try:
        index = read_store(options.store)
        options.work(index, replay(index), options)
    except RefusedError as problem:
        say("FAILED", str(problem))
    return 4 if FOUND["DAMAGED"] else 1 if FOUND["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
