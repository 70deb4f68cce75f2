"""What a change did, as events: what it speaks of is looked at before it is applied and after.

So an undo needs no rules of its own here, and a change that changes nothing is no event. See
``docs/events.md`` for the types and their data.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from hartonomous.catalog import artifacts, changes, dropped, relations, versions
from hartonomous.catalog.versions import VersionRow
from hartonomous.core.digest import format_digest
from hartonomous.core.event import MAX_NAMED, NewEvent, short

Content = dict[str, Any]


@dataclass(slots=True)
class _State:
    """What a change speaks of, as it is at one moment. Ids are hexadecimal, as in the change."""

    names: dict[str, str] = field(default_factory=dict)  # artifact -> name
    versions: dict[str, VersionRow] = field(default_factory=dict)  # version -> row
    labels: dict[tuple[str, str], int] = field(default_factory=dict)  # artifact, label -> number
    related: bool = False


class Witness:
    """Looks at what a change is about to touch; ``events`` says what it did."""

    def __init__(self, tx: Connection, content: Content) -> None:
        self._content = content
        self._meant = _meant(tx, content)
        self._before = _look(tx, self._meant)

    def events(self, tx: Connection) -> list[NewEvent]:
        """Return the events of the change, which was applied meanwhile."""
        after = _look(tx, self._meant)
        sequence = self._content["seq"]
        labels = list(_labels(self._before, after))
        # A label is told of while the version that it points to is in use.
        told = [
            *_moved(self._before, after),
            *(one for one in labels if one.type == "artifact.unlabelled"),
            *_removed(tx, self._before, after),
            *(one for one in labels if one.type == "artifact.labelled"),
            *_parts(self._meant, self._before, after),
            *_related(self._meant, self._before, after),
        ]
        if self._content["action"] == "annotate":
            told += _annotated(self._content, after)
        return [one._replace(data={**one.data, "sequence": sequence}) for one in told]


def about_version(row: VersionRow) -> dict[str, Any]:
    """Return what every event about a version says of it."""
    return {
        "artifact": row.artifact_uid.hex(),
        "name": row.name,
        "version": row.number,
        "digest": format_digest(row.digest),
    }


def label_event(
    artifact: str, name: str, label: str, former: int | None, now: int | None
) -> NewEvent | None:
    """Return the event of a label that pointed to one version number and now to another."""
    if former == now:
        return None
    data = {"artifact": artifact, "name": name, "label": label, "previous_version": former}
    if now is None:
        return NewEvent("artifact.unlabelled", name, data)
    return NewEvent("artifact.labelled", name, {**data, "version": now})


def _meant(tx: Connection, content: Content) -> Content:
    """Return the change itself, or the one that it takes back."""
    if content["action"] != "undo":
        return content
    done = changes.by_sequence(tx, content["of"])
    return content if done is None else done.content


def _look(tx: Connection, content: Content) -> _State:
    found = _State()
    uids = list(content.get("version_uids") or ())
    named = ("version_uid", "previous_uid", "source_uid", "target_uid")
    uids += [content[key] for key in named if content.get(key)]
    found.versions = {
        row.uid.hex(): row for row in versions.by_uids(tx, [bytes.fromhex(uid) for uid in uids])
    }
    wanted: dict[str, list[str]] = {}
    if content.get("artifact"):
        wanted[content["artifact"]] = [content["label"]] if content.get("label") else []
    for held in content.get("labels") or ():
        wanted.setdefault(held["artifact"], []).append(held["label"])
    for uid, labels in wanted.items():
        row = artifacts.by_uid(tx, bytes.fromhex(uid))
        if row is not None:
            found.names[uid] = row.name
            numbers = artifacts.labelled_numbers(tx, row.id, labels)
            found.labels.update({(uid, label): number for label, number in numbers.items()})
    found.related = _is_related(tx, content, found)
    return found


def _is_related(tx: Connection, content: Content, found: _State) -> bool:
    ends = [found.versions.get(content.get(end) or "") for end in ("source_uid", "target_uid")]
    first, second = ends
    if first is None or second is None:
        return False
    return relations.is_stated(tx, first.id, second.id, content["relation"])


def _moved(before: _State, after: _State) -> Iterator[NewEvent]:
    for uid, name in after.names.items():
        former = before.names.get(uid, name)
        if former != name:
            data = {"artifact": uid, "name": name, "previous_name": former}
            yield NewEvent("artifact.moved", former, data)


def _labels(before: _State, after: _State) -> Iterator[NewEvent]:
    for key in dict.fromkeys((*before.labels, *after.labels)):
        uid, label = key
        name = after.names.get(uid) or before.names[uid]
        event = label_event(uid, name, label, before.labels.get(key), after.labels.get(key))
        if event is not None:
            yield event


def _removed(tx: Connection, before: _State, after: _State) -> Iterator[NewEvent]:
    left: dict[int, int] = {}
    for uid, row in after.versions.items():
        former = before.versions.get(uid)
        if former is None or (former.removed_us is None) == (row.removed_us is None):
            continue
        if row.artifact_id not in left:
            left[row.artifact_id] = versions.count_in_use(tx, row.artifact_id)
        kind = "artifact.restored" if row.removed_us is None else "artifact.removed"
        data = {**about_version(row), "remaining_count": left[row.artifact_id]}
        yield NewEvent(kind, row.name, data)


def _parts(content: Content, before: _State, after: _State) -> Iterator[NewEvent]:
    if content["action"] != dropped.ACTION:
        return
    row, former = (one.versions.get(content["version_uid"]) for one in (after, before))
    if row is None or former is None or row.file_count == former.file_count:
        return
    gone = row.file_count < former.file_count
    members = content["members"]
    data = {
        **about_version(row),
        "previous_digest": format_digest(former.digest),
        "file_count": abs(former.file_count - row.file_count),
        "logical_bytes": abs(former.size_bytes - row.size_bytes),
        "paths": [short(one["path"]) for one in members[:MAX_NAMED]],
    }
    yield NewEvent(f"artifact.part-{'dropped' if gone else 'restored'}", row.name, data)


def _related(content: Content, before: _State, after: _State) -> Iterator[NewEvent]:
    if before.related == after.related:
        return
    source, target = (after.versions[content[end]] for end in ("source_uid", "target_uid"))
    data = {
        "relation": content["relation"],
        "source": about_version(source),
        "target": about_version(target),
        "weight": content.get("weight"),
        "note": content["note"],
    }
    yield NewEvent(f"relation.{'created' if after.related else 'removed'}", source.name, data)


def _annotated(content: Content, after: _State) -> list[NewEvent]:
    row = after.versions.get(content["version_uid"])
    if row is None:
        return []
    data = {
        **about_version(row),
        "tags": first_of(content["tags"]),
        "metadata_keys": first_of(content["metadata"]),
    }
    return [NewEvent("artifact.annotated", row.name, data)]


def first_of(texts: Iterable[str]) -> list[str]:
    """Return the first few of a list that somebody else wrote."""
    return [short(one) for one in texts][:MAX_NAMED]
