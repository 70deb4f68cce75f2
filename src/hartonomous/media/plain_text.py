"""Plain text: paragraphs between empty lines. Positions are characters of the decoded file."""

import re
from collections.abc import Iterable
from typing import Final

from hartonomous.core.description import Notice
from hartonomous.core.document import BlockList, Document
from hartonomous.media.decoding import looks_like_text, read_text
from hartonomous.media.endings import PLAIN, PLAIN_NAMES, ending
from hartonomous.ports.document import DocumentReader
from hartonomous.ports.format import RangeReader

_PARAGRAPH = re.compile(r"[^\n]*\S[^\n]*(?:\n[^\n]*\S[^\n]*)*")

_VOCABULARIES = {"vocab.txt": (b"[PAD]", b"[UNK]"), "merges.txt": (b"#version",)}
"""Names and beginnings of tokenizers' files: pieces of words, in which every search would hit."""


class _PlainText:
    """The reader; see the module's text."""

    name = "text"
    recipe = "2"
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


PLAIN_TEXT: Final[DocumentReader] = _PlainText()
"""The entry for the table of readers."""


def as_plain_text(text: str, notices: Iterable[Notice]) -> Document:
    """Return the paragraphs of a text, also of one that is not what its name says."""
    found = BlockList()
    for paragraph in _PARAGRAPH.finditer(text):
        found.put(paragraph[0], paragraph.start())
    return Document(
        kind=_PlainText.name, blocks=tuple(found.blocks), notices=(*notices, *found.notices())
    )
