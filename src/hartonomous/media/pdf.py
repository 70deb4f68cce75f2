"""PDF by pdfium (the extra ``documents``): each page's text, the outline's titles as headings.

Positions are characters of a page's text as pdfium gives it, where words that were divided at the
end of a line are made whole. A page without text, such as a scan, is told of; pictures of text are
not read.
"""

import contextlib
import io
import re
from typing import Any, Final

from hartonomous.core.description import Notice
from hartonomous.core.document import BlockList, Document
from hartonomous.errors import LimitError, StructureError
from hartonomous.media.archive import RangeFile
from hartonomous.media.damage import Damage
from hartonomous.ports.document import DocumentReader
from hartonomous.ports.format import RangeReader

PAGES_LIMIT = 20_000
_OUTLINE_LIMIT = 10_000
_PAGE_CHARS = 1 << 20
_VALUE_CHARS = 500
_READ_BYTES = 1 << 20
_HYPHEN = re.compile("\ufffe(?=[A-Z])")
_DIVIDED = re.compile("\ufffe")


class _Pdf:
    """The reader; see the module's text."""

    name = "pdf"
    recipe = "3"
    extra = "documents"

    def matches(self, path: str, head: bytes) -> bool:  # noqa: ARG002 - the bytes say it
        """Take what begins as a PDF does, within the first kilobyte as its readers allow."""
        return b"%PDF-" in head[:1024]

    def read(self, reader: RangeReader) -> Document:
        """Return the pages; raises StructureError where pdfium cannot open it."""
        import pypdfium2  # in the limited process alone

        try:
            with pypdfium2.PdfDocument(io.BufferedReader(RangeFile(reader), _READ_BYTES)) as opened:
                return _read(opened)
        except pypdfium2.PdfiumError as error:
            raise StructureError(f"pdfium: {error}") from error


PDF: Final[DocumentReader] = _Pdf()
"""The entry for the table of readers."""


def _read(opened: Any) -> Document:
    if len(opened) > PAGES_LIMIT:
        raise LimitError(f"it has {len(opened):,} pages, and {PAGES_LIMIT:,} are read")
    titles = _outline(opened)
    found = BlockList()
    damage = Damage()
    empty = 0
    for number in range(1, len(opened) + 1):
        if found.full:
            break
        found.page(number)
        for level, title in titles.get(number, ()):
            found.put(title, 0, "heading", level=level)
        with damage.page(f"page {number}"):
            text = _page_text(opened, number - 1)
            found.put(text, 0)
            empty += not text.strip()
    damage.check()
    told = {
        key.lower(): value[:_VALUE_CHARS]
        for key, value in opened.get_metadata_dict(skip_empty=True).items()
        if key in ("Title", "Author", "Subject", "Keywords")
    }
    found.about(told)
    notices = [*damage.notices(), *found.notices()]
    if empty:
        text = f"{empty} of {len(opened)} pages have no text: pictures of it are not read"
        notices.append(Notice(kind="pages", text=text))
    return Document(
        kind="pdf",
        blocks=tuple(found.blocks),
        title=told.get("title", ""),
        pages="page",
        metadata=told,
        notices=tuple(notices),
    )


def _page_text(opened: Any, index: int) -> str:
    """Return a page's text; raises StructureError where pdfium cannot read that page."""
    import pypdfium2

    try:
        with (
            contextlib.closing(opened[index]) as page,
            contextlib.closing(page.get_textpage()) as text,
        ):
            count = min(text.count_chars(), _PAGE_CHARS)
            found: str = text.get_text_range(0, count) if count > 0 else ""
    except pypdfium2.PdfiumError as error:
        raise StructureError(f"pdfium: {error}") from error
    return _joined(found.replace("\r\n", "\n").replace("\r", "\n"))


def _joined(text: str) -> str:
    """Return the text with words whole that were divided at the end of a line.

    PDFium writes U+FFFE for the hyphen and leaves out the line's end. Before a capital the hyphen
    is likelier a part of the word: Non-Maintainer.
    """
    return _DIVIDED.sub("", _HYPHEN.sub("-", text)) if "\ufffe" in text else text


def _outline(opened: Any) -> dict[int, list[tuple[int, str]]]:
    """Return {page: [(level, title)]} of the outline."""
    found: dict[int, list[tuple[int, str]]] = {}
    for count, item in enumerate(opened.get_toc(max_depth=8)):
        if count >= _OUTLINE_LIMIT:
            break
        dest = item.get_dest()
        index = None if dest is None else dest.get_index()
        title = (item.get_title() or "").strip()
        if index is not None and title:
            found.setdefault(index + 1, []).append((item.level + 1, title[:_VALUE_CHARS]))
    return found
