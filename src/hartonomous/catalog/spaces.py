"""Embedding spaces: which there are, which is searched, and where their vectors are.

Vectors lie in blocks, which are stored files of versions of the kind ``vectors``; the newest are
rows, the tail. A removed vector of a block is a row among the dead.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, case, delete, func, insert, select, type_coerce, update
from sqlalchemy.types import NullType

from hartonomous.catalog import properties
from hartonomous.catalog.batches import batches, insert_rows
from hartonomous.catalog.columns import damaged, decode_json
from hartonomous.catalog.schema import (
    artifact,
    manifest,
    member,
    space,
    space_block,
    space_dead,
    space_tail,
    version,
    version_metadata,
)
from hartonomous.core.name import SPACES_FOLDER
from hartonomous.core.place import Place
from hartonomous.core.row_sum import row_sum
from hartonomous.core.space import Space, is_word
from hartonomous.core.undecodable import UNDECODABLE
from hartonomous.errors import IntegrityError, NotFoundError

KIND = "vectors"
"""The kind of the versions whose files are blocks."""

NAME_KEY = "space"
"""The metadata of such a version that has the space's name."""

BUILDING, CURRENT, RETIRED = "building", "current", "retired"
STATES = (BUILDING, CURRENT, RETIRED)
MEANING, LIKENESS, OWN = "meaning", "likeness", "own"
DETERMINISTIC = "deterministic/"
"""How the recipes of spaces begin that need no model."""
IMPORTED = "imported/"
_SEEN = "spaces_seen"


class _KeptPlace(Place, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A place as a row of the tail has it. ``sum`` is that of the row; older rows have none."""

    sum: bytes = b""


_PLACES = msgspec.msgpack.Decoder(Place)
_KEPT_PLACES = msgspec.msgpack.Decoder(_KeptPlace)


class SpaceRow(msgspec.Struct, frozen=True, kw_only=True):
    """A space of this catalog. ``uid`` changes when the catalog, and so the ids, are made anew.

    ``epoch`` grows with each change of its vectors. ``switched_us`` is None of one that is searched
    as the first of its use, until it was complete once.
    """

    id: int
    uid: bytes
    name: str
    space: Space
    use: str
    state: str
    engine: str
    next_id: int
    epoch: int
    created_us: int
    switched_us: int | None


class BlockRow(msgspec.Struct, frozen=True, kw_only=True):
    """A block: an id in its file plus ``id_offset`` is the vector's id."""

    version_uid: bytes
    file_digest: bytes
    first_id: int
    last_id: int
    id_offset: int
    row_count: int


_RAW_ID = type_coerce(space_tail.c.id, NullType())


class TailRow(msgspec.Struct, frozen=True, kw_only=True):
    """A vector that is in no block yet; ``vector`` has the space's type, little-endian."""

    id: int
    place: Place
    vector: bytes


class StoredBlock(msgspec.Struct, frozen=True, kw_only=True):
    """A version of the kind ``vectors`` in use, with the file that it has.

    ``space_name`` is what its space was called where it was written.
    """

    version_uid: bytes
    name: str
    file_digest: bytes
    space_name: str | None


def use_of(made: Space) -> str:
    """Return what a space is for: one space of each use of a modality is searched.

    ``meaning`` where an encoder computes it, ``likeness`` where nothing but a rule does, ``own``
    where somebody brought the vectors.
    """
    if made.recipe.startswith(IMPORTED):
        return OWN
    return LIKENESS if made.recipe.startswith(DETERMINISTIC) else MEANING


# -- spaces


def free_name(tx: Connection, made: Space) -> str:
    """Return a name for a new space: its encoder's, with its modality, type or key if taken.

    A block may say anything of its encoder: what people could not have named gives no name.
    """
    base = made.encoder if is_word(made.encoder) else made.modality
    taken = by_name(tx, base)
    if taken is None:
        return base
    names = [f"{base}-{made.quantisation}", f"{base}-{made.modality}"]
    if taken.space.modality != made.modality:  # the other of an encoder of both
        names.reverse()
    for name in names:
        if is_word(name) and by_name(tx, name) is None:
            return name
    return f"{base}-{made.key[:8]}"


def add(tx: Connection, made: Space, *, name: str, use: str, state: str, now_us: int) -> SpaceRow:
    """Keep a space that is not there yet; the unique indexes refuse a taken name."""
    tx.execute(
        insert(space).values(
            uid=os.urandom(16), key=made.key, name=name,
            content=msgspec.json.encode(made, order="deterministic").decode(),
            modality=made.modality, use=use, state=state, engine="auto",
            next_id=1, epoch=0, created_us=now_us,
        )
    )  # fmt: skip
    found = by_key(tx, made.key)
    assert found is not None, "it was just put"
    return found


def listed(tx: Connection) -> list[SpaceRow]:
    """Return every space, in order of name."""
    return [_space(row) for row in tx.execute(select(*space.c).order_by(space.c.name))]


def by_name(tx: Connection, name: str) -> SpaceRow | None:
    """Return a space by name."""
    row = tx.execute(select(*space.c).where(space.c.name == name)).one_or_none()
    return None if row is None else _space(row)


def by_key(tx: Connection, key: str) -> SpaceRow | None:
    """Return a space by its identity, ``Space.key``."""
    row = tx.execute(select(*space.c).where(space.c.key == key)).one_or_none()
    return None if row is None else _space(row)


def by_id(tx: Connection, space_id: int) -> SpaceRow | None:
    """Return a space by its row's id."""
    row = tx.execute(select(*space.c).where(space.c.id == space_id)).one_or_none()
    return None if row is None else _space(row)


def current(tx: Connection, modality: str, use: str) -> SpaceRow | None:
    """Return the space that searches of a modality use."""
    query = select(*space.c).where(
        space.c.modality == modality, space.c.use == use, space.c.state == CURRENT
    )
    row = tx.execute(query).one_or_none()
    return None if row is None else _space(row)


def current_ones(tx: Connection, *uses: str) -> dict[str, SpaceRow]:
    """Return {modality: space} of those that searches use, by the first use that has one."""
    query = select(*space.c).where(space.c.use.in_(uses), space.c.state == CURRENT)
    found = [_space(row) for row in tx.execute(query)]
    found.sort(key=lambda one: -uses.index(one.use))
    return {one.space.modality: one for one in found}


def switch(tx: Connection, row: SpaceRow, *, now_us: int) -> None:
    """Make a space the one that is searched; the one before is retired.

    Raises NotFoundError where it was removed meanwhile.
    """
    if by_id(tx, row.id) is None:
        raise NotFoundError(f"the space {row.name} is gone")
    tx.execute(
        update(space)
        .where(
            space.c.modality == row.space.modality, space.c.use == row.use,
            space.c.state == CURRENT, space.c.id != row.id,
        )
        .values(state=RETIRED)
    )  # fmt: skip
    tx.execute(update(space).where(space.c.id == row.id).values(state=CURRENT, switched_us=now_us))


def completed(tx: Connection, row: SpaceRow, *, now_us: int) -> None:
    """Remember that a space that was searched from its beginning has what it lacked."""
    here = (space.c.id == row.id, space.c.state == CURRENT, space.c.switched_us.is_(None))
    tx.execute(update(space).where(*here).values(switched_us=now_us))


def set_engine(tx: Connection, space_id: int, engine: str) -> None:
    """Say which index a space has from now on."""
    tx.execute(update(space).where(space.c.id == space_id).values(engine=engine))


def remove(tx: Connection, space_id: int) -> None:
    """Forget a space with its tail and its list of blocks; the blocks' versions stay."""
    for table in (space_tail, space_dead, space_block):
        tx.execute(delete(table).where(table.c.space_id == space_id))
    tx.execute(delete(space).where(space.c.id == space_id))


def epoch(tx: Connection, space_id: int) -> int | None:
    """Return a number that grows with each change of a space's vectors; None if it is gone."""
    return tx.scalar(select(space.c.epoch).where(space.c.id == space_id))


def _changed(tx: Connection, space_id: int) -> None:
    tx.execute(update(space).where(space.c.id == space_id).values(epoch=space.c.epoch + 1))


def take_ids(tx: Connection, space_id: int, count: int) -> int:
    """Return the first of ``count`` new ids; raises NotFoundError for a space gone."""
    query = select(space.c.next_id).where(space.c.id == space_id).with_for_update()
    found = tx.execute(query).scalar_one_or_none()
    if found is None:
        raise NotFoundError("the space is gone", hint="it was removed meanwhile")
    first = int(found)
    tx.execute(update(space).where(space.c.id == space_id).values(next_id=first + count))
    return first


# -- the tail


def add_tail(tx: Connection, space_id: int, rows: Sequence[tuple[Place, bytes]]) -> int:
    """Append vectors with their places; return the first one's id."""
    first = take_ids(tx, space_id, len(rows))
    columns = [space_tail.c.space_id, space_tail.c.id, space_tail.c.place, space_tail.c.vector]
    insert_rows(
        tx, columns,
        ((space_id, first + at, _kept(first + at, place, vector), vector)
         for at, (place, vector) in enumerate(rows)),
    )  # fmt: skip
    _changed(tx, space_id)
    return first


def tail(tx: Connection, of: SpaceRow) -> list[TailRow]:
    """Return a space's tail, in order of id; raises IntegrityError for a row that is damaged."""
    found: list[TailRow] = []
    for row in _tail(tx, of.id):
        one = _tail_row(row, of.space.vector_bytes)
        if one is None:
            raise _damaged_row(of, row[0])
        found.append(one)
    return found


def tail_ids(tx: Connection, space_id: int) -> list[int]:
    """Return the ids of the tail, ascending."""
    query = select(space_tail.c.id).where(space_tail.c.space_id == space_id)
    return list(tx.scalars(query.order_by(space_tail.c.id)))


def sound_and_damaged_tail(tx: Connection, of: SpaceRow) -> tuple[list[int], list[Any]]:
    """Return the ids of the rows of a space's tail as they were written, and of those that are not.

    The latter are whatever stands there, which may be no number.
    """
    sound: list[int] = []
    others: list[Any] = []
    for row in _tail(tx, of.id):
        one = _tail_row(row, of.space.vector_bytes)
        if one is None:
            others.append(row[0])
        else:
            sound.append(one.id)
    return sound, others


def _tail(tx: Connection, space_id: int) -> Iterable[Row[Any]]:
    # As it stands there: the types' own checks would tell of no row, and end the list.
    held: list[Any] = [
        type_coerce(one, NullType()) for one in (space_tail.c.place, space_tail.c.vector)
    ]
    if tx.dialect.name == "sqlite":  # which cannot even give a text that is no UTF-8
        held = [case((func.typeof(one) == "blob", one)) for one in held]
    query = (
        select(_RAW_ID, *held).where(space_tail.c.space_id == space_id).order_by(space_tail.c.id)
    )
    return tx.execute(query)


def _tail_row(row: Any, vector_bytes: int) -> TailRow | None:
    """Return a row of the tail, None where it is not what was written."""
    vector_id, content, vector = (bytes(one) if type(one) is memoryview else one for one in row)
    if type(vector_id) is not int or type(content) is not bytes or type(vector) is not bytes:
        return None
    if vector_id < 1 or len(vector) != vector_bytes:
        return None
    try:
        kept, place = _KEPT_PLACES.decode(content), _PLACES.decode(content)
    except UNDECODABLE:
        return None
    if kept.sum and kept.sum != _sum(vector_id, place, vector):
        return None
    return TailRow(id=vector_id, place=place, vector=vector)


def _damaged_row(of: SpaceRow, vector_id: object) -> IntegrityError:
    hint = "hart verify --repair removes it, and hart embed makes it anew"
    if of.use == OWN:
        hint = "hart verify names it; hart spaces import brings it again"
    return IntegrityError(
        f"the catalog is damaged: the vector {vector_id!r:.40} of the space {of.name} is not what "
        "was written",
        hint=hint,
    )


def _kept(vector_id: int, place: Place, vector: bytes) -> bytes:
    """Return a place as it is kept, with the sum of its row."""
    kept = _KeptPlace(**msgspec.structs.asdict(place), sum=_sum(vector_id, place, vector))
    return msgspec.msgpack.encode(kept)


def _sum(vector_id: int, place: Place, vector: bytes) -> bytes:
    return row_sum(vector_id, msgspec.msgpack.encode(place), vector)


def tail_count(tx: Connection, space_id: int) -> int:
    """Return how many vectors the tail has."""
    return int(tx.scalar(select(func.count()).where(space_tail.c.space_id == space_id)) or 0)


def drop_tail(tx: Connection, space_id: int, ids: Sequence[Any]) -> None:
    """Forget vectors of the tail; of damaged rows the ids may be anything."""
    for piece in batches(ids):
        tx.execute(delete(space_tail).where(space_tail.c.space_id == space_id, _RAW_ID.in_(piece)))
    _changed(tx, space_id)


# -- the blocks


def add_block(tx: Connection, space_id: int, row: BlockRow) -> None:
    """Count a block in; the space's ids go on behind it."""
    tx.execute(insert(space_block).values(space_id=space_id, **msgspec.structs.asdict(row)))
    tx.execute(
        update(space)
        .where(space.c.id == space_id, space.c.next_id <= row.last_id)
        .values(next_id=row.last_id + 1)
    )
    _changed(tx, space_id)


def blocks(tx: Connection, space_id: int) -> list[BlockRow]:
    """Return a space's blocks, in order of id."""
    query = (
        select(space_block.c.version_uid, space_block.c.file_digest, space_block.c.first_id,
               space_block.c.last_id, space_block.c.id_offset, space_block.c.row_count)
        .where(space_block.c.space_id == space_id)
        .order_by(space_block.c.first_id)
    )  # fmt: skip
    names = BlockRow.__struct_fields__
    return [BlockRow(**dict(zip(names, row, strict=True))) for row in tx.execute(query)]


def drop_block(tx: Connection, space_id: int, row: BlockRow) -> None:
    """Count a block out, and its dead vectors with it."""
    tx.execute(
        delete(space_block).where(
            space_block.c.space_id == space_id, space_block.c.version_uid == row.version_uid
        )
    )
    tx.execute(
        delete(space_dead).where(
            space_dead.c.space_id == space_id, space_dead.c.id.between(row.first_id, row.last_id)
        )
    )
    _changed(tx, space_id)


def stored_blocks(tx: Connection) -> list[StoredBlock]:
    """Return every version of the kind ``vectors`` in use, by sequence."""
    query = (
        select(
            version.c.uid, artifact.c.name, manifest.c.file_digest,
            func.coalesce(version_metadata.c.value, ""),
        )
        .join(artifact, artifact.c.id == version.c.artifact_id)
        .join(member, (member.c.version_id == version.c.id) & (member.c.ordinal == 0))
        .join(manifest, manifest.c.id == member.c.manifest_id)
        .outerjoin(
            version_metadata,
            (version_metadata.c.version_id == version.c.id) & (version_metadata.c.key == NAME_KEY),
        )
        .where(
            version.c.kind == KIND, version.c.published == 1, version.c.removed_us.is_(None),
            artifact.c.removed_us.is_(None),
        )
        .order_by(version.c.sequence, version.c.id)
    )  # fmt: skip
    return [
        StoredBlock(version_uid=row[0], name=row[1], file_digest=row[2], space_name=row[3] or None)
        for row in tx.execute(query)
        if row[1].startswith(SPACES_FOLDER)
    ]


# -- the dead


def dead(tx: Connection, space_id: int) -> list[int]:
    """Return the ids of the vectors of blocks that no longer count, ascending."""
    query = select(space_dead.c.id).where(space_dead.c.space_id == space_id)
    return list(tx.scalars(query.order_by(space_dead.c.id)))


def add_dead(tx: Connection, space_id: int, ids: Iterable[int]) -> None:
    """Let vectors of blocks no longer count; none of them may be dead already."""
    columns = [space_dead.c.space_id, space_dead.c.id]
    insert_rows(tx, columns, ((space_id, one) for one in ids))
    _changed(tx, space_id)


def dead_count(tx: Connection, space_id: int) -> int:
    """Return how many vectors of blocks no longer count."""
    return int(tx.scalar(select(func.count()).where(space_dead.c.space_id == space_id)) or 0)


# -- what is known of the blocks that are stored


def unseen(tx: Connection) -> int | None:
    """Return the newest publication's number where the blocks were not looked at since."""
    sequence, _ = properties.last_publication(tx)
    return None if properties.get(tx, _SEEN) == str(sequence) else sequence


def set_seen(tx: Connection, sequence: int) -> None:
    """Say up to which publication the blocks were looked at."""
    properties.put(tx, _SEEN, str(sequence))


def _space(row: Row[Any]) -> SpaceRow:
    held = row._mapping
    found: Space = decode_json(held["content"], Space)
    told = held["key"], held["modality"]
    if told != (found.key, found.modality) or held["state"] not in STATES:
        raise damaged("a space is not what its key says")
    return SpaceRow(
        id=held["id"], uid=held["uid"], name=held["name"], space=found, use=held["use"],
        state=held["state"], engine=held["engine"], next_id=held["next_id"], epoch=held["epoch"],
        created_us=held["created_us"], switched_us=held["switched_us"],
    )  # fmt: skip
