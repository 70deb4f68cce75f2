"""Families: what stored tensors are, which files and labels hold them, how deep they may lie.

Questions that `hart repack` and `hart gc` ask before an atom gets other bases.
"""

from collections.abc import Collection, Iterable, Sequence

import msgspec
from sqlalchemy import Connection, Select, func, select

from hartonomous.catalog.bases import ONLY_BASES
from hartonomous.catalog.batches import batches
from hartonomous.catalog.columns import decode_json
from hartonomous.catalog.schema import (
    atom,
    atom_base,
    label,
    manifest_atom,
    member,
    sketch,
    tensor,
    version,
)

HOT_DEPTH = 1
"""The longest chain of bases under atoms of versions with a hot label."""


class Limits(msgspec.Struct, frozen=True):
    """How long chains of bases may be; under what versions with ``hot_labels`` hold, 1 at most."""

    max_depth: int
    hot_labels: tuple[str, ...] = ()

    @property
    def hot_depth(self) -> int:
        """The limit of what is hot."""
        return min(HOT_DEPTH, self.max_depth)


class TensorUse(msgspec.Struct, frozen=True, gc=False):
    """What a stored tensor is, as the first file that holds it says, and heads of its models."""

    dtype: str
    shape: tuple[int, ...]
    heads: tuple[int, ...] = ()


class _Heads(msgspec.Struct, frozen=True):
    head_count: int | None = None
    kv_head_count: int | None = None


def tensors(tx: Connection, atom_ids: Sequence[int]) -> dict[int, TensorUse]:
    """Return {atom id: what it is} of those atoms that are tensors in C order."""
    found: dict[int, TensorUse] = {}
    for piece in batches(atom_ids):
        query = (
            select(atom.c.id, tensor.c.dtype, tensor.c.shape, tensor.c.manifest_id)
            .join_from(atom, tensor, tensor.c.digest == atom.c.digest)
            .where(atom.c.id.in_(piece))
            .order_by(atom.c.id, tensor.c.manifest_id, tensor.c.ordinal)
        )
        rows = tx.execute(query).all()
        heads = _heads(tx, sorted({row[3] for row in rows}))
        uses: dict[int, list[tuple[str, str, int]]] = {}
        for atom_id, dtype, shape, manifest_id in rows:
            uses.setdefault(atom_id, []).append((dtype, shape, manifest_id))
        for atom_id, some in uses.items():
            dtype, shape, _ = some[0]
            counts = (count for _, _, manifest_id in some for count in heads.get(manifest_id, ()))
            known = tuple(dict.fromkeys(counts))
            found[atom_id] = TensorUse(dtype, decode_json(shape, tuple[int, ...]), known[:4])
    return found


def _heads(tx: Connection, manifest_ids: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """Return {manifest id: numbers of attention heads} as the summaries of versions say."""
    found: dict[int, tuple[int, ...]] = {}
    for piece in batches(manifest_ids):
        query = (
            select(member.c.manifest_id, func.min(member.c.version_id, type_=version.c.id.type))
            .where(member.c.manifest_id.in_(piece))
            .group_by(member.c.manifest_id)
        )
        of_version: dict[int, list[int]] = {}
        for manifest_id, version_id in tx.execute(query):
            of_version.setdefault(version_id, []).append(manifest_id)
        texts = select(version.c.id, version.c.model).where(version.c.id.in_(sorted(of_version)))
        for version_id, text in tx.execute(texts):
            if text is None:
                continue
            said: _Heads = decode_json(text, _Heads)
            counts = (said.head_count, said.kv_head_count)
            for manifest_id in of_version[version_id]:
                found[manifest_id] = tuple(one for one in counts if one is not None and one > 0)
    return found


def hot(tx: Connection, atom_ids: Iterable[int], labels: Sequence[str]) -> set[int]:
    """Return which of these atoms are held by a version in use that has one of these labels."""
    found: set[int] = set()
    for piece in batches(sorted(set(atom_ids))) if labels else ():
        query = _hot_atoms(labels).where(manifest_atom.c.atom_id.in_(piece))
        found.update(tx.scalars(query))
    return found


def _hot_atoms(labels: Sequence[str]) -> Select[tuple[int]]:
    return (
        select(manifest_atom.c.atom_id)
        .join(member, member.c.manifest_id == manifest_atom.c.manifest_id)
        .join(label, label.c.version_id == member.c.version_id)
        .join(version, version.c.id == member.c.version_id)
        .where(label.c.name.in_(labels), version.c.removed_us.is_(None))
        .distinct()
    )


def deep_in_version(tx: Connection, version_id: int) -> int:
    """Return how many atoms of a version lie over more than ``HOT_DEPTH`` bases."""
    query = (
        select(func.count(func.distinct(atom.c.id)))
        .join(manifest_atom, manifest_atom.c.atom_id == atom.c.id)
        .join(member, member.c.manifest_id == manifest_atom.c.manifest_id)
        .where(member.c.version_id == version_id, atom.c.depth > HOT_DEPTH)
    )
    return int(tx.scalar(query) or 0)


def too_deep(tx: Connection, limits: Limits) -> list[int]:
    """Return the ids of sound atoms over too long a chain of bases, the least deep first."""
    query = select(atom.c.id).where(atom.c.depth > limits.max_depth, atom.c.damaged == 0)
    deep = select(atom.c.id).where(
        atom.c.depth > limits.hot_depth,
        atom.c.damaged == 0,
        atom.c.id.in_(_hot_atoms(limits.hot_labels)),
    )
    ids = set(tx.scalars(query)) | (set(tx.scalars(deep)) if limits.hot_labels else set())
    found: list[tuple[int, int]] = []
    for piece in batches(sorted(ids)):
        depths = select(atom.c.depth, atom.c.id).where(atom.c.id.in_(piece))
        found += [(row[0], row[1]) for row in tx.execute(depths)]
    return [atom_id for _, atom_id in sorted(found)]


def room(
    tx: Connection, atom_id: int, limits: Limits, *, without: Collection[int] = ()
) -> tuple[int, set[int]]:
    """Return how deep an atom may lie, and the ids of all that is built on it.

    What lies above it must not get too deep either; ``without`` are left out, and what is reached
    through them alone.
    """
    levels = [{atom_id}]
    while levels[-1] and len(levels) <= limits.max_depth + 16:
        above: set[int] = set()
        for piece in batches(sorted(levels[-1])):
            query = select(atom_base.c.atom_id).where(atom_base.c.base_atom_id.in_(piece))
            above.update(tx.scalars(query))
        levels.append(above.difference(without))
    everything = set().union(*levels)
    held = hot(tx, everything, limits.hot_labels)
    # An atom may be met on several levels: the longest way to it counts, which comes last.
    least = min(
        (limits.hot_depth if one in held else limits.max_depth) - height
        for height, level in enumerate(levels)
        for one in level
    )
    return least, everything - {atom_id}


def direct_dependents(tx: Connection, atom_id: int) -> list[int]:
    """Return the ids of atoms of which this one is a base."""
    query = select(atom_base.c.atom_id).where(atom_base.c.base_atom_id == atom_id).distinct()
    return sorted(tx.scalars(query))


def base_ids(tx: Connection, atom_ids: Iterable[int]) -> set[int]:
    """Return the ids of the bases of some atoms."""
    found: set[int] = set()
    for piece in batches(sorted(set(atom_ids))):
        query = select(atom_base.c.base_atom_id).where(atom_base.c.atom_id.in_(piece))
        found.update(tx.scalars(query))
    return found


def kept_for_others(tx: Connection) -> list[int]:
    """Return the ids of sound atoms that no file holds and others need, the newest first."""
    query = select(atom.c.id).where(*ONLY_BASES, atom.c.damaged == 0).order_by(atom.c.id.desc())
    return list(tx.scalars(query))


def whole_sketch(tx: Connection, atom_id: int) -> tuple[int, bytes] | None:
    """Return (elements, signs) of the sketch of a whole tensor, None where it has none."""
    query = (
        select(sketch.c.element_count, sketch.c.signs)
        .where(sketch.c.atom_id == atom_id)
        .order_by(sketch.c.element_count.desc())
        .limit(1)
    )
    row = tx.execute(query).one_or_none()
    return None if row is None else (int(row[0]), row[1])


def only_in(tx: Connection, version_ids: Sequence[int]) -> tuple[int, int, list[int]]:
    """Return what of some versions would stay if they were gone, as bases of what others hold.

    (atoms, their stored bytes, ids of the manifests of others that need them.)
    """
    doomed: set[int] = set()
    for piece in batches(sorted(version_ids)):
        query = select(member.c.manifest_id).where(member.c.version_id.in_(piece))
        doomed.update(tx.scalars(query.distinct()))
    removed = set(version_ids)
    shared: set[int] = set()
    for piece in batches(sorted(doomed)):
        query = select(member.c.manifest_id, member.c.version_id)
        rows = tx.execute(query.where(member.c.manifest_id.in_(piece)))
        shared.update(manifest for manifest, version_id in rows if version_id not in removed)
    doomed -= shared
    own = _atoms_of(tx, doomed)
    own -= _held_by_others(tx, own, doomed)
    count = stored = 0
    needing: set[int] = set()
    for piece in batches(sorted(own)):
        query = (
            select(atom.c.id, atom.c.stored_bytes, atom_base.c.atom_id)
            .join(atom_base, atom_base.c.base_atom_id == atom.c.id)
            .where(atom.c.id.in_(piece))
        )
        needed: dict[int, int] = {}
        for base, stored_bytes, above in tx.execute(query):
            if above not in own:
                needed[base] = stored_bytes
                needing.add(above)
        count += len(needed)
        stored += sum(needed.values())
    manifests: set[int] = set()
    for piece in batches(sorted(needing)):
        held = select(manifest_atom.c.manifest_id).where(manifest_atom.c.atom_id.in_(piece))
        manifests.update(tx.scalars(held.distinct()))
    return count, stored, sorted(manifests)


def _atoms_of(tx: Connection, manifest_ids: Collection[int]) -> set[int]:
    found: set[int] = set()
    for piece in batches(sorted(manifest_ids)):
        query = select(manifest_atom.c.atom_id).where(manifest_atom.c.manifest_id.in_(piece))
        found.update(tx.scalars(query.distinct()))
    return found


def _held_by_others(tx: Connection, atom_ids: Collection[int], doomed: Collection[int]) -> set[int]:
    found: set[int] = set()
    for piece in batches(sorted(atom_ids)):
        query = select(manifest_atom.c.atom_id, manifest_atom.c.manifest_id).where(
            manifest_atom.c.atom_id.in_(piece)
        )
        found.update(atom_id for atom_id, manifest in tx.execute(query) if manifest not in doomed)
    return found
