"""Sums over the whole catalog."""

from sqlalchemy import Connection, distinct, func, select

from hartonomous.catalog.schema import artifact, atom, manifest, member, pack, tensor, version
from hartonomous.catalog.spaces import KIND


def by_encoding(tx: Connection) -> list[tuple[int, bool, int, int, int]]:
    """Return (encoding, nothing stored, atoms, decoded bytes, stored bytes) of all atoms.

    Of atoms that are computed from others exactly no byte is stored; they have a row of their own.
    """
    empty = (atom.c.stored_bytes == 0) & (atom.c.size_bytes > 0)
    query = (
        select(
            atom.c.encoding,
            empty.label("empty"),
            func.count(),
            func.sum(atom.c.size_bytes),
            func.sum(atom.c.stored_bytes),
        )
        .group_by(atom.c.encoding, empty)
        .order_by(atom.c.encoding, empty)
    )
    return [
        (int(row[0]), bool(row[1]), int(row[2]), int(row[3]), int(row[4]))
        for row in tx.execute(query)
    ]


def count_all(tx: Connection) -> dict[str, int]:
    """Return the store's counts and sums by name."""
    live = (
        (version.c.published == 1)
        & version.c.removed_us.is_(None)
        & artifact.c.removed_us.is_(None)
    )
    trashed = (version.c.published == 1) & version.c.removed_us.is_not(None)
    joined = version.join(artifact, artifact.c.id == version.c.artifact_id)
    live_members = (
        select(manifest.c.id, manifest.c.size_bytes)
        .join(member, member.c.manifest_id == manifest.c.id)
        .join(version, version.c.id == member.c.version_id)
        .join(artifact, artifact.c.id == version.c.artifact_id)
        .where(live)
        .distinct()
        .subquery()
    )
    complete = manifest.c.complete == 1
    people = live & (version.c.kind != KIND)  # blocks of vectors take bytes, but are no artifacts
    queries = {
        "artifacts": select(func.count(distinct(artifact.c.id))).select_from(joined).where(people),
        "versions": select(func.count()).select_from(joined).where(people),
        "files": select(func.coalesce(func.sum(version.c.file_count), 0))
        .select_from(joined)
        .where(people),
        "logical_bytes": select(func.coalesce(func.sum(version.c.size_bytes), 0))
        .select_from(joined)
        .where(live),
        "live_distinct_bytes": select(func.coalesce(func.sum(live_members.c.size_bytes), 0)),
        "distinct_bytes": select(func.coalesce(func.sum(manifest.c.size_bytes), 0)).where(complete),
        "inline_bytes": select(func.coalesce(func.sum(manifest.c.inline_bytes), 0)).where(complete),
        "manifests": select(func.count()).select_from(manifest).where(complete),
        "manifest_bytes": select(func.coalesce(func.sum(manifest.c.stored_bytes), 0)).where(
            complete
        ),
        "tensors": select(func.count()).select_from(tensor),
        "packs": select(func.count()).select_from(pack),
        "pack_bytes": select(func.coalesce(func.sum(pack.c.size_bytes), 0)),
        "trash_versions": select(func.count()).select_from(version).where(trashed),
        "trash_bytes": select(func.coalesce(func.sum(version.c.size_bytes), 0)).where(trashed),
    }
    return {name: int(tx.scalar(query) or 0) for name, query in queries.items()}
