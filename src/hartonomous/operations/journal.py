"""The journal: what happened in the store, newest first, with the numbers that `undo` takes."""

from collections.abc import Sequence
from typing import Any

import msgspec

from hartonomous.catalog import artifacts, changes, dropped, replay, versions
from hartonomous.catalog.changes import ChangeRow
from hartonomous.catalog.versions import VersionRow
from hartonomous.errors import UsageError
from hartonomous.packs.parts import StoreParts

MAX_ENTRIES = 1_000_000

_MOST_VALUE_CHARS = 80


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One event; ``name`` is what the artifact is called now, None when it is gone for good."""

    sequence: int
    at_us: int
    action: str
    name: str | None
    detail: str
    versions: tuple[str, ...]
    undoable: bool
    undone: bool


def journal(
    parts: StoreParts, *, limit: int = 50, only_undoable: bool = False
) -> tuple[Entry, ...]:
    """Return the newest ``limit`` additions and changes, newest first.

    ``only_undoable`` leaves out what `undo` would refuse. Raises UsageError for a wrong limit.
    """
    if not 1 <= limit <= MAX_ENTRIES:
        raise UsageError(f"--limit {limit} is not between 1 and {MAX_ENTRIES}")
    with parts.database.read() as tx:
        if only_undoable:
            made = changes.newest(tx, limit, undoable=replay.UNDOABLE)
            found = (_change(tx, row) for row in made)
            return tuple(one for one in found if one.undoable)
        entries = [_change(tx, row) for row in changes.newest(tx, limit)]
        entries += [_addition(row) for row in versions.newest(tx, limit)]
    entries.sort(key=lambda one: one.sequence, reverse=True)
    return tuple(entries[:limit])


def _addition(row: VersionRow) -> Entry:
    return Entry(
        sequence=row.sequence,
        at_us=row.created_us,
        action="add",
        name=row.name,
        detail=f"from {row.source_place}" if row.source_place else "",
        versions=(_spec(row),),
        undoable=False,
        undone=False,
    )


def _change(tx: Any, row: ChangeRow) -> Entry:
    content = row.content
    touched = _touched(tx, content)
    return Entry(
        sequence=row.sequence,
        at_us=row.time_us,
        action=row.action,
        name=_name(tx, content, touched),
        detail=_detail(tx, content, len(touched)),
        versions=tuple(_spec(one) for one in touched),
        undoable=row.action in replay.UNDOABLE
        and not row.undone
        and dropped.is_restorable(tx, row)
        and not changes.speaks_of_none(tx, row),
        undone=row.undone,
    )


def _touched(tx: Any, content: dict[str, Any]) -> list[VersionRow]:
    """Return the versions that a change speaks of, those of them that still exist."""
    uids = content.get("version_uids")
    if uids is None:
        one = content.get("version_uid") or content.get("previous_uid")
        one = one or content.get("source_uid")
        uids = [] if one is None else [one]
    return versions.by_uids(tx, [bytes.fromhex(uid) for uid in uids])


def _name(tx: Any, content: dict[str, Any], touched: Sequence[VersionRow]) -> str | None:
    if touched:
        return touched[0].name
    if "artifact" not in content:
        return None
    artifact = artifacts.by_uid(tx, bytes.fromhex(content["artifact"]))
    return None if artifact is None else artifact.name


def _detail(tx: Any, content: dict[str, Any], there: int) -> str:
    match content["action"]:
        case "label":
            return f"label {content['label']}"
        case "unlabel":
            return f"label {content['label']} taken away"
        case "rename":
            return f"{content['previous_name']} became {content['name']}"
        case "remove":
            return _counted(len(content["version_uids"]), "to the trash", there)
        case "drop-members":
            return f"{', '.join(one['path'] for one in content['members'][:8])} dropped"
        case "purge":
            return _counted(len(content["version_uids"]), "gone for good", None)
        case "annotate":
            pairs = [f"{key}={_begun(value)}" for key, value in sorted(content["metadata"].items())]
            return ", ".join([*content["tags"], *pairs])
        case "renumber":
            return f"version {content['previous_number']} is now {content['number']}"
        case "relate" | "unrelate":
            what = "is" if content["action"] == "relate" else "is no longer stated to be"
            target = versions.by_uids(tx, [bytes.fromhex(content["target_uid"])])
            other = _spec(target[0]) if target else "something gone for good"
            return f"{what} {content['relation']} {other}"
        case "undo":
            done = changes.by_sequence(tx, content["of"])
            what = "change" if done is None else done.action
            return f"{what} {content['of']} taken back"
        case _:
            return ""


def _counted(count: int, what: str, there: int | None) -> str:
    gone = "" if there is None or there == count else f" ({count - there} gone for good since)"
    return f"{count} version{'' if count == 1 else 's'} {what}{gone}"


def _spec(row: VersionRow) -> str:
    return f"{row.name}@{row.number}"


def _begun(value: str) -> str:
    """Return a value for a line: of a long one the beginning."""
    return value if len(value) <= _MOST_VALUE_CHARS else f"{value[:_MOST_VALUE_CHARS]}..."
