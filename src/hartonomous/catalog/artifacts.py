"""Artifacts: names and what they mean now."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    bindparam,
    delete,
    exists,
    func,
    insert,
    select,
    true,
    update,
)

from hartonomous.catalog.batches import batches
from hartonomous.catalog.patterns import as_it_is, fits, holding
from hartonomous.catalog.schema import artifact, label, version
from hartonomous.core.name import SPACES_FOLDER


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRow:
    """A name with its versions."""

    id: int
    uid: bytes
    name: str
    created_us: int
    removed_us: int | None
    next_number: int


_BY_NAME = select(artifact).where(
    artifact.c.name == bindparam("name"), artifact.c.removed_us.is_(None)
)
_BY_UID = select(artifact).where(artifact.c.uid == bindparam("uid"))


def _one(tx: Connection, query: Select[Any], values: dict[str, Any]) -> ArtifactRow | None:
    row = tx.execute(query, values).mappings().one_or_none()
    return None if row is None else ArtifactRow(**row)


def by_name(tx: Connection, name: str) -> ArtifactRow | None:
    """Return the artifact in use under this name."""
    return _one(tx, _BY_NAME, {"name": name})


def by_uid(tx: Connection, uid: bytes) -> ArtifactRow | None:
    """Return an artifact by uid, the trash included."""
    return _one(tx, _BY_UID, {"uid": uid})


def _shown(text: str) -> ColumnElement[bool]:
    """Return the condition that leaves blocks of vectors out unless ``text`` begins like theirs."""
    if text.startswith(SPACES_FOLDER[0]):
        return true()
    return func.substr(artifact.c.name, 1, len(SPACES_FOLDER)) != SPACES_FOLDER


def names_like(tx: Connection, text: str, *, limit: int = 5) -> list[str]:
    """Return names in use that contain ``text``, for suggestions."""
    query = (
        select(artifact.c.name)
        .where(
            artifact.c.removed_us.is_(None), fits(tx, artifact.c.name, holding(text)), _shown(text)
        )
        .order_by(artifact.c.name)
        .limit(limit)
    )
    return list(tx.scalars(query))


def all_names(tx: Connection, *, limit: int) -> list[str]:
    """Return names in use, in order."""
    query = select(artifact.c.name).where(artifact.c.removed_us.is_(None), _shown(""))
    return list(tx.scalars(query.order_by(artifact.c.name).limit(limit)))


def names_beginning(tx: Connection, text: str, *, limit: int) -> list[str]:
    """Return names in use that begin with ``text``, in order."""
    query = select(artifact.c.name).where(artifact.c.removed_us.is_(None), _shown(text))
    if text:
        query = query.where(func.substr(artifact.c.name, 1, len(text)) == text)
    return list(tx.scalars(query.order_by(artifact.c.name).limit(limit)))


def names_below(tx: Connection, tail: str, *, limit: int) -> list[str]:
    """Return names in use whose last part, behind a slash, is ``tail``; case counts."""
    query = select(artifact.c.name).where(
        artifact.c.removed_us.is_(None),
        fits(tx, artifact.c.name, f"%/{as_it_is(tail)}"),
        func.substr(artifact.c.name, func.length(artifact.c.name) - len(tail)) == f"/{tail}",
    )
    return list(tx.scalars(query.order_by(artifact.c.name).limit(limit)))


def add(tx: Connection, *, uid: bytes, name: str, now_us: int) -> int:
    """Create an artifact and return its id; the unique index refuses a taken name."""
    return int(
        tx.execute(
            insert(artifact)
            .values(uid=uid, name=name, created_us=now_us, next_number=1)
            .returning(artifact.c.id)
        ).scalar_one()
    )


def take_number(tx: Connection, artifact_id: int, at_least: int = 1) -> int:
    """Return the next version number, which is never given again."""
    current = tx.scalar(select(artifact.c.next_number).where(artifact.c.id == artifact_id))
    number = max(int(current or 1), at_least)
    tx.execute(update(artifact).where(artifact.c.id == artifact_id).values(next_number=number + 1))
    return number


def claim_number(tx: Connection, artifact_id: int, wanted: int) -> int:
    """Return the wanted version number, or the next free one where a version has it already."""
    taken = select(version.c.id).where(
        version.c.artifact_id == artifact_id, version.c.number == wanted
    )
    if tx.scalar(taken) is not None:
        return take_number(tx, artifact_id)
    tx.execute(
        update(artifact)
        .where(artifact.c.id == artifact_id, artifact.c.next_number <= wanted)
        .values(next_number=wanted + 1)
    )
    return wanted


def rename(tx: Connection, artifact_id: int, name: str) -> None:
    """Give an artifact another name."""
    tx.execute(update(artifact).where(artifact.c.id == artifact_id).values(name=name))


def set_removed(tx: Connection, artifact_id: int, removed_us: int | None) -> None:
    """Put an artifact into the trash, or take it out with None."""
    tx.execute(update(artifact).where(artifact.c.id == artifact_id).values(removed_us=removed_us))


def labels(tx: Connection, artifact_id: int) -> dict[str, int]:
    """Return {label: version id}."""
    query = select(label.c.name, label.c.version_id).where(label.c.artifact_id == artifact_id)
    return {row[0]: row[1] for row in tx.execute(query)}


def labelled_numbers(tx: Connection, artifact_id: int, names: Iterable[str]) -> dict[str, int]:
    """Return {label: version number} of those of an artifact's labels that have these names."""
    found: dict[str, int] = {}
    for some in batches(list(names)):
        query = (
            select(label.c.name, version.c.number)
            .join(version, version.c.id == label.c.version_id)
            .where(label.c.artifact_id == artifact_id, label.c.name.in_(some))
        )
        found.update({row[0]: row[1] for row in tx.execute(query)})
    return found


def all_labels(tx: Connection) -> dict[int, list[str]]:
    """Return {version id: labels} over the whole store."""
    found: dict[int, list[str]] = {}
    for version_id, name in tx.execute(select(label.c.version_id, label.c.name)):
        found.setdefault(version_id, []).append(name)
    return {version_id: sorted(names) for version_id, names in found.items()}


def set_label(tx: Connection, artifact_id: int, name: str, version_id: int) -> None:
    """Point a label to a version."""
    drop_label(tx, artifact_id, name)
    tx.execute(insert(label).values(artifact_id=artifact_id, name=name, version_id=version_id))


def drop_label(tx: Connection, artifact_id: int, name: str) -> None:
    """Forget a label."""
    tx.execute(delete(label).where(label.c.artifact_id == artifact_id, label.c.name == name))


def remove_empty(tx: Connection, *, limit: int) -> int:
    """Forget at most ``limit`` removed artifacts that have no version left; return how many."""
    empty = (
        select(artifact.c.id)
        .where(
            artifact.c.removed_us.is_not(None),
            ~exists().where(version.c.artifact_id == artifact.c.id),
        )
        .limit(limit)
    )
    ids = list(tx.scalars(empty))
    tx.execute(delete(artifact).where(artifact.c.id.in_(ids)))
    return len(ids)


def having_digest(tx: Connection, low: bytes, high: bytes) -> list[tuple[str, bytes]]:
    """Return (name, version digest) of live versions with a digest in ``[low, high]``."""
    query = (
        select(artifact.c.name, version.c.digest)
        .join(version, version.c.artifact_id == artifact.c.id)
        .where(
            version.c.digest.between(low, high),
            version.c.published == 1,
            version.c.removed_us.is_(None),
            artifact.c.removed_us.is_(None),
        )
        .order_by(artifact.c.name)
    )
    return [(row[0], row[1]) for row in tx.execute(query)]
