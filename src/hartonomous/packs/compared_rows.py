"""Whether two tensors have the same rows in another order, told by the rows' digests.

llama.cpp's converters permute the rows of query and key weights within each head. The first and the
last row stay where they are, which tells other tensors apart without reading them.
"""

import numpy as np
from numpy.typing import NDArray

from hartonomous.core.digest import digest
from hartonomous.packs.coded_bytes import View
from hartonomous.packs.files import CHUNK_BYTES

_ROW_BYTES = 16 << 20
"""Longer rows are not compared: two of them are held at a time."""
_ROWS = 1 << 18
"""Tensors of more rows are not compared: 32 bytes of each are held, of both sides."""


def are_rows_permuted(a: View, b: View, *, row_bytes: int, rows: int) -> bool:
    """Say whether ``b`` is ``a`` with rows between the first and the last in another order.

    Both views have ``rows`` rows of ``row_bytes`` bytes each.
    """
    if row_bytes > _ROW_BYTES or rows > _ROWS:
        return False
    last = (rows - 1) * row_bytes
    if any(bytes(a(at, row_bytes)) != bytes(b(at, row_bytes)) for at in (0, last)):
        return False
    return bool(np.array_equal(_row_digests(a, row_bytes, rows), _row_digests(b, row_bytes, rows)))


def _row_digests(view: View, row_bytes: int, rows: int) -> NDArray[np.bytes_]:
    """Return the digests of all rows, sorted."""
    each = max(1, CHUNK_BYTES // row_bytes)
    found = bytearray()
    for first in range(0, rows, each):
        count = min(each, rows - first)
        part = memoryview(view(first * row_bytes, count * row_bytes))
        for at in range(0, count * row_bytes, row_bytes):
            found += digest(part[at : at + row_bytes])
    return np.sort(np.frombuffer(found, "V32").view("S32"))
