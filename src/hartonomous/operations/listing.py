"""Listing: which artifacts there are, and everything that is known of one version."""

import fnmatch
from typing import Any

import msgspec

from hartonomous.catalog import accesses, artifacts, dropped, manifests, resolve, spaces, versions
from hartonomous.catalog.versions import VersionRow
from hartonomous.core.notebook import html_table
from hartonomous.core.quantity import several, size
from hartonomous.errors import UsageError
from hartonomous.packs.containment import ContainedPicture, ContainingDocument, containment
from hartonomous.packs.parts import StoreParts

_FIRST_NAMES = 3


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One version in a listing; times are microseconds UTC."""

    name: str
    number: int
    digest: str
    kind: str
    logical_bytes: int
    file_count: int
    tensor_count: int
    parameter_count: int | None
    version_count: int
    labels: tuple[str, ...]
    created_us: int
    source: str
    removed_us: int | None = None


class ShownTensor(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor as `show` tells it; ``digest`` is that of its bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    logical_bytes: int
    digest: str | None
    role: str
    layer: str | None


class ShownFile(msgspec.Struct, frozen=True, kw_only=True):
    """A member as `show` tells it."""

    path: str
    digest: str
    sha256: str
    logical_bytes: int
    format: str
    tensor_count: int
    mode: int
    modified_us: int
    notices: tuple[str, ...]
    tensors: tuple[ShownTensor, ...] = ()


class ShownLayer(msgspec.Struct, frozen=True, kw_only=True):
    """A layer as `show` tells it."""

    name: str
    kind: str
    tensor_count: int
    parameter_count: int
    logical_bytes: int


class ShownDropped(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was dropped from a version; ``sequence`` is what `undo` takes."""

    path: str
    digest: str
    logical_bytes: int
    dropped_us: int
    sequence: int


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known of one version; ``read_count`` is how often it was read, if counted.

    ``contains`` are pictures in its documents, ``contained_in`` documents that contain its pictures
    byte for byte, up to 1,000 each; ``unread_count`` documents were not looked at for pictures yet.
    """

    name: str
    number: int
    digest: str
    kind: str
    logical_bytes: int
    labels: tuple[str, ...]
    tags: tuple[str, ...]
    metadata: dict[str, str]
    source_host: str
    source: str
    created_us: int
    version_count: int
    model: dict[str, Any] | None
    layers: tuple[ShownLayer, ...]
    files: tuple[ShownFile, ...]
    dropped: tuple[ShownDropped, ...] = ()
    read_count: int = 0
    last_read_us: int | None = None
    contains: tuple[ContainedPicture, ...] = ()
    contained_in: tuple[ContainingDocument, ...] = ()
    unread_count: int = 0


class Listing(list[Listed]):
    """The versions listed; a list that shows itself shortly."""

    def __repr__(self) -> str:
        """Return one line: how many, and the first names."""
        first = ", ".join(f"{one.name}@{one.number}" for one in self[:_FIRST_NAMES])
        more = ", ..." if len(self) > _FIRST_NAMES else ""
        return f"<Listing of {several(len(self), 'version')}: {first}{more}>"

    def _repr_html_(self) -> str:
        """Return a table for notebooks."""
        total = size(sum(one.logical_bytes for one in self))
        return html_table(
            f"{several(len(self), 'version')}, {total}",
            ("name", "version", "size", "files", "parameters", "labels"),
            (
                (one.name, one.number, size(one.logical_bytes), one.file_count,
                 None if one.parameter_count is None else f"{one.parameter_count:,}",
                 ", ".join(one.labels))
                for one in self
            ),
        )  # fmt: skip


def list_artifacts(
    parts: StoreParts,
    pattern: str | None = None,
    *,
    all_versions: bool = False,
    trash: bool = False,
    tag: str | None = None,
    kind: str | None = None,
) -> Listing:
    """Return the newest version of each artifact, or all versions, or the trash.

    Blocks of vectors are left out unless ``kind`` is ``vectors``. ``pattern`` is a name or a shell
    pattern (``*``, ``?``, ``[…]``) over whole names.
    """
    with parts.database.read() as tx:
        rows = versions.in_trash(tx) if trash else versions.live(tx)
        rows = [one for one in rows if kind in (None, one.kind)]
        if kind != spaces.KIND:
            rows = [one for one in rows if one.kind != spaces.KIND]
        labels = artifacts.all_labels(tx)
        tagged = None if tag is None else versions.with_tag(tx, tag)
    counts: dict[int, int] = {}
    newest: dict[int, int] = {}
    for row in rows:
        counts[row.artifact_id] = counts.get(row.artifact_id, 0) + 1
        newest[row.artifact_id] = row.id
    return Listing(
        Listed(
            name=row.name,
            number=row.number,
            digest=f"blake3:{row.digest.hex()}",
            kind=row.kind,
            logical_bytes=row.size_bytes,
            file_count=row.file_count,
            tensor_count=row.tensor_count,
            parameter_count=row.parameter_count,
            version_count=counts[row.artifact_id],
            labels=tuple(labels.get(row.id, ())),
            created_us=row.created_us,
            source=row.source_place,
            removed_us=row.removed_us,
        )
        for row in rows
        if (all_versions or trash or newest[row.artifact_id] == row.id)
        and (pattern is None or _fits(row, pattern))
        and (tagged is None or row.id in tagged)
    )


def names(parts: StoreParts, beginning: str, *, limit: int) -> list[str]:
    """Return up to ``limit`` names in use that begin with ``beginning``, in order.

    Raises UsageError for a limit below 1.
    """
    if limit < 1:
        raise UsageError(f"a limit of {limit} is no number of names", hint="use 1 or more")
    with parts.database.read() as tx:
        return artifacts.names_beginning(tx, beginning, limit=limit)


def _fits(row: VersionRow, pattern: str) -> bool:
    return row.name == pattern or fnmatch.fnmatchcase(row.name, pattern)


def show(parts: StoreParts, spec: str, *, with_tensors: bool = True) -> Shown:
    """Return everything known of the version that ``spec`` means."""
    with parts.database.read() as tx:
        row = resolve.version(tx, spec)
        members = versions.members_of(tx, row.id)
        files = manifests.every(tx, [one.manifest_id for one in members])
        tags, metadata = versions.annotations_of(tx, row.id)
        labels = artifacts.labels(tx, row.artifact_id)
        gone = _dropped(tx, row)
        read_count, last_read_us = accesses.of(tx, accesses.VERSION, row.uid)
        shown_files = tuple(
            _shown_file(tx, member, files[member.manifest_id], with_tensors) for member in members
        )
        shown = Shown(
            name=row.name,
            number=row.number,
            digest=f"blake3:{row.digest.hex()}",
            kind=row.kind,
            logical_bytes=row.size_bytes,
            labels=tuple(sorted(name for name, held in labels.items() if held == row.id)),
            tags=tuple(tags),
            metadata=metadata,
            source_host=row.source_host,
            source=row.source_place,
            created_us=row.created_us,
            version_count=len(versions.of_artifact(tx, row.artifact_id)),
            model=_model_left(versions.model_of(tx, row.id), gone),
            layers=tuple(
                ShownLayer(
                    name=one.name,
                    kind=one.kind,
                    tensor_count=one.tensor_count,
                    parameter_count=one.parameter_count,
                    logical_bytes=one.size_bytes,
                )
                for one in versions.layers_of(tx, row.id)
            ),
            files=shown_files,
            dropped=gone,
            read_count=read_count,
            last_read_us=last_read_us,
        )
    held = containment(parts, [(one.path, files[one.manifest_id].file_digest) for one in members])
    return msgspec.structs.replace(
        shown, contains=held.contains, contained_in=held.contained_in,
        unread_count=held.unread_count,
    )  # fmt: skip


def _dropped(tx: Any, row: VersionRow) -> tuple[ShownDropped, ...]:
    return tuple(
        ShownDropped(
            path=one["path"],
            digest=f"blake3:{one['digest']}",
            logical_bytes=one["size"],
            dropped_us=change.time_us,
            sequence=change.sequence,
        )
        for change in dropped.in_force(tx, row.uid)
        for one in change.content["members"]
    )


def _model_left(
    model: dict[str, Any] | None, gone: tuple[ShownDropped, ...]
) -> dict[str, Any] | None:
    """Return the summary without an optimizer's state all of whose files were dropped."""
    training = (model or {}).get("training")
    if model is None or not training or not gone or "files" not in training:
        return model
    if not {one.path for one in gone}.issuperset(training["files"]):
        return model
    left = {key: value for key, value in training.items() if key == "step"}
    return {**model, "training": {"has_optimizer_state": False, **left}}


def _shown_file(
    tx: Any, member: versions.MemberRow, row: manifests.ManifestRow, with_tensors: bool
) -> ShownFile:
    tensors = manifests.tensors_of(tx, row.id) if with_tensors and row.tensor_count else []
    return ShownFile(
        path=member.path,
        digest=f"blake3:{row.file_digest.hex()}",
        sha256=f"sha256:{row.sha256.hex()}",
        logical_bytes=row.size_bytes,
        format=row.format,
        tensor_count=row.tensor_count,
        mode=member.mode,
        modified_us=member.modified_us,
        notices=tuple(f"{kind}: {text}" for kind, text in row.notices),
        tensors=tuple(
            ShownTensor(
                name=one.name,
                dtype=one.dtype,
                shape=one.shape,
                offset=one.offset,
                logical_bytes=one.length,
                digest=None if one.digest is None else f"blake3:{one.digest.hex()}",
                role=one.role,
                layer=one.layer,
            )
            for one in tensors
        ),
    )
