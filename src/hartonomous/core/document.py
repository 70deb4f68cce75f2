"""What a reader of documents says about a file: its text in blocks, with the place of each.

A document is serialisable (it crosses a pipe from a limited child process) and says nothing about
storage. It is the input of ``core/passage.py``, which cuts it into what is searched.
"""

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from hartonomous.core.description import Notice

BlockKind = Literal["heading", "text", "code", "row"]

BLOCK_LIMIT = 200_000
"""Blocks that are taken of one file."""
TEXT_LIMIT_CHARS = 32 << 20
"""Characters that are taken of one file."""

_ABOUT = ("author", "subject", "keywords", "description")  # the title stands above each passage
# What programs write there of themselves, which is in thousands of documents.
_OF_PROGRAMS = re.compile(
    r"(?:openpyxl|python-(?:docx|pptx)|unspecified|anonymous)$|generated (?:by|using) python-"
)
# Halves of characters, which JSON can spell and UTF-8 cannot; one for one, so that places hold.
_HALVES = re.compile("[\ud800-\udfff]")


class Block(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A run of text. ``page`` counts pages, slides, sheets, chapters or cells from 1; 0 for none.

    Its characters are ``[start, start + len(text))`` of its page's text, or of the whole text where
    there are no pages. For files that are text themselves that is the decoded file.
    """

    text: str
    start: int
    kind: BlockKind = "text"
    level: int = 0
    page: int = 0


class Document(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The text of one file. ``kind`` is "file" where no reader took it: then there are no blocks.

    ``pages`` says what a page is called: page, slide, sheet, chapter, cell; empty for none.
    """

    kind: str
    blocks: tuple[Block, ...] = ()
    title: str = ""
    pages: str = ""
    metadata: dict[str, str] = {}
    notices: tuple[Notice, ...] = ()


class BlockList:
    """Collects blocks within the limits; ``full`` once one of them is met."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.full = False
        self._page = 0
        self._at = 0
        self._chars = 0
        self._body: int | None = None
        self._left: dict[str, tuple[int, int]] = {}  # of what, how many are read and there are

    def page(self, number: int) -> None:
        """Begin a page: positions count from its beginning."""
        self._page = number
        self._at = 0

    def beside(self, heading: str) -> None:
        """Go on with what stands beside the pages, below a heading that says what that is."""
        if self._body is None:
            self._body = len(self.blocks)
        if self._page:
            self.page(0)
        self.add(heading, "heading", level=1)

    def about(self, told: Mapping[str, str]) -> None:
        """Add what a document says of itself behind its text, so that it is found by words."""
        lines = [
            f"{key}: {told[key]}"
            for key in _ABOUT
            if told.get(key, "").strip() and not _OF_PROGRAMS.match(told[key])
        ]
        if lines:
            self.beside("About this document")
            self.add("\n".join(lines))

    def add(self, text: str, kind: BlockKind = "text", *, level: int = 0) -> None:
        """Add a block behind the last one of its page, which a line break separates."""
        text = text.strip()
        if text:
            self.put(text, self._at, kind, level=level)
            self._at += len(text) + 1

    def put(self, text: str, start: int, kind: BlockKind = "text", *, level: int = 0) -> None:
        """Add a block at a known place; text of blanks alone is left out."""
        if self.full or not text.strip():
            return
        if not text.isascii():
            text = _HALVES.sub("\ufffd", text)
        room = TEXT_LIMIT_CHARS - self._chars
        if len(self.blocks) >= BLOCK_LIMIT or room <= 0:
            self.full = True
            return
        if len(text) > room:
            text = text[:room]
            self.full = True
        self._chars += len(text)
        self.blocks.append(Block(text=text, start=start, kind=kind, level=level, page=self._page))

    def leave(self, what: str, kept: int, count: int = 0) -> None:
        """Say that only the first ``kept`` of something are taken, of the most that there were.

        Said once of each, however often it happens.
        """
        self._left[what] = (kept, max(count, self._left.get(what, (0, 0))[1]))

    def document(
        self, kind: str, *, pages: str = "", metadata: dict[str, str] | None = None,
        notices: tuple[Notice, ...] = (),
    ) -> "Document":  # fmt: skip
        """Return what was gathered; called by its metadata, else by its first heading.

        The first sheet's name is that sheet's and not the file's, and headings beside the pages
        name what is there.
        """
        told = metadata or {}
        self.about(told)
        kind_of_name = "" if pages == "sheet" else "heading"
        headings = (one.text for one in self.blocks[: self._body] if one.kind == kind_of_name)
        return Document(
            kind=kind, blocks=tuple(self.blocks), title=told.get("title") or next(headings, ""),
            pages=pages, metadata=told, notices=(*notices, *self.notices()),
        )  # fmt: skip

    def notices(self) -> tuple[Notice, ...]:
        """Return what has to be said of the limits."""
        texts = []
        if self.full:
            texts.append(f"only the first {len(self.blocks):,} parts of its text are searched")
        for what, (kept, count) in self._left.items():
            of = f"of {count:,} {what} only the first {kept:,}" if count else ""
            texts.append(f"{of or f'only the first {kept:,} {what}'} are searched")
        return tuple(Notice(kind="limit", text=one) for one in texts)
