"""Checks of a store's catalog, as `hart doctor` tells them, wherever it is kept."""

from pathlib import Path

from hartonomous.catalog import health
from hartonomous.catalog.database import SCHEMA_REVISION
from hartonomous.catalog.server_health import LEAST_SERVER, examine_server
from hartonomous.errors import HartonomousError, IntegrityError
from hartonomous.packs.catalog_file import CATALOG
from hartonomous.packs.catalog_home import CatalogHome, catalog_home, given_url
from hartonomous.packs.checks import Check, note, ok, problem
from hartonomous.packs.store_card import CatalogCard, read_card

_SLOW_S = 0.005


def look_at_catalog(path: Path) -> tuple[health.CatalogHealth | None, list[Check]]:
    """Look at the catalog of the store at ``path``; None where it cannot be read."""
    try:
        card = read_card(path)
    except HartonomousError:
        card = None  # which another check tells of; a file may be there all the same
    if card is None or not isinstance(card.catalog, CatalogCard):
        return _look_at_file(path / CATALOG)
    try:
        return _look_at_server(catalog_home(path, card, given_url()))
    except HartonomousError as error:
        remedy = error.hint or "see whether the server runs and lets you in"
        return None, [problem("catalog", error.message, remedy)]


def _look_at_server(home: CatalogHome) -> tuple[health.CatalogHealth | None, list[Check]]:
    database = home.open()
    try:
        found = examine_server(database)
    finally:
        database.close()
    text = f"PostgreSQL {found.version}, {found.latency_s * 1000:.2g} ms away"
    if found.version_number < LEAST_SERVER:
        server = note("server", text, "15 is the oldest version that is tested")
    elif not found.syncs:
        server = problem(
            "server", f"{text}, fsync is off", "switch fsync on: a crash loses changes"
        )
    elif found.latency_s > _SLOW_S:
        server = note("server", text, "each small step waits for an answer: a nearer server helps")
    else:
        server = ok("server", text)
    place = ok("catalog's place", home.shown())
    vectors = ok("vectors on the server", "indexed by pgvector")
    if not found.has_vectors:
        vectors = note(
            "vectors on the server",
            "no pgvector: indexes of vectors are files",
            "CREATE EXTENSION vector SCHEMA public, said by the database's owner",
        )
    if found.catalog.revision is None:
        remedy = "see that it is the right database; hart repair makes a new catalog there"
        return None, [
            server,
            place,
            vectors,
            problem("catalog", "holds no schema of this store", remedy),
        ]
    return found.catalog, [server, place, vectors, _schema(found.catalog.revision)]


def _look_at_file(place: Path) -> tuple[health.CatalogHealth | None, list[Check]]:
    if not place.exists():
        return None, [problem("catalog", "is missing", "hart repair rebuilds it from the packs")]
    if not place.is_file():
        text = "is no regular file"
        return None, [problem("catalog", text, "hart repair puts a new one in its place")]
    try:
        found = health.examine(place)
    except IntegrityError as error:
        return None, [problem("catalog", error.message, "hart repair rebuilds it from the packs")]
    except HartonomousError as error:
        return None, [problem("catalog", error.message, "see whether another program holds it")]
    said = _schema(found.revision)
    journal = ok("journal", "write-ahead log")
    if found.journal_mode != "wal":
        journal = note(
            "journal", f"mode {found.journal_mode}", "the next command sets write-ahead logging"
        )
    return found, [said, journal]


def _schema(revision: str | None) -> Check:
    text = f"schema {revision}"
    if revision is None:
        return problem("catalog", "holds no schema", "hart repair rebuilds it from the packs")
    if revision < SCHEMA_REVISION:
        return problem("catalog", f"{text}, this program's is {SCHEMA_REVISION}", "hart migrate")
    if revision > SCHEMA_REVISION:
        return problem(
            "catalog", f"{text}, this program knows {SCHEMA_REVISION}",
            "use a newer version of hartonomous",
        )  # fmt: skip
    return ok("catalog", text)
