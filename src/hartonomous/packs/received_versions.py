"""Versions from another store on their way to being published: what they say is checked here."""

import os
from typing import Any

import msgspec

from hartonomous.catalog import manifests, versions
from hartonomous.core.journal_entry import decode_entry
from hartonomous.core.model_schema import validate_summary
from hartonomous.core.name import check_meta, check_tag, is_label, is_name
from hartonomous.core.replica import ArtifactState, VersionContent, VersionState
from hartonomous.core.tree import tree_digest
from hartonomous.errors import IntegrityError, UsageError
from hartonomous.packs.manifest_rows import member_row
from hartonomous.packs.member_paths import safe_path
from hartonomous.packs.session import WriteSession

_KINDS = ("model", "file", "vectors")
_MOST_MODE = 0o7777


def check_artifact(state: ArtifactState) -> None:
    """Raise IntegrityError where an artifact's name or labels are none that a store gives."""
    if not is_name(state.name):
        raise IntegrityError(f"{state.name[:100]!r} is no name of an artifact")
    for label in state.labels:
        if not is_label(label):
            raise IntegrityError(f"{state.name}: {label[:100]!r} is no label")
    if any(len(one.uid) != 16 or one.number < 1 for one in state.versions) or len(state.uid) != 16:
        raise IntegrityError(f"{state.name}: a version has no sound identity")
    for one in state.versions:
        try:
            for tag in one.tags:
                check_tag(tag)
            for key, (value, _) in one.metadata.items():
                check_meta(key, value)
        except UsageError as error:
            raise IntegrityError(f"{state.name}@{one.number}: {error.message}") from error


def check_content(name: str, content: VersionContent) -> None:
    """Raise IntegrityError where a version's members or summary are none that can be kept."""
    if content.kind not in _KINDS:
        raise IntegrityError(f"{name}: {content.kind[:40]!r} is no kind of a version")
    paths: set[str] = set()
    for member in content.members:
        path, raw = member["path"], member.get("raw_path")
        safe_path(path)
        if raw is not None:
            safe_path(os.fsdecode(raw))
        parts = path.split("/")
        if path in paths or any(part in ("", ".", "..") for part in parts):
            raise IntegrityError(f"{name}: {path[:100]!r} is no path of a member")
        if not 0 <= member["mode"] <= _MOST_MODE:
            raise IntegrityError(f"{name}: {path[:100]!r} has no sound permissions")
        paths.add(path)
    if content.model is not None:
        validate_summary(content.model)


def commit_of(
    content: VersionContent,
    state: VersionState,
    *,
    artifact_uid: bytes,
    name: str,
    number: int,
    sequence: int,
    time_us: int,
    manifests_here: dict[bytes, bytes],
) -> dict[str, Any]:
    """Return the commit record of a received version; raises IntegrityError where it is none.

    ``manifests_here`` gives the digest of the manifest that this store keeps for a file.
    """
    members = [
        {**member, "manifest": manifests_here[bytes.fromhex(member["digest"])].hex()}
        for member in content.members
    ]
    commit: dict[str, Any] = {
        "version": 1,
        "kind": "commit",
        "seq": sequence,
        "time_us": time_us,
        "created_us": min(content.created_us, time_us),
        "artifact": artifact_uid.hex(),
        "name": name,
        "number": number,
        "uid": content.uid.hex(),
        "digest": _digest(members).hex(),
        "kind_of": content.kind,
        "members": members,
        "source": {"host": content.source_host, "place": content.source_place},
        "labels": [],
        "tags": list(state.tags),
        "metadata": {key: value for key, (value, _) in state.metadata.items()},
        "model": content.model,
    }
    decode_entry(msgspec.json.encode(commit))
    return commit


def new_version(commit: dict[str, Any], session: WriteSession) -> versions.NewVersion:
    """Return the rows of a version whose files this session holds."""
    ids = [session.manifest_ids[bytes.fromhex(one["digest"])] for one in commit["members"]]
    with session.parts.database.read() as tx:
        rows = manifests.by_ids(tx, ids)
    model = commit["model"]
    return versions.NewVersion(
        uid=bytes.fromhex(commit["uid"]),
        digest=bytes.fromhex(commit["digest"]),
        kind=commit["kind_of"],
        size_bytes=sum(one["size"] for one in commit["members"]),
        tensor_count=sum(rows[one].tensor_count for one in ids),
        parameter_count=model["parameter_count"] if model else None,
        source_host=commit["source"]["host"],
        source_place=commit["source"]["place"],
        model=model,
        members=tuple(
            member_row(one, found) for one, found in zip(commit["members"], ids, strict=True)
        ),
        layers=tuple(
            versions.LayerRow(
                name=one["name"], kind=one["kind"], tensor_count=one["tensor_count"],
                parameter_count=one["parameter_count"], size_bytes=one["tensor_bytes"],
            )
            for one in (model["layers"] if model else ())
        ),
        tags=tuple(commit["tags"]),
        metadata=commit["metadata"],
    )  # fmt: skip


def _digest(members: list[dict[str, Any]]) -> bytes:
    return tree_digest((one["path"], bytes.fromhex(one["digest"])) for one in members)
