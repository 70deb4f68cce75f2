"""A writing session: atoms and records into packs, then rows into the catalog.

Bytes first: a pack is sealed (synced) before a row speaks of it. Rows are staged in transactions
of at most 500; nobody sees them before a version that refers to them is published. Frames are
encoded on a pool of threads, small ones many at a time, and written in order; memory is bounded by
the frames in flight.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from hartonomous.catalog import atoms, manifests, packs, writers
from hartonomous.catalog.batches import batches
from hartonomous.catalog.sketches import NewSketch
from hartonomous.codecs.predicted import encoding_of
from hartonomous.core import plan as plans
from hartonomous.core.closing import Closing
from hartonomous.core.digest import digest
from hartonomous.core.manifest import Manifest
from hartonomous.core.plan import Plan
from hartonomous.core.record import FRAME_BYTES, VARIANTS_FEATURE, Encoding, RecordKind
from hartonomous.errors import IntegrityError
from hartonomous.packs import writer_locks
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.frames import (
    EncodedFrame,
    FrameWork,
    encode_frame,
    encode_frames,
    split_frames,
)
from hartonomous.packs.manifest_rows import new_manifest
from hartonomous.packs.pack_file import PackWriter, SealedPack
from hartonomous.packs.parts import StoreParts, pack_object_key
from hartonomous.packs.pending_atoms import Extent, PendingAtom, batches_by_rows, new_atom
from hartonomous.packs.predictions import Variant
from hartonomous.packs.staging import stage_manifest
from hartonomous.packs.steps import in_turn, remove_writer
from hartonomous.packs.store_card import VARIANTS, require_feature

_BYTES_IN_FLIGHT = 32 * 1024 * 1024  # decoded; encoded there may be as much again
# What a thread is given at once: handing over costs as much as encoding some kilobytes.
_BATCH_BYTES = 4 * FRAME_BYTES
_BATCH_FRAMES = 256
_SEALS_IN_FLIGHT = 2


@dataclass(frozen=True, slots=True)
class _Batch:
    """Frames that are encoded together, each with its atom."""

    atoms: list[PendingAtom]
    encoded: Future[list[EncodedFrame | None]]
    decoded_bytes: int


class WriteSession(Closing):
    """One writer's work on a store; use as a context manager.

    On leaving, what is not published stays behind as orphans for `gc`. Not for several threads.
    ``bases`` reads the stored atoms that new ones are predicted from; its own threads do that too.
    """

    def __init__(self, parts: StoreParts) -> None:
        self.parts = replace(parts, database=parts.database.steady())
        self.key, self._lock = writer_locks.new_writer(parts)
        try:
            with parts.database.write(durable=False) as tx:
                self.id = writers.begin(
                    tx, key=self.key, host=parts.host, process=os.getpid(), now_us=parts.clock()
                )
        except BaseException as error:
            writer_locks.give_back(self._lock, error)
            raise
        self.bases = AtomReader(parts)
        self.base_faults: list[str] = []  # why frames were kept raw that were to be predicted
        self._required = 0  # features of the packs that are opened from now on
        self._encoders = ThreadPoolExecutor(parts.workers, "encode")
        self._sealer = ThreadPoolExecutor(1, "seal")
        self._gathered: list[FrameWork] = []
        self._gathered_atoms: list[PendingAtom] = []
        self._gathered_bytes = 0
        self._queue: deque[_Batch] = deque()
        self._queued_bytes = 0
        self._pack: PackWriter | None = None
        self._extent_of: PendingAtom | None = None  # whose extent is open
        self._extent_start = 0
        self._sealing: deque[Future[SealedPack]] = deque()
        self._pack_ids: dict[bytes, int] = {}
        self._unregistered: set[bytes] = set()  # keys of packs that may be sealed and have no row
        self._done_atoms: list[PendingAtom] = []
        self._manifests: dict[bytes, tuple[Manifest, bytes, str, Extent]] = {}
        self._damaged_manifests: dict[bytes, bytes] = {}  # of files: the digest of the record
        self._fresh: set[bytes] = set()
        self._spoiled: set[bytes] = set()
        self.manifest_ids: dict[bytes, int] = {}

    # -- what is there already

    def known_atoms(self, digests: Iterable[bytes]) -> dict[bytes, int]:
        """Return {digest: stored bytes} of atoms that need no storing, and hold on to them."""
        wanted = set(digests)
        known = dict.fromkeys(wanted & self._fresh, 0)
        rest = sorted(wanted - known.keys())
        for piece in batches(rest):
            with self.parts.database.read() as tx:
                if not atoms.find(tx, piece, sound=True):
                    continue
            with self.parts.database.write(durable=False) as tx:
                found = atoms.find(tx, piece, sound=True)
                writers.pin_atoms(tx, self.id, [row[0] for row in found.values()])
            known.update({name: row[1] for name, row in found.items()})
        return known

    def hold(self, digests: Iterable[bytes]) -> set[bytes]:
        """Hold on to stored atoms that are to be bases; return those that are there, and sound.

        From then on until the session ends no collection takes them away.
        """
        found: set[bytes] = set()
        for piece in batches(sorted(set(digests))):
            with self.parts.database.write(durable=False) as tx:
                there = atoms.find(tx, piece, sound=True)
                writers.pin_atoms(tx, self.id, [row[0] for row in there.values()])
            found.update(there)
        return found

    def known_manifest(self, file_digest: bytes) -> manifests.ManifestRow | None:
        """Return the stored manifest of a file's content, and hold on to it.

        None too where an atom of it is known to be damaged: what is damaged is stored again.
        """
        with self.parts.database.read() as tx:
            row = manifests.by_file_digest(tx, file_digest)
            if row is None or not row.complete or manifests.has_damaged_atoms(tx, row.id):
                return None
        with self.parts.database.write(durable=False) as tx:
            row = manifests.by_file_digest(tx, file_digest)
            if row is None or not row.complete:
                return None
            writers.pin_manifest(tx, self.id, row.id)
        self.manifest_ids[file_digest] = row.id
        return row

    def mend_manifest(self, row: manifests.ManifestRow) -> None:
        """Have the record of a file's manifest, which is damaged, replaced by the next one of it.

        Commits name it by its digest, so ``put_manifest`` raises IntegrityError for another one.
        """
        self._damaged_manifests[row.file_digest] = row.digest

    def waiting_manifest(self, file_digest: bytes) -> tuple[Manifest, bytes] | None:
        """Return (manifest, its digest) of a file that this session took in since its last flush.

        A file has one manifest, whatever paths it lies under: commits name it by digest.
        """
        found = self._manifests.get(file_digest)
        return None if found is None else (found[0], digest(found[1]))

    # -- bytes into packs

    def put_atom(
        self,
        name: bytes,
        size: int,
        frames: Iterable[bytes | memoryview],
        *,
        encoding: Encoding | None,
        dtype: str | None,
        on_stored: Callable[[int, Encoding], None],
        verify: bool = False,
        replaces: bool = False,
        larger: bool = False,
        smallest: bool = False,
        plan: Plan | None = None,
        bases: tuple[bytes, ...] = (),
        sketches: tuple[NewSketch, ...] = (),
    ) -> None:
        """Store an atom from its frames (256 KiB each, the last one shorter).

        ``frames`` must stay unchanged until they are written. ``encoding`` holds for all of them;
        None gives a single frame the smallest one. ``verify`` has the digest of a single frame
        compared with ``name``; ``spoiled`` tells those that differed. ``replaces`` is for an atom
        that is stored already: its rows then point to what is written here instead, if it takes
        less or is ``larger`` on purpose. ``sketches`` go with a new atom's rows. When ``frames``
        raises, the atom is given up; the session may go on.

        With a ``plan`` what differs from its prediction is kept, whatever ``encoding`` says. Its
        ``bases`` must be held by ``hold``. ``smallest`` allows recipes that are slow to decode.
        """
        variant = None
        if plan is not None:
            variant, encoding = Variant(plan, bases), encoding_of(plan.dtype)
        atom = PendingAtom(
            digest=name, size=size, wanted=encoding, dtype=dtype, verify=verify,
            on_stored=on_stored, replaces=replaces, variant=variant, sketches=sketches,
            larger=larger, smallest=smallest,
        )  # fmt: skip
        self._fresh.add(name)
        self._spoiled.discard(name)
        try:
            for frame in frames:
                self._gather(atom, frame)
        except BaseException:
            self._give_up(atom)
            raise

    def spoiled(self, digests: Iterable[bytes]) -> set[bytes]:
        """Return those atoms whose bytes turned out to be others, once all waiting is written."""
        self._drain()
        return self._spoiled.intersection(digests)

    def _give_up(self, atom: PendingAtom) -> None:
        atom.given_up = True
        self._fresh.discard(atom.digest)

    def _gather(self, atom: PendingAtom, frame: bytes | memoryview) -> None:
        expected = atom.digest if atom.verify else None
        self._gathered.append(
            FrameWork(
                frame,
                atom.wanted,
                atom.dtype,
                expected,
                atom.gathered,
                atom.variant,
                atom.digest,
                atom.smallest,
            )
        )
        self._gathered_atoms.append(atom)
        atom.gathered += len(frame)
        self._gathered_bytes += len(frame)
        if self._gathered_bytes >= _BATCH_BYTES or len(self._gathered) >= _BATCH_FRAMES:
            self._encode_gathered()
            while self._queued_bytes > _BYTES_IN_FLIGHT:
                self._write_next()

    def _encode_gathered(self) -> None:
        work, self._gathered = self._gathered, []
        gathered, self._gathered_atoms = self._gathered_atoms, []
        size, self._gathered_bytes = self._gathered_bytes, 0
        if not work:
            return
        encoded = self._encoders.submit(
            encode_frames, work, check=self.parts.check, bases=self.bases,
            on_fault=self.base_faults.append,
        )  # fmt: skip
        self._queue.append(_Batch(gathered, encoded, size))
        self._queued_bytes += size

    def put_manifest(self, manifest: Manifest, content: bytes, path: str) -> None:
        """Write a manifest record (its JSON); its rows follow when the pack is sealed."""
        if self._damaged_manifests.get(manifest.digest, digest(content)) != digest(content):
            raise IntegrityError(
                f"the manifest of blake3:{manifest.digest.hex()} is damaged, and {path} would get "
                "another one now: from another folder or another release of this program",
                hint="add the file as it was first added, or remove it, empty the trash, add it",
            )
        _, extent = self.put_record(RecordKind.MANIFEST, content)
        self._manifests[manifest.digest] = (manifest, content, path, extent)

    def put_record(self, kind: RecordKind, content: bytes) -> tuple[bytes, Extent]:
        """Write a small record whole; return the pack's key and the record's place."""
        self._drain()
        frames = [
            encode_frame(frame, Encoding.ZSTD, None, check=self.parts.check)
            for frame in split_frames(content)
        ]
        stored = sum(len(frame.payload) for frame in frames)
        pack = self._room_for(stored)
        pack.begin(Encoding.ZSTD)
        for frame in frames:
            pack.frame(frame.payload, frame.check)
        at = pack.end(
            kind=kind,
            encoding=Encoding.ZSTD,
            recipe=1,
            digest=digest(content),
            total=len(content),
            position=0,
            length=len(content),
        )
        extent = Extent(
            pack_key=pack.key,
            position=0,
            length=len(content),
            header_offset=at,
            stored_bytes=stored,
        )
        return pack.key, extent

    @property
    def unsealed_bytes(self) -> int:
        """Bytes in the open pack and on their way to it (an upper bound)."""
        waiting = self._gathered_bytes + self._queued_bytes
        return waiting + (0 if self._pack is None else self._pack.size)

    def _drain(self) -> None:
        self._encode_gathered()
        while self._queue:
            self._write_next()
        self._drop_given_up()

    def _write_next(self) -> None:
        batch = self._queue.popleft()
        self._queued_bytes -= batch.decoded_bytes
        for atom, frame in zip(batch.atoms, batch.encoded.result(), strict=True):
            if frame is None:
                self._spoiled.add(atom.digest)
                self._give_up(atom)
            elif not atom.given_up:
                self._write_frame(atom, frame)

    def _drop_given_up(self) -> None:
        """Leave an extent that will never be whole without a record."""
        if self._extent_of is not None and self._extent_of.given_up:
            self._open_pack().give_up()
            self._extent_of = None

    def _write_frame(self, atom: PendingAtom, frame: EncodedFrame) -> None:
        self._drop_given_up()
        stored = len(frame.payload)
        atom.encoding = frame.encoding if atom.wanted is None else atom.wanted
        pack = self._pack_for(atom, stored)
        if self._extent_of is None:
            pack.begin(atom.encoding)
            self._extent_of, self._extent_start = atom, atom.written
        pack.frame(frame.payload, frame.check)
        atom.written += frame.length
        if atom.written == atom.size:
            self._end_extent(atom)
            self._done_atoms.append(atom)
            atom.on_stored(sum(one.stored_bytes for one in atom.extents), atom.encoding)

    def _pack_for(self, atom: PendingAtom, frame_bytes: int) -> PackWriter:
        """Return the pack for an atom's next frame; an atom that fits one pack is not split."""
        limit = self.parts.pack_bytes
        pack = self._pack
        if pack is not None:
            full = pack.sealed_size + frame_bytes > limit
            begins = self._extent_of is None and atom.size <= limit
            splits = begins and pack.size + atom.size > limit and pack.size > limit // 4
            unsaid = atom.variant is not None and not pack.required & VARIANTS_FEATURE
            if full or splits or unsaid:
                if self._extent_of is not None:
                    self._end_extent(atom)
                self._seal_soon()
        if atom.variant is not None and not self._required & VARIANTS_FEATURE:
            require_feature(self.parts.directory, VARIANTS)
            self._required |= VARIANTS_FEATURE
        return self._open_pack()

    def _room_for(self, stored_bytes: int) -> PackWriter:
        pack = self._pack
        if pack is not None and pack.sealed_size + stored_bytes > self.parts.pack_bytes:
            self._seal_soon()
        return self._open_pack()

    def _open_pack(self) -> PackWriter:
        if self._pack is None:
            self._pack = PackWriter(
                self.parts.objects, writer=self.key, now_us=self.parts.clock(),
                required=self._required,
            )  # fmt: skip
        return self._pack

    def _end_extent(self, atom: PendingAtom) -> None:
        pack, position = self._open_pack(), self._extent_start
        length = atom.written - position
        at = pack.end(
            kind=RecordKind.EXTENT, encoding=atom.encoding,
            recipe=0 if atom.encoding is Encoding.RAW else 1,
            digest=atom.digest, total=atom.size, position=position, length=length,
            bases=() if atom.variant is None else atom.variant.bases,
            params=b"" if atom.variant is None else plans.encode(atom.variant.plan),
        )  # fmt: skip
        extent = Extent(
            pack_key=pack.key, position=position, length=length, header_offset=at,
            stored_bytes=pack.payload_bytes,
        )  # fmt: skip
        atom.extents += (extent,)
        self._extent_of = None

    def _seal_soon(self) -> None:
        pack, self._pack = self._pack, None
        if pack is None:
            return
        self._unregistered.add(pack.key)
        self._sealing.append(self._sealer.submit(pack.seal))
        while len(self._sealing) > _SEALS_IN_FLIGHT:
            self._register(self._sealing.popleft().result())
        self._stage_atoms()

    # -- rows into the catalog

    def flush(self) -> None:
        """Make every byte durable, then stage every row that is waiting."""
        self._drain()
        self._seal_soon()
        while self._sealing:
            self._register(self._sealing.popleft().result())
        self._stage_atoms()
        waiting, self._manifests = self._manifests, {}
        for manifest, content, path, extent in waiting.values():
            new = new_manifest(
                manifest,
                content,
                path=path,
                pack_id=self._pack_ids[extent.pack_key],
                header_offset=extent.header_offset,
                stored_bytes=extent.stored_bytes,
            )
            mends = self._damaged_manifests.pop(manifest.digest, None) is not None
            staged = stage_manifest(self.parts, self.id, new, mends=mends)
            self.manifest_ids[manifest.digest] = staged

    def pack_id(self, key: bytes) -> int:
        """Return the catalog's id of a pack that this session sealed and flushed."""
        return self._pack_ids[key]

    def _register(self, sealed: SealedPack) -> None:
        with self.parts.database.write(durable=False) as tx:
            self._pack_ids[sealed.key] = packs.add(
                tx,
                key=sealed.key,
                writer_key=sealed.writer,
                size_bytes=sealed.size_bytes,
                record_count=sealed.record_count,
                created_us=sealed.created_us,
            )
        self._unregistered.discard(sealed.key)

    def _drop_unregistered(self) -> None:
        """Remove packs that were sealed and have no row: a collection would have to keep them."""
        for key in self._unregistered:
            self.parts.objects.delete(pack_object_key(key))

    def _stage_atoms(self) -> None:
        """Stage the atoms all of whose packs are registered."""
        ready: list[PendingAtom] = []
        waiting: list[PendingAtom] = []
        for atom in self._done_atoms:
            known = all(one.pack_key in self._pack_ids for one in atom.extents)
            (ready if known else waiting).append(atom)
        self._done_atoms = waiting
        # By digest, so that a transaction changes neighbouring pages of the digests' index.
        ready.sort(key=lambda one: one.digest)
        for piece in batches_by_rows(ready):
            with self.parts.database.write(durable=False) as tx:
                again = [new_atom(one, self._pack_ids) for one in piece if one.replaces]
                atoms.replace_extents(tx, again)
                new = [new_atom(one, self._pack_ids) for one in piece if not one.replaces]
                # Somebody else's atom of the same digest may have won: hold on to that one.
                found = atoms.find(tx, atoms.add(tx, new, now_us=self.parts.clock()))
                writers.pin_atoms(tx, self.id, [row[0] for row in found.values()])
            self._fresh.difference_update(one.digest for one in piece)

    # -- the end

    def close(self) -> None:
        """End the session: drop what is open, forget the pins."""
        try:
            self._encoders.shutdown(wait=True, cancel_futures=True)
            self._queue.clear()
            pack, self._pack = self._pack, None
            if pack is not None:
                pack.abort()
        finally:
            try:
                self._sealer.shutdown(wait=True)
                self.bases.close()
                self._drop_unregistered()
                remove_writer(in_turn(self.parts.database), self.id)
            except BaseException as error:
                writer_locks.give_back(self._lock, error)
                raise
            # Whatever went wrong: with the lock gone, a collection does the rest.
            self._lock.release(remove=True)
