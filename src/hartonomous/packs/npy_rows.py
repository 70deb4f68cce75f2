"""Rows of an ``.npy`` file by range: read, never mapped, since somebody may cut the file meanwhile.

The format is NumPy's own (numpy.lib.format): a header, then the elements in either order.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from hartonomous.core.closing import Closing

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HEADER_CHARS = 10_000
_HEADERS: dict[tuple[int, int], Callable[..., Any]] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}


class NpyRows(Closing):
    """An array [n, d] on disk; one of [d] has a single row. ``shape`` is as the file says.

    Raises OSError, ValueError or EOFError where it is none, or shorter than its header says.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        try:
            version = npy.read_magic(self._file)
            if version not in _HEADERS:
                raise ValueError(f"its version is {version}")
            header = _HEADERS[version](self._file, max_header_size=_HEADER_CHARS)
            self.shape: tuple[int, ...] = header[0]
            self._columns_first: bool = header[1]
            self.dtype: np.dtype[Any] = header[2]
            self._begin = self._file.tell()
            if self.dtype.hasobject or self.dtype.itemsize == 0:
                raise ValueError(f"it holds {self.dtype}, which are no numbers")
            count = int(np.prod(np.array(self.shape, object)))
            there = os.fstat(self._file.fileno()).st_size - self._begin
            if min(self.shape, default=0) < 0 or count * self.dtype.itemsize > there:
                raise ValueError(f"{count} elements are said to be in {there} bytes")
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def rows(self, first: int, count: int) -> "NDArray[Any]":
        """Return ``count`` rows from ``first``, fewer at the end; arrays have two axes at most.

        Raises OSError; EOFError where the file is shorter than it was.
        """
        total, width = (1, *self.shape)[-2:]
        count = max(0, min(count, total - first))
        if not self._columns_first or total == 1:
            return self._elements(first * width, count * width).reshape(count, width)
        columns = [self._elements(at * total + first, count) for at in range(width)]
        return np.stack(columns, axis=1)

    def _elements(self, first: int, count: int) -> "NDArray[Any]":
        size = self.dtype.itemsize
        content, wanted = bytearray(), count * size
        while len(content) < wanted:
            at = self._begin + first * size + len(content)
            piece = os.pread(self._file.fileno(), wanted - len(content), at)
            if not piece:
                raise EOFError("it became shorter while it was read")
            content += piece
        return np.frombuffer(content, self.dtype)
