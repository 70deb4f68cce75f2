"""A file outside the store while it is being read: opened once, watched for change."""

import os
import stat
from collections.abc import Iterator

from hartonomous.core.closing import Closing
from hartonomous.errors import NotFoundError, SourceChangedError, UsageError

BLOCK_BYTES = 4 * 1024 * 1024
_NEAR_BYTES = 64 * 1024


class SourceFile(Closing):
    """Reads one regular file by range; notices when it changes under us."""

    def __init__(self, location: str) -> None:
        self.location = location
        try:
            self.descriptor = os.open(location, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise NotFoundError(f"{location} is gone") from error
        except OSError as error:
            raise UsageError(
                f"cannot read {location}: {error.strerror}", hint="check its permissions"
            ) from error
        self._first = os.fstat(self.descriptor)
        if not stat.S_ISREG(self._first.st_mode):
            os.close(self.descriptor)
            raise UsageError(f"{location} is not a regular file")
        self.size = self._first.st_size
        self._window = memoryview(b"")  # what was read ahead
        self._window_start = 0
        self._expected = 0  # where a range begins that follows the last one

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes; raises SourceChangedError when the file got shorter."""
        content = self._pread(length, offset)
        while len(content) < length:
            more = self._pread(length - len(content), offset + len(content))
            if not more:
                raise SourceChangedError(
                    f"{self.location} became shorter while it was being read",
                    hint="add it again once nothing writes to it",
                )
            content += more
        return content

    def _pread(self, length: int, offset: int) -> bytes:
        try:
            return os.pread(self.descriptor, length, offset)
        except OSError as error:
            raise UsageError(
                f"cannot read {self.location} at {offset}: {error.strerror}",
                hint="copy the file to a sound disk, or leave it out",
            ) from error

    def read_ahead(self, offset: int, length: int) -> memoryview:
        """Return a small range; where ranges follow one another, whole blocks are read."""
        start = offset - self._window_start
        if start < 0 or start + length > len(self._window):
            follows = 0 <= offset - self._expected <= _NEAR_BYTES
            ahead = min(BLOCK_BYTES, self.size - offset) if follows else 0
            self._window = memoryview(self.read(offset, max(length, ahead)))
            self._window_start, start = offset, 0
        self._expected = offset + length
        return self._window[start : start + length]

    def blocks(self, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the range in pieces of 4 MiB."""
        end = self.size if length is None else offset + length
        while offset < end:
            piece = self.read(offset, min(BLOCK_BYTES, end - offset))
            yield piece
            offset += len(piece)

    def check_unchanged(self) -> None:
        """Raise SourceChangedError when size or time is not what it was at first."""
        now = os.fstat(self.descriptor)
        first = self._first
        if (now.st_size, now.st_mtime_ns) != (first.st_size, first.st_mtime_ns):
            raise SourceChangedError(
                f"{self.location} changed while it was being read",
                hint="add it again once nothing writes to it",
            )

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)
