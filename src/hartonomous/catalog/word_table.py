"""The index of words of a store whose catalog is on PostgreSQL: tables of the store's schema.

They begin with ``derived_`` and are no part of the catalog: no migration makes them, no copy takes
them along, and they may be dropped at will. A passage's terms lie in a ``tsvector`` that is written
here, so that they are the same ones as in the other index (``core.terms``); BM25 is computed from
it, since the server's own ranks know nothing of how rare a word is.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Self

from sqlalchemy import Connection, text

from hartonomous.catalog.batches import batches
from hartonomous.catalog.columns import decode_json, escaped, unescaped
from hartonomous.catalog.database import Database
from hartonomous.catalog.derived_tables import PREFIX, check_may_make, share_tables
from hartonomous.catalog.word_ranks import quoted, ranked
from hartonomous.catalog.word_table_check import damage_in, summed
from hartonomous.core.indexed_text import (
    IndexedPassage,
    IndexedSource,
    RankedPassage,
    SaidVersion,
    WordMatch,
)
from hartonomous.core.likeness import asked_keys, beginning, is_spelled, kept_keys
from hartonomous.core.terms import terms

SCHEMA = "2"
"""Tables of another schema are dropped and made anew."""

_PREFIX = f"{PREFIX}word_"
_TABLES = ("source", "passage", "term", "spelling", "said", "state")
_CANDIDATES = 400
_AVERAGED = 5_000  # so many passages are all read for their average length; of more a sample
_MOST_PLACE = 16_383  # what a tsvector counts up to
_MOST_PLACES = 255  # of one term
_MAKE = f"""
CREATE TABLE derived_word_source (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, digest bytea NOT NULL UNIQUE,
  recipe text NOT NULL, kind text NOT NULL, title text NOT NULL, pages text NOT NULL,
  metadata text NOT NULL, notices text NOT NULL, passages bigint NOT NULL,
  sum bigint GENERATED ALWAYS AS ({summed("source")}) STORED);
CREATE TABLE derived_word_passage (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, source_id bigint NOT NULL,
  kind text NOT NULL, heading text NOT NULL, page bigint NOT NULL, start bigint NOT NULL,
  stop bigint NOT NULL, body text NOT NULL, length int NOT NULL, words tsvector NOT NULL,
  sum bigint GENERATED ALWAYS AS ({summed("passage")}) STORED);
CREATE INDEX ON derived_word_passage (source_id);
CREATE INDEX ON derived_word_passage USING gin (words);
CREATE TABLE derived_word_term (term text COLLATE "C" PRIMARY KEY, passages bigint NOT NULL);
CREATE TABLE derived_word_spelling (
  key bigint, term text COLLATE "C", PRIMARY KEY (key, term));
CREATE TABLE derived_word_said (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, uid bytea NOT NULL UNIQUE,
  stamp bytea NOT NULL, length int NOT NULL, words tsvector NOT NULL,
  sum bigint GENERATED ALWAYS AS ({summed("said")}) STORED);
CREATE INDEX ON derived_word_said USING gin (words);
CREATE TABLE derived_word_state (name text PRIMARY KEY, value text NOT NULL)
"""


class WordTable:
    """The tables, which are made when they are missing; see ``ports.text_index.TextIndex``.

    Raises HartonomousError where they are missing and this role may not make them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.read() as tx:
            there = _schema(tx) == SCHEMA
            if not there:
                check_may_make(tx, "the index of words")
        if not there:
            database.run(_make)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def is_writable(self) -> bool:
        """Say whether this user may write the tables."""
        with self._database.read() as tx:
            query = "SELECT has_table_privilege('derived_word_source', 'INSERT')"
            return bool(tx.scalar(text(query)))

    # -- in

    def mark(self) -> str:
        """Return what ``set_mark`` was last given, empty at first."""
        with self._database.read() as tx:
            return _state(tx, "mark")

    def set_mark(self, mark: str) -> None:
        """Remember up to which change of the catalog everything is in it."""
        self._database.run(lambda tx: _set_state(tx, "mark", mark))

    def put(self, source: IndexedSource, passages: Sequence[IndexedPassage]) -> None:
        """Take in one file's passages, in the place of those that were there."""
        made = [_Row(one) for one in passages]
        self._database.run(lambda tx: _put(tx, source, made), durable=False)

    def forget(self, digests: Iterable[bytes]) -> int:
        """Leave files out from now on; return how many there were."""
        count = 0
        for some in batches(list(digests), 50):
            count += self._database.run(lambda tx, some=some: _forget(tx, some))  # type: ignore[misc]
        return count

    def put_said(self, versions: Iterable[SaidVersion]) -> None:
        """Take in what is said of versions, in the place of what was."""
        for some in batches(list(versions)):
            self._database.run(lambda tx, some=some: _put_said(tx, some))  # type: ignore[misc]

    def forget_said(self, uids: Iterable[bytes]) -> None:
        """Leave versions out from now on."""
        query = text("DELETE FROM derived_word_said WHERE uid = ANY(:uids)")
        values = {"uids": list(uids)}
        self._database.run(lambda tx: tx.execute(query, values))

    # -- out

    def recipes(self) -> dict[bytes, str]:
        """Return {file digest: recipe} of every file that was read."""
        return _pairs(self._rows("SELECT digest, recipe FROM derived_word_source"))

    def stamps(self) -> dict[bytes, bytes]:
        """Return {uid: stamp} of every version that something is said of."""
        return _pairs(self._rows("SELECT uid, stamp FROM derived_word_said"))

    def sources(self, digests: Iterable[bytes]) -> dict[bytes, IndexedSource]:
        """Return what is known of files."""
        query = (
            "SELECT digest, recipe, kind, title, pages, metadata, notices, passages"
            " FROM derived_word_source WHERE digest = ANY(:digests)"
        )
        rows = self._rows(query, digests=list(digests))
        return {
            row[0]: IndexedSource(
                digest=row[0], recipe=row[1], kind=row[2], title=unescaped(row[3]), pages=row[4],
                metadata=decode_json(unescaped(row[5]), dict[str, str]),
                notices=decode_json(unescaped(row[6]), tuple[tuple[str, str], ...]),
                passages=row[7],
            )
            for row in rows
        }  # fmt: skip

    def passages_of(self, digest: bytes) -> list[IndexedPassage]:
        """Return a file's passages in order."""
        return self._passages("source.digest = :digest ORDER BY passage.id", digest=digest)

    def passage_at(self, digest: bytes, page: int, start: int) -> IndexedPassage | None:
        """Return the passage of a file that begins at a character of a page, None if none does."""
        found = self._passages(
            "source.digest = :digest AND page = :page AND start = :start"
            " ORDER BY passage.id LIMIT 1",
            digest=digest, page=page, start=start,
        )  # fmt: skip
        return next(iter(found), None)

    def passages(self, ids: Sequence[int]) -> dict[int, IndexedPassage]:
        """Return {id: passage} of those that are there."""
        return {one.id: one for one in self._passages("passage.id = ANY(:ids)", ids=list(ids))}

    def _passages(self, condition: str, **values: object) -> list[IndexedPassage]:
        query = (
            "SELECT passage.id, source.digest, passage.kind, heading, page, start, stop, body"  # noqa: S608
            " FROM derived_word_passage AS passage JOIN derived_word_source AS source"
            f" ON source.id = passage.source_id WHERE {condition}"
        )
        return [
            IndexedPassage(
                id=row[0], digest=row[1], kind=row[2], heading=unescaped(row[3]), page=row[4],
                start=row[5], stop=row[6], text=unescaped(row[7]),
            )
            for row in self._rows(query, **values)
        ]  # fmt: skip

    def ranked(self, match: WordMatch, *, limit: int) -> list[RankedPassage]:
        """Return what matches by its BM25, the best first."""
        with self._database.read() as tx:
            counts = _counts(tx, match.terms)
            total = int(tx.scalar(text("SELECT sum(passages) FROM derived_word_source")) or 0)
            # A sample of few rows may have none. The same one each time: equal searches are equal.
            sample = "" if total <= _AVERAGED else " TABLESAMPLE SYSTEM (5) REPEATABLE (1)"
            mean = f"SELECT avg(length) FROM derived_word_passage{sample}"  # noqa: S608
            average = tx.scalar(text(mean))
            rows = ranked(
                tx, "derived_word_passage", match, counts=counts, total=total,
                average=float(average or 0), limit=limit,
            )  # fmt: skip
            query = (
                "SELECT passage.id, digest, page, start FROM derived_word_passage AS passage"
                " JOIN derived_word_source AS source ON source.id = source_id"
                " WHERE passage.id = ANY(:ids)"
            )
            found = tx.execute(text(query), {"ids": [row_id for row_id, _ in rows]})
            places = {row[0]: row for row in found}
        return [
            RankedPassage(row_id, places[row_id][1], places[row_id][2], places[row_id][3], score)
            for row_id, score in rows
        ]

    def ranked_said(self, match: WordMatch, *, limit: int) -> list[tuple[bytes, float]]:
        """Return (version's uid, BM25) of the versions of which it is said, the best first."""
        with self._database.read() as tx:
            of = text(
                "SELECT count(*) FROM derived_word_said WHERE words @@ CAST(:term AS tsquery)"
            )
            counts = {one: int(tx.scalar(of, {"term": quoted((one,))}) or 0) for one in match.terms}
            totals = tx.execute(text("SELECT count(*), avg(length) FROM derived_word_said")).one()
            rows = ranked(
                tx, "derived_word_said", match, counts=counts, total=int(totals[0]),
                average=float(totals[1] or 0), limit=limit,
            )  # fmt: skip
            query = text("SELECT id, uid FROM derived_word_said WHERE id = ANY(:ids)")
            uids = _pairs(tx.execute(query, {"ids": [row_id for row_id, _ in rows]}))
        return [(uids[row_id], score) for row_id, score in rows]

    def passage_count(self) -> int:
        """Return how many passages there are."""
        rows = self._rows("SELECT sum(passages) FROM derived_word_source")
        return int(rows[0][0] or 0)

    def counts(self, terms: Iterable[str]) -> dict[str, int]:
        """Return {term: passages that have it} of those that any has."""
        with self._database.read() as tx:
            return _counts(tx, terms)

    def candidates(self, term: str) -> list[str]:
        """Return terms of passages that may be like this one."""
        if not is_spelled(term):
            return []
        first = beginning(term)
        query = (
            "(SELECT DISTINCT term FROM derived_word_spelling WHERE key = ANY(:keys) LIMIT :most)"
            " UNION (SELECT term FROM derived_word_term"
            " WHERE term >= :first AND term < :last LIMIT :most)"
        )
        rows = self._rows(
            query, keys=sorted(asked_keys(term)), first=first, last=f"{first}\U0010ffff",
            most=_CANDIDATES,
        )  # fmt: skip
        return [row[0] for row in rows]

    def metadata_keys(self) -> set[str]:
        """Return the keys that the metadata of any file has."""
        rows = self._rows(
            "SELECT DISTINCT metadata FROM derived_word_source WHERE metadata != '{}'"
        )
        found: set[str] = set()
        for (told,) in rows:
            found.update(decode_json(unescaped(told), dict[str, str]))
        return found

    def totals(self) -> dict[str, tuple[int, int]]:
        """Return {kind: (files, passages)}."""
        query = (
            "SELECT kind, count(*), sum(passages) FROM derived_word_source GROUP BY 1 ORDER BY 1"
        )
        return {kind: (files, int(count)) for kind, files, count in self._rows(query)}

    def stored_bytes(self) -> int:
        """Return what the tables take."""
        sizes = " + ".join(f"pg_total_relation_size('{_PREFIX}{one}')" for one in _TABLES)
        return int(self._rows(f"SELECT {sizes}")[0][0])

    def _rows(self, query: str, **values: object) -> list[Any]:
        with self._database.read() as tx:
            return list(tx.execute(text(query), values))


def has_tables(database: Database) -> bool:
    """Say whether the tables are there."""
    with database.read() as tx:
        return _schema(tx) == SCHEMA


def table_damage(database: Database) -> str | None:
    """Return what is wrong in the tables; None where they are sound or missing."""
    with database.read() as tx:
        return damage_in(tx) if _schema(tx) == SCHEMA else None


def drop_tables(database: Database) -> bool:
    """Empty the tables; return whether there was anything in them."""

    def work(tx: Connection) -> bool:
        if _schema(tx) != SCHEMA:
            return False
        there = _state(tx, "mark") != "" or bool(
            tx.scalar(text("SELECT EXISTS (SELECT 1 FROM derived_word_source)"))
        )
        # Emptied, not dropped: who searches meanwhile finds less, and no missing table.
        for one in _TABLES:
            tx.execute(text(f"DELETE FROM {_PREFIX}{one}"))  # noqa: S608
        _set_state(tx, "schema", SCHEMA)
        return there

    return database.run(work)


def _schema(tx: Connection) -> str:
    # Not by to_regclass: it may answer from what this connection knew when its transaction began.
    there = text(
        "SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = current_schema()"
        " AND tablename = 'derived_word_state')"
    )
    return _state(tx, "schema") if tx.scalar(there) else ""


def _make(tx: Connection) -> None:
    if _schema(tx) == SCHEMA:
        return  # somebody else was faster
    for one in _TABLES:
        tx.execute(text(f"DROP TABLE IF EXISTS {_PREFIX}{one}"))
    for statement in _MAKE.split(";\n"):
        tx.exec_driver_sql(statement, execution_options={"no_parameters": True})
    share_tables(tx)
    _set_state(tx, "schema", SCHEMA)


def _state(tx: Connection, name: str) -> str:
    query = text("SELECT value FROM derived_word_state WHERE name = :name")
    return str(tx.scalar(query, {"name": name}) or "")


def _set_state(tx: Connection, name: str, value: str) -> None:
    query = (
        "INSERT INTO derived_word_state VALUES (:name, :value)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    )
    tx.execute(text(query), {"name": name, "value": value})


def _pairs(rows: Iterable[Any]) -> dict[Any, Any]:
    return {row[0]: row[1] for row in rows}


class _Row:
    """A passage with its terms, as the table takes it."""

    def __init__(self, one: IndexedPassage) -> None:
        heading, body = terms(one.heading), terms(one.text)
        self.counts = {*heading, *body}
        self.values = {
            "kind": one.kind, "heading": escaped(one.heading), "page": one.page,
            "start": one.start, "stop": one.stop, "body": escaped(one.text),
            "length": 2 * len(heading) + len(body), "words": _vector(body, heading),
        }  # fmt: skip


def _put(tx: Connection, source: IndexedSource, rows: Sequence[_Row]) -> None:
    _forget(tx, [source.digest])
    query = (
        "INSERT INTO derived_word_source (digest, recipe, kind, title, pages, metadata, notices,"
        " passages) VALUES (:digest, :recipe, :kind, :title, :pages, :metadata, :notices, :count)"
        " RETURNING id"
    )
    values = {
        "digest": source.digest, "recipe": source.recipe, "kind": source.kind,
        "title": escaped(source.title), "pages": source.pages,
        "metadata": escaped(json.dumps(source.metadata, ensure_ascii=False)),
        "notices": escaped(json.dumps(source.notices, ensure_ascii=False)), "count": len(rows),
    }  # fmt: skip
    source_id = tx.scalar(text(query), values)
    if not rows:
        return
    counts: Counter[str] = Counter()
    for one in rows:
        counts.update(one.counts)
    passages = (
        "INSERT INTO derived_word_passage (source_id, kind, heading, page, start, stop, body,"
        " length, words) VALUES (:source_id, :kind, :heading, :page, :start, :stop, :body, :length,"
        " CAST(:words AS tsvector))"
    )
    tx.execute(text(passages), [{**one.values, "source_id": source_id} for one in rows])
    words = sorted(counts)
    added = (
        "INSERT INTO derived_word_term SELECT * FROM unnest(CAST(:terms AS text[]),"
        " CAST(:counts AS bigint[])) ON CONFLICT (term) DO UPDATE"
        " SET passages = derived_word_term.passages + excluded.passages RETURNING term, passages"
    )
    now = tx.execute(text(added), {"terms": words, "counts": [counts[one] for one in words]})
    new = sorted(term for term, count in now if count == counts[term])
    pairs = [(key, one) for one in new if is_spelled(one) for key in kept_keys(one)]
    spelled = (
        "INSERT INTO derived_word_spelling SELECT * FROM unnest(CAST(:keys AS bigint[]),"
        " CAST(:terms AS text[])) ON CONFLICT DO NOTHING"
    )
    values = {"keys": [key for key, _ in pairs], "terms": [one for _, one in pairs]}
    tx.execute(text(spelled), values)


def _forget(tx: Connection, digests: Sequence[bytes]) -> int:
    ids = list(
        tx.scalars(
            text("SELECT id FROM derived_word_source WHERE digest = ANY(:digests)"),
            {"digests": list(digests)},
        )
    )
    if not ids:
        return 0
    gone = (
        "WITH gone AS (DELETE FROM derived_word_passage WHERE source_id = ANY(:ids)"
        " RETURNING words) SELECT lexeme, count(*) FROM gone, unnest(gone.words) GROUP BY lexeme"
    )
    counts = _pairs(tx.execute(text(gone), {"ids": ids}))
    fewer = (
        "UPDATE derived_word_term SET passages = passages - less.count"
        " FROM unnest(CAST(:terms AS text[]), CAST(:counts AS bigint[])) AS less (term, count)"
        " WHERE derived_word_term.term = less.term"
    )
    words = sorted(counts)
    tx.execute(text(fewer), {"terms": words, "counts": [counts[one] for one in words]})
    none = "DELETE FROM derived_word_term WHERE passages <= 0 AND term = ANY(:terms) RETURNING term"
    left = list(tx.scalars(text(none), {"terms": words}))
    keys = sorted({key for one in left for key in kept_keys(one)})
    spelled = "DELETE FROM derived_word_spelling WHERE key = ANY(:keys) AND term = ANY(:terms)"
    tx.execute(text(spelled), {"terms": left, "keys": keys})
    tx.execute(text("DELETE FROM derived_word_source WHERE id = ANY(:ids)"), {"ids": ids})
    return len(ids)


def _put_said(tx: Connection, versions: Sequence[SaidVersion]) -> None:
    query = (
        "INSERT INTO derived_word_said (uid, stamp, length, words)"
        " VALUES (:uid, :stamp, :length, CAST(:words AS tsvector)) ON CONFLICT (uid) DO UPDATE"
        " SET stamp = excluded.stamp, length = excluded.length, words = excluded.words"
    )
    rows = []
    for one in versions:
        found = terms(one.text)
        rows.append(
            {"uid": one.uid, "stamp": one.stamp, "length": len(found), "words": _vector(found)}
        )
    if rows:
        tx.execute(text(query), rows)


def _vector(body: Sequence[str], heading: Sequence[str] = ()) -> str:
    """Return terms as a tsvector is written; those of headings have the weight A."""
    places: dict[str, list[str]] = {}
    for at, one in enumerate(heading, 1):
        places.setdefault(one, []).append(f"{min(at, _MOST_PLACE)}A")
    begin = len(heading) + 10  # no phrase begins in the heading and ends in the text
    for at, one in enumerate(body, begin):
        places.setdefault(one, []).append(str(min(at, _MOST_PLACE)))
    return " ".join(f"'{one}':{','.join(found[:_MOST_PLACES])}" for one, found in places.items())


def _counts(tx: Connection, wanted: Iterable[str]) -> dict[str, int]:
    query = text("SELECT term, passages FROM derived_word_term WHERE term = ANY(:terms)")
    return _pairs(tx.execute(query, {"terms": list(wanted)}))
