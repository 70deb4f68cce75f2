"""``hart label``: point labels to a version, or take them away."""

import click

from hartonomous.cli.artifact_name import ARTIFACT, LABEL
from hartonomous.cli.changed import show_change
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import dry_run as dry_run_option


@make_command("label")
@click.argument("spec", type=ARTIFACT, metavar="NAME[@X]")
@click.argument("labels", nargs=-1, required=True, type=LABEL, metavar="LABEL...")
@click.option("--remove", is_flag=True, help="Take the labels away from NAME.")
@dry_run_option
@click.pass_obj
def command(
    invocation: Invocation, *, spec: str, labels: tuple[str, ...], remove: bool, dry_run: bool
) -> None:
    """Point labels to a version, or take them away.

    A label belongs to one version of an artifact at a time: pointing it to another one moves it.
    NAME alone means its newest version. Afterwards NAME@LABEL is that version.
    """
    with invocation.store() as store:
        change = store.unlabel if remove else store.label
        for name in labels:  # all are looked at before the first is changed
            change(spec, name, dry_run=True)
        for name in labels:
            show_change(invocation.output, change(spec, name, dry_run=dry_run))
