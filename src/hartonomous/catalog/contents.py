"""What a version's files are, as its own digest confirms.

A member's row points to a manifest. A row that points to another file's manifest would give out
that file under the member's name, and every digest below would be right; the digest of the version,
which its commit has too, is not.
"""

from sqlalchemy import Connection, bindparam, select

from hartonomous.catalog import manifests, versions
from hartonomous.catalog.columns import damaged
from hartonomous.catalog.schema import version
from hartonomous.core.tree import tree_digest

_DIGEST = select(version.c.digest).where(version.c.id == bindparam("version_id"))


def of_version(
    tx: Connection, version_id: int
) -> tuple[list[versions.MemberRow], dict[int, manifests.ManifestRow]]:
    """Return a version's members in order of path bytes, and {id: row} of their manifests.

    Raises IntegrityError where they are not those that the version's digest names; both are empty
    where the version is gone.
    """
    members = versions.members_of(tx, version_id)
    files = manifests.every(tx, [one.manifest_id for one in members])
    said = tx.scalar(_DIGEST, {"version_id": version_id})
    if said is not None:
        held = tree_digest((one.path, files[one.manifest_id].file_digest) for one in members)
        if held != said:
            raise damaged(f"the files of version {version_id} are not those that its digest names")
    return members, files
