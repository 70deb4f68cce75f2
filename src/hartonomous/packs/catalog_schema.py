"""The catalog's schema on a PostgreSQL server, and the schemas beside it."""

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping

from hartonomous.catalog import schemas
from hartonomous.catalog.database import Database, create_postgres, open_postgres
from hartonomous.catalog.engines.postgres import ServerPlace, parse_url, password_is_kept
from hartonomous.errors import HartonomousError, UnsupportedStoreError, UsageError
from hartonomous.packs.store_card import CatalogCard

# What may be written into store.json, and what is taken from one that somebody else wrote.
_KEPT = frozenset(
    {"host", "hostaddr", "port", "dbname", "service", "sslmode", "sslrootcert", "sslnegotiation",
     "channel_binding", "target_session_attrs", "load_balance_hosts", "connect_timeout",
     "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count",
     "tcp_user_timeout"}
)  # fmt: skip
_SCHEMA = re.compile(r"hart_[0-9a-f]{32}")
PLACES = frozenset({"host", "hostaddr", "service"})


class CatalogSchema:
    """One store's schema, named by the store's id, so that many may share a database."""

    def __init__(self, place: ServerPlace) -> None:
        self.place = place

    @classmethod
    def card_for(cls, store_id: str, parameters: Mapping[str, str]) -> CatalogCard:
        """Return what a new store's card says: the place without credentials."""
        kept = {name: parameters[name] for name in sorted(parameters.keys() & _KEPT)}
        return CatalogCard(engine="postgresql", schema=f"hart_{store_id}", parameters=kept)

    def shown(self) -> str:
        """Return the place as people may see it."""
        return self.place.shown()

    def refuse_strange(self) -> None:
        """Do nothing: what lies on a server is told when it is opened."""

    def create(self) -> None:
        """Make the schema with empty tables; raises UsageError in a database that is not UTF-8."""
        self.check_making()
        Database(create_postgres(self.place)).close()

    def check_making(self) -> None:
        """Raise HartonomousError where no catalog can be made, by this role or in this database."""
        with self._server() as database, database.read() as tx:
            found, allowed = schemas.encoding(tx), schemas.may_make(tx)
        if not allowed:
            raise HartonomousError(
                f"this role may not make a schema at {self.shown()}",
                hint="GRANT CREATE ON DATABASE … TO it, or let who may do so make the store",
            )
        if found not in ("UTF8", "SQL_ASCII"):
            raise UsageError(
                f"the database has the encoding {found}, which cannot keep every name and text",
                hint="make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0",
            )

    def open(self) -> Database:
        """Open what is there, of whatever revision."""
        return Database(open_postgres(self.place))

    def is_closed(self) -> bool:
        """Say whether the catalog is there and this role may not look into it."""
        with self._server() as database, database.read() as tx:
            return schemas.is_closed(tx, self.place.schema)

    def copy_aside(self, revision: str) -> str:
        """Copy the tables into a schema beside this one."""
        target = f"{self.place.schema}_at_{revision}"
        with self._server() as database, database.write() as tx:
            schemas.drop(tx, target)
            schemas.copy(tx, self.place.schema, target)
        return self._beside(target).shown()

    @contextlib.contextmanager
    def rebuilding(self) -> Iterator[Database]:
        """Yield an empty catalog in a schema beside this one; what fails leaves nothing behind."""
        draft = self._draft()
        self._drop(draft.schema)
        try:
            database = Database(create_postgres(draft))
            try:
                yield database
            finally:
                database.close()
        except BaseException:
            self._drop(draft.schema)
            raise

    def remove_draft(self) -> None:
        """Remove the new catalog, which is not to be put in place."""
        self._drop(self._draft().schema)

    def put_in_place(self, now_us: int) -> str | None:
        """Give the new schema this one's name, and this one another, in one transaction."""
        former = self._former(now_us)
        with self._server() as database, database.write() as tx:
            kept = schemas.exists(tx, self.place.schema)
            if kept:
                schemas.rename(tx, self.place.schema, former)
            schemas.rename(tx, self._draft().schema, self.place.schema)
        return self._beside(former).shown() if kept else None

    def check_set_aside(self, now_us: int) -> None:
        """Raise HartonomousError where this role may not give the schema another name."""
        with self._server() as database, database.write() as tx:
            attempt = tx.begin_nested()
            schemas.rename(tx, self.place.schema, self._former(now_us))
            attempt.rollback()

    def set_aside(self, now_us: int) -> str | None:
        """Give the schema another name; return where it is."""
        former = self._former(now_us)
        with self._server() as database, database.write() as tx:
            schemas.rename(tx, self.place.schema, former)
        return self._beside(former).shown()

    def _former(self, now_us: int) -> str:
        stamp = time.strftime("%Y%m%d%H%M%S", time.gmtime(now_us / 1e6))
        return f"{self.place.schema}_was_{stamp}_{now_us % 1_000_000:06d}"

    def _draft(self) -> ServerPlace:
        return self._beside(f"{self.place.schema}_new")

    def _beside(self, schema: str) -> ServerPlace:
        return ServerPlace(parameters=self.place.parameters, schema=schema)

    def _drop(self, schema: str) -> None:
        with self._server() as database, database.write() as tx:
            schemas.drop(tx, schema)

    @contextlib.contextmanager
    def _server(self) -> Iterator[Database]:
        database = self.open()
        try:
            yield database
        finally:
            database.close()


def schema_place(card: CatalogCard, url: str | None) -> ServerPlace:
    """Return where a card's catalog is; ``url`` brings credentials, or another way to it.

    Raises UnsupportedStoreError for a card that names something else than a schema of ours.
    """
    if card.engine != "postgresql" or not _SCHEMA.fullmatch(card.schema):
        raise UnsupportedStoreError(
            f"store.json names a catalog of {card.engine!r} in {card.schema!r}, which this program "
            "does not know",
            hint="use a newer version of hartonomous",
        )
    given = {} if url is None else parse_url(url)
    written = {name: value for name, value in card.parameters.items() if name in _KEPT}
    if given.keys() & PLACES:
        dbname = {"dbname": written["dbname"]} if "dbname" in written else {}
        return ServerPlace(parameters={**dbname, **given}, schema=card.schema)
    # The server is one that the store names, which somebody else may have made: it is not told the
    # password that the environment has for others, only shown that it is known.
    careful = {} if "PGREQUIREAUTH" in os.environ else password_is_kept()
    return ServerPlace(parameters={**careful, **written, **given}, schema=card.schema)


def check_server(url: str) -> None:
    """Raise the error of a server that can have no new catalog, before any work is done for it."""
    place = ServerPlace(parameters=parse_url(url), schema="public")
    CatalogSchema(place).check_making()
