"""What may be found by words: stored files, where they are used, and what is said of versions."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, literal, select

from hartonomous.catalog.batches import batches
from hartonomous.catalog.changes import content_of
from hartonomous.catalog.columns import decode_json
from hartonomous.catalog.schema import (
    artifact,
    change,
    manifest,
    member,
    store_property,
    version,
    version_metadata,
    version_tag,
)
from hartonomous.catalog.spaces import KIND


class TextFile(msgspec.Struct, frozen=True, gc=False):
    """A stored file under one of the paths that it has; the id is its manifest's.

    ``name`` is that of an artifact that has it under this path.
    """

    manifest_id: int
    digest: bytes
    size_bytes: int
    path: str
    name: str

    @property
    def shown(self) -> str:
        """Where it is: ``NAME:PATH``, and ``NAME`` alone of an artifact that is this file."""
        whole = self.name == self.path or self.name.endswith(f"/{self.path}")
        return self.name if whole else f"{self.name}:{self.path}"


class TextUse(msgspec.Struct, frozen=True, gc=False):
    """A version that has a file, and under which path; the size is the file's."""

    digest: bytes
    version_id: int
    name: str
    number: int
    path: str
    created_us: int
    size_bytes: int
    format: str


class VersionWords(msgspec.Struct, frozen=True, gc=False):
    """What a version is called, and what people wrote beside it; the size is its files'."""

    version_id: int
    uid: bytes
    name: str
    number: int
    kind: str
    created_us: int
    size_bytes: int


_IN_USE = (
    version.c.published == 1,
    version.c.removed_us.is_(None),
    artifact.c.removed_us.is_(None),
)


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """What was in use at a time: added until then, and not removed then."""

    time_us: int
    removed_uids: frozenset[bytes]


def moment(tx: Connection, time_us: int) -> Moment:
    """Return what the journal says of a time; versions that were purged since are not known."""
    removed: set[str] = set()
    query = (
        select(change.c.sequence, change.c.action, change.c.content)
        .where(change.c.time_us <= time_us, change.c.action.in_(("remove", "undo")))
        .order_by(change.c.sequence)
    )
    removals: dict[int, list[str]] = {}
    for sequence, action, content in tx.execute(query):
        told = content_of(content)
        if action == "remove":
            removals[sequence] = told["version_uids"]
            removed.update(told["version_uids"])
        else:
            removed.difference_update(removals.get(told["of"], ()))
    return Moment(time_us=time_us, removed_uids=frozenset(bytes.fromhex(one) for one in removed))


def _used(as_of: bool) -> tuple[ColumnElement[bool], ...]:
    then = version.c.created_us <= bindparam("time_us")
    return (version.c.published == 1, then) if as_of else _IN_USE


def change_number(tx: Connection) -> str:
    """Return what differs whenever a file or what is said of a version may be another than before.

    The last publication's number says it, but for catalogs that were rebuilt: there the newest ids
    and the feed's era are others.
    """
    row = tx.execute(_change_query()).one()
    return " ".join(str(one) for one in row)


@cache
def _change_query() -> Select[Any]:
    properties = [
        func.coalesce(
            select(store_property.c.value).where(store_property.c.name == name).scalar_subquery(),
            literal(at_first),
        )
        for name, at_first in (("sequence", "0"), ("sequence_time_us", "0"), ("event-era", ""))
    ]
    newest = [
        func.coalesce(select(func.max(one)).scalar_subquery(), literal(0))
        for one in (manifest.c.id, version.c.id)
    ]
    return select(*properties, *newest)


def files(tx: Connection, *, after_id: int, limit: int) -> tuple[list[TextFile], int | None]:
    """Return stored files, each once a path, of the next manifests beyond ``after_id``.

    Those of the trash too, which may be asked for as of an earlier time. ``limit`` counts
    manifests. The second value is where to go on, None at the end.
    """
    page = list(
        tx.scalars(
            select(manifest.c.id)
            .where(manifest.c.id > after_id, manifest.c.complete == 1)
            .order_by(manifest.c.id)
            .limit(limit)
        )
    )
    found: list[TextFile] = []
    for piece in batches(page):
        query = (
            select(manifest.c.id, manifest.c.file_digest, manifest.c.size_bytes, member.c.path,
                   func.min(artifact.c.name))
            .join(member, member.c.manifest_id == manifest.c.id)
            .join(version, version.c.id == member.c.version_id)
            .join(artifact, artifact.c.id == version.c.artifact_id)
            .where(manifest.c.id.in_(piece), version.c.published == 1)
            .group_by(manifest.c.id, manifest.c.file_digest, manifest.c.size_bytes, member.c.path)
            .order_by(manifest.c.id, member.c.path)
        )  # fmt: skip
        found.extend(TextFile(*row) for row in tx.execute(query))
    return found, (page[-1] if page else None)


def formats(tx: Connection) -> set[str]:
    """Return the formats that files in use are stored as."""
    query = (
        select(manifest.c.format)
        .join(member, member.c.manifest_id == manifest.c.id)
        .join(version, version.c.id == member.c.version_id)
        .join(artifact, artifact.c.id == version.c.artifact_id)
        .where(version.c.kind != KIND, *_IN_USE)
        .distinct()
    )
    return set(tx.scalars(query))


def uses(
    tx: Connection, digests: Iterable[bytes], at: Moment | None = None
) -> dict[bytes, list[TextUse]]:
    """Return {file digest: versions in use that have it}, by name, the newest number first."""
    found: dict[bytes, list[TextUse]] = {}
    query = _uses_query(at is not None)
    time_us = {} if at is None else {"time_us": at.time_us}
    for piece in batches(sorted(set(digests))):
        for row in tx.execute(query, {"digests": piece, **time_us}):
            if at is None or row[8] not in at.removed_uids:
                found.setdefault(row[0], []).append(TextUse(*row[:8]))
    return found


@cache
def _uses_query(as_of: bool) -> Select[Any]:
    # Put together once: that takes longer than the database does.
    return (
        select(manifest.c.file_digest, version.c.id, artifact.c.name, version.c.number,
               member.c.path, version.c.created_us, manifest.c.size_bytes, manifest.c.format,
               version.c.uid)
        .join(member, member.c.manifest_id == manifest.c.id)
        .join(version, version.c.id == member.c.version_id)
        .join(artifact, artifact.c.id == version.c.artifact_id)
        .where(manifest.c.file_digest.in_(bindparam("digests", expanding=True)), *_used(as_of))
        .order_by(artifact.c.name, version.c.number.desc(), member.c.ordinal)
    )  # fmt: skip


def said_by_people(tx: Connection, digests: Iterable[bytes]) -> tuple[set[bytes], set[bytes]]:
    """Return (files to be found by meaning, files in use) of some file digests.

    Of what belongs to models alone that is their cards: a vocabulary or a configuration is text,
    but means nothing to anybody.
    """
    found: set[bytes] = set()
    in_use: set[bytes] = set()
    for piece in batches(sorted(set(digests))):
        query = (
            select(manifest.c.file_digest, version.c.kind, member.c.path)
            .join(member, member.c.manifest_id == manifest.c.id)
            .join(version, version.c.id == member.c.version_id)
            .join(artifact, artifact.c.id == version.c.artifact_id)
            .where(manifest.c.file_digest.in_(piece), *_IN_USE)
            .distinct()
        )
        for digest, kind, path in tx.execute(query):
            in_use.add(digest)
            if kind != "model" or path.lower().endswith(".md"):
                found.add(digest)
    return found, in_use


def kept(tx: Connection, digests: Iterable[bytes]) -> set[bytes]:
    """Return those of some file digests that are stored, in use or not."""
    found: set[bytes] = set()
    for piece in batches(sorted(set(digests))):
        found.update(
            tx.scalars(select(manifest.c.file_digest).where(manifest.c.file_digest.in_(piece)))
        )
    return found


_WORDS = (version.c.id, version.c.uid, artifact.c.name, version.c.number, version.c.kind,
          version.c.created_us, version.c.size_bytes)  # fmt: skip


def versions(tx: Connection) -> list[VersionWords]:
    """Return every version, those of the trash too."""
    query = (
        select(*_WORDS)
        .join(artifact, artifact.c.id == version.c.artifact_id)
        .where(version.c.published == 1, version.c.kind != KIND)
        .order_by(version.c.id)
    )
    return [VersionWords(*row) for row in tx.execute(query)]


def versions_of(
    tx: Connection, uids: Iterable[bytes], at: Moment | None = None
) -> dict[bytes, VersionWords]:
    """Return {uid: version} of those that are in use."""
    found = {}
    query = _versions_query(at is not None)
    time_us = {} if at is None else {"time_us": at.time_us}
    for piece in batches(list(uids)):
        for row in tx.execute(query, {"uids": piece, **time_us}):
            if at is None or row[1] not in at.removed_uids:
                found[row[1]] = VersionWords(*row)
    return found


@cache
def _versions_query(as_of: bool) -> Select[Any]:
    return (
        select(*_WORDS)
        .join(artifact, artifact.c.id == version.c.artifact_id)
        .where(version.c.uid.in_(bindparam("uids", expanding=True)), *_used(as_of))
    )


def models(tx: Connection, version_ids: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Return {version id: summary} of those that are models."""
    found: dict[int, dict[str, Any]] = {}
    for piece in batches(list(version_ids), 50):
        query = select(version.c.id, version.c.model).where(
            version.c.id.in_(piece), version.c.model.is_not(None)
        )
        found.update({row[0]: decode_json(row[1], dict[str, Any]) for row in tx.execute(query)})
    return found


def tags_and_metadata(
    tx: Connection, version_ids: Sequence[int] | None = None
) -> dict[int, tuple[set[str], dict[str, str]]]:
    """Return {version id: (tags, metadata)} of the versions that have any, of some or of all."""
    found: dict[int, tuple[set[str], dict[str, str]]] = {}
    pieces = [None] if version_ids is None else batches(version_ids)
    for piece in pieces:
        tags = select(version_tag.c.version_id, version_tag.c.tag)
        pairs = select(
            version_metadata.c.version_id, version_metadata.c.key, version_metadata.c.value
        )
        if piece is not None:
            tags = tags.where(version_tag.c.version_id.in_(piece))
            pairs = pairs.where(version_metadata.c.version_id.in_(piece))
        for row in tx.execute(tags):
            found.setdefault(row[0], (set(), {}))[0].add(row[1])
        for version_id, key, value in tx.execute(pairs):
            found.setdefault(version_id, (set(), {}))[1][key] = value
    return found
