"""What one folder holds, in a fixed order, and the facts of one file in it.

The only place of this package that lists folders and follows links. Hidden entries (names that
begin with ``.``) and lock and temporary files are listed only where they are asked for. Links are
followed to regular files inside a boundary, a real path; everything else that is no plain file
becomes a ``Skipped``.
"""

import errno
import os
import stat
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from hartonomous.core.item_names import SHARD_ENDING
from hartonomous.core.name import escape_path
from hartonomous.ports.source import MemberSource, Skipped

TEMPORARY_ENDINGS = (".lock", ".incomplete", ".tmp", ".part", "~")
"""Files of these endings are somebody's unfinished work and are passed over, as hidden ones are."""

SHARD_INDEX = ".metadata"
"""Beside files of torch.distributed.checkpoint: says which tensors are in them."""


class EntryKind(Enum):
    """What an entry of a folder is, links not followed."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"  # socket, device, pipe


class Entry(NamedTuple):
    """A name in a folder; surrogates in it stand for bytes that are no UTF-8."""

    name: str
    kind: EntryKind


def text_of(path: str) -> str:
    """Return the text form of a path on disk."""
    return escape_path(os.fsencode(path))


def join(folder: str, name: str) -> str:
    """Return the path of ``name`` in ``folder``; either may be empty."""
    if not folder or not name:
        return folder or name
    return f"{folder.rstrip('/')}/{name}"


def last_part(path: str) -> str:
    """Return what follows the last slash."""
    return path.rpartition("/")[2]


def list_folder(
    location: str, *, passed_over: list[str] | None = None, hidden: bool = False
) -> list[Entry]:
    """Return the visible entries of a folder, sorted by the bytes of their names.

    Hidden entries, lock and temporary files are left out unless ``hidden`` asks for them; their
    names go to ``passed_over``. ``.metadata`` beside ``.distcp`` files is visible: it is the index
    of a checkpoint. Memory grows with this one folder, not with what is below it. Raises OSError.
    """
    with os.scandir(location) as found:
        entries = [Entry(item.name, _kind_of(item)) for item in found]
    indexed = any(entry.name.endswith(SHARD_ENDING) for entry in entries)
    needed = {SHARD_INDEX} if indexed else set()
    unwanted = {one.name for one in entries if not hidden and _is_passed_over(one)} - needed
    if passed_over is not None:
        passed_over.extend(entry.name for entry in entries if entry.name in unwanted)
    visible = [entry for entry in entries if entry.name not in unwanted]
    return sorted(visible, key=lambda entry: os.fsencode(entry.name))


def _is_passed_over(entry: Entry) -> bool:
    temporary = entry.kind is not EntryKind.FOLDER and entry.name.endswith(TEMPORARY_ENDINGS)
    return entry.name[0] == "." or temporary


def _kind_of(item: os.DirEntry[str]) -> EntryKind:
    if item.is_symlink():
        return EntryKind.LINK
    if item.is_file(follow_symlinks=False):
        return EntryKind.FILE
    if item.is_dir(follow_symlinks=False):
        return EntryKind.FOLDER
    return EntryKind.OTHER


def has(entries: list[Entry], name: str, kind: EntryKind) -> bool:
    """Say whether a listing has an entry of this name and kind."""
    return Entry(name, kind) in entries


def is_store(entries: list[Entry]) -> bool:
    """Say whether a listing is that of a store, which is never added to a store."""
    return has(entries, "store.json", EntryKind.FILE) and has(entries, "packs", EntryKind.FOLDER)


def is_backup(entries: list[Entry]) -> bool:
    """Say whether a listing is that of a folder of a store's snapshots, which is never added."""
    wanted = [("backup.json", EntryKind.FILE), ("packs", EntryKind.FOLDER)]
    return all(has(entries, *one) for one in [*wanted, ("snapshots", EntryKind.FOLDER)])


def is_inside(real_path: str, boundary: str) -> bool:
    """Say whether a real path is the boundary or lies below it."""
    return real_path == boundary or real_path.startswith(boundary.rstrip("/") + "/")


def read_member(location: str, path: str, *, boundary: str | None) -> MemberSource | Skipped:
    """Return the facts of the file at ``location``, which is ``path`` inside its artifact.

    Both are in the file system's form. A link must end at a file inside ``boundary``; None follows
    every link, for paths that the user named.
    """
    try:
        if boundary is not None and Path(location).is_symlink():
            real_path = os.path.realpath(location, strict=True)
            if not is_inside(real_path, boundary):
                return skipped(location, _leaves(boundary))
            if real_path.endswith(".incomplete"):
                return skipped(location, "a link to an unfinished download")
        facts = Path(location).stat()
    except OSError as error:
        return unreadable(location, error)
    if stat.S_ISDIR(facts.st_mode):
        return skipped(location, "a link to a folder: what it holds is added at its own place only")
    if not stat.S_ISREG(facts.st_mode):
        return skipped(location, "a socket, device or pipe")
    if not os.access(location, os.R_OK):
        return unreadable(location, PermissionError(errno.EACCES, "permission denied"))
    if not facts.st_size and _has_content(location):
        return skipped(
            location,
            "its size is not told beforehand, as of files of the kernel: write it to a file first,"
            " or pipe it into 'hart add - --name NAME'",
        )
    raw, text = os.fsencode(path), text_of(path)
    return MemberSource(
        path=text,
        location=location,
        size=facts.st_size,
        mode=stat.S_IMODE(facts.st_mode),
        modified_us=facts.st_mtime_ns // 1000,
        raw_path=None if text.encode() == raw else raw,
    )


def _has_content(location: str) -> bool:
    """Say whether a file that is said to be empty gives bytes all the same."""
    try:
        descriptor = os.open(location, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False  # told where it is opened to be stored
    try:
        return bool(os.read(descriptor, 1)) and not os.fstat(descriptor).st_size
    except OSError:
        return False
    finally:
        os.close(descriptor)


def skipped(location: str, reason: str) -> Skipped:
    """Return a note about a place that was not taken."""
    return Skipped(location=text_of(location), reason=reason)


def unreadable(location: str, error: OSError) -> Skipped:
    """Return a note about a place that the system would not show."""
    if error.errno == errno.ELOOP:
        return skipped(location, "a link in a loop")
    if error.errno == errno.ENOENT:
        return skipped(location, "a link that leads nowhere, or a file that is gone")
    return Skipped(
        location=text_of(location),
        reason=f"cannot be read: {error.strerror or type(error).__name__}",
        unread_count=1,
    )


def _leaves(boundary: str) -> str:
    return f"a link that leaves {text_of(boundary)}: add what it leads to by its own path"
