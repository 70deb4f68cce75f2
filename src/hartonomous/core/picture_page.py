"""Pictures that were found, as HTML: a table for notebooks, and a page that needs no network.

Every text in it was chosen by somebody else, so all of it is escaped. Thumbnails are ``data:``
addresses of bytes that this program encoded.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from hartonomous.core.plain_html import plain_html

_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}"
    "h1{font-size:1.3em}td{padding:.5em 1em .5em 0;vertical-align:top}.under{color:#666}"
)
_THUMBNAIL = re.compile(r"data:image/(?:webp|jpeg);base64,[A-Za-z0-9+/=]+")


class ShownPicture(NamedTuple):
    """What is shown of one: its thumbnail's ``data:`` address, where it is, why, what it is."""

    thumbnail: str
    place: str
    why: str
    about: str


def pictures_table(title: str, pictures: Iterable[ShownPicture]) -> str:
    """Return a title and a table, a picture a row."""
    rows = "".join(_row(one) for one in pictures)
    return f"<p>{plain_html(title)}</p><table>{rows}</table>"


def pictures_page(query: str, pictures: Iterable[ShownPicture]) -> str:
    """Return the page."""
    title = plain_html(query)
    rows = "".join(_row(one) for one in pictures)
    return (
        '<!DOCTYPE html><html><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{title}</h1><table>{rows or '<tr><td>nothing was found</td></tr>'}</table>"
        "</body></html>\n"
    )


def thumbnail(address: str) -> str:
    """Return a thumbnail's element; empty for what is no ``data:`` address of one."""
    if not _THUMBNAIL.fullmatch(address):
        return ""
    return f'<img src="{address}" alt="" style="max-width:160px;max-height:160px">'


def _row(one: ShownPicture) -> str:
    return (
        f"<tr><td>{thumbnail(one.thumbnail)}</td><td><b>{plain_html(one.place)}</b>"
        f"<div>{plain_html(one.why)}</div>"
        f'<div class="under">{plain_html(one.about)}</div></td></tr>'
    )
