"""Writing sessions that are, or were, at work, and the atoms they hold on to.

A pin keeps an atom that a writer found in the store from being collected before the writer's own
rows refer to it. Whether a writer is alive is asked of its lock file, not of the database.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select

from hartonomous.catalog.batches import insert_or_skip
from hartonomous.catalog.schema import atom_pin, manifest_pin, version, writer


def begin(tx: Connection, *, key: bytes, host: str, process: int, now_us: int) -> int:
    """Register a writing session and return its id."""
    return int(
        tx.execute(
            insert(writer)
            .values(key=key, host=host, process=process, started_us=now_us)
            .returning(writer.c.id)
        ).scalar_one()
    )


def pin_atoms(tx: Connection, writer_id: int, atom_ids: Sequence[int]) -> None:
    """Hold on to atoms until the session ends."""
    if atom_ids:
        rows = [{"writer_id": writer_id, "atom_id": atom_id} for atom_id in sorted(atom_ids)]
        tx.execute(insert_or_skip(atom_pin, tx), rows)


def pin_manifest(tx: Connection, writer_id: int, manifest_id: int) -> None:
    """Hold on to a manifest until the session ends."""
    row = {"writer_id": writer_id, "manifest_id": manifest_id}
    tx.execute(insert_or_skip(manifest_pin, tx), row)


def keys(tx: Connection) -> list[tuple[int, bytes]]:
    """Return (id, key) of every registered session."""
    return [(row.id, row.key) for row in tx.execute(select(writer.c.id, writer.c.key))]


def drop_pins(tx: Connection, writer_id: int, *, limit: int) -> bool:
    """Drop up to ``limit`` pins of a session; True when none is left."""
    left = limit
    for key in (manifest_pin.c.manifest_id, atom_pin.c.atom_id):
        pins = key.table
        ids = list(tx.scalars(select(key).where(pins.c.writer_id == writer_id).limit(left)))
        if ids:
            tx.execute(delete(pins).where(pins.c.writer_id == writer_id, key.in_(ids)))
        left -= len(ids)
        if not left:
            return False
    return True


def end(tx: Connection, writer_id: int) -> None:
    """Forget a session whose pins and staged versions are gone."""
    tx.execute(delete(writer).where(writer.c.id == writer_id))


def staged_versions(tx: Connection, writer_id: int) -> list[int]:
    """Return the ids of versions that a session staged and did not publish."""
    return list(
        tx.scalars(
            select(version.c.id).where(version.c.writer_id == writer_id, version.c.published == 0)
        )
    )
