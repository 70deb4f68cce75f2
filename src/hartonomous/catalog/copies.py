"""Second copies of atoms that many others are built on: extents that are read when the first fail.

``extent.copy`` is 0 for the extents that readers use, 1 for those of the second copy. A second copy
goes with the first: with the atom, or when the atom is written anew.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, delete, distinct, exists, func, select, update

from hartonomous.catalog.atoms import NewExtent
from hartonomous.catalog.batches import insert_rows
from hartonomous.catalog.extents import ExtentRow
from hartonomous.catalog.schema import atom, atom_base, extent, pack

MANY_DEPENDENTS = 32
"""An atom of which more than so many others need bytes is kept twice."""

_COLUMNS = (
    extent.c.atom_id, extent.c.pack_id, extent.c.position, extent.c.length,
    extent.c.header_offset, extent.c.stored_bytes, extent.c.copy,
)  # fmt: skip


def wanted(tx: Connection) -> list[tuple[int, bytes]]:
    """Return (id, digest) of sound atoms with many dependents and one copy, in id order."""
    query = (
        select(atom.c.id, atom.c.digest)
        .join(atom_base, atom_base.c.base_atom_id == atom.c.id)
        .where(
            atom.c.damaged == 0,
            ~exists().where((extent.c.atom_id == atom.c.id) & (extent.c.copy == 1)),
        )
        .group_by(atom.c.id, atom.c.digest)
        .having(func.count(distinct(atom_base.c.atom_id)) > MANY_DEPENDENTS)
        .order_by(atom.c.id)
    )
    return [(row[0], row[1]) for row in tx.execute(query)]


def extents(tx: Connection, atom_id: int, copy: int) -> list[ExtentRow]:
    """Return the extents of one copy of an atom, in order of position."""
    query = (
        select(
            extent.c.position, extent.c.length, extent.c.header_offset, extent.c.stored_bytes,
            pack.c.key,
        )
        .join(pack, pack.c.id == extent.c.pack_id)
        .where(extent.c.atom_id == atom_id, extent.c.copy == copy)
        .order_by(extent.c.position)
    )  # fmt: skip
    return [
        ExtentRow(
            position=row[0], length=row[1], header_offset=row[2], stored_bytes=row[3],
            pack_key=row[4],
        )
        for row in tx.execute(query)
    ]  # fmt: skip


def add(
    tx: Connection, atom_id: int, first: Sequence[ExtentRow], second: Sequence[NewExtent]
) -> bool:
    """Write down a second copy made from ``first``; False where the atom lies elsewhere by now."""
    if extents(tx, atom_id, 0) != list(first) or extents(tx, atom_id, 1):
        return False
    rows = [
        (
            atom_id, one.pack_id, one.position, one.length, one.header_offset, one.stored_bytes, 1,
        )
        for one in second
    ]  # fmt: skip
    insert_rows(tx, _COLUMNS, rows)
    return True


def all_second(tx: Connection) -> list[tuple[int, bytes]]:
    """Return (id, digest) of atoms that have a second copy, in id order."""
    query = (
        select(atom.c.id, atom.c.digest)
        .where(exists().where((extent.c.atom_id == atom.c.id) & (extent.c.copy == 1)))
        .order_by(atom.c.id)
    )
    return [(row[0], row[1]) for row in tx.execute(query)]


def use_second(tx: Connection, atom_id: int) -> None:
    """Let the second copy take the first one's place; ``repack`` makes another one."""
    tx.execute(delete(extent).where(extent.c.atom_id == atom_id, extent.c.copy == 0))
    tx.execute(update(extent).where(extent.c.atom_id == atom_id).values(copy=0))
    tx.execute(update(atom).where(atom.c.id == atom_id).values(damaged=0))


def drop_second(tx: Connection, atom_id: int) -> None:
    """Forget a second copy that is damaged; ``repack`` makes another one."""
    tx.execute(delete(extent).where(extent.c.atom_id == atom_id, extent.c.copy == 1))


def stored_bytes(tx: Connection) -> tuple[int, int]:
    """Return (atoms with a second copy, what the second copies take)."""
    query = select(
        func.count(distinct(extent.c.atom_id)), func.coalesce(func.sum(extent.c.stored_bytes), 0)
    ).where(extent.c.copy == 1)
    count, stored = tx.execute(query).one()
    return int(count), int(stored)
