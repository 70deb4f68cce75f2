"""EPUB (versions 2 and 3): the chapters of its spine, each read as a page of HTML.

Chapters are pages; positions are of a chapter's text.
"""

from posixpath import dirname, join, normpath
from typing import Final
from urllib.parse import unquote

from hartonomous.core.document import BlockList, Document
from hartonomous.errors import StructureError
from hartonomous.media.archive import MAGIC, Archive
from hartonomous.media.decoding import decode
from hartonomous.media.endings import BOOKS, ending
from hartonomous.media.html import read_page
from hartonomous.ports.document import DocumentReader
from hartonomous.ports.format import RangeReader

_CONTAINER = "{urn:oasis:names:tc:opendocument:xmlns:container}rootfile"
_OPF = "{http://www.idpf.org/2007/opf}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_PAGES = ("application/xhtml+xml", "text/html")
_VALUE_CHARS = 500


class _Epub:
    """The reader; see the module's text."""

    name = "epub"
    recipe = "2"
    extra = ""

    def matches(self, path: str, head: bytes) -> bool:
        """Take files that are named so and are zip files."""
        return ending(path) in BOOKS and head.startswith(MAGIC)

    def read(self, reader: RangeReader) -> Document:
        """Return the chapters in the order of the spine."""
        archive = Archive(reader)
        root = next(archive.xml("META-INF/container.xml").iter(_CONTAINER), None)
        if root is None:
            raise StructureError("its container names no book")
        place = root.get("full-path", "")
        book = archive.xml(place)
        files = {
            one.get("id", ""): normpath(join(dirname(place), unquote(one.get("href", ""))))
            for one in book.iter(f"{_OPF}item")
            if one.get("media-type") in _PAGES
        }
        found = BlockList()
        spine = [files.get(one.get("idref", ""), "") for one in book.iter(f"{_OPF}itemref")]
        for number, name in enumerate(spine, 1):
            if name in archive.names and not found.full:
                found.page(number)
                read_page(decode(archive.read(name))[0], found)
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
            notices=found.notices(),
        )


EPUB: Final[DocumentReader] = _Epub()
"""The entry for the table of readers."""
