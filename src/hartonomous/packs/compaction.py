"""Compaction: the live records of some packs are copied into new ones, and rows follow.

Records are copied as they are, each checked on the way. Both copies are good while rows move over,
at most 500 a transaction; the old packs become dead and are removed by the collection.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from hartonomous.catalog import packs
from hartonomous.catalog.batches import batches
from hartonomous.core.record import (
    FOOTER_BYTES,
    PACK_HEADER_BYTES,
    RecordHeader,
    RecordKind,
    header_start,
    payload_start,
)
from hartonomous.errors import HartonomousError
from hartonomous.packs.pack_file import PackReader, PackWriter, SealedPack, sealing_bytes
from hartonomous.packs.parts import StoreParts, pack_object_key
from hartonomous.packs.second_copies import check_payload
from hartonomous.packs.session import WriteSession
from hartonomous.ports.progress import Progress


@dataclass(slots=True)
class Compacted:
    """What a compaction did."""

    pack_count: int = 0
    written_bytes: int = 0
    notes: list[str] = field(default_factory=list)


def compact(session: WriteSession, rows: Sequence[packs.PackRow], progress: Progress) -> Compacted:
    """Copy the live records of ``rows`` into new packs and point the catalog to the copies.

    A pack with a damaged record is left as it is and noted: repair wants the original.
    """
    result = Compacted()
    work = _Copy(session, result)
    progress.stage("compact", total_bytes=sum(row.size_bytes for row in rows))
    try:
        for row in rows:
            work.take(row)
            progress.advance(row.size_bytes)
        work.finish()
    finally:
        work.abort()
    return result


def foresee(parts: StoreParts, places: Sequence[tuple[packs.PackRow, Sequence[int]]]) -> Compacted:
    """Return what ``compact`` would do with packs whose live records' headers lie at ``places``.

    Reads headers alone, so damage of payloads is not foreseen.
    """
    result = Compacted()
    size = toc = 0
    for row, offsets in places:
        try:
            pack = PackReader(parts.objects.open(pack_object_key(row.key)), row.key.hex())
            with contextlib.closing(pack):
                headers = [pack.record(at) for at in sorted(offsets)]
        except HartonomousError as error:
            result.notes.append(f"pack {row.key.hex()} is left as it is: {error.message}")
            continue
        for header in headers:
            if size and size + header.stored + sealing_bytes(toc) > parts.pack_bytes:
                result.written_bytes += header_start(size) + toc + FOOTER_BYTES
                size = toc = 0
            start = payload_start(size or PACK_HEADER_BYTES, header.encoding)
            encoded = len(header.at(start).encode())
            size = header_start(start + header.stored) + encoded
            toc += encoded
        result.pack_count += 1
    result.written_bytes += header_start(size) + toc + FOOTER_BYTES if size else 0
    return result


class _Copy:
    def __init__(self, session: WriteSession, result: Compacted) -> None:
        self._session = session
        self._parts: StoreParts = session.parts
        self._result = result
        self._out: PackWriter | None = None
        self._required = 0  # features of what was met so far; the packs after it say them all
        self._moves: list[packs.Move] = []
        self._inside: set[tuple[bytes, int]] = set()  # extents in the open pack

    def take(self, row: packs.PackRow) -> None:
        """Copy one pack's live records, all or, if one of them is damaged, none."""
        with self._parts.database.read() as tx:
            live = packs.offsets(tx, row.id)
        try:
            pack = PackReader(self._parts.objects.open(pack_object_key(row.key)), row.key.hex())
            try:
                headers = _checked(pack, sorted(live))
            except HartonomousError:
                pack.close()
                raise
        except HartonomousError as error:
            self._result.notes.append(f"pack {row.key.hex()} is left as it is: {error.message}")
            return
        try:
            for at, header in headers.items():
                out = self._room_for(header)
                table, row_id = live[at]
                offset = out.copy(header, pack.payload(header))
                self._moves.append(
                    packs.Move(
                        table=table, row_id=row_id, from_pack=row.id, from_offset=at, offset=offset
                    )
                )
        finally:
            pack.close()
        self._result.pack_count += 1

    def _room_for(self, header: RecordHeader) -> PackWriter:
        out = self._out
        if out is not None:
            full = out.sealed_size + header.stored > self._parts.pack_bytes
            # Two copies of an atom never lie in one pack.
            twice = (header.digest, header.position) in self._inside
            if full or twice or header.required & ~out.required:
                self.finish()
        if self._out is None:
            self._required |= header.required
            self._out = PackWriter(
                self._parts.objects, writer=self._session.key, now_us=self._parts.clock(),
                required=self._required,
            )  # fmt: skip
        if header.kind is RecordKind.EXTENT:
            self._inside.add((header.digest, header.position))
        return self._out

    def finish(self) -> None:
        """Seal the open pack and move the rows of everything in it."""
        if self._out is None:
            return
        out, self._out = self._out, None
        self._inside.clear()
        sealed: SealedPack = out.seal()
        with self._parts.database.write(durable=False) as tx:
            pack_id = packs.add(
                tx,
                key=sealed.key,
                writer_key=sealed.writer,
                size_bytes=sealed.size_bytes,
                record_count=sealed.record_count,
                created_us=sealed.created_us,
            )
        for piece in batches(self._moves):
            with self._parts.database.write() as tx:
                packs.move(tx, piece, pack_id=pack_id)
        self._moves = []
        self._result.written_bytes += sealed.size_bytes

    def abort(self) -> None:
        """Drop the open pack; does nothing after ``finish``."""
        if self._out is not None:
            self._out.abort()


def _checked(pack: PackReader, places: Sequence[int]) -> dict[int, RecordHeader]:
    headers = {at: pack.record(at) for at in places}
    for header in headers.values():
        check_payload(pack, header)
    return headers
