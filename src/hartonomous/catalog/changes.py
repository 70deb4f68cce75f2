"""The journal of changes: labels, renames, removals, their undoing, the emptied trash."""

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from hartonomous.catalog.batches import batches
from hartonomous.catalog.columns import damaged, numbered
from hartonomous.catalog.schema import artifact, change, label, version
from hartonomous.core.journal_entry import decode_entry
from hartonomous.errors import IntegrityError

_OF_VERSIONS = {"label", "unlabel", "remove", "annotate", "drop-members", "renumber"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRow:
    """One change as its record says it."""

    sequence: int
    time_us: int
    action: str
    content: dict[str, Any]
    undone: bool


def add(tx: Connection, *, content: dict[str, Any], pack_id: int, header_offset: int) -> None:
    """Insert a change whose record is in a sealed pack."""
    tx.execute(
        insert(change).values(
            sequence=content["seq"],
            time_us=content["time_us"],
            action=content["action"],
            content=json.dumps(content),
            undone=0,
            pack_id=pack_id,
            header_offset=header_offset,
        )
    )


def content_of(text: str) -> dict[str, Any]:
    """Return the content of a change from its row; raises IntegrityError where it is none."""
    try:
        return decode_entry(text.encode())
    except (IntegrityError, UnicodeEncodeError) as error:
        raise damaged(f"a change {error}") from error


def _rows(tx: Connection, query: Any) -> list[ChangeRow]:
    return [
        ChangeRow(
            sequence=row.sequence,
            time_us=row.time_us,
            action=row.action,
            content=content_of(row.content),
            undone=bool(row.undone),
        )
        for row in tx.execute(query)
    ]


def by_sequence(tx: Connection, sequence: int) -> ChangeRow | None:
    """Return one change; None where there is none of this number, however large that is."""
    found = _rows(tx, select(change).where(numbered(change.c.sequence, sequence)))
    return found[0] if found else None


def newest_undoable(
    tx: Connection, actions: tuple[str, ...], *, before: int | None = None
) -> ChangeRow | None:
    """Return the newest change of these kinds that was not undone, or the one before a number."""
    query = (
        select(change)
        .where(change.c.action.in_(actions), change.c.undone == 0)
        .order_by(change.c.sequence.desc())
        .limit(1)
    )
    if before is not None:
        query = query.where(change.c.sequence < before)
    found = _rows(tx, query)
    return found[0] if found else None


def newest(
    tx: Connection, limit: int, *, undoable: tuple[str, ...] | None = None
) -> list[ChangeRow]:
    """Return the newest changes first; all, or those of the kinds ``undoable`` not undone yet."""
    query = select(change).order_by(change.c.sequence.desc()).limit(limit)
    if undoable is not None:
        query = query.where(change.c.action.in_(undoable), change.c.undone == 0)
    return _rows(tx, query)


def after(tx: Connection, sequence: int, *, limit: int) -> list[ChangeRow]:
    """Return changes with a greater number, in order, undone ones too."""
    query = select(change).where(change.c.sequence > sequence).order_by(change.c.sequence)
    return _rows(tx, query.limit(limit))


def of_action(
    tx: Connection, action: str, *, containing: str = "", since_us: int | None = None
) -> list[ChangeRow]:
    """Return changes of one kind that were not undone, oldest first.

    ``containing`` is plain text that the record has, such as an id; ``since_us`` a time.
    """
    query = select(change).where(change.c.action == action, change.c.undone == 0)
    if containing:
        query = query.where(change.c.content.contains(containing, autoescape=True))
    if since_us is not None:
        query = query.where(change.c.time_us > since_us)
    return _rows(tx, query.order_by(change.c.sequence))


def mark_undone(tx: Connection, sequence: int) -> None:
    """Remember that a change was undone."""
    tx.execute(update(change).where(change.c.sequence == sequence).values(undone=1))


def remove_pointless(tx: Connection, *, limit: int) -> int:
    """Forget changes all of whose versions are gone, or whose artifact is; return how many.

    At most ``limit`` of them. Replaying them would change nothing. A purge stays as long as one of
    the packs may still hold the commit that it speaks of. What took a label off that no version
    bears now stays too: without it an older commit would have the label again.
    """
    living = {uid.hex() for uid in tx.scalars(select(version.c.uid))}
    names = {uid.hex() for uid in tx.scalars(select(artifact.c.uid))}
    bearing = select(artifact.c.uid, label.c.name).join(label, label.c.artifact_id == artifact.c.id)
    borne = {(uid.hex(), name) for uid, name in tx.execute(bearing)}
    ids: list[int] = []
    query = select(change.c.id, change.c.action, change.c.content, change.c.undone)
    for row in tx.execute(query):
        content = content_of(row.content)
        named = set(content.get("version_uids", []))
        named.update(content[key] for key in ("version_uid", "previous_uid") if content.get(key))
        taken = set() if row.undone else {one for one in _labels_off(content) if one[0] in names}
        if row.action in _OF_VERSIONS and not named & living and not taken - borne:
            ids.append(row.id)
        if row.action == "rename" and content["artifact"] not in names:
            ids.append(row.id)
    tx.execute(delete(change).where(change.c.id.in_(ids[:limit])))
    return len(ids[:limit])


def speaks_of_none(tx: Connection, row: ChangeRow) -> bool:
    """Say whether a change took labels, or versions, away and all of those versions are gone."""
    content = row.content
    if row.action not in ("remove", "unlabel"):
        return False
    told = content["version_uids"] if row.action == "remove" else [content["previous_uid"]]
    uids = [bytes.fromhex(uid) for uid in told]
    return not any(
        tx.scalar(select(version.c.id).where(version.c.uid.in_(some)).limit(1)) is not None
        for some in batches(uids)
    )


def _labels_off(content: dict[str, Any]) -> set[tuple[str, str]]:
    """Return the (artifact uid, label) that a change has point to nothing."""
    if content["action"] == "unlabel":
        return {(content["artifact"], content["label"])}
    if content["action"] == "remove":
        return {(one["artifact"], one["label"]) for one in content["labels"]}
    return set()
