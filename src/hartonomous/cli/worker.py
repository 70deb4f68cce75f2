"""``hart worker``: runs jobs."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.page import Block
from hartonomous.cli.quantities import Duration
from hartonomous.cli.sizes import count, several
from hartonomous.cli.text import clean
from hartonomous.errors import PartlyDoneError, UsageError

if TYPE_CHECKING:
    from hartonomous.worker.supervisor import Worked


@make_command("worker")
@click.option(
    "--processes", type=click.IntRange(1, 256), default=1, metavar="N", show_default=True,
    help="Run up to N jobs at once, each in a process of its own.",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Run what is due now, N jobs at most, and end.")
@click.option(
    "--until-empty", is_flag=True, help="End when no job is due and none waits for its retry."
)
@click.option(
    "--drain-seconds", "drain_s", type=Duration(), default="30s", metavar="30s", show_default=True,
    help="How long running jobs may go on after SIGTERM before they are given back.",
)  # fmt: skip
@click.option(
    "--stall-seconds", "stall_s", type=Duration(), metavar="6h",
    help="End a run that shows no progress for so long (the setting stall_s).",
)  # fmt: skip
@click.pass_obj
def command(
    invocation: Invocation,
    *,
    processes: int,
    once: bool,
    until_empty: bool,
    drain_s: float,
    stall_s: float | None,
) -> None:
    """Run jobs in the background.

    Runs what --background and schedules put into the queue, the lowest priority number first; any
    number of workers may share a store. A job whose process is killed is tried again, with growing
    pauses; one that failed too often is dead ('hart jobs dead'). One that hangs is ended after
    --stall-seconds without progress, and tried again likewise.

    SIGTERM or Ctrl-C: no new job is begun, running ones may end within --drain-seconds, what is
    left is given back to the queue. A second one ends at once.

    Ends with 3 when a job failed or is dead, and --once or --until-empty was given.
    """
    from hartonomous.worker.supervisor import Until, Worker

    if once and until_empty:
        raise UsageError("--once and --until-empty exclude each other", hint="leave one out")
    until = Until.ONCE if once else Until.EMPTY if until_empty else Until.STOPPED
    settings: dict[str, Any] = dict(invocation.options.settings)
    if stall_s is not None:
        settings["stall_s"] = max(round(stall_s), 1)
    worker = Worker(
        invocation.store_path(), settings=settings, processes=processes,
        drain_s=drain_s, tell=_tell, clock=_now_us, force=invocation.options.force_network,
    )  # fmt: skip
    worked = worker.run(until)
    invocation.output.emit(worked, human=_page, ids=None)
    if until is not Until.STOPPED and worked.failed + worked.dead:
        raise PartlyDoneError(
            f"{several(worked.failed, 'run')} failed, "
            f"{several(worked.dead, 'job is', 'jobs are')} dead",
            hint="'hart jobs ls --status dead --status failed' says why",
        )


def _tell(text: str) -> None:
    click.echo(f"hart: note: {clean(text)}", err=True)


def _now_us() -> int:
    return time.time_ns() // 1000


def _page(worked: "Worked") -> Iterable[Block]:
    words = ("done", "failed", "dead", "cancelled", "given_back", "lost")
    counted = [(word, getattr(worked, word)) for word in words]
    told = ", ".join(f"{count(number)} {word.replace('_', ' ')}" for word, number in counted)
    yield f"runs: {told}"
