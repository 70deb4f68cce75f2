"""HTML: what a reader of the page sees, in blocks, by the standard library's tolerant parser.

Positions are characters of the text that is taken out. Scripts, styles, templates and navigation
are left out. The parser keeps no tree, so depth costs nothing.
"""

import codecs
import re
from collections import Counter
from html import unescape
from html.parser import HTMLParser
from typing import Final

from hartonomous.core.description import Notice
from hartonomous.core.document import BlockKind, BlockList, Document
from hartonomous.media import endings
from hartonomous.media.decoding import decode, decode_as, looks_like_text, read_beginning
from hartonomous.ports.document import DocumentReader
from hartonomous.ports.format import RangeReader

# fmt: off
_HIDDEN = frozenset((
    "script", "style", "template", "noscript", "svg", "math", "head", "nav", "select", "iframe",
    "object",
))
_BREAKS = frozenset((
    "address", "article", "aside", "blockquote", "body", "br", "caption", "center", "dd", "details",
    "dialog", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2",
    "h3", "h4", "h5", "h6", "header", "hr", "html", "li", "main", "ol", "p", "pre", "section",
    "summary", "table", "tbody", "tfoot", "thead", "tr", "ul",
))
# fmt: on
_CELLS = frozenset(("td", "th"))
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset=[\"']?\s*([A-Za-z0-9_-]{2,20})", re.IGNORECASE)
# What Python can decode and no page is written in: some give halves of characters, or no end.
_NO_CHARSETS = frozenset(
    (
        "idna",
        "punycode",
        "raw-unicode-escape",
        "undefined",
        "unicode-escape",
        "utf-7",
    )
)
_BLANK = re.compile(r"\s+")
_META_LIMIT_CHARS = 500
_META = frozenset(("author", "description", "keywords", "date", "language"))


class _Html:
    """The reader; see the module's text."""

    name = "html"
    recipe = "3"
    extra = ""

    def matches(self, path: str, head: bytes) -> bool:
        """Take files that are named so, or begin as pages do."""
        start = head.lstrip()[:64].lower()
        begins = start.startswith((b"<!doctype html", b"<html"))
        return (endings.ending(path) in endings.HTML or begins) and looks_like_text(head)

    def read(self, reader: RangeReader) -> Document:
        """Return its blocks, its title and what its meta elements say."""
        content, cut = read_beginning(reader)
        declared = _CHARSET.search(content[:2048])
        named = declared[1].decode() if declared else None
        text, notices = _decoded(content, named, whole=not cut)
        page = read_page(text)
        page.found.about(page.metadata)
        return Document(
            kind=self.name,
            blocks=tuple(page.found.blocks),
            title=_BLANK.sub(" ", page.title),
            metadata=page.metadata,
            notices=(*cut, *notices, *page.found.notices()),
        )


HTML_PAGE: Final[DocumentReader] = _Html()
"""The entry for the table of readers."""


def _decoded(
    content: bytes, declared: str | None, *, whole: bool
) -> tuple[str, tuple[Notice, ...]]:
    if declared is not None and declared.lower() not in ("utf-8", "utf8"):
        try:
            if codecs.lookup(declared).name not in _NO_CHARSETS:
                return decode_as(content, declared, whole=whole), ()
        except (LookupError, UnicodeError):
            pass  # it declares what it is not: judged like a page that declares nothing
    return decode(content, whole=whole)


def read_page(text: str, found: BlockList | None = None) -> "Page":
    """Return the blocks of one page, added to ``found`` where that is given."""
    page = Page(found if found is not None else BlockList())
    # Behind the last '>' nothing ends, so all of it is text. The parser would look for that end
    # from each '<' anew, which takes hours for a few megabytes.
    end = text.rfind(">") + 1
    try:
        page.feed(text[:end])
        page.close()
        page.handle_data(unescape(text[end:]))
        page.end()
    except _FullError:
        pass  # what comes would be read for nothing; the notice of the limit says so
    return page


class _FullError(Exception):
    """No more blocks are taken."""


class Page(HTMLParser):
    """Collects the text of a page."""

    def __init__(self, found: BlockList) -> None:
        super().__init__(convert_charrefs=True)
        self.found = found
        self.title = ""
        self.metadata: dict[str, str] = {}
        self._text: list[str] = []
        self._hidden: list[str] = []
        self._hiding: Counter[str] = Counter()  # the same, by tag
        self._in_title = False
        self._pre = 0
        self._heading = 0
        self._link = -1  # where in the text a heading's link to a place of the page began

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin an element."""
        if tag == "title" and not self.title:
            self._in_title = True
        elif tag == "meta":
            self._meta(dict(attrs))
        elif tag in _HIDDEN:
            if tag != "head":  # what it holds has no text but the title
                self._hidden.append(tag)
                self._hiding[tag] += 1
        elif tag in _BREAKS:
            self.end()
            self._heading = _HEADINGS.get(tag, 0)
            self._pre += tag == "pre"
        elif tag in _CELLS and self._text:
            self._text.append(" | ")
        elif tag == "img":
            self._picture(dict(attrs))
        elif tag == "a" and self._heading:
            to = dict(attrs).get("href") or ""
            self._link = len(self._text) if to.startswith("#") else -1

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take an element that ends at once, so that it hides nothing."""
        if tag == "meta":
            self._meta(dict(attrs))
        elif tag == "img":
            self._picture(dict(attrs))
        elif tag in _BREAKS:
            self.end()

    def handle_endtag(self, tag: str) -> None:
        """End an element."""
        if tag == "title":
            self._in_title = False
        elif self._hidden and tag in _HIDDEN:
            if self._hiding[tag]:
                ended = ""
                while ended != tag:
                    ended = self._hidden.pop()
                    self._hiding[ended] -= 1
        elif tag == "a" and self._link >= 0:
            if not any(map(str.isalnum, "".join(self._text[self._link :]))):
                del self._text[self._link :]  # the sign of a permalink: ¶, §, #
            self._link = -1
        elif tag in _BREAKS:
            self.end()
            self._heading = 0
            if tag == "pre":
                self._pre = max(0, self._pre - 1)

    def handle_data(self, data: str) -> None:
        """Take text."""
        if self._in_title:
            self.title = (self.title + data)[:_META_LIMIT_CHARS].strip()
        elif not self._hidden:
            self._text.append(data)

    def updatepos(self, i: int, j: int) -> int:  # noqa: ARG002 - the parser's signature
        """Count no lines: nobody asks for the place of a tag."""
        return j

    def end(self) -> None:
        """Close the block that is open."""
        self._link = -1
        if not self._text:
            return
        text = "".join(self._text)
        self._text = []
        kind: BlockKind = "heading" if self._heading else "code" if self._pre else "text"
        if kind != "code":
            text = _BLANK.sub(" ", text)
        self.found.add(text, kind, level=self._heading)
        if self.found.full:
            raise _FullError

    def _picture(self, attrs: dict[str, str | None]) -> None:
        """Take the words that stand for a picture."""
        if not self._hidden and (attrs.get("alt") or "").strip():
            self._text.append(f" {attrs['alt']} ")

    def _meta(self, attrs: dict[str, str | None]) -> None:
        name = (attrs.get("name") or "").lower()
        if name in _META and attrs.get("content"):
            self.metadata.setdefault(name, str(attrs["content"])[:_META_LIMIT_CHARS])
