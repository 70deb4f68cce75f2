"""Similar: stored pictures that are the same as a given one, or look alike, wherever they lie.

The same picture is found by its hash (PDQ) in all eight orientations; what looks alike by the
layout of colours and edges, compared with every picture (exact cosine).
"""

import base64
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from hartonomous.catalog import texts
from hartonomous.catalog.picture_index import Features, IndexedPicture, IndexedPlace, PictureIndex
from hartonomous.catalog.texts import TextUse
from hartonomous.core.digest import AtomHasher
from hartonomous.core.picture import Picture
from hartonomous.core.picture_hash import ALIKE_BITS, LEAST_QUALITY, ORIENTATIONS, SAME_BITS
from hartonomous.core.picture_page import ShownPicture, pictures_table
from hartonomous.core.place import shown_place
from hartonomous.errors import NotFoundError, UsageError
from hartonomous.objects.durable import storage_error
from hartonomous.packs.compared_files import is_there, names_a_place
from hartonomous.packs.open_files import OpenFiles, find_version
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.picture_views import (
    need_images,
    open_pictures,
    picture_process,
    update_pictures,
)
from hartonomous.packs.viewed_files import plain_copy, plain_file
from hartonomous.ports.progress import NoProgress, Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_HITS = 1_000
SAME, ALIKE = "same picture", "looks alike"
ALIKE_COSINE = 0.93
"""Least cosine that is reported: of unrelated pictures one pair in a thousand has more."""

_UNRELATED_BITS = 128
_NO_BITS = 257
"""Of two hashes that are not compared."""
_ALSO_SHOWN = 8
_BLOCK_BYTES = 1 << 20


class SimilarPicture(msgspec.Struct, frozen=True, kw_only=True):
    """A stored picture that resembles the one that was given, and where it is.

    ``kind`` is "same picture" or "looks alike". ``strength`` is from 0 to 1: of bits apart it is
    1 - bits / 128, of the layout its cosine, whichever says more. ``bits_apart`` is None where one
    of the two has too little structure for a hash; ``turned`` says how the stored one is turned.
    ``part`` and ``page`` say where ``member`` contains it, where it is a document; ``thumbnail`` is
    a ``data:`` address. ``same_bytes`` says that it is the very file that was given.
    """

    kind: str
    strength: float
    bits_apart: int | None
    layout_cosine: float
    turned: str
    name: str
    number: int
    member: str
    part: str
    pages: str
    page: int
    format: str
    width: int
    height: int
    digest: bytes
    thumbnail: str
    also_in: tuple[str, ...] = ()
    also_in_count: int = 0
    same_bytes: bool = False


class SimilarPictures(msgspec.Struct, frozen=True, kw_only=True):
    """What resembles a picture, the nearest first."""

    query: str
    hits: tuple[SimilarPicture, ...]
    notes: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        return pictures_table(f"{len(self.hits)} pictures like {self.query}", shown(self))


def shown(found: SimilarPictures) -> Iterator[ShownPicture]:
    """Yield the hits as a page shows them."""
    for one in found.hits:
        size = f"{one.format}, {one.width} x {one.height}"
        text = f"{one.kind} {one.strength:.2f} {one.turned}".rstrip()
        yield ShownPicture(one.thumbnail, place_of(one), text, size)


def place_of(hit: SimilarPicture) -> str:
    """Return where a hit is, such as ``reports@2:plan.pdf page 3``."""
    return shown_place(hit.name, hit.number, hit.member, hit.pages, hit.page)


def similar_images(
    parts: StoreParts,
    files: OpenFiles,
    given: str | os.PathLike[str] | bytes,
    *,
    top_k: int = 10,
    member: str | None = None,
    update: bool = True,
    progress: Progress | None = None,
) -> SimilarPictures:
    """Return stored pictures that resemble ``given``: a path, a stored name, or a file's bytes.

    A text is a spec if the store has it, else a path; ``member`` chooses a file of the version,
    which is not reported itself. With ``update`` pictures that were not looked at yet are, first.
    Raises UsageError for a wrong limit, for what is no picture that can be read, and where the
    extra ``images`` is missing; NotFoundError.
    """
    if not 1 <= top_k <= MOST_HITS:
        raise UsageError(f"top-k {top_k} is not between 1 and {MOST_HITS}")
    need_images()
    with ExitStack() as undo:
        title, plain, own = _opened(parts, files, given, member, undo)
        picture = _looked_at(plain, title)
        notes: tuple[str, ...] = ()
        if update:
            notes = update_pictures(parts, files, progress or NoProgress(), stale=False).notes
        index = undo.enter_context(open_pictures(parts))
        hits = _Comparing(parts, index, picture, own).hits(top_k)
    return SimilarPictures(query=title, hits=tuple(hits), notes=notes)


def _opened(
    parts: StoreParts,
    files: OpenFiles,
    given: str | os.PathLike[str] | bytes,
    member: str | None,
    undo: ExitStack,
) -> tuple[str, IO[bytes], tuple[int, str] | None]:
    """Return what it is called, a file of its bytes, and (version id, path) of a stored one."""
    if isinstance(given, bytes):
        return (
            "the picture given",
            undo.enter_context(plain_file(parts, [given], size_bytes=len(given))),
            None,
        )
    if names_a_place(given):
        return os.fspath(given), undo.enter_context(_file(given)), None
    spec = os.fspath(given)
    try:
        found = find_version(parts, spec)
    except NotFoundError as error:
        if is_there(spec):
            return spec, undo.enter_context(_file(spec)), None
        raise NotFoundError(
            f"{error.message}, and no file of that path is there", hint=error.hint
        ) from error
    one = found.single(member)
    plain = undo.enter_context(plain_copy(parts, files, one.row))
    return f"{found.spec}:{one.path}", plain, (found.version.id, one.path)


def _file(place: str | os.PathLike[str]) -> IO[bytes]:
    path = Path(place)
    if path.exists() and not path.is_file():  # opening a pipe would wait for its other end
        raise UsageError(f"{os.fspath(place)!r} is no regular file", hint="give a picture's file")
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {os.fspath(place)!r}") from error
    except OSError as error:
        raise storage_error(error, "read a picture", Path(place)) from error


def _looked_at(plain: IO[bytes], title: str) -> Picture:
    with picture_process(sought=True) as process:
        views = process.look(plain.fileno(), title)[0]
    if views.kind != "picture":
        reason = views.notices[0].text if views.notices else "it is a document"
        raise UsageError(
            f"{title} is no picture that can be read: {reason}",
            hint="give a JPEG, PNG, WebP, GIF, TIFF, BMP or AVIF file",
        )
    hasher = AtomHasher()
    plain.seek(0)
    while block := plain.read(_BLOCK_BYTES):
        hasher.update(block)
    return msgspec.structs.replace(views.pictures[0], digest=hasher.digest())


class _Comparing:
    """One picture against all of the index."""

    def __init__(
        self, parts: StoreParts, index: PictureIndex, picture: Picture, own: tuple[int, str] | None
    ) -> None:
        self._database = parts.database
        self._index = index
        self._picture = picture
        self._own = own

    def hits(self, top_k: int) -> list[SimilarPicture]:
        """Return the nearest that versions in use have."""
        found: list[SimilarPicture] = []
        for picture_id, bits, orientation, cosine in self._ordered():
            hit = self._hit(picture_id, bits, orientation, cosine)
            if hit is not None:
                found.append(hit)
            if len(found) >= top_k:
                break
        return found

    def _ordered(self) -> Iterator[tuple[int, int, int, float]]:
        """Yield (id, bits apart, orientation, cosine) of what is near enough, nearest first.

        The same bytes come before what measures the same.
        """
        import numpy as np

        blocks = [self._near(block) for block in self._index.features()]
        if not blocks:
            return
        ids, bits, orientations, cosines = (
            np.concatenate(each) for each in zip(*blocks, strict=True)
        )
        strengths = np.array([_strength(*pair) for pair in zip(bits, cosines, strict=True)])
        itself = self._index.picture_id(self._picture.digest)
        for at in np.lexsort((ids, -strengths, bits > SAME_BITS, ids != (itself or 0))):
            yield int(ids[at]), int(bits[at]), int(orientations[at]), float(cosines[at])

    def _near(self, block: Features) -> "tuple[NDArray[np.generic], ...]":
        """Return ids, bits apart, orientations, cosines of what counts in one block."""
        import numpy as np

        from hartonomous.core.picture_hash import nearest

        count = len(block.ids)
        bits = np.full(count, _NO_BITS, np.intp)
        orientations = np.zeros(count, np.intp)
        if self._picture.hashes and self._picture.quality >= LEAST_QUALITY:
            bits, orientations = nearest(self._picture.hashes, block.hashes)
            bits[block.qualities < LEAST_QUALITY] = _NO_BITS
        layout: NDArray[np.float32] = np.frombuffer(self._picture.layout, "<f4")
        cosines = block.layouts.astype(np.float32) @ layout
        near = (bits <= ALIKE_BITS) | (cosines >= ALIKE_COSINE)
        return block.ids[near], bits[near], orientations[near], cosines[near]

    def _hit(
        self, picture_id: int, bits: int, orientation: int, cosine: float
    ) -> SimilarPicture | None:
        """Return the hit, None where no version in use has the picture."""
        places = self._index.places_of(picture_id)
        picture = self._index.picture(picture_id)
        if picture is None:
            return None
        with self._database.read() as tx:
            uses = texts.uses(tx, {one.file_digest for one in places})
        found = [
            (place, use)
            for place in places
            for use in uses.get(place.file_digest, ())
            if (use.version_id, use.path) != self._own or place.part
        ]
        if not found:
            return None
        return self._told(picture, found, bits, orientation, cosine)

    def _told(
        self,
        picture: IndexedPicture,
        found: list[tuple[IndexedPlace, TextUse]],
        bits: int,
        orientation: int,
        cosine: float,
    ) -> SimilarPicture:
        (place, use), *others = found
        kind, content = self._index.thumbnail(picture.id)
        encoded = base64.b64encode(content).decode("ascii")
        near = bits <= ALIKE_BITS
        return SimilarPicture(
            kind=SAME if bits <= SAME_BITS else ALIKE,
            strength=round(_strength(bits, cosine), 4),
            bits_apart=bits if bits < _NO_BITS else None,
            layout_cosine=round(cosine, 4),
            turned=ORIENTATIONS[orientation] if near else "",
            name=use.name, number=use.number, member=use.path, part=place.part, pages=place.pages,
            page=place.page, format=picture.facts.format, width=picture.facts.width,
            height=picture.facts.height, digest=picture.digest,
            thumbnail=f"data:{kind};base64,{encoded}" if content else "",
            also_in=tuple(
                shown_place(one.name, one.number, one.path, each.pages, each.page)
                for each, one in others[:_ALSO_SHOWN]
            ),
            also_in_count=len(others), same_bytes=picture.digest == self._picture.digest,
        )  # fmt: skip


def _strength(bits: int, cosine: float) -> float:
    by_hash = 1.0 - float(bits) / _UNRELATED_BITS if bits <= ALIKE_BITS else 0.0
    if bits <= SAME_BITS:
        return by_hash
    return min(1.0, max(by_hash, float(cosine), 0.0))
