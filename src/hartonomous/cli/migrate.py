"""``hart migrate``: bring an older store's catalog to the schema of this program."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import dry_run as dry_run_option
from hartonomous.cli.page import Block

if TYPE_CHECKING:
    from hartonomous.operations.migrate import Migrated


@make_command("migrate")
@dry_run_option
@click.pass_obj
def command(invocation: Invocation, *, dry_run: bool) -> None:
    """Bring an older store's catalog up to date.

    The catalog file is copied beside itself first. Packs are not touched. Nobody else may use the
    store meanwhile. A store that is up to date is left as it is.
    """
    from hartonomous.opening import migrate_store

    done = migrate_store(
        invocation.store_path(),
        dry_run=dry_run,
        settings=dict(invocation.options.settings),
        force=invocation.options.force_network,
    )
    invocation.output.emit(done, human=_page, ids=lambda one: [one.schema])


def _page(done: "Migrated") -> Iterable[Block]:
    if not done.changed:
        yield f"the catalog is up to date (schema {done.schema})"
        return
    if done.dry_run:
        yield f"the catalog would be brought from schema {done.former_schema} to {done.schema}"
        yield "nothing was changed (dry run)"
        return
    yield f"the catalog was brought from schema {done.former_schema} to {done.schema}"
    yield f"the former one is kept at {done.copy}"
