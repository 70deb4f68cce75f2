"""Words that are like one another: misspelled by a letter or two, or other forms of a word.

Candidates are found by equal keys: a word's keys are those of itself and of what is left of it
without one letter, so that two words which differ by one letter, or by two that changed places,
share one (the deletion neighbourhood of SymSpell, with hashes in the place of words). Of the word
that is looked for two letters may be missing. The distance says which candidates are right.
"""

import zlib
from collections.abc import Iterable
from itertools import combinations
from os.path import commonprefix

LEAST_CHARS, MOST_CHARS = 4, 24
MOST_ALIKE = 6
"""How many words of a vocabulary are taken for one."""

_COMMON_SHARE = 0.55
_FORM = 0.9
_LEAST_COMMON = 4


def is_spelled(term: str) -> bool:
    """Say whether a term is a word that may be misspelled, and no number or key."""
    return LEAST_CHARS <= len(term) <= MOST_CHARS and term.isalpha()


def kept_keys(term: str) -> set[int]:
    """Return the keys under which a word of the vocabulary is kept."""
    return {_key(term), *(_key(term[:at] + term[at + 1 :]) for at in range(len(term)))}


def asked_keys(term: str) -> set[int]:
    """Return the keys under which words like this one are looked for."""
    found = kept_keys(term)
    if _most_distance(term) > 1:
        for first, second in combinations(range(len(term)), 2):
            found.add(_key(term[:first] + term[first + 1 : second] + term[second + 1 :]))
    return found


def beginning(term: str) -> str:
    """Return what other forms of a word begin with."""
    return term[: max(_LEAST_COMMON, len(term) - 3)]


def alike(term: str, candidates: Iterable[str]) -> list[str]:
    """Return candidates that are like a term, the most similar first, without the term."""
    limit = _most_distance(term)
    letters = frozenset(term)
    first = term[:_LEAST_COMMON]
    found = []
    for one in set(candidates) - {term}:
        if not one.startswith(first):
            # Most are told apart by their lengths or by letters that only one of both has.
            if abs(len(one) - len(term)) > limit:
                continue
            if len(letters.difference(one)) > limit or len(set(one) - letters) > limit:
                continue
        similarity = _similarity(term, one, limit)
        if similarity > 0:
            found.append((-similarity, one))
    return [one for _, one in sorted(found)[:MOST_ALIKE]]


def _similarity(a: str, b: str, limit: int) -> float:
    """Return how like two words are, from 0 to 1."""
    longer = max(len(a), len(b))
    common = len(commonprefix((a, b)))
    same = common >= max(_LEAST_COMMON, _COMMON_SHARE * longer)
    form = _FORM * common / longer if same else 0.0
    if abs(len(a) - len(b)) > limit or len(set(a).difference(b)) > limit:
        return form
    # What both begin with is left as it is by a shortest way, but for a swap of its last letter.
    cut = max(0, common - 1)
    distance = edit_distance(a[cut:], b[cut:], limit=limit)
    return max(1 - distance / longer if distance <= limit else 0.0, form)


def _most_distance(term: str) -> int:
    return 1 if len(term) < 6 else 2


def edit_distance(a: str, b: str, *, limit: int) -> int:
    """Return how many letters have to be changed, added, left out or swapped with the next one.

    Optimal string alignment; what is over ``limit`` is told as ``limit + 1``.
    """
    if abs(len(a) - len(b)) > limit:
        return limit + 1
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            best = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                best = min(best, before[j - 2] + 1)
            row.append(best)
        if min(row) > limit:
            return limit + 1
        before, last = last, row
    return min(last[-1], limit + 1)


def _key(text: str) -> int:
    return zlib.crc32(text.encode())
