"""Restore (`hart restore`): a store from a snapshot, checked before it is one.

Every pack is compared with its digest, the catalog and the rest with theirs; `store.json` comes
last, so that a folder is a store only when everything is there. A run that was cut short goes on.
The restored store has an identity of its own: see docs/decisions/0016.
"""

import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hartonomous import locks
from hartonomous.catalog import events, jobs, packs, properties, schedules, snapshots, versions
from hartonomous.core.undecodable import UNDECODABLE
from hartonomous.errors import ConflictError, IntegrityError, NotFoundError
from hartonomous.objects.durable import draft_of, storage_error, sync_directory, write_atomically
from hartonomous.objects.local import LocalObjects
from hartonomous.packs import backup_folder, directory
from hartonomous.packs.backup_folder import CATALOG_FILE, BackupFolder, Snapshot
from hartonomous.packs.nested_folders import refuse_nested
from hartonomous.packs.parts import pack_object_key
from hartonomous.packs.room import PlannedFile, check_room
from hartonomous.packs.store_card import POSTGRESQL, read_card, write_card, write_carried
from hartonomous.ports.progress import NoProgress, Progress
from hartonomous.settings import FILE_NAME, STORE_FILE

_MARK = "restore.json"
_FOLDERS = ("packs", "locks", "tmp", "cache", "index")
_TOLD_FAULTS = 8


class _Mark(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``restore.json``, which lies in a folder that is no store yet."""

    snapshot: str
    store_id: str


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """A store that was restored, or (``dry_run``) would be.

    ``id`` is the new store's, ``store_id`` that of the store which was backed up. ``faults`` are
    what was damaged there when the snapshot was taken. Jobs that wait and schedules are kept; of a
    dry run nobody knows how many.
    """

    path: str
    id: str | None
    folder: str
    snapshot: str
    store_id: str
    taken_us: int
    version_count: int
    pack_count: int
    pack_bytes: int
    resumed_bytes: int = 0
    waiting_job_count: int | None = None
    schedule_count: int | None = None
    faults: tuple[str, ...] = ()
    dry_run: bool = False


def restore(
    folder: Path,
    target: Path,
    *,
    snapshot: str | None = None,
    force_network: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Restored:
    """Make the store ``target`` from a snapshot of ``folder``, the newest one for None.

    Raises ConflictError unless ``target`` is empty, new, or was begun from the same snapshot, and
    where it lies among the backups;
    IntegrityError where something is not what was written: then there is no store.
    """
    progress = progress or NoProgress()
    target = target.absolute()
    with backup_folder.open_for_reading(folder) as opened:
        card = opened.snapshot(snapshot)
        mark = _Mark(snapshot=card.name, store_id=card.store_id)
        _refuse_strange(target, mark)
        refuse_nested(target, opened.path)
        faults = backup_folder.check_files(opened, card)
        if faults:
            raise IntegrityError(
                "; ".join(faults[:_TOLD_FAULTS]),
                hint="restore another snapshot: hart backup DIR --list",
            )
        wanted = dict(opened.packs_of(card.name))
        done = Restored(
            path=str(target), id=None, folder=str(opened.path), snapshot=card.name,
            store_id=card.store_id, taken_us=card.taken_us, version_count=card.version_count,
            pack_count=card.pack_count, pack_bytes=card.pack_bytes, faults=card.faults,
            dry_run=dry_run,
        )  # fmt: skip
        _check_room(opened, target, wanted)
        if dry_run:
            return done
        directory.refuse_network(_nearest(target), force=force_network)
        task = _Task(opened=opened, card=card, target=target, wanted=wanted, progress=progress)
        try:
            made, resumed, work = _restore(task, mark)
        except OSError as error:
            raise storage_error(error, "restore", target) from error
    return msgspec.structs.replace(
        done, id=made, resumed_bytes=resumed, waiting_job_count=work[0], schedule_count=work[1]
    )


def _nearest(path: Path) -> Path:
    return next(one for one in (path, *path.parents) if one.exists())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What is restored, and where to."""

    opened: BackupFolder
    card: Snapshot
    target: Path
    wanted: dict[str, bytes]
    progress: Progress


def _restore(task: _Task, mark: _Mark) -> tuple[str, int, tuple[int, int]]:
    """Do the work; return (the new store's id, bytes that were there, as ``_check_catalog``)."""
    target = task.target
    missing = [above for above in (target, *target.parents) if not above.exists()]
    target.mkdir(parents=True, exist_ok=True)
    for name in _FOLDERS:
        (target / name).mkdir(exist_ok=True)
    with locks.held(target / "locks" / "create.lock", what=f"the making of a store at {target}"):
        _refuse_strange(target, mark)
        for entry in target.iterdir():
            if draft_of(entry.name) == _MARK:
                entry.unlink()
        write_atomically(target / _MARK, msgspec.json.encode(mark))
        objects = LocalObjects(target)
        objects.sweep()
        resumed = _restore_packs(task, objects)
        task.progress.stage("catalog")
        _restore_catalog(task)
        work = _check_catalog(task)
        made = _write_card(task)
    for above in missing or [target]:
        sync_directory(above.parent)
    return made, resumed, work


def _refuse_strange(target: Path, mark: _Mark) -> None:
    """Raise ConflictError unless a folder is free or holds what a restore like this one began."""
    if (target / STORE_FILE).exists():
        raise ConflictError(f"there is a store at {target} already", hint="choose another place")
    if not target.exists():
        return
    if not target.is_dir():
        raise ConflictError(f"{target} is no folder", hint="choose another place")
    entries = {one.name for one in target.iterdir()}
    if _MARK not in entries:
        # Empty folders are what a restore leaves that was cut short before its mark was there.
        # So are drafts of the mark.
        entries = {name for name in entries if draft_of(name) != _MARK}
        used = [name for name in sorted(entries) if name not in _FOLDERS or _holds(target / name)]
        if used:
            raise ConflictError(f"{target} is not an empty folder", hint="choose another place")
        return
    try:
        found = msgspec.json.decode((target / _MARK).read_bytes(), type=_Mark)
    except (OSError, *UNDECODABLE) as error:
        raise ConflictError(f"{target} is not an empty folder: {error}") from error
    if found != mark:
        raise ConflictError(
            f"{target} holds what was begun from snapshot {found.snapshot}",
            hint="go on with --snapshot, or remove that folder",
        )


def _holds(folder: Path) -> bool:
    if folder.is_symlink() or not folder.is_dir():
        return True
    return any(one.name != "create.lock" for one in folder.iterdir())


def _check_room(opened: BackupFolder, target: Path, wanted: dict[str, bytes]) -> None:
    sizes = {entry.key: entry.size for entry in opened.objects.list("packs/")}
    files = [(key, sizes.get(key, 0)) for key in wanted]
    check_room(
        target,
        [
            PlannedFile(target=target / key, part=target / key, size_bytes=size)
            for key, size in files
            if not (target / key).exists()
        ],
        option="--to",
    )


def _restore_packs(task: _Task, objects: LocalObjects) -> int:
    """Copy what is not there; return the bytes that were there already."""
    opened, wanted, progress = task.opened, task.wanted, task.progress
    sizes = {entry.key: entry.size for entry in opened.objects.list("packs/")}
    progress.stage("copy", total_bytes=sum(sizes.get(key, 0) for key in wanted))
    resumed = 0
    bad: list[str] = []  # all are told, and what is good is there for the next attempt
    for key, digest in sorted(wanted.items()):
        if _is_there(objects, key, digest):
            resumed += sizes.get(key, 0)
            progress.advance(sizes.get(key, 0))
            continue
        try:
            found = backup_folder.copy_pack(opened.objects, objects, key, progress.advance)
        except NotFoundError:
            bad.append(f"{key} is not among the backups")
            continue
        if found != digest:
            objects.delete(key)
            bad.append(f"{key} is not what was backed up")
    if bad:
        raise IntegrityError(
            "; ".join(bad[:_TOLD_FAULTS]), hint="hart backup DIR --verify reads everything"
        )
    strange = [entry.key for entry in objects.list("packs/") if entry.key not in wanted]
    if strange:
        raise ConflictError(f"{objects.root} holds {strange[0]}, which is not in the snapshot")
    return resumed


def _is_there(objects: LocalObjects, key: str, digest: bytes) -> bool:
    try:
        found = backup_folder.object_digest(objects, key)
    except NotFoundError:
        return False
    if found != digest:
        objects.delete(key)
    return found == digest


def _restore_catalog(task: _Task) -> None:
    """Put the snapshot's catalog in its place, as its digest says it was."""
    opened, card, target = task.opened, task.card, task.target
    for ending in ("", "-wal", "-shm", "-journal"):
        (target / f"{CATALOG_FILE}{ending}").unlink(missing_ok=True)
    for name in (CATALOG_FILE, FILE_NAME):
        kept = next((one for one in card.files if one.name == name), None)
        if kept is None:
            continue
        draft = target / "tmp" / f"{name}.restored"
        with (opened.place(card.name) / name).open("rb") as source, draft.open("wb") as out:
            while piece := source.read(4 << 20):
                out.write(piece)
        backup_folder.sync_file(draft)
        if backup_folder.file_digest(draft)[1].hex() != kept.digest:
            raise IntegrityError(f"{name} of snapshot {card.name} is not what was written")
        draft.replace(target / name)
    sync_directory(target)


def _check_catalog(task: _Task) -> tuple[int, int]:
    """Return how many jobs wait in the catalog, and how many schedules it has.

    Raises IntegrityError where it is not the one that the card and the packs speak of.
    """
    card, wanted = task.card, task.wanted
    database = snapshots.open_snapshot(task.target / CATALOG_FILE)
    try:
        with database.read() as tx:
            named = {pack_object_key(row.key) for row in packs.everything(tx)}
            sequence, _ = properties.last_publication(tx)
            count = len(versions.live(tx))
            work = jobs.count_open(tx), schedules.count(tx)
        with database.write() as tx:
            events.begin_era(tx, time.time_ns() // 1000)  # the feed goes on behind what was read
    finally:
        database.close()
    lost = named - wanted.keys()
    known = {fault.partition(":")[0] for fault in card.faults}
    if lost - known or (sequence, count) != (card.sequence, card.version_count):
        raise IntegrityError(
            f"the catalog of snapshot {card.name} does not fit its packs",
            hint="restore another snapshot: hart backup DIR --list",
        )
    return work


def _write_card(task: _Task) -> str:
    target = task.target
    former = read_card(task.opened.place(task.card.name))
    made = uuid.uuid4().hex
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    write_carried(target)
    # A catalog on a server went into a file of the snapshot.
    needed = tuple(name for name in former.required_features if name != POSTGRESQL)
    card = msgspec.structs.replace(
        former, id=made, created=created, required_features=needed, catalog=msgspec.UNSET
    )
    write_card(target, card)
    (target / _MARK).unlink()
    sync_directory(target)
    return made
