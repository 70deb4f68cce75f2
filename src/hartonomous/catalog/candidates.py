"""Stored things that something outside may be equal to, found by size and name; nothing is read."""

from collections.abc import Collection

from sqlalchemy import Connection, func, select

from hartonomous.catalog.batches import batches
from hartonomous.catalog.manifests import ManifestRow, by_ids
from hartonomous.catalog.schema import atom, manifest, tensor


def files_of_sizes(
    tx: Connection, sizes: Collection[int], *, each: int
) -> dict[int, list[ManifestRow]]:
    """Return {size: stored files of it, the newest first}, at most ``each``."""
    ids: list[int] = []
    for piece in batches(sorted(set(sizes))):
        rank = func.row_number().over(
            partition_by=manifest.c.size_bytes, order_by=manifest.c.id.desc()
        )
        ranked = (
            select(manifest.c.id, rank.label("rank"))
            .where(manifest.c.size_bytes.in_(piece), manifest.c.complete == 1)
            .subquery()
        )
        ids += tx.scalars(select(ranked.c.id).where(ranked.c.rank <= each))
    found: dict[int, list[ManifestRow]] = {}
    for _, row in sorted(by_ids(tx, ids).items(), reverse=True):
        found.setdefault(row.size_bytes, []).append(row)
    return found


def tensors_of_names(
    tx: Connection, names: Collection[str], *, limit: int
) -> dict[tuple[str, int], list[bytes]]:
    """Return {(name, length): digests} of stored tensors; at most ``limit`` rows a batch of 500."""
    found: dict[tuple[str, int], list[bytes]] = {}
    for piece in batches(sorted(set(names))):
        query = (
            select(tensor.c.name, tensor.c.length, tensor.c.digest)
            .where(tensor.c.name.in_(piece), tensor.c.digest.is_not(None))
            .distinct()
            .limit(limit)
        )
        for name, length, digest in tx.execute(query):
            found.setdefault((name, length), []).append(digest)
    return found


def atoms_of_sizes(tx: Connection, sizes: Collection[int], *, each: int) -> dict[int, list[bytes]]:
    """Return {size: digests of stored atoms of it, the most used first}, at most ``each``."""
    found: dict[int, list[bytes]] = {}
    for piece in batches(sorted(set(sizes))):
        rank = func.row_number().over(
            partition_by=atom.c.size_bytes,
            order_by=(atom.c.reference_count.desc(), atom.c.id.desc()),
        )
        ranked = (
            select(atom.c.size_bytes, atom.c.digest, rank.label("rank"))
            .where(atom.c.size_bytes.in_(piece))
            .subquery()
        )
        query = select(ranked.c.size_bytes, ranked.c.digest).where(ranked.c.rank <= each)
        for size, digest in tx.execute(query.order_by(ranked.c.size_bytes, ranked.c.rank)):
            found.setdefault(size, []).append(digest)
    return found
