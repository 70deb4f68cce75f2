"""Steps of a work on the catalog's rows: a small transaction each, or all in one, to rehearse it.

A collection works in many small transactions, so that writers get their turn and it may end
anywhere. Its dry run does the same to the rows within a single transaction and takes that back.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from hartonomous.catalog import manifests, versions, writers
from hartonomous.catalog.database import ROWS_PER_TRANSACTION, Database

Steps = Callable[[], contextlib.AbstractContextManager[Any]]
"""Gives the transaction of one more step."""


def in_turn(database: Database) -> Steps:
    """Return steps of a transaction each; what a crash loses of them the next run does again."""
    return lambda: database.write(durable=False)


def within(tx: Any) -> Steps:
    """Return steps that all belong to one transaction."""

    @contextlib.contextmanager
    def step() -> Iterator[Any]:
        yield tx

    return step


def remove_all(step: Steps, remove: Callable[..., int]) -> None:
    """Call ``remove(tx, limit=…)``, which returns how many rows it removed, until none is left."""
    gone = ROWS_PER_TRANSACTION
    while gone == ROWS_PER_TRANSACTION:
        with step() as tx:
            gone = remove(tx, limit=ROWS_PER_TRANSACTION)


def remove_version(step: Steps, version_id: int) -> None:
    """Remove the rows of a version that nobody sees."""
    gone = False
    while not gone:
        with step() as tx:
            gone = versions.remove_some(tx, version_id, limit=ROWS_PER_TRANSACTION)


def remove_manifest(step: Steps, manifest_id: int) -> None:
    """Remove a manifest that is out of use."""
    gone = False
    while not gone:
        with step() as tx:
            gone = manifests.remove_some(tx, manifest_id, limit=ROWS_PER_TRANSACTION)


def remove_writer(step: Steps, writer_id: int) -> None:
    """Remove a finished or dead session's pins and staged versions, and then itself."""
    with step() as tx:
        staged = writers.staged_versions(tx, writer_id)
    for version_id in staged:
        remove_version(step, version_id)
    done = False
    while not done:
        with step() as tx:
            done = writers.drop_pins(tx, writer_id, limit=ROWS_PER_TRANSACTION)
            if done:
                writers.end(tx, writer_id)
