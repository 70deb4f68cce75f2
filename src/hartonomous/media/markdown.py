"""Markdown: headings, paragraphs and code (CommonMark's rules for blocks, as far as search needs).

Positions are characters of the decoded file. Front matter between ``---`` lines becomes metadata:
simple ``key: value`` lines only, nothing of YAML is interpreted. Authors, tags and the like are
text as well, at their places.
"""

import re
from typing import Final

from hartonomous.core.document import BlockKind, BlockList, Document
from hartonomous.media.decoding import looks_like_text, read_text
from hartonomous.media.endings import MARKDOWN, ending
from hartonomous.ports.document import DocumentReader
from hartonomous.ports.format import RangeReader

_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?[ \t]*#*[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_PAIR = re.compile(r"([A-Za-z][\w .-]{0,60}):[ \t]+(\S.*)$")
# Of front matter what people search by, with the lines of a list or of a long text below it.
_ABOUT = re.compile(
    r"^(?:authors?|categories|description|keywords|subject|summary|tags):[^\n]*"
    r"(?:\n(?:[ \t]+|- )[^\n]*)*",
    re.MULTILINE | re.IGNORECASE,
)
_PAIRS_LIMIT = 64
_VALUE_CHARS = 500


class _Markdown:
    """The reader; see the module's text."""

    name = "markdown"
    recipe = "2"
    extra = ""

    def matches(self, path: str, head: bytes) -> bool:
        """Take files that are named so."""
        return ending(path) in MARKDOWN and looks_like_text(head)

    def read(self, reader: RangeReader) -> Document:
        """Return its blocks; the first heading of level 1 is the title."""
        text, notices = read_text(reader)
        metadata, start = _front_matter(text)
        found = BlockList()
        for one in _ABOUT.finditer(text, 4, start) if start else ():
            found.put(one[0], one.start())
        _Blocks(found).take(text, start)
        titles = [one.text for one in found.blocks if one.kind == "heading"]
        return Document(
            kind=self.name,
            blocks=tuple(found.blocks),
            title=metadata.get("title", titles[0] if titles else "")[:_VALUE_CHARS],
            metadata=metadata,
            notices=(*notices, *found.notices()),
        )


MARKDOWN_TEXT: Final[DocumentReader] = _Markdown()
"""The entry for the table of readers."""


def _front_matter(text: str) -> tuple[dict[str, str], int]:
    """Return its pairs, and where what follows begins."""
    if not text.startswith("---\n"):
        return {}, 0
    end = text.find("\n---\n", 3)
    if end < 0:
        return {}, 0
    found: dict[str, str] = {}
    for line in text[4:end].split("\n"):
        pair = _PAIR.match(line)
        if pair and len(found) < _PAIRS_LIMIT:
            found[pair[1]] = pair[2].strip("\"' ")[:_VALUE_CHARS]
    return found, end + 5


class _Blocks:
    """Walks the lines; holds the paragraph or code that is open."""

    def __init__(self, found: BlockList) -> None:
        self._found = found
        self._first = 0
        self._lines: list[str] = []
        self._fence = ""

    def take(self, text: str, start: int) -> None:
        """Add the blocks of a text from ``start``."""
        at = start
        for line in text[start:].split("\n"):
            self._line(line, at)
            at += len(line) + 1
        self._close("code" if self._fence else "text")

    def _line(self, line: str, at: int) -> None:
        fence = _FENCE.match(line)
        if self._fence:
            if fence and line.strip().startswith(self._fence) and not line.strip().strip("`~"):
                self._close("code")
                self._fence = ""
            else:
                self._open(line, at)
            return
        if fence:
            self._close("text")
            self._fence = fence[1]
            return
        heading = _HEADING.match(line)
        under = _UNDERLINE.match(line)
        if heading:
            self._close("text")
            self._heading(heading[2] or "", at, len(heading[1]))
        elif under and len(self._lines) == 1 and not self._lines[0].lstrip().startswith(("|", "-")):
            text, first = self._lines[0], self._first
            self._lines = []
            self._heading(text, first, 1 if under[1][0] == "=" else 2)
        elif not line.strip():
            self._close("text")
        else:
            self._open(line, at)

    def _open(self, line: str, at: int) -> None:
        if not self._lines:
            self._first = at
        self._lines.append(line)

    def _heading(self, text: str, at: int, level: int) -> None:
        self._found.put(text.strip(), at, "heading", level=level)

    def _close(self, kind: BlockKind) -> None:
        if self._lines:
            self._found.put("\n".join(self._lines), self._first, kind)
            self._lines = []


def add_markdown(found: BlockList, text: str, start: int = 0) -> None:
    """Add the blocks of a Markdown text from ``start``, at their places in it."""
    _Blocks(found).take(text, start)
