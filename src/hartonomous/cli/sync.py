"""``hart sync``: bring two stores to the same names and versions."""

from contextlib import ExitStack
from pathlib import Path

import click

from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import dry_run as dry_run_option
from hartonomous.cli.transfers import other_store, page, refuse, rename


@make_command("sync")
@click.argument("first", type=click.Path(path_type=Path), metavar="A")
@click.argument("second", required=False, type=click.Path(path_type=Path), metavar="[B]")
@rename
@dry_run_option
@click.pass_obj
def command(
    invocation: Invocation, *, first: Path, second: Path | None, rename: bool, dry_run: bool
) -> None:
    """Bring two stores to the same names and versions.

    A and B are two stores; where B is left out it is the store that --store names. A pull and a
    push by the rules of hart push. Done again it changes nothing. A dry run tells both as they
    would be from what is there now.
    """
    from hartonomous.opening import sync_stores

    with ExitStack() as stack:
        one = stack.enter_context(other_store(invocation, first))
        two = stack.enter_context(
            invocation.store() if second is None else other_store(invocation, second)
        )
        progress = stack.enter_context(invocation.progress(one.settings))
        done = sync_stores(one, two, rename=rename, dry_run=dry_run, progress=progress)
    invocation.output.emit(
        done,
        human=lambda both: [*page(both.pulled), "", *page(both.pushed)],
        ids=lambda both: [one.name for part in (both.pulled, both.pushed) for one in part.carried],
    )
    refuse(done.pulled)
    refuse(done.pushed)
