"""What a limited process does with pictures: their views, their pixels, and taking them out.

Programs for ``formats.sandbox``, over the same addresses (``core.picture.address``): a file,
or a part of a document. The entries that it is given are the packages that it needs.
"""

import functools
import io
from collections.abc import Callable, Sequence
from time import monotonic

from hartonomous.core.description import Notice
from hartonomous.core.digest import digest
from hartonomous.core.picture import (
    Picture,
    PictureBytes,
    PicturePlace,
    PictureViews,
    Pixels,
    split_address,
)
from hartonomous.errors import LimitError, StructureError
from hartonomous.media import picture_decoding
from hartonomous.media.archive import MAGIC, Archive
from hartonomous.media.contained_pictures import Shown, shown_in_archive
from hartonomous.media.damage import Damage
from hartonomous.media.endings import BOOKS, OFFICE, OPEN_DOCUMENT, ending
from hartonomous.media.pdf_pictures import PdfPicture, opened_pdf, pictures_of
from hartonomous.media.picture_exif import exif_of
from hartonomous.media.pictures import described
from hartonomous.ports.format import RangeReader

ENTRIES = ("numpy:ndarray", "pdqhash:compute_dihedral", "hartonomous.media.pillow:READY")
"""What is imported ahead of the limits."""
PDF_ENTRY = "pypdfium2:PdfDocument"
"""What is needed, and imported, for pictures in PDF files."""
DOCUMENT_PIXELS = 400_000_000
"""Pixels that are decoded of one document's pictures together."""
DOCUMENT_PICTURES = 1_000
"""Different pictures that are taken of one document."""
DOCUMENT_S = 40.0
"""Seconds after which a document's further pictures are left out: what was read is given back.

Less than the time that the process has for a file, with room for one large picture.
"""
MOST_SIDE = 2_048
"""Longest side of pixels that are given out."""

_HEAD_BYTES = 1_024
_LEAST_SIDE = 16


def look(reader: RangeReader, path: str, *, formats: Sequence[str]) -> PictureViews:
    """Return the views of a picture's file, or of all pictures in a document."""
    try:
        kind = _kind(reader, path)
        if kind == "picture":
            with picture_decoding.opened(picture_decoding.open_reader(reader)) as image:
                return PictureViews(kind="picture", pictures=(described(image),))
        found = _Found(kind)
        if kind == "pdf":
            if PDF_ENTRY in formats:
                _look_at_pdf(reader, found)
        else:
            _look_at_archive(reader, path, found)
        return found.views()
    except StructureError as error:
        text = f"its pictures are not read: {error.message}"
        return PictureViews(kind="file", notices=(Notice(kind=error.kind, text=text),))


def sought(reader: RangeReader, path: str, *, formats: Sequence[str]) -> PictureViews:  # noqa: ARG001
    """Return the views of a picture that is searched for: with hashes of all orientations."""
    try:
        if _kind(reader, path) != "picture":
            return PictureViews(kind="document")
        with picture_decoding.opened(picture_decoding.open_reader(reader)) as image:
            return PictureViews(kind="picture", pictures=(described(image, turned=True),))
    except StructureError as error:
        return PictureViews(kind="file", notices=(Notice(kind=error.kind, text=error.message),))


def pixels(reader: RangeReader, path: str, *, formats: Sequence[str]) -> Pixels:  # noqa: ARG001
    """Return the decoded picture at an address, upright, at most ``MOST_SIDE`` pixels a side."""
    try:
        content = _content(reader, *split_address(path))
        file = picture_decoding.open_reader(reader) if content is None else io.BytesIO(content)
        with picture_decoding.opened(file) as image:
            orientation = exif_of(image)[0]
            found = picture_decoding.decoded(image, orientation=orientation, side=MOST_SIDE)
            return Pixels(width=found.width, height=found.height, rgb=found.tobytes())
    except StructureError as error:
        return Pixels(notices=(Notice(kind=error.kind, text=error.message),))


def content(reader: RangeReader, path: str, *, formats: Sequence[str]) -> PictureBytes:  # noqa: ARG001
    """Return a part of a document as a file: its own bytes, or PNG where it lies as none."""
    try:
        found = _content(reader, *split_address(path))
    except StructureError as error:
        return PictureBytes(notices=(Notice(kind=error.kind, text=error.message),))
    return PictureBytes(content=found or b"")


def _kind(reader: RangeReader, path: str) -> str:
    head = reader.read(0, min(reader.size, _HEAD_BYTES))
    if b"%PDF-" in head:
        return "pdf"
    named = ending(path)
    if head.startswith(MAGIC) and named in OFFICE | OPEN_DOCUMENT | BOOKS:
        return "odf" if named in OPEN_DOCUMENT else named.replace("m", "x")
    return "picture"


def _content(reader: RangeReader, path: str, part: str) -> bytes | None:
    """Return the bytes of a document's part, None for the file itself; raises StructureError."""
    if not part:
        return None
    if _kind(reader, path) != "pdf":
        return Archive(reader).read(part)
    page, _, _ = part.partition("/")
    with opened_pdf(reader) as document:
        damage = Damage()
        only_page = int(page) if page.isdecimal() else 0
        for one in pictures_of(document, damage, only_page=only_page):
            if one.shown.part == part:
                if one.is_file:
                    return one.stream
                out = io.BytesIO()
                one.image().save(out, "png", compress_level=1)
                return out.getvalue()
        damage.check()
    raise StructureError(f"it has no picture {part!a}")


def _look_at_archive(reader: RangeReader, path: str, found: "_Found") -> None:
    archive = Archive(reader)
    found.damage = archive.damage
    found.pages, places = shown_in_archive(archive, path)
    known: dict[bytes, Picture] = {}
    for shown in places:
        if not found.take(
            shown, shown.part, functools.partial(_of_member, archive, shown.part, known)
        ):
            break


def _of_member(archive: Archive, part: str, known: dict[bytes, Picture]) -> Picture:
    """Return a member's picture; one that several members have is looked at once."""
    held = archive.read(part)
    name = digest(held)
    if name not in known:
        known[name] = _of_bytes(held)
    return known[name]


def _of_bytes(held: bytes) -> Picture:
    with picture_decoding.opened(io.BytesIO(held)) as image:
        return described(image, digest(held))


def _look_at_pdf(reader: RangeReader, found: "_Found") -> None:
    found.pages = "page"
    with opened_pdf(reader) as document:
        for one in pictures_of(document, found.damage):
            width, height = one.drawn.get_px_size()
            key = (digest(one.stream), one.is_file, width, height)
            if not found.take(one.shown, key, functools.partial(_of_page, one)):
                break
        found.damage.check()


def _of_page(one: PdfPicture) -> Picture:
    if one.is_file:
        return _of_bytes(one.stream)
    image = one.image()
    name = f"{image.mode} {image.width} {image.height}\0".encode()
    return described(image, digest(name + image.tobytes()))


class _Found:
    """Pictures of one document, each once, with their places; what was left out is counted."""

    def __init__(self, kind: str) -> None:
        self.pages = ""
        self.damage = Damage()
        self._kind = kind
        self._pictures: list[Picture] = []
        self._places: list[PicturePlace] = []
        self._by_key: dict[object, int | None] = {}
        self._by_digest: dict[bytes, int] = {}
        self._pixels = 0
        self._broken: list[str] = []
        self._over = 0
        self._end_s = monotonic() + DOCUMENT_S
        self._late_at = ""

    def take(self, shown: Shown, key: object, make: Callable[[], Picture]) -> bool:
        """Add a place, and say whether there is time for more; what ``key`` names is made once."""
        if monotonic() >= self._end_s:
            self._late_at = shown.part
            return False
        if key not in self._by_key:
            self._by_key[key] = self._made(shown, make)
        index = self._by_key[key]
        if index is not None:
            self._places.append(
                PicturePlace(
                    picture=index, part=shown.part, page=shown.page, x=shown.x, y=shown.y,
                    width=shown.width, height=shown.height,
                )
            )  # fmt: skip
        return True

    def _made(self, shown: Shown, make: Callable[[], Picture]) -> int | None:
        if self._pixels > DOCUMENT_PIXELS or len(self._pictures) >= DOCUMENT_PICTURES:
            self._over += 1
            return None
        try:
            picture = make()
        except MemoryError:
            self._broken.append(f"{shown.part}: it needs more memory than it is granted")
            return None
        except StructureError as error:
            self._broken.append(f"{shown.part}: {error.message}")
            return None
        self._pixels += picture.width * picture.height
        if min(picture.width, picture.height) < _LEAST_SIDE:
            return None
        index = self._by_digest.setdefault(picture.digest, len(self._pictures))
        if index == len(self._pictures):
            self._pictures.append(picture)
        return index

    def views(self) -> PictureViews:
        """Return what was found."""
        notices = list(self.damage.notices())
        if self._broken:
            more = f", and {len(self._broken) - 1} more" if len(self._broken) > 1 else ""
            text = f"a picture in it is not read: {self._broken[0]}{more}"
            notices.append(Notice(kind="structure", text=text))
        if self._over:
            text = f"{self._over} pictures in it are beyond what is read of one document"
            notices.append(Notice(kind=LimitError.kind, text=text))
        if self._late_at:
            text = f"its pictures from {self._late_at} on were not read within {DOCUMENT_S:.0f} s"
            notices.append(Notice(kind=LimitError.kind, text=text))
        return PictureViews(
            kind=self._kind, pictures=tuple(self._pictures), places=tuple(self._places),
            pages=self.pages, notices=tuple(notices),
        )  # fmt: skip
