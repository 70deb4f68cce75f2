"""``hart catalog``: where the catalog is kept, and who may use it there."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from hartonomous.cli.commands import Entry
from hartonomous.cli.frame import HartGroup
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.page import Block, Column, Table
from hartonomous.cli.sizes import several

if TYPE_CHECKING:
    from hartonomous.operations.catalog_copy import MovedCatalog

_SECTION = "Catalog"
_TABLE = {
    "copy": Entry(
        "hartonomous.cli.catalog:copy",
        "Move the catalog to a PostgreSQL server, or back into a file.",
        _SECTION,
    ),
    "roles": Entry(
        "hartonomous.cli.catalog:roles",
        "Say which roles a catalog on a server has, or print the SQL for them.",
        _SECTION,
    ),
}

command = HartGroup(
    "catalog",
    table=_TABLE,
    sections=(_SECTION,),
    help="Move the catalog between a file and a server, and say who may use it.",
)


@make_command("copy")
@click.option(
    "--to",
    required=True,
    metavar="URL|sqlite",
    help="postgresql://HOST/DATABASE, or sqlite for a file in the store's directory.",
)
@click.pass_obj
def copy(invocation: Invocation, *, to: str) -> None:
    """Move the catalog to a PostgreSQL server, or back into a file.

    Every row is copied and compared before the new catalog is used; the former one is kept under
    another name. Packs stay where they are. Nobody else may use the store meanwhile. Asks first.
    """
    from hartonomous.opening import move_catalog

    path = invocation.store_path()
    where = "a file" if to == "sqlite" else "a PostgreSQL server"
    invocation.confirm(f"Move the catalog of {path} to {where}?")
    done = move_catalog(
        path,
        to,
        settings=dict(invocation.options.settings),
        force=invocation.options.force_network,
    )
    invocation.output.emit(done, human=_page, ids=lambda one: [one.catalog])


def _page(done: "MovedCatalog") -> Iterable[Block]:
    yield f"the catalog is at {done.catalog} now: {several(done.row_count, 'row')}, each compared"
    if done.kept:
        yield f"the former one is kept at {done.kept}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogRoles:
    """The roles of a store's catalog: what each may do, by name, and the SQL that makes them."""

    roles: dict[str, str]
    sql: str


@make_command("roles")
@click.option("--sql", is_flag=True, help="Print the SQL that makes the roles, for psql.")
@click.pass_obj
def roles(invocation: Invocation, *, sql: bool) -> None:
    """Say which roles a catalog on a server has, or print the SQL for them.

    Nothing is run: a role is made by who may make roles on that server.
    """
    from hartonomous.catalog.roles import DUTIES, roles_sql
    from hartonomous.operations.catalog_copy import roles_of_store

    found = roles_of_store(invocation.store_path())
    names = {found.name(duty): text for duty, text in DUTIES.items()}
    done = CatalogRoles(roles=names, sql=roles_sql(found))
    human = _sql if sql else _roles
    invocation.output.emit(done, human=human, ids=lambda one: list(one.roles))


def _sql(done: CatalogRoles) -> Iterable[Block]:
    yield from done.sql.rstrip().split("\n")  # a block is one line: a line feed in it is escaped


def _roles(done: CatalogRoles) -> Iterable[Block]:
    yield Table(columns=(Column("role"), Column("may")), rows=list(done.roles.items()))
    yield "hart catalog roles --sql prints what makes them"
