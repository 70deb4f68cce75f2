"""One pack as a file: written from front to back, read by record.

The byte layout is ``core.record``; where the bytes lie is the object store's business.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hartonomous.core.digest import Bytes, checksum
from hartonomous.core.record import (
    FOOTER_BYTES,
    HEADER_ALIGNMENT,
    MIN_RECORD_BYTES,
    PACK_HEADER_BYTES,
    PREDICTED,
    RECORD_MAGIC,
    VARIANTS_FEATURE,
    Encoding,
    PackFooter,
    PackHeader,
    RecordHeader,
    RecordKind,
    decode_footer,
    decode_pack_header,
    decode_record,
    decode_toc,
    encode_frame_entry,
    encode_record,
    header_start,
    payload_start,
)
from hartonomous.errors import IntegrityError, UnsupportedStoreError
from hartonomous.packs.parts import pack_object_key
from hartonomous.ports.objects import ObjectReader, ObjectStore

_SCAN_BYTES = 4 * 1024 * 1024
_HEADER_GUESS_BYTES = 256
"""Holds the header of a record with a dozen frames: most are read with one call."""
_GATHERED_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedPack:
    """A pack that is durable."""

    key: bytes
    writer: bytes
    size_bytes: int
    record_count: int
    created_us: int


class PackWriter:
    """Writes one pack; nobody sees it before ``seal``."""

    def __init__(
        self, objects: ObjectStore, *, writer: bytes, now_us: int, required: int = 0
    ) -> None:
        """Begin a pack; ``required`` are the feature bits of the records that it may hold."""
        self.key = os.urandom(16)
        self.required = required
        self._header = PackHeader(key=self.key, writer=writer, created_us=now_us, required=required)
        self._out = objects.create(pack_object_key(self.key))
        self._toc: list[bytes] = []
        self._toc_bytes = 0
        self._frame_table = bytearray()
        self._payload_offset = 0
        self.payload_bytes = 0  # of the payload begun last
        self._gathered = bytearray()
        self.size = 0
        self._write(self._header.encode())

    def _write(self, content: Bytes) -> None:
        """Take the next bytes; small pieces go to the object together, not one call each."""
        self.size += len(content)
        if len(content) >= _GATHERED_BYTES:
            self._hand_over()
            self._out.write(content)
            return
        self._gathered += content
        if len(self._gathered) >= _GATHERED_BYTES:
            self._hand_over()

    def _hand_over(self) -> None:
        gathered, self._gathered = self._gathered, bytearray()
        if gathered:
            self._out.write(gathered)

    def _pad_to(self, offset: int) -> None:
        if offset > self.size:
            self._write(bytes(offset - self.size))

    @property
    def sealed_size(self) -> int:
        """Bytes of the pack if it were sealed now, with some room for one more header."""
        return self.size + sealing_bytes(self._toc_bytes)

    def begin(self, encoding: Encoding) -> None:
        """Begin a record's payload."""
        self._pad_to(payload_start(self.size, encoding))
        self._payload_offset = self.size
        self.give_up()

    def give_up(self) -> None:
        """Forget the payload begun last; its bytes stay, but no record speaks of them."""
        self._frame_table.clear()
        self.payload_bytes = 0

    def frame(self, payload: Bytes, check: int) -> None:
        """Append one encoded frame with its XXH3-64."""
        self._frame_table += encode_frame_entry(len(payload), check)
        self.payload_bytes += len(payload)
        self._write(payload)

    def end(
        self,
        *,
        kind: RecordKind,
        encoding: Encoding,
        recipe: int,
        digest: bytes,
        total: int,
        position: int,
        length: int,
        bases: tuple[bytes, ...] = (),
        params: bytes = b"",
    ) -> int:
        """Close the record and return where its header lies."""
        self._refuse_unsaid(encoding)
        header = encode_record(
            kind=kind,
            encoding=encoding,
            recipe=recipe,
            offset=self._payload_offset,
            stored=self.payload_bytes,
            position=position,
            length=length,
            total=total,
            digest=digest,
            frame_table=self._frame_table,
            bases=bases,
            params=params,
        )
        return self._close(header)

    def copy(self, header: RecordHeader, payload: Bytes) -> int:
        """Append another pack's record as it is and return where its header lies here."""
        self._refuse_unsaid(header.encoding)
        self._pad_to(payload_start(self.size, header.encoding))
        offset = self.size
        self._write(payload)
        return self._close(header.at(offset).encode())

    def _refuse_unsaid(self, encoding: Encoding | int) -> None:
        if encoding in PREDICTED and not self.required & VARIANTS_FEATURE:
            raise ValueError("a predicted record in a pack that does not say so")

    def _close(self, header: bytes) -> int:
        self._pad_to(header_start(self.size))
        at = self.size
        self._write(header)
        self._toc.append(header)
        self._toc_bytes += len(header)
        return at

    @property
    def record_count(self) -> int:
        """Records closed so far."""
        return len(self._toc)

    def seal(self) -> SealedPack:
        """Write the table of contents and make the pack durable and visible."""
        self._pad_to(header_start(self.size))
        toc = b"".join(self._toc)
        footer = PackFooter(
            key=self.key,
            toc_offset=self.size,
            toc_bytes=len(toc),
            record_count=len(self._toc),
            toc_check=checksum(toc),
        )
        self._write(toc)
        self._write(footer.encode())
        self._hand_over()
        self._out.commit()
        return SealedPack(
            key=self.key,
            writer=self._header.writer,
            size_bytes=self.size,
            record_count=len(self._toc),
            created_us=self._header.created_us,
        )

    def abort(self) -> None:
        """Drop the pack."""
        self._out.abort()


def sealing_bytes(toc_bytes: int) -> int:
    """Return what sealing adds to a pack, with some room for one more header."""
    return toc_bytes + FOOTER_BYTES + 1024


class PackReader:
    """Reads one sealed pack by record."""

    def __init__(self, source: ObjectReader, name: str) -> None:
        self._source = source
        self._lent = False
        self.name = name
        self.size = source.size

    def header(self) -> PackHeader:
        """Return the pack's own header."""
        return decode_pack_header(self._source.read(0, min(PACK_HEADER_BYTES, self.size)))

    def footer(self) -> PackFooter:
        """Return the footer."""
        if self.size < PACK_HEADER_BYTES + FOOTER_BYTES:
            raise IntegrityError(f"pack {self.name} is cut short")
        footer = decode_footer(self._source.read(self.size - FOOTER_BYTES, FOOTER_BYTES))
        if footer.toc_offset + footer.toc_bytes + FOOTER_BYTES != self.size:
            raise IntegrityError(f"pack {self.name} has a footer that does not fit its size")
        return footer

    def records(self) -> Iterator[tuple[int, RecordHeader]]:
        """Yield (place of the inline header, header) as the table of contents has them."""
        footer = self.footer()
        toc = self._source.read(footer.toc_offset, footer.toc_bytes)
        for header in decode_toc(toc, footer):
            yield header_start(header.offset + header.stored), header

    def salvage(self) -> Iterator[tuple[int, RecordHeader]]:
        """Yield every intact inline header, found by looking for it; needs no footer."""
        magic = np.frombuffer(RECORD_MAGIC, "<u4")[0]
        for start in range(0, self.size, _SCAN_BYTES):
            stop = min(start + _SCAN_BYTES, self.size - self.size % HEADER_ALIGNMENT)
            if stop <= start:
                break
            words = np.frombuffer(self._source.read(start, stop - start), "<u4")[::2]
            for index in np.flatnonzero(words == magic):
                at = start + int(index) * HEADER_ALIGNMENT
                try:
                    header = self.inline(at)
                except (IntegrityError, UnsupportedStoreError):
                    continue
                # The table of contents repeats the headers; only the inline one lies where it says.
                if header_start(header.offset + header.stored) == at:
                    yield at, header

    def record(self, at: int) -> RecordHeader:
        """Return the record header at ``at``, or where it is damaged its copy in the contents."""
        try:
            return self.inline(at)
        except (IntegrityError, UnsupportedStoreError) as error:
            try:
                for place, header in self.records():
                    if place == at:
                        return header
            except (IntegrityError, UnsupportedStoreError):
                pass  # the contents are damaged too: what is said of the header counts
            raise error

    def inline(self, at: int) -> RecordHeader:
        """Return the record header that lies at ``at``."""
        if at < 0 or at + MIN_RECORD_BYTES > self.size:
            raise IntegrityError(f"pack {self.name} has no record at {at}")
        content = self._source.read(at, min(_HEADER_GUESS_BYTES, self.size - at))
        size = int.from_bytes(content[4:8], "little")
        if at + size > self.size:
            raise IntegrityError(f"pack {self.name}: the record at {at} is cut short")
        if size > len(content):
            content = self._source.read(at, size)
        header, _ = decode_record(content)
        if header.offset + header.stored > at:
            raise IntegrityError(f"pack {self.name}: the record at {at} reaches past its header")
        return header

    def payload(self, header: RecordHeader) -> memoryview:
        """Return a record's whole payload, unchecked."""
        return self._source.read(header.offset, header.stored)

    def lend(self, header: RecordHeader, start: int, length: int) -> memoryview:
        """Return a range of a record's payload, unchecked, that stays valid after ``close``."""
        self._lent = True
        return self._source.read(header.offset + start, length)

    def frame(self, header: RecordHeader, index: int, start: int) -> memoryview:
        """Return frame ``index``, whose payload starts ``start`` bytes in; checks it."""
        entry = header.frames[index]
        payload = self._source.read(header.offset + start, int(entry["stored"]))
        if checksum(payload) != int(entry["check"]):
            raise IntegrityError(
                f"pack {self.name}: frame {index} at {header.offset + start} fails its checksum",
                hint="hart verify names everything that is damaged",
            )
        return payload

    def close(self) -> None:
        """Release the object; where a range was lent, that is left to the last view of it."""
        if not self._lent:
            self._source.close()
