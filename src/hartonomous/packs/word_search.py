"""Search by words: passages by their terms, by terms that are like them, and versions."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
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

_MOST_MATCHING = 2_000
_MOST_LIKE = 1_000
_LEAST_MATCHING = 200
_MOST_TERMS = 48
_COMMON, _LEAST_COMMON = 0.1, 20
"""From this share of the passages on, and beyond so many, a word is a common one."""


class WordSearch:
    """One search of an index of words, by one query."""

    def __init__(self, index: TextIndex, query: WordQuery, chosen: Chosen) -> None:
        self._index = index
        self._query = query
        self._chosen = chosen
        self._match = query.match()

    @cached_property
    def _counts(self) -> dict[str, int]:
        return self._index.counts(self._match.terms)

    @cached_property
    def _passage_count(self) -> int:
        return self._index.passage_count()

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
        return self._passages(self._rare(self._match, _MOST_MATCHING, needed), needed, per_file)

    def by_letters(self, needed: int, *, per_file: int | None) -> list[RankedPassage]:
        """Return passages that have the words or such as are like them, the best first.

        Nothing where words have to stand together or must not be there: likeness knows neither.
        """
        if self._match.all_of or self._match.none_of or not self.like:
            return []
        own = [term for one in self._match.any_of for term in one]
        every = [*own, *(one for similar in self.like.values() for one in similar)]
        match = WordMatch(any_of=tuple((one,) for one in dict.fromkeys(every[:_MOST_TERMS])))
        # The common ones are left out: looking for many in each passage takes longer than ranking.
        rare = msgspec.structs.replace(self._rare(match, _MOST_LIKE, needed), also=())
        return self._passages(rare, needed, per_file)

    def known_share(self) -> float:
        """Return how much of the query, by rarity, passages may have at all: 0 to 1."""
        return self.covered(self._counts, or_like=False)

    def covered(self, best: Iterable[str], *, or_like: bool) -> float:
        """Return how much of the query, by the rarity of its terms, a passage has: 0 to 1.

        ``best`` are the passage's terms; with ``or_like`` such as are like a term count for it.
        """
        there = set(best)
        total = max(self._passage_count, 2)
        has = every = 0.0
        for term in set(self._match.terms):
            rarity = math.log(1 + total / max(self._counts.get(term, 0), 1))
            every += rarity
            similar = self.like.get(term, ()) if or_like else ()
            if term in there or not there.isdisjoint(similar):
                has += rarity
        return has / every if every else 0.0

    def admitted(self) -> Callable[[tuple[bytes, int, int]], bool]:
        """Return what says whether a passage (digest, page, start) has the phrases that have to be
        there and nothing that must not be: for passages that something else than words found.
        """
        required, barred = self._match.all_of, self._match.none_of
        if not (required or barred):
            return lambda _: True
        asked = WordMatch(any_of=(), all_of=required, none_of=barred)
        if not required:
            asked = WordMatch(any_of=barred)
        rows = self._index.ranked(asked, limit=MOST_ROWS)
        named = {(row.digest, row.page, row.start) for row in rows}
        return lambda place: (place in named) == bool(required)

    def versions(self) -> list[tuple[VersionWords, float]]:
        """Return versions by how rare the words are that are said of them, of a name the newest.

        Words that passages are full of name nothing, unless there is nothing else in the query.
        """
        if not (self._match.any_of or self._match.all_of):
            return []
        most = max(_LEAST_COMMON, _COMMON * self._passage_count)
        rare = tuple(
            one for one in self._match.any_of
            if min(self._counts.get(term, 0) for term in one) <= most
        )  # fmt: skip
        match = msgspec.structs.replace(self._match, any_of=rare or self._match.any_of)
        ranked = self._index.ranked_said(match, limit=MOST_VERSIONS)
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

    def _rare(self, match: WordMatch, most: int, needed: int) -> WordMatch:
        """Return the match so that its rarer words find passages and the others only count there.

        Ranking every passage that has a common word takes most of the time of a search, and those
        that have nothing but common words do not come first. Among 123,896 passages, with these
        numbers, the first ten of 160 queries of three words were those of all words but for 1 in
        160.
        """
        if match.all_of:
            return match
        counts = self._index.counts(match.terms)
        often = {one: min(counts.get(term, 0) for term in one) for one in match.any_of}
        known = sorted((one for one in match.any_of if often[one]), key=lambda one: often[one])
        rare: list[Phrase] = []
        least = max(_LEAST_MATCHING, 4 * needed)
        total = 0
        for one in known:
            if rare and total >= least and total + often[one] > most:
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
        limit = max(FIRST_ROWS, 2 * needed)
        while True:
            rows = self._index.ranked(match, limit=limit)
            self._chosen.learn(row.digest for row in rows)
            found = [row for row in rows if self._chosen.uses(row.digest)]
            ended = len(rows) < limit or limit >= MOST_ROWS
            if ended or _counting(found, per_file) >= needed:
                return found
            limit *= 4


def _counting(found: Sequence[RankedPassage], per_file: int | None) -> int:
    if per_file is None:
        return len(found)
    files = Counter(row.digest for row in found)
    return sum(min(count, per_file) for count in files.values())
