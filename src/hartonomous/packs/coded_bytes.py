"""The decoded bytes of a tensor that lies coded in its file, by range.

What is coded can only be read from its beginning. A reader keeps its place, so that ranges that
follow one another decode everything once; one that goes back begins again.
"""

from collections.abc import Callable, Iterator

from hartonomous.core.coding import Coding, check_coding, decoded
from hartonomous.packs.files import CHUNK_BYTES

View = Callable[[int, int], bytes | memoryview]
"""``read(offset, length)`` returns exactly these bytes."""


class CodedBytes:
    """Reads one coded tensor; not safe to use from several threads at once.

    ``view`` reads the file, whose range ``[offset, offset + length)`` is coded. Raises
    StructureError, when it is made or read, if the range does not decode to the tensor.
    """

    def __init__(self, view: View, offset: int, length: int, *, coding: Coding, dtype: str) -> None:
        check_coding(coding, length)
        self._view = view
        self._range = (offset, offset + length)
        self._coding = coding
        self._dtype = dtype
        self._begin()

    def _begin(self) -> None:
        self._pieces = decoded(self._chunks(), self._coding, self._dtype)
        self._rest = memoryview(b"")
        self._position = 0

    def _chunks(self) -> Iterator[bytes | memoryview]:
        start, end = self._range
        for at in range(start, end, CHUNK_BYTES):
            yield self._view(at, min(CHUNK_BYTES, end - at))

    def read_into(self, out: memoryview, start: int) -> None:
        """Fill ``out`` with the tensor's bytes from ``start`` on."""
        if start < self._position:
            self._begin()
        while len(out):
            if not self._rest:
                self._rest = memoryview(next(self._pieces))
            passed = min(start - self._position, len(self._rest))
            taken = min(len(out), len(self._rest) - passed)
            if taken:
                out[:taken] = self._rest[passed : passed + taken]
                out, start = out[taken:], start + taken
            self._rest = self._rest[passed + taken :]
            self._position += passed + taken

    def read(self, offset: int, length: int) -> memoryview:
        """Return a range of the tensor's bytes."""
        out = memoryview(bytearray(length))
        self.read_into(out, offset)
        return out.toreadonly()
