"""A catalog as one file at one moment: copied while others write, checked when it comes back.

SQLite's own backup copies pages in steps. The connection that is read holds one read transaction
from before the first step to the last, so that all pages are of one moment and nothing begins anew
when somebody else writes; writers go on, their log is folded into the file afterwards.
"""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

from hartonomous.catalog import copying
from hartonomous.catalog import database as catalog
from hartonomous.catalog.database import Database
from hartonomous.catalog.disk_room import full_disk, lacks_room
from hartonomous.catalog.schema import store_property
from hartonomous.errors import IntegrityError, UnsupportedStoreError

_PAGES = 256
"""Pages that one step copies, 1 MiB: in between, progress is told and an interrupt is heard."""


def copy_catalog(
    database: Database, target: Path, advance: Callable[[int], None] = lambda _: None
) -> None:
    """Write the catalog as it is now into the new file ``target``, as one file without a log.

    ``advance`` is told bytes as they are copied. Durable only when the caller syncs it. Raises
    StorageFullError where the disk of ``target`` has no room.
    """
    with database.read() as tx:
        raw = tx.connection.dbapi_connection
        if not isinstance(raw, sqlite3.Connection):
            _copy_rows(database, target)
            return
        tx.execute(store_property.select().limit(1)).all()  # the moment: from here on one view
        page = int(raw.execute("PRAGMA page_size").fetchone()[0])
        left: list[int] = []

        def tell(_status: int, remaining: int, total: int) -> None:
            advance(page * ((left.pop() if left else total) - remaining))
            left.append(remaining)

        try:
            with contextlib.closing(sqlite3.connect(target)) as copy:
                raw.backup(copy, pages=_PAGES, progress=tell)
                # The copy says of itself that it has a write-ahead log; it is to be a plain file.
                copy.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorname", None) == "SQLITE_FULL"
            if not full and not lacks_room(target.parent):
                raise
            size = page * int(raw.execute("PRAGMA page_count").fetchone()[0])
            doing = f"cannot copy the catalog to {target}"
            raise full_disk(doing, target, wanted_bytes=size, how="") from error


def _copy_rows(database: Database, target: Path) -> None:
    """Copy a catalog on a server row by row, from one view of it, and compare."""
    copy = Database(catalog.create_sqlite(target))
    try:
        copying.copy_catalog(database, copy)
    finally:
        copy.close()


def open_snapshot(path: Path) -> Database:
    """Open a copy, brought to this program's schema; raises IntegrityError where it is damaged.

    Raises UnsupportedStoreError where a newer program wrote it.
    """
    engine = catalog.open_sqlite(path)
    try:
        with catalog.translated(catalog.rules_of(engine)), engine.connect() as connection:
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if found != "ok":
            raise IntegrityError(f"the copy of the catalog is damaged: {found}")
        revision = catalog.current_revision(engine)
        if revision is None or revision > catalog.SCHEMA_REVISION:
            raise UnsupportedStoreError(
                f"the copy of the catalog has schema {revision or 'none'}, this program knows"
                f" {catalog.SCHEMA_REVISION}",
                hint="use a newer version of hartonomous",
            )
        if revision != catalog.SCHEMA_REVISION:
            catalog.migrate(engine)
        return Database(engine)
    except BaseException:
        engine.dispose()
        raise
