"""``hart init``: make an empty store."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import click

from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeStore:
    """A store that was made: its directory, its id, and how the place was found."""

    path: Path
    id: str
    how: str


@make_command("init")
@click.argument("directory", required=False, metavar="[DIR]", type=click.Path(file_okay=False))
@click.option(
    "--catalog",
    metavar="URL|sqlite",
    help="Keep the catalog on a PostgreSQL server: postgresql://HOST/DATABASE.",
)
@click.pass_obj
def command(invocation: Invocation, *, directory: str | None, catalog: str | None) -> None:
    """Make an empty store and print where it is.

    DIR must not exist or be an empty folder. Without DIR the store is made at the place that
    --store or HARTONOMOUS_STORE names, else in the user's data folder; commands that are run
    outside of any store use that one.

    The catalog is a file in DIR unless --catalog, or HARTONOMOUS_CATALOG_URL, names a server. The
    packs are in DIR all the same. No user and no password of the address is written down.
    """
    made = make_store(invocation, directory, catalog=catalog)
    if catalog is not None and (urlsplit(catalog).username or urlsplit(catalog).password):
        click.echo(
            "hart: note: the address's user and password are not kept: later commands take them"
            " from PGUSER and PGPASSWORD, a password file, or HARTONOMOUS_CATALOG_URL"
            " (docs/postgresql.md)",
            err=True,
        )
    invocation.output.emit(
        made, human=lambda one: [f"made an empty store at {one.path}"], ids=lambda one: [_id(one)]
    )


def make_store(
    invocation: Invocation, directory: str | None = None, *, catalog: str | None = None
) -> MadeStore:
    """Make a store at ``directory``, or where one would be looked for.

    Raises UsageError when two places are named, ConflictError when something is there already.
    """
    if directory is not None and invocation.options.store is not None:
        raise UsageError(
            f"two places are named: {directory} and --store {invocation.options.store}",
            hint="leave one of them out",
        )
    if directory is None:
        place = invocation.place(parents=False)
        path, how = place.path, place.how
    else:
        path, how = Path(directory).absolute(), "argument"
    from hartonomous.opening import init

    with init(path, force=invocation.options.force_network, catalog=catalog) as store:
        return MadeStore(path=store.path, id=store.id, how=how)


def _id(made: MadeStore) -> str:
    return str(made.path)
