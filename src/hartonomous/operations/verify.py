"""Verify: is every stored byte still what it was, and does the catalog tell the truth.

Quick looks at packs' headers, tables of contents and the catalog's own sums. Full reads every
record, decodes every atom and compares its digest, and checks every manifest.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import msgspec

from hartonomous.catalog import atoms as atom_rows
from hartonomous.catalog import bases, copies, events, manifests, packs, reference_counts
from hartonomous.core.digest import AtomHasher
from hartonomous.core.record import RecordHeader
from hartonomous.errors import HartonomousError, IntegrityError, NotFoundError, UsageError
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.bounded_cache import FrameCache
from hartonomous.packs.fault import Fault, damage_told
from hartonomous.packs.files import CHUNK_BYTES, FileReader, load_manifest
from hartonomous.packs.index_checks import check_indexes
from hartonomous.packs.journal_check import check_database, check_entry, check_names
from hartonomous.packs.manifest_rows import manifest_facts
from hartonomous.packs.operands import Operands
from hartonomous.packs.pack_file import PackReader
from hartonomous.packs.parts import StoreParts, pack_object_key
from hartonomous.packs.plain_files import check_plain
from hartonomous.packs.second_copies import check_atom, check_second, is_whole, mend
from hartonomous.packs.space_checks import check_spaces
from hartonomous.ports.progress import NoProgress, Progress

_PAGE = 1000
_MAX_FAULTS = 10_000
_CACHE_BYTES = 16 * 1024 * 1024


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at, and its faults, up to 10,000.

    ``complete`` is False when a limit ended it early.

    ``mended`` are atoms whose second copy took the place of a damaged first one, and plain files
    and indexes that were removed, since they are made anew.
    """

    level: str
    pack_count: int
    record_count: int
    atom_count: int
    manifest_count: int
    read_bytes: int
    faults: tuple[Fault, ...]
    mended: tuple[str, ...] = ()
    complete: bool
    duration_s: float

    @property
    def sound(self) -> bool:
        """Whether nothing was wrong."""
        return not self.faults


@dataclass(slots=True)
class _Work:
    parts: StoreParts
    reader: AtomReader
    progress: Progress
    deadline: float
    faults: list[Fault] = field(default_factory=list)
    packs: int = 0
    records: int = 0
    atoms: int = 0
    manifests: int = 0
    read_bytes: int = 0
    complete: bool = True
    repair: bool = False
    mended: list[str] = field(default_factory=list)

    def fault(self, where: str, what: str, files: tuple[str, ...] = ()) -> None:
        if len(self.faults) < _MAX_FAULTS:
            self.faults.append(Fault(where=where, what=what, files=files))

    def count_atom(self) -> None:
        self.atoms += 1
        self.progress.count()

    def out_of_time(self) -> bool:
        if time.monotonic() >= self.deadline:
            self.complete = False
            return True
        return False


def verify(
    parts: StoreParts,
    *,
    quick: bool = False,
    files: bool = False,
    subset: Fraction = Fraction(1),
    turn: int | None = None,
    repair: bool = False,
    max_duration_s: float | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Check the store; ``repair`` lets second copies take the place of damaged first ones.

    ``subset`` (such as 1/10) reads that part of the atoms, chosen by digest; ``turn`` says which of
    the parts (the day by default, so that daily runs cover all). ``files`` also rebuilds every
    stored file and compares its BLAKE3. ``max_duration_s`` ends early and says so.
    """
    if not 0 < subset <= 1:
        raise UsageError(f"the subset {subset} is not between 0 and 1", hint="write 1/10")
    begun = time.monotonic()
    limit = float("inf") if max_duration_s is None else begun + max_duration_s
    # Caches of its own: what others decoded earlier says nothing of the disk now.
    operands = Operands(parts.operands.limit_bytes)
    reader = AtomReader(parts, frames=FrameCache(_CACHE_BYTES), operands=operands)
    work = _Work(parts, reader, progress or NoProgress(), limit, repair=repair)
    try:
        check_database(parts, work.fault, quick=quick)
        _check_packs(work)
        _check_catalog(work)
        if not quick:
            _check_journal(work)
            check_names(parts, work.fault)
            _check_manifests(work)
            chosen = _chooser(subset, turn, parts)
            _check_second_copies(work, chosen)
            _check_atoms(work, chosen)
            mended = work.mended.append if repair else None
            check_plain(parts, work.fault, mended)
            check_spaces(parts, work.fault, mended)
            check_indexes(parts, work.fault, mended, work.progress.note)
            if files:
                _check_files(work)
    finally:
        work.reader.close()
    level = "quick" if quick else "files" if files else "full"
    report = _report(work, level, time.monotonic() - begun)
    _tell(work, report)
    return report


def _report(work: _Work, level: str, duration_s: float) -> VerifyReport:
    return VerifyReport(
        level=level,
        pack_count=work.packs,
        record_count=work.records,
        atom_count=work.atoms,
        manifest_count=work.manifests,
        read_bytes=work.read_bytes,
        faults=tuple(work.faults),
        mended=tuple(work.mended),
        complete=work.complete,
        duration_s=round(duration_s, 3),
    )


def _tell(work: _Work, report: VerifyReport) -> None:
    """Write the event of a verification that found damage."""
    if report.sound and not report.mended:
        return
    try:
        with work.parts.database.write() as tx:
            data = damage_told(report.level, report.faults, report.mended)
            events.append(tx, "store.verified", None, data, now_us=work.parts.clock())
    except HartonomousError as error:  # a store that may only be read
        work.progress.note(f"the damage could not be told of: {error.message}")


def _chooser(subset: Fraction, turn: int | None, parts: StoreParts) -> Callable[[bytes], bool]:
    if subset == 1:
        return lambda _digest: True
    if turn is None:
        turn = parts.clock() // 86_400_000_000
    low = Fraction(turn % subset.denominator, subset.denominator)
    width = subset

    def chosen(digest: bytes) -> bool:
        place = (Fraction(int.from_bytes(digest[:8], "big"), 2**64) - low) % 1
        return place < width

    return chosen


# -- structure


def _check_packs(work: _Work) -> None:
    """Every pack of the catalog is there, whole, and lists every record that rows point to."""
    with work.parts.database.read() as tx:
        rows = packs.everything(tx)
    work.progress.stage("packs")
    for row in rows:
        if work.out_of_time():
            return
        name = row.key.hex()
        with work.parts.database.read() as tx:
            wanted = packs.offsets(tx, row.id)
            ties = bases.of_pack(tx, row.id)
        if not wanted:
            continue  # dead: gc may be removing it right now
        try:
            source = work.parts.objects.open(pack_object_key(row.key))
        except NotFoundError:
            with work.parts.database.read() as tx:
                still_wanted = packs.offsets(tx, row.id)  # or compacted just now
            if still_wanted:
                work.fault(f"pack {name}", "is missing", _files_of_pack(work, row.id))
            continue
        except HartonomousError as error:  # such as a disk that reports an error
            work.fault(f"pack {name}", error.message, _files_of_pack(work, row.id))
            continue
        pack = PackReader(source, name)
        try:
            _check_one_pack(work, pack, row, wanted)
            _check_bases(pack, wanted, ties)
        except HartonomousError as error:
            work.parts.database.refuse_lost(error)
            work.fault(f"pack {name}", error.message, _files_of_pack(work, row.id))
        finally:
            pack.close()
        work.packs += 1


def _check_one_pack(
    work: _Work, pack: PackReader, row: packs.PackRow, wanted: dict[int, tuple[str, int]]
) -> None:
    for key in (pack.header().key, pack.footer().key):
        if key != row.key:
            raise IntegrityError(
                f"is another pack than its name says, {pack_object_key(key)}: hart repair gives "
                "packs their names back"
            )
    if pack.size != row.size_bytes:
        raise IntegrityError(f"has {pack.size} bytes, the catalog says {row.size_bytes}")
    listed: dict[int, RecordHeader] = dict(pack.records())
    work.records += len(listed)
    work.progress.count(len(listed))
    for at in wanted:
        header = listed.get(at)
        if header is None:
            raise IntegrityError(f"lists no record at {at}, where the catalog expects one")
        if pack.inline(at).encode() != header.encode():
            raise IntegrityError(f"the record at {at} differs from its table of contents")


def _check_bases(
    pack: PackReader, wanted: dict[int, tuple[str, int]], ties: dict[int, set[bytes]]
) -> None:
    """Compare the bases that records name with those that the catalog keeps for them."""
    for at, (table, _) in wanted.items():
        named = set(pack.record(at).bases) if table == "extent" else set()
        missing = named - ties.get(at, set())
        if missing:
            raise IntegrityError(
                f"the record at {at} needs blake3:{min(missing).hex()} as a base, which the catalog"
                " does not say of it"
            )


def _check_catalog(work: _Work) -> None:
    with work.parts.database.read() as tx:
        for digest, size, held in atom_rows.holes(tx, limit=100):
            work.fault(f"atom blake3:{digest.hex()}", f"has {held} of its {size} bytes in extents")
        for digest, kept, real in reference_counts.wrong_counts(tx, limit=100):
            work.fault(
                f"atom blake3:{digest.hex()}",
                f"is counted {kept} times, manifests refer to it {real} times",
            )
        for digest, kept, real in bases.wrong_depths(tx, limit=100):
            work.fault(
                f"atom blake3:{digest.hex()}",
                f"is said to have {kept} bases below each other, and has {real}",
            )


# -- content


def _check_journal(work: _Work) -> None:
    """Every commit and change can be read, and says what its rows say."""
    work.progress.stage("commits and changes")
    for pack_id, key in _pack_keys(work):
        if work.out_of_time():
            return
        with work.parts.database.read() as tx:
            wanted = packs.journal(tx, pack_id)
        try:
            pack = PackReader(work.parts.objects.open(pack_object_key(key)), key.hex())
        except HartonomousError:
            continue  # told of already, or compacted meanwhile
        try:
            for row in wanted:
                check_entry(work.parts, work.fault, pack, row)
        finally:
            pack.close()


def _pack_keys(work: _Work) -> list[tuple[int, bytes]]:
    with work.parts.database.read() as tx:
        return [(row.id, row.key) for row in packs.everything(tx)]


def _pages(work: _Work) -> Iterator[tuple[int, bytes, int]]:
    after = 0
    while True:
        with work.parts.database.read() as tx:
            page = atom_rows.page(tx, after_id=after, limit=_PAGE)
        if not page:
            return
        work.reader.locate(digest for _, digest, _ in page)
        yield from page
        after = page[-1][0]


def _check_atoms(work: _Work, chosen: Callable[[bytes], bool]) -> None:
    """Decode atoms and compare their digests; of a damaged one also those that are built on it."""
    work.progress.stage("atoms")
    with work.parts.database.read() as tx:
        marked = atom_rows.damaged_ids(tx)
    buffer = bytearray(CHUNK_BYTES)
    faulty: list[int] = []
    for atom_id, digest, size in _pages(work):
        if work.out_of_time():
            return
        if not chosen(digest):
            continue
        if not _check_atom(work, atom_id, digest, size, buffer):
            faulty.append(atom_id)
        elif atom_id in marked:
            _mark_damaged(work, atom_id, damaged=False)
    with work.parts.database.read() as tx:
        above = atom_rows.by_ids(tx, bases.dependents(tx, faulty))
    for atom_id, digest, size in above:
        if not chosen(digest):
            _check_atom(work, atom_id, digest, size, buffer)


def _check_second_copies(work: _Work, chosen: Callable[[bytes], bool]) -> None:
    """Decode second copies; a damaged one is a fault, and forgotten where that is allowed."""
    with work.parts.database.read() as tx:
        rows = copies.all_second(tx)
    for atom_id, digest in rows:
        if work.out_of_time():
            return
        if not chosen(digest):
            continue
        try:
            check_second(work.parts, work.reader, atom_id, digest)
        except HartonomousError as error:
            work.parts.database.refuse_lost(error)
            with work.parts.database.read() as tx:
                if not copies.extents(tx, atom_id, 1):
                    continue  # dropped, or moved, meanwhile
            if work.repair and is_whole(work.parts, work.reader, atom_id):
                with work.parts.database.write() as tx:
                    copies.drop_second(tx, atom_id)
                work.mended.append(f"blake3:{digest.hex()} (its second copy was damaged)")
                continue
            where = f"second copy of atom blake3:{digest.hex()}"
            work.fault(where, error.message, _files_of_atom(work, atom_id))


def _check_atom(work: _Work, atom_id: int, digest: bytes, size: int, buffer: bytearray) -> bool:
    """Decode one atom; False where it is not what its digest says, which is written down."""
    try:
        check_atom(work.reader, digest, size, buffer, work.progress.advance)
        work.read_bytes += size
    except HartonomousError as error:
        work.parts.database.refuse_lost(error)
        if not _still_stored(work, digest):
            return True
        mended = mend(work.parts, work.reader, atom_id) if work.repair else []
        if mended:
            work.mended += [f"blake3:{one.hex()}" for one in mended]
            return _check_atom(work, atom_id, digest, size, buffer)
        work.fault(f"atom blake3:{digest.hex()}", error.message, _files_of_atom(work, atom_id))
        _mark_damaged(work, atom_id)
        work.count_atom()
        return False
    work.count_atom()
    return True


def _mark_damaged(work: _Work, atom_id: int, *, damaged: bool = True) -> None:
    """Remember the damage, so that adding the bytes again stores them anew, or that it is gone."""
    try:
        with work.parts.database.write() as tx:
            atom_rows.mark_damaged(tx, atom_id, damaged=damaged)
    except HartonomousError as error:  # a store that may only be read
        work.progress.note(f"the damage could not be written down: {error.message}")


def _still_stored(work: _Work, digest: bytes) -> bool:
    with work.parts.database.read() as tx:
        return digest in atom_rows.find(tx, [digest])


def _check_manifests(work: _Work) -> None:
    work.progress.stage("manifests")
    for row in _manifest_rows(work):
        if work.out_of_time():
            return
        name = f"manifest of blake3:{row.file_digest.hex()}"
        try:
            manifest = load_manifest(work.reader, row)
        except HartonomousError as error:
            work.parts.database.refuse_lost(error)
            if _manifest_stored(work, row.file_digest):
                work.fault(name, error.message, _names(work, row.id))
            continue
        references: dict[bytes, int] = {}
        for segment in manifest.segments:
            if segment.digest is not None:
                references[segment.digest] = references.get(segment.digest, 0) + 1
        with work.parts.database.read() as tx:
            if references != manifests.references_of(tx, row.id) and _complete(tx, row):
                what = "refers to other atoms than the catalog says"
                work.fault(name, what, _names(work, row.id))
            other = manifests.differences(tx, row, manifest_facts(manifest))
            if other and _complete(tx, row):
                what = f"has {', '.join(other)} than the catalog says"
                work.fault(name, what, _names(work, row.id))
        work.manifests += 1


def _complete(tx: object, row: manifests.ManifestRow) -> bool:
    now = manifests.by_file_digest(tx, row.file_digest)  # type: ignore[arg-type]
    # Under another id it was dropped and added again since ``row`` was read.
    return now is not None and now.complete and now.id == row.id


def _manifest_stored(work: _Work, file_digest: bytes) -> bool:
    with work.parts.database.read() as tx:
        row = manifests.by_file_digest(tx, file_digest)
        return row is not None and row.complete


def _manifest_rows(work: _Work) -> Iterator[manifests.ManifestRow]:
    after = 0
    while True:
        with work.parts.database.read() as tx:
            page = manifests.page(tx, after_id=after, limit=_PAGE)
        if not page:
            return
        yield from page
        after = page[-1].id


def _check_files(work: _Work) -> None:
    work.progress.stage("files")
    for row in _manifest_rows(work):
        if work.out_of_time():
            return
        try:
            hasher = AtomHasher()
            for piece in FileReader(work.reader, load_manifest(work.reader, row)).chunks():
                hasher.update(piece)
                work.progress.advance(len(piece))
            work.read_bytes += row.size_bytes
            if hasher.digest() != row.file_digest:
                raise IntegrityError("comes out with another digest")
        except HartonomousError as error:
            work.parts.database.refuse_lost(error)
            if _manifest_stored(work, row.file_digest):
                where = f"file blake3:{row.file_digest.hex()}"
                work.fault(where, error.message, _names(work, row.id))


def _names(work: _Work, manifest_id: int) -> tuple[str, ...]:
    with work.parts.database.read() as tx:
        return tuple(manifests.file_names(tx, [manifest_id], limit=8))


def _files_of_atom(work: _Work, atom_id: int) -> tuple[str, ...]:
    """Name files that hold an atom, or another one that is built on it."""
    with work.parts.database.read() as tx:
        needing = [atom_id, *sorted(bases.dependents(tx, [atom_id]))]
        return tuple(manifests.file_names(tx, manifests.needing_atoms(tx, needing), limit=8))


def _files_of_pack(work: _Work, pack_id: int) -> tuple[str, ...]:
    """Name files that lie in a pack, or that are built on atoms in it."""
    with work.parts.database.read() as tx:
        ids = manifests.needing_pack(tx, pack_id, limit=8)
        above = sorted(bases.dependents(tx, atom_rows.in_pack(tx, pack_id)))
        ids.extend(manifests.needing_atoms(tx, above))
        return tuple(manifests.file_names(tx, ids, limit=8))
