"""Explain: how one tensor is kept, where its bytes lie, and who else has the same ones."""

import msgspec
import numpy as np

from hartonomous.catalog import bases, extents, tensors
from hartonomous.catalog.extents import ExtentRow
from hartonomous.catalog.tensors import UseRow
from hartonomous.core.manifest import Segment, SegmentMap
from hartonomous.core.plan_words import describe, kind_of
from hartonomous.core.record import PREDICTED, Encoding, RecordHeader
from hartonomous.packs import arrays
from hartonomous.packs.open_files import OpenFiles
from hartonomous.packs.parts import StoreParts, pack_object_key
from hartonomous.packs.predictions import variant_of
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
    """A segment of the file under the tensor: an atom, or bytes inside the manifest.

    ``bases`` are the atoms that it is computed from, ``plan`` says how, ``depth`` how many must be
    read one after the other before it can be; empty and 0 for what is kept on its own.
    """

    digest: str | None
    logical_bytes: int
    stored_bytes: int
    encoding: str
    bases: tuple[str, ...] = ()
    plan: str = ""
    depth: int = 0
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
        places = extents.of_atoms(tx, wanted)
        depths = {name: base.depth for name, base in bases.find(tx, places).items()}
        digest = place.digest if place.length else None
        use_count = tensors.count_uses(tx, digest) if digest else 1
        uses = tensors.uses(tx, digest, limit=_USES_SHOWN) if digest else []
    pieces = tuple(
        _piece(files, one, places.get(one.digest or b"", []), depths.get(one.digest or b"", 0))
        for one in segments
    )
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


def _piece(files: OpenFiles, segment: Segment, rows: list[ExtentRow], depth: int) -> ExplainedPiece:
    if segment.digest is None:
        return ExplainedPiece(
            digest=None, logical_bytes=segment.length, stored_bytes=0, encoding="inline"
        )
    headers = [files.atoms.record(row.pack_key, row.header_offset)[1] for row in rows]
    extents = tuple(_extent(row, header) for row, header in zip(rows, headers, strict=True))
    stored = sum(one.stored_bytes for one in extents)
    words = sorted({_words(one, exact=not stored) for one in headers})
    plans = [variant_of(one) for one in headers if one.encoding in PREDICTED]
    named = [f"blake3:{name.hex()}" for name in plans[0].bases] if plans else []
    return ExplainedPiece(
        digest=f"blake3:{segment.digest.hex()}",
        logical_bytes=segment.length,
        stored_bytes=stored,
        encoding=", ".join(words),
        bases=tuple(dict.fromkeys(named)),
        plan=describe(plans[0].plan, [f"{name[:19]}…" for name in named]) if plans else "",
        depth=depth,
        extents=extents,
    )


def _words(header: RecordHeader, *, exact: bool) -> str:
    """Return how a record's bytes are kept: a cast that is right in every bit is called a cast."""
    if header.encoding in PREDICTED:
        return kind_of(variant_of(header).plan, exact=exact)
    return _encoding(header)


def _extent(row: ExtentRow, header: RecordHeader) -> ExplainedExtent:
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
    built = [one for one in pieces if one.bases]
    if built:
        exact = "that gives it exactly" if not built[0].stored_bytes else "what differs is kept"
        return f"{built[0].plan}: {exact}"
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
