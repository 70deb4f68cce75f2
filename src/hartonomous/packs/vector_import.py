"""Vectors that people computed themselves: an ``.npy``, and a list of the files of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from hartonomous.catalog import spaces
from hartonomous.core.place import Place, PlaceKind
from hartonomous.core.space import METRICS, MODALITIES, MOST_DIMENSIONS, Space, VectorType, is_word
from hartonomous.core.vector_block import checked_vectors
from hartonomous.errors import AmbiguousNameError, ConflictError, NotFoundError, UsageError
from hartonomous.packs.npy_rows import NpyRows
from hartonomous.packs.open_files import OpenFiles, find_version
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.space_writer import ensure_space, writing
from hartonomous.packs.vector_blocks import find_blocks
from hartonomous.packs.vector_truth import SpaceTruth

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_VECTORS = 10_000_000
_LINE_CHARS = 8_192
_ROWS_AT_ONCE = 4_096
_BYTES_AT_ONCE = 16 << 20
_TYPES: dict[str, VectorType] = {"float32": "f32", "float16": "f16"}
_KINDS: dict[str, PlaceKind] = {"text": "passage", "picture": "picture"}


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """Vectors that were brought, or (``dry_run``) would be; ``replaced_count`` gave way to them."""

    name: str
    added_count: int
    replaced_count: int
    dry_run: bool = False


def import_vectors(
    parts: StoreParts,
    files: OpenFiles,
    *,
    name: str,
    vectors: Path,
    names: Path,
    encoder: str,
    metric: str,
    modality: str,
    dry_run: bool,
) -> Imported:
    """Bring the rows of ``vectors`` [n, d] into the space ``name``, made if it is not there.

    Everything is checked before anything is stored. Raises UsageError naming the file and its row
    or line, NotFoundError for files that cannot be found or are not stored.
    """
    with _opened(vectors) as array:
        return _import(
            parts, files, array, vectors, names, dry_run=dry_run,
            space=_space(name, array, encoder=encoder, metric=metric, modality=modality), name=name,
        )  # fmt: skip


def _import(
    parts: StoreParts,
    files: OpenFiles,
    array: NpyRows,
    vectors: Path,
    names: Path,
    *,
    space: Space,
    name: str,
    dry_run: bool,
) -> Imported:
    total = array.shape[0]
    step = min(_ROWS_AT_ONCE, max(1, _BYTES_AT_ONCE // space.vector_bytes))
    for first in range(0, total, step):
        _checked(space, array, first, step, vectors)
    places = [
        Place(digest=digest, kind=_KINDS[space.modality])
        for digest in _digests(parts, names, wanted=total)
    ]
    find_blocks(parts, files)
    with parts.database.read() as tx:
        row = spaces.by_name(tx, name)
    if row is not None and row.space.key != space.key:
        raise ConflictError(
            f"the space {name} is {row.space.title()}, and the vectors of {vectors} are"
            f" {space.title()}",
            hint="give another name, or remove that space first",
        )
    digests = {one.digest for one in places}
    if dry_run:
        former = 0 if row is None else len(SpaceTruth(parts, files, row).ids_in(digests))
        return Imported(name=name, added_count=total, replaced_count=former, dry_run=True)
    row = ensure_space(parts, space, name=name)
    with writing(parts, files, row) as writer:
        former_ids = writer.truth.ids_in(digests)
        for first in range(0, total, step):
            piece = _checked(space, array, first, step, vectors)
            writer.append(places[first : first + len(piece)], piece, source=str(vectors))
        # Nothing can compute these anew: they go into packs at once, and what they replace out of
        # them, so that a catalog made anew from packs has the same vectors.
        writer.flush()
        # The new are there before the former go: killed between, both are found.
        replaced = writer.bury(former_ids)
        writer.merge(least_live=1.0)
    return Imported(name=name, added_count=total, replaced_count=replaced)


def _opened(path: Path) -> NpyRows:
    try:
        found = NpyRows(path)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {path}") from error
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(
            f"{path} cannot be read as an array: {error}", hint="write it with numpy.save"
        ) from error
    try:
        _check_shape(path, found)
    except UsageError:
        found.close()
        raise
    return found


def _check_shape(path: Path, found: NpyRows) -> None:
    if len(found.shape) != 2 or found.dtype.name not in _TYPES:
        raise UsageError(
            f"{path} holds {found.dtype} {list(found.shape)}",
            hint="one float32 or float16 array of shape [n, dimension]",
        )
    count, dimension = found.shape
    if not 0 < dimension <= MOST_DIMENSIONS or not 0 < count <= MOST_VECTORS:
        raise UsageError(
            f"{path} holds {count} vectors of {dimension} dimensions",
            hint=f"1 to {MOST_VECTORS:,} vectors of 1 to {MOST_DIMENSIONS:,} dimensions",
        )


def _space(name: str, array: NpyRows, *, encoder: str, metric: str, modality: str) -> Space:
    if metric not in METRICS or modality not in MODALITIES:
        raise UsageError(f"{metric} of {modality} is no space", hint=f"{METRICS} of {MODALITIES}")
    for what, text in (("name", name), ("encoder", encoder)):
        if not is_word(text):
            raise UsageError(f"{text[:40]!r} is no {what} of a space", hint="use a short word")
    kind = _TYPES[array.dtype.name]
    return Space(
        modality=modality, encoder=encoder, encoder_digest="", recipe=f"{spaces.IMPORTED}{name}",
        quantisation=kind, pooling="unknown", dimension=array.shape[1], metric=metric, dtype=kind,
    )  # fmt: skip


def _checked(space: Space, array: NpyRows, first: int, count: int, path: Path) -> NDArray[Any]:
    """Return some rows; raises UsageError that counts rows from the file's first."""
    try:
        piece = array.rows(first, count)
    except (OSError, EOFError) as error:
        raise UsageError(
            f"{path} cannot be read: {error}", hint="import a file that nobody writes to"
        ) from error
    return checked_vectors(space, piece, file=str(path), first_row=first)


def _digests(parts: StoreParts, names: Path, *, wanted: int) -> list[bytes]:
    """Return the digest of the stored file that each line names."""
    found: list[bytes] = []
    for number, line in enumerate(_lines(names), 1):
        if number > wanted:
            raise UsageError(f"{names} has more lines than the {wanted} vectors")
        try:
            found.append(_digest(parts, line))
        except (NotFoundError, AmbiguousNameError, UsageError) as error:
            raise type(error)(
                f"{names}, line {number}: {error.message}", hint=error.hint
            ) from error
    if len(found) != wanted:
        raise UsageError(f"{names} has {len(found)} lines for {wanted} vectors")
    return found


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as lines:
            number = 0
            while line := lines.readline(_LINE_CHARS):
                number += 1
                if len(line) == _LINE_CHARS:
                    raise UsageError(f"{path}, line {number} is too long for a name")
                yield line.rstrip("\r\n")
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {path}") from error
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint="give UTF-8 text") from error


def _digest(parts: StoreParts, line: str) -> bytes:
    """Return the digest of ``NAME[@X][:PATH]``; a colon may be part of a name."""
    try:
        return find_version(parts, line).single(None).row.file_digest
    except (NotFoundError, UsageError) as error:
        first = error
    head, mark, tail = line, ":", ""
    while mark:
        head, mark, last = head.rpartition(":")
        tail = f"{last}:{tail}" if tail else last
        if not mark or not head:
            break
        try:
            return find_version(parts, head).single(tail).row.file_digest
        except (NotFoundError, UsageError):
            continue
    raise first
