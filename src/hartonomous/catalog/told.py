"""Rows that follow from commits and changes, by identities that a replay of them gives too.

Ids of rows and what is derived or short-lived is left out: two catalogs that tell users the same
give equal values here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, create_mock_engine, event, select
from sqlalchemy.pool import StaticPool

from hartonomous.catalog.schema import (
    artifact,
    change,
    label,
    manifest,
    member,
    metadata,
    pack,
    relation,
    version,
    version_metadata,
    version_tag,
)
from hartonomous.catalog.versions import layers_of

Told = dict[tuple[object, ...], tuple[object, ...]]
"""{(kind, identity …): values}."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldVersion:
    """A commit's version as its row has it; ``members`` in order of path."""

    uid: bytes
    artifact_uid: bytes
    artifact_name: str
    number: int
    sequence: int
    published: bool
    created_us: int
    kind: str
    source: tuple[str, str]
    model: str | None
    size_bytes: int
    file_count: int
    tensor_count: int
    parameter_count: int | None
    pack_key: bytes
    header_offset: int
    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldChange:
    """A change as its row has it; ``content`` is JSON."""

    sequence: int
    time_us: int
    action: str
    content: str
    pack_key: bytes
    header_offset: int


def versions_told(tx: Connection) -> Iterator[ToldVersion]:
    """Yield the versions that have a commit, in the order of their numbers in the journal."""
    query = (
        select(version, artifact.c.uid.label("artifact_uid"), artifact.c.name.label("named"),
               pack.c.key.label("pack_key"))
        .join(artifact, artifact.c.id == version.c.artifact_id)
        .join(pack, pack.c.id == version.c.pack_id)
        .order_by(version.c.sequence)
    )  # fmt: skip
    for row in tx.execute(query):
        yield ToldVersion(
            uid=row.uid, artifact_uid=row.artifact_uid, artifact_name=row.named,
            number=row.number, sequence=row.sequence, published=bool(row.published),
            created_us=row.created_us, kind=row.kind, source=(row.source_host, row.source_place),
            model=row.model, size_bytes=row.size_bytes, file_count=row.file_count,
            tensor_count=row.tensor_count, parameter_count=row.parameter_count,
            pack_key=row.pack_key, header_offset=row.header_offset, id=row.id,
        )  # fmt: skip


def uncommitted_told(tx: Connection) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield (artifact's uid, version's uid, manifest's digest) of versions without a commit.

    A repair makes them, of whole files that no commit names; they have one member.
    """
    query = (
        select(artifact.c.uid, version.c.uid, manifest.c.digest)
        .join(version, version.c.artifact_id == artifact.c.id)
        .join(member, member.c.version_id == version.c.id)
        .join(manifest, manifest.c.id == member.c.manifest_id)
        .where(version.c.pack_id.is_(None), version.c.published == 1)
    )
    for row in tx.execute(query):
        yield (row[0], row[1], row[2])


def changes_told(tx: Connection) -> Iterator[ToldChange]:
    """Yield the changes in their order."""
    query = (
        select(change, pack.c.key.label("pack_key"))
        .join(pack, pack.c.id == change.c.pack_id)
        .order_by(change.c.sequence)
    )
    for row in tx.execute(query):
        yield ToldChange(
            sequence=row.sequence, time_us=row.time_us, action=row.action, content=row.content,
            pack_key=row.pack_key, header_offset=row.header_offset,
        )  # fmt: skip


def members_told(tx: Connection, version_id: int) -> Told:
    """Return {("member", path): raw path, file digest, mode, time} of a version."""
    query = (
        select(
            member.c.path, member.c.raw_path, manifest.c.file_digest, member.c.mode,
            member.c.modified_us,
        )
        .join(manifest, manifest.c.id == member.c.manifest_id)
        .where(member.c.version_id == version_id)
    )  # fmt: skip
    return {("member", row[0]): tuple(row[1:]) for row in tx.execute(query)}


def layers_told(tx: Connection, version_id: int) -> list[tuple[object, ...]]:
    """Return (name, kind, tensors, parameters, bytes) of a version's layers, in order."""
    return [
        (one.name, one.kind, one.tensor_count, one.parameter_count, one.size_bytes)
        for one in layers_of(tx, version_id)
    ]


def names_told(tx: Connection) -> Told:
    """Return what names, labels, tags, metadata, relations and the trash are."""
    told: Told = {}
    for uid, name, removed_us in tx.execute(
        select(artifact.c.uid, artifact.c.name, artifact.c.removed_us)
    ):
        told["artifact", uid] = (name, removed_us)
    uids = {row[0]: row[1] for row in tx.execute(select(version.c.id, version.c.uid))}
    owners = {row[0]: row[1] for row in tx.execute(select(artifact.c.id, artifact.c.uid))}
    published = select(
        version.c.uid, version.c.artifact_id, version.c.number, version.c.removed_us
    ).where(version.c.published == 1)
    for uid, owner, number, removed_us in tx.execute(published):
        told["version", uid] = (owners.get(owner), number, removed_us)
    labels = select(label.c.artifact_id, label.c.name, label.c.version_id)
    for owner, name, version_id in tx.execute(labels):
        told["label", owners.get(owner), name] = (uids.get(version_id),)
    # What is staged is nobody's word yet, and its writer may be at work, or dead.
    shown = select(version.c.id).where(version.c.published == 1)
    tags = select(version_tag.c.version_id, version_tag.c.tag)
    for version_id, tag in tx.execute(tags.where(version_tag.c.version_id.in_(shown))):
        told["tag", uids.get(version_id), tag] = ()
    pairs = select(version_metadata.c.version_id, version_metadata.c.key, version_metadata.c.value)
    for version_id, key, value in tx.execute(pairs.where(version_metadata.c.version_id.in_(shown))):
        told["metadata", uids.get(version_id), key] = (value,)
    for one in tx.execute(select(relation)):
        ends = uids.get(one.source_version_id), uids.get(one.target_version_id)
        told["relation", *ends, one.kind] = (one.weight, one.note, one.created_us)
    for sequence, undone in tx.execute(select(change.c.sequence, change.c.undone)):
        told["change", sequence] = (undone,)
    return told


def scratch_engine() -> Engine:
    """Return an engine on an empty catalog in memory, which holds names without bytes."""
    engine = create_engine("sqlite://", poolclass=StaticPool)

    @event.listens_for(engine, "connect")
    def _unchecked(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA foreign_keys=OFF")  # packs and files are left out

    with engine.connect() as connection:
        raw: Any = connection.connection.dbapi_connection
        raw.executescript(_tables())
    return engine


@cache
def _tables() -> str:
    """Return the statements that make the tables; saying them anew takes longer than doing them."""
    said: list[str] = []

    def say(statement: Any, *_: object, **__: object) -> None:
        said.append(f"{statement.compile(dialect=mock.dialect)};")

    mock = create_mock_engine("sqlite://", say)
    metadata.create_all(mock, checkfirst=False)
    return "\n".join(said)
