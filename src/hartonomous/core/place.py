"""Places: what a view or a vector is about, inside the bytes of one stored file."""

from typing import Literal

import msgspec

PlaceKind = Literal["passage", "picture", "patch"]


class Place(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A part of a file, which ``digest`` (its BLAKE3, 32 bytes) names wherever it is stored.

    A passage is characters ``[start, stop)`` of a page (0 where there are no pages), as in
    ``core.passage``. A patch is a rectangle in pixels of the picture with its orientation applied;
    a picture has none of these, but one that a document contains has its page, and as ``start`` its
    number among the document's pictures from 1. ``frame`` counts the frames of animations and
    pages of TIFFs.
    """

    digest: bytes
    kind: PlaceKind
    page: int = 0
    start: int = 0
    stop: int = 0
    frame: int = 0
    x: int = 0
    y: int = 0
    width: int = 0
    height: int = 0


def shown_place(name: str, number: int, member: str, pages: str, page: int) -> str:
    """Return where something is, for people: such as ``reports@2:plan.pdf page 3``.

    ``pages`` is what the file calls its pages, empty where that is page; ``page`` 0 is none.
    """
    file = f":{member}" if member else ""
    where = f" {pages or 'page'} {page}" if page else ""
    return f"{name}@{number}{file}{where}"
