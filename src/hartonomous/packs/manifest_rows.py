"""From records in packs to the rows that follow from them; manifests also on adding."""

from collections import Counter
from typing import Any

import msgspec

from hartonomous.catalog.manifests import NewManifest, TensorRow
from hartonomous.catalog.versions import MemberRow
from hartonomous.core.description import Tensor
from hartonomous.core.digest import digest
from hartonomous.core.manifest import Manifest, Segment
from hartonomous.core.model import tensor_facts
from hartonomous.core.role import Role

_EMPTY = digest(b"")


def new_manifest(
    manifest: Manifest,
    content: bytes,
    *,
    path: str,
    pack_id: int,
    header_offset: int,
    stored_bytes: int,
) -> NewManifest:
    """Return the rows of a manifest whose record (JSON ``content``) lies at the given place.

    ``path`` is the file's path inside its artifact, which helps to tell the tensors' roles.
    """
    references = Counter(
        segment.digest for segment in manifest.segments if segment.digest is not None
    )
    return NewManifest(
        digest=digest(content),
        file_digest=manifest.digest,
        sha256=manifest.sha256,
        size_bytes=manifest.size,
        format=manifest.description.format,
        inline_bytes=sum(len(one.inline) for one in manifest.segments if one.inline is not None),
        notices=tuple((one.kind, one.text) for one in manifest.description.notices),
        pack_id=pack_id,
        header_offset=header_offset,
        stored_bytes=stored_bytes,
        references=dict(references),
        tensors=_tensor_rows(manifest, path),
    )


def _tensor_rows(manifest: Manifest, path: str) -> tuple[TensorRow, ...]:
    tensors = manifest.description.tensors
    wanted = {tensor.offset for tensor in tensors}
    segments: dict[int, Segment] = {}
    offset = 0
    for segment in manifest.segments:
        if offset in wanted:
            segments[offset] = segment
        offset += segment.length
    facts = tensor_facts(path, tensors)
    return tuple(
        _tensor_row(tensor, segments.get(tensor.offset), role, layer)
        for tensor, (role, layer) in zip(tensors, facts, strict=True)
    )


def _tensor_row(
    tensor: Tensor, segment: Segment | None, role: Role, layer: str | None
) -> TensorRow:
    name: bytes | None = None
    if tensor.length == 0:
        name = _EMPTY
    elif tensor.strides is not None or tensor.coding is not None:
        pass  # equal bytes are not equal tensors where they are not in C order, or coded
    elif segment is not None and segment.length == tensor.length:
        name = digest(segment.inline) if segment.inline is not None else segment.digest
    return TensorRow(
        name=tensor.name,
        dtype=tensor.dtype,
        shape=tensor.shape,
        offset=tensor.offset,
        length=tensor.length,
        digest=name,
        role=role.value,
        layer=layer,
    )


def member_row(member: dict[str, Any], manifest_id: int) -> MemberRow:
    """Return the row of a member as a commit record tells of it."""
    raw = member.get("raw_path")
    return MemberRow(
        path=member["path"],
        raw_path=None if raw is None else msgspec.convert(raw, bytes),
        manifest_id=manifest_id,
        mode=member["mode"],
        modified_us=member["modified_us"],
    )


def manifest_facts(manifest: Manifest) -> NewManifest:
    """Return a manifest's rows without the places that its record says nothing of."""
    return new_manifest(manifest, b"", path="", pack_id=0, header_offset=0, stored_bytes=0)
