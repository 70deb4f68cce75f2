"""``hart jobs``: what waits, runs and has ended."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import click

from hartonomous.cli.commands import Entry
from hartonomous.cli.frame import HartGroup
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.page import Block, Cell, Column, Fields, Style, Table
from hartonomous.cli.quantities import Duration
from hartonomous.cli.sizes import duration, moment, size
from hartonomous.cli.text import clean
from hartonomous.core.job import MAX_KEY_CHARS
from hartonomous.errors import ConflictError, HartonomousError, UsageError, all_kinds

if TYPE_CHECKING:
    from hartonomous.core.job import Job
    from hartonomous.worker.queue import Jobs

_SECTION = "Jobs"
_MODULE = "hartonomous.cli.jobs"
_STYLES: dict[str, Style] = {
    "done": "good", "dead": "bad", "failed": "warn", "cancelled": "dim",
}  # fmt: skip
_STATUSES = ["pending", "running", "failed", "done", "dead", "cancelled"]

command = HartGroup(
    "jobs",
    table={
        "ls": Entry(f"{_MODULE}:ls", "List jobs, the newest first.", _SECTION),
        "show": Entry(f"{_MODULE}:show", "Show everything that is known of one job.", _SECTION),
        "wait": Entry(f"{_MODULE}:wait", "Wait until a job has ended.", _SECTION),
        "retry": Entry(f"{_MODULE}:retry", "Let jobs that failed or are dead run again.", _SECTION),
        "cancel": Entry(f"{_MODULE}:cancel", "Cancel jobs.", _SECTION),
        "dead": Entry(f"{_MODULE}:dead", "List jobs that failed too often.", _SECTION),
    },
    sections=(_SECTION,),
    help="""Look at jobs, wait for them, retry or cancel them.

    --background puts jobs, and so do schedules; 'hart worker' runs them. A job is
    pending, running, failed (and waits for its retry), done, dead (somebody has to look) or
    cancelled. 'hart gc' forgets jobs that ended 30 days ago (the setting job_days).""",
)


class _Number(click.IntRange):
    """The number of a job."""

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:  # fmt: skip
        """Return the number, or say what is wanted."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            raise click.BadParameter(
                f"{value!r} is no job's number; 'hart jobs ls' shows them", ctx, param
            ) from error


_ids = click.argument("ids", nargs=-1, required=True, metavar="ID...", type=_Number())
_limit = click.option(
    "--limit", type=click.IntRange(1, 1_000_000), default=50, metavar="N", show_default=True,
    help="Show at most N jobs.",
)  # fmt: skip


@make_command("ls")
@click.option(
    "--status", "statuses", multiple=True, type=click.Choice(_STATUSES),
    help="Only jobs of this status; may be given several times.",
)  # fmt: skip
@click.option("--kind", metavar="KIND", help="Only jobs of this kind.")
@_limit
@click.pass_obj
def ls(invocation: Invocation, *, statuses: tuple[str, ...], kind: str | None, limit: int) -> None:
    """List jobs, the newest first."""
    with invocation.store() as store:
        wrong: dict[int, str] = {}
        found = store.jobs.list(statuses=statuses, kind=kind, limit=limit, wrong=wrong)
    if kind is not None and not found and not wrong:
        _check_kind(kind)
    _emit(invocation, found, wrong)


@make_command("dead")
@_limit
@click.pass_obj
def dead(invocation: Invocation, *, limit: int) -> None:
    """List jobs that failed too often.

    They wait for somebody: 'hart jobs retry ID' lets one run again.
    """
    with invocation.store() as store:
        wrong: dict[int, str] = {}
        found = store.jobs.list(statuses=["dead"], limit=limit, wrong=wrong)
    _emit(invocation, found, wrong)


@make_command("show")
@click.argument("job_id", metavar="ID", type=_Number())
@click.pass_obj
def show(invocation: Invocation, *, job_id: int) -> None:
    """Show everything that is known of one job."""
    with invocation.store() as store:
        found = store.jobs.get(job_id)
    invocation.output.emit(found, human=_page, ids=lambda one: [str(one.id)])


@make_command("wait")
@click.argument("job_id", metavar="ID", type=_Number())
@click.option(
    "--timeout", "timeout_s", type=Duration(), metavar="10m",
    help="Give up after this time, with 130; the job goes on.",
)  # fmt: skip
@click.pass_obj
def wait(invocation: Invocation, *, job_id: int, timeout_s: float | None) -> None:
    """Wait until a job has ended.

    Ends with 0 when it is done, as the command itself would have ended when it is dead, and with 11
    when it was cancelled.
    """
    with invocation.store() as store:
        found = store.jobs.wait(job_id, timeout_s=timeout_s)
    invocation.output.emit(found, human=_page, ids=lambda one: [str(one.id)])
    if found.status != "done":
        _fail(found)


@make_command("retry")
@_ids
@click.pass_obj
def retry(invocation: Invocation, *, ids: tuple[int, ...]) -> None:
    """Let jobs that failed or are dead run again.

    They are due at once and have all their attempts again; cancelled ones, too. Where one of the
    numbers is no job's, nothing is done.
    """
    with invocation.store() as store:
        _each(invocation, store.jobs, ids, store.jobs.retry)


@make_command("cancel")
@_ids
@click.pass_obj
def cancel(invocation: Invocation, *, ids: tuple[int, ...]) -> None:
    """Cancel jobs.

    One that waits is cancelled at once; one that runs within seconds, at its next heartbeat. What
    it did until then is kept, and the store is whole. Where one of the numbers is no job's, nothing
    is done.
    """
    with invocation.store() as store:
        _each(invocation, store.jobs, ids, store.jobs.cancel)


def _each(
    invocation: Invocation, queue: "Jobs", ids: Iterable[int], do: Callable[[int], "Job"]
) -> None:
    """Do something with each job, nothing where one is not there; show what became of them."""
    for job_id in ids:
        queue.get(job_id)
    done: list[Job] = []
    try:
        for job_id in ids:
            done.append(do(job_id))  # what was done is shown where the next fails
    finally:
        if done:
            _emit(invocation, done)


def _check_kind(kind: str) -> None:
    """Raise UsageError for a kind that there is not: a newer version's job may have another."""
    from hartonomous.worker.kinds import KINDS  # all that jobs can do: 60 ms

    if kind not in KINDS:
        raise UsageError(f"there is no kind of job {kind!r}", hint=f"one of {', '.join(KINDS)}")


def _emit(
    invocation: Invocation, found: list["Job"], wrong: Mapping[int, str] | None = None
) -> None:
    for number, why in (wrong or {}).items():
        click.echo(f"hart: note: job {number} is damaged: {clean(why)}", err=True)
    if not found and not wrong and invocation.output.is_for_people:
        click.echo("hart: note: nothing to show", err=True)
    invocation.output.emit_each(found, human=_table, ids=lambda one: str(one.id))


def _fail(found: "Job") -> NoReturn:
    if found.status != "dead" or found.error is None:
        raise ConflictError(f"job {found.id} was cancelled")
    kind = found.error.get("kind") or "failed"
    raise all_kinds().get(kind, HartonomousError)(
        f"job {found.id} is dead: {found.error.get('message') or ''}", hint=found.error.get("hint")
    )


def _table(found: Iterable["Job"]) -> Iterable[Block]:
    columns = (
        Column("id", right=True), Column("kind", whole=True), Column("status", whole=True),
        Column("put", whole=True, extra=True), Column("runs", right=True, extra=True),
        Column("what"),
    )  # fmt: skip
    yield Table(columns=columns, rows=map(_row, found))


def _row(one: "Job") -> tuple[str | Cell, ...]:
    return (
        str(one.id), one.kind[:MAX_KEY_CHARS], _status(one), moment(one.created_us),
        f"{one.attempts}/{one.max_attempts}", _what(one),
    )  # fmt: skip


def _status(one: "Job") -> str | Cell:
    style = _STYLES.get(one.status)
    return Cell(one.status, style) if style else str(one.status)


def _what(one: "Job") -> str:
    if one.status == "running":
        return "to be cancelled" if one.cancel_asked else _progress(one)
    if one.status in ("failed", "dead") and one.error is not None:
        return one.error.get("message") or ""
    return ", ".join(_shown(one.arguments))


def _progress(one: "Job") -> str:
    done = size(one.done_bytes)
    of = f" of {size(one.total_bytes)}" if one.total_bytes else ""
    records = f", {one.record_count:,} processed" if one.record_count else ""
    return f"{one.stage}: {done}{of}{records}" if one.stage else "just begun"


def _shown(arguments: dict[str, object]) -> Iterable[str]:
    for name, value in arguments.items():
        if name == "delta":  # the one thing that is done unless it is turned off
            if not value:
                yield "no delta"
        elif value not in (None, False, [], {}, ""):
            text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield name if value is True else f"{name} {text}"


def _page(one: "Job") -> Iterable[Block]:
    rows: list[tuple[str, str | Cell]] = [
        ("job", str(one.id)), ("kind", one.kind[:MAX_KEY_CHARS]), ("status", _status(one)),
        ("arguments", ", ".join(_shown(one.arguments)) or "none"),
        ("runs", f"{one.attempts} of {one.max_attempts}"), ("priority", str(one.priority)),
        ("put", moment(one.created_us)),
    ]  # fmt: skip
    if one.key is not None:
        rows.append(("key", one.key[:MAX_KEY_CHARS]))
    if one.status in ("pending", "failed"):
        rows.append(("due", moment(one.run_after_us)))
    if one.worker is not None:
        rows.append(("worker", one.worker))
    if one.started_us is not None:
        rows.append(("begun", moment(one.started_us)))
    if one.status == "running":
        rows.append(("progress", _what(one)))
    if one.ended_us is not None:
        rows.append(("ended", moment(one.ended_us)))
        if one.started_us is not None:
            rows.append(("took", duration((one.ended_us - one.started_us) / 1e6)))
        rows.append(("things processed", str(one.record_count)))
    if one.error is not None:
        rows.append(("error", Cell(one.error.get("message") or "", "bad")))
    yield Fields(rows=rows)
