"""Views: what was derived from stored files for search; brought up to date, listed, dropped."""

import os
from pathlib import Path

import msgspec

from hartonomous.catalog.derived_tables import check_may_write
from hartonomous.catalog.picture_index import PictureIndex
from hartonomous.catalog.versions import VersionRow
from hartonomous.core.picture import Patch, Position, patches
from hartonomous.packs.open_files import OpenFiles, VersionFile, find_version
from hartonomous.packs.page_files import contained_picture, write_page, write_picture
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.picture_views import (
    drop_pictures,
    open_pictures,
    remake_pictures,
    update_pictures,
    waiting_pictures,
)
from hartonomous.packs.text_views import (
    drop_views,
    open_index,
    remake_texts,
    update_views,
    waiting_texts,
)
from hartonomous.packs.viewed_files import ViewsMade
from hartonomous.ports.progress import NoProgress, Progress
from hartonomous.ports.text_index import TextIndex


class ViewsOfKind(msgspec.Struct, frozen=True, kw_only=True):
    """How many files of a kind were read, into how many passages, with how many pictures."""

    kind: str
    file_count: int
    passage_count: int
    picture_count: int = 0


class Views(msgspec.Struct, frozen=True, kw_only=True):
    """What the indexes of words and pictures hold; ``waiting_count`` files were not read yet.

    Of these ``waiting_text_count`` wait to be read for words, which a search does, and
    ``waiting_picture_count`` for pictures, which looking for similar ones does; some for both.
    ``stale_count`` files were read by an older recipe; they are searched until a job read them.
    """

    kinds: tuple[ViewsOfKind, ...]
    waiting_count: int
    waiting_text_count: int
    waiting_picture_count: int
    stale_count: int
    stored_bytes: int


class ShownPassage(msgspec.Struct, frozen=True, kw_only=True):
    """One passage of a file; ``start`` and ``stop`` are characters of its page's text."""

    page: int
    start: int
    stop: int
    heading: str
    text: str


class ShownPicture(msgspec.Struct, frozen=True, kw_only=True):
    """A picture's file, or a picture that a document contains.

    ``part`` names it in the document; ``area`` is its rectangle (x, y, width, height) in parts of
    the page's size, all 0 where it is not known. Sizes and ``patches`` are in pixels of the picture
    with its orientation applied. ``position`` is where it was taken, None if that was not asked.
    """

    part: str
    page: int
    area: tuple[float, float, float, float]
    digest: bytes
    format: str
    mode: str
    width: int
    height: int
    frames: int
    orientation: int
    exif: dict[str, str]
    patches: tuple[Patch, ...]
    position: Position | None = None


class FileViews(msgspec.Struct, frozen=True, kw_only=True):
    """The passages and pictures of one file of a version, and the recipes that read them."""

    name: str
    number: int
    member: str
    kind: str
    recipe: str
    title: str
    pages: str
    metadata: dict[str, str]
    notices: tuple[str, ...]
    passages: tuple[ShownPassage, ...]
    pictures: tuple[ShownPicture, ...] = ()


class Unread(msgspec.Struct, frozen=True, kw_only=True):
    """Files of a version of which no views are shown, as ``NAME@N:path``.

    ``waiting`` were not looked at yet; of ``unreadable`` nothing is read.
    """

    waiting: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


def list_views(parts: StoreParts) -> Views:
    """Return what the indexes hold, by kind of file."""
    with open_index(parts) as index:
        words, stored = index.totals(), index.stored_bytes()
    with open_pictures(parts) as pictures:
        seen = pictures.totals()
        stored += pictures.stored_bytes()
    kinds = tuple(
        ViewsOfKind(
            kind=kind,
            file_count=max(words.get(kind, (0, 0))[0], seen.get(kind, (0, 0))[0]),
            passage_count=words.get(kind, (0, 0))[1],
            picture_count=seen.get(kind, (0, 0))[1],
        )
        for kind in sorted({*words, *seen})
    )
    texts, unseen = waiting_texts(parts), waiting_pictures(parts)
    unread = {one.file.digest for one in texts if not one.stale}
    unlooked = {one.file.digest for one in unseen if not one.stale}
    stale = {one.file.digest for one in (*texts, *unseen) if one.stale}
    return Views(
        kinds=kinds, waiting_count=len(unread | unlooked), waiting_text_count=len(unread),
        waiting_picture_count=len(unlooked), stale_count=len(stale), stored_bytes=stored,
    )  # fmt: skip


def remake_views(
    parts: StoreParts, files: OpenFiles, *, again: bool = False, progress: Progress | None = None
) -> ViewsMade:
    """Read anew what an older recipe read (``again``: everything), while searches go on."""
    told = progress or NoProgress()
    words = remake_texts(parts, files, told, again=again)
    return _both(words, remake_pictures(parts, files, told, again=again))


def _both(words: ViewsMade, pictures: ViewsMade) -> ViewsMade:
    return ViewsMade(
        read_count=words.read_count + pictures.read_count,
        looked_count=pictures.looked_count,
        passage_count=words.passage_count,
        picture_count=pictures.picture_count,
        forgotten_count=words.forgotten_count + pictures.forgotten_count,
        notes=(*words.notes, *pictures.notes),
    )


def file_views(
    parts: StoreParts, spec: str, *, member: str | None = None, position: bool = False
) -> tuple[FileViews, ...]:
    """Return the passages and pictures of a version's files; ``position`` asks for that too.

    Raises NotFoundError, AmbiguousNameError.
    """
    found = find_version(parts, spec)
    told = []
    with open_index(parts) as index, open_pictures(parts) as pictures:
        for one in found.chosen(member):
            views = _of_file(index, pictures, found.version, one, position=position)
            if views is not None:
                told.append(views)
    return tuple(told)


def unread_files(parts: StoreParts, spec: str, *, member: str | None = None) -> Unread:
    """Return of which files of a version there are no views, and whether they still come.

    Raises NotFoundError, AmbiguousNameError.
    """
    found = find_version(parts, spec)
    files = found.chosen(member)
    with open_index(parts) as index, open_pictures(parts) as pictures:
        known = index.sources([one.row.file_digest for one in files])
        missing = [
            one for one in files
            if one.row.file_digest not in known and pictures.source(one.row.file_digest) is None
        ]  # fmt: skip
    if not missing:
        return Unread()
    waits = {one.file.digest for one in (*waiting_texts(parts), *waiting_pictures(parts))}
    told: tuple[list[str], list[str]] = ([], [])
    for one in missing:
        told[one.row.file_digest in waits].append(f"{found.spec}:{one.path}")
    return Unread(waiting=tuple(told[True]), unreadable=tuple(told[False]))


def _of_file(
    index: TextIndex,
    pictures: PictureIndex,
    version: VersionRow,
    one: VersionFile,
    *,
    position: bool,
) -> FileViews | None:
    digest = one.row.file_digest
    source, seen = index.sources([digest]).get(digest), pictures.source(digest)
    if source is None and seen is None:
        return None
    notices = [*(source.notices if source else ()), *(seen.notices if seen else ())]
    return FileViews(
        name=version.name, number=version.number, member=one.path,
        kind=source.kind if source else seen.kind if seen else "file",
        recipe=" ".join(each.recipe for each in (source, seen) if each),
        title=source.title if source else "",
        pages=(source.pages if source else "") or (seen.pages if seen else ""),
        metadata=source.metadata if source else {},
        notices=tuple(text for _, text in notices),
        passages=tuple(
            ShownPassage(
                page=each.page, start=each.start, stop=each.stop, heading=each.heading,
                text=each.text,
            )
            for each in index.passages_of(digest)
        ),
        pictures=_pictures(pictures, digest, position=position),
    )  # fmt: skip


def _pictures(index: PictureIndex, digest: bytes, *, position: bool) -> tuple[ShownPicture, ...]:
    found = []
    for place in index.places_in(digest):
        picture = index.picture(place.picture_id)
        if picture is None:
            continue
        facts = picture.facts
        found.append(
            ShownPicture(
                part=place.part, page=place.page,
                area=(place.x, place.y, place.width, place.height), digest=picture.digest,
                format=facts.format, mode=facts.mode, width=facts.width, height=facts.height,
                frames=facts.frames, orientation=facts.orientation, exif=facts.exif,
                patches=patches(facts.width, facts.height),
                position=picture.position if position else None,
            )
        )  # fmt: skip
    return tuple(found)


class StoreViews:
    """What was read of an open store's documents and pictures, as ``Store.views``."""

    def __init__(self, parts: StoreParts, files: OpenFiles) -> None:
        self._parts = parts
        self._files = files

    def list(self) -> Views:
        """Return what was read, by kind of file."""
        return list_views(self._parts)

    def of(
        self, spec: str, *, member: str | None = None, position: bool = False
    ) -> tuple[FileViews, ...]:
        """Return the passages and pictures of a version's files, with their places.

        ``position`` asks for where pictures were taken.
        """
        return file_views(self._parts, spec, member=member, position=position)

    def unread(self, spec: str, *, member: str | None = None) -> Unread:
        """Return the files of a version of which ``of`` tells nothing, and why."""
        return unread_files(self._parts, spec, member=member)

    def picture(self, spec: str, part: str, *, member: str | None = None) -> bytes:
        """Return a picture that a stored document contains, as a file: see ``ShownPicture.part``.

        Its own bytes where it lies in the document as a file, else PNG. Raises NotFoundError where
        there is none, StructureError where it cannot be taken out.
        """
        return contained_picture(self._parts, self._files, spec, part, member=member)

    def write(
        self,
        spec: str,
        member: str | None = None,
        *,
        page: int = 0,
        part: str = "",
        folder: str | os.PathLike[str] = ".",
        force: bool = False,
    ) -> Path:
        """Write a page of a document into a folder, drawn or as text; see ``hart search --open``.

        ``page`` counts from 1, 0 is the whole document. What has no text is written as it is. With
        ``part`` it is the picture that the document contains under this name.
        """
        if part:
            return write_picture(
                self._parts, self._files, spec, member, part, folder=Path(folder), force=force
            )
        return write_page(
            self._parts, self._files, spec, member, page=page, folder=Path(folder), force=force
        )

    def make(self, *, rebuild: bool = False, progress: Progress | None = None) -> ViewsMade:
        """Read what was not read yet; with ``rebuild`` all of it anew."""
        check_may_write(self._parts.database)
        told = progress or NoProgress()
        words = update_views(self._parts, self._files, told, rebuild=rebuild)
        pictures = update_pictures(self._parts, self._files, told, rebuild=rebuild)
        return _both(words, pictures)

    def drop(self) -> bool:
        """Delete what was read, and return whether there was any; searching reads it anew."""
        check_may_write(self._parts.database)
        dropped = [drop_views(self._parts), drop_pictures(self._parts)]
        return any(dropped)
