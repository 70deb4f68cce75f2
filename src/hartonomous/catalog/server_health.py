"""What can be told of a PostgreSQL server and of a catalog there without changing anything."""

import time
from dataclasses import dataclass

from sqlalchemy import text

from hartonomous.catalog.database import Database, current_revision
from hartonomous.catalog.health import CatalogHealth, health_of

LEAST_SERVER = 150000
"""``server_version_num`` of the oldest release that is tested."""
_ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerHealth:
    """A server as it answers. ``latency_s`` is the shortest of some empty questions."""

    version: str
    version_number: int
    latency_s: float
    syncs: bool
    has_vectors: bool  # the extension pgvector
    catalog: CatalogHealth


def examine_server(database: Database) -> ServerHealth:
    """Ask the server; raises what ``Database`` raises where it does not answer."""
    with database.read() as tx:
        shown, number, fsync, has_vectors = tx.execute(
            text(
                "SELECT current_setting('server_version'), "
                "current_setting('server_version_num')::int, current_setting('fsync'), "
                "EXISTS (SELECT FROM pg_extension WHERE extname = 'vector')"
            )
        ).one()
        waits = []
        for _ in range(_ROUNDS):
            begun = time.perf_counter()
            tx.execute(text("SELECT 1")).one()
            waits.append(time.perf_counter() - begun)
    return ServerHealth(
        version=shown,
        version_number=number,
        latency_s=min(waits),
        syncs=fsync == "on",
        has_vectors=has_vectors,
        catalog=_examine(database),
    )


def _examine(database: Database) -> CatalogHealth:
    revision = current_revision(database.engine)
    if revision is None:
        return CatalogHealth(revision=None, journal_mode="", writers=(), packs={}, last_us=0)
    with database.read() as tx:
        return health_of(tx, revision=revision, journal_mode="")
