"""Explain: how one tensor is kept, where its bytes lie, and who else has the same ones."""

import msgspec
import numpy as np

from hartonomous.catalog import atoms, tensors
from hartonomous.catalog.atoms import ExtentRow
from hartonomous.catalog.tensors import UseRow
from hartonomous.core.manifest import Segment, SegmentMap
from hartonomous.core.record import Encoding, RecordHeader
from hartonomous.packs import arrays
from hartonomous.packs.open_files import OpenFiles
from hartonomous.packs.parts import StoreParts, pack_object_key
from hartonomous.packs.tensor_names import find_tensor

_USES_SHOWN = 50


class ExplainedExtent(msgspec.Struct, frozen=True, kw_only=True):
    """A run of encoded frames in one pack; ``pack_offset`` is where its first byte lies.

    ``position`` and ``logical_bytes`` say which bytes of the piece it decodes to. A frame whose
    coding gained too little is kept raw: ``raw_frame_count`` of the ``frame_count`` are.
    """

    pack: str
    pack_offset: int
    position: int
    logical_bytes: int
    stored_bytes: int
    encoding: str
    frame_count: int
    raw_frame_count: int


class ExplainedPiece(msgspec.Struct, frozen=True, kw_only=True):
    """A segment of the file under the tensor: an atom, or bytes inside the manifest."""

    digest: str | None
    logical_bytes: int
    stored_bytes: int
    encoding: str
    extents: tuple[ExplainedExtent, ...] = ()


class TensorUsed(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor of a version in use that has the same bytes."""

    name: str
    number: int
    member: str
    tensor: str
    dtype: str
    shape: tuple[int, ...]


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """How one tensor is kept.

    ``digest`` is that of its bytes, None where they are no atom of their own. ``use_count`` counts
    tensors of versions in use that have these bytes, this one included; ``uses`` lists the first
    of them. ``saved_bytes`` is what keeping them once saves: the bytes of the other uses, and what
    coding gained on the one that is kept.
    """

    name: str
    number: int
    member: str
    tensor: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    logical_bytes: int
    stored_bytes: int
    digest: str | None
    reason: str
    use_count: int
    saved_bytes: int
    pieces: tuple[ExplainedPiece, ...]
    uses: tuple[TensorUsed, ...]


def explain(
    parts: StoreParts, files: OpenFiles, spec: str, name: str, *, member: str | None = None
) -> Explained:
    """Say how the tensor ``name`` of a version is kept; raises NotFoundError, AmbiguousNameError.

    ``stored_bytes`` are those of the frames in packs; record headers are not counted.
    """
    version, place = find_tensor(parts, files, spec, name, member=member)
    segments = list(_segments(place))
    wanted = [one.digest for one in segments if one.digest is not None]
    with parts.database.read() as tx:
        extents = atoms.extents(tx, wanted)
        digest = place.digest if place.length else None
        use_count = tensors.count_uses(tx, digest) if digest else 1
        uses = tensors.uses(tx, digest, limit=_USES_SHOWN) if digest else []
    pieces = tuple(_piece(files, one, extents.get(one.digest or b"", [])) for one in segments)
    stored = sum(one.stored_bytes for one in pieces)
    kept_once = bool(wanted)  # bytes inside a manifest are in every manifest anew
    return Explained(
        name=version.version.name,
        number=version.version.number,
        member=place.member,
        tensor=place.name,
        dtype=place.dtype,
        shape=place.shape,
        offset=place.offset,
        logical_bytes=place.length,
        stored_bytes=stored,
        digest=None if digest is None else f"blake3:{digest.hex()}",
        reason=_reason(pieces, place.length),
        use_count=use_count,
        saved_bytes=use_count * place.length - stored if kept_once else 0,
        pieces=pieces,
        uses=tuple(_use(one) for one in uses),
    )


def _segments(place: arrays.TensorPlace) -> list[Segment]:
    spans = SegmentMap(place.file.manifest.segments).spans(place.offset, place.length)
    return [segment for segment, _, _ in spans]


def _piece(files: OpenFiles, segment: Segment, rows: list[ExtentRow]) -> ExplainedPiece:
    if segment.digest is None:
        return ExplainedPiece(
            digest=None, logical_bytes=segment.length, stored_bytes=0, encoding="inline"
        )
    extents = tuple(_extent(files, row) for row in rows)
    return ExplainedPiece(
        digest=f"blake3:{segment.digest.hex()}",
        logical_bytes=segment.length,
        stored_bytes=sum(one.stored_bytes for one in extents),
        encoding=", ".join(sorted({one.encoding for one in extents})),
        extents=extents,
    )


def _extent(files: OpenFiles, row: ExtentRow) -> ExplainedExtent:
    _, header = files.atoms.record(row.pack_key, row.header_offset)
    return ExplainedExtent(
        pack=pack_object_key(row.pack_key),
        pack_offset=header.offset,
        position=row.position,
        logical_bytes=row.length,
        stored_bytes=header.stored,
        encoding=_encoding(header),
        frame_count=len(header.frames),
        raw_frame_count=_raw_frames(header),
    )


def _encoding(header: RecordHeader) -> str:
    found = header.encoding
    return found.name.lower() if isinstance(found, Encoding) else f"encoding {found}"


def _raw_frames(header: RecordHeader) -> int:
    lengths = np.full(len(header.frames), header.frame_bytes, np.uint64)
    if len(lengths):
        lengths[-1] = header.frame_length(len(lengths) - 1)
    return int(np.count_nonzero(header.frames["stored"] == lengths))


def _reason(pieces: tuple[ExplainedPiece, ...], length: int) -> str:
    if not length:
        return "it has no bytes"
    if all(one.digest is None for one in pieces):
        return "so few bytes lie in the file's manifest itself"
    words = {one.encoding for one in pieces if one.digest is not None}
    if len(pieces) > 1:
        return "other tensors overlap it, so its bytes lie in several pieces"
    if words == {"raw"}:
        return "coding would have gained less than 2 %"
    return f"{' and '.join(sorted(words))} makes it smaller"


def _use(row: UseRow) -> TensorUsed:
    return TensorUsed(
        name=row.name,
        number=row.number,
        member=row.path,
        tensor=row.tensor,
        dtype=row.dtype,
        shape=row.shape,
    )
