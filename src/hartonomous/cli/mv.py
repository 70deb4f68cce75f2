"""``hart mv``: give an artifact another name."""

import click

from hartonomous.cli.artifact_name import ARTIFACT
from hartonomous.cli.changed import show_change
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import dry_run as dry_run_option


@make_command("mv")
@click.argument("name", type=ARTIFACT, metavar="NAME")
@click.argument("new_name", type=ARTIFACT, metavar="NEW_NAME")
@dry_run_option
@click.pass_obj
def command(invocation: Invocation, *, name: str, new_name: str, dry_run: bool) -> None:
    """Give an artifact another name.

    All versions and labels go with it; no bytes are touched. A taken name is refused.
    """
    with invocation.store() as store:
        show_change(invocation.output, store.mv(name, new_name, dry_run=dry_run))
