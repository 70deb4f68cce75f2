"""What a reader of pictures says about a file: facts, and small derived forms for search.

Serialisable (it crosses a pipe from a limited child process); it says nothing about storage.
Coordinates are pixels of the picture with its orientation applied, from the upper left.
"""

import msgspec

from hartonomous.core.description import Notice

THUMBNAIL_SIDE = 256
"""Longest side of a thumbnail, in pixels."""
PATCHES_A_SIDE = 3
LEAST_PATCHED_SIDE = 64
"""A picture with a shorter side, in pixels, is embedded as a whole only."""
PATCH_OVERLAP = 0.25
"""What neighbouring patches share, as a part of a patch's side."""


class Position(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a picture was taken: degrees north and east (WGS 84), metres above the sea."""

    latitude: float
    longitude: float
    altitude: float | None = None


class Picture(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One picture.

    ``digest`` (32 bytes) is the BLAKE3 of its bytes where it is a file or lies as one in a
    document, else of its pixels. ``mode`` is Pillow's word for its channels (RGB, L, CMYK …),
    ``orientation`` the value of EXIF, 1 to 8, which ``width`` and ``height`` have applied.
    ``frames`` counts those of an animation or the pages of a TIFF; all else is of the first.
    ``hashes`` is the PDQ hash, 32 bytes, or those of the eight orientations, see
    ``core.picture_hash``; ``layout`` is a vector of ``core.picture_layout``, little-endian f32.
    """

    digest: bytes = b""
    format: str
    mode: str
    width: int
    height: int
    frames: int = 1
    orientation: int = 1
    exif: dict[str, str] = {}
    position: Position | None = None
    thumbnail: bytes = b""
    thumbnail_type: str = ""
    hashes: bytes = b""
    quality: int = 0
    layout: bytes = b""


class PicturePlace(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Where a document contains a picture; ``picture`` counts those of the answer from 0.

    ``part`` names it inside the document, for taking it out again: a member of an archive, or
    ``page/number`` in a PDF. ``page`` counts from 1, 0 where it is on none that is known. The
    rectangle is in parts of the page's width and height, from the upper left; all 0 if not known.
    """

    picture: int
    part: str
    page: int = 0
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0


class PictureViews(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is derived of one file.

    ``kind`` is "picture", a kind of document, or "file" for neither. A picture's file has one
    picture and no place; ``pages`` says what a document's page is called.
    """

    kind: str
    pictures: tuple[Picture, ...] = ()
    places: tuple[PicturePlace, ...] = ()
    pages: str = ""
    notices: tuple[Notice, ...] = ()


class Pixels(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A decoded picture: RGB, 8 bits a channel, row by row; empty, with notices, if refused."""

    width: int = 0
    height: int = 0
    rgb: bytes = b""
    notices: tuple[Notice, ...] = ()


class PictureBytes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A picture taken out of a document, as a file of its own."""

    content: bytes = b""
    notices: tuple[Notice, ...] = ()


def address(path: str, part: str = "") -> str:
    """Return what a limited process is told of a picture: a file's path, and a part inside it."""
    return f"{path}\0{part}" if part else path


def split_address(text: str) -> tuple[str, str]:
    """Return the path and the part of an address; the part is empty for the file itself."""
    path, _, part = text.partition("\0")
    return path, part


class Patch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A rectangle of a picture, in pixels."""

    x: int
    y: int
    width: int
    height: int


def patches(width: int, height: int) -> tuple[Patch, ...]:
    """Return the patches of a picture of this size, row by row: 3 x 3, overlapping by a quarter.

    A side shorter than 3 pixels is not cut. Patches cover the whole picture.
    """
    columns, rows = _cuts(width), _cuts(height)
    return tuple(
        Patch(x=x, y=y, width=right - x, height=bottom - y)
        for y, bottom in rows
        for x, right in columns
    )


def embedded_patches(width: int, height: int) -> tuple[Patch, ...]:
    """Return the patches of a picture that are worth a vector; none of a small one."""
    return patches(width, height) if min(width, height) >= LEAST_PATCHED_SIDE else ()


def _cuts(side: int) -> list[tuple[int, int]]:
    """Return the ranges of one side; three ranges of length s overlap by s/4: s = side / 2.5."""
    if side < PATCHES_A_SIDE:
        return [(0, side)]
    length = -(-side // (PATCHES_A_SIDE - (PATCHES_A_SIDE - 1) * PATCH_OVERLAP))
    last = side - int(length)
    starts = [round(last * at / (PATCHES_A_SIDE - 1)) for at in range(PATCHES_A_SIDE)]
    return [(start, start + int(length)) for start in starts]
