"""Search by words: passages by their terms, by terms that are like them, and versions."""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import msgspec

from hartonomous.catalog.texts import VersionWords
from hartonomous.core.indexed_text import Phrase, RankedPassage, WordMatch
from hartonomous.core.likeness import alike
from hartonomous.core.query import WordQuery
from hartonomous.core.terms import terms
from hartonomous.packs.search_filter import Chosen
from hartonomous.ports.text_index import TextIndex

FIRST_ROWS = 50
MOST_ROWS = 200_000
MOST_VERSIONS = 1_000

_MOST_MATCHING = 4_000
_MOST_LIKE = 2_000
_LEAST_MATCHING = 400
_MOST_TERMS = 48


class WordSearch:
    """One search of an index of words, by one query."""

    def __init__(self, index: TextIndex, query: WordQuery, chosen: Chosen) -> None:
        self._index = index
        self._query = query
        self._chosen = chosen
        self._match = query.match()
        self._first: dict[WordMatch, list[RankedPassage]] | None = None

    @cached_property
    def _counts(self) -> dict[str, int]:
        return self._index.counts(self._match.terms)

    @cached_property
    def unknown(self) -> list[str]:
        """The words of the query that no passage has."""
        return [
            word
            for word in self._query.terms
            if not all(term in self._counts for term in terms(word))
        ]

    @cached_property
    def like(self) -> dict[str, list[str]]:
        """Terms of passages that are like those of the query, by its terms."""
        found = {}
        for phrase in self._match.any_of:
            if len(phrase) == 1:
                similar = alike(phrase[0], self._index.candidates(phrase[0]))
                if similar:
                    found[phrase[0]] = similar
        return found

    def by_words(self, needed: int, *, per_file: int | None) -> list[RankedPassage]:
        """Return passages that have the words, and count, the best first."""
        self._look(needed)
        return self._passages(self._matches[0], needed, per_file)

    def by_letters(self, needed: int, *, per_file: int | None) -> list[RankedPassage]:
        """Return passages that have the words or such as are like them, the best first.

        Nothing where words have to stand together or must not be there: likeness knows neither.
        """
        self._look(needed)
        return self._passages(self._matches[1], needed, per_file)

    @cached_property
    def _matches(self) -> tuple[WordMatch, WordMatch]:
        """What is looked for by words and by letters."""
        plain = self._rare(self._match, _MOST_MATCHING)
        if self._match.all_of or self._match.none_of or not self.like:
            return plain, WordMatch(any_of=())
        own = [term for one in self._match.any_of for term in one]
        every = [*own, *(one for similar in self.like.values() for one in similar)]
        match = WordMatch(any_of=tuple((one,) for one in dict.fromkeys(every[:_MOST_TERMS])))
        # The common ones are left out: looking for many in each passage takes longer than ranking.
        rare = self._rare(match, _MOST_LIKE)
        return plain, msgspec.structs.replace(rare, also=())

    def _look(self, needed: int) -> None:
        """Find what comes first by both ways, and learn at once which versions have these files."""
        if self._first is None:
            limit = _first_rows(needed)
            self._first = {
                one: self._index.ranked(one, limit=limit)
                for one in self._matches if one.any_of or one.all_of
            }  # fmt: skip
            self._chosen.learn(row.digest for rows in self._first.values() for row in rows)

    def versions(self) -> list[tuple[VersionWords, float]]:
        """Return versions by how rare the words are that are said of them, of a name the newest."""
        if not (self._match.any_of or self._match.all_of):
            return []
        ranked = self._index.ranked_said(self._match, limit=MOST_VERSIONS)
        chosen = self._chosen.versions([uid for uid, _ in ranked])
        newest: dict[str, VersionWords] = {}
        scores: dict[str, float] = {}
        for uid, score in ranked:
            one = chosen.get(uid)
            if one is None:
                continue
            scores.setdefault(one.name, score)
            if one.name not in newest or newest[one.name].number < one.number:
                newest[one.name] = one
        ordered = sorted(newest.values(), key=lambda one: (-scores[one.name], one.name))
        return [(one, scores[one.name]) for one in ordered]

    def _rare(self, match: WordMatch, most: int) -> WordMatch:
        """Return the match so that its rarer words find passages and the others only count there.

        Ranking every passage that has a common word takes most of the time of a search, and those
        that have nothing but common words do not come first.
        """
        if match.all_of:
            return match
        counts = self._index.counts(match.terms)
        often = {one: min(counts.get(term, 0) for term in one) for one in match.any_of}
        known = sorted((one for one in match.any_of if often[one]), key=lambda one: often[one])
        rare: list[Phrase] = []
        total = 0
        for one in known:
            if rare and total >= _LEAST_MATCHING and total + often[one] > most:
                break
            rare.append(one)
            total += often[one]
        return WordMatch(any_of=tuple(rare), none_of=match.none_of, also=tuple(known[len(rare) :]))

    def _passages(self, match: WordMatch, needed: int, per_file: int | None) -> list[RankedPassage]:
        """Return passages that pass the filter; as many as ``needed`` if there are.

        Of one file ``per_file`` count, so that a long document does not hide the others.
        """
        if not (match.any_of or match.all_of):
            return []
        limit = _first_rows(needed)
        rows = (self._first or {}).get(match)
        while True:
            if rows is None:
                rows = self._index.ranked(match, limit=limit)
            self._chosen.learn(row.digest for row in rows)
            found = [row for row in rows if self._chosen.uses(row.digest)]
            ended = len(rows) < limit or limit >= MOST_ROWS
            if ended or _counting(found, per_file) >= needed:
                return found
            limit *= 4
            rows = None


def _first_rows(needed: int) -> int:
    return max(FIRST_ROWS, 2 * needed)


def _counting(found: Sequence[RankedPassage], per_file: int | None) -> int:
    if per_file is None:
        return len(found)
    files = Counter(row.digest for row in found)
    return sum(min(count, per_file) for count in files.values())
