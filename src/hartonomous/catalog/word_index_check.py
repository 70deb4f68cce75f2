"""Compares an index of words with itself: rows with their sums, each index with its rows.

Sources and what is said of versions have sums. The terms are computed anew from the passages, and
compared with what FTS5 says that it holds, instance by instance, by sums of hashes: equal multisets
have equal sums, whatever their order, and others have equal sums once in 2**64 times.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from hartonomous.catalog.derived_check import checking, rows_of
from hartonomous.core.likeness import is_spelled, kept_keys
from hartonomous.core.row_sum import RowSum, row_sum
from hartonomous.core.terms import terms

_MASK = (1 << 64) - 1
_PASSAGES = (
    "SELECT id, kind, heading, page, start, stop, body FROM passage WHERE source_id = ? ORDER BY id"
)


class _Sums:
    """What the passages say, as sums: of terms' instances, of lengths, of terms' passages."""

    def __init__(self) -> None:
        self.instances = self.lengths = self.counts = 0
        self.totals = [0, 0, 0]  # passages, terms in headings, terms in bodies

    def take(self, row_id: int, heading: list[str], body: list[str]) -> None:
        for column, said in (("heading", heading), ("body", body)):
            self.instances += _instances(row_id, column, said)
        self.lengths += hash((row_id, _varint(len(heading)) + _varint(len(body))))
        self.counts += sum(map(hash, {*heading, *body}))
        for at, more in enumerate((1, len(heading), len(body))):
            self.totals[at] += more


def damage_of(path: Path) -> str | None:
    """Return what is wrong in the index at ``path``; None where it is sound, or not of this schema.

    Raises OSError or sqlite3.Error for what is no damage: no rights, a lock, no room.
    """
    with checking(path) as connection:
        for table in ("words", "said_words"):
            # Said in the manner of a write; it reads, and compares FTS5's own parts.
            connection.execute(f"INSERT INTO {table} ({table}) VALUES ('integrity-check')")  # noqa: S608
        connection.execute("BEGIN")  # one moment for all that follows
        return next(_found(connection), None)


def _found(connection: sqlite3.Connection) -> Iterator[str]:
    told = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if told != "ok":
        yield str(told)
    sums = _Sums()
    yield from _sources(connection, sums)
    yield from _words(connection, sums)
    yield from _said(connection)


def _sources(connection: sqlite3.Connection, sums: _Sums) -> Iterator[str]:
    """Compare each source and its passages with its sum; add up what passages hold."""
    query = (
        "SELECT id, digest, recipe, kind, title, pages, metadata, notices, passages, sum"
        " FROM source ORDER BY id"
    )
    there = connection.execute("SELECT count(*) FROM passage").fetchone()[0]
    for source_id, *fields, stored in rows_of(connection, query):
        kept = RowSum()
        kept.add(*fields)
        count = 0
        for row_id, *passage in rows_of(connection, _PASSAGES, (source_id,)):
            kept.add(*passage)
            count += 1
            sums.take(row_id, terms(passage[1]), terms(passage[5]))
        there -= count
        if kept.digest() != stored or count != fields[7]:
            yield "a file's passages are not what was written"
    if there:
        yield "there are passages of no file"


def _words(connection: sqlite3.Connection, sums: _Sums) -> Iterator[str]:
    """Compare what is looked up with what the passages say."""
    if (sums.instances - _held(connection, "words")) & _MASK:
        yield "the words are not those of the passages"
    lengths = sum(map(hash, rows_of(connection, "SELECT id, sz FROM words_docsize")))
    if (sums.lengths - lengths) & _MASK:
        yield "the lengths of passages are not what they are"
    block = connection.execute("SELECT block FROM words_data WHERE id = 1").fetchone()
    wanted = b"".join(map(_varint, sums.totals))
    if sums.totals[0] and (block is None or block[0] != wanted):
        yield "the numbers of words are not what they are"
    counts = spelled = 0
    for term, passages in rows_of(connection, "SELECT term, passages FROM term"):
        counts += passages * hash(term)
        if is_spelled(term):
            spelled += sum(hash((key, term)) for key in kept_keys(term))
    if (sums.counts - counts) & _MASK:
        yield "the numbers of passages that have a word are not what they are"
    if (spelled - sum(map(hash, rows_of(connection, "SELECT key, term FROM spelling")))) & _MASK:
        yield "the spellings are not those of the words"


def _said(connection: sqlite3.Connection) -> Iterator[str]:
    instances = 0
    for row_id, uid, stamp, said, stored in rows_of(
        connection, "SELECT id, uid, stamp, terms, sum FROM said"
    ):
        if row_sum(uid, stamp, said) != stored:
            yield "what is said of a version is not what was written"
        instances += _instances(row_id, "terms", said.split(" ") if said else [])
    if (instances - _held(connection, "said_words")) & _MASK:
        yield "the words said of versions are not those of their texts"


def _held(connection: sqlite3.Connection, table: str) -> int:
    """Return the sum over every instance of a term that FTS5 holds."""
    view = f"instances_of_{table}"
    connection.execute(
        f"CREATE VIRTUAL TABLE temp.{view} USING fts5vocab(main, {table}, 'instance')"
    )
    query = f'SELECT term, doc, col, "offset" FROM temp.{view}'  # noqa: S608
    return sum(map(hash, rows_of(connection, query)))


def _instances(row_id: int, column: str, said: Iterable[str]) -> int:
    return sum(hash((term, row_id, column, at)) for at, term in enumerate(said))


def _varint(number: int) -> bytes:
    """Return SQLite's spelling of a number below 2**56: seven bits a byte, the highest first."""
    said = [number & 0x7F]
    while number := number >> 7:
        said.append(0x80 | number & 0x7F)
    return bytes(reversed(said))
