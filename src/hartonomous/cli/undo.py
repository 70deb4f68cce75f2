"""``hart undo``: take back a change."""

import click

from hartonomous.cli.changed import show_change
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import dry_run as dry_run_option


@make_command("undo")
@click.argument("sequence", required=False, type=click.IntRange(min=1), metavar="[SEQUENCE]")
@dry_run_option
@click.pass_obj
def command(invocation: Invocation, *, sequence: int | None, dry_run: bool) -> None:
    """Take back the newest change, or a given one.

    Labels, renames, removals and dropped parts can be undone; 'hart log --undoable' lists them with
    their numbers. An addition is taken back by 'hart rm'.
    """
    with invocation.store() as store:
        show_change(invocation.output, store.undo(sequence, dry_run=dry_run))
