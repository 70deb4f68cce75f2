"""A store's directory: making it, opening it, and bringing its catalog to the newest schema."""

import os
import stat
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hartonomous import locks
from hartonomous.catalog import database as catalog
from hartonomous.catalog.database import Database
from hartonomous.errors import (
    ConflictError,
    HartonomousError,
    IntegrityError,
    LockedError,
    UnsupportedStoreError,
    UsageError,
)
from hartonomous.formats.sandbox import ParserProcess
from hartonomous.objects.durable import not_plain, storage_error, sync_directory
from hartonomous.objects.local import LocalObjects
from hartonomous.packs.bounded_cache import FrameCache
from hartonomous.packs.operands import Operands
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.store_card import (
    CARRIED,
    StoreCard,
    read_card,
    write_card,
    write_carried,
)
from hartonomous.settings import STORE_FILE, Settings

CATALOG = "catalog.sqlite3"
_CATALOG_FILES = (CATALOG, f"{CATALOG}-wal", f"{CATALOG}-shm", f"{CATALOG}-journal")
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

    def close(self) -> None:
        """Close the catalog and give the lock back."""
        self.parts.parser.close()
        self.parts.database.close()
        self.lock.release()


def create(path: Path, *, force: bool = False) -> StoreCard:
    """Make an empty store at ``path``, which must not exist or be an empty folder.

    Raises ConflictError when something is there, UsageError on a network file system unless
    ``force``: locks and syncs are not to be trusted there.
    """
    path = path.absolute()
    if (path / STORE_FILE).exists():
        raise ConflictError(f"there is a store at {path} already", hint="use it as it is")
    if path.exists() and (not path.is_dir() or not _is_free(path)):
        raise ConflictError(
            f"{path} is not an empty folder", hint="choose another place for the store"
        )
    missing = [above for above in (path, *path.parents) if not above.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        refuse_network(path, force=force)
        for folder in _FOLDERS:
            (path / folder).mkdir(exist_ok=True)
        with locks.held(path / "locks" / "create.lock", what=f"the making of a store at {path}"):
            card = _fill(path)
        for made in missing or [path]:
            sync_directory(made.parent)
    except OSError as error:
        raise storage_error(error, "make a store", path) from error
    return card


def _fill(path: Path) -> StoreCard:
    if (path / STORE_FILE).exists():
        raise ConflictError(f"a store was just made at {path}", hint="use it as it is")
    for ending in ("", "-wal", "-shm"):  # of a making that was cut short
        (path / f"{CATALOG}{ending}").unlink(missing_ok=True)
    Database(catalog.create_sqlite(path / CATALOG)).close()
    write_carried(path)
    card = StoreCard(
        id=uuid.uuid4().hex, created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    )
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
        elif not stat.S_ISREG(_mode(entry) or stat.S_IFREG):
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
) -> OpenDirectory:
    """Open the store at ``path``.

    ``exclusive`` refuses when anybody else has it open (repair, migration); ``with_catalog=False``
    does not look at the catalog at all.
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
        database = _open_catalog(path) if with_catalog else Database(catalog.memory_engine())
    except BaseException:
        lock.release()
        raise
    parts = StoreParts(
        directory=path,
        objects=LocalObjects(path),
        database=database,
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
        mode = _mode(path / name)
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


def _open_catalog(path: Path) -> Database:
    _refuse_special(path)
    engine = catalog.open_sqlite(path / CATALOG)
    try:
        revision = catalog.current_revision(engine)
    except HartonomousError:
        engine.dispose()
        raise
    if revision == catalog.SCHEMA_REVISION:
        return Database(engine)
    engine.dispose()
    if revision is None or revision > catalog.SCHEMA_REVISION:
        raise _unknown_schema(revision or "none")
    raise UnsupportedStoreError(
        f"the catalog has the older schema {revision}",
        hint="hart migrate brings it to the new one; the old file is copied first",
    )


def _mode(path: Path) -> int | None:
    """Return what lies at ``path`` in one look, None for nothing: SQLite's files come and go."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _refuse_special(path: Path) -> None:
    """Raise IntegrityError where a pipe, device or folder lies in place of the catalog's files.

    SQLite would wait for a pipe's other end.
    """
    for name in _CATALOG_FILES:
        place = path / name
        mode = _mode(place)
        if mode is not None and not stat.S_ISREG(mode):
            error = not_plain(place)
            raise IntegrityError(error.message, hint="hart repair puts a new catalog in its place")


def _unknown_schema(revision: str) -> UnsupportedStoreError:
    return UnsupportedStoreError(
        f"the catalog has schema {revision}, this program knows {catalog.SCHEMA_REVISION}",
        hint="use a newer version of hartonomous, or hart repair if the file was damaged",
    )


def migrate(
    path: Path, *, settings: Settings, clock: Callable[[], int], force: bool = False
) -> tuple[str, str, str]:
    """Bring the catalog to the newest schema; return (old, new, path of the copy)."""
    held = open_directory(
        path, settings=settings, clock=clock, force=force, exclusive=True, with_catalog=False
    )
    try:
        _refuse_special(path)
        engine = catalog.open_sqlite(path / CATALOG)
        before = catalog.current_revision(engine) or "none"
        if before == catalog.SCHEMA_REVISION:
            engine.dispose()
            return before, before, ""
        if before > catalog.SCHEMA_REVISION:  # "none" sorts behind every number
            engine.dispose()
            raise _unknown_schema(before)
        copy = catalog.copy_before_migration(path / CATALOG, before)
        catalog.migrate(engine)
        engine.dispose()
        return before, catalog.SCHEMA_REVISION, str(copy)
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
