"""Ranks rows of a server's index of words by BM25, as SQLite's FTS5 does.

Robertson and Zaragoza, The Probabilistic Relevance Framework (2009); a heading's words count twice.
"""

import math

from sqlalchemy import Connection, text

from hartonomous.core.indexed_text import Phrase, WordMatch

_K1, _B = 1.2, 0.75
_RESCORED = 1_000


def ranked(
    tx: Connection, table: str, match: WordMatch, *,
    counts: dict[str, int], total: int, average: float, limit: int,
) -> list[tuple[int, float]]:  # fmt: skip
    """Return (id, BM25) of the best rows of a table.

    Of what matches, as many as are exactly ranked are chosen by the rarity of the terms that they
    hold: reading every count of every row takes ten times as long.
    """
    known = [one for one in match.terms if counts.get(one)]
    if not known:
        return []
    # As SQLite's: a word of more than half of all rows counts next to nothing, and never less.
    rarity = {
        one: max(math.log((total - counts[one] + 0.5) / (counts[one] + 0.5)), 1e-6) for one in known
    }
    holds = " + ".join(
        f"(words @@ CAST(:q{at} AS tsquery))::int * CAST(:r{at} AS float8)"
        for at in range(len(known))
    )
    values: dict[str, object] = {f"q{at}": quoted((one,)) for at, one in enumerate(known)}
    values |= {f"r{at}": rarity[one] for at, one in enumerate(known)}
    query = (
        f"WITH best AS (SELECT id, length, words FROM {table}"  # noqa: S608
        f" WHERE words @@ CAST(:match AS tsquery) ORDER BY {holds} DESC, length, id"
        " LIMIT :rescored)"
        " SELECT best.id, (SELECT sum(rare.rarity * often.count * (:k1 + 1) / (often.count + :k1"
        " * (1 - :b + :b * best.length / :average)))"
        " FROM unnest(best.words) AS held"
        " JOIN unnest(CAST(:terms AS text[]), CAST(:rarities AS float8[])) AS rare (term, rarity)"
        " ON rare.term = held.lexeme, LATERAL (SELECT sum(CASE weight WHEN 'A' THEN 2.0 ELSE 1.0"
        " END)::float8 AS count FROM unnest(held.weights) AS weight) AS often) AS score"
        " FROM best ORDER BY score DESC NULLS LAST, best.id LIMIT :limit"
    )
    values |= {
        "match": _said(match), "rescored": max(_RESCORED, limit), "limit": limit, "k1": _K1,
        "b": _B, "average": max(average, 1.0), "terms": known,
        "rarities": [rarity[one] for one in known],
    }  # fmt: skip
    return [(row_id, float(score or 0)) for row_id, score in tx.execute(text(query), values)]


def _said(match: WordMatch) -> str:
    """Return what is looked for as a tsquery; terms are alphanumeric, and quoted all the same."""
    parts = []
    if match.all_of:
        parts.append(" & ".join(map(quoted, match.all_of)))
    elif match.any_of:
        parts.append(f"({' | '.join(map(quoted, match.any_of))})")
    parts += [f"!({quoted(one)})" for one in match.none_of]
    return " & ".join(parts)


def quoted(phrase: Phrase) -> str:
    """Return the terms of a phrase as a part of a tsquery."""
    each = (f"'{one}'" for one in phrase)
    return f"({' <-> '.join(each)})"
