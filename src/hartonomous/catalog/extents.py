"""Extents: where the bytes of atoms lie in packs, looked up for many atoms at once."""

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, bindparam, select

from hartonomous.catalog.bases import MAX_DEPTH
from hartonomous.catalog.batches import batches
from hartonomous.catalog.schema import atom, atom_base, extent, manifest_atom, pack


class ExtentRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where ``[position, position + length)`` of an atom lies."""

    position: int
    length: int
    header_offset: int
    stored_bytes: int
    pack_key: bytes


_PLACE_COLUMNS = (
    atom.c.digest, atom.c.depth, extent.c.position, extent.c.length, extent.c.header_offset,
    extent.c.stored_bytes, pack.c.key,
)  # fmt: skip
_PLACES = (
    select(*_PLACE_COLUMNS)
    .join_from(atom, extent, extent.c.atom_id == atom.c.id)
    .join(pack, pack.c.id == extent.c.pack_id)
    .where(extent.c.copy == 0)
    .order_by(atom.c.digest, extent.c.position)
)
_ABOVE = atom.alias("above")
# Made once: SQLAlchemy takes longer to put these together than SQLite to answer them.
_BY_DIGEST = _PLACES.where(atom.c.digest.in_(bindparam("wanted", expanding=True)))
_BELOW = _PLACES.where(
    atom.c.id.in_(
        select(atom_base.c.base_atom_id)
        .join(_ABOVE, _ABOVE.c.id == atom_base.c.atom_id)
        .where(_ABOVE.c.digest.in_(bindparam("wanted", expanding=True)))
    )
)
_OF_MANIFESTS = _PLACES.where(
    atom.c.id.in_(
        select(manifest_atom.c.atom_id).where(
            manifest_atom.c.manifest_id.in_(bindparam("wanted", expanding=True))
        )
    )
).limit(bindparam("most"))


def of_atoms(tx: Connection, digests: Iterable[bytes]) -> dict[bytes, list[ExtentRow]]:
    """Return the extents of each stored digest, in order of position."""
    found, _ = _places(tx, _BY_DIGEST, digests)
    return found


def of_atoms_and_bases(tx: Connection, digests: Iterable[bytes]) -> dict[bytes, list[ExtentRow]]:
    """Return the extents of stored digests, and of all atoms that these are built on."""
    found, built = _places(tx, _BY_DIGEST, digests)
    return _with_bases(tx, found, built)


def of_manifests(
    tx: Connection, manifest_ids: Iterable[int], *, most: int
) -> dict[bytes, list[ExtentRow]]:
    """Return the extents of the atoms of some files, and of all that these are built on.

    Of files with more than ``most`` extents in a batch, those of the first atoms by digest.
    """
    found, built = _places(tx, _OF_MANIFESTS, manifest_ids, most=most)
    return _with_bases(tx, found, built)


def _with_bases(
    tx: Connection, found: dict[bytes, list[ExtentRow]], built: set[bytes]
) -> dict[bytes, list[ExtentRow]]:
    for _ in range(MAX_DEPTH):
        if not built:
            break
        below, built = _places(tx, _BELOW, built)
        built -= found.keys()
        found.update(below)
    return found


def _places(
    tx: Connection, query: Select[Any], wanted: Iterable[Any], *, most: int | None = None
) -> tuple[dict[bytes, list[ExtentRow]], set[bytes]]:
    """Return {digest: extents}, and which of these atoms are built on others."""
    found: dict[bytes, list[ExtentRow]] = {}
    built: set[bytes] = set()
    for piece in batches(sorted(set(wanted))):
        values: dict[str, Any] = (
            {"wanted": piece} if most is None else {"wanted": piece, "most": most}
        )
        here: dict[bytes, list[ExtentRow]] = {}
        count = 0
        for digest, depth, position, length, header_offset, stored, key in tx.execute(
            query, values
        ):
            count += 1
            if depth:
                built.add(digest)
            here.setdefault(digest, []).append(
                ExtentRow(
                    position=position,
                    length=length,
                    header_offset=header_offset,
                    stored_bytes=stored,
                    pack_key=key,
                )
            )
        if count == most:
            here.popitem()  # the last one may have more
        found.update(here)
    return found, built & found.keys()
