"""The cache of plain files: ``cache/<sha256>/<own name>``, read-only, each piece of it dispensable.

An entry is one file, or a folder of files, under its own name. It is built in ``cache/tmp`` and
renamed into place once every file was checked, under a lock on its key, so that processes that ask
for the same thing at once build it once. A stamp in ``cache/stamps`` says what was put there (size,
time and inode of each file); the stamp's own time is when the entry was last given out. Equal files
of several entries are hard links to one file where the file system has them.

Nothing here is the only copy of anything: a lost stamp or a changed file costs a check by digest.
"""

import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from hartonomous import locks
from hartonomous.core.digest import digest
from hartonomous.core.undecodable import UNDECODABLE
from hartonomous.errors import IntegrityError
from hartonomous.objects.durable import read_plain, storage_error
from hartonomous.objects.plain_file import (
    Check,
    FileState,
    PlainFile,
    Write,
    below,
    checked,
    has_rotted,
    holds_more,
    is_below,
    leads_elsewhere,
    linked,
    make_folder,
    make_read_only,
    names,
    remove_tree,
    state_at,
    state_of,
    write_new,
)

_KEY = re.compile(r"[0-9a-f]{64}")
_IN_TMP = re.compile(r"([0-9a-f]{64})\.[0-9a-f]{16}")
_LOCK_LIMIT_S = 24 * 3600.0
_STAMP_LIMIT_BYTES = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainEntry:
    """Something in the cache; ``used_us`` is when it was last given out, microseconds UTC."""

    key: bytes
    name: str
    path: Path
    logical_bytes: int
    file_count: int
    used_us: int
    inodes: dict[int, int] = field(repr=False)  # inode -> size


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What left the cache, and what is over the limit and had to stay."""

    entry_count: int
    freed_bytes: int
    kept_count: int
    kept_bytes: int


class _Stamp(msgspec.Struct, frozen=True, kw_only=True):
    name: bytes
    files: tuple[FileState, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainCache:
    """The cache at ``root``; safe to use from several threads and processes at once.

    ``lock_path`` gives the lock file of a name, ``clock`` microseconds UTC. What was given out less
    than ``keep_us`` ago is in use and is never removed to get below ``limit_bytes``.
    """

    root: Path
    lock_path: Callable[[str], Path]
    clock: Callable[[], int]
    limit_bytes: int = 0
    keep_us: int = 0

    # -- giving out

    def place(
        self, key: bytes, name: str, files: Sequence[PlainFile], *, write: Write, check: Check
    ) -> tuple[Path, bool]:
        """Return the absolute path of an entry, and whether anything had to be written for it.

        Raises what ``write`` raises, LockedError when another process builds it for a day, and
        StorageFullError when there is no room.
        """
        target = self._entry(key, name)
        try:
            with locks.held(self._lock(key), what="a plain file", timeout_s=_LOCK_LIMIT_S):
                built = not self._is_whole(key, name, files, check)
                if built:
                    self._build(key, name, files, write, check)
                os.utime(self._stamp(key, name), ns=(self.clock() * 1000,) * 2)
        except OSError as error:
            wanted = sum(file.size for file in files)
            raise storage_error(error, "keep plain files", self.root, wanted_bytes=wanted) from (
                error
            )
        self.trim(spare=target)
        return target, built

    def _is_whole(self, key: bytes, name: str, files: Sequence[PlainFile], check: Check) -> bool:
        """Say whether the entry is there and right; what looks changed is read and compared."""
        target = self._entry(key, name)
        stamp = self._read_stamp(self._stamp(key, name))
        known = {} if stamp is None else {state.path: state for state in stamp.files}
        states = []
        for file in files:
            path = below(target, file)
            state = None if leads_elsewhere(target, file) else state_of(path, file)
            if state is None:
                return False
            if state != known.get(state.path) and not checked(path, file, check):
                return False
            states.append(state)
        if holds_more(target, files):
            return False
        if len(known) != len(states) or any(known.get(one.path) != one for one in states):
            make_read_only(target, files)
            self._write_stamp(key, name, states)
        return True

    def _build(
        self,
        key: bytes,
        name: str,
        files: Sequence[PlainFile],
        write: Write,
        check: Check,
    ) -> None:
        """Build the entry beside its place, with what is there already as links; then rename."""
        self._sweep_held(key)
        target = self._entry(key, name)
        for folder in (self.root / "tmp", self.root / "stamps", target.parent):
            make_folder(folder)
        there = self._files_there()
        missing = {file.sha256: file.size for file in files if file.sha256 not in there}
        self.trim(wanted=sum(missing.values()), spare=target)
        work = self._new_temporary(key)
        work.mkdir()
        try:
            made: dict[bytes, Path] = {}
            states = []
            for file in files:
                path = below(work / name, file)
                path.parent.mkdir(parents=True, exist_ok=True)
                own = below(target, file)
                sources = [made.get(file.sha256), there.get(file.sha256)]
                if not any(linked(source, path, file) for source in sources) and (
                    leads_elsewhere(target, file)
                    or not (checked(own, file, check) and linked(own, path, file))
                ):
                    write_new(path, file, write)
                made[file.sha256] = path
                state = state_of(path, file)
                assert state is not None, path
                states.append(state)
            self._write_stamp(key, name, states)
            self._set_aside(key, target)
            (work / name).rename(target)
            make_read_only(target, files)
        finally:
            self._sweep_held(key)  # the work folder, and what was set aside

    def _files_there(self) -> dict[bytes, Path]:
        """Return {sha256: path} of cached files that are as they were left."""
        found: dict[bytes, Path] = {}
        for path, stamp in self._stamps():
            target = self._entry(bytes.fromhex(path.name[:64]), os.fsdecode(stamp.name))
            for state in stamp.files:
                if state.sha256 in found:
                    continue
                file = target / os.fsdecode(state.path) if state.path else target
                if state_at(file, state.path, state.sha256) == state:
                    found[state.sha256] = file
        return found

    # -- what is there

    def entries(self) -> list[PlainEntry]:
        """Return what is in the cache, the least recently used first."""
        found = []
        for path, stamp in self._stamps():
            key, name = bytes.fromhex(path.name[:64]), os.fsdecode(stamp.name)
            target = self._entry(key, name)
            try:
                used_us = path.stat().st_mtime_ns // 1000
                target.lstat()
            except (FileNotFoundError, NotADirectoryError):
                continue  # removed meanwhile, or by hand
            found.append(
                PlainEntry(
                    key=key,
                    name=name,
                    path=target,
                    logical_bytes=sum(state.size for state in stamp.files),
                    file_count=len(stamp.files),
                    used_us=used_us,
                    inodes={state.inode: state.size for state in stamp.files},
                )
            )
        return sorted(found, key=lambda one: (one.used_us, one.path))

    def in_use(self, entry: PlainEntry) -> bool:
        """Say whether the entry was given out so lately that it must stay."""
        return entry.used_us > self.clock() - self.keep_us

    def damaged(self) -> Iterator[PlainEntry]:
        """Yield entries of which a file is as it was left by all signs, and has other bytes.

        Reads everything in the cache. What was changed in a way that shows is no damage: it is
        compared and built anew when it is asked for.
        """
        states: dict[Path, tuple[FileState, ...]] = {}
        for path, stamp in self._stamps():
            target = self._entry(bytes.fromhex(path.name[:64]), os.fsdecode(stamp.name))
            states[target] = stamp.files
        for entry in self.entries():
            if any(has_rotted(entry.path, state) for state in states.get(entry.path, ())):
                yield entry

    def distrust(self, entry: PlainEntry) -> None:
        """Have an entry compared by digest when it is asked for next, and built anew if wrong."""
        self._stamp(entry.key, entry.name).unlink(missing_ok=True)

    def discard(self, entry: PlainEntry) -> bool:
        """Remove an entry whoever was given it; False where somebody is at work on it."""
        return self._drop(entry, forced=True)

    # -- removing

    def trim(self, *, wanted: int = 0, spare: Path | None = None) -> Removed:
        """Remove entries, least recently used first, until ``wanted`` bytes more are in the limit.

        Entries in use, ``spare``, and those that somebody else holds stay.
        """
        return self._remove(max(0, self.limit_bytes - wanted), spare=spare, forced=False)

    def clear(self, *, forced: bool = False) -> Removed:
        """Remove every entry that is not in use; ``forced`` removes those too."""
        removed = self._remove(-1, spare=None, forced=forced)
        self.sweep()
        return removed

    def _remove(self, limit: int, *, spare: Path | None, forced: bool) -> Removed:
        left = self.entries()
        count = freed = 0
        total = held_bytes(left)
        for entry in list(left):
            if total <= limit:
                break
            if entry.path == spare or (self.in_use(entry) and not forced):
                continue
            if self._drop(entry, forced=forced):
                left.remove(entry)
                count += 1
                before, total = total, held_bytes(left)
                freed += before - total
        return Removed(entry_count=count, freed_bytes=freed, kept_count=len(left), kept_bytes=total)

    def _drop(self, entry: PlainEntry, *, forced: bool) -> bool:
        """Remove one entry unless somebody holds it or took it meanwhile."""
        lock = locks.try_lock(self._lock(entry.key))
        if lock is None:
            return False
        try:
            stamp = self._stamp(entry.key, entry.name)
            try:
                used_us = stamp.stat().st_mtime_ns // 1000
            except FileNotFoundError:
                return True
            if used_us != entry.used_us and not forced:
                return False
            self._set_aside(entry.key, entry.path)
            stamp.unlink(missing_ok=True)
            self._sweep_held(entry.key)
        except OSError as error:
            raise storage_error(error, "remove plain files", self.root) from error
        finally:
            lock.release()
        return True

    def sweep(self) -> int:
        """Remove what killed processes left; return how many things.

        That is unfinished builds, stamps without their entry, old entries without their stamp.
        """
        keys = {match[1] for name in names(self.root / "tmp") if (match := _IN_TMP.fullmatch(name))}
        keys |= self._unmatched()
        return sum(self._sweep_key(bytes.fromhex(key)) for key in sorted(keys))

    def litter_count(self) -> int:
        """Return how many unfinished builds lie there that nobody is at work on."""
        found = [match for name in names(self.root / "tmp") if (match := _IN_TMP.fullmatch(name))]
        return sum(not locks.is_held(self._lock(bytes.fromhex(match[1]))) for match in found)

    def _sweep_key(self, key: bytes) -> int:
        """Sweep one key, unless somebody is at work on it."""
        lock = locks.try_lock(self._lock(key))
        if lock is None:
            return 0
        try:
            return self._sweep_held(key)
        finally:
            lock.release()

    def _sweep_held(self, key: bytes) -> int:
        """Sweep one key, whose lock the caller holds."""
        count = 0
        for name in names(self.root / "tmp"):
            match = _IN_TMP.fullmatch(name)
            if match is not None and match[1] == key.hex():
                remove_tree(self.root / "tmp" / name)
                count += 1
        folder = self.root / key.hex()
        stamped = set()
        for path, stamp in self._stamps(key):
            target = folder / os.fsdecode(stamp.name)
            if target.exists():
                stamped.add(target.name)
            else:
                path.unlink(missing_ok=True)
                count += 1
        for name in names(folder):
            if name not in stamped and self._is_old(folder / name):
                remove_tree(folder / name)
                count += 1
        if folder.is_symlink():
            folder.unlink()  # not what it leads to
            count += 1
        elif folder.is_dir() and not names(folder):
            folder.rmdir()
        return count

    def _unmatched(self) -> set[str]:
        """Return keys whose folders and stamps do not match."""
        stamps = {path.name[:64] for path, _ in self._stamps()}
        folders = {name for name in names(self.root) if _KEY.fullmatch(name)}
        several = {key for key in folders if len(names(self.root / key)) != 1}
        return (stamps ^ folders) | several

    def _is_old(self, path: Path) -> bool:
        try:
            return path.lstat().st_ctime_ns // 1000 < self.clock() - self.keep_us
        except FileNotFoundError:
            return False

    def _set_aside(self, key: bytes, target: Path) -> None:
        """Move an entry, if it is there, to where it will be swept."""
        try:
            if stat.S_ISDIR(target.lstat().st_mode):
                target.chmod(0o755)  # a folder that is not writable cannot be moved
            make_folder(self.root / "tmp")
            target.rename(self._new_temporary(key))
        except FileNotFoundError:
            return

    # -- places

    def _entry(self, key: bytes, name: str) -> Path:
        return (self.root / key.hex() / name).absolute()

    def _stamp(self, key: bytes, name: str) -> Path:
        return self.root / "stamps" / f"{key.hex()}.{digest(os.fsencode(name)).hex()[:16]}"

    def _new_temporary(self, key: bytes) -> Path:
        return self.root / "tmp" / f"{key.hex()}.{secrets.token_hex(8)}"

    def _lock(self, key: bytes) -> Path:
        # A lock for every first byte: few files, and waiting for a stranger is rare.
        return self.lock_path(f"plain-{key[0]:02x}")

    def _stamps(self, key: bytes | None = None) -> Iterator[tuple[Path, _Stamp]]:
        wanted = "" if key is None else key.hex()
        for name in names(self.root / "stamps"):
            if _IN_TMP.fullmatch(name) and name.startswith(wanted):
                path = self.root / "stamps" / name
                stamp = self._read_stamp(path)
                if stamp is not None:
                    yield path, stamp

    def _read_stamp(self, path: Path) -> _Stamp | None:
        """Return a stamp; one that is missing or damaged is none, and costs a check by digest."""
        if path.is_symlink():  # giving out sets a stamp's time: not that of a file elsewhere
            return None
        try:
            content = read_plain(path, limit_bytes=_STAMP_LIMIT_BYTES)
            stamp = msgspec.json.decode(content, type=_Stamp)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (IntegrityError, *UNDECODABLE):  # a pipe, too large, rubbish
            return None
        name = os.fsdecode(stamp.name)
        if not (is_below(stamp.name) and b"/" not in stamp.name):
            return None
        if not all(state.path == b"" or is_below(state.path) for state in stamp.files):
            return None
        return stamp if path == self._stamp(bytes.fromhex(path.name[:64]), name) else None

    def _write_stamp(self, key: bytes, name: str, states: Sequence[FileState]) -> None:
        stamp = self._stamp(key, name)
        for folder in (stamp.parent, self.root / "tmp"):
            make_folder(folder)
        part = self._new_temporary(key)
        part.write_bytes(msgspec.json.encode(_Stamp(name=os.fsencode(name), files=tuple(states))))
        if stamp.is_dir() and not stamp.is_symlink():
            remove_tree(stamp)
        part.replace(stamp)


def held_bytes(entries: Sequence[PlainEntry]) -> int:
    """Return the bytes of entries on disk; a file that several link to counts once."""
    inodes: dict[int, int] = {}
    for entry in entries:
        inodes.update(entry.inodes)
    return sum(inodes.values())
