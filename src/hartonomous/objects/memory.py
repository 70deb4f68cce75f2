"""Object store in memory, stricter than a real one: it reports what others forgive.

For tests, ours and those of whoever builds on the port. ``leaks`` lists writers that were neither
committed nor aborted, readers that were not closed, and slices or arrays of views that were still
held when their reader was closed. Views given out are dead after ``close``. A hook can make any
call fail as a disk would.
"""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from hartonomous.core.digest import Bytes
from hartonomous.errors import (
    HartonomousError,
    IntegrityError,
    NotFoundError,
    ObjectExistsError,
)
from hartonomous.objects.durable import flat, storage_error
from hartonomous.objects.keys import check_key
from hartonomous.ports.objects import ObjectEntry, ObjectReader, ObjectWriter

FaultHook = Callable[[str, str], None]
"""Called with the operation and the key; whatever OSError it raises is that call's failure.

Operations: ``create``, ``write``, ``commit`` (before the object is visible), ``sync`` (after it is
visible, when the directory would be synced), ``open``, ``read``, ``delete``, ``evict``, ``list``
(with the prefix as key).
"""

_PLACE = Path("/")  # where a simulated full disk looks for its free space


def _no_fault(operation: str, key: str) -> None:
    """Let every call succeed."""


class MemoryObjects:
    """Objects in a dictionary; safe to use from several threads.

    ``clock`` gives seconds since 1970 for ``modified_us``.
    """

    def __init__(
        self, *, fault: FaultHook = _no_fault, clock: Callable[[], float] = time.time
    ) -> None:
        self.fault = fault
        self._clock = clock
        self._lock = threading.Lock()
        self._objects: dict[str, tuple[bytes, int]] = {}
        self._used: dict[int, str] = {}  # what is open, by id: its description
        self._next = 0
        self._overdue: list[str] = []

    def create(self, key: str) -> ObjectWriter:
        """Begin an object that is streamed; raises UsageError for what is no key."""
        self._check_fault("create", check_key(key))
        return _MemoryWriter(self, key)

    def put(self, key: str, content: Bytes) -> None:
        """Store ``content`` whole; raises ObjectExistsError if the key is taken."""
        writer = self.create(key)
        try:
            writer.write(content)
            writer.commit()
        finally:
            writer.abort()

    def open(self, key: str) -> ObjectReader:
        """Open an object; raises NotFoundError."""
        self._check_fault("open", check_key(key))
        with self._lock:
            held = self._objects.get(key)
        if held is None:
            raise NotFoundError(f"there is no object {key}")
        return _MemoryReader(self, key, held[0])

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        self._check_fault("delete", check_key(key))
        with self._lock:
            self._objects.pop(key, None)

    def evict(self, key: str) -> None:
        """Do nothing but check the key: memory is all there is."""
        self._check_fault("evict", check_key(key))

    def list(self, prefix: str = "") -> Iterator[ObjectEntry]:
        """Yield committed objects whose key begins with ``prefix``, in key order."""
        self._check_fault("list", prefix)
        with self._lock:
            found = sorted(item for item in self._objects.items() if item[0].startswith(prefix))
        for key, (content, modified_us) in found:
            yield ObjectEntry(key=key, size=len(content), modified_us=modified_us)

    def sweep(self) -> int:
        """Remove nothing: writers die with the process, and so does this store."""
        return 0

    def leaks(self) -> tuple[str, ...]:
        """Return what was not ended properly: open writers and readers, views held too long."""
        with self._lock:
            return (*self._overdue, *self._used.values())

    def _check_fault(self, operation: str, key: str) -> None:
        try:
            self.fault(operation, key)
        except OSError as error:
            raise storage_error(error, f"{operation} {key}", _PLACE) from error

    def _begin(self, what: str) -> int:
        with self._lock:
            self._next += 1
            self._used[self._next] = what
            return self._next

    def _end(self, number: int) -> None:
        with self._lock:
            self._used.pop(number, None)

    def _report(self, what: str) -> None:
        with self._lock:
            self._overdue.append(what)

    def _publish(self, key: str, content: bytes) -> None:
        """Make an object visible; keys collide as file names and directories do."""
        modified_us = int(self._clock() * 1_000_000)
        above = {str(parent) for parent in PurePosixPath(key).parents}
        with self._lock:
            for taken in self._objects:
                if taken == key or taken in above or taken.startswith(key + "/"):
                    raise ObjectExistsError(f"the key {key} is taken in memory")
            self._objects[key] = (content, modified_us)


class _MemoryWriter:
    """Bytes that become an object at ``commit``; refuses every use after its end."""

    def __init__(self, store: MemoryObjects, key: str) -> None:
        self._store = store
        self._key = key
        self._content = bytearray()
        self._open = True
        self._number = store._begin(f"writer of {key} was neither committed nor aborted")

    def write(self, content: Bytes) -> None:
        """Append a copy of ``content``; raises ValueError when ended."""
        self._check_open()
        self._check_fault("write")
        self._content += flat(content)

    def commit(self) -> None:
        """Make the object visible; raises ObjectExistsError if the key is taken."""
        self._check_open()
        try:
            self._check_fault("commit")
            self._store._publish(self._key, bytes(self._content))
            self._check_fault("sync")
        finally:
            self.abort()

    def abort(self) -> None:
        """Drop what was written; does nothing after ``commit`` or when called again."""
        self._open = False
        self._store._end(self._number)

    def _check_open(self) -> None:
        if not self._open:
            raise ValueError(f"the writer of {self._key} has ended")

    def _check_fault(self, operation: str) -> None:
        try:
            self._store._check_fault(operation, self._key)
        except HartonomousError:
            self.abort()
            raise


class _MemoryReader:
    """An open object; ``close`` ends the views that it gave out."""

    def __init__(self, store: MemoryObjects, key: str, content: bytes) -> None:
        self._store = store
        self._key = key
        # A copy of its own that can be emptied, unless somebody still looks at it: that is how
        # ``close`` finds slices and arrays that outlive the reader.
        self._held = bytearray(content)
        self._content = memoryview(self._held).toreadonly()
        self._size = len(content)
        self._given: list[memoryview] = []
        self._open = True
        self._number = store._begin(f"reader of {key} was not closed")

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._size

    def read(self, offset: int, length: int) -> memoryview:
        """Return ``length`` read-only bytes at ``offset``.

        Raises IntegrityError past the end, ValueError when closed.
        """
        if not self._open:
            raise ValueError(f"the reader of {self._key} is closed")
        self._store._check_fault("read", self._key)
        size = self.size
        if offset < 0 or length < 0 or offset + length > size:
            raise IntegrityError(
                f"object {self._key} has {size} bytes; [{offset}, {offset + length}) is outside"
            )
        view = self._content[offset : offset + length]
        self._given.append(view)
        return view

    def close(self) -> None:
        """Release the handle; views given out raise ValueError from now on."""
        if not self._open:
            return
        self._open = False
        for view in (*self._given, self._content):
            view.release()
        self._given.clear()
        try:
            self._held.clear()
        except BufferError:
            self._store._report(f"a view of {self._key} was held when its reader was closed")
        self._store._end(self._number)
