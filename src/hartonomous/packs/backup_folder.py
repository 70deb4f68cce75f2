"""A folder of backups: packs that all its snapshots share, and a folder for each snapshot.

    backup.json                what this folder is
    packs/<aa>/<key>.pack      copies of packs, as they lie in the store
    snapshots/<time>/          catalog.sqlite3, store.json, packs.b3, snapshot.json, settings
    tmp/, backup.lock          unfinished copies; who is at work
    suspects                   packs that a check found damaged, until the next backup

``packs.b3`` names the packs of a snapshot with their BLAKE3 digests, as b3sum writes and checks
them. A snapshot is there once its folder has its final name: everything in it, and every pack that
it names, was durable before. See docs/copies.md.
"""

import contextlib
import errno
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from hartonomous import locks
from hartonomous.core.closing import Closing
from hartonomous.core.digest import AtomHasher
from hartonomous.core.undecodable import UNDECODABLE
from hartonomous.errors import (
    ConflictError,
    HartonomousError,
    IntegrityError,
    LockedError,
    NotFoundError,
    UnsupportedStoreError,
)
from hartonomous.objects.durable import (
    draft_of,
    not_plain,
    read_plain,
    storage_error,
    sync_directory,
    write_atomically,
)
from hartonomous.objects.local import LocalObjects
from hartonomous.packs.backup_suspects import SUSPECTS_FILE
from hartonomous.packs.pack_file import PackReader
from hartonomous.packs.second_copies import check_payload
from hartonomous.settings import FILE_NAME, STORE_FILE

BACKUP_FILE = "backup.json"
SNAPSHOT_FILE = "snapshot.json"
CATALOG_FILE = "catalog.sqlite3"
PACK_LIST = "packs.b3"
FILES = (CATALOG_FILE, STORE_FILE, PACK_LIST, FILE_NAME)
"""What a snapshot may hold beside its card; settings are there if the store has some."""
VERSION = 1

_BLOCK_BYTES = 4 << 20
_CARD_LIMIT_BYTES = 1 << 20
_MOST_PACKS = 1 << 24
_NAME = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z")
_LINE = re.compile(rb"([0-9a-f]{64})  (packs/([0-9a-f]{2})/([0-9a-f]{32})\.pack)\n")
_LINE_BYTES = 64 + 2 + len("packs/aa/.pack") + 32 + 1


class BackupCard(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``backup.json``."""

    format: str = "hartonomous-backup"
    version: int = VERSION
    created: str


class KeptFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a snapshot, with its BLAKE3 in hex."""

    name: str
    size_bytes: int
    digest: str


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``snapshot.json``: what was copied, when, and of which store.

    ``pack_bytes`` is what the packs take that the snapshot needs, ``copied_bytes`` what was copied
    for it. ``faults`` are what was damaged or missing in the store already.
    """

    format: str = "hartonomous-snapshot"
    version: int = VERSION
    name: str
    store_id: str
    taken_us: int
    sequence: int
    version_count: int
    pack_count: int
    pack_bytes: int
    copied_bytes: int
    catalog_bytes: int
    files: tuple[KeptFile, ...]
    faults: tuple[str, ...] = ()


class BackupFolder(Closing):
    """An open folder of backups; nobody else changes it while it is open for writing."""

    def __init__(self, path: Path, lock: locks.FileLock | None) -> None:
        self.path = path
        self.objects = LocalObjects(path)
        self._lock = lock

    def close(self) -> None:
        """Let others change it."""
        if self._lock is not None:
            self._lock.release()

    # -- snapshots

    def names(self) -> list[str]:
        """Return the names of all snapshots, oldest first."""
        folder = self.path / "snapshots"
        if folder.is_symlink() or not folder.is_dir():
            return []
        entries = [one for one in folder.iterdir() if _time_of(one.name) is not None]
        return sorted(one.name for one in entries if one.is_dir() and not one.is_symlink())

    def place(self, name: str) -> Path:
        """Return the folder of a snapshot."""
        return self.path / "snapshots" / name

    def snapshot(self, name: str | None) -> Snapshot:
        """Return a snapshot's card, the newest one's for None; NotFoundError, IntegrityError."""
        names = self.names()
        if not names or (name is not None and name not in names):
            raise NotFoundError(
                f"{self.path} has no snapshot" + ("" if name is None else f" {name!r}"),
                hint="hart backup DIR --list shows what is there",
            )
        chosen = names[-1] if name is None else name
        try:
            content = read_plain(self.place(chosen) / SNAPSHOT_FILE, limit_bytes=_CARD_LIMIT_BYTES)
            card = msgspec.json.decode(content, type=Snapshot)
        except (OSError, *UNDECODABLE) as error:
            raise _damaged(chosen, SNAPSHOT_FILE, str(error)) from error
        if card.format != "hartonomous-snapshot" or card.version != VERSION:
            raise UnsupportedStoreError(
                f"snapshot {chosen} has format {card.format!r} {card.version}",
                hint="use a newer version of hartonomous",
            )
        if card.name != chosen:
            raise _damaged(chosen, SNAPSHOT_FILE, f"it is the card of {card.name!r}")
        return card

    def draft(self, now_us: int) -> tuple[str, Path]:
        """Return (name, empty folder) of a snapshot in the making."""
        names = self.names()
        # Later than every other, whatever the clock says: the newest is the one that sorts last.
        name = snapshot_name(now_us)
        if names and name <= names[-1]:
            name = snapshot_name((_time_of(names[-1]) or 0) + 1)
        if _time_of(name) is None:  # nobody would find it again
            raise HartonomousError(
                f"a snapshot cannot be named {name}: the years end with 9999",
                hint=f"set the clock right, and remove what is from the future in {self.path}",
            )
        draft = self.path / "tmp" / f"{name}.snapshot"
        draft.mkdir()
        return name, draft

    def publish(self, name: str, draft: Path, card: Snapshot) -> None:
        """Give a snapshot its name, durably."""
        write_atomically(
            draft / SNAPSHOT_FILE, msgspec.json.format(msgspec.json.encode(card)) + b"\n"
        )
        for path in draft.iterdir():
            sync_file(path)
        sync_directory(draft)
        draft.rename(self.place(name))
        sync_directory(self.path / "snapshots")

    def remove(self, name: str) -> None:
        """Take a snapshot away; its packs stay until ``drop_unneeded``."""
        gone = self.path / "tmp" / f"{name}.removed"
        self.place(name).rename(gone)
        sync_directory(self.path / "snapshots")
        shutil.rmtree(gone)

    def sweep(self) -> None:
        """Remove what runs that were cut short left under ``tmp``."""
        self.objects.sweep()
        for path in (self.path / "tmp").iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)

    def drop_unneeded(self) -> tuple[int, int]:
        """Delete packs that no snapshot names; return (packs, bytes).

        Where a list of packs cannot be read nothing goes: it may name any of them.
        """
        if self.damaged():
            return 0, 0
        needed = self.known_packs().keys()
        count = freed = 0
        for entry in list(self.objects.list("packs/")):
            if entry.key not in needed:
                self.objects.delete(entry.key)
                count, freed = count + 1, freed + entry.size
        return count, freed

    # -- packs

    def packs_of(self, name: str) -> Iterator[tuple[str, bytes]]:
        """Yield (object key, digest) of the packs that a snapshot needs; raises IntegrityError."""
        path = self.place(name) / PACK_LIST
        with _opened(path) as lines:
            for count, line in enumerate(iter(lambda: lines.readline(_LINE_BYTES + 1), b"")):
                match = _LINE.fullmatch(line)
                if match is None or match[3] != match[4][:2] or count >= _MOST_PACKS:
                    raise _damaged(name, PACK_LIST, f"line {count + 1} is none of a list of packs")
                yield match[2].decode(), bytes.fromhex(match[1].decode())

    def known_packs(self) -> dict[str, bytes]:
        """Return {object key: digest} of all packs that some snapshot names that can be read."""
        known: dict[str, bytes] = {}
        for name in self.names():
            with contextlib.suppress(IntegrityError):
                known.update(list(self.packs_of(name)))
        return known

    def damaged(self) -> list[str]:
        """Return the names of the snapshots whose lists of packs are not what was written."""
        found = []
        for name in self.names():
            try:
                digests = {one.name: one.digest for one in self.snapshot(name).files}
                if file_digest(self.place(name) / PACK_LIST)[1].hex() != digests.get(PACK_LIST):
                    found.append(name)
            except (IntegrityError, UnsupportedStoreError):
                found.append(name)
        return found


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read: {error.strerror}") from error
    with open(descriptor, "rb") as file:  # noqa: PTH123  # by its descriptor
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise not_plain(path)
        yield file


def pack_line(key: str, digest: bytes) -> bytes:
    """Return a pack's line in a list."""
    return f"{digest.hex()}  {key}\n".encode()


def snapshot_name(time_us: int) -> str:
    """Return the name of a snapshot taken at this time, such as ``20261121T083000.000000Z``."""
    whole = time.strftime("%Y%m%dT%H%M%S", time.gmtime(time_us // 1_000_000))
    return f"{whole}.{time_us % 1_000_000:06d}Z"


def _time_of(name: str) -> int | None:
    """Return the time that a snapshot's name says, None for what is no such name."""
    import calendar

    if _NAME.fullmatch(name) is None:
        return None
    try:
        seconds = calendar.timegm(time.strptime(name[:15], "%Y%m%dT%H%M%S"))
    except ValueError:
        return None
    return seconds * 1_000_000 + int(name[16:22])


def open_for_writing(path: Path, *, now_us: int) -> BackupFolder:
    """Open a folder of backups, made here if there is nothing; one program at a time.

    Raises ConflictError where something else lies there, LockedError where a backup is running.
    """
    path = path.absolute()
    try:
        if not (path / BACKUP_FILE).exists() and path.exists():
            others = [
                one.name
                for one in path.iterdir()
                if one.name not in _OURS and draft_of(one.name) != BACKUP_FILE
            ]
            if others:
                raise ConflictError(
                    f"{path} is not empty and holds no backups ({', '.join(sorted(others)[:3])})",
                    hint="choose an empty folder, or one that hart backup made",
                )
        missing = [above for above in (path, *path.parents) if not above.exists()]
        for folder in (path, path / "snapshots", path / "tmp", path / "packs"):
            if folder.is_symlink() and folder != path:
                raise UnsupportedStoreError(f"{folder} is a symbolic link")
            folder.mkdir(parents=True, exist_ok=True)
        lock = locks.try_lock(path / "backup.lock")
        if lock is None:
            raise LockedError(
                f"another backup to {path} is at work ({locks.holder(path / 'backup.lock')})",
                hint="wait for it to end",
            )
        try:
            with contextlib.suppress(OSError):  # it is for people: see ``locks.holder``
                os.utime(path / "backup.lock")
            _make_card(path, now_us)
            for made in missing:
                sync_directory(made.parent)
        except BaseException:
            lock.release()
            raise
    except OSError as error:
        raise storage_error(error, "open the folder of backups", path) from error
    return BackupFolder(path, lock)


_OURS = frozenset({"snapshots", "tmp", "packs", "backup.lock", BACKUP_FILE, SUSPECTS_FILE})


_UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
"""How a medium that cannot be written has no lock file; nobody else changes anything there."""


def _make_card(path: Path, now_us: int) -> None:
    if (path / BACKUP_FILE).exists():
        _read_card(path)
        return
    for one in path.iterdir():  # only who holds the lock writes a card
        if draft_of(one.name) == BACKUP_FILE:
            one.unlink()
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_us // 1_000_000))
    card = BackupCard(created=created)
    write_atomically(path / BACKUP_FILE, msgspec.json.format(msgspec.json.encode(card)) + b"\n")


def open_for_reading(path: Path) -> BackupFolder:
    """Open a folder of backups; nothing is removed from it while it is open.

    Raises NotFoundError where there is none, LockedError where it is being changed.
    """
    path = path.absolute()
    _read_card(path)
    try:
        lock = locks.try_lock(path / "backup.lock", shared=True, readable=True)
    except HartonomousError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or cause.errno not in _UNWRITABLE:
            raise
        return BackupFolder(path, None)
    if lock is None:
        raise LockedError(f"a backup to {path} is at work", hint="wait for it to end")
    return BackupFolder(path, lock)


def _read_card(path: Path) -> BackupCard:
    try:
        content = read_plain(path / BACKUP_FILE, limit_bytes=_CARD_LIMIT_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(
            f"there are no backups at {path}", hint="hart backup DIR makes one"
        ) from error
    except OSError as error:
        raise storage_error(error, f"read {BACKUP_FILE}", path) from error
    try:
        card = msgspec.json.decode(content, type=BackupCard)
    except UNDECODABLE as error:
        anew = msgspec.json.encode(BackupCard(created="")).decode()
        raise IntegrityError(
            f"{path / BACKUP_FILE} is damaged: {error}",
            hint=f"it only says what the folder is; with {anew} in it the snapshots can be read",
        ) from error
    if card.format != "hartonomous-backup" or card.version != VERSION:
        raise UnsupportedStoreError(
            f"{path} has format {card.format!r} {card.version}, this program knows {VERSION}",
            hint="use a newer version of hartonomous",
        )
    return card


def _damaged(name: str, part: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"snapshot {name} is damaged: {part}: {why}",
        hint=f"hart backup DIR --remove {name} takes it away; --list shows the others",
    )


# -- copying


def copy_pack(
    source: LocalObjects, target: LocalObjects, key: str, advance: Callable[[int], None]
) -> bytes:
    """Copy a pack, durably, and return its BLAKE3; the copy is read again and compared.

    Raises NotFoundError where the source has it no more, IntegrityError where what was written is
    not what was read.
    """
    reader = source.open(key)
    try:
        hasher = AtomHasher()
        writer = target.create(key)
        try:
            for start in range(0, reader.size, _BLOCK_BYTES):
                piece = reader.read(start, min(_BLOCK_BYTES, reader.size - start))
                hasher.update(piece)
                writer.write(piece)
                advance(len(piece))
            writer.commit()
        finally:
            writer.abort()
    finally:
        reader.close()
    if object_digest(target, key) != hasher.digest():
        target.delete(key)
        raise IntegrityError(
            f"the copy of {key} at {target.root} is not what was written",
            hint="check that disk; the copy was removed",
        )
    return hasher.digest()


def object_digest(
    objects: LocalObjects, key: str, advance: Callable[[int], None] = lambda _: None
) -> bytes:
    """Return the BLAKE3 of an object; raises NotFoundError, IntegrityError."""
    reader = objects.open(key)
    try:
        hasher = AtomHasher()
        for start in range(0, reader.size, _BLOCK_BYTES):
            piece = reader.read(start, min(_BLOCK_BYTES, reader.size - start))
            hasher.update(piece)
            advance(len(piece))
        return hasher.digest()
    finally:
        reader.close()


def pack_fault(objects: LocalObjects, key: str) -> str | None:
    """Say what is wrong with a pack by its own checksums, None where nothing is."""
    try:
        reader = PackReader(objects.open(key), key)
        try:
            for _, header in reader.records():
                check_payload(reader, header)
        finally:
            reader.close()
    except HartonomousError as error:
        return f"{key}: {error.message}"
    return None


def file_digest(path: Path) -> tuple[int, bytes]:
    """Return (size, BLAKE3) of a regular file; raises IntegrityError where it is none."""
    hasher, size = AtomHasher(), 0
    with _opened(path) as file:
        while piece := file.read(_BLOCK_BYTES):
            hasher.update(piece)
            size += len(piece)
    return size, hasher.digest()


def check_files(folder: BackupFolder, card: Snapshot) -> list[str]:
    """Compare the files of a snapshot with its card; return what is wrong."""
    faults = []
    for kept in card.files:
        if kept.name not in FILES:
            faults.append(f"{card.name}: {kept.name!r} is no file of a snapshot")
            continue
        try:
            size, digest = file_digest(folder.place(card.name) / kept.name)
        except HartonomousError as error:
            faults.append(f"{card.name}: {error.message}")
            continue
        if (size, digest.hex()) != (kept.size_bytes, kept.digest):
            faults.append(f"{card.name}: {kept.name} is not what was written")
    missing = {CATALOG_FILE, STORE_FILE, PACK_LIST} - {kept.name for kept in card.files}
    faults += [f"{card.name}: there is no {name}" for name in sorted(missing)]
    return faults


def sync_file(path: Path) -> None:
    """Make a file's content durable; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
