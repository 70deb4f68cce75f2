"""What may be found by words: stored files, where they are used, and what is said of models.

Only versions in use count.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from hartonomous.catalog.batches import batches
from hartonomous.catalog.columns import decode_json
from hartonomous.catalog.schema import (
    artifact,
    manifest,
    member,
    version,
    version_metadata,
    version_tag,
)
from hartonomous.catalog.spaces import KIND


class TextFile(msgspec.Struct, frozen=True, gc=False):
    """A stored file under one of the paths that it has; the id is its manifest's."""

    manifest_id: int
    digest: bytes
    size_bytes: int
    path: str


class TextUse(msgspec.Struct, frozen=True, gc=False):
    """A version in use that has a file, and under which path."""

    digest: bytes
    version_id: int
    name: str
    number: int
    path: str
    created_us: int


class VersionWords(msgspec.Struct, frozen=True, gc=False):
    """What is said of a version besides its files; ``model`` is None where it is no model."""

    version_id: int
    name: str
    number: int
    kind: str
    created_us: int
    model: dict[str, Any] | None


_IN_USE = (
    version.c.published == 1,
    version.c.removed_us.is_(None),
    artifact.c.removed_us.is_(None),
)


def files(tx: Connection, *, after_id: int, limit: int) -> tuple[list[TextFile], int | None]:
    """Return files in use, each once a path, of the next manifests beyond ``after_id``.

    ``limit`` counts manifests. The second value is where to go on, None at the end.
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
            select(manifest.c.id, manifest.c.file_digest, manifest.c.size_bytes, member.c.path)
            .join(member, member.c.manifest_id == manifest.c.id)
            .join(version, version.c.id == member.c.version_id)
            .join(artifact, artifact.c.id == version.c.artifact_id)
            .where(manifest.c.id.in_(piece), *_IN_USE)
            .distinct()
            .order_by(manifest.c.id, member.c.path)
        )
        found.extend(TextFile(*row) for row in tx.execute(query))
    return found, (page[-1] if page else None)


def uses(tx: Connection, digests: Iterable[bytes]) -> dict[bytes, list[TextUse]]:
    """Return {file digest: versions in use that have it}, by name, the newest number first."""
    found: dict[bytes, list[TextUse]] = {}
    for piece in batches(sorted(set(digests))):
        query = (
            select(manifest.c.file_digest, version.c.id, artifact.c.name, version.c.number,
                   member.c.path, version.c.created_us)
            .join(member, member.c.manifest_id == manifest.c.id)
            .join(version, version.c.id == member.c.version_id)
            .join(artifact, artifact.c.id == version.c.artifact_id)
            .where(manifest.c.file_digest.in_(piece), *_IN_USE)
            .order_by(artifact.c.name, version.c.number.desc(), member.c.ordinal)
        )  # fmt: skip
        for row in tx.execute(query):
            found.setdefault(row[0], []).append(TextUse(*row))
    return found


def kept(tx: Connection, digests: Iterable[bytes]) -> set[bytes]:
    """Return those of some file digests that are stored, in use or not."""
    found: set[bytes] = set()
    for piece in batches(sorted(set(digests))):
        found.update(
            tx.scalars(select(manifest.c.file_digest).where(manifest.c.file_digest.in_(piece)))
        )
    return found


def versions_said(tx: Connection) -> list[VersionWords]:
    """Return what is said of every version in use, by name, the newest number first."""
    query = (
        select(version.c.id, artifact.c.name, version.c.number, version.c.kind,
               version.c.created_us, version.c.model)
        .join(artifact, artifact.c.id == version.c.artifact_id)
        .where(*_IN_USE, version.c.kind != KIND)
        .order_by(artifact.c.name, version.c.number.desc())
    )  # fmt: skip
    return [
        VersionWords(*row[:5], None if row[5] is None else decode_json(row[5], dict[str, Any]))
        for row in tx.execute(query)
    ]


def tags_and_metadata(tx: Connection) -> dict[int, tuple[set[str], dict[str, str]]]:
    """Return {version id: (tags, metadata)} of the versions that have any."""
    found: dict[int, tuple[set[str], dict[str, str]]] = {}
    for row in tx.execute(select(version_tag.c.version_id, version_tag.c.tag)):
        found.setdefault(row[0], (set(), {}))[0].add(row[1])
    pairs = select(version_metadata.c.version_id, version_metadata.c.key, version_metadata.c.value)
    for version_id, key, value in tx.execute(pairs):
        found.setdefault(version_id, (set(), {}))[1][key] = value
    return found
