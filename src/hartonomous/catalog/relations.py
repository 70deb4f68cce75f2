"""Stated relations: what somebody said that one version is to another."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, or_, select

from hartonomous.catalog.columns import damaged
from hartonomous.catalog.schema import artifact, relation, version


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRelation:
    """A statement: the source is ``kind`` (such as ``fine-tune-of``) the target."""

    source_id: int
    target_id: int
    kind: str
    weight: float | None
    note: str
    created_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationRow:
    """A statement about two versions, with their names; times are microseconds UTC."""

    source_id: int
    source: str
    target_id: int
    target: str
    kind: str
    weight: float | None
    note: str
    created_us: int


def put(tx: Connection, new: NewRelation) -> None:
    """State a relation; one of the same kind between the same versions is replaced."""
    remove(tx, new.source_id, new.target_id, new.kind)
    tx.execute(
        insert(relation).values(
            source_version_id=new.source_id,
            target_version_id=new.target_id,
            kind=new.kind,
            weight=None if new.weight is None else repr(new.weight),
            note=new.note,
            created_us=new.created_us,
        )
    )


def remove(tx: Connection, source_id: int, target_id: int, kind: str) -> bool:
    """Take a statement back; False if there was none."""
    done = tx.execute(
        delete(relation).where(
            relation.c.source_version_id == source_id,
            relation.c.target_version_id == target_id,
            relation.c.kind == kind,
        )
    )
    return bool(done.rowcount)


def is_stated(tx: Connection, source_id: int, target_id: int, kind: str) -> bool:
    """Say whether somebody stated this of two versions, in use or not."""
    query = select(relation.c.kind).where(
        relation.c.source_version_id == source_id,
        relation.c.target_version_id == target_id,
        relation.c.kind == kind,
    )
    return tx.execute(query).one_or_none() is not None


def forget(tx: Connection, version_id: int) -> None:
    """Drop every statement about a version that goes for good."""
    tx.execute(
        delete(relation).where(
            or_(
                relation.c.source_version_id == version_id,
                relation.c.target_version_id == version_id,
            )
        )
    )


def stated(tx: Connection, version_id: int | None = None) -> list[RelationRow]:
    """Return statements between versions in use, about one version or all, oldest first."""
    source, target = version.alias(), version.alias()
    source_name, target_name = artifact.alias(), artifact.alias()
    query = (
        select(
            source.c.id, source_name.c.name, source.c.number, target.c.id, target_name.c.name,
            target.c.number, relation.c.kind, relation.c.weight, relation.c.note,
            relation.c.created_us,
        )
        .join(source, source.c.id == relation.c.source_version_id)
        .join(target, target.c.id == relation.c.target_version_id)
        .join(source_name, source_name.c.id == source.c.artifact_id)
        .join(target_name, target_name.c.id == target.c.artifact_id)
        .where(source.c.removed_us.is_(None), target.c.removed_us.is_(None))
        .order_by(relation.c.created_us, relation.c.kind, source.c.id, target.c.id)
    )  # fmt: skip
    if version_id is not None:
        query = query.where(or_(source.c.id == version_id, target.c.id == version_id))
    return [
        RelationRow(
            source_id=row[0], source=f"{row[1]}@{row[2]}", target_id=row[3],
            target=f"{row[4]}@{row[5]}", kind=row[6], weight=weight_of(row[7]), note=row[8],
            created_us=row[9],
        )
        for row in tx.execute(query)
    ]  # fmt: skip


def weight_of(text: str | None) -> float | None:
    """Return the weight that a row holds as text; raises IntegrityError where it is no number."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise damaged(f"a relation's weight is {text[:40]!r}") from error
