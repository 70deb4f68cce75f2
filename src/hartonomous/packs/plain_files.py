"""The store's cache of plain files, as several operations use it."""

from collections.abc import Callable

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


def check_plain(
    parts: StoreParts,
    tell: Callable[[str, str, tuple[str, ...]], None],
    mended: Callable[[str], None] | None,
) -> None:
    """Read the cache; tell of each entry that rotted, or remove it and tell ``mended``.

    Nothing is lost with an entry: it is built anew when it is asked for.
    """
    cache = plain_cache(parts)
    for entry in cache.damaged():
        where = f"plain file {entry.name}"
        if mended is not None and cache.discard(entry):
            mended(f"{where} (removed from the cache; 'hart path' builds it anew)")
        else:
            tell(where, f"has other bytes than it had: {entry.path}", ())
            cache.distrust(entry)
