"""What people type into a search: words, phrases in quotes, and what must not be there."""

import re
from collections.abc import Iterable

import msgspec

from hartonomous.core.indexed_text import Phrase, WordMatch
from hartonomous.core.terms import terms
from hartonomous.errors import UsageError

MOST_CHARS = 4_096
MOST_TERMS = 64

_TOKEN = re.compile(r'(-?)"([^"]*)"|(\S+)')
_WORD = re.compile(r"\w+(?:['’]\w+)*")


class WordQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A search: words of which any may occur, phrases that have to, terms that must not."""

    text: str
    words: tuple[str, ...]
    phrases: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    @property
    def meant(self) -> str:
        """The text as an encoder reads it: without what must not be there, and without quotes."""
        if not (self.phrases or self.without):
            return self.text
        kept = [
            phrase or plain
            for minus, phrase, plain in _TOKEN.findall(self.text)
            if not (minus or _is_barred(plain))
        ]
        return " ".join(kept)

    @property
    def terms(self) -> tuple[str, ...]:
        """Every word that is looked for, those of phrases too, in lower case, each once."""
        inside = [word.lower() for one in self.phrases for word in _WORD.findall(one)]
        return tuple(dict.fromkeys([*(one.lower() for one in self.words), *inside]))

    def match(self) -> WordMatch:
        """Return what is looked for, in the terms of an index."""
        return WordMatch(
            any_of=_phrases(self.words), all_of=_phrases(self.phrases),
            none_of=_phrases(self.without),
        )  # fmt: skip


def _is_barred(word: str) -> bool:
    return word.startswith("-") and _WORD.search(word) is not None


def _phrases(texts: Iterable[str]) -> tuple[Phrase, ...]:
    found = (tuple(terms(one)) for one in texts)
    return tuple(dict.fromkeys(one for one in found if one))


def parse_query(text: str) -> WordQuery:
    """Return what a text asks for: ``leaking valve "main pump" -sea``.

    Raises UsageError where there is nothing to look for, or too much.
    """
    if len(text) > MOST_CHARS:
        raise UsageError(f"a search of {len(text):,} characters, {MOST_CHARS:,} are taken")
    words: list[str] = []
    phrases: list[str] = []
    without: list[str] = []
    for minus, phrase, plain in _TOKEN.findall(text):
        if phrase:
            (without if minus else phrases).append(phrase)
        elif _is_barred(plain):
            without.append(plain[1:])
        else:
            words.extend(_WORD.findall(plain))
    if not words and not any(_WORD.search(one) for one in phrases):
        raise UsageError("there is no word to search for", hint='hart search "leaking valve"')
    if len(words) + len(phrases) + len(without) > MOST_TERMS:
        raise UsageError(f"a search of more than {MOST_TERMS} words", hint="use fewer")
    return WordQuery(
        text=text,
        words=tuple(dict.fromkeys(words)),
        phrases=tuple(one for one in phrases if _WORD.search(one)),
        without=tuple(one for one in without if _WORD.search(one)),
    )
