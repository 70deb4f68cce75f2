"""Texts that files and their authors chose, as HTML: escaped, and with nothing in them unseen."""

import unicodedata
from html import escape

_UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")


def plain_html(text: str) -> str:
    """Return a text as HTML, with control characters and direction marks as their escapes."""
    return escape("".join(map(_plain, text)))


def _plain(letter: str) -> str:
    unsafe = not letter.isascii() and unicodedata.category(letter) in _UNSAFE
    return ascii(letter)[1:-1] if unsafe or letter < " " or letter == "\x7f" else letter
