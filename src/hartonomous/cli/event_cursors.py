"""``hart events cursors``: how far each consumer of the change feed has got."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from hartonomous.cli.commands import Entry
from hartonomous.cli.frame import HartGroup
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.page import Block, Column, Table
from hartonomous.cli.sizes import count, moment, several
from hartonomous.cli.text import clean

if TYPE_CHECKING:
    from hartonomous.operations.events import Cursor

_COMMANDS = {
    "ls": Entry("hartonomous.cli.event_cursors:listing", "List the consumers.", "Feed"),
    "set": Entry("hartonomous.cli.event_cursors:setting", "Put a consumer somewhere.", "Feed"),
    "rm": Entry("hartonomous.cli.event_cursors:removing", "Forget a consumer.", "Feed"),
}

group = HartGroup(
    "cursors",
    table=_COMMANDS,
    sections=("Feed",),
    help="Show and set how far consumers have got.\n\n"
    "hart gc keeps the events that a consumer has not read, whatever their age: remove those that\n"
    "do not come back.",
)


@make_command("ls")
@click.pass_obj
def listing(invocation: Invocation) -> None:
    """List the consumers.

    With how many events are waiting for each. With -q names alone are printed.
    """
    with invocation.store() as store:
        found = store.events.cursors.list()
    if not found and invocation.output.is_for_people:
        click.echo("hart: note: no consumer has a cursor", err=True)
    for one in found:
        if one.damaged is not None:
            text = (
                f"the cursor of {one.consumer} is damaged: {one.damaged}; 'hart events cursors set'"
                " puts it somewhere else, 'rm' forgets it"
            )
            click.echo(f"hart: note: {clean(text)}", err=True)
    invocation.output.emit_each(found, human=_page, ids=lambda one: one.consumer)


@make_command("set")
@click.argument("consumer", metavar="NAME")
@click.argument("since", metavar="WHERE")
@click.pass_obj
def setting(invocation: Invocation, *, consumer: str, since: str) -> None:
    """Put a consumer somewhere.

    WHERE is beginning, now, a time, 2h (ago), or the id of the last event that it has dealt with.
    """
    with invocation.store() as store:
        done = store.events.cursors.set(consumer, since)
    invocation.output.emit(
        done,
        human=lambda one: [f"{one.consumer}: {several(one.behind_count, 'event')} waiting"],
        ids=lambda one: [one.consumer],
    )


@make_command("rm")
@click.argument("consumer", metavar="NAME")
@click.pass_obj
def removing(invocation: Invocation, *, consumer: str) -> None:
    """Forget a consumer."""
    with invocation.store() as store:
        done = store.events.cursors.remove(consumer)
    invocation.output.emit(
        done,
        human=lambda one: [f"{one.consumer}: forgotten"],
        ids=lambda one: [one.consumer],
    )


def _page(cursors: Iterable["Cursor"]) -> Iterable[Block]:
    columns = (
        Column("consumer"), Column("waiting", right=True), Column("position", whole=True),
        Column("read last", whole=True, extra=True),
    )  # fmt: skip
    yield Table(
        columns=columns,
        rows=(
            (one.consumer, count(one.behind_count), one.position, moment(one.updated_us))
            if one.damaged is None
            else (one.consumer, "", "damaged", "")
            for one in cursors
        ),
    )
