"""Source code and settings: blocks between empty lines. Positions are of the decoded file."""

import re
from typing import Final

from hartonomous.core.document import BlockList, Document
from hartonomous.media.decoding import looks_like_text, read_text
from hartonomous.media.endings import CODE, CODE_NAMES, ending
from hartonomous.ports.document import DocumentReader
from hartonomous.ports.format import RangeReader

_BLOCK = re.compile(r"[^\n]*\S[^\n]*(?:\n[^\n]*\S[^\n]*)*")


class _SourceCode:
    """The reader; see the module's text."""

    name = "code"
    recipe = "2"
    extra = ""

    def matches(self, path: str, head: bytes) -> bool:
        """Take files that are named so."""
        named = ending(path) in CODE or path.rpartition("/")[2].lower() in CODE_NAMES
        return named and looks_like_text(head)

    def read(self, reader: RangeReader) -> Document:
        """Return its blocks."""
        text, notices = read_text(reader)
        found = BlockList()
        for block in _BLOCK.finditer(text):
            found.put(block[0], block.start(), "code")
        return Document(
            kind=self.name, blocks=tuple(found.blocks), notices=(*notices, *found.notices())
        )


SOURCE_CODE: Final[DocumentReader] = _SourceCode()
"""The entry for the table of readers."""
