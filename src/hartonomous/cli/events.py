"""``hart events``: the change feed, as lines for people or as CloudEvents; and its cursors."""

import select
import time
from collections.abc import Callable, Iterable
from io import UnsupportedOperation
from typing import TYPE_CHECKING, TextIO

import click

from hartonomous.cli.commands import Entry
from hartonomous.cli.frame import HartGroup
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import OutputFormat
from hartonomous.cli.output import Output
from hartonomous.cli.sizes import moment

if TYPE_CHECKING:
    from hartonomous.core.event import Event

_COMMANDS = {
    "cursors": Entry(
        "hartonomous.cli.event_cursors:group", "Show and set how far consumers have got.", "Feed"
    ),
}
_PAUSE_S = 0.05
_TYPE_WIDTH = 22


@click.command(
    "events", cls=HartGroup, table=_COMMANDS, sections=("Feed",),
    invoke_without_command=True, no_args_is_help=False, subcommand_metavar="[cursors ...]",
)  # fmt: skip
@click.option("--follow", is_flag=True, help="Wait for more; Ctrl-C or SIGTERM ends it.")
@click.option(
    "--since", metavar="WHERE",
    help="beginning, now, a time, 2h (ago), or behind the event with an id.",
)  # fmt: skip
@click.option("--type", "types", multiple=True, metavar="PATTERN", help="Only types that fit.")
@click.option(
    "--subject", "subjects", multiple=True, metavar="PATTERN", help="Only names that fit."
)
@click.option("--consumer", metavar="NAME", help="Go on where this consumer got to last time.")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="End behind N events at the latest."
)
@click.option("--batch", is_flag=True, help="Print lists of CloudEvents, one a line.")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    follow: bool,
    since: str | None,
    types: tuple[str, ...],
    subjects: tuple[str, ...],
    consumer: str | None,
    limit: int | None,
    batch: bool,
) -> None:
    """Tell what happens in the store, as CloudEvents.

    Oldest first: from the beginning; with --follow from now on. With --json each line is a
    CloudEvent, with --batch a list of them. PATTERN is a shell pattern such as 'artifact.*' or
    'org/*' and may be given several times.

    With --consumer an event counts as told once its line was written: the next run goes on behind
    it, and --since only says where a new consumer begins. What was told when a run was killed may
    be told again. docs/events.md has the types and what is promised.
    """
    if ctx.invoked_subcommand is not None:
        return
    invocation: Invocation = ctx.obj
    if batch:
        invocation.change(format=OutputFormat.JSON)
    from hartonomous.operations.events import Wanted

    wanted = Wanted(
        since=since, follow=follow, types=types, subjects=subjects, consumer=consumer, limit=limit
    )
    with invocation.store() as store:
        found = store.events.pages(wanted, _pause_for(invocation.output.stream))
        try:
            for page in found:
                _write(invocation.output, page, batch=batch)
        except KeyboardInterrupt:
            if not follow:
                raise
            invocation.output.stream.flush()  # that is how following ends


def _write(output: Output, page: "list[Event]", *, batch: bool) -> None:
    """Write a page and hand it on, so that what comes behind this can count it as told."""
    if output.is_for_people:
        output.emit(page, human=lambda events: map(_line, events), ids=None)
    elif output.format is OutputFormat.JSON and batch:
        output.emit([one.cloudevent() for one in page], human=lambda _: [], ids=None)
    elif output.format is OutputFormat.JSON:
        for one in page:
            output.emit(one.cloudevent(), human=lambda _: [], ids=None)
    else:
        output.emit(page, human=lambda _: [], ids=_ids)
    output.stream.flush()


def _ids(page: "list[Event]") -> Iterable[str]:
    return (one.id for one in page)


def _line(one: "Event") -> str:
    about = one.subject or ""
    if one.subject and "version" in one.data:
        about = f"{one.subject}@{one.data['version']}"
    more = {
        "artifact.labelled": one.data.get("label"),
        "artifact.unlabelled": one.data.get("label"),
        "artifact.moved": f"-> {one.data.get('name')}",
    }.get(one.type)
    words = (moment(one.time_us), one.type.ljust(_TYPE_WIDTH), about, more, f"({one.id})")
    return "  ".join(str(word) for word in words if word)


def _pause_for(stream: TextIO) -> Callable[[], None]:
    """Return a pause that ends with an error once nobody reads a pipe any more."""
    try:
        number = stream.fileno()
    except (UnsupportedOperation, ValueError):
        return lambda: time.sleep(_PAUSE_S)
    watch = select.poll()
    watch.register(number, 0)

    def pause() -> None:
        if any(event & select.POLLERR for _, event in watch.poll(int(_PAUSE_S * 1000))):
            raise BrokenPipeError

    return pause
