"""Views: what was derived from stored files for search; brought up to date, listed, dropped."""

import os
from pathlib import Path

import msgspec

from hartonomous.packs.open_files import OpenFiles, find_version
from hartonomous.packs.page_files import write_page
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.text_views import (
    ViewsMade,
    drop_views,
    open_index,
    update_views,
    waiting_count,
)
from hartonomous.ports.progress import NoProgress, Progress


class ViewsOfKind(msgspec.Struct, frozen=True, kw_only=True):
    """How many files of a kind were read, and into how many passages."""

    kind: str
    file_count: int
    passage_count: int


class Views(msgspec.Struct, frozen=True, kw_only=True):
    """What the index of words holds; ``waiting_count`` files were not read yet."""

    kinds: tuple[ViewsOfKind, ...]
    waiting_count: int
    stored_bytes: int


class ShownPassage(msgspec.Struct, frozen=True, kw_only=True):
    """One passage of a file; ``start`` and ``stop`` are characters of its page's text."""

    page: int
    start: int
    stop: int
    heading: str
    text: str


class FileViews(msgspec.Struct, frozen=True, kw_only=True):
    """The passages of one file of a version; ``recipe`` is empty where it was not read."""

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


def list_views(parts: StoreParts) -> Views:
    """Return what the index holds, by kind of file."""
    with open_index(parts) as index:
        kinds = tuple(
            ViewsOfKind(kind=kind, file_count=files, passage_count=passages)
            for kind, (files, passages) in index.totals().items()
        )
        stored = index.stored_bytes()
    waiting = waiting_count(parts)
    return Views(kinds=kinds, waiting_count=waiting, stored_bytes=stored)


def file_views(parts: StoreParts, spec: str, *, member: str | None = None) -> tuple[FileViews, ...]:
    """Return the passages of a version's files; raises NotFoundError, AmbiguousNameError."""
    found = find_version(parts, spec)
    told = []
    with open_index(parts) as index:
        for one in found.chosen(member):
            source = index.sources([one.row.file_digest]).get(one.row.file_digest)
            if source is None:
                continue
            told.append(
                FileViews(
                    name=found.version.name, number=found.version.number, member=one.path,
                    kind=source.kind, recipe=source.recipe, title=source.title, pages=source.pages,
                    metadata=source.metadata, notices=tuple(text for _, text in source.notices),
                    passages=tuple(
                        ShownPassage(
                            page=each.page, start=each.start, stop=each.stop,
                            heading=each.heading, text=each.text,
                        )
                        for each in index.passages_of(one.row.file_digest)
                    ),
                )
            )  # fmt: skip
    return tuple(told)


class TextViews:
    """What was read of an open store's documents, as ``Store.views``."""

    def __init__(self, parts: StoreParts, files: OpenFiles) -> None:
        self._parts = parts
        self._files = files

    def list(self) -> Views:
        """Return what was read, by kind of file."""
        return list_views(self._parts)

    def of(self, spec: str, *, member: str | None = None) -> tuple[FileViews, ...]:
        """Return the passages of a version's documents, with their places."""
        return file_views(self._parts, spec, member=member)

    def write(
        self,
        spec: str,
        member: str | None = None,
        *,
        page: int = 0,
        folder: str | os.PathLike[str] = ".",
        force: bool = False,
    ) -> Path:
        """Write a page of a document into a folder, drawn or as text; see ``hart search --open``.

        ``page`` counts from 1, 0 is the whole document. What has no text is written as it is.
        """
        return write_page(
            self._parts, self._files, spec, member, page=page, folder=Path(folder), force=force
        )

    def make(self, *, rebuild: bool = False, progress: Progress | None = None) -> ViewsMade:
        """Read the documents that were not read yet; with ``rebuild`` all of them anew."""
        return update_views(self._parts, self._files, progress or NoProgress(), rebuild=rebuild)

    def drop(self) -> bool:
        """Delete what was read, and return whether there was any; searching reads it anew."""
        return drop_views(self._parts)
