"""Charts of Office documents: titles, and of each series its name, categories and values.

What is read is what the last program saved beside the chart; its spreadsheet is not opened.
"""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from hartonomous.media.archive import walk

_C = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"


def chart_texts(root: Element) -> Iterator[str]:
    """Yield a chart's titles and a text for each series: ``Sales: North 4.3; South 2.5``."""
    for title in walk(root, frozenset((f"{_C}title",))):
        yield "".join(one.text or "" for one in title.iter(f"{_A}t"))
    for series in walk(root, frozenset((f"{_C}ser",))):
        name = " ".join(_points(series.find(f"{_C}tx")).values())
        categories = _points(_first(series, "cat", "xVal"))
        values = _points(_first(series, "val", "yVal"))
        places = dict.fromkeys([*categories, *values])
        pairs = (f"{categories.get(at, '')} {values.get(at, '')}".strip() for at in places)
        said = "; ".join(one for one in pairs if one)
        yield f"{name}: {said}" if name and said else name or said


def _first(series: Element, *names: str) -> Element | None:
    return next((one for name in names if (one := series.find(f"{_C}{name}")) is not None), None)


def _points(held: Element | None) -> dict[str, str]:
    """Return {number: text} of saved points; categories within others have several of a number."""
    found: dict[str, list[str]] = {}
    for point in [] if held is None else held.iter(f"{_C}pt"):
        text = (point.findtext(f"{_C}v") or "").strip()
        if text:
            found.setdefault(point.get("idx", ""), []).append(text)
    return {at: " ".join(texts) for at, texts in found.items()}
