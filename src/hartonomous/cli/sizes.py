"""Numbers and times as people read them; those that the core knows too come from there."""

from hartonomous.core.moment import format_time
from hartonomous.core.quantity import count, ratio, several, share, size

__all__ = [
    "count", "duration", "moment", "parameters", "rate", "ratio", "several", "share", "size",
]  # fmt: skip


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


def parameters(number: int) -> str:
    """Return a parameter count as models are named: ``22.7 M``, ``7.24 B``."""
    for limit, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= limit:
            return f"{number / limit:.3g} {unit}"
    return str(number)


def moment(microseconds: int) -> str:
    """Return a time to the second, UTC: ``2026-11-21 08:30:00Z``."""
    return format_time(microseconds - microseconds % 1_000_000).replace("T", " ")
