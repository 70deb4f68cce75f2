"""What a change does to the rows; the same code applies it when it is made and on repair.

The contents are those of change records in docs/format.md. A change that speaks of a version that
is gone does nothing for it.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from hartonomous.catalog import artifacts, changes, dropped, relations, versions

Content = dict[str, Any]


def apply_change(tx: Connection, content: Content) -> None:
    """Apply a change; unknown actions change nothing, so that newer stores can be read."""
    action = _ACTIONS.get(content["action"])
    if action is not None:
        action(tx, content)


def revert_change(tx: Connection, content: Content) -> None:
    """Apply the opposite of a change that can be undone; of others nothing."""
    opposite = _OPPOSITES.get(content["action"])
    if opposite is not None:
        opposite(tx, content)


def names_given(tx: Connection, content: Content) -> list[tuple[bytes, str]]:
    """Return (artifact uid, name) that come into use when a rename or an undo is applied."""
    undone = content["action"] == "undo"
    if undone:
        done = changes.by_sequence(tx, content["of"])
        if done is None or done.undone:
            return []
        content = done.content
    if content["action"] == "rename":
        uid = bytes.fromhex(content["artifact"])
        artifact = artifacts.by_uid(tx, uid)
        if artifact is None or artifact.removed_us is not None:
            return []
        return [(uid, content["previous_name" if undone else "name"])]
    if content["action"] == "remove" and undone:
        rows = versions.by_uids(tx, [bytes.fromhex(uid) for uid in content["version_uids"]])
        return list({(row.artifact_uid, row.name) for row in rows})
    return []


UNDOABLE = ("label", "unlabel", "rename", "remove", "relate", "unrelate", dropped.ACTION)


def _version_id(tx: Connection, uid: str | None) -> int | None:
    if uid is None:
        return None
    found = versions.by_uids(tx, [bytes.fromhex(uid)])
    return found[0].id if found and found[0].removed_us is None else None


def _point_label(tx: Connection, artifact_uid: str, name: str, uid: str | None) -> None:
    artifact = artifacts.by_uid(tx, bytes.fromhex(artifact_uid))
    if artifact is None:
        return
    version_id = _version_id(tx, uid)
    if version_id is None:
        artifacts.drop_label(tx, artifact.id, name)
    else:
        artifacts.set_label(tx, artifact.id, name, version_id)


def _label(tx: Connection, content: Content) -> None:
    _point_label(tx, content["artifact"], content["label"], content["version_uid"])


def _unlabel(tx: Connection, content: Content) -> None:
    _point_label(tx, content["artifact"], content["label"], None)


def _label_back(tx: Connection, content: Content) -> None:
    _point_label(tx, content["artifact"], content["label"], content["previous_uid"])


def _rename(tx: Connection, content: Content) -> None:
    _rename_to(tx, content["artifact"], content["name"])


def _rename_back(tx: Connection, content: Content) -> None:
    _rename_to(tx, content["artifact"], content["previous_name"])


def _rename_to(tx: Connection, uid: str, name: str) -> None:
    artifact = artifacts.by_uid(tx, bytes.fromhex(uid))
    if artifact is not None:
        artifacts.rename(tx, artifact.id, name)


def _remove(tx: Connection, content: Content) -> None:
    chosen = versions.by_uids(tx, [bytes.fromhex(uid) for uid in content["version_uids"]])
    versions.set_removed(tx, [one.id for one in chosen], content["time_us"])
    for held in content["labels"]:
        _point_label(tx, held["artifact"], held["label"], None)
    for artifact_id in {one.artifact_id for one in chosen}:
        if not versions.of_artifact(tx, artifact_id):
            artifacts.set_removed(tx, artifact_id, content["time_us"])


def _restore(tx: Connection, content: Content) -> None:
    chosen = versions.by_uids(tx, [bytes.fromhex(uid) for uid in content["version_uids"]])
    versions.set_removed(tx, [one.id for one in chosen], None)
    for artifact_id in {one.artifact_id for one in chosen}:
        artifacts.set_removed(tx, artifact_id, None)
    for held in content["labels"]:
        artifact = artifacts.by_uid(tx, bytes.fromhex(held["artifact"]))
        if artifact is not None and held["label"] not in artifacts.labels(tx, artifact.id):
            _point_label(tx, held["artifact"], held["label"], held["version_uid"])


def _undo(tx: Connection, content: Content) -> None:
    done = changes.by_sequence(tx, content["of"])
    if done is not None and not done.undone:
        revert_change(tx, done.content)
        changes.mark_undone(tx, done.sequence)


def _annotate(tx: Connection, content: Content) -> None:
    found = versions.by_uids(tx, [bytes.fromhex(content["version_uid"])])
    if found:
        versions.annotate(tx, found[0].id, tags=content["tags"], metadata=content["metadata"])


def _renumber(tx: Connection, content: Content) -> None:
    found = versions.by_uids(tx, [bytes.fromhex(content["version_uid"])])
    if found:
        versions.set_number(tx, found[0], content["number"])


def _relate(tx: Connection, content: Content) -> None:
    ends = _ends(tx, content)
    if ends is not None:
        weight = content.get("weight")
        new = relations.NewRelation(
            source_id=ends[0],
            target_id=ends[1],
            kind=content["relation"],
            weight=None if weight is None else float(weight),
            note=content["note"],
            created_us=content["time_us"],
        )
        relations.put(tx, new)


def _unrelate(tx: Connection, content: Content) -> None:
    ends = _ends(tx, content)
    if ends is not None:
        relations.remove(tx, ends[0], ends[1], content["relation"])


def _ends(tx: Connection, content: Content) -> tuple[int, int] | None:
    """Return the ids of both versions, in the trash or not; None where one is gone for good."""
    found = [
        versions.by_uids(tx, [bytes.fromhex(content[end])]) for end in ("source_uid", "target_uid")
    ]
    return (found[0][0].id, found[1][0].id) if all(found) else None


_ACTIONS: dict[str, Callable[[Connection, Content], None]] = {
    "label": _label,
    "unlabel": _unlabel,
    "rename": _rename,
    "remove": _remove,
    "undo": _undo,
    "annotate": _annotate,
    "renumber": _renumber,
    dropped.ACTION: dropped.drop,
    "relate": _relate,
    "unrelate": _unrelate,
}
_OPPOSITES: dict[str, Callable[[Connection, Content], None]] = {
    "label": _label_back,
    "unlabel": _label_back,
    "rename": _rename_back,
    "remove": _restore,
    dropped.ACTION: dropped.bring_back,
    "relate": _unrelate,
    "unrelate": _relate,
}
