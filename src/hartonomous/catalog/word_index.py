"""The index of words of a store whose catalog is SQLite: a database file of its own, with FTS5.

It is derived: it may be deleted and is built anew from the stored files. It gets terms, not texts
(``core.terms``), so that what is a word is decided in one place for every index. Readers and
writers of several processes may use it at once; one writes at a time.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from hartonomous.catalog import word_index_check
from hartonomous.catalog.columns import decode_json
from hartonomous.catalog.derived_file import DerivedFile
from hartonomous.core.indexed_text import (
    IndexedPassage,
    IndexedSource,
    Phrase,
    RankedPassage,
    SaidVersion,
    WordMatch,
)
from hartonomous.core.likeness import asked_keys, beginning, is_spelled, kept_keys
from hartonomous.core.row_sum import RowSum, row_sum
from hartonomous.core.terms import terms

SCHEMA = 3
"""A file of another schema is deleted and built anew."""

# Terms are alphanumeric already: the tokenizer ``ascii`` only parts them at blanks.
_TABLES = f"""
CREATE TABLE source (
  id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, recipe TEXT NOT NULL, kind TEXT NOT NULL,
  title TEXT NOT NULL, pages TEXT NOT NULL, metadata TEXT NOT NULL, notices TEXT NOT NULL,
  passages INTEGER NOT NULL, sum BLOB NOT NULL
);
CREATE TABLE passage (
  id INTEGER PRIMARY KEY, source_id INTEGER NOT NULL REFERENCES source (id), kind TEXT NOT NULL,
  heading TEXT NOT NULL, page INTEGER NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL,
  body TEXT NOT NULL
);
CREATE INDEX ix_passage_source ON passage (source_id);
CREATE VIRTUAL TABLE words USING fts5(heading, body, content='', tokenize='ascii');
CREATE TABLE term (term TEXT PRIMARY KEY, passages INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE spelling (key INTEGER, term TEXT, PRIMARY KEY (key, term)) WITHOUT ROWID;
CREATE TABLE said (
  id INTEGER PRIMARY KEY, uid BLOB NOT NULL UNIQUE, stamp BLOB NOT NULL, terms TEXT NOT NULL,
  sum BLOB NOT NULL
);
CREATE VIRTUAL TABLE said_words USING fts5(terms, content='', tokenize='ascii');
CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {SCHEMA};
"""
_HEADING_WEIGHT = 2.0
_AT_ONCE = 500
_CANDIDATES = 400


_FILE = DerivedFile(
    what="the index of words",
    schema=SCHEMA,
    tables=_TABLES,
    names=frozenset(
        ("source", "passage", "words", "term", "spelling", "said", "said_words", "state")
    ),
)


class WordIndex:
    """One index, open; see ``ports.text_index.TextIndex``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = _FILE.open(path)
        self._file = _identity(path)
        self._passages_at: tuple[tuple[int, int], int] | None = None

    def is_in_place(self) -> bool:
        """Say whether the file was not deleted or replaced since it was opened."""
        return self._file is not None and self._file == _identity(self.path)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def is_writable(self) -> bool:
        """Say yes: opening it writes."""
        return True

    # -- in

    def mark(self) -> str:
        """Return what ``set_mark`` was last given, empty at first and where it is damaged."""
        with _FILE.translated():
            row = self._connection.execute("SELECT value FROM state WHERE name = 'mark'").fetchone()
        if row is None:
            return ""
        mark, _, stored = str(row[0]).rpartition(" ")
        return mark if stored == row_sum(mark).hex() else ""

    def set_mark(self, mark: str) -> None:
        """Remember up to which change of the catalog everything is in it."""
        kept = f"{mark} {row_sum(mark).hex()}"
        with _FILE.writing(self._connection) as tx:
            tx.execute("INSERT OR REPLACE INTO state VALUES ('mark', ?)", (kept,))

    def put(self, source: IndexedSource, passages: Sequence[IndexedPassage]) -> None:
        """Take in one file's passages, in the place of those that were there."""
        with _FILE.writing(self._connection) as tx:
            self._forget(tx, [source.digest])
            fields = (
                source.digest, source.recipe, source.kind, source.title, source.pages,
                json.dumps(source.metadata), json.dumps(source.notices), len(passages),
            )  # fmt: skip
            source_id = tx.execute(
                "INSERT INTO source (digest, recipe, kind, title, pages, metadata, notices,"
                " passages, sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*fields, _sum_of(fields, passages)),
            ).lastrowid
            counts: Counter[str] = Counter()
            for one in passages:
                row_id = tx.execute(
                    "INSERT INTO passage (source_id, kind, heading, page, start, stop, body)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (source_id, one.kind, one.heading, one.page, one.start, one.stop, one.text),
                ).lastrowid
                heading, body = terms(one.heading), terms(one.text)
                counts.update({*heading, *body})
                tx.execute(
                    "INSERT INTO words (rowid, heading, body) VALUES (?, ?, ?)",
                    (row_id, " ".join(heading), " ".join(body)),
                )
            self._count(tx, counts)

    def forget(self, digests: Iterable[bytes]) -> int:
        """Leave files out from now on; return how many there were."""
        wanted = list(digests)
        count = 0
        for at in range(0, len(wanted), _AT_ONCE):
            with _FILE.writing(self._connection) as tx:
                count += self._forget(tx, wanted[at : at + _AT_ONCE])
        return count

    def _forget(self, tx: sqlite3.Connection, digests: Sequence[bytes]) -> int:
        count = 0
        for digest in digests:
            found = tx.execute("SELECT id FROM source WHERE digest = ?", (digest,)).fetchone()
            if found is None:
                continue
            count += 1
            counts: Counter[str] = Counter()
            query = "SELECT id, heading, body FROM passage WHERE source_id = ?"
            for row_id, *texts in tx.execute(query, found).fetchall():
                heading, body = (terms(text) for text in texts)
                counts.update({*heading, *body})
                # An index without content has to be told what it held.
                tx.execute(
                    "INSERT INTO words (words, rowid, heading, body) VALUES ('delete', ?, ?, ?)",
                    (row_id, " ".join(heading), " ".join(body)),
                )
            self._uncount(tx, counts)
            tx.execute("DELETE FROM passage WHERE source_id = ?", found)
            tx.execute("DELETE FROM source WHERE id = ?", found)
        return count

    def _count(self, tx: sqlite3.Connection, counts: Counter[str]) -> None:
        known = self._known(tx, counts)
        tx.executemany(
            "UPDATE term SET passages = passages + ? WHERE term = ?",
            [(counts[one], one) for one in known],
        )
        new = sorted(counts.keys() - known)
        tx.executemany("INSERT INTO term VALUES (?, ?)", [(one, counts[one]) for one in new])
        tx.executemany("INSERT OR IGNORE INTO spelling VALUES (?, ?)", _spellings(new))

    def _uncount(self, tx: sqlite3.Connection, counts: Counter[str]) -> None:
        tx.executemany(
            "UPDATE term SET passages = passages - ? WHERE term = ?",
            [(count, one) for one, count in counts.items()],
        )
        query = "SELECT 1 FROM term WHERE term = ? AND passages <= 0"
        gone = [one for one in counts if tx.execute(query, (one,)).fetchone()]
        tx.executemany("DELETE FROM term WHERE term = ?", [(one,) for one in gone])
        tx.executemany("DELETE FROM spelling WHERE key = ? AND term = ?", _spellings(gone))

    def _known(self, tx: sqlite3.Connection, wanted: Iterable[str]) -> dict[str, int]:
        listed = list(wanted)
        found: dict[str, int] = {}
        for at in range(0, len(listed), _AT_ONCE):
            some = listed[at : at + _AT_ONCE]
            query = f"SELECT term, passages FROM term WHERE term IN ({_marks(some)})"  # noqa: S608
            found.update(tx.execute(query, some))
        return found

    def put_said(self, versions: Iterable[SaidVersion]) -> None:
        """Take in what is said of versions, in the place of what was."""
        with _FILE.writing(self._connection) as tx:
            for one in versions:
                self._forget_said(tx, one.uid)
                text = " ".join(terms(one.text))
                row_id = tx.execute(
                    "INSERT INTO said (uid, stamp, terms, sum) VALUES (?, ?, ?, ?)",
                    (one.uid, one.stamp, text, row_sum(one.uid, one.stamp, text)),
                ).lastrowid
                tx.execute("INSERT INTO said_words (rowid, terms) VALUES (?, ?)", (row_id, text))

    def forget_said(self, uids: Iterable[bytes]) -> None:
        """Leave versions out from now on."""
        with _FILE.writing(self._connection) as tx:
            for uid in uids:
                self._forget_said(tx, uid)

    def _forget_said(self, tx: sqlite3.Connection, uid: bytes) -> None:
        found = tx.execute("SELECT id, terms FROM said WHERE uid = ?", (uid,)).fetchone()
        if found is not None:
            tx.execute(
                "INSERT INTO said_words (said_words, rowid, terms) VALUES ('delete', ?, ?)", found
            )
            tx.execute("DELETE FROM said WHERE id = ?", found[:1])

    # -- out

    def recipes(self) -> dict[bytes, str]:
        """Return {file digest: recipe} of every file that was read."""
        with _FILE.translated():
            return dict(self._connection.execute("SELECT digest, recipe FROM source"))

    def stamps(self) -> dict[bytes, bytes]:
        """Return {uid: stamp} of every version that something is said of."""
        with _FILE.translated():
            return dict(self._connection.execute("SELECT uid, stamp FROM said"))

    def sources(self, digests: Iterable[bytes]) -> dict[bytes, IndexedSource]:
        """Return what is known of files."""
        listed = list(digests)
        found = {}
        for at in range(0, len(listed), _AT_ONCE):
            some = listed[at : at + _AT_ONCE]
            query = (
                "SELECT digest, recipe, kind, title, pages, metadata, notices, passages"  # noqa: S608
                f" FROM source WHERE digest IN ({_marks(some)})"
            )
            with _FILE.translated():
                rows = self._connection.execute(query, some).fetchall()
            for row in rows:
                found[row[0]] = IndexedSource(
                    digest=row[0], recipe=row[1], kind=row[2], title=row[3], pages=row[4],
                    metadata=decode_json(row[5], dict[str, str]),
                    notices=decode_json(row[6], tuple[tuple[str, str], ...]), passages=row[7],
                )  # fmt: skip
        return found

    def passages_of(self, digest: bytes) -> list[IndexedPassage]:
        """Return a file's passages in order."""
        return self._passages("source.digest = ? ORDER BY passage.id", (digest,))

    def passage_at(self, digest: bytes, page: int, start: int) -> IndexedPassage | None:
        """Return the passage of a file that begins at a character of a page, None if none does."""
        condition = "source.digest = ? AND page = ? AND start = ? ORDER BY passage.id LIMIT 1"
        return next(iter(self._passages(condition, (digest, page, start))), None)

    def passages(self, ids: Sequence[int]) -> dict[int, IndexedPassage]:
        """Return {id: passage} of those that are there."""
        found = {}
        for at in range(0, len(ids), _AT_ONCE):
            some = ids[at : at + _AT_ONCE]
            for one in self._passages(f"passage.id IN ({_marks(some)})", tuple(some)):
                found[one.id] = one
        return found

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

    def ranked(self, match: WordMatch, *, limit: int) -> list[RankedPassage]:
        """Return what matches by its BM25, the best first."""
        rows = self._ranked(_said(match), limit)
        if match.also:
            # FTS5 counts a phrase as often as it is named, so what only counts is asked for beside
            # the rest: a row of the best by both is among the best of one of these.
            found = {row.id: row for row in rows}
            for row in self._ranked(f"({_said(match)}) AND ({_any(match.also)})", limit):
                if row.id not in found or found[row.id].score < row.score:
                    found[row.id] = row
            rows = sorted(found.values(), key=lambda row: (-row.score, row.id))[:limit]
        return rows

    def _ranked(self, said: str, limit: int) -> list[RankedPassage]:
        # The rows of the best alone are looked at: joining before the order took most of the time.
        query = (
            "SELECT best.id, source.digest, passage.page, passage.start, best.score FROM ("  # noqa: S608
            f" SELECT rowid AS id, -bm25(words, {_HEADING_WEIGHT}, 1.0) AS score FROM words"
            " WHERE words MATCH ? ORDER BY score DESC, rowid LIMIT ?) AS best"
            " JOIN passage ON passage.id = best.id JOIN source ON source.id = passage.source_id"
            " ORDER BY best.score DESC, best.id"
        )
        with _FILE.translated():
            rows = self._connection.execute(query, (said, limit)).fetchall()
        return [RankedPassage(*row) for row in rows]

    def ranked_said(self, match: WordMatch, *, limit: int) -> list[tuple[bytes, float]]:
        """Return (version's uid, BM25) of the versions of which it is said, the best first."""
        query = (
            "SELECT said.uid, best.score FROM ("
            " SELECT rowid AS id, -bm25(said_words) AS score FROM said_words"
            " WHERE said_words MATCH ? ORDER BY score DESC, rowid DESC LIMIT ?) AS best"
            " JOIN said ON said.id = best.id ORDER BY best.score DESC, best.id DESC"
        )
        with _FILE.translated():
            return [tuple(row) for row in self._connection.execute(query, (_said(match), limit))]

    def passage_count(self) -> int:
        """Return how many passages there are."""
        with _FILE.translated():
            # Of what others commit the first number tells, of what is written here the second.
            others = self._connection.execute("PRAGMA data_version").fetchone()[0]
            state = (others, self._connection.total_changes)
            if self._passages_at is None or self._passages_at[0] != state:
                row = self._connection.execute("SELECT sum(passages) FROM source").fetchone()
                self._passages_at = (state, int(row[0] or 0))
        return self._passages_at[1]

    def counts(self, terms: Iterable[str]) -> dict[str, int]:
        """Return {term: passages that have it} of those that any has."""
        with _FILE.translated():
            return self._known(self._connection, terms)

    def candidates(self, term: str) -> list[str]:
        """Return terms of passages that may be like this one."""
        if not is_spelled(term):
            return []
        keys = sorted(asked_keys(term))
        first = beginning(term)
        spelled = f"SELECT DISTINCT term FROM spelling WHERE key IN ({_marks(keys)}) LIMIT ?"  # noqa: S608
        begun = "SELECT term FROM term WHERE term >= ? AND term < ? LIMIT ?"
        with _FILE.translated():
            rows = [
                *self._connection.execute(spelled, (*keys, _CANDIDATES)),
                *self._connection.execute(begun, (first, f"{first}\U0010ffff", _CANDIDATES)),
            ]
        return [row[0] for row in rows]

    def metadata_keys(self) -> set[str]:
        """Return the keys that the metadata of any file has."""
        query = "SELECT DISTINCT metadata FROM source WHERE metadata != '{}'"
        with _FILE.translated():
            rows = self._connection.execute(query).fetchall()
        found: set[str] = set()
        for (told,) in rows:
            found.update(decode_json(told, dict[str, str]))
        return found

    def totals(self) -> dict[str, tuple[int, int]]:
        """Return {kind: (files, passages)}."""
        query = "SELECT kind, count(*), sum(passages) FROM source GROUP BY kind ORDER BY kind"
        with _FILE.translated():
            return {kind: (files, count) for kind, files, count in self._connection.execute(query)}

    def stored_bytes(self) -> int:
        """Return what its files take."""
        return _FILE.stored_bytes(self.path)


def _sum_of(fields: tuple[object, ...], passages: Iterable[IndexedPassage]) -> bytes:
    """Return the sum that is kept of a file and its passages; see ``word_index_check``."""
    kept = RowSum()
    kept.add(*fields)
    for one in passages:
        kept.add(one.kind, one.heading, one.page, one.start, one.stop, one.text)
    return kept.digest()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _spellings(words: Iterable[str]) -> list[tuple[int, str]]:
    return [(key, one) for one in words if is_spelled(one) for key in kept_keys(one)]


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _said(match: WordMatch) -> str:
    """Return what is looked for in FTS5's language; in quotes nothing of a term has a meaning."""
    said = _any(match.any_of)
    if match.all_of:
        required = " AND ".join(map(_quoted, match.all_of))
        # The words are not required, but count where they are there.
        said = f"({required}) AND (({required}){f' OR {said}' if said else ''})"
    if match.none_of:
        said = f"({said}) NOT ({_any(match.none_of)})"
    return said


def _any(phrases: Sequence[Phrase]) -> str:
    return " OR ".join(map(_quoted, phrases))


def _quoted(phrase: Phrase) -> str:
    return f'"{" ".join(phrase)}"'


def damage_of(path: Path) -> str | None:
    """Return what is wrong with the index at ``path``; see ``DerivedFile.damage``."""
    return _FILE.damage(path, word_index_check.damage_of)


def delete_index(path: Path) -> None:
    """Delete an index; who has it open goes on with what it was."""
    _FILE.delete(path)
