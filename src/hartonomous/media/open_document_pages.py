"""Pages of OpenDocument texts by the breaks that were saved, and rectangles of their frames.

A program that lays pages out leaves a mark where it began one (``text:soft-page-break``); breaks
that the author made are in paragraphs' styles. Without any mark pages are not known.
"""

import re
from xml.etree.ElementTree import Element

from hartonomous.media.archive import Archive

_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_DRAW = "{urn:oasis:names:tc:opendocument:xmlns:drawing:1.0}"
_STYLE = "{urn:oasis:names:tc:opendocument:xmlns:style:1.0}"
_FO = "{urn:oasis:names:tc:opendocument:xmlns:xsl-fo-compatible:1.0}"
_SVG = "{urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0}"
_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"

_LENGTH = re.compile(r"(-?[0-9]{1,6}(?:\.[0-9]{1,12})?)(cm|mm|in|pt|pc|px)")
_INCH = {"cm": 2.54, "mm": 25.4, "in": 1.0, "pt": 72.0, "pc": 6.0, "px": 96.0}
_MOST_PAGES = 1_000_000

Area = tuple[float, float, float, float]


def pages_of(root: Element) -> dict[int, int]:
    """Return {id of a paragraph, heading or picture: page from 1}; empty where no page is known.

    A frame that is anchored to a page is on that one. Ids are those of elements of ``root``.
    """
    body = next(root.iter(f"{_OFFICE}text"), None)
    if body is None or next(body.iter(f"{_TEXT}soft-page-break"), None) is None:
        return {}
    breaking = {
        style.get(f"{_STYLE}name", "")
        for style in root.iter(f"{_STYLE}style")
        if any(one.get(f"{_FO}break-before") == "page" for one in style)
    }
    found: dict[int, int] = {}
    page, first = 1, True
    for one in body.iter():
        if one.tag == f"{_TEXT}soft-page-break":
            page += 1
        elif one.tag in (f"{_TEXT}p", f"{_TEXT}h"):
            page += not first and one.get(f"{_TEXT}style-name", "") in breaking
            first = False
            found[id(one)] = page
        elif one.tag == f"{_DRAW}frame":
            named = one.get(f"{_TEXT}anchor-page-number", "")
            on = int(named) if named.isdecimal() and len(named) < 7 else page
            found |= {id(image): min(on, _MOST_PAGES) for image in one.iter(f"{_DRAW}image")}
    return found


def frame_areas(archive: Archive, root: Element) -> dict[int, Area]:
    """Return {id of a picture: rectangle in parts of its page} where frames say so.

    Those on slides do, and in texts those that are anchored to the page or measured from its edge.
    Nothing where the document has pages of several sizes.
    """
    size = _page_size(archive)
    if size is None or next(root.iter(f"{_OFFICE}spreadsheet"), None) is not None:
        return {}
    text = next(root.iter(f"{_OFFICE}text"), None) is not None
    styles = {
        style.get(f"{_STYLE}name", ""): one
        for style in root.iter(f"{_STYLE}style")
        for one in style.iter(f"{_STYLE}graphic-properties")
    }
    found: dict[int, Area] = {}
    for frame in root.iter(f"{_DRAW}frame"):
        if text and not _is_on_page(frame, styles.get(frame.get(f"{_DRAW}style-name", ""))):
            continue
        x, y, width, height = (
            _inches(frame.get(f"{_SVG}{name}", "")) for name in ("x", "y", "width", "height")
        )
        if x is None or y is None or width is None or height is None:
            continue
        area = (x / size[0], y / size[1], width / size[0], height / size[1])
        left, top, across, down = (round(each, 4) for each in area)
        found |= {id(one): (left, top, across, down) for one in frame.iter(f"{_DRAW}image")}
    return found


def _is_on_page(frame: Element, style: Element | None) -> bool:
    told = {} if style is None else style.attrib
    default = "page" if frame.get(f"{_TEXT}anchor-type") == "page" else ""
    return all(
        told.get(f"{_STYLE}{axis}-rel", default) == "page"
        and told.get(f"{_STYLE}{axis}-pos", beginning) == beginning
        for axis, beginning in (("horizontal", "from-left"), ("vertical", "from-top"))
    )


def _page_size(archive: Archive) -> tuple[float, float] | None:
    """Return the width and height of all pages, in inches, None where there is not one size."""
    if "styles.xml" not in archive.names:
        return None
    root = None
    with archive.damage.beside("the size of its pages"):
        root = archive.xml("styles.xml")
    if root is None:
        return None
    used = {one.get(f"{_STYLE}page-layout-name") for one in root.iter(f"{_STYLE}master-page")}
    sizes = {
        (_inches(one.get(f"{_FO}page-width", "")), _inches(one.get(f"{_FO}page-height", "")))
        for layout in root.iter(f"{_STYLE}page-layout")
        if layout.get(f"{_STYLE}name") in used
        for one in layout.iter(f"{_STYLE}page-layout-properties")
    }
    width, height = sizes.pop() if len(sizes) == 1 else (None, None)
    return (width, height) if width and height and width > 0 and height > 0 else None


def _inches(text: str) -> float | None:
    found = _LENGTH.fullmatch(text)
    return None if found is None else float(found[1]) / _INCH[found[2]]
