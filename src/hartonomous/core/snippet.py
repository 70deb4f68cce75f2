"""Snippets: the part of a passage that shows why it was found."""

import re
import unicodedata
from collections.abc import Sequence

import msgspec

WORDS_SHOWN = 40
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_BLANK = re.compile(r"\s+")
_LIKE_SHARE = 0.5


class Snippet(msgspec.Struct, frozen=True, kw_only=True):
    """A text in one line, and the ranges of it, in characters, that match."""

    text: str
    marks: tuple[tuple[int, int], ...] = ()


def snippet(text: str, terms: Sequence[str], *, words: int = WORDS_SHOWN) -> Snippet:
    """Return the run of ``words`` words with the most matches; what is left out becomes ``…``.

    A word matches a term that it is equal to but for case and accents; where none does, words that
    share half of a term's runs of three letters are marked.
    """
    line = _BLANK.sub(" ", text).strip()
    found = [(one.start(), one.end()) for one in _WORD.finditer(line)]
    wanted = {_plain(one) for one in terms}
    plain = _plain_words(line, found)
    hits = [word in wanted for word in plain]
    if not any(hits):
        grams = [_grams(one) for one in wanted]
        like = {word: _is_like(word, grams) for word in set(plain)}
        hits = [like[word] for word in plain]
    first = _best_window(hits, words)
    last = min(first + words, len(found)) - 1
    begin = 0 if first == 0 else found[first][0]
    end = len(line) if last + 1 >= len(found) else found[last][1]
    lead = "… " if begin else ""
    shift = len(lead) - begin
    return Snippet(
        text=lead + line[begin:end] + (" …" if end < len(line) else ""),
        marks=tuple(
            (start + shift, stop + shift)
            for (start, stop), hit in list(zip(found, hits, strict=True))[first : last + 1]
            if hit
        ),
    )


def _best_window(hits: Sequence[bool], words: int) -> int:
    """Return where the run with the most hits begins, a little before its first hit."""
    if len(hits) <= words:
        return 0
    count = best = sum(hits[:words])
    place = 0
    for first in range(1, len(hits) - words + 1):
        count += hits[first + words - 1] - hits[first - 1]
        if count > best:
            best, place = count, first
    inside = next((at for at in range(place, place + words) if hits[at]), place)
    return max(0, min(inside - words // 8, len(hits) - words))


def _plain_words(line: str, places: Sequence[tuple[int, int]]) -> list[str]:
    if line.isascii():
        lower = line.lower()
        return [lower[start:stop] for start, stop in places]
    return [_plain(line[start:stop]) for start, stop in places]


def _plain(word: str) -> str:
    if word.isascii():
        return word.lower()
    apart = unicodedata.normalize("NFKD", word.lower())
    return "".join(letter for letter in apart if not unicodedata.combining(letter))


def _grams(word: str) -> frozenset[str]:
    return frozenset(f" {word}"[at : at + 3] for at in range(max(1, len(word) - 1)))


def _is_like(word: str, wanted: Sequence[frozenset[str]]) -> bool:
    own = _grams(word)
    return any(len(own & one) >= _LIKE_SHARE * max(len(own), len(one)) for one in wanted)
