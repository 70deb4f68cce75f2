"""Back up (`hart backup`): a folder of snapshots that share packs; listing, checking, removing.

A snapshot is the catalog at one moment and every pack that it names. Packs are immutable, so only
those are copied that the folder lacks. Works beside writers and collections: a pack that went away
since the catalog was copied makes the backup take the catalog anew.
"""

import contextlib
from pathlib import Path
from typing import Any

import msgspec

from hartonomous import locks
from hartonomous.catalog import packs, properties, snapshots, versions
from hartonomous.errors import HartonomousError, NotFoundError, UsageError
from hartonomous.objects.durable import storage_error
from hartonomous.objects.local import LocalObjects
from hartonomous.packs import backup_folder, backup_suspects
from hartonomous.packs.backup_folder import (
    CATALOG_FILE,
    FILES,
    PACK_LIST,
    BackupFolder,
    KeptFile,
    Snapshot,
    pack_line,
)
from hartonomous.packs.nested_folders import refuse_nested
from hartonomous.packs.parts import StoreParts, pack_object_key
from hartonomous.packs.store_card import read_card
from hartonomous.ports.progress import NoProgress, Progress
from hartonomous.settings import FILE_NAME, STORE_FILE

_ROUNDS_BESIDE_GC = 3
"""So often the catalog is taken anew beside collections; after that they have to wait."""


class BackedUp(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot that was made, or (``dry_run``) would be.

    Of ``pack_count`` packs (``pack_bytes``) ``copied_count`` (``copied_bytes``) were not in the
    folder. ``faults`` are what was damaged in the store already; it was copied as it is.
    ``damaged_snapshots`` cannot be read, and no pack is removed while they are there.
    """

    folder: str
    snapshot: str | None
    store_id: str
    sequence: int
    version_count: int
    pack_count: int
    pack_bytes: int
    copied_count: int
    copied_bytes: int
    catalog_bytes: int
    removed_snapshots: tuple[str, ...] = ()
    freed_bytes: int = 0
    faults: tuple[str, ...] = ()
    damaged_snapshots: tuple[str, ...] = ()
    dry_run: bool = False


class SnapshotListed(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot in a listing; ``damage`` says why nothing else is known of it."""

    name: str
    store_id: str
    taken_us: int
    sequence: int
    version_count: int
    pack_count: int
    pack_bytes: int
    copied_bytes: int
    fault_count: int
    damage: str | None = None


class BackupChecked(msgspec.Struct, frozen=True, kw_only=True):
    """What reading all of a folder of backups found."""

    folder: str
    snapshots: tuple[str, ...]
    pack_count: int
    checked_bytes: int
    faults: tuple[str, ...]


class SnapshotRemoved(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot that was removed, with the packs that no other needs."""

    folder: str
    snapshot: str
    pack_count: int
    freed_bytes: int


def backup(
    parts: StoreParts,
    folder: Path,
    *,
    keep: int | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> BackedUp:
    """Make a snapshot of the store in ``folder``, which is made if there is none.

    With ``keep`` the oldest snapshots over that number go afterwards. Raises ConflictError where
    something else lies there, LockedError where another backup to it is at work, StorageFullError
    or HartonomousError for what a disk refuses.
    """
    if keep is not None and keep < 1:
        raise UsageError(f"--keep {keep} would keep nothing", hint="use 1 or more")
    folder = folder.absolute()
    refuse_nested(parts.directory, folder)
    progress = progress or NoProgress()
    if dry_run:
        return _foresee(parts, folder)
    try:
        return _back_up(parts, folder, keep, progress)
    except OSError as error:
        raise storage_error(error, "back up", folder) from error


def _back_up(parts: StoreParts, folder: Path, keep: int | None, progress: Progress) -> BackedUp:
    with backup_folder.open_for_writing(folder, now_us=parts.clock()) as opened:
        opened.sweep()
        try:
            done = _Backup(parts, opened, progress).run()
        except BaseException:
            with contextlib.suppress(OSError, HartonomousError):  # the next run does so as well
                opened.sweep()  # a full disk needs the room
            raise
        gone = [] if keep is None else opened.names()[:-keep]
        for name in gone:
            opened.remove(name)
        freed = opened.drop_unneeded()[1] if gone else 0
        damaged = tuple(opened.damaged())
    return msgspec.structs.replace(
        done, removed_snapshots=tuple(gone), freed_bytes=freed, damaged_snapshots=damaged
    )


def _foresee(parts: StoreParts, folder: Path) -> BackedUp:
    there: set[str] = set()
    with contextlib.suppress(NotFoundError), backup_folder.open_for_reading(folder) as opened:
        there = {entry.key for entry in opened.objects.list("packs/")}
    with parts.database.read() as tx:
        rows = packs.everything(tx)
        sequence, _ = properties.last_publication(tx)
        count = len(versions.live(tx))
    missing = [row for row in rows if pack_object_key(row.key) not in there]
    catalog = parts.directory / CATALOG_FILE
    return BackedUp(
        folder=str(folder), snapshot=None, store_id=read_card(parts.directory).id,
        sequence=sequence, version_count=count, pack_count=len(rows),
        pack_bytes=sum(row.size_bytes for row in rows), copied_count=len(missing),
        copied_bytes=sum(row.size_bytes for row in missing),
        catalog_bytes=catalog.stat().st_size if catalog.exists() else 0, dry_run=True,
    )  # fmt: skip


class _Backup:
    """One backup at work: what was copied so far holds for every round."""

    def __init__(self, parts: StoreParts, folder: BackupFolder, progress: Progress) -> None:
        self._parts = parts
        self._folder = folder
        self._progress = progress
        self._source = LocalObjects(parts.directory)
        self._known = folder.known_packs()
        self._suspects = backup_suspects.suspects(folder.path)
        self._copied: dict[str, int] = {}
        self._faults: dict[str, str] = {}  # by pack

    def run(self) -> BackedUp:
        gone_before: set[str] = set()
        rounds = 0
        while True:
            rounds += 1
            with self._beside_gc(rounds):
                name, draft = self._folder.draft(self._parts.clock())
                self._progress.stage("catalog")
                rows, sequence, count = self._take_catalog(draft)
                gone = self._copy_packs(rows, gone_before)
            if not gone:
                return self._publish(name, draft, rows, sequence, count)
            # Collected since: the newest state of the catalog does not name it. If that names it
            # still, it is lost in the store, and the next round says so and goes on.
            gone_before |= gone
            self._folder.sweep()

    def _beside_gc(self, rounds: int) -> "contextlib.AbstractContextManager[None]":
        if rounds <= _ROUNDS_BESIDE_GC:
            return contextlib.nullcontext()
        return locks.held(self._parts.lock_path("collect"), what="the store's collection")

    def _take_catalog(self, draft: Path) -> tuple[list[packs.PackRow], int, int]:
        target = draft / CATALOG_FILE
        snapshots.copy_catalog(self._parts.database, target, self._progress.advance)
        database = snapshots.open_snapshot(target)
        try:
            with database.read() as tx:
                sequence, _ = properties.last_publication(tx)
                return packs.everything(tx), sequence, len(versions.live(tx))
        finally:
            database.close()

    def _copy_packs(self, rows: list[packs.PackRow], gone_before: set[str]) -> set[str]:
        """Copy what is missing; return the packs that went away meanwhile."""
        wanted = [(pack_object_key(row.key), row.size_bytes) for row in rows]
        missing = [one for one in wanted if not self._has(*one)]
        self._progress.stage("copy", total_bytes=sum(size for _, size in missing))
        gone: set[str] = set()
        for key, size in missing:
            try:
                self._copy(key, size)
            except NotFoundError:
                if key in gone_before:
                    self._faults[key] = f"{key}: is not in the store any more"
                else:
                    gone.add(key)
        return gone

    def _has(self, key: str, size: int) -> bool:
        """Say whether the folder has a pack whole, as far as its size tells; suspects are read."""
        if key not in self._known:
            return False
        if key in self._suspects and not self._is_sound(key):
            return False
        try:
            found = (self._folder.path / key).lstat().st_size
        except OSError:
            found = -1
        if found != size:
            self._folder.objects.delete(key)
            del self._known[key]
        return found == size

    def _is_sound(self, key: str) -> bool:
        """Read a pack that was found damaged; where the store has it whole, the bad copy goes."""
        self._suspects.discard(key)
        folder, known = self._folder.objects, self._known[key]
        try:
            if backup_folder.object_digest(folder, key, self._progress.advance) == known:
                return True
        except NotFoundError:
            return True  # its size will say so
        try:
            ours = backup_folder.object_digest(self._source, key, self._progress.advance)
        except NotFoundError:
            ours = b""
        if ours != known:
            self._faults[key] = f"{key}: is damaged among the backups, and in the store as well"
            return True
        folder.delete(key)
        del self._known[key]
        return False

    def _copy(self, key: str, size: int) -> None:
        objects = self._folder.objects
        digest = self._copied_before(key)
        if digest is None:
            digest = backup_folder.copy_pack(self._source, objects, key, self._progress.advance)
            self._copied[key] = size
        fault = backup_folder.pack_fault(objects, key)
        if fault is not None:
            self._faults[key] = fault
        self._known[key] = digest

    def _copied_before(self, key: str) -> bytes | None:
        """Return the digest of a pack that a run that was cut short copied, if it did so whole."""
        objects = self._folder.objects
        try:
            there = backup_folder.object_digest(objects, key)
        except NotFoundError:
            return None
        if backup_folder.object_digest(self._source, key, self._progress.advance) == there:
            return there
        objects.delete(key)
        return None

    def _publish(
        self, name: str, draft: Path, rows: list[packs.PackRow], sequence: int, count: int
    ) -> BackedUp:
        keys = [pack_object_key(row.key) for row in rows]
        with (draft / PACK_LIST).open("wb") as out:
            for key in sorted(key for key in keys if key in self._known):
                out.write(pack_line(key, self._known[key]))
        for own in (STORE_FILE, FILE_NAME):
            place = self._parts.directory / own
            if place.is_file() and not place.is_symlink():
                (draft / own).write_bytes(place.read_bytes())
        kept = tuple(_kept(draft / one) for one in FILES if (draft / one).exists())
        card = Snapshot(
            name=name, store_id=read_card(self._parts.directory).id, taken_us=self._parts.clock(),
            sequence=sequence, version_count=count, pack_count=len(rows),
            pack_bytes=sum(row.size_bytes for row in rows),
            copied_bytes=sum(self._copied.values()),
            catalog_bytes=(draft / CATALOG_FILE).stat().st_size, files=kept,
            faults=tuple(self._faults[key] for key in keys if key in self._faults),
        )  # fmt: skip
        self._folder.publish(name, draft, card)
        if not any("among the backups" in fault for fault in card.faults):
            backup_suspects.forget(self._folder.path)
        return BackedUp(
            folder=str(self._folder.path), snapshot=name, store_id=card.store_id,
            sequence=sequence, version_count=count, pack_count=card.pack_count,
            pack_bytes=card.pack_bytes, copied_count=len(self._copied),
            copied_bytes=card.copied_bytes, catalog_bytes=card.catalog_bytes, faults=card.faults,
        )  # fmt: skip


def _kept(path: Path) -> KeptFile:
    size, digest = backup_folder.file_digest(path)
    return KeptFile(name=path.name, size_bytes=size, digest=digest.hex())


def listing(folder: Path) -> list[SnapshotListed]:
    """Return the snapshots in a folder of backups, oldest first; raises NotFoundError."""
    with backup_folder.open_for_reading(folder) as opened:
        return [_listed(opened, name) for name in opened.names()]


def _listed(folder: BackupFolder, name: str) -> SnapshotListed:
    try:
        card = folder.snapshot(name)
    except HartonomousError as error:
        return SnapshotListed(
            name=name, store_id="", taken_us=0, sequence=0, version_count=0, pack_count=0,
            pack_bytes=0, copied_bytes=0, fault_count=0, damage=error.message,
        )  # fmt: skip
    values: dict[str, Any] = {
        name: getattr(card, name) for name in SnapshotListed.__struct_fields__[:-2]
    }
    return SnapshotListed(**values, fault_count=len(card.faults))


def find(folder: Path, name: str) -> None:
    """Raise NotFoundError unless a snapshot of that name, sound or not, is in a folder."""
    with backup_folder.open_for_reading(folder) as opened:
        _find(opened, name)


def _find(opened: BackupFolder, name: str) -> None:
    if name not in opened.names():
        opened.snapshot(name)  # which says what is there


def remove(folder: Path, name: str, *, now_us: int) -> SnapshotRemoved:
    """Remove a snapshot and the packs that no other needs; raises NotFoundError."""
    backup_folder.open_for_reading(folder).close()  # a folder of backups is not made here
    with backup_folder.open_for_writing(folder, now_us=now_us) as opened:
        _find(opened, name)
        opened.remove(name)
        count, freed = opened.drop_unneeded()
    return SnapshotRemoved(
        folder=str(folder.absolute()), snapshot=name, pack_count=count, freed_bytes=freed
    )


def check(folder: Path, *, progress: Progress | None = None) -> BackupChecked:
    """Read every snapshot and every pack of a folder of backups, and compare all digests."""
    progress = progress or NoProgress()
    faults: list[str] = []
    bad: list[str] = []
    checked = 0
    with backup_folder.open_for_reading(folder) as opened:
        names = opened.names()
        wanted: dict[str, bytes] = {}
        for name in names:
            faults += _snapshot_faults(opened, name, wanted)
        sizes = {entry.key: entry.size for entry in opened.objects.list("packs/")}
        total = sum(size for key, size in sizes.items() if key in wanted)
        progress.stage("read", total_bytes=total)
        for key, digest in sorted(wanted.items()):
            try:
                found = backup_folder.object_digest(opened.objects, key, progress.advance)
            except NotFoundError:
                faults.append(f"{key}: is not there")
                continue
            if found != digest:
                faults.append(f"{key}: is not what was written")
                bad.append(key)
            checked += sizes.get(key, 0)
        if bad:
            backup_suspects.suspect(opened.path, bad)
    return BackupChecked(
        folder=str(folder.absolute()), snapshots=tuple(names), pack_count=len(wanted),
        checked_bytes=checked, faults=tuple(faults),
    )  # fmt: skip


def _snapshot_faults(folder: BackupFolder, name: str, wanted: dict[str, bytes]) -> list[str]:
    """Check a snapshot's own files, and gather in ``wanted`` the packs that it needs."""
    try:
        card = folder.snapshot(name)
        faults = backup_folder.check_files(folder, card)
        for key, digest in folder.packs_of(name):
            if wanted.setdefault(key, digest) != digest:
                faults.append(f"{name}: {key} has another digest here than in another snapshot")
    except HartonomousError as error:
        return [error.message]
    return faults
