"""``hart push``: bring another store what it lacks of this one."""

from pathlib import Path

import click

from hartonomous.cli.artifact_name import ARTIFACT
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import dry_run as dry_run_option
from hartonomous.cli.transfers import as_name, bring, rename


@make_command("push")
@click.argument("other", type=click.Path(path_type=Path), metavar="STORE")
@click.argument("names", nargs=-1, type=ARTIFACT, metavar="[NAME]...")
@as_name
@rename
@dry_run_option
@click.pass_obj
def command(
    invocation: Invocation,
    *,
    other: Path,
    names: tuple[str, ...],
    as_name: str | None,
    rename: bool,
    dry_run: bool,
) -> None:
    """Bring another store what it lacks of this one.

    NAME is a name, a pattern or NAME@X; everything goes where none is given. Tensors that STORE has
    are not sent, the others as they lie encoded; STORE checks each byte. Versions, labels, tags,
    metadata and relations are merged: the later statement wins, a removal included, which STORE
    keeps in its trash. A run that was cut short goes on where it stopped. Ends with 4 where
    something was refused.
    """
    bring(invocation, other, names, back=False, as_name=as_name, rename=rename, dry_run=dry_run)
