"""Numbers as people read them. Sizes are decimal: 1 kB is 1,000 bytes, as disks are sold."""

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def size(byte_count: int) -> str:
    """Return ``0 B``, ``999 B``, ``1.3 GB``, ``130 GB``."""
    if abs(byte_count) < 1000:
        return f"{byte_count} B"
    amount, power = byte_count / 1000, 1
    while abs(amount) >= 999.5 and power < len(_UNITS) - 1:
        amount, power = amount / 1000, power + 1
    return f"{amount:.{1 if abs(amount) < 99.95 else 0}f} {_UNITS[power]}"


def count(number: int) -> str:
    """Return ``50,000``."""
    return f"{number:,}"


def several(number: int, word: str, words: str | None = None) -> str:
    """Return ``1 file``, ``0 files``, ``2,000 files``; ``words`` where it is not ``word`` + s."""
    return f"{number:,} {word if number == 1 else words or word + 's'}"


def ratio(logical_bytes: int, stored_bytes: int) -> str:
    """Return how many times smaller the stored bytes are, ``3.14x``; ``-`` where none are."""
    return f"{logical_bytes / stored_bytes:.2f}x" if stored_bytes else "-"


def share(part: int, whole: int) -> str:
    """Return ``12.5 %``; ``-`` of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else "-"
