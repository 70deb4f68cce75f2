"""Records and packs to the byte: the layout that docs/format.md specifies.

A pack is a 64-byte header, records, a table of contents and a 64-byte footer. A record is a payload
followed by its header, so that writing needs neither a buffer nor a second look; the table of
contents is the concatenation of all record headers. A pack whose end is lost can still be read by
looking for the headers, which start at multiples of 8 and carry a checksum. Integers are
little-endian.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TypeVar

import numpy as np

from hartonomous.core.digest import DIGEST_BYTES, Bytes, checksum
from hartonomous.errors import IntegrityError, UnsupportedStoreError

FORMAT_VERSION = 1
RAW_ALIGNMENT = 64
"""Raw payloads start at multiples of this, so that they can be mapped as arrays."""
HEADER_ALIGNMENT = 8
FRAME_BYTES = 256 * 1024
"""Decoded bytes of a frame; the last one of a payload is shorter."""
PACK_BYTES = 256 * 1024 * 1024
"""A pack is sealed when it reaches this size."""
MAX_HEADER_BYTES = 16 * 1024 * 1024
MAX_FRAME_BYTES = 16 * 1024 * 1024

PACK_MAGIC = b"HARTPACK"
FOOTER_MAGIC = b"HARTTOC1"
RECORD_MAGIC = b"HREC"

_PACK_HEADER = struct.Struct("<8sHHII16s16sQI")
_FOOTER = struct.Struct("<8sQQQQ16sQ")
_RECORD = struct.Struct("<4sIBBHIQQQQQ32sIIHH")
_CHECK = struct.Struct("<Q")
_SHORT_CHECK = struct.Struct("<I")
_FRAME = struct.Struct("<IQ")
FRAME_ENTRY = np.dtype([("stored", "<u4"), ("check", "<u8")])
PACK_HEADER_BYTES = FOOTER_BYTES = 64
MIN_RECORD_BYTES = _RECORD.size + _CHECK.size

_Number = TypeVar("_Number", bound=IntEnum)

VARIANTS_FEATURE = 1
"""Bit of packs with records that are predicted from other atoms (DELTA, DERIVED)."""
KNOWN_FEATURES = VARIANTS_FEATURE
"""Bits of required pack features that this program understands."""


class RecordKind(IntEnum):
    """What a record holds; numbers are never reused."""

    EXTENT = 1  # bytes of an atom, whole or in part
    MANIFEST = 2
    COMMIT = 3  # a version's name, members and source
    CHANGE = 4  # label, rename, removal, undo, purge …
    VECTORS = 5  # reserved
    RELATION = 6  # reserved


class Encoding(IntEnum):
    """How a payload's frames are encoded; numbers are never reused."""

    RAW = 0
    ZSTD = 1
    FIELDS = 2
    DELTA = 3  # what differs from a prediction of its bytes
    DERIVED = 4  # what quantising a prediction of its source leaves open
    ROWS = 5  # reserved


PREDICTED = frozenset({Encoding.DELTA, Encoding.DERIVED})
"""Encodings whose records name bases and, in their parameters, a plan (``core.plan``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordHeader:
    """One record: where its payload lies, how it is encoded, what it decodes to.

    ``digest`` is the BLAKE3 of the whole decoded object (``total`` bytes), of which this payload
    holds ``[position, position + length)``. ``frames`` has one entry a frame: stored bytes and
    their XXH3-64. A frame whose stored size equals its decoded size is raw.
    """

    kind: RecordKind | int  # a plain number where this program does not know it
    encoding: Encoding | int
    digest: bytes
    total: int
    position: int
    length: int
    frames: "np.ndarray[tuple[int], np.dtype[np.void]]"
    frame_bytes: int = FRAME_BYTES
    recipe: int = 0
    flags: int = 0
    offset: int = 0
    bases: tuple[bytes, ...] = ()
    params: bytes = b""

    @property
    def required(self) -> int:
        """Feature bits of a pack that holds this record."""
        return VARIANTS_FEATURE if self.encoding in PREDICTED else 0

    @property
    def stored(self) -> int:
        """Bytes of the payload in the pack."""
        # Most records have one frame, where numpy's own sum takes ten times as long.
        return sum(self.frames["stored"].tolist())

    def frame_length(self, index: int) -> int:
        """Decoded bytes of frame ``index``."""
        return min(self.frame_bytes, self.length - index * self.frame_bytes)

    def at(self, offset: int) -> "RecordHeader":
        """Return the same header for a payload at ``offset`` of its pack."""
        return replace(self, offset=offset)

    def encode(self) -> bytes:
        """Return the header's bytes, padded to a multiple of 8 and closed by its checksum."""
        return encode_record(
            kind=self.kind, encoding=self.encoding, recipe=self.recipe, flags=self.flags,
            offset=self.offset, stored=self.stored, position=self.position, length=self.length,
            total=self.total, digest=self.digest, frame_bytes=self.frame_bytes,
            frame_table=self.frames.tobytes(), bases=self.bases, params=self.params,
        )  # fmt: skip


def encode_frame_entry(stored: int, check: int) -> bytes:
    """Return one frame's entry in the frame table: its stored bytes and their XXH3-64."""
    return _FRAME.pack(stored, check)


def encode_record(
    *, kind: int, encoding: int, recipe: int, offset: int, stored: int, position: int, length: int,
    total: int, digest: bytes, frame_table: Bytes, frame_bytes: int = FRAME_BYTES, flags: int = 0,
    bases: tuple[bytes, ...] = (), params: bytes = b"",
) -> bytes:  # fmt: skip
    """Return a record header's bytes, padded to a multiple of 8 and closed by its checksum.

    The fields are those of ``RecordHeader``; ``frame_table`` is as it lies on disk, ``stored`` the
    sum of its sizes. Writing needs no array: most records have one frame.
    """
    needed = MIN_RECORD_BYTES + DIGEST_BYTES * len(bases) + len(params) + len(frame_table)
    size = _aligned(needed, HEADER_ALIGNMENT)
    fixed = _RECORD.pack(
        RECORD_MAGIC, size, kind, encoding, recipe, flags, offset, stored, position, length, total,
        digest, frame_bytes, len(frame_table) // _FRAME.size, len(bases), len(params),
    )  # fmt: skip
    body = b"".join((fixed, *bases, params, frame_table, bytes(size - needed)))
    return body + _CHECK.pack(checksum(body))


def decode_record(content: Bytes, at: int = 0) -> tuple[RecordHeader, int]:
    """Read the record header at ``at``; return it and the position after it.

    Raises IntegrityError when the bytes are no intact header.
    """
    view = memoryview(content)
    if len(view) - at < MIN_RECORD_BYTES:
        raise IntegrityError("a record header is cut short")
    (
        magic, size, kind, encoding, recipe, flags, offset, stored, position, length, total,
        name, frame_bytes, frame_count, base_count, param_bytes,
    ) = _RECORD.unpack_from(view, at)  # fmt: skip
    if magic != RECORD_MAGIC:
        raise IntegrityError("no record header at this place")
    needed = MIN_RECORD_BYTES + DIGEST_BYTES * base_count + param_bytes
    needed = _aligned(needed + FRAME_ENTRY.itemsize * frame_count, HEADER_ALIGNMENT)
    if size != needed or size > MAX_HEADER_BYTES or at + size > len(view):
        raise IntegrityError("a record header has a wrong size")
    body = view[at : at + size - _CHECK.size]
    if _CHECK.unpack_from(view, at + size - _CHECK.size)[0] != checksum(body):
        raise IntegrityError("a record header fails its checksum")
    cursor = _RECORD.size
    bases = tuple(
        bytes(body[cursor + DIGEST_BYTES * i : cursor + DIGEST_BYTES * (i + 1)])
        for i in range(base_count)
    )
    cursor += DIGEST_BYTES * base_count
    params = bytes(body[cursor : cursor + param_bytes])
    cursor += param_bytes
    frames = np.frombuffer(body, FRAME_ENTRY, frame_count, cursor).copy()
    header = RecordHeader(
        kind=_known(RecordKind, kind), encoding=_known(Encoding, encoding), recipe=recipe,
        flags=flags, offset=offset, position=position, length=length, total=total, digest=name,
        frame_bytes=frame_bytes, bases=bases, params=params, frames=frames,
    )  # fmt: skip
    _check_sizes(header, stored)
    return header, at + size


def _known(numbers: type[_Number], value: int) -> _Number | int:
    """Return a number's name, or the number itself: what a newer program wrote is skipped."""
    try:
        return numbers(value)
    except ValueError:
        return value


def _check_sizes(header: RecordHeader, stored: int) -> None:
    if not 0 < header.frame_bytes <= MAX_FRAME_BYTES:
        raise IntegrityError(f"a record has frames of {header.frame_bytes} bytes")
    expected = -(-header.length // header.frame_bytes)
    if len(header.frames) != expected or header.stored != stored:
        raise IntegrityError("a record's frame table does not fit its length")
    if header.position + header.length > header.total:
        raise IntegrityError("a record reaches past the end of its object")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackHeader:
    """The first 64 bytes of a pack: who wrote it, when (microseconds UTC), what it requires."""

    key: bytes  # 16 random bytes
    writer: bytes  # the writing session, 16 bytes
    created_us: int
    required: int = 0
    optional: int = 0
    version: int = FORMAT_VERSION

    def encode(self) -> bytes:
        """Return the 64 bytes."""
        body = _PACK_HEADER.pack(
            PACK_MAGIC, self.version, 0, self.required, self.optional,
            self.key, self.writer, self.created_us, 0,
        )[:-_SHORT_CHECK.size]  # fmt: skip
        return body + _SHORT_CHECK.pack(checksum(body) & 0xFFFFFFFF)


def decode_pack_header(content: Bytes) -> PackHeader:
    """Read a pack's header; refuses other versions and unknown required features by number."""
    if len(content) < PACK_HEADER_BYTES:
        raise IntegrityError("the pack is shorter than its header")
    magic, version, _, required, optional, key, writer, created, check = _PACK_HEADER.unpack_from(
        content
    )
    if magic != PACK_MAGIC:
        raise IntegrityError("this file is not a pack")
    body = memoryview(content)[: PACK_HEADER_BYTES - _SHORT_CHECK.size]
    if check != checksum(body) & 0xFFFFFFFF:
        raise IntegrityError("the pack's header is damaged")
    if version != FORMAT_VERSION:
        raise UnsupportedStoreError(f"the pack has format version {version}, this program knows 1")
    if required & ~KNOWN_FEATURES:
        raise UnsupportedStoreError(f"the pack requires unknown features ({required:#x})")
    return PackHeader(
        key=key, writer=writer, created_us=created, required=required, optional=optional
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PackFooter:
    """The last 64 bytes of a pack: where the table of contents lies, and its checksum."""

    key: bytes
    toc_offset: int
    toc_bytes: int
    record_count: int
    toc_check: int

    def encode(self) -> bytes:
        """Return the 64 bytes."""
        body = _FOOTER.pack(
            FOOTER_MAGIC, self.toc_offset, self.toc_bytes, self.record_count,
            self.toc_check, self.key, 0,
        )[: -_CHECK.size]  # fmt: skip
        return body + _CHECK.pack(checksum(body))


def decode_footer(content: Bytes) -> PackFooter:
    """Read a pack's footer; raises IntegrityError when it is damaged or missing."""
    if len(content) != FOOTER_BYTES:
        raise IntegrityError("the pack is shorter than its footer")
    magic, offset, size, count, toc_check, key, check = _FOOTER.unpack(content)
    if magic != FOOTER_MAGIC or checksum(memoryview(content)[: -_CHECK.size]) != check:
        raise IntegrityError("the pack's footer is damaged")
    return PackFooter(
        key=key, toc_offset=offset, toc_bytes=size, record_count=count, toc_check=toc_check
    )


def decode_toc(content: Bytes, footer: PackFooter) -> Iterator[RecordHeader]:
    """Yield the record headers of a table of contents, in the order in which they were written."""
    if len(content) != footer.toc_bytes or checksum(content) != footer.toc_check:
        raise IntegrityError("the pack's table of contents is damaged")
    at = 0
    for _ in range(footer.record_count):
        header, at = decode_record(content, at)
        yield header
    if at != len(content):
        raise IntegrityError("the pack's table of contents has bytes left over")


def payload_start(at: int, encoding: Encoding | int) -> int:
    """Return where the payload of the next record begins when the pack is ``at`` bytes long."""
    return _aligned(at, RAW_ALIGNMENT if encoding == Encoding.RAW else HEADER_ALIGNMENT)


def header_start(end_of_payload: int) -> int:
    """Return where the header of a payload (or the table of contents) begins."""
    return _aligned(end_of_payload, HEADER_ALIGNMENT)


def _aligned(value: int, step: int) -> int:
    return -(-value // step) * step
