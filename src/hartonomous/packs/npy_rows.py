"""Rows of an ``.npy`` file by range: read, never mapped, since somebody may cut the file meanwhile.

The format is NumPy's own (numpy.lib.format): a header, then the elements in either order. The
header is read by ``formats.npy``: numpy's reader fails on hostile ones in a dozen ways.
"""

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hartonomous.core.closing import Closing
from hartonomous.errors import LimitError, StructureError
from hartonomous.formats.npy import item_bytes, read_header
from hartonomous.formats.reader import FileReader

if TYPE_CHECKING:
    from numpy.typing import NDArray


class NpyRows(Closing):
    """An array [n, d] on disk; one of [d] has a single row. ``shape`` is as the file says.

    Raises OSError, ValueError or EOFError where it is none, or shorter than its header says.
    """

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115 - closed by close()
        try:
            if not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
                raise ValueError("it is no regular file")
            self._read_header()
        except BaseException:
            self._file.close()
            raise

    def _read_header(self) -> None:
        try:
            header = read_header(FileReader(self._file.fileno()))
            if isinstance(header.descr, str):
                item_bytes(header.descr)
            if min(header.shape, default=0) < 0:
                raise ValueError("its shape is below 0")
            count = header.element_count
        except (StructureError, LimitError) as error:
            raise ValueError(error.message) from error
        self.shape = header.shape
        self._columns_first = header.fortran_order
        self.dtype = _number_type(header.descr)
        self._begin = header.length
        there = os.fstat(self._file.fileno()).st_size - self._begin
        if count * self.dtype.itemsize > there:
            raise ValueError(f"{count} elements are said to be in {there} bytes")

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


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for somebody who writes to a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _number_type(descr: object) -> "np.dtype[Any]":
    """Return the type of elements that are numbers; raises ValueError for others."""
    if isinstance(descr, str):
        try:
            found = np.dtype(descr)
        except (TypeError, ValueError):
            pass  # such as V99999999999
        else:
            if found.kind in "biufc" and found.itemsize:
                return found
    raise ValueError("its elements are no numbers")
