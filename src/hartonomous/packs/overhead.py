"""What a store needs beside the bytes of atoms: manifests, record headers, rows of the catalog."""

import random

from hartonomous.core import manifest as manifests
from hartonomous.core.chunking import NORMAL_BYTES
from hartonomous.core.description import Description
from hartonomous.core.digest import DIGEST_BYTES
from hartonomous.core.dtype import DTYPES
from hartonomous.core.elements import has_values
from hartonomous.core.manifest import INLINE_BYTES, Manifest, Piece, Segment
from hartonomous.core.record import FRAME_BYTES, FRAME_ENTRY, MIN_RECORD_BYTES, Encoding
from hartonomous.core.sketch import LEAST_ELEMENTS, POSITIONS, parts
from hartonomous.packs.frames import encode_frame, split_frames

CHUNK_BYTES = NORMAL_BYTES + NORMAL_BYTES // 8
"""Bytes of a content-defined chunk, on the average of data without structure."""

_SHOWN = 1000
_ARTIFACT_BYTES = 870  # commit record, and the rows of a version
_FILE_BYTES = 300  # rows of a manifest and of a member
_TENSOR_BYTES = 250  # a row of a tensor, with its indexes
_ATOM_BYTES = 130  # rows of an atom, its extent and the reference to it, with their indexes
_SKETCH_ROW_BYTES = 60  # a row of a sketch without its values
_SKETCH_INDEX_BYTES = 100
_PAGE_BYTES = 4060


def atom_count(pieces: list[Piece]) -> int:
    """Return how many atoms pieces become."""
    long = [piece for piece in pieces if piece.length > INLINE_BYTES]
    return sum(1 if piece.dtype is not None else -(-piece.length // CHUNK_BYTES) for piece in long)


def file_overhead(size: int, pieces: list[Piece], description: Description) -> int:
    """Estimate the bytes that a new file takes beside its atoms: its manifest and its rows.

    The manifest is made with random digests and encoded; of a long one the beginning.
    """
    segments = atom_count(pieces)
    share = max(1.0, max(len(description.tensors), segments) / _SHOWN)
    shown = Description(
        format=description.format,
        tensors=description.tensors[:_SHOWN],
        metadata=description.metadata,
        notices=description.notices,
    )
    chooser = random.Random(size)  # noqa: S311  # stands for digests, which look random
    manifest = Manifest(
        size=size,
        digest=chooser.randbytes(DIGEST_BYTES),
        sha256=chooser.randbytes(DIGEST_BYTES),
        segments=tuple(
            Segment(CHUNK_BYTES, chooser.randbytes(DIGEST_BYTES), None)
            for _ in range(min(segments, _SHOWN))
        ),
        description=shown,
    )
    content = manifests.encode(manifest)
    frames = (
        encode_frame(frame, Encoding.ZSTD, None, check=False) for frame in split_frames(content)
    )
    stored = sum(len(frame.payload) for frame in frames)
    inline = sum(piece.length for piece in pieces if piece.length <= INLINE_BYTES)
    rows = _FILE_BYTES + _TENSOR_BYTES * len(description.tensors)
    return round(stored * share) + inline + rows + record_overhead(size)


def record_overhead(length: int) -> int:
    """Return the bytes of a record's header, which lies in the pack twice, with padding."""
    frames = -(-length // FRAME_BYTES)
    return 2 * (MIN_RECORD_BYTES + frames * FRAME_ENTRY.itemsize) + 16


def atoms_overhead(count: int, length: int) -> int:
    """Return the bytes that ``count`` new atoms of ``length`` bytes in all take beside theirs."""
    return count * (record_overhead(0) + _ATOM_BYTES) + 2 * (length // FRAME_BYTES) * (
        FRAME_ENTRY.itemsize
    )


def sketches_overhead(dtype: str, length: int, shape: tuple[int, ...]) -> int:
    """Return the bytes that the sketches of a new tensor take: of the whole, and of its parts.

    ``shape`` is empty where it is not known. Few such rows fit into a page of the catalog.
    """
    known = DTYPES.get(dtype)
    if known is None or not has_values(dtype):
        return 0
    if length < LEAST_ELEMENTS * known.block_bytes // known.block_elements:
        return 0
    row = POSITIONS * (2 if dtype == "BF16" else 4) + _SKETCH_ROW_BYTES
    in_page = max(_PAGE_BYTES // row, 1)
    return (1 + len(parts(shape))) * (_PAGE_BYTES // in_page + _SKETCH_INDEX_BYTES)


def artifacts_overhead(count: int) -> int:
    """Return what ``count`` new versions take."""
    return count * _ARTIFACT_BYTES
