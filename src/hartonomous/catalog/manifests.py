"""Manifests: which files are stored, which atoms each refers to, which tensors it holds."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import (
    Connection,
    Row,
    bindparam,
    delete,
    exists,
    insert,
    select,
    update,
)

from hartonomous.catalog import atoms, reference_counts
from hartonomous.catalog.batches import batches, insert_rows
from hartonomous.catalog.columns import decode_json
from hartonomous.catalog.schema import (
    artifact,
    atom,
    extent,
    manifest,
    manifest_atom,
    manifest_pin,
    member,
    pack,
    tensor,
    version,
)
from hartonomous.core.description import Notice
from hartonomous.errors import IntegrityError


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestRow:
    """A stored file's content: digests, format, and where its manifest record lies."""

    id: int
    digest: bytes
    file_digest: bytes
    sha256: bytes
    size_bytes: int
    format: str
    tensor_count: int
    inline_bytes: int
    stored_bytes: int
    notices: tuple[tuple[str, str], ...]
    pack_key: bytes
    header_offset: int
    complete: bool


class TensorRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One tensor of a file; ``digest`` is that of its bytes where it is one whole segment."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int
    digest: bytes | None
    role: str
    layer: str | None


def tensor_row(row: Row[*tuple[Any, ...]]) -> TensorRow:
    """Return the tensor of a row that has all of its columns."""
    return TensorRow(
        name=row.name,
        dtype=row.dtype,
        shape=decode_json(row.shape, tuple[int, ...]),
        offset=row.offset,
        length=row.length,
        digest=row.digest,
        role=row.role,
        layer=row.layer,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewManifest:
    """A manifest whose record is in a sealed pack, not yet in the catalog."""

    digest: bytes
    file_digest: bytes
    sha256: bytes
    size_bytes: int
    format: str
    inline_bytes: int
    notices: tuple[tuple[str, str], ...]
    pack_id: int
    header_offset: int
    stored_bytes: int
    references: dict[bytes, int]  # atom digest -> how many segments
    tensors: tuple[TensorRow, ...]


_COLUMNS = (
    manifest.c.id, manifest.c.digest, manifest.c.file_digest, manifest.c.sha256,
    manifest.c.size_bytes, manifest.c.format, manifest.c.tensor_count, manifest.c.inline_bytes,
    manifest.c.stored_bytes, manifest.c.notices, pack.c.key, manifest.c.header_offset,
    manifest.c.complete,
)  # fmt: skip
_REFERENCE_COLUMNS = (manifest_atom.c.manifest_id, manifest_atom.c.atom_id, manifest_atom.c.count)
_TENSOR_COLUMNS = (
    tensor.c.manifest_id, tensor.c.ordinal, tensor.c.name, tensor.c.dtype, tensor.c.shape,
    tensor.c.offset, tensor.c.length, tensor.c.digest, tensor.c.role, tensor.c.layer,
)  # fmt: skip
_JOINED = select(*_COLUMNS).join(pack, pack.c.id == manifest.c.pack_id)
_BY_IDS = _JOINED.where(manifest.c.id.in_(bindparam("wanted", expanding=True)))


def _row(row: Sequence[object]) -> ManifestRow:
    values = dict(zip(ManifestRow.__slots__, row, strict=True))
    notices: list[Notice] = decode_json(str(values["notices"]), list[Notice])
    values["notices"] = tuple((notice.kind, notice.text) for notice in notices)
    values["complete"] = bool(values["complete"])
    return ManifestRow(**values)  # type: ignore[arg-type]


def by_file_digest(tx: Connection, digest: bytes) -> ManifestRow | None:
    """Return the manifest of a file with this BLAKE3, staged ones too."""
    row = tx.execute(_JOINED.where(manifest.c.file_digest == digest)).one_or_none()
    return None if row is None else _row(row)


def by_ids(tx: Connection, ids: Iterable[int]) -> dict[int, ManifestRow]:
    """Return {id: manifest}."""
    found: dict[int, ManifestRow] = {}
    for piece in batches(sorted(set(ids))):
        for row in tx.execute(_BY_IDS, {"wanted": piece}):
            found[row[0]] = _row(row)
    return found


def every(tx: Connection, ids: Iterable[int]) -> dict[int, ManifestRow]:
    """Return {id: row} of all of these; raises IntegrityError where a row is missing."""
    wanted = list(ids)
    found = by_ids(tx, wanted)
    missing = [one for one in wanted if one not in found]
    if missing:
        raise IntegrityError(
            f"the catalog has no manifest {missing[0]} that a version's file needs",
            hint="hart repair makes the catalog anew from the packs",
        )
    return found


def page(tx: Connection, *, after_id: int, limit: int) -> list[ManifestRow]:
    """Return complete manifests in id order."""
    query = (
        _JOINED.where(manifest.c.id > after_id, manifest.c.complete == 1)
        .order_by(manifest.c.id)
        .limit(limit)
    )
    return [_row(row) for row in tx.execute(query)]


def begin(tx: Connection, new: NewManifest, *, now_us: int) -> int:
    """Insert the manifest's own row, incomplete, and return its id."""
    notices = [{"kind": kind, "text": text} for kind, text in new.notices]
    return int(
        tx.execute(
            insert(manifest)
            .values(
                digest=new.digest,
                file_digest=new.file_digest,
                sha256=new.sha256,
                size_bytes=new.size_bytes,
                format=new.format,
                tensor_count=len(new.tensors),
                inline_bytes=new.inline_bytes,
                notices=json.dumps(notices),
                pack_id=new.pack_id,
                header_offset=new.header_offset,
                stored_bytes=new.stored_bytes,
                created_us=now_us,
                complete=0,
                counted=0,
            )
            .returning(manifest.c.id)
        ).scalar_one()
    )


def add_references(
    tx: Connection, manifest_id: int, references: Sequence[tuple[bytes, int]]
) -> None:
    """Insert some of the manifest's references to atoms; every atom must be stored."""
    found = atoms.find(tx, [digest for digest, _ in references])
    rows = sorted((manifest_id, found[digest][0], count) for digest, count in references)
    insert_rows(tx, _REFERENCE_COLUMNS, rows)


def add_tensors(
    tx: Connection, manifest_id: int, first_ordinal: int, tensors: Sequence[TensorRow]
) -> None:
    """Insert some of the manifest's tensors, numbered from ``first_ordinal``."""
    rows = (
        (manifest_id, ordinal, one.name, one.dtype, json.dumps(one.shape), one.offset, one.length,
         one.digest, one.role, one.layer)
        for ordinal, one in enumerate(tensors, first_ordinal)
    )  # fmt: skip
    insert_rows(tx, _TENSOR_COLUMNS, rows)


def finish(tx: Connection, manifest_id: int) -> None:
    """Mark a manifest as complete: all its rows are there."""
    tx.execute(update(manifest).where(manifest.c.id == manifest_id).values(complete=1))


def move(
    tx: Connection, manifest_id: int, *, pack_id: int, header_offset: int, stored_bytes: int
) -> None:
    """Say where a manifest's record lies from now on."""
    place = {"pack_id": pack_id, "header_offset": header_offset, "stored_bytes": stored_bytes}
    tx.execute(update(manifest).where(manifest.c.id == manifest_id).values(**place))


def tensors_of(tx: Connection, manifest_id: int) -> list[TensorRow]:
    """Return a manifest's tensors in file order."""
    query = (
        select(
            tensor.c.name, tensor.c.dtype, tensor.c.shape, tensor.c.offset, tensor.c.length,
            tensor.c.digest, tensor.c.role, tensor.c.layer,
        )
        .where(tensor.c.manifest_id == manifest_id)
        .order_by(tensor.c.ordinal)
    )  # fmt: skip
    return [tensor_row(row) for row in tx.execute(query)]


def differences(tx: Connection, row: ManifestRow, new: NewManifest) -> list[str]:
    """Say in what a manifest's rows differ from those that follow from its record.

    Left out are roles and layers of tensors, which follow from a path too.
    """
    said = {
        "another size": (row.size_bytes, new.size_bytes),
        "another SHA-256": (row.sha256, new.sha256),
        "another format": (row.format, new.format),
        "other bytes of its own": (row.inline_bytes, new.inline_bytes),
        "other notices": (row.notices, new.notices),
        "another number of tensors": (row.tensor_count, len(new.tensors)),
    }
    here = [msgspec.structs.replace(one, role="", layer=None) for one in tensors_of(tx, row.id)]
    there = [msgspec.structs.replace(one, role="", layer=None) for one in new.tensors]
    said["other tensors"] = (here, there)
    return [what for what, (one, other) in said.items() if one != other]


def unreferenced(
    tx: Connection, *, after_id: int, limit: int, spared_writers: Sequence[bytes]
) -> list[tuple[int, bytes]]:
    """Return (id, file digest) of manifests that no version has and no live writer wrote.

    In order of id, those beyond ``after_id``. Some of them may be held by the trash; see
    ``catalog.dropped``.
    """
    query = (
        select(manifest.c.id, manifest.c.file_digest)
        .join(pack, pack.c.id == manifest.c.pack_id)
        .where(
            ~exists().where(member.c.manifest_id == manifest.c.id),
            ~exists().where(manifest_pin.c.manifest_id == manifest.c.id),
            pack.c.writer_key.not_in(spared_writers),
            manifest.c.id > after_id,
        )
        .order_by(manifest.c.id)
        .limit(limit)
    )
    return [(row[0], row[1]) for row in tx.execute(query)]


def remove_some(tx: Connection, manifest_id: int, *, limit: int) -> bool:
    """Remove a manifest and the rows below it, ``limit`` at a time; True when it is gone.

    What was counted of its references is taken back with them.
    """
    if not reference_counts.remove_references(tx, manifest_id, limit=limit):
        return False
    ordinals = list(
        tx.scalars(select(tensor.c.ordinal).where(tensor.c.manifest_id == manifest_id).limit(limit))
    )
    if ordinals:
        tx.execute(
            delete(tensor).where(
                tensor.c.manifest_id == manifest_id, tensor.c.ordinal.in_(ordinals)
            )
        )
        return False
    # Only a dead writer can still hold on to a manifest that is out of use.
    tx.execute(delete(manifest_pin).where(manifest_pin.c.manifest_id == manifest_id))
    tx.execute(delete(manifest).where(manifest.c.id == manifest_id))
    return True


def set_incomplete(tx: Connection, manifest_ids: Sequence[int]) -> None:
    """Take manifests out of use before they are removed row by row."""
    tx.execute(update(manifest).where(manifest.c.id.in_(manifest_ids)).values(complete=0))


def references_of(tx: Connection, manifest_id: int) -> dict[bytes, int]:
    """Return {atom digest: segments} as the rows say."""
    query = (
        select(atom.c.digest, manifest_atom.c.count)
        .join(atom, atom.c.id == manifest_atom.c.atom_id)
        .where(manifest_atom.c.manifest_id == manifest_id)
    )
    return {row[0]: int(row[1]) for row in tx.execute(query)}


def file_names(tx: Connection, manifest_ids: Sequence[int], *, limit: int) -> list[str]:
    """Return ``NAME@NUMBER:path`` of members that have one of these manifests."""
    query = (
        select(artifact.c.name, version.c.number, member.c.path)
        .join(version, version.c.id == member.c.version_id)
        .join(artifact, artifact.c.id == version.c.artifact_id)
        .where(member.c.manifest_id.in_(list(manifest_ids)), version.c.published == 1)
        .order_by(artifact.c.name, version.c.number)
        .limit(limit)
    )
    return [f"{name}@{number}:{path}" for name, number, path in tx.execute(query)]


def needing_atoms(tx: Connection, atom_ids: Sequence[int], *, limit: int = 64) -> list[int]:
    """Return ids of manifests that refer to one of some atoms, those of the first atoms first."""
    found: dict[int, None] = {}
    for piece in batches(atom_ids):
        if len(found) >= limit:
            break
        query = select(manifest_atom.c.manifest_id).where(manifest_atom.c.atom_id.in_(piece))
        found.update(dict.fromkeys(tx.scalars(query.distinct().limit(limit))))
    return list(found)[:limit]


def needing_pack(tx: Connection, pack_id: int, *, limit: int) -> list[int]:
    """Return ids of manifests that lie in a pack or whose atoms do."""
    by_atom = (
        select(manifest_atom.c.manifest_id)
        .join(extent, extent.c.atom_id == manifest_atom.c.atom_id)
        .where(extent.c.pack_id == pack_id)
        .distinct()
        .limit(limit)
    )
    own = select(manifest.c.id).where(manifest.c.pack_id == pack_id).limit(limit)
    return list(dict.fromkeys([*tx.scalars(own), *tx.scalars(by_atom)]))[:limit]


def has_damaged_atoms(tx: Connection, manifest_id: int) -> bool:
    """Say whether verify found damage in an atom that a manifest refers to."""
    query = (
        select(atom.c.id)
        .join(manifest_atom, manifest_atom.c.atom_id == atom.c.id)
        .where(atom.c.damaged == 1, manifest_atom.c.manifest_id == manifest_id)
        .limit(1)
    )
    return tx.scalar(query) is not None
