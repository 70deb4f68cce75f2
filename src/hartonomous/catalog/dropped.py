"""Members that were dropped from versions: what the changes say, and the rows that follow.

A dropped member has no row; the change that dropped it says all that is needed to bring it back.
Its manifest stays as long as ``held_files`` names it.
"""

import base64
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from hartonomous.catalog import manifests, versions
from hartonomous.catalog.batches import batches
from hartonomous.catalog.changes import ChangeRow, of_action
from hartonomous.catalog.schema import manifest, member, version
from hartonomous.core.tree import tree_digest

ACTION = "drop-members"


def in_force(tx: Connection, version_uid: bytes) -> list[ChangeRow]:
    """Return the changes that dropped members of a version and were not undone, oldest first."""
    uid = version_uid.hex()
    rows = of_action(tx, ACTION, containing=uid)
    return [row for row in rows if row.content["version_uid"] == uid]


def digest_with_all(tx: Connection, version_uid: bytes, digest: bytes) -> bytes:
    """Return the digest of a version's members and those dropped from it; ``digest`` if none is."""
    drops = in_force(tx, version_uid)
    if not drops:
        return digest
    (row,) = versions.by_uids(tx, [version_uid])
    gone = [one for change in drops for one in change.content["members"]]
    return tree_digest(
        [*_files_of(tx, row.id), *((one["path"], bytes.fromhex(one["digest"])) for one in gone)]
    )


def _files_of(tx: Connection, version_id: int) -> list[tuple[str, bytes]]:
    query = (
        select(member.c.path, manifest.c.file_digest)
        .join(manifest, manifest.c.id == member.c.manifest_id)
        .where(member.c.version_id == version_id)
    )
    return [(row[0], row[1]) for row in tx.execute(query)]


def is_single_file(tx: Connection, row: versions.VersionRow) -> bool:
    """Say whether a version is one file; a folder of which one is left is a folder all the same."""
    return row.file_count == 1 and not in_force(tx, row.uid)


def held_files(tx: Connection, *, since_us: int) -> set[bytes]:
    """Return the digests of files that were dropped after a time: undoing needs them."""
    rows = of_action(tx, ACTION, since_us=since_us)
    return {bytes.fromhex(one["digest"]) for row in rows for one in row.content["members"]}


def is_restorable(tx: Connection, change: ChangeRow) -> bool:
    """Say whether the files that a change dropped are all stored; of other changes, True."""
    if change.action != ACTION:
        return True
    digests = [bytes.fromhex(one["digest"]) for one in change.content["members"]]
    found = [manifests.by_file_digest(tx, digest) for digest in digests]
    return all(row is not None and row.complete for row in found)


def manifests_of(tx: Connection, version_uids: Iterable[bytes]) -> set[str]:
    """Return the digests in hex of the manifests of all that was dropped of these versions."""
    return {
        one["manifest"]
        for uid in version_uids
        for row in in_force(tx, uid)
        for one in row.content["members"]
    }


def drop(tx: Connection, content: dict[str, Any]) -> None:
    """Take the members of a change out of their version."""
    found = versions.by_uids(tx, [bytes.fromhex(content["version_uid"])])
    if not found:
        return
    for some in batches([one["path"] for one in content["members"]]):
        tx.execute(
            delete(member).where(member.c.version_id == found[0].id, member.c.path.in_(some))
        )
    _count_again(tx, found[0].id)


def bring_back(tx: Connection, content: dict[str, Any]) -> None:
    """Put the members of a change back into their version, those whose files are stored still."""
    found = versions.by_uids(tx, [bytes.fromhex(content["version_uid"])])
    if not found:
        return
    version_id = found[0].id
    rows = {row.path: row for row in versions.members_of(tx, version_id)}
    for one in content["members"]:
        stored = manifests.by_file_digest(tx, bytes.fromhex(one["digest"]))
        if stored is not None and stored.complete:
            raw = one.get("raw_path")
            rows[one["path"]] = versions.MemberRow(
                path=one["path"],
                raw_path=None if raw is None else base64.b64decode(raw),
                manifest_id=stored.id,
                mode=one["mode"],
                modified_us=one["modified_us"],
            )
    tx.execute(delete(member).where(member.c.version_id == version_id))
    ordered = sorted(rows.values(), key=lambda row: row.path.encode())
    versions.add_members(tx, version_id, 0, ordered)
    _count_again(tx, version_id)


def _count_again(tx: Connection, version_id: int) -> None:
    """Give a version the digest and the sums of the members that it has now."""
    files = _files_of(tx, version_id)
    size, tensors = tx.execute(
        select(
            func.coalesce(func.sum(manifest.c.size_bytes), 0),
            func.coalesce(func.sum(manifest.c.tensor_count), 0),
        )
        .join(member, manifest.c.id == member.c.manifest_id)
        .where(member.c.version_id == version_id)
    ).one()
    tx.execute(
        update(version)
        .where(version.c.id == version_id)
        .values(
            digest=tree_digest(files),
            size_bytes=int(size),
            file_count=len(files),
            tensor_count=int(tensors),
        )
    )
