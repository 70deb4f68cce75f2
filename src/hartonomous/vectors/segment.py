"""Segments: immutable files of codes. See docs/vector-index.md for the layout."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from hartonomous.core.digest import Bytes
from hartonomous.core.space import Space
from hartonomous.core.undecodable import UNDECODABLE
from hartonomous.errors import IntegrityError
from hartonomous.ports.vector_index import Ids
from hartonomous.vectors import codebook, rotation
from hartonomous.vectors.codebook import BLOCK, Codes
from hartonomous.vectors.derived_file import open_derived, write_derived
from hartonomous.vectors.frame import Frame

SUFFIX = ".segment"
MOST_BYTES = 64 << 20
"""Codes of one segment; larger ones are not merged further."""

_MAGIC = b"HARTVSEG"
_MOST_HEADER = 4096
_GAPS = (0, 1, 2, 4, 8)


class _Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is in the file. ``gap_bytes``: 0 where ids follow each other without a gap."""

    space: str
    dimension: int
    rows: int
    first_id: int
    gap_bytes: int
    scale: float
    codebook: int = codebook.NUMBER
    rotation: int = rotation.NUMBER


@dataclass(frozen=True, eq=False)
class Segment:
    """An open segment: ids [n] ascending, codes [n / 32, bytes, 32] as they are mapped."""

    name: str
    ids: Ids
    codes: Codes
    frame: Frame

    @property
    def rows(self) -> int:
        """How many vectors, a multiple of 32."""
        return self.ids.size


def most_rows(dimension: int) -> int:
    """Return how many vectors one segment has at most."""
    return max(BLOCK, MOST_BYTES // codebook.code_bytes(dimension) // BLOCK * BLOCK)


def write_segment(path: Path, space: Space, ids: Ids, codes: Codes, frame: Frame) -> None:
    """Write packed codes with their ids, which ascend; raises as ``write_derived`` does."""
    gaps = np.diff(ids)
    width = 0 if bool((gaps == 1).all()) else next(
        one for one in _GAPS[1:] if int(gaps.max()) < 1 << (8 * one)
    )  # fmt: skip
    header = msgspec.json.encode(
        _Header(
            space=space.key, dimension=space.dimension, rows=ids.size, first_id=int(ids[0]),
            gap_bytes=width, scale=frame.scale,
        )
    )  # fmt: skip
    header += b" " * (-(len(_MAGIC) + 4 + len(header)) % 64)

    def pieces() -> Iterator[Bytes]:
        yield _MAGIC + len(header).to_bytes(4, "little") + header
        yield frame.centre.astype("<f4").tobytes()
        if width:
            yield gaps.astype(f"<u{width}").tobytes()
        yield b"\0" * _padding(space.dimension, ids.size, width)
        for start in range(0, len(codes), 4096):
            yield np.ascontiguousarray(codes[start : start + 4096]).data.cast("B")

    write_derived(path, pieces())


def _padding(dimension: int, rows: int, width: int) -> int:
    return -(4 * dimension + width * (rows - 1)) % 64


def open_segment(path: Path, space: Space) -> Segment:
    """Return a segment; raises IntegrityError for one that is damaged or of another space.

    Raises OSError when the file cannot be opened.
    """
    content = open_derived(path)
    prefix = len(_MAGIC) + 4
    if bytes(content[: len(_MAGIC)]) != _MAGIC:
        raise IntegrityError(f"{path} is no segment of codes")
    length = int.from_bytes(content[len(_MAGIC) : prefix], "little")
    if length > _MOST_HEADER or prefix + length > len(content):
        raise IntegrityError(f"the header of {path} is too long")
    try:
        header = msgspec.json.decode(content[prefix : prefix + length], type=_Header)
    except UNDECODABLE as error:
        raise IntegrityError(f"the header of {path} cannot be read: {error}") from error
    _check(header, path, space)
    wide, width = codebook.code_bytes(space.dimension), header.gap_bytes
    frame_at = prefix + length
    gaps_at = frame_at + 4 * space.dimension
    codes_at = gaps_at + width * (header.rows - 1)
    codes_at += _padding(space.dimension, header.rows, width)
    if len(content) != codes_at + header.rows * wide:
        raise IntegrityError(f"{path} has not the size that its header says")
    centre = np.frombuffer(content, dtype="<f4", count=space.dimension, offset=frame_at)
    ids = _ids(content, header, gaps_at)
    if not np.isfinite(centre).all() or bool((np.diff(ids) <= 0).any()) or ids.min() <= 0:
        raise IntegrityError(f"{path} has a centre or ids that cannot be")
    codes = np.frombuffer(content, dtype=np.uint8, offset=codes_at)
    blocks = codes.reshape(header.rows // BLOCK, wide, BLOCK)
    return Segment(path.name, ids, blocks, Frame(centre, header.scale))


def _check(header: _Header, path: Path, space: Space) -> None:
    mine = (space.key, space.dimension, codebook.NUMBER, rotation.NUMBER)
    if (header.space, header.dimension, header.codebook, header.rotation) != mine:
        raise IntegrityError(f"{path} is of another space or version")
    rows, first = header.rows, header.first_id
    if not (0 < rows <= most_rows(space.dimension) and rows % BLOCK == 0 and 0 < first < 1 << 63):
        raise IntegrityError(f"{path} has {rows} rows, which cannot be")
    if header.gap_bytes not in _GAPS or not 0 < header.scale < float("inf"):
        raise IntegrityError(f"{path} has gaps or a scale that cannot be")


def _ids(content: memoryview, header: _Header, at: int) -> Ids:
    ids = np.empty(header.rows, dtype=np.int64)
    ids[0], ids[1:] = header.first_id, 1
    if header.gap_bytes:
        kind = f"<u{header.gap_bytes}"
        ids[1:] = np.frombuffer(content, dtype=kind, count=header.rows - 1, offset=at)
    return np.cumsum(ids, out=ids)
