"""Second copies: what many atoms are built on lies in two packs, so that one damage loses none.

The records are copied as they are, checked on the way, into packs that hold nothing else. Any
intact copy serves: a rebuilt catalog chooses the one that decodes (``extent_copies``), and ``mend``
lets the second take the place of a first one that is damaged.
"""

import contextlib
from collections.abc import Callable

from hartonomous.catalog import atoms, copies, families, packs
from hartonomous.catalog.bases import MAX_DEPTH
from hartonomous.catalog.database import ROWS_PER_TRANSACTION
from hartonomous.catalog.extents import ExtentRow
from hartonomous.core.digest import AtomHasher
from hartonomous.core.record import RecordHeader
from hartonomous.errors import HartonomousError, IntegrityError
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.frame_batch import StoredRecord
from hartonomous.packs.pack_file import PackReader, PackWriter
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.session import WriteSession

_BLOCK_BYTES = 4 << 20


def keep_second_copies(session: WriteSession, reader: AtomReader, notes: list[str]) -> int:
    """Copy what has many dependents and lies in one place; return how many atoms were copied.

    What cannot be read is left and noted.
    """
    with session.parts.database.read() as tx:
        missing = copies.wanted(tx)
    work = _Copies(session, reader)
    try:
        for atom_id, name in missing:
            try:
                work.take(atom_id)
            except HartonomousError as error:
                notes.append(f"atom blake3:{name.hex()} has no second copy: {error.message}")
        work.finish()
    finally:
        work.abort()
    return work.count


class _Copies:
    def __init__(self, session: WriteSession, reader: AtomReader) -> None:
        self._session = session
        self._parts = session.parts
        self._reader = reader
        self._out: PackWriter | None = None
        # id, where its first copy lies, (place, header offset in the open pack)
        self._waiting: list[tuple[int, list[ExtentRow], list[tuple[ExtentRow, int]]]] = []
        self.count = 0

    def take(self, atom_id: int) -> None:
        """Copy an atom's records; raises IntegrityError, and leaves nothing of it, on damage."""
        with self._parts.database.read() as tx:
            places = copies.extents(tx, atom_id, 0)
        found = [self._reader.record(one.pack_key, one.header_offset) for one in places]
        for pack, header in found:
            check_payload(pack, header)
        required = 0
        for _, header in found:
            required |= header.required
        out = self._room_for(sum(header.stored for _, header in found), required)
        copied = [
            (place, out.copy(header, pack.payload(header)))
            for place, (pack, header) in zip(places, found, strict=True)
        ]
        self._waiting.append((atom_id, places, copied))

    def _room_for(self, stored: int, required: int) -> PackWriter:
        out = self._out
        if out is not None:
            full = out.sealed_size + stored > self._parts.pack_bytes
            if full or required & ~out.required or len(self._waiting) >= ROWS_PER_TRANSACTION // 4:
                self.finish()
        if self._out is None:
            self._out = PackWriter(
                self._parts.objects, writer=self._session.key, now_us=self._parts.clock(),
                required=required,
            )  # fmt: skip
        return self._out

    def finish(self) -> None:
        """Seal the open pack and write its rows."""
        out, self._out = self._out, None
        waiting, self._waiting = self._waiting, []
        if out is None:
            return
        sealed = out.seal()
        with self._parts.database.write() as tx:
            pack_id = packs.add(
                tx, key=sealed.key, writer_key=sealed.writer, size_bytes=sealed.size_bytes,
                record_count=sealed.record_count, created_us=sealed.created_us,
            )  # fmt: skip
            for atom_id, places, copied in waiting:
                second = [
                    atoms.NewExtent(
                        pack_id=pack_id, position=one.position, length=one.length,
                        header_offset=at, stored_bytes=one.stored_bytes,
                    )
                    for one, at in copied
                ]  # fmt: skip
                self.count += copies.add(tx, atom_id, places, second)

    def abort(self) -> None:
        """Drop the open pack; does nothing after ``finish``."""
        if self._out is not None:
            self._out.abort()


def check_payload(pack: PackReader, header: RecordHeader) -> None:
    """Compare the checksums of a record's frames; raises IntegrityError."""
    at = 0
    for index in range(len(header.frames)):
        at += len(pack.frame(header, index, at))
    if at != header.stored:
        raise IntegrityError(f"a record of {header.stored} bytes has frames of {at} bytes")


def check_second(parts: StoreParts, reader: AtomReader, atom_id: int, name: bytes) -> None:
    """Decode the second copy of an atom; raises IntegrityError where it is not what it was."""
    with parts.database.read() as tx:
        places = copies.extents(tx, atom_id, 1)
    hasher = AtomHasher()
    for one in places:
        pack, header = reader.record(one.pack_key, one.header_offset)
        if header.digest != name or header.position != one.position:
            raise IntegrityError("another record lies there than the catalog says")
        record = StoredRecord(header)
        for start in range(0, header.length, _BLOCK_BYTES):
            out = memoryview(bytearray(min(_BLOCK_BYTES, header.length - start)))
            # Not by the cache: what was decoded of the first copy says nothing of the second.
            batch = reader.batch(cached=False)
            batch.add(pack, record, start, out)
            batch.decode()
            hasher.update(out)
    if hasher.digest() != name:
        raise IntegrityError("its content has another digest")


def check_atom(
    reader: AtomReader, name: bytes, size: int, buffer: bytearray, advance: Callable[[int], object]
) -> None:
    """Decode an atom; raises IntegrityError where it has another digest."""
    hasher = AtomHasher()
    for start in range(0, size, len(buffer)):
        piece = memoryview(buffer)[: min(len(buffer), size - start)]
        reader.decode_into(name, piece, start)
        hasher.update(piece)
        advance(len(piece))
    if hasher.digest() != name:
        raise IntegrityError("its content has another digest")


def is_whole(parts: StoreParts, reader: AtomReader, atom_id: int) -> bool:
    """Say whether an atom is stored and decodes to its digest."""
    with parts.database.read() as tx:
        found = atoms.by_ids(tx, [atom_id])
    buffer = bytearray(_BLOCK_BYTES)
    try:
        for _, name, size in found:
            check_atom(reader, name, size, buffer, lambda _: None)
    except HartonomousError:
        return False
    return bool(found)


def mend(parts: StoreParts, reader: AtomReader, atom_id: int) -> list[bytes]:
    """Mend an atom and what it is built on: intact second copies take the place of the first.

    Returns the digests of what was mended, bases first.
    """
    mended: list[bytes] = []
    below = [{atom_id}]
    while below[-1] and len(below) <= MAX_DEPTH + 1:
        with parts.database.read() as tx:
            below.append(families.base_ids(tx, below[-1]))
    order = dict.fromkeys(one for level in reversed(below) for one in sorted(level))
    for one in order:
        if not is_whole(parts, reader, one):
            with parts.database.read() as tx:
                ((_, name, _),) = atoms.by_ids(tx, [one]) or [(0, b"", 0)]
            if _use_second(parts, reader, one, name):
                mended.append(name)
    return mended


def _use_second(parts: StoreParts, reader: AtomReader, atom_id: int, name: bytes) -> bool:
    with parts.database.read() as tx:
        if not copies.extents(tx, atom_id, 1):
            return False
    with contextlib.suppress(HartonomousError):
        check_second(parts, reader, atom_id, name)
        with parts.database.write() as tx:
            copies.use_second(tx, atom_id)
        reader.forget(name)
        return True
    return False
