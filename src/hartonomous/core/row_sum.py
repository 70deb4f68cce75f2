"""Sums of rows that are kept beside them, so that a bit that flips in derived rows is found."""

import blake3
import msgspec

SUM_BYTES = 16


class RowSum:
    """BLAKE3 over rows in the order in which they were added, cut to 16 bytes.

    A row is what msgspec's MessagePack makes of a list of its values, which tells types and ends.
    """

    def __init__(self) -> None:
        self._hasher = blake3.blake3()

    def add(self, *values: object) -> None:
        """Take in one row of texts, bytes, numbers and None."""
        self._hasher.update(msgspec.msgpack.encode(values))

    def digest(self) -> bytes:
        """Return the sum of what was added so far."""
        return self._hasher.digest(SUM_BYTES)


def row_sum(*values: object) -> bytes:
    """Return the sum of one row."""
    one = RowSum()
    one.add(*values)
    return one.digest()
