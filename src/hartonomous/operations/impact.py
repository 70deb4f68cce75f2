"""Impact: what depends on a version, and what removing it would free."""

import msgspec

from hartonomous.catalog import (
    artifacts,
    atoms,
    bases,
    contents,
    exclusive,
    kin,
    relations,
    resolve,
    versions,
)
from hartonomous.packs.containment import links, place_words
from hartonomous.packs.parts import StoreParts


class Dependent(msgspec.Struct, frozen=True, kw_only=True):
    """A version with tensors that are predicted from this one's, of so many bytes."""

    name: str
    number: int
    tensor_count: int
    logical_bytes: int


class Impact(msgspec.Struct, frozen=True, kw_only=True):
    """What a version means to others.

    Removing it (``hart rm``, then ``hart gc`` once the trash is emptied) frees ``freed_bytes``;
    ``kept_bytes`` stay because other versions' tensors are predicted from them, ``shared_bytes``
    because other versions have the same ones. All are stored bytes. ``labels`` point to it;
    ``stated`` are relations to it that somebody stated, ``contained_in`` the places in documents of
    other versions that have its pictures, byte for byte: those keep their own copies.
    """

    name: str
    number: int
    freed_bytes: int
    kept_bytes: int
    shared_bytes: int
    dependents: tuple[Dependent, ...]
    labels: tuple[str, ...]
    stated: tuple[str, ...]
    contained_in: tuple[str, ...] = ()


def impact(parts: StoreParts, spec: str) -> Impact:
    """Say what depends on the version that ``spec`` means; raises NotFoundError."""
    with parts.database.read() as tx:
        row = resolve.version(tx, spec)
        own = exclusive.atoms_of_version(tx, row.id)
        needed = exclusive.needed_by_others(tx, own)
        stored_all = versions.stored_bytes(tx, row.id)
        held = {one.atom_id: one.length for one in kin.tensors_of(tx, row.id, least_bytes=1)}
        above = bases.dependents(tx, held)
        used = kin.versions_with(tx, above)
        names = {one.id: one for one in versions.live(tx)}
        labels = artifacts.labels(tx, row.artifact_id)
        stated = relations.stated(tx, row.id)
        sizes = {one[0]: one[2] for one in atoms.by_ids(tx, above)}
        members, files = contents.of_version(tx, row.id)
    paths = [(one.path, files[one.manifest_id].file_digest) for one in members]
    counted: dict[int, list[int]] = {}
    for atom_id, users in used.items():
        for user in users - {row.id}:
            tally = counted.setdefault(user, [0, 0])
            tally[0] += 1
            tally[1] += sizes.get(atom_id, 0)
    freed = sum(stored for one, (_, stored) in own.items() if one not in needed)
    kept = sum(stored for one, (_, stored) in own.items() if one in needed)
    dependents = [
        Dependent(
            name=names[one].name, number=names[one].number, tensor_count=tally[0],
            logical_bytes=tally[1],
        )
        for one, tally in counted.items()
        if one in names
    ]  # fmt: skip
    dependents.sort(key=lambda one: (-one.logical_bytes, one.name, one.number))
    return Impact(
        name=row.name,
        number=row.number,
        freed_bytes=freed,
        kept_bytes=kept,
        shared_bytes=stored_all - freed - kept,
        dependents=tuple(dependents),
        labels=tuple(sorted(name for name, version_id in labels.items() if version_id == row.id)),
        stated=tuple(f"{one.source} {one.kind} {one.target}" for one in stated),
        contained_in=tuple(
            f"{one.document.name}@{one.document.number}:{one.document.path}"
            f" {place_words(one.part, one.pages, one.page)}"
            for one in links(parts, row.id, paths)
            if one.picture.version_id == row.id
        ),
    )
