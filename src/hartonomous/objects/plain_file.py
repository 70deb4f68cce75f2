"""Files of the plain cache, one at a time: what they were, linking, checking, removing."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_MOST_PATH_BYTES, _MOST_PART_BYTES = 4096, 255  # Linux's own


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainFile:
    """One file of an entry; ``path`` is relative to the entry, empty where it is the entry."""

    path: Path | None
    sha256: bytes
    size: int


class FileState(msgspec.Struct, frozen=True, array_like=True):
    """A cached file as it was left: who changes it leaves another size, time or inode."""

    path: bytes
    sha256: bytes
    size: int
    modified_ns: int
    inode: int


Write = Callable[[int, PlainFile], None]
"""Write a file's bytes to a descriptor and check their digest; raise if they are wrong."""
Check = Callable[[int, PlainFile], bool]
"""Read a file through a descriptor and say whether it has the right bytes."""


def remove_tree(path: Path) -> None:
    """Remove a file or a folder with all that is in it, read-only folders too; raises OSError."""
    try:
        if not stat.S_ISDIR(path.lstat().st_mode):
            path.unlink()
            return
    except FileNotFoundError:
        return
    folders, waiting = [], [path]
    while waiting:
        folder = waiting.pop()
        folders.append(folder)
        folder.chmod(0o700)
        with os.scandir(folder) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                else:
                    Path(entry.path).unlink(missing_ok=True)
    for folder in reversed(folders):
        folder.rmdir()


def make_folder(folder: Path) -> None:
    """Make a folder of the cache; what lies there and is none goes, and nothing that it leads to.

    Raises OSError.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        folder.unlink()
    folder.mkdir(parents=True, exist_ok=True)


def names(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; none where there is no folder, or a link to one."""
    try:
        if folder.is_symlink():  # what it leads to is not the cache's, and must not be swept
            return []
        return sorted(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def is_below(raw: bytes) -> bool:
    """Say whether a relative path that a stamp has leads to a place below, and may be one."""
    parts = raw.split(b"/")
    fits = len(raw) < _MOST_PATH_BYTES and all(len(part) <= _MOST_PART_BYTES for part in parts)
    return fits and b"\0" not in raw and not {b"", b".", b".."}.intersection(parts)


def below(target: Path, file: PlainFile) -> Path:
    """Return where a file of the entry at ``target`` lies."""
    return target if file.path is None else target / file.path


def leads_elsewhere(target: Path, file: PlainFile) -> bool:
    """Say whether a folder on the way to a file of the entry at ``target`` is a link."""
    folders = () if file.path is None else file.path.parents
    return target.parent.is_symlink() or any((target / one).is_symlink() for one in folders)


def holds_more(target: Path, files: Sequence[PlainFile]) -> bool:
    """Say whether something else lies in the entry at ``target`` than its files; raises OSError.

    Who loads a folder takes what is in it, whoever put it there.
    """
    wanted = {file.path for file in files}
    if not wanted or None in wanted:
        return False
    folders = {folder for path in wanted if path is not None for folder in path.parents}
    waiting = [target]
    while waiting:
        with os.scandir(waiting.pop()) as found:
            for entry in found:
                place = Path(entry.path).relative_to(target)
                if place in folders and entry.is_dir(follow_symlinks=False):
                    waiting.append(target / place)
                elif place not in wanted:
                    return True
    return False


def state_of(path: Path, file: PlainFile) -> FileState | None:
    """Return what lies at ``path`` if it may be ``file``: a plain file of its size."""
    raw = b"" if file.path is None else os.fsencode(file.path)
    state = state_at(path, raw, file.sha256)
    return state if state is not None and state.size == file.size else None


def state_at(path: Path, raw: bytes, sha256: bytes) -> FileState | None:
    """Return what lies at ``path`` if it is a plain file."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return FileState(raw, sha256, status.st_size, status.st_mtime_ns, status.st_ino)


def has_rotted(target: Path, state: FileState) -> bool:
    """Say whether a file of the entry at ``target`` shows no change and has other bytes now.

    A disk that cannot read it counts as such.
    """
    path = target / os.fsdecode(state.path) if state.path else target
    if state_at(path, state.path, state.sha256) != state:
        return False
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").digest()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return found != state.sha256 and state_at(path, state.path, state.sha256) == state


def checked(path: Path, file: PlainFile, check: Check) -> bool:
    """Read the file at ``path`` and say whether it is ``file``."""
    if state_of(path, file) is None:
        return False
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return check(descriptor, file)
    finally:
        os.close(descriptor)


def linked(source: Path | None, path: Path, file: PlainFile) -> bool:
    """Link ``path`` to a file with the same bytes; False where that cannot be."""
    if source is None:
        return False
    before = state_of(source, file)
    try:
        path.hardlink_to(source)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in _NO_LINKS:
            return False
        raise
    if before is not None and before == state_of(path, file):
        return True
    path.unlink()  # it was changed or replaced in between
    return False


def write_new(path: Path, file: PlainFile, write: Write) -> None:
    """Write a file that is not there yet, read-only and durable; raises what ``write`` raises."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        write(descriptor, file)
        os.fchmod(descriptor, 0o444)
        # The stamp must never promise bytes that a power cut took.
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_read_only(target: Path, files: Sequence[PlainFile]) -> None:
    """Set the modes of an entry: files 0444, folders 0555."""
    folders: set[Path] = set()
    for file in files:
        below(target, file).chmod(0o444)
        if file.path is not None:
            folders.update(target / parent for parent in file.path.parents)
    for folder in folders:
        folder.chmod(0o555)
