"""Bases: from which other atoms an atom is predicted, and how long such chains are.

The edges have no circle and no chain over ``MAX_DEPTH``: new atoms name stored ones, and where a
stored atom gets other bases, ``replace`` looks first.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import BindParameter, Connection, bindparam, delete, exists, func, select, update

from hartonomous.catalog.batches import batches, insert_rows
from hartonomous.catalog.schema import atom, atom_base, extent, manifest_atom
from hartonomous.errors import IntegrityError

MAX_DEPTH = 8
"""The longest chain of bases that a store may have; what is chosen by default is shorter."""

ONLY_BASES = (
    exists().where(atom_base.c.base_atom_id == atom.c.id),
    ~exists().where(manifest_atom.c.atom_id == atom.c.id),
)
"""The conditions on atoms that no file holds and other atoms need."""

# Asked for each tensor that has relatives: made once, and SQLAlchemy knows them by their identity.
_SOME: BindParameter[Any] = bindparam("some", expanding=True)
_FIND = select(atom.c.digest, atom.c.id, atom.c.depth).where(atom.c.digest.in_(_SOME))
_DEPTHS = select(atom.c.id, atom.c.depth).where(atom.c.id.in_(_SOME))
_below = atom.alias()
_EXACT = (
    select(atom_base.c.atom_id, atom_base.c.base_atom_id, _below.c.depth)
    .join(atom, atom.c.id == atom_base.c.atom_id)
    .join(_below, _below.c.id == atom_base.c.base_atom_id)
    .where(atom.c.id.in_(_SOME), atom.c.stored_bytes == 0)
    .order_by(atom_base.c.atom_id, atom_base.c.ordinal)
)

_COLUMNS = (atom_base.c.atom_id, atom_base.c.ordinal, atom_base.c.base_atom_id)


class Base(msgspec.Struct, frozen=True, gc=False):
    """A stored atom that others may be predicted from; ``depth`` is 0 if it has no bases itself."""

    id: int
    depth: int


def find(
    tx: Connection, digests: Iterable[bytes], *, perhaps: Iterable[bytes] = ()
) -> dict[bytes, Base]:
    """Return {digest: base}; raises IntegrityError where one is not stored.

    What may be stored, or not, is looked for in the same statement.
    """
    wanted = sorted(set(digests))
    found: dict[bytes, Base] = {}
    for piece in batches(sorted({*wanted, *perhaps})):
        rows = tx.execute(_FIND, {"some": piece})
        found.update({row[0]: Base(row[1], row[2]) for row in rows})
    for name in wanted:
        if name not in found:
            raise IntegrityError(
                f"atom blake3:{name.hex()} is to be a base and is not stored",
                hint="hart verify names everything that is damaged",
            )
    return found


def depth_over(below: Iterable[Base]) -> int:
    """Return the depth of an atom with these bases; 0 without any."""
    return max((base.depth + 1 for base in below), default=0)


def depths(tx: Connection, atom_ids: Sequence[int]) -> dict[int, int]:
    """Return {id: depth} of atoms."""
    found: dict[int, int] = {}
    for piece in batches(atom_ids):
        found.update({row[0]: row[1] for row in tx.execute(_DEPTHS, {"some": piece})})
    return found


def exactly_predicted(tx: Connection, atom_ids: Iterable[int]) -> dict[int, tuple[int, ...]]:
    """Return {id: ids of its bases} of those atoms that their bases predict to the last byte.

    What those are built on in the same way is there too, so that roots can be followed.
    """
    found: dict[int, tuple[int, ...]] = {}
    level = set(atom_ids)
    while level:
        below: dict[int, list[int]] = {}
        deep: set[int] = set()
        for piece in batches(sorted(level)):
            for one, base, depth in tx.execute(_EXACT, {"some": piece}):
                below.setdefault(one, []).append(base)
                if depth:
                    deep.add(base)
        found.update({one: tuple(some) for one, some in below.items()})
        level = deep - found.keys()
    return found


def add(tx: Connection, new: Iterable[tuple[int, Sequence[int]]]) -> None:
    """Write down the bases of atoms that have none so far, as (atom id, base ids): each once."""
    rows = [
        (atom_id, at, base)
        for atom_id, base_ids in new
        for at, base in enumerate(dict.fromkeys(base_ids))
    ]
    insert_rows(tx, _COLUMNS, rows)


def replace(tx: Connection, atom_id: int, below: Sequence[Base]) -> bool:
    """Give a stored atom other bases, and what is built on it the depth that follows.

    False, and nothing changed, where that made a circle or a chain over ``MAX_DEPTH``.
    """
    depth = depth_over(below)
    above = dependents(tx, [atom_id])
    if above.intersection(base.id for base in below) or any(one.id == atom_id for one in below):
        return False
    changed = _depths(tx, atom_id, depth, above)
    if changed is None:
        return False
    tx.execute(delete(atom_base).where(atom_base.c.atom_id == atom_id))
    add(tx, [(atom_id, [one.id for one in below])])
    for one, new in changed.items():
        tx.execute(update(atom).where(atom.c.id == one).values(depth=new))
    return True


def _depths(tx: Connection, atom_id: int, depth: int, above: set[int]) -> dict[int, int] | None:
    """Return the depths of an atom and of all that is built on it; None if one is too great."""
    edges: dict[int, list[int]] = {}
    for piece in batches(sorted(above)):
        query = select(atom_base.c.atom_id, atom_base.c.base_atom_id)
        for one, base in tx.execute(query.where(atom_base.c.atom_id.in_(piece))):
            edges.setdefault(one, []).append(base)
    outside = {base for below in edges.values() for base in below} - above - {atom_id}
    known = depths(tx, sorted(outside))
    new = {atom_id: depth}
    waiting = set(above)
    for _ in range(MAX_DEPTH + 1):
        if max(new.values()) > MAX_DEPTH:
            return None
        if not waiting:
            return new
        both = known | new
        ready = [one for one in waiting if all(base in both for base in edges[one])]
        new.update({one: 1 + max(both[base] for base in edges[one]) for one in ready})
        waiting.difference_update(ready)
    return None


def dependents(tx: Connection, atom_ids: Iterable[int]) -> set[int]:
    """Return the ids of all atoms that cannot be read without one of these, however far above."""
    found: set[int] = set()
    level = set(atom_ids)
    while level:
        above: set[int] = set()
        for piece in batches(sorted(level)):
            query = select(atom_base.c.atom_id).where(atom_base.c.base_atom_id.in_(piece))
            above.update(tx.scalars(query))
        level = above - found
        found |= level
    return found


def of_pack(tx: Connection, pack_id: int) -> dict[int, set[bytes]]:
    """Return {header offset: digests of the atom's bases} for the extents of a pack."""
    base = atom.alias()
    query = (
        select(extent.c.header_offset, base.c.digest)
        .join(atom_base, atom_base.c.atom_id == extent.c.atom_id)
        .join(base, base.c.id == atom_base.c.base_atom_id)
        .where(extent.c.pack_id == pack_id)
    )
    found: dict[int, set[bytes]] = {}
    for at, digest in tx.execute(query):
        found.setdefault(at, set()).add(digest)
    return found


def wrong_depths(tx: Connection, *, limit: int) -> list[tuple[bytes, int, int]]:
    """Return (digest, depth kept, depth by its bases) where the two differ."""
    base = atom.alias()
    real = (
        select(atom_base.c.atom_id, (func.max(base.c.depth) + 1).label("depth"))
        .join(base, base.c.id == atom_base.c.base_atom_id)
        .group_by(atom_base.c.atom_id)
        .subquery()
    )
    depth = func.coalesce(real.c.depth, 0)
    query = (
        select(atom.c.digest, atom.c.depth, depth)
        .outerjoin(real, real.c.atom_id == atom.c.id)
        .where(atom.c.depth != depth)
        .limit(limit)
    )
    return [(row[0], int(row[1]), int(row[2])) for row in tx.execute(query)]


def kept_for_others(tx: Connection) -> tuple[int, int, int]:
    """Return (atoms, decoded bytes, stored bytes) of what no file holds and other atoms need."""
    query = select(
        func.count(),
        func.coalesce(func.sum(atom.c.size_bytes), 0),
        func.coalesce(func.sum(atom.c.stored_bytes), 0),
    ).where(*ONLY_BASES)
    count, logical, stored = tx.execute(query).one()
    return int(count), int(logical), int(stored)
