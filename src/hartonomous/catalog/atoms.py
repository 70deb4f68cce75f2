"""Atoms and the extents that hold their bytes."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)

from hartonomous.catalog import bases
from hartonomous.catalog.batches import among, batches, insert_new_rows, insert_rows, new_ids
from hartonomous.catalog.columns import Words
from hartonomous.catalog.schema import (
    atom,
    atom_base,
    atom_pin,
    extent,
    manifest_atom,
    pack,
    tensor,
)
from hartonomous.catalog.sketches import NewSketch, add_sketches, remove_sketches


class NewExtent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An extent in a sealed pack, not yet in the catalog."""

    pack_id: int
    position: int
    length: int
    header_offset: int
    stored_bytes: int


class NewAtom(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An atom whose bytes are durable, not yet in the catalog; its ``bases`` are there already."""

    digest: bytes
    size_bytes: int
    encoding: int
    extents: tuple[NewExtent, ...]
    bases: tuple[bytes, ...] = ()
    sketches: tuple[NewSketch, ...] = ()
    larger: bool = False  # takes the place of what is stored even where it takes more

    @property
    def stored_bytes(self) -> int:
        """Bytes of its frames in packs."""
        return sum(part.stored_bytes for part in self.extents)


_ATOM_COLUMNS = (
    atom.c.id, atom.c.digest, atom.c.size_bytes, atom.c.stored_bytes, atom.c.encoding,
    atom.c.created_us, atom.c.depth,
)  # fmt: skip
_EXTENT_COLUMNS = (
    extent.c.atom_id, extent.c.pack_id, extent.c.position, extent.c.length,
    extent.c.header_offset, extent.c.stored_bytes,
)  # fmt: skip

# Asked for each tensor that has relatives: made once, and SQLAlchemy knows them by their identity.
_SOME: BindParameter[Any] = bindparam("some", expanding=True)
_IDS = select(atom.c.digest, atom.c.id, atom.c.stored_bytes)
_FIND = _IDS.where(atom.c.digest.in_(_SOME))
_FIND_SOUND = _FIND.where(atom.c.damaged == 0)


def find(
    tx: Connection, digests: Iterable[bytes], *, sound: bool = False
) -> dict[bytes, tuple[int, int]]:
    """Return {digest: (id, stored bytes)} of stored digests; ``sound`` leaves out damaged ones."""
    found: dict[bytes, tuple[int, int]] = {}
    for piece in batches(sorted(set(digests))):
        if tx.dialect.name == "sqlite":
            rows = tx.execute(_FIND_SOUND if sound else _FIND, {"some": piece})
        else:
            query = _IDS.where(among(tx, atom.c.digest, piece))
            rows = tx.execute(query.where(atom.c.damaged == 0) if sound else query)
        found.update({row[0]: (row[1], row[2]) for row in rows})
    return found


def add(tx: Connection, atoms: Sequence[NewAtom], *, now_us: int) -> list[bytes]:
    """Insert atoms and their extents; an atom that somebody else stored first keeps theirs.

    One that is marked as damaged gets the new extents instead, and is sound again.

    Returns the digests of those that were there already: the caller pins them. A new atom needs no
    pin while its writer is alive, since the pack that it lies in is that writer's. Ordered by
    digest, so that two writers cannot wait for each other in a circle.
    """
    ordered = sorted(atoms, key=lambda one: one.digest)
    if not ordered:
        return []
    known = bases.find(tx, {name for one in ordered for name in one.bases})
    rows = [
        (
            one.digest, one.size_bytes, one.stored_bytes, one.encoding, now_us,
            bases.depth_over([known[name] for name in one.bases]) if one.bases else 0,
        )
        for one in ordered
    ]  # fmt: skip
    ids = _insert_new(tx, rows)
    new: list[NewAtom] = []
    there: list[NewAtom] = []
    for one in ordered:
        (new if one.digest in ids else there).append(one)
    insert_rows(
        tx,
        _EXTENT_COLUMNS,
        [_extent_row(ids[one.digest], part) for one in new for part in one.extents],
    )
    add_sketches(tx, [(ids[one.digest], part) for one in new for part in one.sketches])
    bases.add(tx, [(ids[one.digest], [known[name].id for name in one.bases]) for one in new])
    _mend(tx, there)
    return [one.digest for one in there]


def _insert_new(tx: Connection, rows: Sequence[tuple[Any, ...]]) -> dict[bytes, int]:
    """Insert those whose digest, the first value, is not there yet; return {digest: id} of them.

    Nobody else writes meanwhile.
    """
    ids = dict(zip((row[0] for row in rows), new_ids(tx, atom, len(rows)), strict=True))
    if len(ids) != len(rows):
        raise ValueError("an atom is to be inserted twice")
    numbered = [(ids[row[0]], *row) for row in rows]
    inserted = insert_new_rows(tx, _ATOM_COLUMNS, numbered, key=atom.c.digest)
    if len(inserted) == len(rows):
        return ids
    return {name: one for name, one in ids.items() if one in inserted}


def _extent_row(atom_id: int, part: NewExtent) -> tuple[int, ...]:
    return (
        atom_id, part.pack_id, part.position, part.length, part.header_offset, part.stored_bytes,
    )  # fmt: skip


def _mend(tx: Connection, again: Sequence[NewAtom]) -> None:
    """Give those atoms that are damaged their new extents."""
    if not again:
        return
    damaged = select(atom.c.digest, atom.c.id).where(
        atom.c.digest.in_([one.digest for one in again]), atom.c.damaged == 1
    )
    ids = {row[0]: row[1] for row in tx.execute(damaged)}
    for one in again:
        if one.digest in ids:
            _point(tx, ids[one.digest], one)


def _point(tx: Connection, atom_id: int, new: NewAtom) -> bool:
    """Let an atom's rows speak of new extents; False, and nothing done, where its bases forbid it.

    They do where one of them needs this atom itself, and where a chain would get too long.
    """
    found = bases.find(tx, new.bases)
    if not bases.replace(tx, atom_id, [found[name] for name in new.bases]):
        return False
    tx.execute(delete(extent).where(extent.c.atom_id == atom_id))
    insert_rows(tx, _EXTENT_COLUMNS, [_extent_row(atom_id, part) for part in new.extents])
    tx.execute(
        update(atom)
        .where(atom.c.id == atom_id)
        .values(damaged=0, encoding=new.encoding, stored_bytes=new.stored_bytes)
    )
    return True


def mark_damaged(tx: Connection, atom_id: int, *, damaged: bool = True) -> None:
    """Remember that an atom's stored bytes are not what they were, or are so again."""
    tx.execute(update(atom).where(atom.c.id == atom_id).values(damaged=int(damaged)))


def damaged_ids(tx: Connection) -> set[int]:
    """Return the ids of atoms that are marked as damaged."""
    return set(tx.scalars(select(atom.c.id).where(atom.c.damaged == 1)))


class StoredAtom(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An atom as it is kept now; ``dtype`` is the element type of a tensor that it holds."""

    id: int
    digest: bytes
    size_bytes: int
    stored_bytes: int
    encoding: int
    depth: int
    dtype: str | None


def stored_page(tx: Connection, *, after_id: int, limit: int) -> list[StoredAtom]:
    """Return sound atoms and how they are kept, in id order."""
    query = _stored().where(atom.c.id > after_id).order_by(atom.c.id).limit(limit)
    return [StoredAtom(**row) for row in tx.execute(query).mappings()]


def stored_by_ids(tx: Connection, atom_ids: Iterable[int]) -> list[StoredAtom]:
    """Return those of these atoms that are sound, and how they are kept, in id order."""
    found: list[StoredAtom] = []
    for piece in batches(sorted(set(atom_ids))):
        query = _stored().where(atom.c.id.in_(piece)).order_by(atom.c.id)
        found += [StoredAtom(**row) for row in tx.execute(query).mappings()]
    return found


def _stored() -> Select[Any]:
    smallest = func.min(tensor.c.dtype, type_=Words(optional=True))
    dtype = select(smallest).where(tensor.c.digest == atom.c.digest).scalar_subquery()
    return select(
        atom.c.id, atom.c.digest, atom.c.size_bytes, atom.c.stored_bytes, atom.c.encoding,
        atom.c.depth, dtype.label("dtype"),
    ).where(atom.c.damaged == 0)  # fmt: skip


def stored_after(tx: Connection, after_id: int) -> tuple[int, int]:
    """Return how many atoms have a higher id, and their bytes."""
    query = select(func.count(), func.coalesce(func.sum(atom.c.size_bytes), 0)).where(
        atom.c.id > after_id
    )
    count, total = tx.execute(query).one()
    return int(count), int(total)


def replace_extents(tx: Connection, new: Sequence[NewAtom]) -> int:
    """Point sound atoms to newly written extents of the same bytes; return how many were.

    An atom that was removed or found damaged meanwhile, that would not get smaller (unless it is
    said to be ``larger``), or whose new bases need it themselves, is left alone: its new extents
    stay without a row, and the next collection frees them. So is one that only the pack of a writer
    at work keeps: in another pack nothing would.
    """
    replaced = 0
    for one in sorted(new, key=lambda each: each.digest):
        held = select(atom.c.id).where(
            atom.c.digest == one.digest, atom.c.damaged == 0, _held_by_rows()
        )
        if not one.larger:
            held = held.where(atom.c.stored_bytes > one.stored_bytes)
        atom_id = tx.scalar(held)
        replaced += atom_id is not None and _point(tx, atom_id, one)
    return replaced


def _held_by_rows() -> ColumnElement[bool]:
    """Say that a file, another atom or a pin keeps an atom, wherever its bytes lie."""
    return or_(
        exists().where(manifest_atom.c.atom_id == atom.c.id),
        exists().where(atom_base.c.base_atom_id == atom.c.id),
        exists().where(atom_pin.c.atom_id == atom.c.id),
    )


def page(tx: Connection, *, after_id: int, limit: int) -> list[tuple[int, bytes, int]]:
    """Return (id, digest, size) of atoms in id order, for walking over all of them."""
    query = (
        select(atom.c.id, atom.c.digest, atom.c.size_bytes)
        .where(atom.c.id > after_id)
        .order_by(atom.c.id)
        .limit(limit)
    )
    return [(row[0], row[1], row[2]) for row in tx.execute(query)]


def by_ids(tx: Connection, atom_ids: Iterable[int]) -> list[tuple[int, bytes, int]]:
    """Return (id, digest, size) of atoms that are there, in id order."""
    found: list[tuple[int, bytes, int]] = []
    for piece in batches(sorted(set(atom_ids))):
        query = select(atom.c.id, atom.c.digest, atom.c.size_bytes).where(atom.c.id.in_(piece))
        found.extend((row[0], row[1], row[2]) for row in tx.execute(query.order_by(atom.c.id)))
    return found


def in_pack(tx: Connection, pack_id: int) -> list[int]:
    """Return the ids of atoms that have an extent in a pack."""
    return list(tx.scalars(select(extent.c.atom_id).where(extent.c.pack_id == pack_id).distinct()))


def unreferenced(
    tx: Connection, *, after_id: int, limit: int, spared_writers: Sequence[bytes]
) -> list[int]:
    """Return ids of atoms that no manifest, no other atom and no writer needs, in id order."""
    held_by_writer = (
        select(extent.c.id)
        .join(pack, pack.c.id == extent.c.pack_id)
        .where(extent.c.atom_id == atom.c.id, pack.c.writer_key.in_(spared_writers))
    )
    query = (
        select(atom.c.id)
        .where(
            atom.c.id > after_id,
            ~exists().where(manifest_atom.c.atom_id == atom.c.id),
            ~exists().where(atom_pin.c.atom_id == atom.c.id),
            ~exists().where(atom_base.c.base_atom_id == atom.c.id),
            ~held_by_writer.exists(),
        )
        .order_by(atom.c.id)
        .limit(limit)
    )
    return list(tx.scalars(query))


def remove(tx: Connection, atom_ids: Sequence[int]) -> int:
    """Forget atoms, extents and sketches; the foreign keys refuse one that is still referred to.

    Returns how many ties to bases went with them: those may be needed by nothing now.
    """
    ties = tx.execute(delete(atom_base).where(atom_base.c.atom_id.in_(atom_ids))).rowcount
    tx.execute(delete(extent).where(extent.c.atom_id.in_(atom_ids)))
    remove_sketches(tx, atom_ids)
    tx.execute(delete(atom).where(atom.c.id.in_(atom_ids)))
    return int(ties)


def holes(tx: Connection, *, limit: int) -> list[tuple[bytes, int, int]]:
    """Return (digest, size, bytes in extents) of atoms whose extents do not add up."""
    held = func.coalesce(func.sum(extent.c.length), 0)
    query = (
        select(atom.c.digest, atom.c.size_bytes, held)
        .outerjoin(extent, (extent.c.atom_id == atom.c.id) & (extent.c.copy == 0))
        .group_by(atom.c.id)
        .having(held != atom.c.size_bytes)
        .limit(limit)
    )
    return [(row[0], int(row[1]), int(row[2])) for row in tx.execute(query)]
