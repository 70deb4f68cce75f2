"""A page of search results: HTML in one file, without scripts, that needs no network.

Every text in it was chosen by somebody else, so all of it is escaped.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hartonomous.core.picture_page import thumbnail
from hartonomous.core.plain_html import plain_html

_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:46em;margin:2em auto;padding:0 1em;color:#222}"
    "h1{font-size:1.3em}h2{font-size:1em;margin:1.5em 0 0}li{margin:.5em 0 1em}"
    ".place,.under,.rank{color:#666;font-size:.9em}mark{background:#fe9}"
)


class Hit(NamedTuple):
    """What a page shows of a hit; ``place`` is where it is in ``file``, empty for the whole."""

    file: str
    place: str
    heading: str
    snippet: str
    marks: tuple[tuple[int, int], ...]
    ranks: dict[str, int]
    thumbnail: str = ""


def search_page(query: str, hits: Iterable[Hit], *, note: str = "") -> str:
    """Return the page: the hits of one file together, where its best one stands.

    ``note`` stands before them.
    """
    files: dict[str, str] = {}
    for number, one in enumerate(hits, 1):
        files[one.file] = files.get(one.file, "") + _item(number, one)
    items = "".join(f"<h2>{plain_html(file)}</h2><ol>{some}</ol>" for file, some in files.items())
    title = plain_html(query)
    above = f'<p class="place">{plain_html(note)}</p>' if note else ""
    return (
        '<!DOCTYPE html><html><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{title}</h1>{above}{items or '<p>nothing was found</p>'}</body></html>\n"
    )


def _item(number: int, hit: Hit) -> str:
    under = f'<div class="under">{plain_html(hit.heading)}</div>' if hit.heading else ""
    place = f'<div class="place">{plain_html(hit.place)}</div>' if hit.place else ""
    ranks = plain_html(", ".join(f"{name} {rank}" for name, rank in hit.ranks.items()))
    text = marked(hit.snippet, hit.marks)
    picture = thumbnail(hit.thumbnail)
    return (
        f'<li value="{number}">{place}{under}{picture}<div>{text}</div>'
        f'<div class="rank">{ranks}</div></li>'
    )


def marked(text: str, marks: Sequence[tuple[int, int]]) -> str:
    """Return a text as HTML with ranges of it marked; ranges are in order and do not overlap."""
    parts = []
    at = 0
    for start, stop in marks:
        parts += [plain_html(text[at:start]), f"<mark>{plain_html(text[start:stop])}</mark>"]
        at = stop
    return "".join([*parts, plain_html(text[at:])])
