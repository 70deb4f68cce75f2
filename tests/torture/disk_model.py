"""What a disk may hold after a power cut, from the log of a process's calls.

A file's bytes are safe from the sync that follows them, a name from the sync of its folder. Of
what is not safe any subset may be there, in any order: each write by sectors of 512 bytes, each
change of a name as a whole (a rename takes away one name and gives the other, or does neither).
Bytes of a sync that failed may be lost however often they are synced later, since the kernel takes
their pages for written. Holes read as zeros.
"""

import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.shim import Call, Operation

SECTOR = 512
VOLATILE = (b"-shm",)
"""Endings of names that are dropped: SQLite rebuilds its shared memory from the log."""


WAITING, SAFE, DOOMED = "waiting", "safe", "doomed"


@dataclass(slots=True)
class _Change:
    """A write, or a change of size (``data`` is None); ``doomed`` by a sync that failed."""

    offset: int
    data: bytes | None
    grows: bool = False  # a size that only grows
    state: str = WAITING


@dataclass(slots=True)
class _File:
    """``base`` are bytes that are safe, ``changes`` what was done since, oldest first."""

    base: bytearray = field(default_factory=bytearray)
    changes: list[_Change] = field(default_factory=list)

    def sync(self, *, failed: bool) -> None:
        for one in self.changes:
            if one.state == WAITING:
                one.state = DOOMED if failed else SAFE
        while self.changes and self.changes[0].state == SAFE:
            _apply(self.base, self.changes.pop(0))


@dataclass(slots=True)
class _Folder:
    names: dict[bytes, int] = field(default_factory=dict)  # as the process sees them
    safe: dict[bytes, int] = field(default_factory=dict)  # as they are after a power cut


@dataclass(slots=True)
class _Naming:
    """A change of names that is not safe yet: what goes, what comes, in which folders."""

    gone: list[tuple[int, bytes]]
    come: list[tuple[int, bytes, int]]

    def folders(self) -> set[int]:
        return {folder for folder, _ in self.places()}

    def places(self) -> set[tuple[int, bytes]]:
        return {*self.gone, *((folder, name) for folder, name, _ in self.come)}


def _apply(content: bytearray, one: _Change) -> None:
    if one.data is None:
        if one.offset < len(content) and not one.grows:
            del content[one.offset :]
        elif one.offset > len(content):
            content.extend(bytes(one.offset - len(content)))
        return
    if one.offset > len(content):
        content.extend(bytes(one.offset - len(content)))
    content[one.offset : one.offset + len(one.data)] = one.data


class Disk:
    """A folder with what is in it, fed with calls; ``states`` says what may be there afterwards."""

    def __init__(self, root: Path) -> None:
        """Take what lies at ``root`` as it is, all of it safe."""
        self.root = os.fsencode(root)
        self.top = 1  # of the folder itself: no file system numbers a file of a user so
        self.files: dict[int, _File] = {}
        self.folders: dict[int, _Folder] = {self.top: _Folder()}
        self.namings: list[_Naming] = []
        self.mapped: set[bytes] = set()
        self.acknowledged = 0
        self._numbers: dict[int, int] = {root.stat().st_ino: self.top}
        self._next = 2
        self._read(root, self.top)

    def _number(self, inode: int, *, fresh: bool = False) -> int:
        """Return our own number of an inode: the file system gives its numbers again."""
        if fresh or inode not in self._numbers:
            self._numbers[inode] = self._next
            self._next += 1
        return self._numbers[inode]

    def _read(self, place: Path, folder: int) -> None:
        for entry in os.scandir(place):
            known = entry.inode() in self._numbers
            number = self._number(entry.inode())
            name = os.fsencode(entry.name)
            self.folders[folder].names[name] = number
            self.folders[folder].safe[name] = number
            if entry.is_dir(follow_symlinks=False):
                self.folders[number] = _Folder()
                self._read(Path(entry.path), number)
            elif not known:
                self.files[number] = _File(bytearray(Path(entry.path).read_bytes()))

    # -- calls

    def take(self, call: Call) -> None:
        """Do what a call did."""
        if call.operation is Operation.SYNC:
            self._sync(call)
            return
        if call.operation is Operation.MARK:
            self.acknowledged += 1
        if call.error or call.operation in (Operation.MARK, Operation.FAULT):
            return
        getattr(self, f"_{call.operation.name.lower()}")(call)

    def _file(self, inode: int) -> _File:
        return self.files.setdefault(self._number(inode), _File())

    def _write(self, call: Call) -> None:
        self._file(call.inode).changes.append(_Change(call.offset, call.first))

    def _truncate(self, call: Call) -> None:
        self._file(call.inode).changes.append(_Change(call.offset, None))

    def _allocate(self, call: Call) -> None:
        self._file(call.inode).changes.append(_Change(call.offset, None, grows=True))

    def _mapped(self, call: Call) -> None:
        self.mapped.add(call.first)

    def _sync(self, call: Call) -> None:
        if call.offset:
            if not call.error:
                self._sync_folder(self._number(call.inode))
            return
        self._file(call.inode).sync(failed=bool(call.error))

    def _sync_folder(self, folder: int) -> None:
        """Make the names of a folder safe, and what was done earlier to the same names elsewhere.

        A change of names that touches two folders is safe as a whole.
        """
        left: list[_Naming] = []
        touched: set[tuple[int, bytes]] = set()
        for one in reversed(self.namings):
            if folder in one.folders() or not touched.isdisjoint(one.places()):
                touched |= one.places()
            else:
                left.append(one)
        left.reverse()
        for one in self.namings:
            if all(one is not other for other in left):
                self._settle(one)
        self.namings = left

    def _settle(self, one: _Naming) -> None:
        for folder, name in one.gone:
            self.folders[folder].safe.pop(name, None)
        for folder, name, number in one.come:
            self.folders[folder].safe[name] = number

    def _place(self, path: bytes) -> tuple[int, bytes]:
        """Return (folder, name) of a path under the root."""
        assert path.startswith(self.root + b"/"), path
        *above, name = path[len(self.root) + 1 :].split(b"/")
        folder = self.top
        for part in above:
            folder = self.folders[folder].names[part]
        return folder, name

    def _rename_things(
        self, gone: Iterable[tuple[int, bytes]], come: Iterable[tuple[int, bytes, int]]
    ) -> None:
        one = _Naming(list(gone), list(come))
        for folder, name in one.gone:
            self.folders[folder].names.pop(name, None)
        for folder, name, number in one.come:
            self.folders[folder].names[name] = number
        self.namings.append(one)

    def _create(self, call: Call) -> None:
        number = self._number(call.inode, fresh=True)
        self.files[number] = _File()
        self._rename_things([], [(*self._place(call.first), number)])

    def _mkdir(self, call: Call) -> None:
        number = self._number(call.inode, fresh=True)
        self.folders[number] = _Folder()
        self._rename_things([], [(*self._place(call.first), number)])

    def _link(self, call: Call) -> None:
        folder, name = self._place(call.first)
        self._rename_things([], [(*self._place(call.second), self.folders[folder].names[name])])

    def _rename(self, call: Call) -> None:
        folder, name = self._place(call.first)
        number = self.folders[folder].names[name]
        self._rename_things([(folder, name)], [(*self._place(call.second), number)])

    def _exchange(self, call: Call) -> None:
        one, other = self._place(call.first), self._place(call.second)
        first = self.folders[one[0]].names[one[1]]
        second = self.folders[other[0]].names[other[1]]
        self._rename_things([], [(*one, second), (*other, first)])

    def _unlink(self, call: Call) -> None:
        self._rename_things([self._place(call.first)], [])

    _rmdir = _unlink

    # -- what is there afterwards

    def write_all(self, target: Path) -> None:
        """Write what the process itself saw last."""
        content = {number: _everything(file) for number, file in self.files.items()}
        self._put(target, self.top, {n: one.names for n, one in self.folders.items()}, content)

    def cut(self, target: Path, chance: random.Random | None) -> None:
        """Write what a power cut leaves: without ``chance`` nothing but what was made safe."""
        names = {number: dict(one.safe) for number, one in self.folders.items()}
        share = 0.0 if chance is None else chance.choice((0.05, 0.5, 0.5, 0.95))
        for one in self.namings:
            if chance is not None and chance.random() < share:
                for folder, name in one.gone:
                    names[folder].pop(name, None)
                for folder, name, number in one.come:
                    names[folder][name] = number
        content = {number: _some(file, chance, share) for number, file in self.files.items()}
        self._put(target, self.top, names, content)

    def _put(
        self,
        place: Path,
        folder: int,
        names: dict[int, dict[bytes, int]],
        content: dict[int, bytearray],
    ) -> None:
        made: dict[int, Path] = {}
        for path, number in _walk(place, folder, names):
            if number in names:
                path.mkdir()
            elif number in made:
                path.hardlink_to(made[number])
            elif not path.name.endswith(tuple(map(os.fsdecode, VOLATILE))):
                path.write_bytes(content[number])
                made[number] = path


def _walk(
    place: Path, folder: int, names: dict[int, dict[bytes, int]]
) -> Iterator[tuple[Path, int]]:
    yield place, folder
    for name, number in sorted(names[folder].items()):
        path = place / os.fsdecode(name)
        if number in names:
            yield from _walk(path, number, names)
        else:
            yield path, number


def _everything(file: _File) -> bytearray:
    content = bytearray(file.base)
    for one in file.changes:
        _apply(content, one)
    return content


def _some(file: _File, chance: random.Random | None, share: float) -> bytearray:
    """Return the synced bytes with any part of the others."""
    content = bytearray(file.base)
    for one in file.changes:
        fate = 1.0 if chance is None else chance.random()
        if one.state == SAFE or fate < share * 0.7:
            _apply(content, one)
        elif chance is not None and fate < share and one.data is not None:
            _tear(content, one, chance)
    return content


def _tear(content: bytearray, one: _Change, chance: random.Random) -> None:
    """Apply some of the sectors of a write."""
    assert one.data is not None
    start, stop = one.offset, one.offset + len(one.data)
    at = start
    while at < stop:
        end = min(stop, at - at % SECTOR + SECTOR)
        if chance.random() < 0.5:
            _apply(content, _Change(at, one.data[at - start : end - start]))
        at = end
