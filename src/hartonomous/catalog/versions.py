"""Versions of artifacts: staged rows that nobody sees, published ones, and the trash."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, delete, exists, func, insert, select, update

from hartonomous.catalog import relations
from hartonomous.catalog.batches import batches
from hartonomous.catalog.columns import decode_json
from hartonomous.catalog.patterns import fits
from hartonomous.catalog.schema import (
    artifact,
    atom,
    label,
    layer,
    manifest,
    manifest_atom,
    member,
    version,
    version_metadata,
    version_tag,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRow:
    """One file of a version."""

    path: str
    raw_path: bytes | None
    manifest_id: int
    mode: int
    modified_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One group of tensors of a model."""

    name: str
    kind: str
    tensor_count: int
    parameter_count: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """A version to stage; its artifact and number are decided when it is published."""

    uid: bytes
    digest: bytes
    kind: str
    size_bytes: int
    tensor_count: int
    parameter_count: int | None
    source_host: str
    source_place: str
    model: dict[str, Any] | None
    members: tuple[MemberRow, ...]
    layers: tuple[LayerRow, ...] = ()
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """A published version, in use or in the trash."""

    id: int
    uid: bytes
    artifact_id: int
    artifact_uid: bytes
    name: str
    number: int
    digest: bytes
    kind: str
    size_bytes: int
    file_count: int
    tensor_count: int
    parameter_count: int | None
    source_host: str
    source_place: str
    sequence: int
    created_us: int
    removed_us: int | None


_COLUMNS = (
    version.c.id, version.c.uid, artifact.c.id, artifact.c.uid, artifact.c.name, version.c.number,
    version.c.digest, version.c.kind, version.c.size_bytes, version.c.file_count,
    version.c.tensor_count, version.c.parameter_count, version.c.source_host,
    version.c.source_place, version.c.sequence, version.c.created_us, version.c.removed_us,
)  # fmt: skip
_PUBLISHED = (
    select(*_COLUMNS)
    .join(artifact, artifact.c.id == version.c.artifact_id)
    .where(version.c.published == 1)
)


_OF_ARTIFACT = _PUBLISHED.where(artifact.c.id == bindparam("artifact_id")).order_by(
    version.c.number
)
_IN_USE_OF_ARTIFACT = _OF_ARTIFACT.where(version.c.removed_us.is_(None))
_MEMBERS = (
    select(
        member.c.path, member.c.raw_path, member.c.manifest_id, member.c.mode, member.c.modified_us,
    )
    .where(member.c.version_id == bindparam("version_id"))
    .order_by(member.c.ordinal)
)  # fmt: skip


def _rows(tx: Connection, query: Any, values: dict[str, Any] | None = None) -> list[VersionRow]:
    return [
        VersionRow(**dict(zip(VersionRow.__slots__, row, strict=True)))
        for row in tx.execute(query, values)
    ]


def stage(tx: Connection, new: NewVersion, *, writer_id: int, now_us: int) -> int:
    """Insert a version without its members and layers; return its id."""
    version_id = int(
        tx.execute(
            insert(version)
            .values(
                uid=new.uid,
                digest=new.digest,
                kind=new.kind,
                size_bytes=new.size_bytes,
                file_count=len(new.members),
                tensor_count=new.tensor_count,
                parameter_count=new.parameter_count,
                source_host=new.source_host,
                source_place=new.source_place,
                model=None if new.model is None else json.dumps(new.model),
                created_us=now_us,
                published=0,
                writer_id=writer_id,
            )
            .returning(version.c.id)
        ).scalar_one()
    )
    annotate(tx, version_id, tags=new.tags, metadata=new.metadata)
    return version_id


def add_members(
    tx: Connection, version_id: int, first_ordinal: int, members: Sequence[MemberRow]
) -> None:
    """Insert some members, numbered from ``first_ordinal``."""
    rows = [
        {
            "version_id": version_id,
            "ordinal": ordinal,
            "path": one.path,
            "raw_path": one.raw_path,
            "manifest_id": one.manifest_id,
            "mode": one.mode,
            "modified_us": one.modified_us,
        }
        for ordinal, one in enumerate(members, first_ordinal)
    ]
    if rows:
        tx.execute(insert(member), rows)


def add_layers(
    tx: Connection, version_id: int, first_ordinal: int, layers: Sequence[LayerRow]
) -> None:
    """Insert some layers, numbered from ``first_ordinal``."""
    rows = [
        {
            "version_id": version_id,
            "ordinal": ordinal,
            "name": one.name,
            "kind": one.kind,
            "tensor_count": one.tensor_count,
            "parameter_count": one.parameter_count,
            "size_bytes": one.size_bytes,
        }
        for ordinal, one in enumerate(layers, first_ordinal)
    ]
    if rows:
        tx.execute(insert(layer), rows)


def annotate(
    tx: Connection, version_id: int, *, tags: Sequence[str], metadata: dict[str, str]
) -> None:
    """Add tags, and set metadata keys, of a version."""
    have = set(tx.scalars(select(version_tag.c.tag).where(version_tag.c.version_id == version_id)))
    fresh = [
        {"version_id": version_id, "tag": tag} for tag in dict.fromkeys(tags) if tag not in have
    ]
    if fresh:
        tx.execute(insert(version_tag), fresh)
    if metadata:
        tx.execute(
            delete(version_metadata).where(
                version_metadata.c.version_id == version_id,
                version_metadata.c.key.in_(list(metadata)),
            )
        )
        rows = [{"version_id": version_id, "key": k, "value": v} for k, v in metadata.items()]
        tx.execute(insert(version_metadata), rows)


def publish(
    tx: Connection,
    version_id: int,
    *,
    artifact_id: int,
    number: int,
    sequence: int,
    pack_id: int | None,
    header_offset: int | None,
) -> None:
    """Make a staged version visible."""
    tx.execute(
        update(version)
        .where(version.c.id == version_id, version.c.published == 0)
        .values(
            artifact_id=artifact_id,
            number=number,
            sequence=sequence,
            pack_id=pack_id,
            header_offset=header_offset,
            published=1,
            writer_id=None,
        )
    )


def of_artifact(tx: Connection, artifact_id: int, *, trash: bool = False) -> list[VersionRow]:
    """Return an artifact's versions in order of number; those in use, or with the trash."""
    query = _OF_ARTIFACT if trash else _IN_USE_OF_ARTIFACT
    return _rows(tx, query, {"artifact_id": artifact_id})


def count_in_use(tx: Connection, artifact_id: int) -> int:
    """Return how many versions of an artifact are in use."""
    query = select(func.count()).where(
        version.c.artifact_id == artifact_id,
        version.c.published == 1,
        version.c.removed_us.is_(None),
    )
    return int(tx.scalar(query) or 0)


def by_uids(tx: Connection, uids: Sequence[bytes]) -> list[VersionRow]:
    """Return published versions by uid, the trash included."""
    found = []
    for some in batches(list(uids)):
        found += _rows(tx, _PUBLISHED.where(version.c.uid.in_(some)))
    return sorted(found, key=lambda row: row.id)


def staged(tx: Connection, uids: Sequence[bytes]) -> list[int]:
    """Return the ids of versions of these uids that were staged and not published."""
    found: list[int] = []
    for some in batches(list(uids)):
        query = select(version.c.id).where(version.c.uid.in_(some), version.c.published == 0)
        found += tx.scalars(query)
    return sorted(found)


def live(tx: Connection, *, name_like: str | None = None) -> list[VersionRow]:
    """Return every version in use, by name and number; ``name_like`` is a SQL LIKE pattern."""
    query = _PUBLISHED.where(version.c.removed_us.is_(None), artifact.c.removed_us.is_(None))
    if name_like is not None:
        query = query.where(fits(tx, artifact.c.name, name_like))
    return _rows(tx, query.order_by(artifact.c.name, version.c.number))


def newest(tx: Connection, limit: int) -> list[VersionRow]:
    """Return the versions that were published last, newest first, the trash included."""
    return _rows(tx, _PUBLISHED.order_by(version.c.sequence.desc(), version.c.id).limit(limit))


def in_trash(tx: Connection, *, removed_before_us: int | None = None) -> list[VersionRow]:
    """Return versions in the trash, oldest removal first."""
    query = _PUBLISHED.where(version.c.removed_us.is_not(None))
    if removed_before_us is not None:
        query = query.where(version.c.removed_us <= removed_before_us)
    return _rows(tx, query.order_by(version.c.removed_us, version.c.id))


def same_source(tx: Connection, host: str, place: str) -> list[VersionRow]:
    """Return the live versions that came from this place, newest first."""
    query = _PUBLISHED.where(
        version.c.source_place == place,
        version.c.source_host == host,
        version.c.removed_us.is_(None),
        artifact.c.removed_us.is_(None),
    )
    return _rows(tx, query.order_by(version.c.sequence.desc(), version.c.id.desc()))


def members_of(tx: Connection, version_id: int) -> list[MemberRow]:
    """Return a version's members in order of path bytes."""
    found = tx.execute(_MEMBERS, {"version_id": version_id})
    return [MemberRow(**row) for row in found.mappings()]


def layers_of(tx: Connection, version_id: int) -> list[LayerRow]:
    """Return a version's layers in order."""
    query = (
        select(
            layer.c.name, layer.c.kind, layer.c.tensor_count, layer.c.parameter_count,
            layer.c.size_bytes,
        )
        .where(layer.c.version_id == version_id)
        .order_by(layer.c.ordinal)
    )  # fmt: skip
    return [LayerRow(**row) for row in tx.execute(query).mappings()]


def model_of(tx: Connection, version_id: int) -> dict[str, Any] | None:
    """Return the model summary's JSON."""
    held = tx.scalar(select(version.c.model).where(version.c.id == version_id))
    return None if held is None else decode_json(held, dict[str, Any])


def annotations_of(tx: Connection, version_id: int) -> tuple[list[str], dict[str, str]]:
    """Return a version's (tags, metadata)."""
    tags = select(version_tag.c.tag).where(version_tag.c.version_id == version_id)
    pairs = select(version_metadata.c.key, version_metadata.c.value).where(
        version_metadata.c.version_id == version_id
    )
    return sorted(tx.scalars(tags)), {row.key: row.value for row in tx.execute(pairs)}


def metadata_of(tx: Connection, artifact_id: int, key: str) -> dict[int, str]:
    """Return {version id: value} of one metadata key over an artifact's versions."""
    query = (
        select(version_metadata.c.version_id, version_metadata.c.value)
        .join(version, version.c.id == version_metadata.c.version_id)
        .where(version.c.artifact_id == artifact_id, version_metadata.c.key == key)
    )
    return {row[0]: row[1] for row in tx.execute(query)}


def with_metadata(tx: Connection, key: str) -> list[tuple[VersionRow, str]]:
    """Return (version, value) of the versions in use that have a metadata key, in order of name."""
    query = (
        _PUBLISHED.add_columns(version_metadata.c.value)
        .join(version_metadata, version_metadata.c.version_id == version.c.id)
        .where(version_metadata.c.key == key, version.c.removed_us.is_(None))
        .order_by(artifact.c.name, version.c.number)
    )
    names = VersionRow.__slots__
    return [
        (VersionRow(**dict(zip(names, row[:-1], strict=True))), row[-1])
        for row in tx.execute(query)
    ]


def paths_of(tx: Connection, artifact_id: int, paths: Sequence[str]) -> dict[int, list[str]]:
    """Return {version id: those of these paths that it has} over an artifact's versions."""
    query = (
        select(member.c.version_id, member.c.path)
        .join(version, version.c.id == member.c.version_id)
        .where(version.c.artifact_id == artifact_id, member.c.path.in_(paths))
    )
    found: dict[int, list[str]] = {}
    for version_id, path in tx.execute(query):
        found.setdefault(version_id, []).append(path)
    return found


def set_removed(tx: Connection, version_ids: Sequence[int], removed_us: int | None) -> None:
    """Put versions into the trash, or take them out again with None."""
    for some in batches(version_ids):
        tx.execute(update(version).where(version.c.id.in_(some)).values(removed_us=removed_us))


def set_number(tx: Connection, row: VersionRow, number: int) -> None:
    """Give a version a free number; nothing is done where another version has it."""
    taken = select(version.c.id).where(
        version.c.artifact_id == row.artifact_id, version.c.number == number
    )
    if tx.scalar(taken) is not None:
        return
    tx.execute(update(version).where(version.c.id == row.id).values(number=number))
    tx.execute(
        update(artifact)
        .where(artifact.c.id == row.artifact_id, artifact.c.next_number <= number)
        .values(next_number=number + 1)
    )


def remove_some(tx: Connection, version_id: int, *, limit: int) -> bool:
    """Remove up to ``limit`` rows below a version, then the version; True when it is gone."""
    for table in (member, layer):
        ordinals = list(
            tx.scalars(select(table.c.ordinal).where(table.c.version_id == version_id).limit(limit))
        )
        if ordinals:
            tx.execute(
                delete(table).where(table.c.version_id == version_id, table.c.ordinal.in_(ordinals))
            )
            return False
    relations.forget(tx, version_id)
    for table in (version_tag, version_metadata, label):
        tx.execute(delete(table).where(table.c.version_id == version_id))
    tx.execute(delete(version).where(version.c.id == version_id))
    return True


def manifest_digests(tx: Connection, version_id: int) -> list[bytes]:
    """Return the digests of a version's manifests."""
    query = (
        select(manifest.c.digest)
        .join(member, member.c.manifest_id == manifest.c.id)
        .where(member.c.version_id == version_id)
    )
    return list(tx.scalars(query))


def stored_bytes(tx: Connection, version_id: int) -> int:
    """Return the stored bytes of all atoms that a version's files are made of, each once."""
    atoms = (
        select(manifest_atom.c.atom_id)
        .join(member, member.c.manifest_id == manifest_atom.c.manifest_id)
        .where(member.c.version_id == version_id)
        .distinct()
        .subquery()
    )
    query = select(func.sum(atom.c.stored_bytes)).join(atoms, atoms.c.atom_id == atom.c.id)
    return int(tx.scalar(query) or 0)


def declaring(tx: Connection, name: str) -> list[tuple[int, dict[str, Any]]]:
    """Return (id, model summary) of versions in use that may declare a base of this name.

    The text is looked at, not its meaning: the caller reads the summary.
    """
    query = (
        select(version.c.id, version.c.model)
        .join(artifact, artifact.c.id == version.c.artifact_id)
        .where(
            version.c.published == 1,
            version.c.removed_us.is_(None),
            artifact.c.removed_us.is_(None),
            version.c.model.contains('"declared_base_models"', autoescape=True),
            version.c.model.contains(name, autoescape=True),
        )
        .order_by(version.c.id)
    )
    return [(row[0], decode_json(row[1], dict[str, Any])) for row in tx.execute(query)]


def with_tag(tx: Connection, tag: str) -> set[int]:
    """Return ids of versions that carry a tag."""
    query = select(version_tag.c.version_id).where(
        version_tag.c.tag == tag, exists().where(version.c.id == version_tag.c.version_id)
    )
    return set(tx.scalars(query))


def set_unpublished(tx: Connection, version_ids: Sequence[int]) -> None:
    """Hide versions whose rows are about to be removed for good; their names end with them."""
    for some in batches(version_ids):
        tx.execute(delete(label).where(label.c.version_id.in_(some)))
        tx.execute(
            update(version)
            .where(version.c.id.in_(some))
            .values(published=0, pack_id=None, header_offset=None)
        )


def purged(tx: Connection) -> list[int]:
    """Return ids of versions that were hidden to be removed."""
    query = select(version.c.id).where(version.c.published == 0, version.c.writer_id.is_(None))
    return list(tx.scalars(query))
