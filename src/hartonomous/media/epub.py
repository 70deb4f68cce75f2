"""EPUB (versions 2 and 3): the chapters of its spine, each read as a page of HTML.

Chapters are pages; positions are of a chapter's text.
"""

from typing import Final

from hartonomous.core.document import BlockList, Document
from hartonomous.errors import StructureError
from hartonomous.media.archive import MAGIC, Archive
from hartonomous.media.decoding import decode
from hartonomous.media.endings import BOOKS, ending
from hartonomous.media.epub_spine import chapters_of
from hartonomous.media.html import read_page
from hartonomous.ports.document import DocumentReader
from hartonomous.ports.format import RangeReader

_DC = "{http://purl.org/dc/elements/1.1/}"
_PAGES = ("application/xhtml+xml", "text/html")
_VALUE_CHARS = 500


class _Epub:
    """The reader; see the module's text."""

    name = "epub"
    recipe = "4"
    extra = ""

    def matches(self, path: str, head: bytes) -> bool:
        """Take files that are named so and are zip files."""
        return ending(path) in BOOKS and head.startswith(MAGIC)

    def read(self, reader: RangeReader) -> Document:
        """Return the chapters in the order of the spine."""
        archive = Archive(reader)
        book, chapters = chapters_of(archive)
        found = BlockList()
        for number, (name, kind) in enumerate(chapters, 1):
            if name in archive.names and kind in _PAGES and not found.full:
                found.page(number)
                with archive.damage.page(f"chapter {number}"):
                    text, notices = decode(archive.read(name))
                    read_page(text, found)
                    for said in notices:
                        if said.kind == StructureError.kind:  # not the guesses, usual in old books
                            archive.damage.tell(f"chapter {number}: {said.text}")
        archive.damage.check()
        told = {}
        for key, called in (("title", "title"), ("creator", "author"), ("language", "language")):
            one = next(book.iter(f"{_DC}{key}"), None)
            if one is not None and (one.text or "").strip():
                told[called] = (one.text or "").strip()[:_VALUE_CHARS]
        return Document(
            kind=self.name,
            blocks=tuple(found.blocks),
            title=told.get("title", ""),
            pages="chapter",
            metadata=told,
            notices=(*archive.damage.notices(), *found.notices()),
        )


EPUB: Final[DocumentReader] = _Epub()
"""The entry for the table of readers."""
