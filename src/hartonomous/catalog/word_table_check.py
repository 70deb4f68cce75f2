"""Compares the tables of words on a server with themselves: rows with sums, terms with passages.

The sums are columns that the server computes whenever a row is written (``summed``). Bits that flip
below the server are found so, where its own page checksums, which are off by default before
PostgreSQL 18, did not tell of them first. Its GIN indexes are not looked at: they are the server's.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, text

from hartonomous.core.likeness import is_spelled, kept_keys

_MASK = (1 << 64) - 1
_ROWS_AT_ONCE = 5_000
_TEXTS = {
    "source": ("encode(digest, 'hex')", "recipe", "kind", "title", "pages", "metadata", "notices"),
    "passage": ("kind", "heading", "body", "words::text"),
    "said": ("encode(uid, 'hex')", "encode(stamp, 'hex')", "words::text"),
}
_NUMBERS = {
    "source": ("passages",),
    "passage": ("source_id", "page", "start", "stop", "length"),
    "said": ("length",),
}


def summed(table: str) -> str:
    """Return the SQL of the sum of a row of one of the tables, over all columns but its id.

    Hashes of 64 bits, each the seed of the next one; other rows have equal sums once in 2**64
    times.
    """
    expression = "0"
    for one in _TEXTS[table]:
        expression = f"hashtextextended({one}, {expression})"
    for one in _NUMBERS[table]:
        expression = f"hashint8extended({one}, {expression})"
    return expression


_CHECKS = (
    (f"SELECT 1 FROM derived_word_source WHERE sum <> {summed('source')}",  # noqa: S608
     "what is kept of a file is not what was written"),
    (f"SELECT 1 FROM derived_word_passage WHERE sum <> {summed('passage')}",  # noqa: S608
     "a file's passages are not what was written"),
    (f"SELECT 1 FROM derived_word_said WHERE sum <> {summed('said')}",  # noqa: S608
     "what is said of a version is not what was written"),
    ("SELECT 1 FROM derived_word_source AS s FULL JOIN (SELECT source_id, count(*) AS passages"
     " FROM derived_word_passage GROUP BY 1) AS p ON p.source_id = s.id"
     " WHERE s.id IS NULL OR s.passages <> coalesce(p.passages, 0)",
     "there are other passages than were written"),
    ("SELECT 1 FROM derived_word_term AS t FULL JOIN (SELECT lexeme, count(*) AS passages"
     " FROM derived_word_passage, unnest(words) GROUP BY 1) AS p ON p.lexeme = t.term"
     " WHERE t.passages IS DISTINCT FROM p.passages",
     "the numbers of passages that have a word are not what they are"),
)  # fmt: skip


def damage_in(tx: Connection) -> str | None:
    """Return what is wrong in the tables at one moment, None where they are sound."""
    for query, what in _CHECKS:
        if tx.scalar(text(f"SELECT EXISTS ({query})")):
            return what
    return _wrong_spellings(tx)


def _wrong_spellings(tx: Connection) -> str | None:
    """Compare spellings with the terms, as sums of hashes: equal sets have equal sums."""
    wanted = held = 0
    for (term,) in _rows(tx, "SELECT term FROM derived_word_term"):
        if is_spelled(term):
            wanted += sum(hash((key, term)) for key in kept_keys(term))
    for key, term in _rows(tx, "SELECT key, term FROM derived_word_spelling"):
        held += hash((key, term))
    return "the spellings are not those of the words" if (wanted - held) & _MASK else None


def _rows(tx: Connection, query: str) -> Iterable[Any]:
    return tx.execute(text(query)).yield_per(_ROWS_AT_ONCE)
