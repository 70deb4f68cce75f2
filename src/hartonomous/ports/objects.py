"""Port of object stores: immutable bytes under a key, put once, never overwritten.

Keys are relative paths of ASCII letters, digits, ``-``, ``_``, ``.`` and ``/``. When ``commit``
or ``put`` returns, the object survives a power cut.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from hartonomous.core.digest import Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectEntry:
    """An object in a listing; ``modified_us`` is microseconds UTC."""

    key: str
    size: int
    modified_us: int


class ObjectWriter(Protocol):
    """One object in the making; nobody sees it before ``commit``."""

    def write(self, content: Bytes) -> None:
        """Append bytes."""
        ...

    def commit(self) -> None:
        """Make the object durable and visible; raises ObjectExistsError if the key is taken."""
        ...

    def abort(self) -> None:
        """Drop what was written; safe to call twice and after ``commit`` (then it does nothing)."""
        ...


class ObjectReader(Protocol):
    """An open object; what it returns stays readable until ``close``, even if it is deleted."""

    @property
    def size(self) -> int:
        """Length in bytes."""
        ...

    def read(self, offset: int, length: int) -> memoryview:
        """Return exactly ``length`` read-only bytes; raises IntegrityError past the end."""
        ...

    def close(self) -> None:
        """Release the handle; views given out before may become invalid."""
        ...


class ObjectStore(Protocol):
    """Objects by key: put-if-absent, ranges, list, delete."""

    def create(self, key: str) -> ObjectWriter:
        """Begin an object that is streamed."""
        ...

    def put(self, key: str, content: Bytes) -> None:
        """Store a small object whole; raises ObjectExistsError if the key is taken."""
        ...

    def open(self, key: str) -> ObjectReader:
        """Open an object; raises NotFoundError."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        ...

    def evict(self, key: str) -> None:
        """Have a later ``open`` read what is stored, not what memory kept of it, where that can be.

        One that is not there is no error.
        """
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectEntry]:
        """Yield committed objects whose key begins with ``prefix``, in key order."""
        ...

    def sweep(self) -> int:
        """Remove what writers left that died before ``commit``; return how many things.

        Nobody's work is touched that may still end well.
        """
        ...
