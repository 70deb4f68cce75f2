"""Opening, making and mending stores: what there is to do with a place before it is a ``Store``."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hartonomous.errors import ConflictError
from hartonomous.operations import backup as backing_up
from hartonomous.operations import catalog_copy as moving
from hartonomous.operations import doctor as examining
from hartonomous.operations import estimate as estimating
from hartonomous.operations import migrate as migrating
from hartonomous.operations import repair as repairing
from hartonomous.operations import restore as restoring
from hartonomous.operations import scan as scanning
from hartonomous.operations import transfer as transferring
from hartonomous.packs import directory
from hartonomous.packs.catalog_schema import check_server
from hartonomous.ports.progress import Progress
from hartonomous.settings import Settings, StorePlace, find_store, load_settings
from hartonomous.store import Places, Store

if TYPE_CHECKING:
    from hartonomous.packs.checks import Check
    from hartonomous.packs.repaired import Repaired


def now_us() -> int:
    """Return microseconds UTC."""
    return time.time_ns() // 1000


def init(path: str | os.PathLike[str], *, force: bool = False, catalog: str | None = None) -> Store:
    """Make an empty store and open it; ``catalog`` is the address of a PostgreSQL server."""
    place = Path(path)
    directory.create(place, force=force, catalog_url=catalog)
    return open_store(place, force=force, catalog=catalog)


def open_store(
    path: str | os.PathLike[str] | None = None,
    *,
    create: bool = False,
    force: bool = False,
    settings: dict[str, Any] | None = None,
    catalog: str | None = None,
) -> Store:
    """Open the store at ``path`` (or where it is found); ``create`` makes one if there is none.

    ``catalog`` is the address (``postgresql://…``) of a catalog that is on a server: where that of
    a new store goes, and how to reach it.
    """
    place = find_store(None)[0] if path is None else Path(path)
    if create and not (place / "store.json").exists():
        try:
            directory.create(place, force=force, catalog_url=catalog)
        except ConflictError:
            if not (place / "store.json").exists():  # else somebody else made it just now
                raise
    values = load_settings(given=settings or {}, store=place)
    held = directory.open_directory(
        place, settings=values, clock=now_us, force=force, catalog_url=catalog
    )
    return Store(held, values)


def migrate_store(
    path: str | os.PathLike[str],
    *,
    dry_run: bool = False,
    force: bool = False,
    settings: dict[str, Any] | None = None,
) -> migrating.Migrated:
    """Bring a store's catalog to the newest schema; nobody else may have it open."""
    place = Path(path)
    values = load_settings(given=settings or {}, store=place)
    return migrating.migrate(place, settings=values, clock=now_us, dry_run=dry_run, force=force)


def repair_store(
    path: str | os.PathLike[str],
    *,
    dry_run: bool = False,
    force: bool = False,
    settings: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Repaired:
    """Rebuild a store's catalog from its packs; nobody else may have it open."""
    place = Path(path)
    values = load_settings(given=settings or {}, store=place)
    held = directory.open_directory(
        place, settings=values, clock=now_us, force=force, exclusive=True, with_catalog=False
    )
    try:
        return repairing.repair(held.parts, dry_run=dry_run, progress=progress)
    finally:
        held.close()


def move_catalog(
    path: str | os.PathLike[str],
    to: str,
    *,
    force: bool = False,
    settings: dict[str, Any] | None = None,
) -> moving.MovedCatalog:
    """Move a store's catalog to ``sqlite`` or a server's address. See `hart catalog copy`."""
    place = Path(path)
    values = load_settings(given=settings or {}, store=place)
    return moving.move_catalog(place, to, settings=values, clock=now_us, force=force)


def estimate_paths(
    paths: Places,
    *,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    progress: Progress | None = None,
) -> estimating.Estimate:
    """Tell what an empty store would need for what is at ``paths``; needs no store."""
    many = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    return estimating.estimate(None, many, include=include, exclude=exclude, progress=progress)


def scan_place(
    place: str | os.PathLike[str], *, hidden: bool = False, progress: Progress | None = None
) -> scanning.ScanReport:
    """Tell what loading what lies at ``place`` would run; needs no store."""
    return scanning.scan_place(place, hidden=hidden, progress=progress)


def diagnose(
    place: StorePlace | None, settings: Settings, *, found: tuple[Check, ...] = ()
) -> examining.Diagnosis:
    """Look at the program, the machine and the store at ``place``. See `hart doctor`."""
    return examining.diagnose(place, settings, clock=now_us, found=found)


def restore_store(
    folder: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    snapshot: str | None = None,
    catalog: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> restoring.Restored:
    """Make a store at ``path`` from a snapshot (the newest) of a folder. See `hart restore`.

    ``catalog`` is the address of a PostgreSQL server for its catalog; a file in it otherwise.
    """
    if catalog is not None:
        check_server(catalog)
    done = restoring.restore(
        Path(folder), Path(path), snapshot=snapshot, force_network=force, dry_run=dry_run,
        progress=progress,
    )  # fmt: skip
    if catalog is not None and not dry_run:
        settings = load_settings(store=Path(path))
        moving.move_catalog(Path(path), catalog, settings=settings, clock=now_us, force=force)
    return done


def list_backups(folder: str | os.PathLike[str]) -> list[backing_up.SnapshotListed]:
    """Return the snapshots in a folder of backups, oldest first."""
    return backing_up.listing(Path(folder))


def check_backups(
    folder: str | os.PathLike[str], *, progress: Progress | None = None
) -> backing_up.BackupChecked:
    """Read everything in a folder of backups and compare all digests."""
    return backing_up.check(Path(folder), progress=progress)


def find_backup(folder: str | os.PathLike[str], snapshot: str) -> None:
    """Raise NotFoundError unless a folder of backups has a snapshot of that name."""
    backing_up.find(Path(folder), snapshot)


def remove_backup(folder: str | os.PathLike[str], snapshot: str) -> backing_up.SnapshotRemoved:
    """Remove a snapshot from a folder of backups, with the packs that no other needs."""
    return backing_up.remove(Path(folder), snapshot, now_us=now_us())


def sync_stores(
    first: Store,
    second: Store,
    *,
    rename: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> transferring.Synced:
    """Bring two open stores to the same names and versions. See `hart sync`."""
    options = transferring.TransferOptions(rename=rename)
    return transferring.sync(
        first.parts, second.parts, options=options, dry_run=dry_run, progress=progress
    )
