"""Numbers as people read and write them. Sizes are decimal: 1 kB is 1,000 bytes, as on disks."""

import re

_NAMES = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([A-Za-z]{0,3})")
_UNITS: dict[str, int] = {
    unit: factor
    for power, letter in enumerate(("", "k", "m", "g", "t", "p"))
    for unit, factor in (
        (letter, 1000**power),
        (f"{letter}b", 1000**power),
        (f"{letter}ib" if letter else "b", 1024**power),
    )
}


def size(byte_count: int) -> str:
    """Return ``0 B``, ``999 B``, ``1.3 GB``, ``130 GB``."""
    if abs(byte_count) < 1000:
        return f"{byte_count} B"
    amount, power = byte_count / 1000, 1
    while abs(amount) >= 999.5 and power < len(_NAMES) - 1:
        amount, power = amount / 1000, power + 1
    return f"{amount:.{1 if abs(amount) < 99.95 else 0}f} {_NAMES[power]}"


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


def parse_size(text: str) -> int:
    """Return the bytes that ``text`` says: ``512MiB``, ``20 GB``, ``1.5g``, ``4096``.

    ``k M G T P`` are powers of 1000, with ``iB`` powers of 1024; case does not matter. Raises
    ValueError on anything else.
    """
    match = _SIZE.fullmatch(text.strip())
    factor = _UNITS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError("is not a size; write it like 512MiB, 20GB or 4096")
    whole, _, part = match[1].partition(".")
    return int(whole) * factor + (int(part) * factor // 10 ** len(part) if part else 0)
