"""Where a store's catalog is: a file in its directory, or a schema on a PostgreSQL server.

``store.json`` says which, without credentials. Those come with an address (``--catalog``, or the
environment), or from what libpq reads itself: PGUSER, PGPASSWORD, PGPASSFILE, ~/.pgpass.
"""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from hartonomous.catalog.database import Database
from hartonomous.catalog.engines.postgres import parse_url
from hartonomous.errors import UsageError
from hartonomous.objects.durable import read_plain, storage_error
from hartonomous.packs.catalog_file import CatalogFile
from hartonomous.packs.catalog_schema import PLACES, CatalogSchema, schema_place
from hartonomous.packs.store_card import CatalogCard, StoreCard

VARIABLE = "HARTONOMOUS_CATALOG_URL"
"""An address with credentials: where new stores' catalogs go, and how to reach those that do."""
SQLITE = "sqlite"
"""What stands in place of an address for a file in the store's directory."""
_URL_LIMIT_BYTES = 1 << 14
_PORT = "5432"  # where a server is whose address names none


class CatalogHome(Protocol):
    """A place where a store keeps its catalog."""

    def shown(self) -> str:
        """Return the place as people may see it."""
        ...

    def refuse_strange(self) -> None:
        """Raise IntegrityError where something else lies in its place."""
        ...

    def create(self) -> None:
        """Make an empty catalog of the newest schema, over what a cut-off making left."""
        ...

    def open(self) -> Database:
        """Open what is there, of whatever revision; raises NoStoreError where there is nothing."""
        ...

    def copy_aside(self, revision: str) -> str:
        """Copy the catalog before it is migrated from ``revision``; return where the copy is."""
        ...

    def rebuilding(self) -> AbstractContextManager[Database]:
        """Yield an empty catalog beside the one in use; what fails leaves nothing behind."""
        ...

    def remove_draft(self) -> None:
        """Remove the new catalog, which is not to be put in place."""
        ...

    def put_in_place(self, now_us: int) -> str | None:
        """Let the new catalog be the one in use; return where a former one is kept."""
        ...

    def check_set_aside(self, now_us: int) -> None:
        """Raise HartonomousError where whoever is here may not take the catalog out of use."""
        ...

    def set_aside(self, now_us: int) -> str | None:
        """Take the catalog out of use; return where it is kept."""
        ...


def given_url() -> str | None:
    """Return the address that the environment gives, or the file that it names."""
    at_file = os.environ.get(f"{VARIABLE}_FILE")
    if at_file is None:
        return os.environ.get(VARIABLE) or None
    if VARIABLE in os.environ:
        raise UsageError(
            f"both {VARIABLE} and {VARIABLE}_FILE are set", hint="unset one of the two variables"
        )
    try:
        content = read_plain(Path(at_file), limit_bytes=_URL_LIMIT_BYTES)
        return content.decode().strip()
    except OSError as error:
        raise storage_error(error, f"read {VARIABLE}_FILE", Path(at_file)) from error
    except UnicodeDecodeError:
        raise UsageError(f"{VARIABLE}_FILE: {at_file} is not UTF-8 text") from None


def address(url: str | None) -> str | None:
    """Return how a catalog is reached: as ``url`` says, else as the environment does."""
    return with_credentials(url) if url else given_url()


def with_credentials(url: str) -> str:
    """Return ``url`` with the user and password of the environment's address.

    Where that says all that ``url`` says, and more, it takes its place; where it names another
    server, it adds nothing.
    """
    given = given_url()
    if SQLITE in (url, given) or given is None:
        return url
    port = {"port": _PORT}
    known, asked = ({**port, **parse_url(one)} for one in (given, url))
    if asked.items() <= known.items():
        return given
    who = urlsplit(given).netloc.rpartition("@")[0]
    if known.keys() & PLACES or "user" in asked or not who:
        return url
    there = urlsplit(url)
    return urlunsplit(there._replace(netloc=f"{who}@{there.netloc}"))


def new_card(store_id: str, url: str | None) -> CatalogCard | None:
    """Return what ``store.json`` says of a new store's catalog; None for a file."""
    if url is None or url == SQLITE:
        return None
    return CatalogSchema.card_for(store_id, parse_url(url))


def catalog_home(directory: Path, card: StoreCard, url: str | None = None) -> CatalogHome:
    """Return the home of a store's catalog; ``url`` brings credentials, or another way to it."""
    if not isinstance(card.catalog, CatalogCard):
        return CatalogFile(directory)
    return CatalogSchema(schema_place(card.catalog, None if url in (None, SQLITE) else url))
