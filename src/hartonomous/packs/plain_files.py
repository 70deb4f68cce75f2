"""The store's cache of plain files, as several operations use it."""

from hartonomous.objects.plain_cache import PlainCache
from hartonomous.packs.parts import StoreParts

HOUR_US = 3_600_000_000
DEFAULT_KEEP_HOURS = 24


def plain_cache(
    parts: StoreParts, *, cache_bytes: int = 0, keep_hours: int = DEFAULT_KEEP_HOURS
) -> PlainCache:
    """Return the store's cache, with the limits that its user has set."""
    return PlainCache(
        root=parts.directory / "cache",
        lock_path=parts.lock_path,
        clock=parts.clock,
        limit_bytes=cache_bytes,
        keep_us=keep_hours * HOUR_US,
    )
