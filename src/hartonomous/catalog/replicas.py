"""A store's names as another store is told of them: rows, with the times of the last statements.

The times come from the journal: each change touches the registers that it speaks of. A change that
was made because of another store's carries when it was stated there (``origin_us``), so that a
statement keeps its time however many stores it goes through.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from hartonomous.catalog import changes, relations, versions
from hartonomous.catalog.artifacts import ArtifactRow
from hartonomous.catalog.batches import batches
from hartonomous.catalog.schema import (
    artifact,
    label,
    relation,
    version,
    version_metadata,
    version_tag,
)
from hartonomous.core.replica import ArtifactState, RelationState, VersionState

_PAGE = 500

Key = tuple[Any, ...]


@dataclass(slots=True)
class Touches:
    """When each register was stated last, where the journal knows; see ``read_touches``."""

    names: dict[bytes, int] = field(default_factory=dict)
    versions: dict[bytes, int] = field(default_factory=dict)
    labels: dict[bytes, dict[str, int]] = field(default_factory=dict)  # artifact -> label -> time
    metadata: dict[bytes, dict[str, int]] = field(default_factory=dict)
    relations: dict[tuple[bytes, bytes, str], int] = field(default_factory=dict)
    purged: dict[bytes, int] = field(default_factory=dict)
    sequence: int = 0  # of the last change that was read


def read_touches(tx: Connection, found: Touches) -> None:
    """Go on with the journal from where ``found`` ends, in pages.

    What is kept is one time for each register that some change speaks of.
    """
    while rows := changes.after(tx, found.sequence, limit=_PAGE):
        for row in rows:
            content: dict[str, Any] | None = row.content
            if row.action == "undo":
                done = changes.by_sequence(tx, row.content["of"])
                content = None if done is None else done.content
            if content is not None:
                _touch(found, content, int(row.content.get("origin_us", row.time_us)))
        found.sequence = rows[-1].sequence


def _touch(found: Touches, content: dict[str, Any], time_us: int) -> None:
    match content["action"]:
        case "label" | "unlabel":
            owner = found.labels.setdefault(bytes.fromhex(content["artifact"]), {})
            owner[content["label"]] = time_us
        case "rename":
            found.names[bytes.fromhex(content["artifact"])] = time_us
        case "remove":
            for uid in content["version_uids"]:
                found.versions[bytes.fromhex(uid)] = time_us
            for held in content["labels"]:
                owner = found.labels.setdefault(bytes.fromhex(held["artifact"]), {})
                owner[held["label"]] = time_us
        case "annotate":
            owner = found.metadata.setdefault(bytes.fromhex(content["version_uid"]), {})
            owner.update(dict.fromkeys(content["metadata"], time_us))
        case "relate" | "unrelate":
            ends = bytes.fromhex(content["source_uid"]), bytes.fromhex(content["target_uid"])
            found.relations[(*ends, content["relation"])] = time_us
        case "purge":
            for uid in content["version_uids"]:
                found.purged[bytes.fromhex(uid)] = time_us


def artifacts_after(tx: Connection, after_id: int, *, limit: int) -> list[ArtifactRow]:
    """Return artifacts in id order, the trash included."""
    query = select(artifact).where(artifact.c.id > after_id).order_by(artifact.c.id).limit(limit)
    return [ArtifactRow(**row) for row in tx.execute(query).mappings()]


def state(tx: Connection, row: ArtifactRow, touched: Touches) -> ArtifactState:
    """Return an artifact with its versions, labels, tags and metadata."""
    rows = versions.of_artifact(tx, row.id, trash=True)
    tags, pairs = _annotations(tx, row.id)
    states = []
    for one in rows:
        times = touched.metadata.get(one.uid, {})
        states.append(
            VersionState(
                uid=one.uid,
                number=one.number,
                digest=one.digest,
                size_bytes=one.size_bytes,
                created_us=one.created_us,
                removed=one.removed_us is not None,
                touched_us=touched.versions.get(one.uid, one.created_us),
                tags=tuple(sorted(tags.get(one.id, ()))),
                metadata={
                    key: (value, times.get(key, one.created_us))
                    for key, value in sorted(pairs.get(one.id, {}).items())
                },
            )
        )
    return ArtifactState(
        uid=row.uid,
        name=row.name,
        named_us=touched.names.get(row.uid, row.created_us),
        removed=row.removed_us is not None,
        next_number=row.next_number,
        versions=tuple(states),
        labels=_labels(tx, row, {one.id: one for one in rows}, touched),
    )


def _labels(
    tx: Connection, row: ArtifactRow, rows: dict[int, versions.VersionRow], touched: Touches
) -> dict[str, tuple[bytes | None, int]]:
    times = touched.labels.get(row.uid, {})
    found: dict[str, tuple[bytes | None, int]] = {name: (None, at) for name, at in times.items()}
    query = select(label.c.name, label.c.version_id).where(label.c.artifact_id == row.id)
    for name, version_id in tx.execute(query):
        target = rows[version_id]
        found[name] = (target.uid, times.get(name, target.created_us))
    return found


def _annotations(
    tx: Connection, artifact_id: int
) -> tuple[dict[int, list[str]], dict[int, dict[str, str]]]:
    """Return ({version id: tags}, {version id: metadata}) of all versions of an artifact."""
    tags: dict[int, list[str]] = {}
    pairs: dict[int, dict[str, str]] = {}
    own = version.c.artifact_id == artifact_id
    query = select(version_tag.c.version_id, version_tag.c.tag)
    for one in tx.execute(query.join(version, version.c.id == version_tag.c.version_id).where(own)):
        tags.setdefault(one[0], []).append(one[1])
    said = select(version_metadata.c.version_id, version_metadata.c.key, version_metadata.c.value)
    joined = said.join(version, version.c.id == version_metadata.c.version_id)
    for found in tx.execute(joined.where(own)):
        pairs.setdefault(found[0], {})[found[1]] = found[2]
    return tags, pairs


def relation_states(tx: Connection, touched: Touches) -> Iterator[RelationState]:
    """Yield what is stated, and what was taken back."""
    source, target = version.alias(), version.alias()
    query = (
        select(
            source.c.uid, target.c.uid, relation.c.kind, relation.c.weight, relation.c.note,
            relation.c.created_us,
        )
        .join(source, source.c.id == relation.c.source_version_id)
        .join(target, target.c.id == relation.c.target_version_id)
    )  # fmt: skip
    there = set()
    for row in tx.execute(query):
        key = (row[0], row[1], row[2])
        there.add(key)
        yield RelationState(
            source_uid=row[0], target_uid=row[1], kind=row[2],
            weight=relations.weight_of(row[3]), note=row[4],
            touched_us=touched.relations.get(key, row[5]), stated=True,
        )  # fmt: skip
    for key, time_us in touched.relations.items():
        if key not in there:
            yield RelationState(
                source_uid=key[0], target_uid=key[1], kind=key[2], weight=None, note="",
                touched_us=time_us, stated=False,
            )  # fmt: skip


def artifacts_of_versions(tx: Connection, uids: Iterable[bytes]) -> dict[bytes, bytes]:
    """Return {version uid: artifact uid} of published versions, the trash included."""
    found: dict[bytes, bytes] = {}
    for piece in batches(sorted(set(uids))):
        found.update({one.uid: one.artifact_uid for one in versions.by_uids(tx, piece)})
    return found
