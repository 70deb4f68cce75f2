"""How often versions and files were read, and when last: statistics, derived from nothing."""

from collections.abc import Mapping

from sqlalchemy import Connection, func, insert, select, update

from hartonomous.catalog.schema import access

VERSION, FILE = "version", "file"
"""Kinds: the key is a version's uid, or a file's digest."""


def add(tx: Connection, counts: Mapping[tuple[str, bytes], tuple[int, int]]) -> None:
    """Add {(kind, key): (count, microseconds UTC)} to what is known."""
    for (kind, key), (count, last_us) in sorted(counts.items()):
        done = tx.execute(
            update(access)
            .where(access.c.kind == kind, access.c.key == key)
            .values(count=access.c.count + count, last_us=last_us)
        )
        if done.rowcount == 0:
            tx.execute(insert(access).values(kind=kind, key=key, count=count, last_us=last_us))


def of(tx: Connection, kind: str, key: bytes) -> tuple[int, int | None]:
    """Return (count, time of the last) of one thing; (0, None) for what was never read."""
    query = select(access.c.count, access.c.last_us).where(
        access.c.kind == kind, access.c.key == key
    )
    row = tx.execute(query).one_or_none()
    return (0, None) if row is None else (row[0], row[1])


def total(tx: Connection, kind: str) -> int:
    """Return how often things of a kind were read."""
    query = select(func.coalesce(func.sum(access.c.count), 0)).where(access.c.kind == kind)
    return int(tx.scalar(query) or 0)
