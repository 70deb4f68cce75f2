"""A store's directory: making it, opening it, and bringing its catalog to the newest schema."""

import contextlib
import os
import stat
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hartonomous import locks
from hartonomous.catalog import database as catalog
from hartonomous.catalog.database import Database
from hartonomous.errors import (
    ConflictError,
    HartonomousError,
    IntegrityError,
    LockedError,
    NoStoreError,
    UnsupportedStoreError,
    UsageError,
)
from hartonomous.formats.sandbox import ParserProcess
from hartonomous.objects.durable import storage_error, sync_directory
from hartonomous.objects.local import LocalObjects
from hartonomous.packs.access_counts import AccessCounts
from hartonomous.packs.bounded_cache import FrameCache
from hartonomous.packs.catalog_file import CATALOG, CatalogFile, mode_of
from hartonomous.packs.catalog_home import SQLITE, CatalogHome, address, catalog_home, new_card
from hartonomous.packs.catalog_schema import CatalogSchema, check_server
from hartonomous.packs.operands import Operands
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.store_card import (
    CARRIED,
    POSTGRESQL,
    StoreCard,
    read_card,
    write_card,
    write_carried,
)
from hartonomous.settings import STORE_FILE, Settings

_FOLDERS = ("packs", "locks", "tmp", "cache", "index")
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "9p", "fuse.sshfs", "fuse.s3fs",
     "fuse.rclone", "fuse.gcsfuse", "fuse.glusterfs", "ceph", "lustre", "beegfs"}
)  # fmt: skip


@dataclass(slots=True, kw_only=True)
class OpenDirectory:
    """An open store directory: its card, its parts, and the lock that says it is in use."""

    card: StoreCard
    parts: StoreParts
    lock: locks.FileLock

    def fresh_parts(self) -> StoreParts:
        """Return the parts for a piece of work that begins: without connections that have ended."""
        self.parts.database.refresh()
        return self.parts

    def close(self) -> None:
        """Close the catalog and give the lock back."""
        with contextlib.ExitStack() as stack:  # each, whatever became of those before it
            # Forked processes may go on with the store: it stays in use until they end.
            stack.callback(self.lock.release, leave_to_forked=True)
            stack.callback(self.parts.database.close)
            stack.callback(self.parts.parser.close)
            if self.parts.accesses is not None:
                self.parts.accesses.write()


def create(path: Path, *, force: bool = False, catalog_url: str | None = None) -> StoreCard:
    """Make an empty store at ``path``, which must not exist or be an empty folder.

    Its catalog is a file there, or a schema on the PostgreSQL server that ``catalog_url`` or the
    environment names. Raises ConflictError when something is there, UsageError on a network file
    system unless ``force``: locks and syncs are not to be trusted there.
    """
    path = path.absolute()
    if (path / STORE_FILE).exists():
        raise ConflictError(f"there is a store at {path} already", hint="use it as it is")
    if path.exists() and (not path.is_dir() or not _is_free(path)):
        raise ConflictError(
            f"{path} is not an empty folder", hint="choose another place for the store"
        )
    url = address(catalog_url)
    if url not in (None, SQLITE):
        check_server(url)  # before anything is made that would have to be taken away again
    missing = [above for above in (path, *path.parents) if not above.exists()]
    try:
        refuse_network(path, force=force)
        path.mkdir(parents=True, exist_ok=True)
        for folder in _FOLDERS:
            (path / folder).mkdir(exist_ok=True)
        with locks.held(path / "locks" / "create.lock", what=f"the making of a store at {path}"):
            card = _fill(path, url)
        for made in missing or [path]:
            sync_directory(made.parent)
    except OSError as error:
        raise storage_error(error, "make a store", path) from error
    return card


def _fill(path: Path, catalog_url: str | None) -> StoreCard:
    if (path / STORE_FILE).exists():
        raise ConflictError(f"a store was just made at {path}", hint="use it as it is")
    store_id = uuid.uuid4().hex
    there = new_card(store_id, catalog_url)
    card = StoreCard(
        id=store_id,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        required_features=() if there is None else (POSTGRESQL,),
        catalog=msgspec.UNSET if there is None else there,
    )
    catalog_home(path, card, catalog_url).create()
    write_carried(path)
    sync_directory(path)
    # Last: a directory without store.json is no store yet.
    write_card(path, card)
    return card


def _is_free(path: Path) -> bool:
    """Say whether a folder is empty, or has only what a making that was cut short leaves."""
    drafts = (f".{name}." for name in (*CARRIED, STORE_FILE))
    ours = (*CARRIED, CATALOG, *drafts)
    entries = list(path.iterdir())
    for entry in entries:
        if entry.name in _FOLDERS and entry.is_dir():
            if entry.name != "locks" and any(entry.iterdir()):
                return False
        elif not entry.name.startswith(ours):
            return False
        elif not stat.S_ISREG(mode_of(entry) or stat.S_IFREG):
            return False  # what has just gone was a draft of somebody else at work here
    return not entries or (path / "packs").is_dir()


def open_directory(
    path: Path,
    *,
    settings: Settings,
    clock: Callable[[], int],
    force: bool = False,
    exclusive: bool = False,
    with_catalog: bool = True,
    catalog_url: str | None = None,
) -> OpenDirectory:
    """Open the store at ``path``.

    ``exclusive`` refuses when anybody else has it open (repair, migration); ``with_catalog=False``
    does not look at the catalog at all. ``catalog_url`` (else the environment) says how to reach a
    catalog that is on a server.
    """
    path = path.absolute()
    _refuse_strange_parts(path)
    card = read_card(path)
    refuse_network(path, force=force)
    try:
        for folder in _FOLDERS:
            (path / folder).mkdir(exist_ok=True)
        lock = _lock(path, exclusive=exclusive)
    except OSError as error:
        raise storage_error(error, "open the store", path) from error
    try:
        home = catalog_home(path, card, address(catalog_url))
        database = _open_catalog(home) if with_catalog else Database(catalog.memory_engine())
    except BaseException:
        lock.release()
        raise
    counts = settings.access_counts and with_catalog
    parts = StoreParts(
        directory=path,
        objects=LocalObjects(path),
        database=database,
        home=home,
        clock=clock,
        parser=ParserProcess(),
        host=settings.host,
        pack_bytes=settings.pack_bytes,
        workers=settings.workers,
        check=settings.check,
        frames=FrameCache(min(settings.frame_cache_bytes, settings.memory_limit_bytes // 4)),
        operands=Operands(settings.memory_limit_bytes // 4),
        variants=settings.variants,
        max_depth=settings.max_depth,
        hot_labels=settings.hot_labels,
        accesses=AccessCounts(database, clock) if counts else None,
    )
    return OpenDirectory(card=card, parts=parts, lock=lock)


def _refuse_strange_parts(path: Path) -> None:
    """Raise UnsupportedStoreError where a part of the store is a link to somewhere else.

    Raises IntegrityError where a folder of the store is none.

    What lies in `tmp`, `cache` and `locks` is swept, and the catalog is written at every opening:
    in a store that somebody else made, a link would turn that on files that are none of it.
    """
    for name in (*_FOLDERS, CATALOG, STORE_FILE):
        if (path / name).is_symlink():
            raise UnsupportedStoreError(
                f"{path / name} is a symbolic link, and a store's parts lie in its own directory",
                hint="put the folder or file itself there, or mount the other disk at its place",
            )
    for name in _FOLDERS:
        mode = mode_of(path / name)
        if mode is not None and not stat.S_ISDIR(mode):
            raise IntegrityError(
                f"{path / name} is no folder", hint="move away what lies there, and try again"
            )


def _lock(path: Path, *, exclusive: bool) -> locks.FileLock:
    lock = locks.try_lock(path / "locks" / "store.lock", shared=not exclusive)
    if lock is not None:
        return lock
    if exclusive:
        raise LockedError(
            f"the store at {path} is in use", hint="end everything that has it open, and try again"
        )
    raise LockedError(
        f"the store at {path} is being repaired or migrated", hint="wait for that to end"
    )


def _open_catalog(home: CatalogHome) -> Database:
    home.refuse_strange()
    database = home.open()
    try:
        revision = catalog.current_revision(database.engine)
        if revision == catalog.SCHEMA_REVISION:
            return database
        if revision is None or revision > catalog.SCHEMA_REVISION:
            raise _unknown_schema(home, revision)
        raise UnsupportedStoreError(
            f"the catalog has the older schema {revision}",
            hint="hart migrate brings it to the new one; the old one is copied first",
        )
    except HartonomousError:
        database.close()
        raise


def _unknown_schema(home: CatalogHome, revision: str | None) -> HartonomousError:
    if revision is None and isinstance(home, CatalogSchema) and home.is_closed():
        return NoStoreError(
            f"the catalog of this store cannot be seen by this role at {home.shown()}: it is "
            "there, and the right to use it is missing",
            hint="your role needs to be granted one of those that hart catalog roles names; so "
            "does the role that made the store, once they were made",
        )
    if revision is None and not isinstance(home, CatalogFile):
        return NoStoreError(
            f"no catalog of this store can be seen at {home.shown()}",
            hint="your role may lack rights (hart catalog roles names those that have them), or it "
            "is another server or database; only where the catalog is gone for certain hart repair "
            "makes a new one",
        )
    said = revision or "none"
    return UnsupportedStoreError(
        f"the catalog has schema {said}, this program knows {catalog.SCHEMA_REVISION}",
        hint="use a newer version of hartonomous, or hart repair if the file was damaged",
    )


def migrate(
    path: Path,
    *,
    settings: Settings,
    clock: Callable[[], int],
    dry_run: bool = False,
    force: bool = False,
) -> tuple[str, str, str]:
    """Bring the catalog to the newest schema; return (old, new, path of the copy).

    With ``dry_run`` nothing is copied and nothing changed.
    """
    held = open_directory(
        path, settings=settings, clock=clock, force=force, exclusive=True, with_catalog=False
    )
    try:
        home = held.parts.home
        home.refuse_strange()
        database = home.open()
        try:
            before = catalog.current_revision(database.engine)
            if before == catalog.SCHEMA_REVISION:
                return before, before, ""
            if before is None or before > catalog.SCHEMA_REVISION:
                raise _unknown_schema(home, before)
            if dry_run:
                return before, catalog.SCHEMA_REVISION, ""
            copy = home.copy_aside(before)
            catalog.migrate(database.engine)
        finally:
            database.close()
        return before, catalog.SCHEMA_REVISION, copy
    finally:
        held.close()


def refuse_network(path: Path, *, force: bool) -> None:
    """Raise UsageError when ``path`` lies on a network file system, unless ``force``."""
    kind = file_system_of(path)
    if kind in _NETWORK and not force:
        raise UsageError(
            f"{path} lies on a network file system ({kind}), where locks and syncs cannot be "
            "relied on",
            hint="put the store on a local disk, or insist with --force-network",
        )


def is_network(kind: str) -> bool:
    """Say whether a type of file system lies on another machine."""
    return kind in _NETWORK


def file_system_of(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """Return the type of the file system under ``path``, None where that cannot be told."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    real = os.path.realpath(path)
    best, kind = "", None
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        # Spaces and backslashes in mount points are written as octal escapes.
        place = fields[1].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        inside = real == place or real.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best):
            best, kind = place, fields[2]
    return kind
