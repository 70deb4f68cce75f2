"""Searching tensors: which models hold this one, and which stored tensors resemble it."""

import fnmatch
import json
from math import prod
from typing import Any

import msgspec

from hartonomous.catalog import kin, tensors, versions
from hartonomous.catalog.patterns import of_shell
from hartonomous.catalog.resolve import digest_range
from hartonomous.catalog.tensors import FoundRow, TensorFilter
from hartonomous.core.digest import parse_digest_prefix
from hartonomous.core.role import Role
from hartonomous.errors import UsageError
from hartonomous.packs.base_search import BaseSearch, can_be_sketched, query_of
from hartonomous.packs.open_files import OpenFiles
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.tensor_names import find_tensor

MAX_HITS = 100_000
_MOST_ROWS = 2 * MAX_HITS
"""Rows that are read for a pattern with a set in brackets."""


class FoundTensor(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor of a version in use; ``digest`` is None where it has no atom of its own."""

    name: str
    number: int
    member: str
    tensor: str
    dtype: str
    shape: tuple[int, ...]
    role: str
    layer: str | None
    logical_bytes: int
    digest: str | None


class FoundTensors(msgspec.Struct, frozen=True, kw_only=True):
    """What fits, by artifact, version and place; ``truncated`` where there is more."""

    tensors: tuple[FoundTensor, ...]
    truncated: bool = False


class NearTensor(msgspec.Struct, frozen=True, kw_only=True):
    """A stored tensor that resembles the one asked for, and where it is used.

    ``distance`` is the mean log2 ulp distance at 256 places; 0 is equal after rounding to the
    coarser type. ``orientation`` is how it has to be turned: straight, transposed, heads,
    heads-inverse. ``first`` is the element where the part that resembles begins.
    """

    digest: str
    dtype: str
    shape: tuple[int, ...]
    orientation: str
    first: int
    distance: float
    used_by: tuple[str, ...]


def search_tensors(
    parts: StoreParts,
    pattern: str = "*",
    *,
    role: str | None = None,
    dtype: str | None = None,
    shape: tuple[int, ...] | None = None,
    limit: int = 100,
) -> FoundTensors:
    """Find tensors in use by name pattern (``*``, ``?``), or by digest or a beginning of it.

    ``role`` is one of ``core.role.Role``, ``shape`` has the slowest axis first. Raises UsageError
    for an unknown role or a wrong limit.
    """
    if not 1 <= limit <= MAX_HITS:
        raise UsageError(f"a limit of {limit} is not between 1 and {MAX_HITS}")
    known = [one.value for one in Role]
    if role is not None and role not in known:
        raise UsageError(f"{role!r} is no role", hint=f"there are {', '.join(known)}")
    prefix = parse_digest_prefix(pattern)
    wanted = TensorFilter(
        digest=None if prefix is None else digest_range(prefix),
        name=None if prefix is not None or pattern == "*" else of_shell(pattern),
        role=role,
        dtype=None if dtype is None else dtype.upper(),
        shape=None if shape is None else json.dumps(list(shape)),
    )
    with parts.database.read() as tx:
        rows, more = _fitting(tx, wanted, pattern if prefix is None else "*", limit)
    return FoundTensors(tensors=tuple(map(_found, rows)), truncated=more)


def _fitting(
    tx: Any, wanted: TensorFilter, pattern: str, limit: int
) -> tuple[list[FoundRow], bool]:
    """Return up to ``limit`` rows that fit, and whether there are, or may be, more.

    LIKE knows no sets in brackets: for a pattern with one more rows are read until enough fit.
    """
    shown = pattern.lower()  # letters are alike, as LIKE has them
    asked = limit + 1
    while True:
        rows = tensors.search(tx, wanted, limit=asked)
        found = rows
        if "[" in pattern:
            found = [row for row in rows if fnmatch.fnmatchcase(row.tensor.lower(), shown)]
        if len(found) > limit or len(rows) < asked or asked == _MOST_ROWS:
            return found[:limit], len(found) > limit or len(rows) == asked
        asked = min(8 * asked, _MOST_ROWS)


def _found(row: FoundRow) -> FoundTensor:
    return FoundTensor(
        name=row.name, number=row.number, member=row.path, tensor=row.tensor, dtype=row.dtype,
        shape=row.shape, role=row.role, layer=row.layer, logical_bytes=row.length,
        digest=None if row.digest is None else f"blake3:{row.digest.hex()}",
    )  # fmt: skip


def nearest_tensors(
    parts: StoreParts, files: OpenFiles, spec: str, name: str, *, member: str | None = None
) -> tuple[NearTensor, ...]:
    """Return the stored tensors that resemble one the most, nearest first, at most 8.

    Raises NotFoundError, AmbiguousNameError; UsageError where the type or size has no sketch.
    """
    _, place = find_tensor(parts, files, spec, name, member=member)
    if place.digest is None or not can_be_sketched(place.dtype, place.shape):
        raise UsageError(
            f"{place.name} ({place.dtype}, {prod(place.shape)} elements) has no sketch",
            hint="floats and quantised blocks of 2,048 elements and more have one",
        )
    query = query_of(files.atoms, place.digest, place.dtype, place.shape)
    found = BaseSearch(parts.database).candidates(query)
    with parts.database.read() as tx:
        used = kin.versions_with(tx, [one.atom_id for one in found])
        specs = {row.id: f"{row.name}@{row.number}" for row in versions.live(tx)}
    near = [
        NearTensor(
            digest=f"blake3:{one.digest.hex()}", dtype=one.dtype, shape=one.shape,
            orientation=one.orientation, first=one.first, distance=one.distance,
            used_by=tuple(sorted(specs[id_] for id_ in used.get(one.atom_id, ()) if id_ in specs)),
        )
        for one in found
    ]  # fmt: skip
    return tuple(sorted(near, key=lambda one: one.distance))
