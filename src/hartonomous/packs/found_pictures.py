"""What a search shows of pictures: thumbnail and size, and how many a page of a document has."""

import base64
from collections import Counter
from collections.abc import Iterable

import msgspec

from hartonomous.core.place import Place
from hartonomous.media.endings import WITH_PICTURES, ending
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.picture_views import open_pictures, pictures_path


class FoundPicture(msgspec.Struct, frozen=True, kw_only=True):
    """A picture as a hit shows it. ``thumbnail`` is a ``data:`` address, empty for none.

    ``part`` names it in the document that contains it; ``area`` is its rectangle (x, y, width,
    height) in parts of the page's size, all 0 where it is not known.
    """

    about: str
    pages: str
    thumbnail: str
    part: str = ""
    area: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


def found_pictures(parts: StoreParts, places: Iterable[Place]) -> dict[Place, FoundPicture]:
    """Return what is known of the pictures at some places; those that went are missing."""
    wanted = list(places)
    found: dict[Place, FoundPicture] = {}
    if not wanted or not pictures_path(parts).exists():
        return found
    with open_pictures(parts) as index:
        for one in wanted:
            held = index.places_in(one.digest)
            at = max(one.start, 1) - 1
            picture = index.picture(held[at].picture_id) if at < len(held) else None
            if picture is None:
                continue
            kind, content = index.thumbnail(picture.id)
            facts = picture.facts
            where = held[at]
            number = f"picture {one.start}: " if one.start else ""
            encoded = base64.b64encode(content).decode("ascii")
            found[one] = FoundPicture(
                about=f"{number}{facts.format}, {facts.width} x {facts.height}",
                pages=where.pages,
                thumbnail=f"data:{kind};base64,{encoded}" if content else "",
                part=where.part,
                area=(where.x, where.y, where.width, where.height),
            )
    return found


def pictures_on_pages(
    parts: StoreParts, documents: Iterable[tuple[bytes, str]]
) -> dict[bytes, dict[int, int]]:
    """Return {file digest: {page: pictures}} of documents, given as (digest, path)."""
    wanted = {digest for digest, path in documents if ending(path) in WITH_PICTURES}
    if not wanted or not pictures_path(parts).exists():
        return {}
    with open_pictures(parts) as index:
        return {
            digest: dict(Counter(one.page for one in index.places_in(digest) if one.part))
            for digest in wanted
        }
