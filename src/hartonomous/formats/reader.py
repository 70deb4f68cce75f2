"""Range readers: the only view that a parser has of a file.

All implement ``ports.format.RangeReader``. ``FileReader`` reads by ``pread`` alone, so that it
never moves the position of a descriptor that somebody else holds too.
"""

import os

from hartonomous.errors import LimitError, StructureError
from hartonomous.ports.format import RangeReader

READ_LIMIT_BYTES = 16 << 20
"""What one read grants."""


def _check_range(size: int, offset: int, length: int) -> None:
    if offset < 0 or length < 0 or offset + length > size:
        raise StructureError(
            f"the file ends too early: {length} bytes at {offset} wanted, it holds {size}"
        )
    if length > READ_LIMIT_BYTES:
        raise LimitError(f"one read of {length} bytes wanted, {READ_LIMIT_BYTES} are granted")


class BytesReader:
    """Reads from bytes in memory."""

    __slots__ = ("_content",)

    def __init__(self, content: bytes) -> None:
        self._content = content

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self._content)

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes at ``offset``; StructureError or LimitError if not."""
        _check_range(self.size, offset, length)
        return self._content[offset : offset + length]


class PartReader:
    """Reads a part of a file as if it were a file of its own."""

    __slots__ = ("_length", "_reader", "_start")

    def __init__(self, reader: RangeReader, start: int, length: int) -> None:
        _check_range(reader.size, start, 0)
        _check_range(reader.size, start + length, 0)
        self._reader = reader
        self._start = start
        self._length = length

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._length

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes at ``offset``; StructureError or LimitError if not."""
        _check_range(self._length, offset, length)
        return self._reader.read(self._start + offset, length)


class BeginningReader:
    """Reads the known beginning of something longer; past it, it raises StructureError."""

    __slots__ = ("_content", "_size")

    def __init__(self, content: bytes, size: int) -> None:
        self._content = content
        self._size = size

    @property
    def size(self) -> int:
        """Length of the whole."""
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes at ``offset``; StructureError or LimitError if not."""
        _check_range(len(self._content), offset, length)
        return self._content[offset : offset + length]


class FileReader:
    """Reads from an open regular file; the descriptor stays the caller's.

    ``read_bytes`` counts what was read; ``limit_bytes`` bounds it.
    """

    __slots__ = ("_fd", "_limit_bytes", "_size", "read_bytes")

    def __init__(self, fd: int, *, limit_bytes: int | None = None) -> None:
        self._fd = fd
        self._size = os.fstat(fd).st_size
        self._limit_bytes = limit_bytes
        self.read_bytes = 0

    @property
    def size(self) -> int:
        """Length in bytes when the reader was made."""
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes at ``offset``; StructureError or LimitError if not."""
        _check_range(self._size, offset, length)
        if self._limit_bytes is not None and self.read_bytes + length > self._limit_bytes:
            raise LimitError(f"more than {self._limit_bytes} bytes of the file would be read")
        self.read_bytes += length
        content = os.pread(self._fd, length, offset)
        while len(content) < length:
            more = os.pread(self._fd, length - len(content), offset + len(content))
            if not more:
                raise StructureError("the file became shorter while it was read")
            content += more
        return content
