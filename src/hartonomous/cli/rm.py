"""``hart rm``: put versions into the trash."""

import click

from hartonomous.cli.artifact_name import ARTIFACT
from hartonomous.cli.changed import show_change
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import dry_run as dry_run_option


@make_command("rm")
@click.argument("specs", nargs=-1, required=True, type=ARTIFACT, metavar="NAME[@X]...")
@click.option(
    "--keep-last",
    type=click.IntRange(min=1),
    metavar="N",
    help="Keep the newest N versions, and those with a label.",
)
@dry_run_option
@click.pass_obj
def command(
    invocation: Invocation, *, specs: tuple[str, ...], keep_last: int | None, dry_run: bool
) -> None:
    """Put versions into the trash.

    NAME means all of its versions, NAME@X one of them; NAME may be a shell pattern over whole
    names, in quotation marks: 'docs/*'. One 'hart undo' brings all of them back until 'hart gc'
    empties the trash, which by default leaves everything there for 30 days.
    """
    with invocation.store() as store:
        done = store.rm(*dict.fromkeys(specs), keep_last=keep_last, dry_run=dry_run)
        show_change(invocation.output, done)
