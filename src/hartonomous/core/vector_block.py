"""Blocks of vectors: vectors of one space with their ids and places, as tensors of a file.

The file is safetensors: ``vectors`` [n, d] in the space's type, ``ids`` I64 [n] ascending,
``places`` I64 [n, 10] (file, kind, page, start, stop, frame, x, y, width, height) and ``digests``
U8 [files, 32], which a place's file counts in. The header's metadata has the space as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from hartonomous.core.place import Place, PlaceKind
from hartonomous.core.space import METRICS, MODALITIES, MOST_DIMENSIONS, Space
from hartonomous.core.undecodable import UNDECODABLE
from hartonomous.errors import StructureError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SPACE_KEY = "hartonomous.space"
"""Where the header's metadata has the space."""

MOST_ROWS = 1 << 20
MOST_BYTES = 320 << 20
"""Most bytes of a block's vectors: they are read into memory."""
KINDS: tuple[PlaceKind, ...] = ("passage", "picture", "patch")
"""A place's kind is its index here."""

TYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16"}
_FIELDS = ("page", "start", "stop", "frame", "x", "y", "width", "height")
_COLUMNS = 2 + len(_FIELDS)
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlaceTable:
    """Places as arrays: ``rows`` I64 [n, 10], ``digests`` U8 [files, 32]."""

    rows: NDArray[np.int64]
    digests: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.rows)

    def place(self, at: int) -> Place:
        """Return one place."""
        file, kind, *rest = self.rows[at].tolist()
        return Place(
            digest=self.digests[file].tobytes(), kind=KINDS[kind],
            **dict(zip(_FIELDS, rest, strict=True)),
        )  # fmt: skip

    def files(self) -> list[bytes]:
        """Return the digests of the files that the places are in."""
        return [one.tobytes() for one in self.digests]


def place_table(places: Sequence[Place]) -> PlaceTable:
    """Return places as arrays."""
    import numpy as np

    numbers: dict[bytes, int] = {}
    rows = np.zeros((len(places), _COLUMNS), np.int64)
    for at, one in enumerate(places):
        file = numbers.setdefault(one.digest, len(numbers))
        rows[at] = (file, KINDS.index(one.kind), *(getattr(one, name) for name in _FIELDS))
    joined = np.frombuffer(b"".join(numbers), np.uint8)
    return PlaceTable(rows=rows, digests=joined.reshape(len(numbers), _DIGEST_BYTES))


def joined(tables: Sequence[PlaceTable]) -> PlaceTable:
    """Return several tables as one; equal digests become one row."""
    import numpy as np

    numbers: dict[bytes, int] = {}
    pieces = []
    for table in tables:
        mapped = [numbers.setdefault(one, len(numbers)) for one in table.files()]
        rows = table.rows.copy()
        if len(rows):
            rows[:, 0] = np.asarray(mapped, np.int64)[rows[:, 0]]
        pieces.append(rows)
    rows = np.concatenate(pieces) if pieces else np.zeros((0, _COLUMNS), np.int64)
    digests = np.frombuffer(b"".join(numbers), np.uint8).reshape(len(numbers), _DIGEST_BYTES)
    return PlaceTable(rows=rows, digests=digests)


def taken(table: PlaceTable, chosen: NDArray[Any]) -> PlaceTable:
    """Return some rows of a table, with the digests that they need."""
    import numpy as np

    rows = table.rows[chosen].copy()
    needed, rows[:, 0] = np.unique(rows[:, 0], return_inverse=True)
    return PlaceTable(rows=rows, digests=table.digests[needed])


def block_tensors(
    space: Space, ids: NDArray[np.int64], vectors: NDArray[Any], places: PlaceTable
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a block's tensors and its header's metadata, as a safetensors writer takes them."""
    tensors = {"digests": places.digests, "ids": ids, "places": places.rows, "vectors": vectors}
    return tensors, {SPACE_KEY: msgspec.json.encode(space, order="deterministic").decode()}


def described_space(metadata: Mapping[str, Any]) -> Space:
    """Return the space that a block's header names; raises StructureError."""
    strings = metadata.get("__metadata__")
    text = strings.get(SPACE_KEY) if isinstance(strings, dict) else None
    if not isinstance(text, str):
        raise StructureError("a block of vectors does not name its space")
    try:
        found = msgspec.json.decode(text, type=Space)
    except UNDECODABLE as error:
        raise StructureError(f"the space of a block of vectors is none: {error}") from error
    if not 0 < found.dimension <= MOST_DIMENSIONS:
        raise StructureError(f"a block's vectors of {found.dimension} dimensions are none")
    if found.modality not in MODALITIES or found.metric not in METRICS:
        raise StructureError("a block's space has a modality or a metric that is not known")
    return found


def check_arrays(ids: NDArray[np.int64], places: PlaceTable) -> None:
    """Raise StructureError where ids do not ascend from 1 on, or a place is none."""
    import numpy as np

    if len(ids) != len(places) or not len(ids):
        raise StructureError(f"a block has {len(ids)} ids and {len(places)} places")
    if ids[0] < 1 or bool((np.diff(ids) <= 0).any()):
        raise StructureError("the ids of a block of vectors do not ascend from 1 on")
    rows = places.rows
    if bool((rows < 0).any()) or bool((rows[:, 0] >= len(places.digests)).any()):
        raise StructureError("a place of a block of vectors lies in no file")
    if bool((rows[:, 1] >= len(KINDS)).any()):
        raise StructureError("a place of a block of vectors has no kind that is known")


def checked_vectors(
    space: Space, vectors: NDArray[Any], *, file: str, first_row: int = 0
) -> NDArray[Any]:
    """Return vectors [n, d] of a space in its type; raises UsageError naming the row and ``file``.

    Rows are counted from ``first_row``. Refused are another dimension, NaN, infinities (also those
    that the type makes of large numbers), and in cosine spaces vectors of no length.
    """
    import numpy as np

    from hartonomous.core.array import numpy_dtype

    if vectors.ndim != 2 or vectors.shape[1] != space.dimension:
        raise UsageError(
            f"{file}: vectors of shape {list(vectors.shape)} do not fit {space.title()}",
            hint=f"they need the shape [n, {space.dimension}]",
        )
    if vectors.dtype.kind not in "fV" and vectors.dtype.name != "bfloat16":
        raise UsageError(
            f"{file}: vectors of the type {vectors.dtype} are no floating-point numbers",
            hint="give float32 or float16",
        )
    kind = numpy_dtype(TYPES[space.dtype])
    with np.errstate(over="ignore", invalid="ignore"):
        found: NDArray[Any] = np.ascontiguousarray(vectors, dtype=kind)
        wide = found.astype(np.float32)
        # As an index computes it: the square of a small number may be nothing, of a large one more
        # than the type holds.
        norms = np.einsum("ij,ij->i", wide, wide)
    _refuse_rows(
        ~np.all(np.isfinite(wide), axis=1), "has a value that is no finite number", file, first_row
    )
    _refuse_rows(~np.isfinite(norms), "is too long for its length to be computed", file, first_row)
    if space.metric == "cosine":
        _refuse_rows(norms == 0, "has no length", file, first_row)
    return found


def _refuse_rows(bad: NDArray[np.bool_], what: str, file: str, first_row: int) -> None:
    if not bool(bad.any()):
        return
    row = first_row + int(bad.argmax())
    more = int(bad.sum()) - 1
    also = f" (and {more} others)" if more else ""
    raise UsageError(
        f"{file}: vector {row}{also} {what}", hint="leave these vectors out, or compute them anew"
    )
