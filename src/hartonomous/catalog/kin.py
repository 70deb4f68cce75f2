"""Kin: which stored tensors two versions have in common, and which are built on which.

All of it is derived from the rows that say how tensors are kept; nothing here is stored.
"""

from collections.abc import Iterable

import msgspec
from sqlalchemy import Column, Connection, select

from hartonomous.catalog.batches import batches
from hartonomous.catalog.schema import (
    artifact,
    atom,
    atom_base,
    extent,
    member,
    pack,
    tensor,
    version,
)

MOST_TENSORS = 200_000


class OwnTensor(msgspec.Struct, frozen=True, gc=False):
    """A tensor of a version that is an atom of its own; ``depth`` is 0 if it stands alone."""

    atom_id: int
    digest: bytes
    name: str
    dtype: str
    length: int
    depth: int


class Tie(msgspec.Struct, frozen=True, gc=False):
    """One atom is predicted from another; its first extent's record says by which plan."""

    atom_id: int
    ordinal: int
    base_atom_id: int
    pack_key: bytes
    header_offset: int


def tensors_of(tx: Connection, version_id: int, *, least_bytes: int) -> list[OwnTensor]:
    """Return the tensors of a version with at least so many bytes, each digest once."""
    query = (
        select(
            atom.c.id, atom.c.digest, tensor.c.name, tensor.c.dtype, tensor.c.length, atom.c.depth
        )
        .select_from(member)
        .join(tensor, tensor.c.manifest_id == member.c.manifest_id)
        .join(atom, atom.c.digest == tensor.c.digest)
        .where(member.c.version_id == version_id, tensor.c.length >= least_bytes)
        .order_by(member.c.ordinal, tensor.c.ordinal)
        .limit(MOST_TENSORS)
    )
    found: dict[int, OwnTensor] = {}
    for row in tx.execute(query):
        found.setdefault(row[0], OwnTensor(*row))
    return list(found.values())


def ties_below(tx: Connection, atom_ids: Iterable[int]) -> list[Tie]:
    """Return what these atoms are predicted from."""
    return _ties(tx, atom_ids, atom_base.c.atom_id)


def ties_above(tx: Connection, atom_ids: Iterable[int]) -> list[Tie]:
    """Return what is predicted from these atoms."""
    return _ties(tx, atom_ids, atom_base.c.base_atom_id)


def _ties(tx: Connection, atom_ids: Iterable[int], end: Column[int]) -> list[Tie]:
    found: list[Tie] = []
    for piece in batches(sorted(set(atom_ids))):
        query = (
            select(
                atom_base.c.atom_id, atom_base.c.ordinal, atom_base.c.base_atom_id, pack.c.key,
                extent.c.header_offset,
            )
            .join(extent, extent.c.atom_id == atom_base.c.atom_id)
            .join(pack, pack.c.id == extent.c.pack_id)
            .where(end.in_(piece), extent.c.position == 0, extent.c.copy == 0)
            .order_by(atom_base.c.atom_id, atom_base.c.ordinal)
        )  # fmt: skip
        found.extend(Tie(*row) for row in tx.execute(query))
    return list(dict.fromkeys(found))


def versions_with(tx: Connection, atom_ids: Iterable[int]) -> dict[int, set[int]]:
    """Return {atom id: ids of versions in use that have a tensor of these bytes}."""
    found: dict[int, set[int]] = {}
    for piece in batches(sorted(set(atom_ids))):
        query = (
            select(atom.c.id, member.c.version_id)
            .select_from(atom)
            .join(tensor, tensor.c.digest == atom.c.digest)
            .join(member, member.c.manifest_id == tensor.c.manifest_id)
            .join(version, version.c.id == member.c.version_id)
            .join(artifact, artifact.c.id == version.c.artifact_id)
            .where(
                atom.c.id.in_(piece),
                version.c.published == 1,
                version.c.removed_us.is_(None),
                artifact.c.removed_us.is_(None),
            )
            .distinct()
        )
        for atom_id, version_id in tx.execute(query):
            found.setdefault(atom_id, set()).add(version_id)
    return found
