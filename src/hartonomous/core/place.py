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
