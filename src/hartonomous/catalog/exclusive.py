"""What is there because of one version alone: atoms that go when it goes for good."""

from collections.abc import Iterable

from sqlalchemy import Connection, exists, select

from hartonomous.catalog.batches import batches
from hartonomous.catalog.schema import atom, atom_base, manifest_atom, member


def atoms_of_version(tx: Connection, version_id: int) -> dict[int, tuple[int, int]]:
    """Return {atom id: (logical bytes, stored bytes)} of what no other version refers to.

    Versions in the trash count: their atoms stay as long as they can be brought back.
    """
    other = member.alias()
    manifests = list(
        tx.scalars(
            select(member.c.manifest_id)
            .where(
                member.c.version_id == version_id,
                ~exists().where(
                    other.c.manifest_id == member.c.manifest_id, other.c.version_id != version_id
                ),
            )
            .distinct()
        )
    )
    own = set(manifests)
    sizes: dict[int, tuple[int, int]] = {}
    for piece in batches(manifests):
        query = (
            select(atom.c.id, atom.c.size_bytes, atom.c.stored_bytes)
            .join(manifest_atom, manifest_atom.c.atom_id == atom.c.id)
            .where(manifest_atom.c.manifest_id.in_(piece))
        )
        sizes.update({row[0]: (row[1], row[2]) for row in tx.execute(query)})
    for piece in batches(sorted(sizes)):
        uses = select(manifest_atom.c.atom_id, manifest_atom.c.manifest_id).where(
            manifest_atom.c.atom_id.in_(piece)
        )
        for atom_id, manifest_id in tx.execute(uses):
            if manifest_id not in own:
                sizes.pop(atom_id, None)
    return sizes


def needed_by_others(tx: Connection, atom_ids: Iterable[int]) -> set[int]:
    """Return those of these atoms that an atom outside of them is predicted from, at any remove."""
    inside = set(atom_ids)
    needed: set[int] = set()
    level = inside
    while level:
        found: set[int] = set()
        for piece in batches(sorted(level)):
            query = select(atom_base.c.base_atom_id, atom_base.c.atom_id).where(
                atom_base.c.base_atom_id.in_(piece)
            )
            for base, above in tx.execute(query):
                if above not in inside or above in needed:
                    found.add(base)
        fresh = found - needed
        needed |= fresh
        # What a needed atom is predicted from is needed as well: look again as long as any came.
        level = inside - needed if fresh else set()
    return needed
