"""Office Open XML: DOCX, PPTX and XLSX (ECMA-376), by their parts' XML.

DOCX counts pages by the breaks that the last program to lay it out left in it, and by its own; what
stands beside the pages (notes, comments, headers and footers) comes behind them and has none. PPTX
counts slides, behind each its notes and comments; XLSX sheets, a block a row, then comments behind
their cells' names. Positions are of a page's text. Formulas are taken by their stored results.
"""

from collections.abc import Iterator
from typing import Final
from xml.etree.ElementTree import Element

from hartonomous.core.document import BlockList, Document
from hartonomous.media.archive import MAGIC, Archive, walk, whole_number
from hartonomous.media.charts import chart_texts
from hartonomous.media.damage import named
from hartonomous.media.endings import ending
from hartonomous.media.sheet_formats import TRUTH, SheetFormats
from hartonomous.media.tabular import add_rows
from hartonomous.ports.document import DocumentReader
from hartonomous.ports.format import RangeReader

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_P = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_S = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_T = "{http://schemas.microsoft.com/office/spreadsheetml/2018/threadedcomments}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_CORE = "{http://schemas.openxmlformats.org/package/2006/metadata/core-properties}"
_DC = "{http://purl.org/dc/elements/1.1/}"

_VALUE_CHARS = 500
_STYLES_READ = 4_096
_COMMENT_TEXT = (f"{_S}t", f"{_T}text")
# Of DOCX: under which heading, and by which kinds of parts.
_BESIDE = {
    "Notes": ("footnotes", "endnotes"),
    "Comments": ("comments",),
    "Headers and footers": ("header", "footer"),
}


class _Word:
    """Word processing documents."""

    name = "docx"
    recipe = "3"
    extra = ""

    def matches(self, path: str, head: bytes) -> bool:
        """Take files that are named so and are zip files."""
        return ending(path) in ("docx", "docm") and head.startswith(MAGIC)

    def read(self, reader: RangeReader) -> Document:
        """Return headings, paragraphs and rows of tables, then what stands beside the pages."""
        archive = Archive(reader)
        found = BlockList()
        place = "word/document.xml"
        _Body(found, _heading_styles(archive)).take(archive.xml(place))
        parts = archive.relations_beside(place, "its notes, comments and headers").values()
        for heading, kinds in _BESIDE.items():
            # Each section has headers of its own, most of which say the same.
            texts = dict.fromkeys(
                text
                for kind, part in parts
                if kind in kinds and (root := archive.xml_beside(part, f"its {kind}")) is not None
                for text in _words_of(root)
            )
            for number, text in enumerate(texts):
                if not number:
                    found.beside(heading)
                found.add(text)
        return _made(archive, found, self.name, "page")


class _Body:
    """Walks a document's body."""

    def __init__(self, found: BlockList, styles: dict[str, int]) -> None:
        self._found = found
        self._styles = styles
        self._page = 1
        found.page(1)

    def take(self, root: Element) -> None:
        """Add the body's blocks."""
        for one in walk(root, frozenset((f"{_W}p", f"{_W}tbl"))):
            if one.tag == f"{_W}tbl":
                for row in walk(one, frozenset((f"{_W}tr",))):
                    cells = walk(row, frozenset((f"{_W}tc",)))
                    texts = (" ".join(_words_of(cell)) for cell in cells)
                    self._found.add(" | ".join(text for text in texts if text), "row")
                continue
            level = self._level(one)
            self._found.add(_word_text(one), "heading" if level else "text", level=level)
            # A break lies somewhere inside its paragraph, which is counted to the page before it.
            breaks = sum(1 for _ in one.iter(f"{_W}lastRenderedPageBreak"))
            breaks += sum(1 for each in one.iter(f"{_W}br") if each.get(f"{_W}type") == "page")
            if breaks:
                self._page += breaks
                self._found.page(self._page)

    def _level(self, paragraph: Element) -> int:
        outline = paragraph.find(f"{_W}pPr/{_W}outlineLvl")
        if outline is not None:
            value = whole_number(outline.get(f"{_W}val"))
            return value + 1 if value is not None and 0 <= value < 9 else 0
        style = paragraph.find(f"{_W}pPr/{_W}pStyle")
        return self._styles.get(style.get(f"{_W}val", ""), 0) if style is not None else 0


def _heading_styles(archive: Archive) -> dict[str, int]:
    """Return {style id: level}; ids are translated in some languages' Office, names are not."""
    found: dict[str, int] = {}
    if "word/styles.xml" not in archive.names:
        return found
    styles: list[Element] = []
    with archive.damage.beside("its styles, which tell headings from text"):
        styles = list(archive.xml("word/styles.xml").iter(f"{_W}style"))[:_STYLES_READ]
    for style in styles:
        named = style.find(f"{_W}name")
        name = (named.get(f"{_W}val") or "").lower() if named is not None else ""
        if name == "title":
            found[style.get(f"{_W}styleId", "")] = 1
        elif name.startswith("heading ") and name[8:].isdecimal():
            found[style.get(f"{_W}styleId", "")] = min(int(name[8:9]) or 1, 9)
    return found


def _word_text(paragraph: Element) -> str:
    parts = []
    for one in paragraph.iter():
        if one.tag == f"{_W}t":
            parts.append(one.text or "")
        elif one.tag in (f"{_W}tab", f"{_W}cr"):
            parts.append(" ")
        elif one.tag == f"{_W}br":
            parts.append("\n")
    return "".join(parts)


def _words_of(cell: Element) -> Iterator[str]:
    for paragraph in walk(cell, frozenset((f"{_W}p",))):
        text = _word_text(paragraph).strip()
        if text:
            yield text


class _Slides:
    """Presentations."""

    name = "pptx"
    recipe = "3"
    extra = ""

    def matches(self, path: str, head: bytes) -> bool:
        """Take files that are named so and are zip files."""
        return ending(path) in ("pptx", "pptm") and head.startswith(MAGIC)

    def read(self, reader: RangeReader) -> Document:
        """Return each slide's texts, its title as a heading, charts, notes and comments behind."""
        archive = Archive(reader)
        found = BlockList()
        place = "ppt/presentation.xml"
        relations = archive.relations(place)
        ids = [one.get(f"{_R}id", "") for one in archive.xml(place).iter(f"{_P}sldId")]
        for number, id_ in enumerate(ids, 1):
            slide = relations.get(id_, ("", ""))[1]
            if slide not in archive.names:
                continue
            found.page(number)
            with archive.damage.page(f"slide {number}"):
                _add_slide(found, archive.xml(slide))
            _add_beside(found, archive, slide, f"what is said of slide {number}")
        archive.damage.check()
        return _made(archive, found, self.name, "slide")


def _add_beside(found: BlockList, archive: Archive, slide: str, what: str) -> None:
    """Add a slide's charts, and what is said of it."""
    for kind, part in archive.relations_beside(slide, what).values():
        if kind == "chart" and (chart := archive.xml_beside(part, what)) is not None:
            for said in chart_texts(chart):
                found.add(said, "row")
        root = archive.xml_beside(part, what) if kind in ("notesSlide", "comments") else None
        if root is not None:
            for text in walk(root, frozenset((f"{_A}p", f"{_P}text"))):
                found.add(_drawn_text(text) or (text.text or ""))


def _add_slide(found: BlockList, slide: Element) -> None:
    shapes = walk(slide, frozenset((f"{_P}sp", f"{_A}tbl")))
    titles = [one for one in shapes if _is_title(one)]
    for shape in [*titles, *(one for one in shapes if one not in titles)]:
        if shape.tag == f"{_A}tbl":
            for row in walk(shape, frozenset((f"{_A}tr",))):
                cells = (_drawn_text(one).strip() for one in walk(row, frozenset((f"{_A}tc",))))
                found.add(" | ".join(text for text in cells if text), "row")
        elif shape in titles:
            found.add(" ".join(_drawn_text(shape).split()), "heading", level=1)
        else:
            for paragraph in walk(shape, frozenset((f"{_A}p",))):
                found.add(_drawn_text(paragraph))


def _is_title(shape: Element) -> bool:
    place = shape.find(f"{_P}nvSpPr/{_P}nvPr/{_P}ph")
    return place is not None and place.get("type") in ("title", "ctrTitle")


def _drawn_text(element: Element) -> str:
    parts = []
    for one in element.iter():
        if one.tag == f"{_A}t":
            parts.append(one.text or "")
        elif one.tag in (f"{_A}br", f"{_A}p"):
            parts.append("\n" if parts else "")
    return "".join(parts)


class _Sheets:
    """Spreadsheets."""

    name = "xlsx"
    recipe = "4"
    extra = ""

    def matches(self, path: str, head: bytes) -> bool:
        """Take files that are named so and are zip files."""
        return ending(path) in ("xlsx", "xlsm") and head.startswith(MAGIC)

    def read(self, reader: RangeReader) -> Document:
        """Return each sheet's name as a heading, its rows and what is said of its cells."""
        archive = Archive(reader)
        found = BlockList()
        shared = _shared_texts(archive)
        place = "xl/workbook.xml"
        relations = archive.relations(place)
        workbook = archive.xml(place)
        formats = SheetFormats(archive, workbook)
        for number, sheet in enumerate(workbook.iter(f"{_S}sheet"), 1):
            part = relations.get(sheet.get(f"{_R}id", ""), ("", ""))[1]
            if part in archive.names:
                name = sheet.get("name", "")
                found.page(number)
                found.add(name, "heading", level=1)
                with archive.damage.page(named("sheet", number, name)):
                    add_rows(found, _rows(archive.xml(part), shared, formats))
                for text in _comments(archive, part, f"comments on sheet {number}"):
                    found.add(text)
        archive.damage.check()
        return _made(archive, found, self.name, "sheet")


def _shared_texts(archive: Archive) -> list[str]:
    """Return the texts that cells name by number; numbers and cells' own texts do without."""
    found: list[str] = []
    if "xl/sharedStrings.xml" in archive.names:
        with archive.damage.beside("the texts that its cells share"):
            for item in archive.xml("xl/sharedStrings.xml").iter(f"{_S}si"):
                found.append("".join(one.text or "" for one in item.iter(f"{_S}t")))
    return found


def _rows(
    sheet: Element, shared: list[str], formats: SheetFormats
) -> Iterator[list[tuple[int, str]]]:
    for row in sheet.iter(f"{_S}row"):
        values: list[tuple[int, str]] = []
        at = -1
        for cell in row.iter(f"{_S}c"):
            at = _column(cell.get("r", ""), at + 1)
            values.append((at, _value(cell, shared, formats)))
        yield values


def _comments(archive: Archive, sheet: str, what: str) -> Iterator[str]:
    """Yield the comments on a sheet's cells behind the cells' names.

    Conversations are kept twice, as such and, for older programs, as comments.
    """
    parts = dict(archive.relations_beside(sheet, what).values())
    root = archive.xml_beside(parts.get("threadedComment", parts.get("comments", "")), what)
    if root is not None:
        for one in walk(root, frozenset((f"{_T}threadedComment", f"{_S}comment"))):
            text = "".join(each.text or "" for each in one.iter() if each.tag in _COMMENT_TEXT)
            if text.strip():
                yield f"{one.get('ref', '')}: {text.strip()}"


def _column(reference: str, fallback: int) -> int:
    """Return the column of a reference such as ``AB12``, from 0; never before what is there."""
    at = 0
    for letter in reference[:4]:
        if not "A" <= letter <= "Z":
            break
        at = 26 * at + ord(letter) - 64
    return max(at - 1, fallback)


def _value(cell: Element, shared: list[str], formats: SheetFormats) -> str:
    kind = cell.get("t", "n")
    if kind == "inlineStr":
        return "".join(one.text or "" for one in cell.iter(f"{_S}t"))
    held = cell.find(f"{_S}v")
    text = (held.text or "") if held is not None else ""
    if kind == "s":
        at = whole_number(text)
        return shared[at] if at is not None and 0 <= at < len(shared) else ""
    if kind == "b":
        return TRUTH.get(text, text)
    if kind == "d":
        return text.replace("T", " ", 1)  # so that the day is a word of its own
    return formats.shown(text, cell.get("s")) if kind == "n" else text


def _made(archive: Archive, found: BlockList, kind: str, pages: str) -> Document:
    told: dict[str, str] = {}
    root = archive.xml_beside("docProps/core.xml", "its properties")
    for key in ("title", "creator", "subject", "description", "keywords"):
        place = _CORE if key == "keywords" else _DC
        one = None if root is None else root.find(f"{place}{key}")
        if one is not None and (one.text or "").strip():
            told["author" if key == "creator" else key] = (one.text or "").strip()[:_VALUE_CHARS]
    return found.document(kind, pages=pages, metadata=told, notices=archive.damage.notices())


WORD: Final[DocumentReader] = _Word()
SLIDES: Final[DocumentReader] = _Slides()
SHEETS: Final[DocumentReader] = _Sheets()
"""The entries for the table of readers."""
