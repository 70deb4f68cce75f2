"""Frames of one record: encoded for a pack, decoded from it."""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from hartonomous.codecs.choice import codec_for
from hartonomous.core.digest import checksum, digest
from hartonomous.core.record import FRAME_BYTES, Encoding, RecordHeader
from hartonomous.errors import IntegrityError, UnsupportedStoreError
from hartonomous.packs.pack_file import PackReader

WORTH = 0.98
"""A frame stays raw unless its encoding is under this part of its size."""


class EncodedFrame(msgspec.Struct, frozen=True, gc=False):
    """A frame's bytes for the pack; raw where ``len(payload) == length``."""

    payload: bytes | memoryview
    length: int
    check: int


def encode_frame(
    frame: bytes | memoryview, encoding: Encoding, dtype: str | None, *, check: bool
) -> EncodedFrame:
    """Encode one frame; with ``check``, decode it again and compare.

    Raises IntegrityError when the codec does not give back what it was given.
    """
    size = len(frame)
    if encoding is not Encoding.RAW:
        codec = codec_for(encoding)
        payload = codec.encode(memoryview(frame), dtype)
        if payload is not None and len(payload) < WORTH * size:
            if check:
                back = bytearray(size)
                codec.decode_into(memoryview(payload), memoryview(back), b"")
                # A bytearray on the left compares whole; two views are compared byte by byte.
                if back != frame:  # type: ignore[comparison-overlap]  # bytes all the same
                    raise IntegrityError(
                        f"the {encoding.name.lower()} codec did not give back what it was given",
                        hint="this is a fault of the program or the machine's memory; report it",
                    )
            return EncodedFrame(payload, size, checksum(payload))
    return EncodedFrame(frame, size, checksum(frame))


class FrameWork(msgspec.Struct, frozen=True, gc=False):
    """A frame to encode; with ``expected``, only if that is its digest."""

    frame: bytes | memoryview
    encoding: Encoding
    dtype: str | None = None
    expected: bytes | None = None


def encode_frames(work: Sequence[FrameWork], *, check: bool) -> list[EncodedFrame | None]:
    """Encode several frames as one piece of work for a thread; None for one of another digest."""
    return [
        encode_frame(one.frame, one.encoding, one.dtype, check=check)
        if one.expected is None or digest(one.frame) == one.expected
        else None
        for one in work
    ]


def split_frames(content: bytes) -> Iterator[memoryview]:
    """Yield the frames of a small object held in memory."""
    view = memoryview(content)
    for start in range(0, len(view), FRAME_BYTES):
        yield view[start : start + FRAME_BYTES]


def decode_record_into(pack: PackReader, header: RecordHeader, start: int, out: memoryview) -> None:
    """Fill ``out`` with the record's decoded bytes ``[start, start + len(out))``.

    ``start`` counts from the record's own first byte. Frames are checked as they are read.
    """
    stop = start + len(out)
    if start < 0 or stop > header.length:
        raise ValueError(f"[{start}, {stop}) is outside the record's {header.length} bytes")
    if not len(out):
        return
    first, last = start // header.frame_bytes, (stop - 1) // header.frame_bytes
    stored = header.frames["stored"]
    at = int(np.sum(stored[:first], dtype=np.uint64)) if first else 0
    for index in range(first, last + 1):
        payload = pack.frame(header, index, at)
        at += len(payload)
        base = index * header.frame_bytes
        length = header.frame_length(index)
        low, high = max(start, base), min(stop, base + length)
        target = out[low - start : high - start]
        if len(payload) == length:
            target[:] = payload[low - base : high - base]
        elif high - low == length:
            _decode(header, payload, target)
        else:
            whole = bytearray(length)
            _decode(header, payload, memoryview(whole))
            target[:] = memoryview(whole)[low - base : high - base]


def _decode(header: RecordHeader, payload: memoryview, out: memoryview) -> None:
    if header.encoding == Encoding.RAW:
        raise IntegrityError("a raw record has a frame of another size than it should")
    if not isinstance(header.encoding, Encoding):
        raise UnsupportedStoreError(
            f"encoding {header.encoding} is unknown to this program",
            hint="read this store with a newer version of hartonomous",
        )
    codec_for(header.encoding, header.recipe).decode_into(payload, out, header.params)


def decode_record_whole(pack: PackReader, header: RecordHeader, *, limit: int) -> bytes:
    """Return a small record's decoded bytes; raises IntegrityError over ``limit`` bytes."""
    if header.length != header.total or header.length > limit:
        raise IntegrityError(f"a record of {header.total} bytes is more than the {limit} granted")
    out = bytearray(header.length)
    decode_record_into(pack, header, 0, memoryview(out))
    return bytes(out)
