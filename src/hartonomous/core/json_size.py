"""How many values a JSON text holds, counted before they are made.

A text of some bytes a value becomes objects of some dozens: half a gibibyte of empty lists would
fill any memory. So readers count first.
"""

from hartonomous.errors import IntegrityError

MAX_VALUES = 1 << 25
"""Most values of one JSON record: enough for the segments of an opaque file of 500 GiB."""

_WINDOW_BYTES = 1 << 20


def count_values(content: bytes, *, enough: int = MAX_VALUES) -> int:
    """Return the commas and opening brackets outside of strings: about one for each value.

    Where there are not more than ``enough`` even with those in strings, these are counted too. The
    count ends soon after ``enough``. Takes time and memory in proportion to ``content``, whatever
    it holds.
    """
    if (count := _count(content)) <= enough:
        return count
    count, outside = 0, True
    plain = content.replace(rb"\\", b"").replace(rb"\"", b"")  # now every quote ends or begins
    for start in range(0, len(plain), _WINDOW_BYTES):
        parts = plain[start : start + _WINDOW_BYTES].split(b'"')
        count += _count(b"".join(parts[0 if outside else 1 :: 2]))
        outside ^= len(parts) % 2 == 0
        if count > enough:
            break
    return count


def refuse_many_values(content: bytes) -> None:
    """Raise IntegrityError when a JSON text holds more than ``MAX_VALUES`` values."""
    if count_values(content) > MAX_VALUES:
        raise IntegrityError(
            f"a record's JSON holds more than {MAX_VALUES:,} values",
            hint="no writer makes such records; the file that it is about cannot be restored",
        )


def _count(content: bytes) -> int:
    return content.count(b",") + content.count(b"[") + content.count(b"{")
