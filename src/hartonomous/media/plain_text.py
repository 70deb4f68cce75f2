"""Plain text: paragraphs between empty lines. Positions are characters of the decoded file.

What its name does not tell of is a text if it is UTF-8 without control characters.
"""

import re
from collections.abc import Iterable
from typing import Final

from hartonomous.core.description import Notice
from hartonomous.core.document import BlockList, Document
from hartonomous.media.decoding import (
    decode_as,
    looks_like_text,
    read_beginning,
    read_text,
    with_line_feeds,
)
from hartonomous.media.endings import PLAIN, PLAIN_NAMES, ending, told_by_content
from hartonomous.ports.document import DocumentReader
from hartonomous.ports.format import RangeReader

_PARAGRAPH = re.compile(r"[^\n]*\S[^\n]*(?:\n[^\n]*\S[^\n]*)*")

_VOCABULARIES = {"vocab.txt": (b"[PAD]", b"[UNK]"), "merges.txt": (b"#version",)}
"""Names and beginnings of tokenizers' files: pieces of words, in which every search would hit."""
# The same of those that are called otherwise.
_PIECES = (b"[PAD]", b"#version", b"<unk>", b"<s>")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")


class _PlainText:
    """The reader; see the module's text."""

    name = "text"
    recipe = "3"
    extra = ""

    def matches(self, path: str, head: bytes) -> bool:
        """Take what is named as a text, or has no ending and a name that texts have."""
        name = path.rpartition("/")[2].lower()
        named = ending(path) in PLAIN or name in PLAIN_NAMES
        if head.startswith(_VOCABULARIES.get(name, ())):
            return False
        return named and looks_like_text(head)

    def read(self, reader: RangeReader) -> Document:
        """Return its paragraphs."""
        return as_plain_text(*read_text(reader))


class _UnnamedText:
    """What only its bytes tell of; of what is no text nothing is said, as its name claims none."""

    name = "text"
    recipe = "1"
    extra = ""

    def matches(self, path: str, head: bytes) -> bool:
        """Take what begins as a text and has a name that says nothing."""
        if not told_by_content(path) or head.startswith(_PIECES):
            return False
        return _unmarked(head, whole=False) is not None

    def read(self, reader: RangeReader) -> Document:
        """Return its paragraphs, or nothing where it goes on as no text."""
        content, cut = read_beginning(reader)
        text = _unmarked(content, whole=not cut)
        return Document(kind="file") if text is None else as_plain_text(text, cut)


PLAIN_TEXT: Final[DocumentReader] = _PlainText()
UNNAMED_TEXT: Final[DocumentReader] = _UnnamedText()
"""The entries for the table of readers."""


def _unmarked(content: bytes, *, whole: bool) -> str | None:
    """Return bytes as the text that they are in UTF-8; None where they are none."""
    try:
        text = decode_as(content, "utf-8", whole=whole)
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(text) else with_line_feeds(text)


def as_plain_text(text: str, notices: Iterable[Notice]) -> Document:
    """Return the paragraphs of a text, also of one that is not what its name says."""
    found = BlockList()
    for paragraph in _PARAGRAPH.finditer(text):
        found.put(paragraph[0], paragraph.start())
    return Document(
        kind=_PlainText.name, blocks=tuple(found.blocks), notices=(*notices, *found.notices())
    )
