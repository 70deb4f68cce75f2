"""Which documents contain which pictures, and which stored files are these pictures, byte for byte.

The relation *contains* is derived from the index of pictures, where a picture in a document is
named by the digest of its bytes; a stored file with that digest is the same picture. What was not
looked at yet is not in it.
"""

from collections.abc import Collection, Iterable

import msgspec

from hartonomous.catalog import texts
from hartonomous.catalog.picture_index import PlacedPicture
from hartonomous.catalog.texts import TextUse
from hartonomous.media.endings import WITH_PICTURES, ending
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.picture_views import has_images, open_pictures, pictures_path

MOST_PLACES = 1_000
"""Places that are told of one version's files, each way."""
_ALSO_SHOWN = 8


class ContainedPicture(msgspec.Struct, frozen=True, kw_only=True):
    """A picture in ``member``, a document; see ``core.picture.PicturePlace`` for its place.

    ``area`` is its rectangle (x, y, width, height) in parts of the page, None where it is not
    known. ``same_as`` are stored files with the very same bytes, the first few of
    ``same_as_count``.
    """

    member: str
    part: str
    pages: str
    page: int
    area: tuple[float, float, float, float] | None
    digest: str
    format: str
    width: int
    height: int
    same_as: tuple[str, ...] = ()
    same_as_count: int = 0


class ContainingDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A document in use that contains ``member``, a picture's file, byte for byte."""

    member: str
    name: str
    number: int
    document: str
    part: str
    pages: str
    page: int


class Containment(msgspec.Struct, frozen=True, kw_only=True):
    """What the files of one version contain, and what contains them; cut if ``truncated``.

    ``unread_count`` documents were not looked at for pictures yet.
    """

    contains: tuple[ContainedPicture, ...] = ()
    contained_in: tuple[ContainingDocument, ...] = ()
    unread_count: int = 0
    truncated: bool = False


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A document's version contains a picture's file of another version, at one place."""

    document: TextUse
    picture: TextUse
    part: str
    pages: str
    page: int


def containment(parts: StoreParts, files: Collection[tuple[str, bytes]]) -> Containment:
    """Return what some files of a version, as (path, digest), contain and what contains them."""
    paths: dict[bytes, list[str]] = {}
    for path, digest in files:
        paths.setdefault(digest, []).append(path)
    inside, outside, unread = _looked_up(parts, files)
    truncated = max(len(inside), len(outside)) > MOST_PLACES
    inside, outside = inside[:MOST_PLACES], outside[:MOST_PLACES]
    with parts.database.read() as tx:
        uses = texts.uses(tx, {one.picture_digest for one in inside})
        around = texts.uses(tx, {one.file_digest for one in outside})
    return Containment(
        contains=tuple(
            _contained(one, path, uses.get(one.picture_digest, ()))
            for one in inside for path in paths[one.file_digest]
        ),
        contained_in=tuple(
            ContainingDocument(
                member=path, name=use.name, number=use.number, document=use.path, part=one.part,
                pages=one.pages, page=one.page,
            )
            for one in outside
            for path in paths[one.picture_digest]
            for use in around.get(one.file_digest, ())
        )[:MOST_PLACES],
        unread_count=unread,
        truncated=truncated,
    )  # fmt: skip


def links(parts: StoreParts, version_id: int, files: Collection[tuple[str, bytes]]) -> list[Link]:
    """Return how a version contains files of others, or its files are contained by others."""
    inside, outside, _ = _looked_up(parts, files)
    found: list[Link] = []
    every = [*inside[:MOST_PLACES], *outside[:MOST_PLACES]]
    with parts.database.read() as tx:
        uses = texts.uses(tx, {one.picture_digest for one in every})
        around = texts.uses(tx, {one.file_digest for one in every})
    for one in every:
        found += [
            Link(document=document, picture=picture, part=one.part, pages=one.pages, page=one.page)
            for document in around.get(one.file_digest, ())
            for picture in uses.get(one.picture_digest, ())
            if document.version_id != picture.version_id
            and version_id in (document.version_id, picture.version_id)
        ]
        if len(found) >= MOST_PLACES:
            break
    return found[:MOST_PLACES]


def place_words(part: str, pages: str, page: int) -> str:
    """Return a place in words, such as ``page 2 (word/media/image1.jpg)``."""
    return f"{pages or 'page'} {page} ({part})" if page else part


def _looked_up(
    parts: StoreParts, files: Iterable[tuple[str, bytes]]
) -> tuple[list[PlacedPicture], list[PlacedPicture], int]:
    """Return (pictures in these documents, places that are these pictures, documents unread)."""
    digests = {digest for _, digest in files}
    documents = {digest for path, digest in files if ending(path) in WITH_PICTURES}
    if not has_images():
        documents = set()
    if not digests or not pictures_path(parts).exists():
        return [], [], len(documents)
    with open_pictures(parts) as index:
        inside = index.contained_in(digests, limit=MOST_PLACES + 1)
        outside = index.containing(digests, limit=MOST_PLACES + 1)
        unread = sum(index.source(one) is None for one in documents)
    return inside, outside, unread


def _contained(one: PlacedPicture, path: str, uses: Collection[TextUse]) -> ContainedPicture:
    same = [f"{use.name}@{use.number}:{use.path}" for use in uses]
    area = (one.x, one.y, one.width, one.height)
    return ContainedPicture(
        member=path, part=one.part, pages=one.pages, page=one.page,
        area=area if any(area) else None, digest=f"blake3:{one.picture_digest.hex()}",
        format=one.facts.format, width=one.facts.width, height=one.facts.height,
        same_as=tuple(same[:_ALSO_SHOWN]), same_as_count=len(same),
    )  # fmt: skip
