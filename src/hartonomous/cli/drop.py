"""``hart drop``: drop a part of one version."""

import click

from hartonomous.cli.artifact_name import ARTIFACT
from hartonomous.cli.changed import show_change
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import dry_run as dry_run_option


@make_command("drop")
@click.argument("specs", nargs=-1, required=True, type=ARTIFACT, metavar="NAME[@X]...")
@click.option(
    "--part",
    required=True,
    type=click.Choice(["weights", "optimizer"]),
    help="The files to drop: those of the weights, or those of a training run's state.",
)
@dry_run_option
@click.pass_obj
def command(invocation: Invocation, *, specs: tuple[str, ...], part: str, dry_run: bool) -> None:
    """Drop a part of one version.

    The version keeps its name, number and labels; 'hart show' lists what was dropped, 'hart get'
    writes what is left, and its digest is that of what is left. NAME alone means its newest
    version. 'hart undo' brings the files back until 'hart gc' frees them, by default after 30 days.
    A file that holds weights and optimizer together, such as a single .pt, is not cut.
    """
    specs = tuple(dict.fromkeys(specs))
    with invocation.store() as store:
        for spec in specs:  # all are looked at before the first is changed
            store.drop(spec, part, dry_run=True)
        for spec in specs:
            show_change(invocation.output, store.drop(spec, part, dry_run=dry_run))
