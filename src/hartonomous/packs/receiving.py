"""Receiving: the atoms and manifests of files from another store, checked before a row names them.

Records are copied as they lie encoded, bases first, into packs of this store. A sealed pack is read
again and every atom in it decoded and compared with its digest; only what is right gets rows. Files
are then read through those rows and compared with their BLAKE3 and SHA-256. So what another store
says counts for nothing that is not proved here, save what a manifest tells of a file's structure.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from hartonomous.catalog import atoms, bases, packs, writers
from hartonomous.catalog.bases import MAX_DEPTH
from hartonomous.catalog.batches import batches
from hartonomous.catalog.database import ROWS_PER_TRANSACTION
from hartonomous.core import manifest as manifest_format
from hartonomous.core.digest import AtomHasher, ContentHasher, digest
from hartonomous.core.manifest import Manifest
from hartonomous.core.record import VARIANTS_FEATURE, RecordKind
from hartonomous.errors import HartonomousError, IntegrityError
from hartonomous.packs.files import FileReader
from hartonomous.packs.frame_batch import StoredRecord
from hartonomous.packs.pack_file import PackWriter, SealedPack
from hartonomous.packs.session import WriteSession
from hartonomous.packs.store_card import VARIANTS, require_feature
from hartonomous.ports.peer import Peer, PeerRecord
from hartonomous.ports.progress import Progress

_PAGE = ROWS_PER_TRANSACTION
_BLOCK_BYTES = 4 << 20
_PACK_BYTES = 64 << 20
"""A pack is sealed at this size, so that a run that is cut short loses no more."""
_WAITING_FILES = 500
_WAITING_BYTES = 32 << 20
"""Files whose manifests wait to be checked together, and what these may take."""


@dataclass(slots=True)
class _Arrival:
    """An atom on its way: (pack key, header offset, header) of each of its records."""

    digest: bytes
    size: int
    bases: tuple[bytes, ...]
    encoding: int
    places: list[tuple[bytes, int, int, int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Received:
    """What was received so far: records' bytes, atoms, files."""

    sent_bytes: int = 0
    atom_count: int = 0
    file_count: int = 0


class Receiver:
    """Takes files of a peer into one writing session; not for several threads."""

    def __init__(self, session: WriteSession, peer: Peer, progress: Progress) -> None:
        self._session = session
        self._parts = session.parts
        self._peer = peer
        self._progress = progress
        self._out: PackWriter | None = None
        self._required = 0
        self._inside: set[bytes] = set()  # atoms with a record in the open pack
        self._arrivals: dict[bytes, _Arrival] = {}
        self._sealed: list[SealedPack] = []
        self._pack_ids: dict[bytes, int] = {}
        self._bad: dict[bytes, str] = {}
        self._waiting: dict[bytes, tuple[Manifest, bytes, str]] = {}
        self._waiting_bytes = 0
        self.failed: dict[bytes, str] = {}  # file digest -> why it was refused
        self.manifests: dict[bytes, bytes] = {}  # file digest -> digest of the manifest stored
        self.done = Received()
        self._limit = min(_PACK_BYTES, self._parts.pack_bytes)

    def take(self, file_digest: bytes, size: int, path: str) -> None:
        """Receive a file, if it is not stored here; whether it is right is known after ``settle``.

        Raises IntegrityError where the peer does not even have it as it says.
        """
        if file_digest in self._waiting:
            return
        known = self._session.known_manifest(file_digest)
        if known is not None:
            if known.size_bytes != size:
                raise IntegrityError(f"{path}: is said to have {size} bytes")
            self.manifests[file_digest] = known.digest
            return
        content = self._peer.manifest(file_digest)
        manifest = manifest_format.decode(content)
        if manifest.digest != file_digest or manifest.size != size:
            raise IntegrityError(f"{path}: the manifest is that of another file")
        self._take_atoms(manifest)
        self._waiting[file_digest] = (manifest, content, path)
        self._waiting_bytes += len(content)
        if len(self._waiting) >= _WAITING_FILES or self._waiting_bytes >= _WAITING_BYTES:
            self.settle()

    # -- atoms

    def _take_atoms(self, manifest: Manifest) -> None:
        sizes: dict[bytes, int] = {}
        for one in manifest.segments:
            if one.digest is not None and sizes.setdefault(one.digest, one.length) != one.length:
                raise IntegrityError(f"atom blake3:{one.digest.hex()} is said to have two sizes")
        for piece in batches(sorted(sizes), _PAGE):
            levels = [self._missing(piece)]
            found: dict[bytes, Sequence[PeerRecord]] = {}
            while levels[-1]:
                if len(levels) > MAX_DEPTH + 1:
                    raise IntegrityError(
                        f"atom blake3:{levels[-1][0].hex()} is built on a chain of more than"
                        f" {MAX_DEPTH} others, or on itself",
                        hint="hart verify there names everything that is damaged",
                    )
                fresh = [name for name in levels[-1] if name not in found]
                found.update(self._peer.atoms(fresh))
                below = {base for name in levels[-1] for base in _bases(found, name)}
                levels.append(self._missing(sorted(below)))
            for level in reversed(levels):
                for name in level:
                    self._take_atom(name, sizes.get(name), found[name])

    def _missing(self, digests: Sequence[bytes]) -> list[bytes]:
        """Return those that are neither stored here nor on their way, and hold on to the others."""
        there = self._session.known_atoms(digests)
        return [one for one in digests if one not in there and one not in self._arrivals]

    def _take_atom(self, name: bytes, size: int | None, records: Sequence[PeerRecord]) -> None:
        if name in self._arrivals:
            return
        first = records[0].header
        _check_records(name, first.total if size is None else size, records)
        if any(base in self._arrivals for base in first.bases):
            self._settle_atoms()  # a base is in a sealed pack, and has rows, before it is named
        if first.bases and len(self._session.hold(first.bases)) < len(set(first.bases)):
            self._bad[name] = "what it is built on is missing or not what it is said to be"
            return
        with self._parts.database.read() as tx:
            depth = bases.depth_over(bases.find(tx, first.bases).values())
        if depth > MAX_DEPTH:
            self._bad[name] = f"here it would lie over {depth} others, more than {MAX_DEPTH}"
            return
        arrival = _Arrival(name, first.total, first.bases, int(first.encoding))
        self._arrivals[name] = arrival
        try:
            for record in records:
                self._copy(record, arrival)
        except BaseException:
            del self._arrivals[name]  # what was copied of it stays without a row
            raise

    def _copy(self, record: PeerRecord, arrival: _Arrival) -> None:
        payload, header = self._peer.payload(record), record.header
        out = self._room_for(record)
        at = out.copy(header, payload)
        self._inside.add(header.digest)
        arrival.places.append((out.key, at, header.position, header.length, header.stored))
        self.done.sent_bytes += header.stored
        self._progress.advance(header.stored)

    def _room_for(self, record: PeerRecord) -> PackWriter:
        out, header = self._out, record.header
        if out is not None:
            full = out.sealed_size + header.stored > self._limit
            # Two records of an atom's same bytes never lie in one pack; of its parts none needs to.
            if full or header.required & ~out.required or header.digest in self._inside:
                self._seal()
        if header.required & ~self._required:
            if header.required & VARIANTS_FEATURE:
                require_feature(self._parts.directory, VARIANTS)
            self._required |= header.required
        if self._out is None:
            self._out = PackWriter(
                self._parts.objects, writer=self._session.key, now_us=self._parts.clock(),
                required=self._required,
            )  # fmt: skip
        return self._out

    def _seal(self) -> None:
        out, self._out = self._out, None
        self._inside.clear()
        if out is not None:
            self._sealed.append(out.seal())
            if out.size >= self._limit // 2:
                self._settle_sealed()

    def _settle_atoms(self) -> None:
        self._seal()
        self._settle_sealed()

    def _settle_sealed(self) -> None:
        """Check the atoms all of whose records are in sealed packs, and write their rows."""
        open_key = None if self._out is None else self._out.key
        ready = [
            one for one in self._arrivals.values()
            if all(place[0] != open_key for place in one.places)
            and sum(place[3] for place in one.places) == one.size
        ]  # fmt: skip
        sealed, self._sealed = self._sealed, []
        ids = self._register(sealed)
        with ThreadPoolExecutor(self._parts.workers, "check") as pool:
            for one, fault in zip(ready, pool.map(self._fault, ready), strict=True):
                if fault is not None:
                    self._bad[one.digest] = fault
        good = [one for one in ready if one.digest not in self._bad]
        for piece in _by_rows(good):
            with self._parts.database.write(durable=False) as tx:
                new = [_new_atom(one, ids) for one in piece]
                found = atoms.find(tx, atoms.add(tx, new, now_us=self._parts.clock()))
                writers.pin_atoms(tx, self._session.id, [row[0] for row in found.values()])
        for one in ready:
            del self._arrivals[one.digest]
        self.done.atom_count += len(good)

    def _register(self, sealed: Iterable[SealedPack]) -> dict[bytes, int]:
        for one in sealed:
            with self._parts.database.write(durable=False) as tx:
                self._pack_ids[one.key] = packs.add(
                    tx, key=one.key, writer_key=one.writer, size_bytes=one.size_bytes,
                    record_count=one.record_count, created_us=one.created_us,
                )  # fmt: skip
        return self._pack_ids

    def _fault(self, one: _Arrival) -> str | None:
        """Decode an atom from the packs here; say what is wrong with it."""
        hasher = AtomHasher()
        reader = self._session.bases
        try:
            for key, at, _, length, _ in one.places:
                pack, header = reader.record(key, at)
                record = StoredRecord(header)
                for start in range(0, length, _BLOCK_BYTES):
                    out = memoryview(bytearray(min(_BLOCK_BYTES, length - start)))
                    batch = reader.batch(cached=False)
                    batch.add(pack, record, start, out)
                    batch.decode()
                    hasher.update(out)
        except HartonomousError as error:
            return error.message
        return None if hasher.digest() == one.digest else "its content has another digest"

    # -- files

    def settle(self) -> None:
        """Check every file that waits, and write the rows of those that are right.

        ``failed`` says of the others why.
        """
        self._settle_atoms()
        waiting, self._waiting, self._waiting_bytes = self._waiting, {}, 0
        with ThreadPoolExecutor(self._parts.workers, "check") as pool:
            faults = list(pool.map(self._file_fault, [one[0] for one in waiting.values()]))
        for (name, (manifest, content, path)), fault in zip(waiting.items(), faults, strict=True):
            if fault is not None:
                self.failed[name] = fault
                continue
            # Two stores may describe one file otherwise; the bytes of what is told are kept.
            self._session.put_manifest(manifest, content, path)
            self.manifests[name] = digest(content)
            self.done.file_count += 1
        self._session.flush()

    def _file_fault(self, manifest: Manifest) -> str | None:
        for segment in manifest.segments:
            if segment.digest in self._bad:
                return f"atom blake3:{segment.digest.hex()}: {self._bad[segment.digest]}"
        hasher = ContentHasher()
        try:
            for chunk in FileReader(self._session.bases, manifest).chunks():
                hasher.update(chunk)
        except HartonomousError as error:
            return error.message
        if (hasher.digest(), hasher.sha256()) != (manifest.digest, manifest.sha256):
            return f"file blake3:{manifest.digest.hex()}: its content has another digest"
        return None

    def abort(self) -> None:
        """Drop the open pack; does nothing after ``settle``."""
        if self._out is not None:
            self._out.abort()
            self._out = None


def _bases(found: "dict[bytes, Sequence[PeerRecord]]", name: bytes) -> set[bytes]:
    if not found.get(name):
        raise IntegrityError(
            f"atom blake3:{name.hex()} is not stored there",
            hint="hart verify there names everything that is damaged",
        )
    return {base for record in found[name] for base in record.header.bases}


def _check_records(name: bytes, size: int, records: Sequence[PeerRecord]) -> None:
    """Raise IntegrityError unless records are an atom of this size, each byte once, in order."""
    reached = 0
    for record in records:
        header = record.header
        fits = (
            header.kind is RecordKind.EXTENT
            and (header.digest, header.total, header.position) == (name, size, reached)
            and header.length > 0
            and header.stored <= header.length
            and header.flags == 0
            and header.bases == records[0].header.bases
            and header.encoding == records[0].header.encoding
        )
        if not fits:
            raise IntegrityError(
                f"a record is none of atom blake3:{name.hex()} of {size} bytes",
                hint="hart verify there names everything that is damaged",
            )
        reached += header.length
    if reached != size:
        raise IntegrityError(f"atom blake3:{name.hex()} has {reached} of {size} bytes there")


def _by_rows(arrivals: Sequence[_Arrival]) -> Iterable[list[_Arrival]]:
    piece: list[_Arrival] = []
    rows = 0
    for one in sorted(arrivals, key=lambda each: each.digest):
        need = 2 + len(one.places) + len(one.bases)
        if piece and rows + need > ROWS_PER_TRANSACTION:
            yield piece
            piece, rows = [], 0
        piece.append(one)
        rows += need
    if piece:
        yield piece


def _new_atom(one: _Arrival, ids: dict[bytes, int]) -> atoms.NewAtom:
    return atoms.NewAtom(
        digest=one.digest,
        size_bytes=one.size,
        encoding=one.encoding,
        bases=one.bases,
        extents=tuple(
            atoms.NewExtent(
                pack_id=ids[key], position=position, length=length, header_offset=at,
                stored_bytes=stored,
            )
            for key, at, position, length, stored in one.places
        ),
    )  # fmt: skip
