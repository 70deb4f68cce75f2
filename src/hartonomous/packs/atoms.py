"""Reading atoms: any range of any stored digest, frame by frame, checked as it is read."""

import threading
from collections import OrderedDict
from collections.abc import Iterable

from hartonomous.catalog import atoms as rows
from hartonomous.catalog import manifests
from hartonomous.core.record import Encoding, RecordHeader, RecordKind
from hartonomous.errors import IntegrityError, NotFoundError
from hartonomous.packs.frames import decode_record_into
from hartonomous.packs.pack_file import PackReader
from hartonomous.packs.parts import StoreParts, pack_object_key

_OPEN_PACKS = 64
_KEPT_HEADERS = 4096
_KEPT_PLACES = 65536
_ATTEMPTS = 8


class AtomReader:
    """Reads atoms of one store; safe to use from several threads.

    Packs are opened once and kept, the least recently used one is closed. A pack that compaction
    removed meanwhile is looked up again.
    """

    def __init__(self, parts: StoreParts) -> None:
        self._parts = parts
        self._guard = threading.Lock()
        self._packs: OrderedDict[bytes, PackReader] = OrderedDict()
        self._headers: OrderedDict[tuple[bytes, int], RecordHeader] = OrderedDict()
        self._places: OrderedDict[bytes, list[rows.ExtentRow]] = OrderedDict()

    def locate(self, digests: Iterable[bytes]) -> dict[bytes, list[rows.ExtentRow]]:
        """Return the extents of stored digests; asks the catalog once for all that are new."""
        wanted = set(digests)
        with self._guard:
            found = {one: self._places[one] for one in wanted if one in self._places}
        missing = wanted - found.keys()
        if missing:
            with self._parts.database.read() as tx:
                fresh = rows.extents(tx, missing)
            with self._guard:
                self._places.update(fresh)
                while len(self._places) > _KEPT_PLACES:
                    self._places.popitem(last=False)
            found.update(fresh)
        return found

    def read_into(self, digest: bytes, start: int, out: memoryview) -> None:
        """Fill ``out`` with the atom's bytes from ``start``.

        Raises IntegrityError when the atom is not stored, is damaged, or is too short.
        """
        for attempt in range(_ATTEMPTS):
            try:
                self._read_once(digest, start, out)
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
        """Return a read-only view without copying where the range lies raw in one extent."""
        for place in self.locate([digest]).get(digest, []):
            if place.position <= start and start + length <= place.position + place.length:
                try:
                    pack = self._pack(place.pack_key)
                    header = self._header(pack, place, digest)
                except NotFoundError:
                    self.forget(digest)
                    return None
                if header.encoding is Encoding.RAW:
                    whole = pack.payload(header)
                    at = start - place.position
                    return whole[at : at + length]
        return None

    def forget(self, digest: bytes) -> None:
        """Look the atom up again at its next use."""
        with self._guard:
            self._places.pop(digest, None)

    def _read_once(self, digest: bytes, start: int, out: memoryview) -> None:
        stop = start + len(out)
        reached = start
        with self._guard:
            places = self._places.get(digest)
        if places is None:
            places = self.locate([digest]).get(digest, [])
        for place in places:
            end = place.position + place.length
            if end <= reached or place.position >= stop:
                continue
            if place.position > reached:
                break
            pack = self._pack(place.pack_key)
            header = self._header(pack, place, digest)
            upto = min(end, stop)
            decode_record_into(
                pack, header, reached - place.position, out[reached - start : upto - start]
            )
            reached = upto
        if reached < stop:
            raise IntegrityError(
                f"atom blake3:{digest.hex()} has no bytes at {reached}",
                hint="hart verify names everything that is damaged",
            )

    def _pack(self, key: bytes) -> PackReader:
        with self._guard:
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

    def _header(self, pack: PackReader, place: rows.ExtentRow, digest: bytes) -> RecordHeader:
        key = (place.pack_key, place.header_offset)
        with self._guard:
            header = self._headers.get(key)
        if header is None:
            header = pack.record(place.header_offset)
            with self._guard:
                self._headers[key] = header
                while len(self._headers) > _KEPT_HEADERS:
                    self._headers.popitem(last=False)
        fits = header.position == place.position and header.length == place.length
        if header.kind is not RecordKind.EXTENT or header.digest != digest or not fits:
            raise IntegrityError(
                f"pack {pack.name} holds another record at {place.header_offset} than the catalog"
                f" says (atom blake3:{digest.hex()})",
                hint="hart repair rebuilds the catalog from the packs",
            )
        return header

    def record(self, pack_key: bytes, header_offset: int) -> tuple[PackReader, RecordHeader]:
        """Return a pack and the header of one of its records."""
        pack = self._pack(pack_key)
        return pack, pack.record(header_offset)

    def manifest_row(self, file_digest: bytes) -> manifests.ManifestRow | None:
        """Return where a file's manifest lies now."""
        with self._parts.database.read() as tx:
            return manifests.by_file_digest(tx, file_digest)

    def close(self) -> None:
        """Close every pack; views given out before become invalid."""
        with self._guard:
            packs = list(self._packs.values())
            self._packs.clear()
        for pack in packs:
            pack.close()
