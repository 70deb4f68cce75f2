"""The index of words: passages of stored files, found by BM25 and by runs of three letters.

A database file of its own (SQLite, FTS5), derived: it may be deleted and is built anew from the
stored files. It knows files by their digest, never by name, so that renaming and removing cost it
nothing. Readers and writers of several processes may use it at once; one writes at a time.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from hartonomous.catalog.columns import decode_json
from hartonomous.catalog.derived_file import DerivedFile
from hartonomous.core.closing import Closing
from hartonomous.core.query import WordQuery

SCHEMA = 1
"""A file of another schema is deleted and built anew."""

_HEADING_WEIGHT = 2.0
_DELETED_AT_ONCE = 500
_TABLES = f"""
CREATE TABLE source (
  id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, recipe TEXT NOT NULL, kind TEXT NOT NULL,
  title TEXT NOT NULL, pages TEXT NOT NULL, metadata TEXT NOT NULL, notices TEXT NOT NULL,
  passages INTEGER NOT NULL
);
CREATE TABLE passage (
  id INTEGER PRIMARY KEY, source_id INTEGER NOT NULL REFERENCES source (id), kind TEXT NOT NULL,
  heading TEXT NOT NULL, page INTEGER NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL,
  body TEXT NOT NULL
);
CREATE INDEX ix_passage_source ON passage (source_id);
CREATE VIRTUAL TABLE words USING fts5(
  heading, body, content='passage', content_rowid='id',
  tokenize='unicode61 remove_diacritics 2', prefix='3'
);
CREATE VIRTUAL TABLE known USING fts5vocab(words, row);
CREATE VIRTUAL TABLE grams USING fts5(
  heading, body, content='passage', content_rowid='id', tokenize='trigram', detail='none'
);
PRAGMA user_version = {SCHEMA};
"""


_FILE = DerivedFile(
    what="the index of words",
    schema=SCHEMA,
    tables=_TABLES,
    names=frozenset(("source", "passage", "words", "known", "grams")),
)


class IndexedSource(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one file; without passages where it has no text that is read."""

    digest: bytes
    recipe: str
    kind: str
    title: str = ""
    pages: str = ""
    metadata: dict[str, str] = {}
    notices: tuple[tuple[str, str], ...] = ()
    passages: int = 0


class IndexedPassage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One passage; see ``core.passage.Passage``."""

    id: int = 0
    digest: bytes = b""
    kind: str
    heading: str
    page: int
    start: int
    stop: int
    text: str


class WordIndex(Closing):
    """One index, open; close it, or use it as a context manager. Not for several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = _FILE.open(path)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    # -- in

    def put(self, source: IndexedSource, passages: Sequence[IndexedPassage]) -> None:
        """Take in one file's passages, in the place of those that were there."""
        with _FILE.writing(self._connection) as tx:
            self._forget(tx, [source.digest])
            source_id = tx.execute(
                "INSERT INTO source (digest, recipe, kind, title, pages, metadata, notices,"
                " passages) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (source.digest, source.recipe, source.kind, source.title, source.pages,
                 json.dumps(source.metadata), json.dumps(source.notices), len(passages)),
            ).lastrowid  # fmt: skip
            for one in passages:
                row_id = tx.execute(
                    "INSERT INTO passage (source_id, kind, heading, page, start, stop, body)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (source_id, one.kind, one.heading, one.page, one.start, one.stop, one.text),
                ).lastrowid
                for table in ("words", "grams"):
                    tx.execute(
                        f"INSERT INTO {table} (rowid, heading, body) VALUES (?, ?, ?)",  # noqa: S608
                        (row_id, one.heading, one.text),
                    )

    def forget(self, digests: Iterable[bytes]) -> int:
        """Leave files out from now on; return how many there were."""
        wanted = list(digests)
        count = 0
        for at in range(0, len(wanted), _DELETED_AT_ONCE):
            with _FILE.writing(self._connection) as tx:
                count += self._forget(tx, wanted[at : at + _DELETED_AT_ONCE])
        return count

    def _forget(self, tx: sqlite3.Connection, digests: Sequence[bytes]) -> int:
        count = 0
        for digest in digests:
            found = tx.execute("SELECT id FROM source WHERE digest = ?", (digest,)).fetchone()
            if found is None:
                continue
            count += 1
            for table in ("words", "grams"):
                # An index of outside content has to be told what it held.
                tx.execute(
                    f"INSERT INTO {table} ({table}, rowid, heading, body)"  # noqa: S608
                    " SELECT 'delete', id, heading, body FROM passage WHERE source_id = ?",
                    found,
                )
            tx.execute("DELETE FROM passage WHERE source_id = ?", found)
            tx.execute("DELETE FROM source WHERE id = ?", found)
        return count

    # -- out

    def recipes(self) -> dict[bytes, str]:
        """Return {file digest: recipe} of every file that was read."""
        with _FILE.translated():
            return dict(self._connection.execute("SELECT digest, recipe FROM source"))

    def source(self, digest: bytes) -> IndexedSource | None:
        """Return what is known of a file."""
        with _FILE.translated():
            row = self._connection.execute(
                "SELECT digest, recipe, kind, title, pages, metadata, notices, passages"
                " FROM source WHERE digest = ?",
                (digest,),
            ).fetchone()
        if row is None:
            return None
        return IndexedSource(
            digest=row[0], recipe=row[1], kind=row[2], title=row[3], pages=row[4],
            metadata=decode_json(row[5], dict[str, str]),
            notices=decode_json(row[6], tuple[tuple[str, str], ...]), passages=row[7],
        )  # fmt: skip

    def passages_of(self, digest: bytes) -> list[IndexedPassage]:
        """Return a file's passages in order."""
        return self._passages("source.digest = ? ORDER BY passage.id", (digest,))

    def passages(self, ids: Sequence[int]) -> dict[int, IndexedPassage]:
        """Return {id: passage}, at most 500 at once."""
        marks = ", ".join("?" * len(ids))
        return {one.id: one for one in self._passages(f"passage.id IN ({marks})", tuple(ids))}

    def _passages(self, condition: str, values: tuple[object, ...]) -> list[IndexedPassage]:
        query = (
            "SELECT passage.id, source.digest, passage.kind, heading, page, start, stop, body"  # noqa: S608
            f" FROM passage JOIN source ON source.id = passage.source_id WHERE {condition}"
        )
        with _FILE.translated():
            rows = self._connection.execute(query, values).fetchall()
        return [
            IndexedPassage(
                id=row[0], digest=row[1], kind=row[2], heading=row[3], page=row[4], start=row[5],
                stop=row[6], text=row[7],
            )
            for row in rows
        ]  # fmt: skip

    def by_words(self, query: WordQuery, *, limit: int) -> list[tuple[int, bytes, float]]:
        """Return (passage id, file digest, BM25) of what holds a word or all phrases, best first.

        Larger is better. SQLite's BM25 has k1 = 1.2 and b = 0.75; headings count twice.
        """
        return self._ranked("words", _match_words(query), limit)

    def by_grams(self, query: WordQuery, *, limit: int) -> list[tuple[int, bytes, float]]:
        """Return what shares runs of three letters with the words, best first."""
        if not query.grams:
            return []
        return self._ranked("grams", " OR ".join(_quoted(one) for one in query.grams), limit)

    def _ranked(self, table: str, match: str, limit: int) -> list[tuple[int, bytes, float]]:
        query = (
            f"SELECT {table}.rowid, source.digest, -bm25({table}, {_HEADING_WEIGHT}, 1.0) AS score"  # noqa: S608
            f" FROM {table} JOIN passage ON passage.id = {table}.rowid"
            " JOIN source ON source.id = passage.source_id"
            f" WHERE {table} MATCH ? ORDER BY score DESC, {table}.rowid LIMIT ?"
        )
        with _FILE.translated():
            return [tuple(row) for row in self._connection.execute(query, (match, limit))]

    def unknown(self, terms: Iterable[str]) -> list[str]:
        """Return the terms that no passage holds."""
        found = []
        with _FILE.translated():
            for term in terms:
                match = _quoted(term)
                query = "SELECT 1 FROM words WHERE words MATCH ? LIMIT 1"
                if self._connection.execute(query, (match,)).fetchone() is None:
                    found.append(term)
        return found

    def totals(self) -> dict[str, tuple[int, int]]:
        """Return {kind: (files, passages)}."""
        query = "SELECT kind, count(*), sum(passages) FROM source GROUP BY kind ORDER BY kind"
        with _FILE.translated():
            return {kind: (files, count) for kind, files, count in self._connection.execute(query)}


def _quoted(text: str) -> str:
    """Return a text as a string of FTS5's language, in which nothing has a meaning."""
    doubled = text.replace('"', '""').replace("\0", " ")  # a zero would end it
    return f'"{doubled}"'


def _match_words(query: WordQuery) -> str:
    words = [_quoted(one) for one in query.words]
    required = " AND ".join(_quoted(one) for one in query.phrases)
    match = " OR ".join(words)
    if required:
        # The words are not required, but count where they are there.
        match = f"({required}) AND ({' OR '.join([f'({required})', *words])})"
    if query.without:
        match = f"({match}) NOT ({' OR '.join(_quoted(one) for one in query.without)})"
    return match


def delete_index(path: Path) -> None:
    """Delete an index; who has it open goes on with what it was."""
    _FILE.delete(path)
