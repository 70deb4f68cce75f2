"""Diff: what became of every tensor, file and metadata value between two models.

Either side is a version in the store or a file or folder on disk. Tensors are paired by name and
content without reading them; values are then read in chunks, so that memory does not grow with
the models.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from math import prod
from typing import Any

import msgspec
import numpy as np

from hartonomous.core.comparison import (
    ComparisonSummary,
    PairStatus,
    TensorDifference,
    TensorPair,
    TensorUse,
    compare_models,
    has_comparable_values,
    may_be_transposed,
    pair_tensors,
    row_bytes_of,
)
from hartonomous.core.digest import digest
from hartonomous.core.dtype import DTYPES
from hartonomous.core.item_names import INDEX_FORMAT
from hartonomous.core.metadata_comparison import MetadataComparison, compare_metadata
from hartonomous.core.notebook import html_table
from hartonomous.core.value_comparison import ValueDifference, compare_values
from hartonomous.errors import NotFoundError
from hartonomous.packs.coded_bytes import View
from hartonomous.packs.compared_files import (
    ComparedFile,
    ComparedVersion,
    is_there,
    names_a_place,
    stored_version,
    version_on_disk,
)
from hartonomous.packs.compared_rows import are_rows_permuted
from hartonomous.packs.open_files import OpenFiles
from hartonomous.packs.parts import StoreParts
from hartonomous.ports.progress import NoProgress, Progress

_DERIVED = frozenset({"weight_sets", "layers", "roles", "dtypes"})
"""Parts of a model's summary that only repeat what the tensors' own lines say."""
_TURNED_BYTES = 64 << 20
"""Larger matrices are not turned to see whether they are the other's transposition."""


class ComparedSide(msgspec.Struct, frozen=True, kw_only=True):
    """What was compared; ``number`` is None where it lies on disk."""

    name: str
    number: int | None
    digest: str
    logical_bytes: int
    file_count: int

    @property
    def spec(self) -> str:
        """NAME@N, or the path on disk."""
        return self.name if self.number is None else f"{self.name}@{self.number}"


class FileDifference(msgspec.Struct, frozen=True, kw_only=True):
    """A file of either side. ``status``: same, changed, renamed, added or removed."""

    status: str
    path_a: str | None = None
    path_b: str | None = None
    digest_a: str | None = None
    digest_b: str | None = None
    logical_bytes_a: int | None = None
    logical_bytes_b: int | None = None
    tensor_count_a: int = 0
    tensor_count_b: int = 0


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that differs between a and b, and what does not.

    ``identical`` says that every file has the same bytes in both; ``summary.identical`` that the
    tensors and the metadata are the same, however they lie in files.
    """

    a: ComparedSide
    b: ComparedSide
    identical: bool
    values_compared: bool
    summary: ComparisonSummary
    tensors: tuple[TensorDifference, ...]
    metadata: MetadataComparison
    files: tuple[FileDifference, ...]

    def __repr__(self) -> str:
        """Return one line: what was compared, and how many tensors became what."""
        return f"<{type(self).__name__}: {self.a.spec} and {self.b.spec}: {self._summary()}>"

    def _repr_html_(self) -> str:
        """Return a table for notebooks, of the tensors that are not the same."""
        return html_table(
            f"{self.a.spec} and {self.b.spec}: {self._summary()}",
            ("status", "tensor", "type", "changed", "relative norm", "cosine", "largest ulp"),
            map(_shown_row, (one for one in self.tensors if one.status is not PairStatus.SAME)),
        )

    def _summary(self) -> str:
        if self.identical:
            return "identical"
        counts = [f"{number:,} {word}" for word, number in self.summary.statuses.items() if number]
        return ", ".join(counts) or "no tensors"


def _shown_row(one: TensorDifference) -> tuple[object, ...]:
    values = one.values
    names = " -> ".join(dict.fromkeys(filter(None, (one.name_a, one.name_b))))
    types = " -> ".join(dict.fromkeys(filter(None, (one.dtype_a, one.dtype_b))))
    if values is None:
        return one.status.value, names, types, None, None, None, None
    return (
        one.status.value, names, types, f"{100 * values.changed_share:.2f} %",
        values.relative_norm, values.cosine, values.largest_ulp,
    )  # fmt: skip


def diff(
    parts: StoreParts,
    files: OpenFiles,
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    values: bool = True,
    progress: Progress | None = None,
) -> Difference:
    """Compare two models; ``values=False`` reads no tensor of the store.

    A text is a spec if the store has it, else a path; a path object, ``/…`` and ``./…`` are always
    paths. Raises NotFoundError when it is neither.
    """
    shown = progress or NoProgress()
    with ExitStack() as stack:
        left, right = (_side(parts, files, one, stack, shown) for one in (a, b))
        return _compare(left, right, values=values, progress=shown)


def _side(
    parts: StoreParts,
    files: OpenFiles,
    given: str | os.PathLike[str],
    stack: ExitStack,
    progress: Progress,
) -> ComparedVersion:
    if names_a_place(given):
        return stack.enter_context(version_on_disk(given, progress))
    spec = os.fspath(given)
    try:
        return stored_version(parts, files, spec)
    except NotFoundError as error:
        if is_there(spec):
            return stack.enter_context(version_on_disk(spec, progress))
        raise NotFoundError(
            f"{error.message}, and no file or folder of that path is there", hint=error.hint
        ) from error


def _compare(
    a: ComparedVersion, b: ComparedVersion, *, values: bool, progress: Progress
) -> Difference:
    file_pairs = _pair_files(a.files, b.files)
    places = {use: (one, read) for side in (a, b) for one in side.files
              for use, read in one.tensors}  # fmt: skip
    pairs = pair_tensors(_uses(a), _uses(b))
    reader = _ValueReader(places, progress)
    if values:
        pairs = [reader.permuted(reader.turned(pair)) for pair in pairs]
        progress.stage("compare", total_bytes=reader.bytes_of(pairs))
    comparison = compare_models(
        pairs,
        read_values=reader.compare if values else None,
        metadata=_metadata(a, b, file_pairs),
    )
    return Difference(
        a=_shown_side(a),
        b=_shown_side(b),
        identical=_are_identical(file_pairs),
        values_compared=values,
        summary=comparison.summary,
        tensors=comparison.tensors,
        metadata=comparison.metadata,
        files=tuple(_file_difference(one, other) for one, other in file_pairs),
    )


def _uses(side: ComparedVersion) -> list[TensorUse]:
    return [use for one in side.files for use, _ in one.tensors]


class _ValueReader:
    """Compares the values of pairs, reading both sides in chunks."""

    def __init__(
        self,
        places: dict[TensorUse, tuple[ComparedFile, View | None]],
        progress: Progress,
    ) -> None:
        self._places = places
        self._progress = progress

    def bytes_of(self, pairs: Sequence[TensorPair]) -> int:
        """Return how many bytes comparing these pairs will read."""
        return sum(
            pair.a.length + pair.b.length
            for pair in pairs
            if pair.a and pair.b and has_comparable_values(pair)
        )

    def compare(self, pair: TensorPair) -> ValueDifference | None:
        """Return how far the values are apart; None where their elements do not correspond."""
        assert pair.a is not None
        assert pair.b is not None
        (file_a, read_a), (file_b, read_b) = self._places[pair.a], self._places[pair.b]
        # One side row by row and the other column by column: positions do not correspond.
        crossed = len(pair.a.shape) > 1 and file_a.column_major != file_b.column_major
        if crossed or read_a is None or read_b is None:
            self._progress.advance(pair.a.length + pair.b.length)
            return None
        known = pair.a.dtype in DTYPES
        return compare_values(
            self._read(read_a),
            self._read(read_b),
            pair.a.dtype,
            pair.b.dtype,
            prod(pair.a.shape) if known else pair.a.length,
        )

    def turned(self, pair: TensorPair) -> TensorPair:
        """Return a pair as transposed where the one's bytes, turned, are the other's."""
        if not may_be_transposed(pair):
            return pair
        assert pair.a is not None
        assert pair.b is not None
        (file_a, read_a), (file_b, read_b) = self._places[pair.a], self._places[pair.b]
        crossed = file_a.column_major or file_b.column_major
        if crossed or read_a is None or read_b is None or pair.a.length > _TURNED_BYTES:
            return pair
        rows, columns = pair.a.shape
        each = pair.a.length // (rows * columns)
        ends = (0, pair.a.length - each)
        if any(bytes(read_a(at, each)) != bytes(read_b(at, each)) for at in ends):
            return pair  # the first and the last element stay where they are
        plain = np.frombuffer(read_a(0, pair.a.length), np.dtype((np.void, each)))
        other = np.ascontiguousarray(plain.reshape(rows, columns).T)
        if digest(other.tobytes()) != pair.b.digest:
            return pair
        return msgspec.structs.replace(pair, status=PairStatus.TRANSPOSED)

    def permuted(self, pair: TensorPair) -> TensorPair:
        """Return a pair as permuted where both have the same rows, bit for bit."""
        row_bytes = row_bytes_of(pair)
        if row_bytes is None:
            return pair
        assert pair.a is not None
        assert pair.b is not None
        (file_a, read_a), (file_b, read_b) = self._places[pair.a], self._places[pair.b]
        crossed = file_a.column_major or file_b.column_major
        if crossed or read_a is None or read_b is None:
            return pair
        if not are_rows_permuted(read_a, read_b, row_bytes=row_bytes, rows=pair.a.shape[0]):
            return pair
        return msgspec.structs.replace(pair, status=PairStatus.PERMUTED)

    def _read(self, view: View) -> Any:
        def read(offset: int, length: int) -> bytes | memoryview:
            content = view(offset, length)
            self._progress.advance(length)
            return content

        return read


# -- files


FilePair = tuple[ComparedFile | None, ComparedFile | None]


def _pair_files(a: Sequence[ComparedFile], b: Sequence[ComparedFile]) -> list[FilePair]:
    """Pair files by path, then by content; two single files are a pair whatever they are called."""
    if len(a) == len(b) == 1:
        return [(a[0], b[0])]
    others = {one.path: one for one in b}
    partner = {one.path: others.pop(one.path) for one in a if one.path in others}
    by_digest: dict[bytes, list[ComparedFile]] = {}
    for one in reversed(list(others.values())):
        by_digest.setdefault(one.digest, []).append(one)
    for one in a:
        if one.path not in partner and by_digest.get(one.digest):
            partner[one.path] = by_digest[one.digest].pop()
    taken = {one.path for one in partner.values()}
    pairs: list[FilePair] = [(one, partner.get(one.path)) for one in a]
    return pairs + [(None, one) for one in b if one.path not in taken]


def _are_identical(pairs: Sequence[FilePair]) -> bool:
    if len(pairs) == 1 and pairs[0][0] and pairs[0][1]:
        return pairs[0][0].digest == pairs[0][1].digest
    return all(_file_status(one, other) == "same" for one, other in pairs)


def _file_status(a: ComparedFile | None, b: ComparedFile | None) -> str:
    if a is None:
        return "added"
    if b is None:
        return "removed"
    if a.digest != b.digest:
        return "changed"
    return "same" if a.path == b.path else "renamed"


def _file_difference(a: ComparedFile | None, b: ComparedFile | None) -> FileDifference:
    return FileDifference(
        status=_file_status(a, b),
        path_a=a.path if a else None,
        path_b=b.path if b else None,
        digest_a=f"blake3:{a.digest.hex()}" if a else None,
        digest_b=f"blake3:{b.digest.hex()}" if b else None,
        logical_bytes_a=a.size if a else None,
        logical_bytes_b=b.size if b else None,
        tensor_count_a=len(a.tensors) if a else 0,
        tensor_count_b=len(b.tensors) if b else 0,
    )


def _metadata(
    a: ComparedVersion, b: ComparedVersion, pairs: Sequence[FilePair]
) -> MetadataComparison:
    """Compare what the models' summaries and the paired files' own metadata say."""
    left: dict[str, Any] = {"model": _told(a)}
    right: dict[str, Any] = {"model": _told(b)}
    for one, other in pairs:
        if one is not None and other is not None and one.digest != other.digest:
            # Single files are a pair whatever they are called: then neither name is in the keys.
            key = one.path if one.path == other.path else "file"
            left[key], right[key] = _metadata_of(one), _metadata_of(other)
    return compare_metadata(left, right)


def _metadata_of(file: ComparedFile) -> dict[str, Any]:
    """Return what the file says, without the places of tensors, which their own lines tell."""
    found = file.describe().metadata
    if file.format != INDEX_FORMAT:
        return found
    return {key: value for key, value in found.items() if key != "items"}


def _told(side: ComparedVersion) -> dict[str, Any]:
    return {key: value for key, value in (side.model or {}).items() if key not in _DERIVED}


def _shown_side(side: ComparedVersion) -> ComparedSide:
    return ComparedSide(
        name=side.name,
        number=side.number,
        digest=f"blake3:{side.digest.hex()}",
        logical_bytes=sum(one.size for one in side.files),
        file_count=len(side.files),
    )
