"""Sketches of stored tensors, by which bases for new ones are found.

Derived data: rows may be missing, and can be made again from the atoms. Ids grow, so that what came
after a moment is what has a higher id.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import BindParameter, Connection, Select, bindparam, delete, exists, select

from hartonomous.catalog.batches import batches, insert_rows
from hartonomous.catalog.columns import decode_json
from hartonomous.catalog.schema import atom, sketch, tensor


class NewSketch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The sketch of ``[first_element, first_element + element_count)`` of a tensor.

    ``columns`` are the elements of a row of the tensor, ``dtype`` its element type; ``signs`` and
    ``content`` are those of ``core.sketch`` (the values as ``encode_values`` writes them).
    """

    first_element: int
    element_count: int
    columns: int
    dtype: str
    signs: bytes
    content: bytes


class SketchRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A sketch and the atom that it is of; ``depth`` is how many bases that needs below it."""

    id: int
    atom_id: int
    digest: bytes
    size_bytes: int
    depth: int
    first_element: int
    element_count: int
    columns: int
    dtype: str
    content: bytes


class UnsketchedTensor(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A stored tensor without a sketch."""

    atom_id: int
    digest: bytes
    size_bytes: int
    dtype: str
    shape: tuple[int, ...]


_COLUMNS = (
    sketch.c.atom_id, sketch.c.first_element, sketch.c.element_count, sketch.c.columns,
    sketch.c.dtype, sketch.c.signs, sketch.c.content,
)  # fmt: skip


def add_sketches(tx: Connection, new: Iterable[tuple[int, NewSketch]]) -> None:
    """Insert sketches of atoms that have none, as (atom id, sketch)."""
    rows = [
        (
            atom_id, one.first_element, one.element_count, one.columns, one.dtype, one.signs,
            one.content,
        )
        for atom_id, one in new
    ]  # fmt: skip
    insert_rows(tx, _COLUMNS, rows)


def remove_sketches(tx: Connection, atom_ids: Sequence[int]) -> None:
    """Forget the sketches of atoms."""
    tx.execute(delete(sketch).where(sketch.c.atom_id.in_(atom_ids)))


def add_missing(tx: Connection, new: Sequence[tuple[int, NewSketch]]) -> None:
    """Insert sketches, as (atom id, sketch), of atoms that are still there and have none yet."""
    ids = sorted({atom_id for atom_id, _ in new})
    free = select(atom.c.id).where(
        atom.c.id.in_(ids), ~exists().where(sketch.c.atom_id == atom.c.id)
    )
    wanted = set(tx.scalars(free))
    add_sketches(tx, [one for one in new if one[0] in wanted])


def newest(tx: Connection) -> int:
    """Return the highest id, 0 where there is none; asked for each tensor that is looked for."""
    return int(tx.exec_driver_sql("SELECT max(id) FROM sketch").scalar() or 0)


def signs_after(
    tx: Connection, element_count: int, *, after_id: int, limit: int
) -> list[tuple[int, bytes]]:
    """Return (id, signs) of sketches of so many elements, in the order of their ids."""
    query = (
        select(sketch.c.id, sketch.c.signs)
        .where(sketch.c.element_count == element_count, sketch.c.id > after_id)
        .order_by(sketch.c.id)
        .limit(limit)
    )
    return [(row[0], row[1]) for row in tx.execute(query)]


def _rows() -> Select[tuple[object, ...]]:
    return select(
        sketch.c.id, sketch.c.atom_id, atom.c.digest, atom.c.size_bytes, atom.c.depth,
        sketch.c.first_element, sketch.c.element_count, sketch.c.columns, sketch.c.dtype,
        sketch.c.content,
    ).join_from(sketch, atom, atom.c.id == sketch.c.atom_id).where(atom.c.damaged == 0)  # fmt: skip


_SOME: BindParameter[Any] = bindparam("some", expanding=True)
_BY_IDS = _rows().where(sketch.c.id.in_(_SOME))


def by_ids(tx: Connection, ids: Iterable[int]) -> dict[int, SketchRow]:
    """Return sketches of sound atoms by id; what was removed meanwhile is not there."""
    found: dict[int, SketchRow] = {}
    for piece in batches(sorted(set(ids))):
        for row in tx.execute(_BY_IDS, {"some": piece}).mappings():
            one = SketchRow(**row)
            found[one.id] = one
    return found


def there(tx: Connection, ids: Sequence[int]) -> set[int]:
    """Return which of these ids are still those of a sketch."""
    return set(tx.scalars(select(sketch.c.id).where(sketch.c.id.in_(ids))))


def ids_of_atoms(tx: Connection, digests: Iterable[bytes], element_count: int) -> list[int]:
    """Return the ids of sketches of so many elements of these atoms."""
    found: list[int] = []
    for piece in batches(sorted(set(digests))):
        query = (
            select(sketch.c.id)
            .join_from(atom, sketch, sketch.c.atom_id == atom.c.id)
            .where(atom.c.digest.in_(piece), sketch.c.element_count == element_count)
        )
        found += tx.scalars(query)
    return found


def missing(
    tx: Connection, atom_ids: Sequence[int], *, dtypes: Sequence[str]
) -> list[UnsketchedTensor]:
    """Return those of these atoms that are tensors of one of these types and have no sketch.

    Of several uses of an atom the first one by manifest and place speaks.
    """
    query = (
        select(atom.c.id, atom.c.digest, atom.c.size_bytes, tensor.c.dtype, tensor.c.shape)
        .join_from(atom, tensor, tensor.c.digest == atom.c.digest)
        .where(
            atom.c.id.in_(atom_ids),
            atom.c.damaged == 0,
            tensor.c.dtype.in_(dtypes),
            ~exists().where(sketch.c.atom_id == atom.c.id),
        )
        .order_by(atom.c.id, tensor.c.manifest_id, tensor.c.ordinal)
    )
    found: dict[int, UnsketchedTensor] = {}
    for atom_id, digest, size_bytes, dtype, shape in tx.execute(query):
        if atom_id not in found:
            found[atom_id] = UnsketchedTensor(
                atom_id=atom_id, digest=digest, size_bytes=size_bytes, dtype=dtype,
                shape=decode_json(shape, tuple[int, ...]),
            )  # fmt: skip
    return list(found.values())


def whole(tx: Connection, atom_ids: Iterable[int]) -> dict[int, bytes]:
    """Return {atom id: encoded values} of the sketches that are of an atom's whole tensor."""
    found: dict[int, tuple[int, bytes]] = {}
    for piece in batches(sorted(set(atom_ids))):
        query = select(sketch.c.atom_id, sketch.c.element_count, sketch.c.content).where(
            sketch.c.atom_id.in_(piece), sketch.c.first_element == 0
        )
        for atom_id, count, content in tx.execute(query):
            if atom_id not in found or found[atom_id][0] < count:
                found[atom_id] = (count, content)
    return {atom_id: content for atom_id, (_, content) in found.items()}
