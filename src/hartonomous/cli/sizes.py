"""Numbers as people read them. Sizes are decimal: 1 kB is 1,000 bytes, as disks are sold."""

from hartonomous.cli.as_json import format_time

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def size(byte_count: int) -> str:
    """Return ``0 B``, ``999 B``, ``1.3 GB``, ``130 GB``."""
    if abs(byte_count) < 1000:
        return f"{byte_count} B"
    amount, power = byte_count / 1000, 1
    while abs(amount) >= 999.5 and power < len(_UNITS) - 1:
        amount, power = amount / 1000, power + 1
    return f"{amount:.{1 if abs(amount) < 99.95 else 0}f} {_UNITS[power]}"


def rate(bytes_per_second: float) -> str:
    """Return ``512 MB/s``."""
    return f"{size(int(bytes_per_second))}/s"


def duration(seconds: float) -> str:
    """Return ``0.3 s``, ``12 s``, ``3 min 05 s``, ``2 h 07 min``, ``3 d 04 h``."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24:02d} h"


def ratio(logical_bytes: int, stored_bytes: int) -> str:
    """Return how many times smaller the stored bytes are, ``3.14x``; ``-`` where none are."""
    return f"{logical_bytes / stored_bytes:.2f}x" if stored_bytes else "-"


def share(part: int, whole: int) -> str:
    """Return ``12.5 %``; ``-`` of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def count(number: int) -> str:
    """Return ``50,000``."""
    return f"{number:,}"


def parameters(number: int) -> str:
    """Return a parameter count as models are named: ``22.7 M``, ``7.24 B``."""
    for limit, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= limit:
            return f"{number / limit:.3g} {unit}"
    return str(number)


def moment(microseconds: int) -> str:
    """Return a time to the second, UTC: ``2026-11-21 08:30:00Z``."""
    return format_time(microseconds - microseconds % 1_000_000).replace("T", " ")
