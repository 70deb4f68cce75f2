"""Collect (`hart gc`): empty the trash, drop what nothing needs, compact packs, remove litter.

Works beside writers: it leaves alone what a live session wrote or pinned, and packs younger than a
grace period. Every step is small and may be cut short anywhere; the next run goes on.
"""

import contextlib
import math
import os
from collections.abc import Iterator
from typing import Any

from hartonomous import locks
from hartonomous.catalog import (
    artifacts,
    atoms,
    changes,
    dropped,
    events,
    families,
    manifests,
    packs,
    properties,
    reference_counts,
    versions,
    writers,
)
from hartonomous.catalog.batches import batches
from hartonomous.catalog.database import ROWS_PER_TRANSACTION
from hartonomous.catalog.effects import about_version
from hartonomous.core.event import NewEvent
from hartonomous.errors import LockedError, UsageError
from hartonomous.objects.local import LocalObjects
from hartonomous.packs import event_retention, job_retention, leftovers, rebasing
from hartonomous.packs.catalog_file import drafts
from hartonomous.packs.collected import Collected, Tally
from hartonomous.packs.compaction import compact, foresee
from hartonomous.packs.orphans import Orphan, orphans
from hartonomous.packs.parts import StoreParts, pack_object_key
from hartonomous.packs.plain_files import plain_cache
from hartonomous.packs.publication import publication
from hartonomous.packs.session import WriteSession
from hartonomous.packs.space_pruning import prune_spaces
from hartonomous.packs.steps import (
    Steps,
    in_turn,
    remove_all,
    remove_manifest,
    remove_version,
    remove_writer,
    within,
)
from hartonomous.ports.progress import NoProgress, Progress

DAY_US = 86_400_000_000
DEAD_SHARE = 0.2
"""A pack is compacted when more than this share of it is dead."""
SMALL_PACK_BYTES = 4 * 1024 * 1024
SMALL_PACKS = 8
"""So many small packs of about the same size (within a factor of 8) are merged. What comes of that
is larger, so that no byte is copied more than a few times, however many collections there are."""
_VERSIONS_A_PURGE = (ROWS_PER_TRANSACTION - 20) // 2  # of each the row, and an event
_PURGE_PACK_BYTES = 800
"""About what the record of a purge takes, which lies in a pack of its own."""

_ATOMS_A_TRANSACTION = ROWS_PER_TRANSACTION // 6
"""With an atom go the rows of its extents and sketches, mostly two and at most five."""


def collect(
    parts: StoreParts,
    *,
    trash_days: float = 30,
    event_days: float = 90,
    job_days: float = 30,
    grace_s: float = 3600,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Collected:
    """Free what nothing needs.

    Versions go from the trash after ``trash_days``; events go from the change feed after
    ``event_days``, where every consumer that has a cursor has passed them; jobs go ``job_days``
    after they ended; packs that the catalog does not know go when their writer is dead and they are
    older than ``grace_s``. One collection at a time: raises LockedError when another one runs,
    UsageError for a time that is none.
    """
    days = {"trash_days": trash_days, "event_days": event_days, "job_days": job_days}
    for name, value in {**days, "grace_s": grace_s}.items():
        if not value >= 0 or (name == "grace_s" and value == math.inf):  # NaN is neither
            raise UsageError(f"{name} is {value}, which is no time", hint="use a number from 0 on")
    progress = progress or NoProgress()
    tally = Tally()
    with _alone(parts):
        progress.stage("trash")
        _purge_trash(parts, tally, trash_days, dry_run=dry_run)
        if dry_run:
            _foresee(parts, tally, trash_days, grace_s, progress)
            tally.events = event_retention.foresee(parts, before_us=_days_ago(parts, event_days))
            tally.jobs = job_retention.foresee(parts, before_us=_days_ago(parts, job_days))
        else:
            # What frees room comes before compaction, which needs some.
            _drop_leftovers(parts, tally, grace_s)
            step = in_turn(parts.database)
            for key in _forget_dead_writers(parts, step):
                lock = locks.try_lock(parts.writer_lock(key))
                if lock is not None:
                    lock.release(remove=True)
            progress.stage("rows")
            _drop_manifests(parts, step, tally, trash_days)
            tally.atoms += _drop_atoms(parts, step)
            progress.count(tally.manifests + tally.atoms)
            tally.vectors = prune_spaces(parts)
            progress.stage("bases")
            _rebase(parts, tally, progress)
            _fold_counts(parts)
            tally.events = event_retention.shed(parts, before_us=_days_ago(parts, event_days))
            tally.jobs = job_retention.shed(parts, before_us=_days_ago(parts, job_days))
            progress.stage("packs")
            _drop_packs(parts, tally)
            _drop_litter(parts, tally, trash_days, grace_s)
            if _compact_packs(parts, tally, progress):
                _drop_packs(parts, tally)
        with parts.database.read() as tx:
            tally.look(tx, dry_run=dry_run)
        done = tally.result(dry_run=dry_run)
        _tell(parts, done)
    return done


def _tell(parts: StoreParts, done: Collected) -> None:
    """Write the event of a collection that freed something."""
    if not done.dry_run and any(done.counts().values()):
        data = {**done.counts(), "freed_bytes": done.freed_bytes}
        with parts.database.write() as tx:
            events.append(tx, "store.collected", None, data, now_us=parts.clock())


@contextlib.contextmanager
def _alone(parts: StoreParts) -> Iterator[None]:
    lock = locks.try_lock(parts.lock_path("collect"))
    if lock is None:
        raise LockedError("another gc is running on this store", hint="wait for it to end")
    try:
        yield
    finally:
        lock.release()


def _live_writers(parts: StoreParts) -> list[bytes]:
    with parts.database.read() as tx:
        return _living(parts, tx)


def _living(parts: StoreParts, tx: Any) -> list[bytes]:
    return [key for _, key in writers.keys(tx) if parts.writer_alive(key)]


# -- versions


def _days_ago(parts: StoreParts, days: float) -> int:
    """Return a time in µs, and no earlier one than 0, however many the days."""
    now = parts.clock()
    return now - int(min(days * DAY_US, now))


def _purge_trash(parts: StoreParts, tally: Tally, trash_days: float, *, dry_run: bool) -> None:
    """Write down which versions are gone for good, then drop their rows."""
    before = _days_ago(parts, trash_days)
    with parts.database.read() as tx:
        rows = versions.in_trash(tx, removed_before_us=before)
    tally.purged = [f"{row.name}@{row.number}" for row in rows if dry_run]
    for some in batches([row.id for row in rows if not dry_run], _VERSIONS_A_PURGE):
        tally.purged += _purge(parts, set(some), before)


def _purge(parts: StoreParts, some: set[int], before: int) -> list[str]:
    """Publish that some versions are gone for good; return those that were in the trash still."""
    with WriteSession(parts) as session, publication(session) as work:
        with parts.database.read() as tx:
            rows = [
                row for row in versions.in_trash(tx, removed_before_us=before) if row.id in some
            ]
            held = {row.id: versions.manifest_digests(tx, row.id) for row in rows}
            before_that = dropped.manifests_of(tx, [row.uid for row in rows])
        if not rows:
            return []  # all were taken out meanwhile
        purge = work.change(
            "purge",
            version_uids=[row.uid.hex() for row in rows],
            manifests=sorted({one.hex() for found in held.values() for one in found} | before_that),
            numbers=_highest_numbers(rows),
        )

        def hide(tx: Any) -> None:
            # From here on nobody sees them; the rows below follow in small pieces.
            versions.set_unpublished(tx, [row.id for row in rows])
            for row in rows:
                told = {**about_version(row), "sequence": purge["seq"]}
                work.events.append(NewEvent("artifact.purged", row.name, told))

        work.finish(hide)
        return [f"{row.name}@{row.number}" for row in rows]


def _highest_numbers(rows: list[versions.VersionRow]) -> list[dict[str, Any]]:
    """Return the highest number purged of each artifact, so that a rebuild gives none again."""
    highest: dict[str, int] = {}
    for row in rows:
        uid = row.artifact_uid.hex()
        highest[uid] = max(highest.get(uid, 0), row.number)
    return [{"artifact": uid, "number": number} for uid, number in sorted(highest.items())]


# -- rows: in a transaction each, or all in the one of a dry run


def _forget_dead_writers(parts: StoreParts, step: Steps) -> list[bytes]:
    """Remove what dead sessions left in the catalog; return their keys."""
    with step() as tx:
        dead = [(id_, key) for id_, key in writers.keys(tx) if not parts.writer_alive(key)]
    for writer_id, _ in dead:
        remove_writer(step, writer_id)
    with step() as tx:
        hidden = versions.purged(tx)
    for version_id in hidden:
        remove_version(step, version_id)
    remove_all(step, artifacts.remove_empty)
    remove_all(step, changes.remove_pointless)
    return [key for _, key in dead]


def _drop_manifests(parts: StoreParts, step: Steps, tally: Tally, trash_days: float) -> None:
    after, since_us = 0, _days_ago(parts, trash_days)
    while True:
        with step() as tx:
            found = manifests.unreferenced(
                tx, after_id=after, limit=ROWS_PER_TRANSACTION, spared_writers=_living(parts, tx)
            )
            if not found:
                return
            after = found[-1][0]
            # In the same transaction: what is dropped from a version just now is held from then on.
            held = dropped.held_files(tx, since_us=since_us)
            ids = [manifest_id for manifest_id, file_digest in found if file_digest not in held]
            manifests.set_incomplete(tx, ids)
        for manifest_id in ids:
            remove_manifest(step, manifest_id)
        tally.manifests += len(ids)


def _drop_atoms(parts: StoreParts, step: Steps, gone: set[int] | None = None) -> int:
    """Remove the atoms that nothing needs; return how many, and add their ids to ``gone``."""
    count, freed = 0, True
    while freed:  # what was needed as a base may not be any more
        after, freed = 0, False
        while True:
            with step() as tx:
                ids = atoms.unreferenced(
                    tx, after_id=after, limit=_ATOMS_A_TRANSACTION,
                    spared_writers=_living(parts, tx),
                )  # fmt: skip
                if not ids:
                    break
                freed = atoms.remove(tx, ids) > 0 or freed
            count += len(ids)
            after = ids[-1]
            if gone is not None:
                gone.update(ids)
    return count


def _rebase(parts: StoreParts, tally: Tally, progress: Progress) -> None:
    """Give up bases that no file holds where what is built on them takes less without."""
    tally.rebased = rebasing.rebase(parts, progress.note)
    tally.notes.extend(tally.rebased.notes)
    tally.freed_bytes -= tally.rebased.written_bytes
    if tally.rebased.atom_count:
        tally.atoms += _drop_atoms(parts, in_turn(parts.database))


def _fold_counts(parts: StoreParts) -> None:
    while True:
        with parts.database.write(durable=False) as tx:
            if not reference_counts.count_references(tx, limit=ROWS_PER_TRANSACTION):
                return


# -- packs


def _compact_packs(parts: StoreParts, tally: Tally, progress: Progress) -> bool:
    """Copy what lives in packs that are worth it; say whether there were any.

    What is written may be small itself and be worth a merge with others, so that is asked again,
    of these packs and those that were there at first, as long as they become fewer.
    """
    alive = set(_live_writers(parts))
    with parts.database.read() as tx:
        rows, live = packs.everything(tx), packs.live_records(tx)
    loose = _worth_copying(rows, live, alive, parts.pack_bytes)
    if not loose:
        return False
    known, tried = {row.id for row in rows}, set[int]()
    with WriteSession(parts) as session:
        while True:
            result = compact(session, loose, progress)
            tally.compacted += result.pack_count
            tally.notes.extend(result.notes)
            tally.freed_bytes -= result.written_bytes
            tried |= {row.id for row in loose}
            before = sum(row.id in live for row in rows)
            with parts.database.read() as tx:
                rows, live = packs.everything(tx), packs.live_records(tx)
            rows = [row for row in rows if row.id in known or row.writer_key == session.key]
            fewer = sum(row.id in live for row in rows) < before
            untried = [row for row in rows if row.id not in tried]
            loose = _worth_copying(untried, live, alive, parts.pack_bytes)
            if not fewer or len(loose) < 2:
                return True


def _worth_copying(
    rows: list[packs.PackRow],
    live: dict[int, tuple[int, int]],
    alive: set[bytes],
    pack_bytes: int,
) -> list[packs.PackRow]:
    """Return the packs to compact: those with much dead in them, and many small ones alike.

    What is copied goes into new packs, one or, where something large is among it, some more. These
    may be alike to small ones that are almost enough for a merge: then they are merged right away,
    instead of by the next collection.
    """
    loose: list[packs.PackRow] = []
    alike: dict[int, list[packs.PackRow]] = {}
    small = min(SMALL_PACK_BYTES, pack_bytes // 4)  # those that are full are never merged
    for row in rows:
        records, stored = live.get(row.id, (0, 0))
        if row.writer_key in alive or not records:
            continue
        if row.record_count > records and row.size_bytes - stored > DEAD_SHARE * row.size_bytes:
            loose.append(row)
        elif row.size_bytes <= small:
            alike.setdefault(row.size_bytes.bit_length() // 3, []).append(row)
    written = 1 + sum(row.size_bytes > small for row in loose)
    if not loose and all(len(some) < SMALL_PACKS for some in alike.values()):
        return []
    for some in alike.values():
        if len(some) >= SMALL_PACKS - written:
            loose.extend(some)
    return loose


def _drop_packs(parts: StoreParts, tally: Tally) -> None:
    """Remove packs to which no row points; the row goes first, then the file."""
    with parts.database.read() as tx:
        rows = packs.everything(tx)
        live = packs.live_records(tx)
    alive = set(_live_writers(parts))
    for row in rows:
        if row.id in live or row.writer_key in alive:
            continue
        with parts.database.write() as tx:
            if packs.offsets(tx, row.id):
                continue
            packs.remove(tx, row.id)
        parts.objects.delete(pack_object_key(row.key))
        tally.packs += 1
        tally.freed_bytes += row.size_bytes


def _unknown_packs(parts: StoreParts, trash_days: float, grace_s: float) -> list[Orphan]:
    before_us = parts.clock() - int(grace_s * 1_000_000)
    killed_us = min(before_us, _days_ago(parts, trash_days))
    return orphans(parts, before_us=before_us, killed_before_us=killed_us)


def _drop_litter(parts: StoreParts, tally: Tally, trash_days: float, grace_s: float) -> None:
    """Remove packs that the catalog does not know, that nothing speaks for."""
    for orphan in _unknown_packs(parts, trash_days, grace_s):
        if orphan.needed is not None:
            tally.notes.append(f"{orphan.key} is left alone: {orphan.needed}")
            continue
        parts.objects.delete(orphan.key)
        tally.litter += 1
        tally.freed_bytes += orphan.size_bytes


def _drop_leftovers(parts: StoreParts, tally: Tally, grace_s: float) -> None:
    """Remove what dead processes left in the directory: unfinished files, locks, cache entries."""
    tally.litter += parts.objects.sweep()
    tally.litter += plain_cache(parts).sweep()
    old = leftovers.old_files(parts.directory, before_us=_before(parts, grace_s))
    # Whoever has the store open keeps repairs away: a new catalog that is not in its place is dead.
    for path in (*old, *drafts(parts.directory)):
        path.unlink(missing_ok=True)
        tally.litter += 1
    with parts.database.read() as tx:
        known = {key.hex() for _, key in writers.keys(tx)}
    tally.litter += leftovers.drop_writer_locks(parts.directory, known)


def _before(parts: StoreParts, grace_s: float) -> int:
    """Return the time before which a leftover must have been made, to be one."""
    return parts.clock() - max(int(grace_s * 1_000_000), leftovers.LEAST_AGE_US)


# -- a dry run


class _TakenBackError(Exception):
    """Ends the transaction of a rehearsal, so that nothing of it stays."""


def _foresee(
    parts: StoreParts, tally: Tally, trash_days: float, grace_s: float, progress: Progress
) -> None:
    """Count what a run would do, by doing it to the catalog and taking that back.

    The transaction holds the catalog's lock for writing; packs are only looked at.
    """
    _count_leftovers(parts, tally, grace_s)
    for orphan in _unknown_packs(parts, trash_days, grace_s):
        if orphan.needed is not None:
            tally.notes.append(f"{orphan.key} is left alone: {orphan.needed}")
            continue
        tally.litter += 1
        tally.freed_bytes += orphan.size_bytes
    with contextlib.suppress(_TakenBackError), parts.database.write(durable=False) as tx:
        _rehearse(parts, tx, tally, trash_days)
        tally.kept = families.kept_for_others(tx)
        raise _TakenBackError
    tally.rebased = rebasing.foresee(parts, tally.kept, tally.gone, progress.note)
    tally.notes.extend(tally.rebased.notes)
    tally.atoms += tally.rebased.base_count


def _count_leftovers(parts: StoreParts, tally: Tally, grace_s: float) -> None:
    tally.litter += LocalObjects(parts.directory).litter()[0]
    tally.litter += plain_cache(parts).litter_count()
    tally.litter += len(leftovers.old_files(parts.directory, before_us=_before(parts, grace_s)))
    tally.litter += len(drafts(parts.directory))
    with parts.database.read() as tx:
        known = {key.hex() for _, key in writers.keys(tx)}
    tally.litter += len(leftovers.dead_writer_locks(parts.directory, known))


def _rehearse(parts: StoreParts, tx: Any, tally: Tally, trash_days: float) -> None:
    rows = versions.in_trash(tx, removed_before_us=_days_ago(parts, trash_days))
    record = None
    if rows:
        versions.set_unpublished(tx, [row.id for row in rows])
        record = _rehearse_purge_record(parts, tx, rows)
    step = within(tx)
    _forget_dead_writers(parts, step)
    _drop_manifests(parts, step, tally, trash_days)
    tally.atoms += _drop_atoms(parts, step, tally.gone)
    _rehearse_packs(parts, tx, tally, set(_living(parts, tx)), record)


def _rehearse_purge_record(parts: StoreParts, tx: Any, rows: list[versions.VersionRow]) -> int:
    """Put in the rows of the record that the purge would write; return its own pack's id."""
    key = os.urandom(16)
    pack_id = packs.add(
        tx, key=key, writer_key=key, size_bytes=_PURGE_PACK_BYTES, record_count=1,
        created_us=parts.clock(),
    )  # fmt: skip
    sequence, _ = properties.last_publication(tx)
    content = {
        "version": 1,
        "kind": "change",
        "seq": sequence + 1,
        "time_us": parts.clock(),
        "action": "purge",
        "version_uids": [row.uid.hex() for row in rows],
        "manifests": [],
    }
    changes.add(tx, content=content, pack_id=pack_id, header_offset=0)
    return pack_id


def _rehearse_packs(
    parts: StoreParts, tx: Any, tally: Tally, alive: set[bytes], record: int | None
) -> None:
    """Count packs to drop and to compact; ``record`` is the pack that is none yet."""
    rows, live = packs.everything(tx), packs.live_records(tx)
    for row in rows:
        if row.id not in live and row.writer_key not in alive:
            tally.packs += 1
            tally.freed_bytes += row.size_bytes
    loose = _worth_copying(rows, live, alive, parts.pack_bytes)
    there = [row for row in loose if row.id != record]
    result = foresee(parts, [(row, list(packs.offsets(tx, row.id))) for row in there])
    gone = result.pack_count + (len(loose) - len(there))
    tally.compacted += gone
    tally.packs += gone
    tally.notes.extend(result.notes)
    tally.freed_bytes += sum(row.size_bytes for row in there) - result.written_bytes
