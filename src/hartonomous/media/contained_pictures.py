"""Pictures in zip documents (Office, OpenDocument, EPUB): which members they are, and where shown.

A member is a picture by its ending. What shows it gives the page: the slide, the sheet, the
chapter, and in DOCX and ODT the page by the breaks in it. A picture that nothing shows (in a
header, a layout, or not used) is on page 0. Where it lies on its page is told where the document
places it on the page, not beside its text.
"""

import re
from collections.abc import Iterator
from posixpath import dirname, join, normpath
from typing import NamedTuple
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from hartonomous.media.archive import Archive, whole_number
from hartonomous.media.decoding import decode
from hartonomous.media.endings import BOOKS, OPEN_DOCUMENT, PICTURES, ending
from hartonomous.media.epub_spine import chapters_of
from hartonomous.media.open_document_pages import frame_areas, pages_of

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_P = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_S = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_V = "{urn:schemas-microsoft-com:vml}"
_WP = "{http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing}"
_DRAW = "{urn:oasis:names:tc:opendocument:xmlns:drawing:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_LINK = "{http://www.w3.org/1999/xlink}href"

_TWIP = 635
"""What Word measures pages in, in the units of drawings."""

PLACES_LIMIT = 5_000
"""Most places of pictures that are taken of one document."""

_SHOWN = re.compile(
    r"<(?:img|image)\b[^>]{0,2000}?\b(?:src|href)\s*=\s*[\"']([^\"'<>]{1,1000})", re.I
)


class Shown(NamedTuple):
    """A picture's part of the document and where it is shown; see ``core.picture.PicturePlace``."""

    part: str
    page: int = 0
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0


def shown_in_archive(archive: Archive, path: str) -> tuple[str, list[Shown]]:
    """Return what a page is called, and every place of a picture; raises StructureError."""
    kind = ending(path)
    if kind in BOOKS:
        pages, found = "chapter", _book(archive)
    elif kind in OPEN_DOCUMENT:
        pages, found = _open_document(archive, {"ods": "sheet", "odp": "slide"}.get(kind, ""))
    elif kind.startswith("p"):
        pages, found = "slide", _slides(archive)
    elif kind.startswith("x"):
        pages, found = "sheet", _sheets(archive)
    else:
        pages, found = "page", _word(archive)
    places: dict[Shown, None] = {}
    for one in found:
        if one.part in archive.names and ending(one.part) in PICTURES:
            places[one] = None
        if len(places) >= PLACES_LIMIT:
            break
    seen = {one.part for one in places}
    rest = sorted(
        name for name in archive.names - seen
        if ending(name) in PICTURES and not name.endswith("/") and "thumbnail" not in name.lower()
    )  # fmt: skip
    return pages, [*places, *map(Shown, rest)][:PLACES_LIMIT]


def _word(archive: Archive) -> Iterator[Shown]:
    relations = archive.relations_beside("word/document.xml", "where its pictures are shown")
    root = archive.xml("word/document.xml")
    areas = _anchored(root)
    page = 1
    for one in root.iter():
        if one.tag == f"{_W}lastRenderedPageBreak":
            page += 1
        elif one.tag == f"{_W}br":
            page += one.get(f"{_W}type") == "page"
        elif one.tag in (f"{_A}blip", f"{_V}imagedata"):
            id_ = one.get(f"{_R}embed") or one.get(f"{_R}id") or ""
            area = areas.get(id(one), (0.0, 0.0, 0.0, 0.0))
            yield Shown(relations.get(id_, ("", ""))[1], page, *area)


def _anchored(root: Element) -> dict[int, tuple[float, float, float, float]]:
    """Return {id of a blip: rectangle in parts of the page} of what is anchored to the page.

    Nothing where sections have pages of different sizes or margins.
    """
    sections = {
        tuple(
            _length(of, f"{_W}{name}") if of is not None else 0
            for of, name in ((size, "w"), (size, "h"), (margin, "left"), (margin, "top"))
        )
        for section in root.iter(f"{_W}sectPr")
        for size, margin in [(section.find(f"{_W}pgSz"), section.find(f"{_W}pgMar"))]
    }
    across, down, left, top = (_TWIP * each for each in sections.pop()) if sections else (0,) * 4
    if sections or across <= 0 or down <= 0:
        return {}
    found: dict[int, tuple[float, float, float, float]] = {}
    for anchor in root.iter(f"{_WP}anchor"):
        x = _offset(anchor.find(f"{_WP}positionH"), left)
        y = _offset(anchor.find(f"{_WP}positionV"), top)
        extent = anchor.find(f"{_WP}extent")
        if x is None or y is None or extent is None:
            continue
        area = (x / across, y / down, _length(extent, "cx") / across, _length(extent, "cy") / down)
        for blip in anchor.iter(f"{_A}blip"):
            from_left, from_top, width, height = (round(each, 4) for each in area)
            found[id(blip)] = (from_left, from_top, width, height)
    return found


def _offset(position: Element | None, margin: int) -> int | None:
    """Return a position on the page, None where it is told of something else."""
    offset = None if position is None else position.find(f"{_WP}posOffset")
    beginnings = {"page": 0, "margin": margin}
    if position is None or offset is None or position.get("relativeFrom") not in beginnings:
        return None
    found = whole_number((offset.text or "").strip())
    return None if found is None else beginnings[position.get("relativeFrom", "")] + found


def _slides(archive: Archive) -> Iterator[Shown]:
    place = "ppt/presentation.xml"
    root = archive.xml(place)
    size = next(root.iter(f"{_P}sldSz"), None)
    across, down = (_length(size, "cx"), _length(size, "cy")) if size is not None else (0, 0)
    relations = archive.relations(place)
    for page, one in enumerate(root.iter(f"{_P}sldId"), 1):
        slide = relations.get(one.get(f"{_R}id", ""), ("", ""))[1]
        if slide in archive.names:
            yield from _on_slide(archive, slide, page, across, down)


def _on_slide(archive: Archive, slide: str, page: int, across: int, down: int) -> Iterator[Shown]:
    where = f"where pictures lie on slide {page}"
    pictures = archive.relations_beside(slide, where)
    content: Element | None = None
    with archive.damage.beside(where):
        content = archive.xml(slide)
    if content is None:  # which pictures the slide has is still known
        yield from (Shown(part, page) for kind, part in pictures.values() if kind == "image")
        return
    framed = {}
    for drawn in content.iter(f"{_P}pic"):
        blip, offset, extent = (
            next(drawn.iter(tag), None) for tag in (f"{_A}blip", f"{_A}off", f"{_A}ext")
        )
        if None not in (blip, offset, extent) and across and down:
            assert blip is not None and offset is not None and extent is not None
            framed[id(blip)] = (
                _length(offset, "x") / across, _length(offset, "y") / down,
                _length(extent, "cx") / across, _length(extent, "cy") / down,
            )  # fmt: skip
    for blip in content.iter(f"{_A}blip"):
        part = pictures.get(blip.get(f"{_R}embed", ""), ("", ""))[1]
        yield Shown(part, page, *framed.get(id(blip), (0.0, 0.0, 0.0, 0.0)))


def _length(element: Element, name: str) -> int:
    return whole_number(element.get(name)) or 0


def _sheets(archive: Archive) -> Iterator[Shown]:
    place = "xl/workbook.xml"
    relations = archive.relations(place)
    for page, sheet in enumerate(archive.xml(place).iter(f"{_S}sheet"), 1):
        part = relations.get(sheet.get(f"{_R}id", ""), ("", ""))[1]
        if part not in archive.names:
            continue
        where = f"where pictures lie on sheet {page}"
        for kind, drawing in archive.relations_beside(part, where).values():
            if kind == "drawing" and drawing in archive.names:
                for what, picture in archive.relations_beside(drawing, where).values():
                    if what == "image":
                        yield Shown(picture, page)


def _open_document(archive: Archive, pages: str) -> tuple[str, Iterator[Shown]]:
    """Return what a page is called, which a text has where its breaks were saved, and places."""
    root = archive.xml("content.xml")
    breaks = pages_of(root)
    areas = frame_areas(archive, root)
    paged = next(root.iter("{urn:oasis:names:tc:opendocument:xmlns:office:1.0}text"), None) is None

    def found() -> Iterator[Shown]:
        page = 0
        for one in root.iter():
            if paged and one.tag in (f"{_DRAW}page", f"{_TABLE}table"):
                page += 1
            elif one.tag == f"{_DRAW}image":
                area = areas.get(id(one), (0.0, 0.0, 0.0, 0.0))
                at = page if paged else breaks.get(id(one), 0)
                yield Shown(normpath(one.get(_LINK, "")), at, *area)

    return pages or ("page" if breaks else ""), found()


def _book(archive: Archive) -> Iterator[Shown]:
    for page, (name, _) in enumerate(chapters_of(archive)[1], 1):
        if name in archive.names:
            with archive.damage.beside(f"where pictures are shown in chapter {page}"):
                for target in _SHOWN.findall(decode(archive.read(name))[0]):
                    yield Shown(normpath(join(dirname(name), unquote(target))), page)
