"""The one table of kinds of jobs: what each takes, and the operation that does it.

Another kind is another line in ``KINDS``. A job may run more than once, where its worker was killed
or its lease ran out; so what a kind does must come to the same when it is done again.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from hartonomous.core.job import MAX_RESULT_BYTES
from hartonomous.errors import (
    HartonomousError,
    IntegrityError,
    NotFoundError,
    PartlyDoneError,
    UsageError,
)
from hartonomous.operations import add as adding
from hartonomous.operations import collect as collecting
from hartonomous.operations import embed as embedding
from hartonomous.operations import repack as repacking
from hartonomous.operations import repair as repairing
from hartonomous.operations import verify as verifying
from hartonomous.operations import views as viewing
from hartonomous.packs.open_files import OpenFiles
from hartonomous.packs.parts import StoreParts
from hartonomous.ports.progress import Progress
from hartonomous.settings import Settings
from hartonomous.sources.discover import discover

_MOST_CHARS = 4000
_LISTED = 100
"""A result's lists are kept to this many entries."""


class Work(NamedTuple):
    """What a run receives: the store, the worker's settings, and where progress goes."""

    parts: StoreParts
    settings: Settings
    progress: Progress


class Outcome(NamedTuple):
    """What a run gives: things processed, the report, and the error if something went wrong.

    ``is_final`` says that another run would meet the same error.
    """

    record_count: int
    report: Any
    error: HartonomousError | None = None
    is_final: bool = False


def _anything(_parts: StoreParts, _given: Any) -> None:
    pass


class Kind(NamedTuple):
    """A kind of job. ``alone`` says that nobody else may have the store open meanwhile.

    ``look`` compares checked arguments with what the store has when the job is put; it raises
    NotFoundError or UsageError.
    """

    arguments: type[Any]
    check: Callable[[Any], Any]
    run: Callable[[Work, Any], Outcome]
    alone: bool = False
    look: Callable[[StoreParts, Any], None] = _anything


class _Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class AddArguments(_Arguments, frozen=True, kw_only=True):
    """What ``hart add`` takes; paths are made absolute when the job is put."""

    paths: tuple[str, ...]
    name: str | None = None
    labels: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = {}
    update: bool = False
    move: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    hidden: bool = False
    delta: bool = True

    def options(self) -> adding.AddOptions:
        """Return them as the operation takes them."""
        return adding.AddOptions(
            name=self.name, labels=self.labels, tags=self.tags, metadata=self.metadata,
            update=self.update, move=self.move, include=self.include, exclude=self.exclude,
            hidden=self.hidden, delta=self.delta,
        )  # fmt: skip


class RepackArguments(_Arguments, frozen=True, kw_only=True):
    """What ``hart repack`` takes."""

    max_duration_s: float | None = None
    again: bool = False
    smallest: bool = False


class VerifyArguments(_Arguments, frozen=True, kw_only=True):
    """What ``hart verify`` takes; ``subset`` is a fraction such as ``1/10``."""

    quick: bool = False
    files: bool = False
    subset: str = "1"
    repair: bool = False
    max_duration_s: float | None = None


class GcArguments(_Arguments, frozen=True, kw_only=True):
    """What ``hart gc`` takes; without ``trash_days`` the worker's setting holds."""

    trash_days: float | None = None
    grace_s: float = 3600


class EmbedArguments(_Arguments, frozen=True, kw_only=True):
    """What ``hart embed`` takes."""

    space: str | None = None
    encoder: str | None = None
    modality: str | None = None
    switch: bool = False
    patches: bool | None = None

    def options(self) -> embedding.EmbedOptions:
        """Return them as the operation takes them."""
        return embedding.EmbedOptions(
            space=self.space, encoder=self.encoder, modality=self.modality, switch=self.switch,
            patches=self.patches,
        )  # fmt: skip


class ViewsArguments(_Arguments, frozen=True, kw_only=True):
    """What making views anew takes; ``again`` reads everything, not only by a newer recipe."""

    again: bool = False


class RepairArguments(_Arguments, frozen=True, kw_only=True):
    """``hart repair`` takes nothing."""


def checked(kind: str, arguments: dict[str, Any]) -> tuple[Kind, Any]:
    """Return a kind and its arguments, checked; raises UsageError, and NotFoundError for paths."""
    found = KINDS.get(kind)
    if found is None:
        raise UsageError(
            f"there is no kind of job {kind[:40]!r}", hint=f"one of {', '.join(KINDS)}"
        )
    try:
        given = msgspec.convert(arguments, found.arguments)
    except (msgspec.ValidationError, UnicodeError) as error:
        raise UsageError(
            f"the arguments of a job of the kind {kind} are wrong: {error}",
            hint=f"it takes {', '.join(found.arguments.__struct_fields__) or 'none'}",
        ) from error
    return found, found.check(given)


def bounded(report: Any, messages: list[str]) -> dict[str, Any]:
    """Return a report as JSON of bounded size; ``omitted`` counts what its lists had more."""
    value: dict[str, Any] = _clean(msgspec.to_builtins(report))
    messages = _clean(messages)
    omitted: dict[str, int] = {}
    for name, held in [*value.items(), ("messages", messages)]:
        if isinstance(held, list | tuple) and (held or name in value):
            value[name] = list(held[:_LISTED])
            if len(held) > _LISTED:
                omitted[name] = len(held) - _LISTED
    while len(msgspec.json.encode(value)) > MAX_RESULT_BYTES:
        longest = max(value, key=lambda name: len(msgspec.json.encode(value[name])))
        held = value.pop(longest)
        omitted[longest] = len(held) if isinstance(held, list) else 1
    if omitted:
        value["omitted"] = omitted
    return value


def _clean(value: Any) -> Any:
    """Return a value with texts that JSON can say: names on a disk need not be text."""
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {_clean(name): _clean(held) for name, held in value.items()}
        case list() | tuple():
            return [_clean(held) for held in value]
        case _:
            return value


def described(error: HartonomousError) -> dict[str, str | None]:
    """Return an error as a job keeps it."""
    hint = None if error.hint is None else _clean(error.hint)[:_MOST_CHARS]
    return {"kind": error.kind, "message": _clean(error.message)[:_MOST_CHARS], "hint": hint}


def _check_add(given: AddArguments) -> AddArguments:
    if not given.paths:
        raise UsageError("there is nothing to add", hint="name a path")
    adding.check_options(given.options())
    absolute = tuple(str(Path(path).absolute()) if path else path for path in given.paths)
    # Its generator is not used: it looks whether the paths are there when it is made.
    discover(absolute, include=given.include, exclude=given.exclude, hidden=given.hidden)
    return msgspec.structs.replace(given, paths=absolute)


def _add(work: Work, given: AddArguments) -> Outcome:
    report = adding.add(work.parts, given.paths, options=given.options(), progress=work.progress)
    total = len(report.artifacts)
    error: HartonomousError | None = None
    if not total:
        error = HartonomousError("nothing to add was found", hint="the messages may say why")
    elif report.failed_count:
        first = next(one for one in report.artifacts if one.error)
        kind = HartonomousError if report.failed_count == total else PartlyDoneError
        error = kind(
            f"{report.failed_count} of {total} could not be added: {first.name}: {first.error}"
        )
    elif report.unread_count:
        error = PartlyDoneError(report.unread, hint="the notices and what was skipped name them")
    return Outcome(total, report, error)


def _repack(work: Work, given: RepackArguments) -> Outcome:
    report = repacking.repack(
        work.parts, max_duration_s=given.max_duration_s, again=given.again,
        smallest=given.smallest, progress=work.progress,
    )  # fmt: skip
    return Outcome(report.examined_count, report)


def _check_verify(given: VerifyArguments) -> VerifyArguments:
    try:
        subset = Fraction(given.subset)
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"the subset {given.subset[:40]!r} is no fraction") from error
    if not 0 < subset <= 1 or len(given.subset) > 40:
        raise UsageError(f"the subset {given.subset[:40]} is not between 0 and 1", hint="try 1/10")
    if given.quick and (given.files or given.repair or subset != 1):
        raise UsageError("a quick verify reads no data: files, repair and subset do not go with it")
    return given


def _verify(work: Work, given: VerifyArguments) -> Outcome:
    report = verifying.verify(
        work.parts, quick=given.quick, files=given.files, subset=Fraction(given.subset),
        repair=given.repair, max_duration_s=given.max_duration_s, progress=work.progress,
    )  # fmt: skip
    error = None
    if report.faults:
        error = IntegrityError(
            f"{len(report.faults)} faults found, the first in {report.faults[0].where}",
            hint="'hart verify' says what to do about each",
        )
    return Outcome(report.record_count + report.atom_count, report, error)


def _check_gc(given: GcArguments) -> GcArguments:
    # Infinity is null in JSON: such a job would go by the setting, and empty the trash.
    if given.trash_days is not None and not 0 <= given.trash_days < math.inf:
        raise UsageError(
            f"the trash cannot keep things for {given.trash_days} days",
            hint="give a number from 0 on; 36500 is a hundred years",
        )
    if not 0 <= given.grace_s < math.inf:
        raise UsageError(
            f"packs cannot be left alone for {given.grace_s} s", hint="give seconds from 0 on"
        )
    return given


def _gc(work: Work, given: GcArguments) -> Outcome:
    days = work.settings.trash_days if given.trash_days is None else given.trash_days
    report = collecting.collect(
        work.parts, trash_days=days, event_days=work.settings.event_days,
        job_days=work.settings.job_days, grace_s=given.grace_s, progress=work.progress,
    )  # fmt: skip
    return Outcome(report.atom_count + report.manifest_count, report)


def _check_embed(given: EmbedArguments) -> EmbedArguments:
    embedding.check_options(given.options())
    return given


def _look_embed(parts: StoreParts, given: EmbedArguments) -> None:
    embedding.check_names(parts, given.options())


def _embed(work: Work, given: EmbedArguments) -> Outcome:
    try:
        _look_embed(work.parts, given)
    except NotFoundError as error:  # it was there when the job was put, and was taken away
        return Outcome(0, None, error, is_final=True)
    files = OpenFiles(work.parts)
    try:
        report = embedding.embed(work.parts, files, options=given.options(), progress=work.progress)
    finally:
        files.close()
    return Outcome(report.added_count + report.removed_count, report)


def _views(work: Work, given: ViewsArguments) -> Outcome:
    files = OpenFiles(work.parts)
    try:
        made = viewing.remake_views(
            work.parts, files, again=given.again, progress=work.progress
        )  # fmt: skip
    finally:
        files.close()
    return Outcome(made.read_count, made)


def _repair(work: Work, _given: RepairArguments) -> Outcome:
    report = repairing.repair(work.parts, progress=work.progress)
    error = None
    if report.lost or report.damaged:
        error = IntegrityError(
            f"{len(report.lost)} things could not be brought back whole, "
            f"{len(report.damaged)} records or packs are damaged",
            hint="add the files again from elsewhere; equal bytes fill the holes",
        )
    return Outcome(report.atom_count + report.manifest_count + report.version_count, report, error)


def _as_it_is(given: Any) -> Any:
    return given


KINDS: dict[str, Kind] = {
    "add": Kind(AddArguments, _check_add, _add),
    "repack": Kind(RepackArguments, _as_it_is, _repack),
    "verify": Kind(VerifyArguments, _check_verify, _verify),
    "gc": Kind(GcArguments, _check_gc, _gc),
    "embed": Kind(EmbedArguments, _check_embed, _embed, look=_look_embed),
    "views": Kind(ViewsArguments, _as_it_is, _views),
    "repair": Kind(RepairArguments, _as_it_is, _repair, alone=True),
}
