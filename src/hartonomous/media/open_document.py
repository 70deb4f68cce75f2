"""OpenDocument (ISO/IEC 26300): text, spreadsheets and presentations, by ``content.xml``.

Sheets and slides are pages; a text has some where its breaks were saved. Positions are of a page's
text. Notes and comments come behind the paragraph that they belong to, headers and footers at the
end; what was deleted and is kept as a change is left out.
"""

from typing import Final
from xml.etree.ElementTree import Element

from hartonomous.core.document import BlockList, Document
from hartonomous.media.archive import MAGIC, Archive, walk, whole_number
from hartonomous.media.endings import ending
from hartonomous.media.open_document_pages import pages_of
from hartonomous.media.tabular import add_rows
from hartonomous.ports.document import DocumentReader
from hartonomous.ports.format import RangeReader

_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_DRAW = "{urn:oasis:names:tc:opendocument:xmlns:drawing:1.0}"
_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_STYLE = "{urn:oasis:names:tc:opendocument:xmlns:style:1.0}"
_METADATA = "{urn:oasis:names:tc:opendocument:xmlns:meta:1.0}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_META = {"title": "title", "creator": "author", "subject": "subject", "description": "description"}
_PAGES = {"odt": "", "ods": "sheet", "odp": "slide"}
_REPEATS = 64
_LEVELS = 10
_VALUE_CHARS = 500
_PARAGRAPHS = frozenset((f"{_TEXT}h", f"{_TEXT}p"))
_CHANGES = f"{_TEXT}tracked-changes"
_ASIDES = frozenset((f"{_TEXT}note", f"{_OFFICE}annotation"))
_CELLS = frozenset(f"{_TABLE}{one}" for one in ("table-cell", "covered-table-cell"))
_EDGES = frozenset(f"{_STYLE}{one}" for one in ("header", "footer"))


class _OpenDocument:
    """The reader; see the module's text."""

    name = "odf"
    recipe = "5"
    extra = ""

    def matches(self, path: str, head: bytes) -> bool:
        """Take files that are named so and are zip files."""
        return ending(path) in _PAGES and head.startswith(MAGIC)

    def read(self, reader: RangeReader) -> Document:
        """Return its blocks; what it is, is told by what is in it."""
        archive = Archive(reader)
        root = archive.xml("content.xml")
        found = BlockList()
        pages = ""
        number = page = 0
        breaks = pages_of(root)
        stops = frozenset((f"{_DRAW}page", f"{_TABLE}table", _CHANGES, *_PARAGRAPHS))
        for one in walk(root, stops):
            if one.tag == _CHANGES:
                continue
            if one.tag in _PARAGRAPHS:
                if breaks.get(id(one), page) != page:
                    page, pages = breaks[id(one)], "page"
                    found.page(page)
                _add(found, one)
                continue
            number += 1
            slide = one.tag == f"{_DRAW}page"
            if slide or _is_sheet(root):
                pages = "slide" if slide else "sheet"
                found.page(number)
                found.add(one.get(f"{_DRAW if slide else _TABLE}name", ""), "heading", level=1)
            if slide:
                for paragraph in walk(one, _PARAGRAPHS):
                    _add(found, paragraph)
            else:
                add_rows(found, map(_cells, walk(one, frozenset((f"{_TABLE}table-row",)))))
        if next(root.iter(f"{_OFFICE}text"), None) is not None:
            _add_edges(found, archive)
        told = _told(archive)
        notices = archive.damage.notices()
        return found.document(self.name, pages=pages, metadata=told, notices=notices)


OPEN_DOCUMENT: Final[DocumentReader] = _OpenDocument()
"""The entry for the table of readers."""


def _is_sheet(root: Element) -> bool:
    return next(root.iter(f"{_OFFICE}spreadsheet"), None) is not None


def _add(found: BlockList, paragraph: Element) -> None:
    text = _text(paragraph)
    if paragraph.tag == f"{_TEXT}h":
        level = whole_number(paragraph.get(f"{_TEXT}outline-level"))
        found.add(text, "heading", level=1 if level is None else max(0, min(level, _LEVELS)))
    else:
        found.add(text)
    for aside in walk(paragraph, _ASIDES):
        for one in walk(aside, _PARAGRAPHS):
            found.add(_text(one))


def _add_edges(found: BlockList, archive: Archive) -> None:
    """Add what stands at the edges of pages, each once: most of them are alike."""
    root = archive.xml_beside("styles.xml", "its headers and footers")
    edges = [] if root is None else walk(root, _EDGES)
    texts = dict.fromkeys(
        text for edge in edges for one in walk(edge, _PARAGRAPHS) if (text := _text(one).strip())
    )
    if texts:
        found.beside("Headers and footers")
    for text in texts:
        found.add(text)


def _text(element: Element) -> str:
    """Return a paragraph's text without its notes and comments, which are texts of their own."""
    parts = []
    waiting = [(element, False)]
    while waiting:
        one, done = waiting.pop()
        if done:
            parts.append(one.tail or "")
            continue
        if one is not element:
            waiting.append((one, True))
        if one.tag in _ASIDES:
            continue
        if one.tag in (f"{_TEXT}tab", f"{_TEXT}s"):
            parts.append(" ")
        elif one.tag == f"{_TEXT}line-break":
            parts.append("\n")
        else:
            parts.append(one.text or "")
            waiting.extend((child, False) for child in reversed(one))
    return "".join(parts)


def _cells(row: Element) -> list[tuple[int, str]]:
    values: list[tuple[int, str]] = []
    at = 0
    for cell in walk(row, _CELLS):
        text = " ".join(_text(one) for one in walk(cell, _PARAGRAPHS)).strip()
        times = whole_number(cell.get(f"{_TABLE}number-columns-repeated"))
        count = 1 if times is None else max(0, times)
        if text and cell.tag == f"{_TABLE}table-cell":  # what a merged cell covers is not seen
            values.extend((at + one, text) for one in range(min(count, _REPEATS)))
        at += count
    return values


def _told(archive: Archive) -> dict[str, str]:
    found: dict[str, str] = {}
    root = archive.xml_beside("meta.xml", "its properties")
    if root is None:
        return found
    for key, name in _META.items():
        one = next(root.iter(f"{_DC}{key}"), None)
        if one is not None and (one.text or "").strip():
            found[name] = (one.text or "").strip()[:_VALUE_CHARS]
    words = [one.text or "" for one in root.iter(f"{_METADATA}keyword")]
    if any(words):
        found["keywords"] = ", ".join(filter(None, words))[:_VALUE_CHARS]
    return found
