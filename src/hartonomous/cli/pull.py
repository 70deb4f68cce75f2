"""``hart pull``: bring this store what it lacks of another one."""

from pathlib import Path

import click

from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import dry_run as dry_run_option
from hartonomous.cli.transfers import as_name, bring, rename


@make_command("pull")
@click.argument("other", type=click.Path(path_type=Path), metavar="STORE")
@click.argument("names", nargs=-1, metavar="[NAME]...")
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
    """Bring this store what it lacks of another one.

    The same as a push of STORE to this store; see hart push.
    """
    bring(invocation, other, names, back=True, as_name=as_name, rename=rename, dry_run=dry_run)
