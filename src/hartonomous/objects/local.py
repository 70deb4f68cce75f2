"""Object store in a local directory: one file an object, durable when ``commit`` returns.

Writing: a temporary file under ``<root>/tmp`` on the same file system, fsync of the file, a hard
link to the final name (which fails if the name is taken, where a rename would overwrite), fsync of
the directory and of the parents of directories that are new. A crash leaves nothing but files
under ``tmp``, which ``sweep`` removes once their writer is gone.

Reading: one read-only ``mmap`` an open object. Objects are immutable; a file that somebody else
shortens is noticed when it is read, not by a SIGBUS (see ``_LocalReader``).
"""

import contextlib
import errno
import fcntl
import io
import mmap
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from hartonomous.core.digest import Bytes
from hartonomous.errors import (
    HartonomousError,
    IntegrityError,
    NoStoreError,
    NotFoundError,
    ObjectExistsError,
)
from hartonomous.objects import linux
from hartonomous.objects.durable import flat, storage_error, sync_directory, write_fully
from hartonomous.objects.keys import TEMPORARY, check_key, is_part
from hartonomous.ports.objects import ObjectEntry, ObjectReader, ObjectWriter

WRITEBACK_BYTES = 8 * 1024 * 1024
"""Write-back is started each time so many bytes were written, so that fsync has little left."""
POPULATE_BYTES = 16 * 1024 * 1024
"""Reads up to this size are paged in, and so checked, before the view is handed out."""

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_ABSENT = (FileNotFoundError, NotADirectoryError)


class LocalObjects:
    """Objects as files under ``root``, which must exist; one file system holds all of it.

    Safe to use from several threads and processes at once. Files that are no objects (names that
    are no keys, links, sockets) are left alone and not listed. Every open reader holds one file
    descriptor and one mapping.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise NoStoreError(f"there is no directory {root}", hint="create the store first")
        self.root = root
        self._synced: set[Path] = set()  # directories whose own entry is durable

    def create(self, key: str) -> ObjectWriter:
        """Begin an object that is streamed; raises UsageError for what is no key."""
        return _LocalWriter(self, check_key(key))

    def put(self, key: str, content: Bytes) -> None:
        """Store ``content`` whole and durably.

        Raises ObjectExistsError if the key is taken, StorageFullError if there is no room.
        """
        writer = self.create(key)
        try:
            writer.write(content)
            writer.commit()
        finally:
            writer.abort()

    def open(self, key: str) -> ObjectReader:
        """Open an object; raises NotFoundError."""
        return _open_reader(self.root / check_key(key), key)

    def delete(self, key: str) -> None:
        """Remove an object, durably; one that is not there is no error.

        The directory is synced in either case, because an earlier try may have failed in between.
        """
        path = self.root / check_key(key)
        try:
            with contextlib.suppress(*_ABSENT, IsADirectoryError):
                path.unlink()
            with contextlib.suppress(*_ABSENT):
                sync_directory(path.parent)
        except OSError as error:
            raise storage_error(error, f"delete {key}", self.root) from error

    def list(self, prefix: str = "") -> Iterator[ObjectEntry]:
        """Yield committed objects whose key begins with ``prefix``, in key order.

        Directories that cannot hold such keys are not read. What is deleted meanwhile may be left
        out.
        """
        waiting = _entries(self.root, "", prefix)
        while waiting:
            name, entry = waiting.pop()
            if name.endswith("/"):
                waiting += _entries(Path(entry.path), name, prefix)
                continue
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                yield ObjectEntry(
                    key=name, size=status.st_size, modified_us=status.st_mtime_ns // 1000
                )

    def sweep(self) -> int:
        """Remove temporary files whose writer is gone; return how many.

        A writer holds a lock on its file as long as it lives, so nobody's work is touched.
        """
        return sum(_sweep_file(path) for path in _temporaries(self.root))

    def litter(self) -> tuple[int, int]:
        """Return number and bytes of the files that ``sweep`` would remove."""
        sizes = []
        for path in _temporaries(self.root):
            if _sweep_file(path, remove=False):
                with contextlib.suppress(FileNotFoundError):  # its writer may have just ended
                    sizes.append(path.lstat().st_size)
        return len(sizes), sum(sizes)

    def publish(self, temporary: Path, key: str) -> None:
        """Give a synced temporary file its final name; raises ObjectExistsError or OSError."""
        target = self.root / key
        try:
            self._make_directory(target.parent)
            _link_or_rename(temporary, target)
        except (FileExistsError, NotADirectoryError) as error:
            raise ObjectExistsError(f"the key {key} is taken at {self.root}") from error
        sync_directory(target.parent)

    def _make_directory(self, path: Path) -> None:
        """Make ``path`` and its parents below the root, and their entries durable.

        A directory that was there may be another process's, made a moment ago and not yet synced:
        so each is synced once by every process, not only by the one that made it.
        """
        missing = [path, *path.parents]
        for folder in reversed(missing[: missing.index(self.root)]):
            made = _make_one(folder)
            if made or folder not in self._synced:
                sync_directory(folder.parent)
                self._synced.add(folder)


class _LocalWriter:
    """A temporary file that becomes an object at ``commit``.

    Use by one thread at a time. Any failure drops the temporary file and ends the writer.
    """

    def __init__(self, store: LocalObjects, key: str) -> None:
        self._store = store
        self._key = key
        self._size = 0
        self._started = 0  # bytes whose write-back was asked for
        self._temporary, self._file = new_temporary(store.root)

    def write(self, content: Bytes) -> None:
        """Append bytes; raises StorageFullError when there is no room, ValueError when ended."""
        data = flat(content)
        descriptor = self._file.fileno()  # raises ValueError when closed
        try:
            write_fully(descriptor, data)
        except OSError as error:
            self._fail(error, len(data))
        self._size += len(data)
        if self._size - self._started >= WRITEBACK_BYTES:
            linux.start_writeback(descriptor, self._started, self._size - self._started)
            self._started = self._size

    def commit(self) -> None:
        """Make the object durable and visible.

        Raises ObjectExistsError if the key is taken, StorageFullError when the disk ran full.
        After any other error the object may or may not be there.
        """
        descriptor = self._file.fileno()
        try:
            os.fsync(descriptor)
            self._store.publish(self._temporary, self._key)
        except OSError as error:
            self._fail(error, 0)
        finally:
            self.abort()

    def abort(self) -> None:
        """Drop the temporary file; does nothing after ``commit`` or when called again."""
        if self._file.closed:
            return
        try:
            self._temporary.unlink(missing_ok=True)  # gone if it had to be renamed
        except OSError as error:
            raise storage_error(error, "remove a temporary file", self._temporary) from error
        finally:
            self._file.close()

    def _fail(self, error: OSError, byte_count: int) -> NoReturn:
        wanted = self._size + byte_count
        self.abort()
        raise storage_error(
            error, f"write {self._key}", self._store.root, wanted_bytes=wanted
        ) from error


class _LocalReader:
    """A mapped object. Views stay valid as long as they are held, even after ``close``.

    Touching a mapped page that cannot be read kills a process (SIGBUS). Two things guard against
    it: the file's size is compared at every read, and reads up to ``POPULATE_BYTES`` are paged in
    first, which turns a shortened file or a bad sector into an IntegrityError (Linux 5.14 and
    later). What remains is a file that somebody shortens while a view of it is in use; objects
    are made read-only so that this takes intent.
    """

    def __init__(self, key: str, mapping: mmap.mmap | None) -> None:
        self._key = key
        self._mapping = mapping
        self._view = memoryview(b"" if mapping is None else mapping)
        self._size = len(self._view)

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._size

    def read(self, offset: int, length: int) -> memoryview:
        """Return ``length`` read-only bytes at ``offset``, not copied.

        Raises IntegrityError past the end or when the file cannot be read, ValueError when closed.
        """
        view = self._view[:]  # raises ValueError when closed
        if offset < 0 or length < 0 or offset + length > self._size:
            raise IntegrityError(
                f"object {self._key} has {self._size} bytes; "
                f"[{offset}, {offset + length}) is outside"
            )
        if self._mapping is not None and length:
            self._check_readable(self._mapping, offset, length)
        return view[offset : offset + length]

    def _check_readable(self, mapping: mmap.mmap, offset: int, length: int) -> None:
        now = mapping.size()
        if now < self._size:
            raise IntegrityError(
                f"object {self._key} was shortened from {self._size} to {now} bytes while open"
            )
        if length <= POPULATE_BYTES:
            _populate(mapping, offset, length, self._key)

    def close(self) -> None:
        """Release the handle; the mapping itself goes with the last view of it."""
        self._view.release()
        if self._mapping is not None:
            with contextlib.suppress(BufferError):  # views are still held
                self._mapping.close()
            self._mapping = None


def _populate(mapping: mmap.mmap, offset: int, length: int, key: str) -> None:
    start = offset - offset % mmap.PAGESIZE
    try:
        mapping.madvise(linux.MADV_POPULATE_READ, start, offset + length - start)
    except OSError as error:
        if error.errno == errno.EINVAL:  # a kernel before 5.14; see the class's docstring
            return
        raise IntegrityError(
            f"object {key} cannot be read at [{offset}, {offset + length}): {error.strerror}",
            hint="the file was shortened or the disk is failing; see the system log",
        ) from error


def _open_reader(path: Path, key: str) -> ObjectReader:
    try:
        # O_NONBLOCK: opening a pipe that somebody left there must not wait for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if isinstance(error, _ABSENT) or error.errno in (errno.ELOOP, errno.ENXIO):
            raise NotFoundError(f"there is no object {key}") from error
        raise storage_error(error, f"open {key}", path.parent) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotFoundError(f"there is no object {key}; a directory or device has its name")
        size = status.st_size
        mapping = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) if size else None
    except OSError as error:
        raise storage_error(error, f"map {key}", path.parent) from error
    except ValueError as error:  # mmap compares the size once more
        raise IntegrityError(f"object {key} was shortened while it was opened") from error
    finally:
        os.close(descriptor)
    return _LocalReader(key, mapping)


def _entries(folder: Path, above: str, prefix: str) -> "list[tuple[str, os.DirEntry[str]]]":
    """Return the objects and directories (name ending in ``/``) of a folder, last key first.

    A directory sorts by its name with the slash, which is where its keys belong.
    """
    found: list[tuple[str, os.DirEntry[str]]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = above + entry.name
                if not is_part(entry.name) or name == TEMPORARY:
                    continue
                if entry.is_file(follow_symlinks=False):
                    if name.startswith(prefix):
                        found.append((name, entry))
                elif entry.is_dir(follow_symlinks=False):
                    name += "/"
                    if name.startswith(prefix) or prefix.startswith(name):
                        found.append((name, entry))
    except FileNotFoundError:
        if above:  # removed meanwhile; without the root itself there is no store
            return []
        raise NoStoreError(f"the directory {folder} is gone") from None
    except OSError as error:
        raise storage_error(error, "list objects", folder) from error
    return sorted(found, key=lambda item: item[0], reverse=True)


def new_temporary(root: Path) -> tuple[Path, io.FileIO]:
    """Open a temporary file of the store at ``root``, for writing, and lock it.

    The lock tells ``sweep`` that its writer lives: keep the file open until it is done with.
    """
    folder = root / TEMPORARY
    try:
        _make_one(folder)
        while True:
            path = folder / f"{os.getpid()}-{secrets.token_hex(8)}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            file = io.FileIO(os.open(path, flags, 0o444), "w")
            if _lock(path, file):
                return path, file
    except OSError as error:
        raise storage_error(error, "create a temporary file", folder) from error


def _lock(path: Path, file: io.FileIO) -> bool:
    """Lock a new temporary file; return False if a sweep came between the two calls."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return True
    except OSError:
        path.unlink(missing_ok=True)
        file.close()
        raise
    file.close()
    return False


def _make_one(folder: Path) -> bool:
    """Make one directory; return whether it was missing."""
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            raise
        return False
    return True


def _link_or_rename(temporary: Path, target: Path) -> None:
    try:
        target.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        return
    try:
        linux.rename_without_overwriting(temporary, target)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        raise HartonomousError(
            f"the file system at {target.parent} knows neither hard links nor renaming without "
            "overwriting",
            hint="keep the store on another file system, such as ext4, xfs or btrfs",
        ) from error


def _temporaries(root: Path) -> list[Path]:
    folder = root / TEMPORARY
    if not folder.is_dir() or folder.is_symlink():  # what a link leads to is not ours
        return []
    return sorted(folder.iterdir())


def _sweep_file(path: Path, *, remove: bool = True) -> bool:
    """Remove a file that nobody has locked; return whether there was such a file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if isinstance(error, FileNotFoundError) or error.errno in (errno.ELOOP, errno.ENXIO):
            return False
        raise storage_error(error, f"sweep {path.name}", path.parent) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if remove:
            path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    except OSError as error:
        raise storage_error(error, f"sweep {path.name}", path.parent) from error
    finally:
        os.close(descriptor)
    return True
