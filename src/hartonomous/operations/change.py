"""Changes of what is stored: labels, names, parts, the trash, and undoing them.

Each is one record in a pack and one transaction. A change that would change nothing is not made.
"""

import base64
import fnmatch
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from hartonomous.catalog import (
    artifacts,
    changes,
    dropped,
    families,
    manifests,
    replay,
    resolve,
    spaces,
    versions,
)
from hartonomous.catalog.versions import VersionRow
from hartonomous.core.name import SPACES_FOLDER, check_label, check_new_name
from hartonomous.core.quantity import several, size
from hartonomous.core.tree import tree_digest
from hartonomous.errors import ConflictError, NotFoundError, UsageError
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.parts_of_version import MemberPart, check_part, chosen_part, member_parts
from hartonomous.packs.publication import Publication, publication
from hartonomous.packs.session import WriteSession

_MOST_NEEDING = 500
_MOST_NAMED = 8


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """A change that was made, or (``dry_run``) would be; ``sequence`` is what `undo` takes.

    Of what was removed ``base_count`` atoms of ``base_bytes`` are needed by others, for instance by
    the files ``needed_by``.
    """

    action: str
    name: str
    detail: str
    versions: tuple[str, ...] = ()
    sequence: int | None = None
    changed: bool = True
    base_count: int = 0
    base_bytes: int = 0
    needed_by: tuple[str, ...] = ()
    dry_run: bool = False


def _make(
    parts: StoreParts, plan: Callable[[Any, Publication | None], Changed], *, dry_run: bool
) -> Changed:
    """Run ``plan`` with the publication lock held, so that what it read still holds."""
    if dry_run:
        with parts.database.read() as tx:
            return msgspec.structs.replace(plan(tx, None), dry_run=True)
    with WriteSession(parts) as session, publication(session) as work:
        with parts.database.read() as tx:
            done = plan(tx, work)
        if done.changed:
            work.finish()
            done = msgspec.structs.replace(done, sequence=work.sequence)
    return done


def label(parts: StoreParts, spec: str, name: str, *, dry_run: bool = False) -> Changed:
    """Point label ``name`` to the version that ``spec`` means."""
    check_label(name)

    def plan(tx: Any, work: Publication | None) -> Changed:
        row = resolve.version(tx, spec)
        before = _labelled(tx, row, name)
        same = before is not None and before.id == row.id
        if work is not None and not same:
            work.change(
                "label",
                artifact=row.artifact_uid.hex(),
                label=name,
                version_uid=row.uid.hex(),
                previous_uid=None if before is None else before.uid.hex(),
            )
        was = f" (was {before.number})" if before is not None and not same else ""
        return Changed(
            action="label",
            name=row.name,
            detail=f"{name} is version {row.number}{was}{_about_depth(parts, tx, row, name)}",
            versions=(f"{row.name}@{row.number}",),
            changed=not same,
        )

    return _make(parts, plan, dry_run=dry_run)


def _about_depth(parts: StoreParts, tx: Any, row: VersionRow, name: str) -> str:
    """Say what a hot label asks of the store, where it is not so already."""
    if name not in parts.hot_labels:
        return ""
    deep = families.deep_in_version(tx, row.id)
    if not deep:
        return ""
    return f"; 'hart repack' brings {several(deep, 'tensor')} of it to one base at most"


def unlabel(parts: StoreParts, name: str, label_name: str, *, dry_run: bool = False) -> Changed:
    """Forget a label of an artifact; raises NotFoundError if it has none of that name."""

    def plan(tx: Any, work: Publication | None) -> Changed:
        artifact, selector = resolve.split(tx, name)
        if selector is not None:
            raise UsageError(
                "a label is taken from a name, not from one version",
                hint="leave out @ and what follows",
            )
        held = artifacts.labels(tx, artifact.id)
        if label_name not in held:
            raise NotFoundError(
                f"{artifact.name} has no label {label_name!r}",
                hint=f"it has {', '.join(sorted(held)) or 'none'}",
            )
        row = next(
            one for one in versions.of_artifact(tx, artifact.id) if one.id == held[label_name]
        )
        if work is not None:
            work.change(
                "unlabel",
                artifact=artifact.uid.hex(),
                label=label_name,
                previous_uid=row.uid.hex(),
            )
        return Changed(
            action="unlabel",
            name=artifact.name,
            detail=f"{label_name} was version {row.number}",
            versions=(f"{row.name}@{row.number}",),
        )

    return _make(parts, plan, dry_run=dry_run)


def rename(parts: StoreParts, name: str, new_name: str, *, dry_run: bool = False) -> Changed:
    """Give an artifact another name; raises ConflictError if that is taken."""
    new_name = check_new_name(new_name)

    def plan(tx: Any, work: Publication | None) -> Changed:
        artifact, selector = resolve.split(tx, name)
        if selector is not None:
            raise UsageError(
                "a single version cannot be renamed", hint="leave out @ and what follows"
            )
        same = artifact.name == new_name
        if not same and artifacts.by_name(tx, new_name) is not None:
            raise ConflictError(
                f"{new_name!r} is taken", hint="choose another name, or hart rm it first"
            )
        if work is not None and not same:
            work.change(
                "rename",
                artifact=artifact.uid.hex(),
                name=new_name,
                previous_name=artifact.name,
            )
        return Changed(
            action="rename",
            name=new_name,
            detail=f"{artifact.name} is now {new_name}",
            changed=not same,
        )

    return _make(parts, plan, dry_run=dry_run)


def remove(
    parts: StoreParts, specs: Sequence[str], *, keep_last: int | None = None, dry_run: bool = False
) -> Changed:
    """Put versions into the trash, all of them by one change: one `undo` brings them back.

    ``NAME`` means all of its versions, ``NAME@X`` one, a shell pattern (``*``, ``?``, ``[…]``) all
    versions of every name that fits; with ``keep_last`` all but the newest N of each, and none
    that carries a label. A name with such marks in it that exists stands for itself.
    """
    if keep_last is not None and keep_last < 1:
        raise UsageError(f"--keep-last {keep_last} would keep nothing", hint="use 1 or more")
    if not specs:
        raise UsageError("nothing is named", hint="name what is to be removed")

    def plan(tx: Any, work: Publication | None) -> Changed:
        found = [one for spec in specs for one in _to_remove(tx, spec, keep_last)]
        chosen = list({one.id: one for one in found}.values())
        held = {one: artifacts.labels(tx, one) for one in {one.artifact_id for one in chosen}}
        labels = [
            {"artifact": one.artifact_uid.hex(), "label": name, "version_uid": one.uid.hex()}
            for one in chosen
            for name, version_id in sorted(held[one.artifact_id].items())
            if version_id == one.id
        ]
        count, stored, needing = families.only_in(tx, sorted(one.id for one in chosen))
        if work is not None and chosen:
            work.change("remove", version_uids=[one.uid.hex() for one in chosen], labels=labels)
        return Changed(
            action="remove",
            name=_what(specs, chosen),
            detail=_removed(chosen),
            versions=tuple(f"{one.name}@{one.number}" for one in chosen),
            changed=bool(chosen),
            base_count=count,
            base_bytes=stored,
            needed_by=tuple(manifests.file_names(tx, needing[:_MOST_NEEDING], limit=_MOST_NAMED)),
        )

    return _make(parts, plan, dry_run=dry_run)


def _what(specs: Sequence[str], chosen: list[VersionRow]) -> str:
    if len({one.artifact_id for one in chosen}) == 1:
        return chosen[0].name
    more = f" and {len(specs) - _MOST_NAMED} more" if len(specs) > _MOST_NAMED else ""
    return ", ".join(specs[:_MOST_NAMED]) + more


def _removed(chosen: list[VersionRow]) -> str:
    names = len({one.artifact_id for one in chosen})
    of_names = f" of {several(names, 'artifact')}" if names > 1 else ""
    return f"{several(len(chosen), 'version')}{of_names} to the trash"


def _to_remove(tx: Any, spec: str, keep_last: int | None) -> list[VersionRow]:
    try:
        artifact, selector = resolve.split(tx, spec)
    except NotFoundError:
        if any(mark in spec for mark in "*?["):
            return _fitting(tx, spec, keep_last)
        return [resolve.version(tx, spec)]  # a bare digest
    if selector is not None:
        if keep_last is not None:
            raise UsageError(
                "--keep-last takes a name, not one version", hint="leave out @ and what follows"
            )
        return [resolve.version(tx, spec)]
    return _but_last(tx, artifact.id, keep_last)


def _fitting(tx: Any, pattern: str, keep_last: int | None) -> list[VersionRow]:
    fitting = {
        one.artifact_id: None
        for one in versions.live(tx)
        if fnmatch.fnmatchcase(one.name, pattern)
        and (one.kind != spaces.KIND or pattern.startswith(SPACES_FOLDER))
    }
    if not fitting:
        raise NotFoundError(f"no artifact fits {pattern!r}", hint="hart ls shows what is there")
    return [row for artifact_id in fitting for row in _but_last(tx, artifact_id, keep_last)]


def _but_last(tx: Any, artifact_id: int, keep_last: int | None) -> list[VersionRow]:
    found = versions.of_artifact(tx, artifact_id)
    if keep_last is None:
        return found
    labelled = set(artifacts.labels(tx, artifact_id).values())
    return [one for one in found[:-keep_last] if one.id not in labelled]


def drop(parts: StoreParts, spec: str, part: str, *, dry_run: bool = False) -> Changed:
    """Drop the files of a part, ``weights`` or ``optimizer``, from the version ``spec`` means.

    Its digest is then that of the files that are left. Raises UsageError where one file holds both
    parts or nothing would be left, NotFoundError where the version never had the part.
    """
    check_part(part)

    def plan(tx: Any, work: Publication | None) -> Changed:
        row = resolve.version(tx, spec)
        own = f"{row.name}@{row.number}"
        members = member_parts(tx, row.id)
        try:
            chosen = chosen_part(members, part, own)
        except NotFoundError:
            if not dropped.in_force(tx, row.uid):
                raise
            chosen = []
        if work is not None and chosen:
            _drop_members(work, row, members, chosen)
        paths = ", ".join(one.row.path for one in chosen[:8])
        freed = size(sum(one.file.size_bytes for one in chosen))
        return Changed(
            action=dropped.ACTION,
            name=row.name,
            detail=f"{paths} of version {row.number} dropped ({freed})"
            if chosen
            else f"version {row.number} has no {part} any more",
            versions=(own,),
            changed=bool(chosen),
        )

    return _make(parts, plan, dry_run=dry_run)


def _drop_members(
    work: Publication,
    row: VersionRow,
    members: Sequence[MemberPart],
    chosen: Sequence[MemberPart],
) -> None:
    gone = {one.row.path for one in chosen}
    left = [(one.row.path, one.file.file_digest) for one in members if one.row.path not in gone]
    work.change(
        dropped.ACTION,
        version_uid=row.uid.hex(),
        members=[_told(one) for one in chosen],
        digest=tree_digest(left).hex(),
        previous_digest=row.digest.hex(),
    )


def _told(one: MemberPart) -> dict[str, Any]:
    """Return a member as a commit tells of it."""
    told: dict[str, Any] = {
        "path": one.row.path,
        "manifest": one.file.digest.hex(),
        "digest": one.file.file_digest.hex(),
        "size": one.file.size_bytes,
        "mode": one.row.mode,
        "modified_us": one.row.modified_us,
    }
    if one.row.raw_path is not None:
        told["raw_path"] = base64.b64encode(one.row.raw_path).decode()
    return told


def undo(parts: StoreParts, sequence: int | None = None, *, dry_run: bool = False) -> Changed:
    """Take back the newest change, or the one with this sequence number."""

    def plan(tx: Any, work: Publication | None) -> Changed:
        done = _newest_undoable(tx) if sequence is None else changes.by_sequence(tx, sequence)
        if done is None:
            raise NotFoundError(
                "nothing to undo"
                if sequence is None
                else f"no change that can be undone has number {sequence}",
                hint="labels, renames, relations, removals and dropped parts can be undone"
                " ('hart log --undoable');"
                " an addition is taken back by 'hart rm'",
            )
        if done.undone or done.action not in replay.UNDOABLE:
            raise UsageError(
                f"change {done.sequence} ({done.action}) cannot be undone"
                + (" again" if done.undone else "")
            )
        touched = _check_undo(tx, done.content)
        if done.action == dropped.ACTION:
            _check_dropped(tx, done, touched, work)
        if work is not None:
            work.change("undo", of=done.sequence)
        return Changed(
            action="undo",
            name=touched[0].name if touched else _named(tx, done.content),
            detail=f"{done.action} {done.sequence} taken back",
            versions=tuple(f"{one.name}@{one.number}" for one in touched),
        )

    return _make(parts, plan, dry_run=dry_run)


def _newest_undoable(tx: Any) -> changes.ChangeRow | None:
    """Return the newest change that can be undone; what is freed or gone since is passed over."""
    before: int | None = None
    while (row := changes.newest_undoable(tx, replay.UNDOABLE, before=before)) is not None:
        if dropped.is_restorable(tx, row) and not changes.speaks_of_none(tx, row):
            return row
        before = row.sequence
    return None


def _named(tx: Any, content: dict[str, Any]) -> str:
    """Return the name of what a change that is taken back was about, as it is afterwards."""
    if content["action"] == "rename":
        return str(content["previous_name"])
    if "artifact" in content:
        found = artifacts.by_uid(tx, bytes.fromhex(content["artifact"]))
        return "" if found is None else found.name
    uid = content.get("source_uid")  # of a relation
    rows = [] if uid is None else versions.by_uids(tx, [bytes.fromhex(uid)])
    return rows[0].name if rows else ""


def _check_undo(tx: Any, content: dict[str, Any]) -> list[VersionRow]:
    """Refuse an undo that would collide, or whose versions were purged."""
    if content["action"] == "rename":
        name = content["previous_name"]
        taken = artifacts.by_name(tx, name)
        if taken is not None and taken.uid.hex() != content["artifact"]:
            raise ConflictError(f"the former name {name!r} is taken by now", hint="rename that one")
        return []
    if content["action"] == dropped.ACTION:
        return versions.by_uids(tx, [bytes.fromhex(content["version_uid"])])
    if content["action"] != "remove":
        return []
    rows = versions.by_uids(tx, [bytes.fromhex(uid) for uid in content["version_uids"]])
    if len(rows) < len(content["version_uids"]):
        raise NotFoundError("the trash was emptied since; those versions are gone")
    for row in rows:
        taken = artifacts.by_name(tx, row.name)
        if taken is not None and taken.id != row.artifact_id:
            raise ConflictError(
                f"the name {row.name!r} was given to something else since",
                hint=f"hart mv {row.name!r} to another name, then undo",
            )
    return rows


def _check_dropped(
    tx: Any, done: changes.ChangeRow, rows: list[VersionRow], work: Publication | None
) -> None:
    """Refuse to bring back members whose bytes were freed."""
    if not rows:
        raise NotFoundError("the version is gone for good, and so are its parts")
    for one in done.content["members"]:
        digest = bytes.fromhex(one["digest"])
        # Held from here on, so that no collection takes it before the change is made.
        there = manifests.by_file_digest(tx, digest) if work is None else work.hold_file(digest)
        if not there:
            raise NotFoundError(f"the bytes of {one['path']} were freed by 'hart gc' since")


def _labelled(tx: Any, row: VersionRow, name: str) -> VersionRow | None:
    target = artifacts.labels(tx, row.artifact_id).get(name)
    return next(
        (one for one in versions.of_artifact(tx, row.artifact_id) if one.id == target), None
    )
