"""Tensors by name and by content: where one lies, and who else has the same bytes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, func, select

from hartonomous.catalog.batches import batches
from hartonomous.catalog.columns import decode_json
from hartonomous.catalog.manifests import TensorRow, tensor_row
from hartonomous.catalog.patterns import fits
from hartonomous.catalog.schema import artifact, manifest, member, tensor, version
from hartonomous.catalog.spaces import KIND
from hartonomous.catalog.texts import Moment, TextUse
from hartonomous.core.role import Role

_READ_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class UseRow:
    """A tensor of a member of a version in use."""

    name: str
    number: int
    path: str
    tensor: str
    dtype: str
    shape: tuple[int, ...]


_NAMED = (
    select(tensor)
    .where(
        tensor.c.manifest_id.in_(bindparam("wanted", expanding=True)),
        tensor.c.name == bindparam("name"),
    )
    .order_by(tensor.c.manifest_id, tensor.c.ordinal)
)


def named(tx: Connection, manifest_ids: Sequence[int], name: str) -> list[tuple[int, TensorRow]]:
    """Return (manifest id, tensor) of every tensor of that name in these files, in their order."""
    found: list[tuple[int, TensorRow]] = []
    for piece in batches(list(manifest_ids)):
        for row in tx.execute(_NAMED, {"wanted": piece, "name": name}):
            found.append((row.manifest_id, tensor_row(row)))
    return found


def names(tx: Connection, manifest_ids: Sequence[int], *, limit: int) -> list[str]:
    """Return up to ``limit`` names of tensors in these files, for suggestions."""
    found: list[str] = []
    for piece in batches(list(manifest_ids)):
        query = select(tensor.c.name).where(tensor.c.manifest_id.in_(piece))
        found.extend(tx.scalars(query.limit(limit - len(found))))
        if len(found) >= limit:
            break
    return found


def uses(tx: Connection, digest: bytes, *, limit: int) -> list[UseRow]:
    """Return tensors in use whose bytes have this digest, by artifact, version and file."""
    query = (
        _in_use(digest, artifact.c.name, version.c.number, member.c.path, tensor.c.name,
                tensor.c.dtype, tensor.c.shape)
        .order_by(artifact.c.name, version.c.number, member.c.ordinal, tensor.c.ordinal)
        .limit(limit)
    )  # fmt: skip
    return [
        UseRow(
            name=row[0],
            number=row[1],
            path=row[2],
            tensor=row[3],
            dtype=row[4],
            shape=decode_json(row[5], tuple[int, ...]),
        )
        for row in tx.execute(query)
    ]


def count_uses(tx: Connection, digest: bytes) -> int:
    """Return how many tensors in use have bytes of this digest."""
    return int(tx.scalar(_in_use(digest, func.count())) or 0)


def _in_use(digest: bytes, *columns: Any) -> Select[Any]:
    return (
        select(*columns)
        .select_from(tensor)
        .join(member, member.c.manifest_id == tensor.c.manifest_id)
        .join(version, version.c.id == member.c.version_id)
        .join(artifact, artifact.c.id == version.c.artifact_id)
        .where(
            tensor.c.digest == digest,
            version.c.published == 1,
            version.c.removed_us.is_(None),
            artifact.c.removed_us.is_(None),
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixRow:
    """A matrix of an adapter, as a file names it; ``length`` is in bytes."""

    digest: bytes
    name: str
    dtype: str
    shape: tuple[int, ...]
    length: int


_MATRIX = (tensor.c.digest, tensor.c.name, tensor.c.dtype, tensor.c.shape, tensor.c.length)


def matrices_of_names(tx: Connection, names: Sequence[str], *, limit: int) -> list[MatrixRow]:
    """Return the stored tensors of these names whose bytes are an atom, the newest first."""
    query = (
        select(*_MATRIX)
        .where(tensor.c.name.in_(names), tensor.c.digest.is_not(None))
        .order_by(tensor.c.manifest_id.desc(), tensor.c.ordinal)
        .limit(limit)
    )
    return _matrices(tx, query) if names else []


def matrices_of_adapters(tx: Connection, *, limit: int) -> list[MatrixRow]:
    """Return the matrices of low rank of adapters in use, those of the newest versions first."""
    query = (
        select(*_MATRIX)
        .select_from(version)
        .join(artifact, artifact.c.id == version.c.artifact_id)
        .join(member, member.c.version_id == version.c.id)
        .join(tensor, tensor.c.manifest_id == member.c.manifest_id)
        .where(
            # A model's summary counts the tensors of each role that it has.
            version.c.model.like(f'%"{Role.LORA_B.value}":%'),
            version.c.published == 1,
            version.c.removed_us.is_(None),
            artifact.c.removed_us.is_(None),
            tensor.c.role.in_([Role.LORA_A.value, Role.LORA_B.value]),
            tensor.c.digest.is_not(None),
        )
        .order_by(version.c.id.desc(), member.c.ordinal, tensor.c.ordinal)
        .limit(limit)
    )
    return _matrices(tx, query)


def _matrices(tx: Connection, query: Select[Any]) -> list[MatrixRow]:
    return [
        MatrixRow(
            digest=row.digest, name=row.name, dtype=row.dtype,
            shape=decode_json(row.shape, tuple[int, ...]), length=row.length,
        )
        for row in tx.execute(query)
    ]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorFilter:
    """What a tensor has to be; None is anything.

    ``name`` is a pattern of LIKE, and ``matching`` what the whole name has to match besides.
    """

    digest: tuple[bytes, bytes] | None = None
    name: str | None = None
    matching: re.Pattern[str] | None = None
    role: str | None = None
    dtype: str | None = None
    shape: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRow:
    """A tensor of a version in use, with what is known of its bytes."""

    name: str
    number: int
    path: str
    tensor: str
    dtype: str
    shape: tuple[int, ...]
    role: str
    layer: str | None
    length: int
    digest: bytes | None
    uid: bytes
    use: TextUse


def search(
    tx: Connection, wanted: TensorFilter, *, limit: int, at: Moment | None = None
) -> list[FoundRow]:
    """Return up to ``limit`` tensors in use that fit, by artifact, version and place.

    ``uid`` is the version's and ``use`` its file. With ``at`` those of versions that had been added
    by then; who asks leaves out what had been removed.
    """
    query = (
        select(
            artifact.c.name, version.c.number, member.c.path, tensor.c.name, tensor.c.dtype,
            tensor.c.shape, tensor.c.role, tensor.c.layer, tensor.c.length, tensor.c.digest,
            version.c.uid, version.c.id, version.c.created_us, manifest.c.file_digest,
            manifest.c.size_bytes, manifest.c.format,
        )
        .select_from(tensor)
        .join(manifest, manifest.c.id == tensor.c.manifest_id)
        .join(member, member.c.manifest_id == tensor.c.manifest_id)
        .join(version, version.c.id == member.c.version_id)
        .join(artifact, artifact.c.id == version.c.artifact_id)
        .where(version.c.published == 1, version.c.kind != KIND)
        .order_by(artifact.c.name, version.c.number, member.c.ordinal, tensor.c.ordinal)
    )  # fmt: skip
    if at is None:
        query = query.where(version.c.removed_us.is_(None), artifact.c.removed_us.is_(None))
    else:
        query = query.where(version.c.created_us <= at.time_us)
    if wanted.digest is not None:
        query = query.where(tensor.c.digest.between(*wanted.digest))
    if wanted.name is not None:
        query = query.where(fits(tx, tensor.c.name, wanted.name))
    for column, value in (
        (tensor.c.role, wanted.role), (tensor.c.dtype, wanted.dtype), (tensor.c.shape, wanted.shape)
    ):  # fmt: skip
        if value is not None:
            query = query.where(column == value)
    matching = wanted.matching
    if matching is None:
        query = query.limit(limit)
    with tx.execute(query.execution_options(yield_per=_READ_AT_ONCE)) as rows:
        fitting = (row for row in rows if matching is None or matching.fullmatch(row[3]))
        return [_found(row) for row in islice(fitting, limit)]


def _found(row: Row[*tuple[Any, ...]]) -> FoundRow:
    return FoundRow(
        name=row[0], number=row[1], path=row[2], tensor=row[3], dtype=row[4],
        shape=decode_json(row[5], tuple[int, ...]), role=row[6], layer=row[7], length=row[8],
        digest=row[9], uid=row[10],
        use=TextUse(
            digest=row[13], version_id=row[11], name=row[0], number=row[1], path=row[2],
            created_us=row[12], size_bytes=row[14], format=row[15],
        ),
    )  # fmt: skip
