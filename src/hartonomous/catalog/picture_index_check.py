"""Compares the rows of an index of pictures with the sums that are kept of them."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from hartonomous.catalog.derived_check import checking, rows_of
from hartonomous.core.row_sum import RowSum, row_sum

_PLACES = (
    "SELECT ordinal, picture_id, part, page, x, y, width, height FROM place"
    " WHERE source_id = ? ORDER BY ordinal"
)


def damage_of(path: Path) -> str | None:
    """Return what is wrong in the index at ``path``, None where it is sound.

    Raises sqlite3.Error for what SQLite refuses.
    """
    with checking(path) as connection:
        connection.execute("BEGIN")  # one moment for all that follows
        return next(_found(connection), None)


def _found(connection: sqlite3.Connection) -> Iterator[str]:
    told = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if told != "ok":
        yield str(told)
    for table, parts in (("picture", ("feature", "thumbnail")), ("source", ("place",))):
        for part in parts:
            query = f"SELECT count(*) FROM {part} WHERE {table}_id NOT IN (SELECT id FROM {table})"  # noqa: S608
            if connection.execute(query).fetchone()[0]:
                yield f"there is a {part} of no {table}"
    query = (
        "SELECT id, digest, facts, position, quality, pdq, layout, type, content, sum FROM picture"
        " LEFT JOIN feature ON feature.picture_id = id"
        " LEFT JOIN thumbnail ON thumbnail.picture_id = id"
    )
    for *fields, stored in rows_of(connection, query):
        if row_sum(*fields) != stored:
            yield "what is kept of a picture is not what was written"
    query = "SELECT id, digest, recipe, kind, pages, notices, sum FROM source"
    for source_id, *fields, stored in rows_of(connection, query):
        kept = RowSum()
        kept.add(*fields)
        for place in rows_of(connection, _PLACES, (source_id,)):
            kept.add(*place)
        if kept.digest() != stored:
            yield "the pictures of a file are not what was written"
