"""Frames of one record: encoded for a pack, decoded from it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hartonomous.codecs.choice import codec_for
from hartonomous.core.digest import checksum, digest
from hartonomous.core.record import FRAME_BYTES, Encoding, RecordHeader
from hartonomous.errors import IntegrityError
from hartonomous.packs.frame_batch import FrameBatch, StoredRecord
from hartonomous.packs.pack_file import PackReader

WORTH = 0.98
"""A frame stays raw unless its encoding is under this part of its size."""


@dataclass(frozen=True, slots=True)
class EncodedFrame:
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


@dataclass(frozen=True, slots=True)
class FrameWork:
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


def decode_record_whole(pack: PackReader, header: RecordHeader, *, limit: int) -> bytes:
    """Return a small record's decoded bytes; raises IntegrityError over ``limit`` bytes."""
    if header.length != header.total or header.length > limit:
        raise IntegrityError(f"a record of {header.total} bytes is more than the {limit} granted")
    out = bytearray(header.length)
    batch = FrameBatch()
    batch.add(pack, StoredRecord(header), 0, memoryview(out))
    batch.decode()
    return bytes(out)
