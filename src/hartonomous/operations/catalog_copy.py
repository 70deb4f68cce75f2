"""Moving a store's catalog between a file in its directory and a PostgreSQL server."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from hartonomous.catalog import events
from hartonomous.catalog.copying import copy_catalog
from hartonomous.catalog.roles import StoreRoles
from hartonomous.errors import ConflictError, UsageError
from hartonomous.packs import directory
from hartonomous.packs.catalog_home import catalog_home, new_card, with_credentials
from hartonomous.packs.catalog_schema import schema_place
from hartonomous.packs.store_card import CatalogCard, read_card, set_catalog
from hartonomous.settings import Settings


class MovedCatalog(msgspec.Struct, frozen=True, kw_only=True):
    """Where the catalog was and is, how many rows it has, and where the former one is kept."""

    path: str
    former: str
    catalog: str
    row_count: int
    tables: dict[str, int]
    kept: str | None


def move_catalog(
    path: Path,
    to: str,
    *,
    settings: Settings,
    clock: Callable[[], int],
    force: bool = False,
    catalog_url: str | None = None,
) -> MovedCatalog:
    """Copy the catalog of the store at ``path`` to ``to`` and use that one from now on.

    ``to`` is ``sqlite`` or an address of a server, whose credentials may be those that the
    environment has for it; ``catalog_url`` is how to reach the one in use.
    Nobody else may have the store open. The copy is compared row by row before ``store.json`` names
    it; what is cut short leaves the former one in use. Raises ConflictError where the catalog is
    there already.
    """
    path = path.absolute()
    held = directory.open_directory(
        path, settings=settings, clock=clock, force=force, exclusive=True, catalog_url=catalog_url
    )
    try:
        source, card = held.parts.home, held.card
        to = with_credentials(to)
        there = new_card(card.id, to)
        planned = msgspec.structs.replace(card, catalog=msgspec.UNSET if there is None else there)
        target = catalog_home(path, planned, to)
        if planned.catalog == card.catalog:
            raise ConflictError(
                f"the catalog is at {source.shown()} already", hint="there is nothing to move"
            )
        # Behind store.json's change a refusal would come too late: the catalog would have moved.
        source.check_set_aside(clock())
        with target.rebuilding() as database:
            copied = copy_catalog(held.parts.database, database)
            with database.write() as tx:
                # Transactions are numbered by the server; and the former catalog is kept, where
                # events might get ids that are given out here too.
                events.begin_era(tx, clock())
        target.put_in_place(clock())
        held.parts.database.close()
        set_catalog(path, there)
        kept = source.set_aside(clock())
        return MovedCatalog(
            path=str(path),
            former=source.shown(),
            catalog=target.shown(),
            row_count=copied.row_count,
            tables=copied.rows,
            kept=kept,
        )
    finally:
        held.close()


def roles_of_store(path: Path) -> StoreRoles:
    """Return the roles of a store's catalog.

    Raises UsageError where that is a file, UnsupportedStoreError for a card that names no schema of
    ours: what it names is in the SQL that a superuser runs.
    """
    card = read_card(path)
    if not isinstance(card.catalog, CatalogCard):
        raise UsageError(
            f"the catalog of {path} is a file, which has no roles",
            hint="hart catalog copy --to postgresql://… moves it to a server",
        )
    place = schema_place(card.catalog, None)
    return StoreRoles(schema=place.schema, database=place.parameters.get("dbname", "postgres"))
