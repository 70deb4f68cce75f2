"""Terms: what is indexed of a text and looked for in it; every index of words is fed with these.

A term is a run of letters and digits in lower case, without accents and of compatibility forms. A
letter of a script without blanks is a term of its own, so that parts of its runs are found.
"""

import re
import unicodedata

MOST_TERM_CHARS = 64
"""A longer run is cut: nobody types one."""

_LONE = "぀-ヿ㐀-鿿가-힯"
_TERM = re.compile(rf"[{_LONE}]|[^\W_{_LONE}]+")
_ACCENTS = re.compile("[\u0300-\u036f]+")


def terms(text: str) -> list[str]:
    """Return the terms of a text in their order, with repetitions."""
    return [one[:MOST_TERM_CHARS] for one in _TERM.findall(_plain(text))]


def _plain(text: str) -> str:
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFKD", text.casefold())
    apart = unicodedata.normalize("NFKD", apart.casefold())  # of letters that were another form
    return unicodedata.normalize("NFC", _ACCENTS.sub("", apart))
