"""``hart log``: what happened in the store."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.page import Block, Cell, Column, Table
from hartonomous.cli.sizes import moment

if TYPE_CHECKING:
    from hartonomous.operations.journal import Entry


@make_command("log")
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    default=50,
    metavar="N",
    show_default=True,
    help="Show at most N entries.",
)
@click.option("--undoable", is_flag=True, help="Show only what 'hart undo' can take back.")
@click.pass_obj
def command(invocation: Invocation, *, limit: int, undoable: bool) -> None:
    """Show what happened in the store, newest first.

    The numbers are those that 'hart undo' takes. With -q numbers alone are printed.
    """
    with invocation.store() as store:
        entries = store.log(limit=limit, only_undoable=undoable)
    if not entries and invocation.output.is_for_people:
        click.echo("hart: note: nothing to show", err=True)
    invocation.output.emit_each(entries, human=_page, ids=lambda one: str(one.sequence))


def _page(entries: Iterable["Entry"]) -> Iterable[Block]:
    columns = (
        Column("number", right=True),
        Column("time", whole=True, extra=True),
        Column("action", whole=True),
        Column("what"),
        Column("undo", whole=True, extra=True),
    )
    yield Table(columns=columns, rows=map(_row, entries))


def _row(one: "Entry") -> tuple[str | Cell, ...]:
    undo: str | Cell = "possible" if one.undoable else Cell("undone", "dim") if one.undone else ""
    return str(one.sequence), moment(one.at_us), one.action, _what(one), undo


def _what(one: "Entry") -> str:
    if one.action in ("add", "label", "unlabel") and one.versions:
        subject = one.versions[0]
    else:
        subject = one.name or ""
    return ": ".join(filter(None, (subject, one.detail)))
