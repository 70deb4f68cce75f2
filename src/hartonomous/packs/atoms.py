"""Reading atoms: any range of any stored digest, frame by frame, checked as it is read."""

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable

from hartonomous.catalog import atoms as rows
from hartonomous.catalog import manifests
from hartonomous.core.record import Encoding, RecordHeader, RecordKind
from hartonomous.errors import IntegrityError, NotFoundError, UsageError
from hartonomous.packs.bounded_cache import BoundedCache, FrameCache
from hartonomous.packs.chain import NOBODY, Chain
from hartonomous.packs.frame_batch import FrameBatch, StoredRecord
from hartonomous.packs.operands import Operands
from hartonomous.packs.pack_file import PackReader
from hartonomous.packs.parts import StoreParts, pack_object_key
from hartonomous.packs.predictions import BaseGoneError, refuse_chain

_OPEN_PACKS = 64
_KEPT_RECORDS_BYTES = 16 * 1024 * 1024
_KEPT_PLACES = 65536
_ATTEMPTS = 8


class AtomReader:
    """Reads atoms of one store; safe to use from several threads.

    Packs are opened once and kept, the least recently used one is closed. A pack that compaction
    removed meanwhile is looked up again. ``frames`` and ``operands`` take the place of the store's
    shared caches: who wants to know what lies on the disk now brings empty ones.
    """

    def __init__(
        self,
        parts: StoreParts,
        *,
        frames: FrameCache | None = None,
        operands: Operands | None = None,
    ) -> None:
        self._parts = parts
        self.frames = parts.frames if frames is None else frames
        self.operands = parts.operands if operands is None else operands
        self._guard = threading.Lock()
        self._packs: OrderedDict[bytes, PackReader] = OrderedDict()
        self._records: BoundedCache[tuple[bytes, int], StoredRecord] = BoundedCache(
            _KEPT_RECORDS_BYTES
        )
        self._places: OrderedDict[bytes, list[rows.ExtentRow]] = OrderedDict()
        self._closed = False

    def locate(self, digests: Iterable[bytes]) -> dict[bytes, list[rows.ExtentRow]]:
        """Return the extents of stored digests; asks the catalog once for all that are new.

        What they are built on is looked up with them.
        """
        wanted = set(digests)
        with self._guard:
            found = {one: self._places[one] for one in wanted if one in self._places}
        missing = wanted - found.keys()
        if missing:
            with self._parts.database.read() as tx:
                fresh = rows.extents_below(tx, missing)
            self._keep(fresh)
            found.update((one, fresh[one]) for one in missing & fresh.keys())
        return found

    def expect(self, manifest_ids: Iterable[int]) -> None:
        """Look up at once where the atoms of files lie that will be read one after the other."""
        with self._parts.database.read() as tx:
            fresh = rows.extents_of_manifests(tx, manifest_ids, most=_KEPT_PLACES // 2)
        self._keep(fresh)

    def _keep(self, fresh: dict[bytes, list[rows.ExtentRow]]) -> None:
        with self._guard:
            self._places.update(fresh)
            while len(self._places) > _KEPT_PLACES:
                self._places.popitem(last=False)

    def decode_into(self, digest: bytes, out: memoryview, start: int = 0) -> None:
        """Fill ``out`` with the atom's bytes from ``start``.

        Raises IntegrityError when the atom is not stored, is damaged, or is too short.
        """
        batch = self.batch()
        self.gather(batch, digest, out, start)
        batch.decode()

    def batch(self, chain: Chain = NOBODY, *, cached: bool = True) -> FrameBatch:
        """Return an empty batch for frames of this store; ``chain`` are the atoms that need it.

        Unless ``cached``, what it decodes is neither looked for among the kept frames nor kept.
        """
        frames = self.frames if cached else None
        if chain.budget is not None and (frames is None or not frames.limit_bytes):
            frames = chain.budget.frames
        return FrameBatch(frames, self, chain)

    def read_base(self, name: bytes, out: memoryview, start: int, chain: Chain) -> None:
        """Fill ``out`` with the bytes of an atom that others are predicted from, from ``start``.

        Raises BaseGoneError where it is not stored, IntegrityError.
        """
        refuse_chain(name, chain)
        if not self._places_of(name):
            needing = " > ".join(f"blake3:{one.hex()}" for one in chain) or "a file"
            error = IntegrityError(
                f"atom blake3:{name.hex()} is not stored, and is needed to read {needing}",
                hint="hart verify names everything that is damaged",
            )
            raise BaseGoneError(error)
        batch = self.batch(chain)
        self.gather(batch, name, out, start)
        batch.decode()

    def moved(self, header: RecordHeader, start: int, /) -> bool:
        """Say whether an atom's byte at ``start`` is kept otherwise now than by this record."""
        for _ in range(_ATTEMPTS):
            self.forget(header.digest)
            place = self._place_of(header.digest, start)
            if place is None:
                return False
            try:
                _, record = self._record(place, header.digest)
            except NotFoundError:
                continue
            return record.header.bases != header.bases
        return False

    def gather(self, batch: FrameBatch, digest: bytes, out: memoryview, start: int) -> None:
        """Add the frames under a range to ``batch``; ``out`` is full once that was decoded."""
        for attempt in range(_ATTEMPTS):
            try:
                self._gather_once(batch, digest, out, start)
            except NotFoundError as error:
                self.forget(digest)
                if attempt == _ATTEMPTS - 1:
                    raise IntegrityError(
                        f"atom blake3:{digest.hex()} lies in a pack that is gone: {error}",
                        hint="hart verify names everything that is damaged",
                    ) from error
            else:
                return

    def view(self, digest: bytes, start: int, length: int) -> memoryview | None:
        """Return a read-only view without copying where the range lies raw in one extent.

        A frame is checked when a view of it is first given out. The view stays valid after
        ``close``, and after the pack was removed. Raises IntegrityError.
        """
        for _ in range(_ATTEMPTS):
            place = self._place_of(digest, start)
            if place is None or start + length > place.position + place.length:
                return None
            try:
                pack, record = self._record(place, digest)
            except NotFoundError:
                self.forget(digest)
                continue
            if record.header.encoding is not Encoding.RAW:
                return None
            at = start - place.position
            record.check_raw(pack, at, at + length)
            return pack.lend(record.header, at, length)
        return None

    def forget(self, digest: bytes) -> None:
        """Look the atom up again at its next use."""
        with self._guard:
            self._places.pop(digest, None)

    def _place_of(self, digest: bytes, position: int) -> rows.ExtentRow | None:
        """Return the extent that holds the atom's byte at ``position``."""
        places = self._places_of(digest)
        index = bisect_right(places, position, key=_position) - 1
        if index < 0 or position >= places[index].position + places[index].length:
            return None
        return places[index]

    def _places_of(self, digest: bytes) -> list[rows.ExtentRow]:
        with self._guard:
            found = self._places.get(digest)
        return self.locate([digest]).get(digest, []) if found is None else found

    def _gather_once(self, batch: FrameBatch, digest: bytes, out: memoryview, start: int) -> None:
        stop = start + len(out)
        reached = start
        places = self._places_of(digest)
        for index in range(max(0, bisect_right(places, start, key=_position) - 1), len(places)):
            place = places[index]
            end = place.position + place.length
            if end <= reached:
                continue
            if place.position > reached or reached >= stop:
                break
            pack, record = self._record(place, digest)
            upto = min(end, stop)
            batch.add(pack, record, reached - place.position, out[reached - start : upto - start])
            reached = upto
        if reached < stop:
            raise IntegrityError(
                f"atom blake3:{digest.hex()} has no bytes at {reached}",
                hint="hart verify names everything that is damaged",
            )

    def _pack(self, key: bytes) -> PackReader:
        with self._guard:
            if self._closed:
                raise UsageError("the store is closed", hint="open it again to read from it")
            pack = self._packs.get(key)
            if pack is not None:
                self._packs.move_to_end(key)
                return pack
        opened = PackReader(self._parts.objects.open(pack_object_key(key)), key.hex())
        with self._guard:
            # Another thread may have opened it too; the older one stays.
            pack = self._packs.setdefault(key, opened)
            while len(self._packs) > _OPEN_PACKS:
                # Dropped, not closed: another thread may still read views of it.
                self._packs.popitem(last=False)
        return pack

    def _record(self, place: rows.ExtentRow, digest: bytes) -> tuple[PackReader, StoredRecord]:
        pack = self._pack(place.pack_key)
        key = (place.pack_key, place.header_offset)
        record = self._records.get(key)
        if record is None:
            record = StoredRecord(pack.record(place.header_offset))
            self._records.put(key, record, record.size_bytes)
        header = record.header
        fits = header.position == place.position and header.length == place.length
        if header.kind is not RecordKind.EXTENT or header.digest != digest or not fits:
            raise IntegrityError(
                f"pack {pack.name} holds another record at {place.header_offset} than the catalog"
                f" says (atom blake3:{digest.hex()})",
                hint="hart repair rebuilds the catalog from the packs",
            )
        return pack, record

    def record(self, pack_key: bytes, header_offset: int) -> tuple[PackReader, RecordHeader]:
        """Return a pack and the header of one of its records."""
        pack = self._pack(pack_key)
        return pack, pack.record(header_offset)

    def manifest_row(self, file_digest: bytes) -> manifests.ManifestRow | None:
        """Return where a file's manifest lies now."""
        with self._parts.database.read() as tx:
            return manifests.by_file_digest(tx, file_digest)

    def close(self) -> None:
        """Close every pack; views given out before stay valid, reading raises UsageError."""
        with self._guard:
            self._closed = True
            packs = list(self._packs.values())
            self._packs.clear()
        self._records.clear()
        for pack in packs:
            pack.close()


def _position(place: rows.ExtentRow) -> int:
    return place.position
