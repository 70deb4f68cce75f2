"""Stating relations: what somebody says that one version is to another, and taking it back."""

import math
from collections.abc import Callable
from typing import Any

import msgspec

from hartonomous.catalog import relations, resolve
from hartonomous.catalog.relations import RelationRow
from hartonomous.catalog.versions import VersionRow
from hartonomous.core.claims import clean
from hartonomous.core.relation import STATABLE
from hartonomous.errors import ConflictError, NotFoundError, UsageError
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.publication import publication
from hartonomous.packs.session import WriteSession

MAX_NOTE = 4000
"""Bytes of a note."""


class Related(msgspec.Struct, frozen=True, kw_only=True):
    """A statement that was made or taken back; ``sequence`` is what `undo` takes."""

    source: str
    kind: str
    target: str
    weight: float | None = None
    note: str = ""
    sequence: int | None = None
    changed: bool = True
    dry_run: bool = False


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A relation that somebody stated; ``stated_us`` is microseconds UTC."""

    source: str
    kind: str
    target: str
    weight: float | None
    note: str
    stated_us: int


def relate(
    parts: StoreParts,
    source: str,
    kind: str,
    target: str,
    *,
    weight: float | None = None,
    note: str = "",
    dry_run: bool = False,
) -> Related:
    """State that ``source`` is ``kind`` (such as ``fine-tune-of``) ``target``.

    ``weight`` is the target's share in a merge. The same again changes nothing. Raises UsageError
    for an unknown kind or a version that is to come from itself, ConflictError where the same
    relation was stated with another weight or note, NotFoundError.
    """
    _check(kind, weight, note)

    def plan(tx: Any, change: Callable[..., Any] | None) -> Related:
        first, second = _ends(tx, source, target)
        held = _held(tx, first, second, kind)
        if held is not None and (held.weight, held.note) != (weight, note):
            raise ConflictError(
                f"{held.source} is {kind} {held.target} already, with another weight or note",
                hint="hart relate --remove takes that back",
            )
        if change is not None and held is None:
            change("relate", **_fields(first, second, kind, weight, note))
        return _related(first, second, kind, weight, note, changed=held is None)

    return _make(parts, plan, dry_run=dry_run)


def unrelate(
    parts: StoreParts, source: str, kind: str, target: str, *, dry_run: bool = False
) -> Related:
    """Take a statement back; raises NotFoundError if nobody made it."""
    _check(kind, None, "")

    def plan(tx: Any, change: Callable[..., Any] | None) -> Related:
        first, second = _ends(tx, source, target)
        held = _held(tx, first, second, kind)
        if held is None:
            raise NotFoundError(
                f"nobody stated that {_spec(first)} is {kind} {_spec(second)}",
                hint="hart relate --list shows what was stated",
            )
        if change is not None:
            change("unrelate", **_fields(first, second, kind, held.weight, held.note))
        return _related(first, second, kind, held.weight, held.note, changed=True)

    return _make(parts, plan, dry_run=dry_run)


def statements(parts: StoreParts, spec: str | None = None) -> tuple[Statement, ...]:
    """Return what was stated between versions in use, about one version or all, oldest first."""
    with parts.database.read() as tx:
        version_id = None if spec is None else resolve.version(tx, spec).id
        rows = relations.stated(tx, version_id)
    return tuple(
        Statement(
            source=row.source, kind=row.kind, target=row.target, weight=row.weight, note=row.note,
            stated_us=row.created_us,
        )
        for row in rows
    )  # fmt: skip


def _make(
    parts: StoreParts, plan: Callable[[Any, Callable[..., Any] | None], Related], *, dry_run: bool
) -> Related:
    if dry_run:
        with parts.database.read() as tx:
            return msgspec.structs.replace(plan(tx, None), dry_run=True)
    with WriteSession(parts) as session, publication(session) as work:
        with parts.database.read() as tx:
            done = plan(tx, work.change)
        if done.changed:
            work.finish()
            done = msgspec.structs.replace(done, sequence=work.sequence)
    return done


def _check(kind: str, weight: float | None, note: str) -> None:
    if kind not in STATABLE:
        raise UsageError(
            f"{kind!r} is no relation that can be stated", hint=f"there are {', '.join(STATABLE)}"
        )
    if weight is not None and not math.isfinite(weight):
        raise UsageError(f"a weight of {weight} is no number")
    size = len(note.encode("utf-8", "surrogatepass"))
    if size > MAX_NOTE or clean(note, MAX_NOTE) != note:
        raise UsageError(
            f"a note has at most {MAX_NOTE} bytes, on one line, without control characters"
        )


def _ends(tx: Any, source: str, target: str) -> tuple[VersionRow, VersionRow]:
    first, second = resolve.version(tx, source), resolve.version(tx, target)
    if first.id == second.id:
        raise UsageError(f"{_spec(first)} cannot come from itself")
    return first, second


def _held(tx: Any, first: VersionRow, second: VersionRow, kind: str) -> RelationRow | None:
    return next(
        (one for one in relations.stated(tx, first.id)
         if one.kind == kind and (one.source_id, one.target_id) == (first.id, second.id)),
        None,
    )  # fmt: skip


def _fields(
    first: VersionRow, second: VersionRow, kind: str, weight: float | None, note: str
) -> dict[str, Any]:
    return {
        "source_uid": first.uid.hex(), "target_uid": second.uid.hex(), "relation": kind,
        "weight": weight, "note": note,
    }  # fmt: skip


def _related(
    first: VersionRow, second: VersionRow, kind: str, weight: float | None, note: str, *,
    changed: bool,
) -> Related:  # fmt: skip
    return Related(
        source=_spec(first), kind=kind, target=_spec(second), weight=weight, note=note,
        changed=changed,
    )  # fmt: skip


def _spec(row: VersionRow) -> str:
    return f"{row.name}@{row.number}"
