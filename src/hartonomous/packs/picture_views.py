"""Picture views: what is derived of stored pictures and of those in documents, kept in the index.

Read in a limited process, known by the file's digest and the recipe, as text views are. A picture
in a document is not stored a second time: the index says where it lies, and its bytes are taken out
of the document again when they are wanted.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeVar

import msgspec

from hartonomous import locks
from hartonomous.catalog.picture_index import PictureIndex, damage_of, delete_index
from hartonomous.catalog.texts import TextFile
from hartonomous.core import picture_hash, picture_layout
from hartonomous.core.description import Notice
from hartonomous.core.picture import PictureBytes, PictureViews, Pixels
from hartonomous.errors import UsageError
from hartonomous.formats.sandbox import LimitedProcess, Task
from hartonomous.media.endings import PDF, PICTURES, WITH_PICTURES, ending
from hartonomous.media.picture_reading import ENTRIES, PDF_ENTRY
from hartonomous.packs.extra_packages import PDFIUM, import_paths, installed
from hartonomous.packs.open_files import OpenFiles
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.stale_views import request_views
from hartonomous.packs.viewed_files import (
    LACKS_DOCUMENTS,
    ViewsMade,
    Waiting,
    gone_files,
    looked_at,
    take_each,
    waiting_files,
)
from hartonomous.ports.progress import Progress

_READING = "pictures-4"
_INDEX = "pictures.sqlite"
_PACKAGES = ("numpy", "PIL", "pdqhash")
_EXTRA_HINT = "pip install 'hartonomous[images]'"

Answer = TypeVar("Answer", PictureViews, Pixels, PictureBytes)


def pictures_path(parts: StoreParts) -> Path:
    """Return where the index of pictures lies."""
    return parts.directory / "index" / _INDEX


def has_images() -> bool:
    """Say whether the extra ``images`` is installed."""
    return installed(*_PACKAGES)


def need_images() -> None:
    """Raise UsageError that names the extra where it is missing."""
    if not has_images():
        raise UsageError("pictures need Pillow and pdqhash, which are not installed here",
                         hint=_EXTRA_HINT)  # fmt: skip


def open_pictures(parts: StoreParts) -> PictureIndex:
    """Open the index of pictures; raises what opening it raises."""
    with _whole(parts):
        return PictureIndex(pictures_path(parts))


def picture_damage(parts: StoreParts) -> str | None:
    """Return what is wrong with the index's file, None for nothing."""
    return damage_of(pictures_path(parts))


def drop_pictures(parts: StoreParts) -> bool:
    """Delete the index; return whether there was one."""
    with _held(parts):
        there = pictures_path(parts).exists()
        _delete(parts)
        return there


def update_pictures(
    parts: StoreParts,
    files: OpenFiles,
    progress: Progress,
    *,
    rebuild: bool = False,
    stale: bool = True,
) -> ViewsMade:
    """Look at files that were not looked at yet, or by an older recipe; forget those gone.

    Without ``stale`` what an older recipe saw stays where it can be compared, and a job is put that
    looks at it anew. With ``rebuild`` what is there is dropped first. Without the extra ``images``
    nothing is read, and a note says so if there is anything to read.
    """
    with _held(parts):
        if rebuild:
            _delete(parts)
        with open_pictures(parts) as index:
            known = index.recipes()
            forgotten = index.forget(gone_files(parts, known))
            every = list(_waiting(parts, known))
            waiting = [one.file for one in every if stale or not one.stale]
            if len(waiting) < len(every):
                request_views(parts)
            made = _Making(parts, files, index)
            if not has_images():
                made.notes += [f"pictures are not read: {_EXTRA_HINT}"] if waiting else []
                waiting = []
            made.take_all(waiting, progress)
            return ViewsMade(
                read_count=len(waiting),
                looked_count=len(waiting),
                picture_count=made.pictures,
                forgotten_count=forgotten,
                notes=tuple(made.notes),
            )


def remake_pictures(
    parts: StoreParts, files: OpenFiles, progress: Progress, *, again: bool = False
) -> ViewsMade:
    """Look anew at what an older recipe saw (``again``: everything), and at what is new.

    Searches go on meanwhile, and find what is there until a file's new views take its place.
    """
    with open_pictures(parts) as index:
        made = _Making(parts, files, index)
        if has_images():
            waiting = [one.file for one in _waiting(parts, {} if again else index.recipes())]
            made.take_all(waiting, progress, lock=lambda: _held(parts))
    rest = update_pictures(parts, files, progress)
    return ViewsMade(
        read_count=made.count + rest.read_count,
        looked_count=made.count + rest.looked_count,
        picture_count=made.pictures + rest.picture_count,
        forgotten_count=rest.forgotten_count,
        notes=(*made.notes, *rest.notes),
    )


def waiting_pictures(parts: StoreParts) -> list[Waiting]:
    """Return files that were not looked at yet, or by an older recipe; none without Pillow."""
    if not has_images():
        return []
    with open_pictures(parts) as index:
        return list(_waiting(parts, index.recipes()))


def request_stale_pictures(parts: StoreParts) -> int | None:
    """Put the job that makes views anew if an older recipe saw pictures; return its number if put.

    None where one waits already.
    """
    if not pictures_path(parts).exists():
        return None
    return request_views(parts) if any(one.stale for one in waiting_pictures(parts)) else None


def picture_process(*, sought: bool = False) -> LimitedProcess[PictureViews]:
    """Return a limited process that makes views of pictures; close it when it is not needed.

    With ``sought`` of one to be searched for: with hashes of all orientations; of documents none.
    """

    return _process("sought" if sought else "look", PictureViews, _refused, _check)


def _refused(kind: str, reason: str) -> PictureViews:
    notice = Notice(kind=kind, text=f"its pictures are not read: the reader {reason}")
    return PictureViews(kind="file", notices=(notice,))


def pixel_process() -> LimitedProcess[Pixels]:
    """Return a limited process that decodes pictures; its paths are ``core.picture.address``."""

    def refused(kind: str, reason: str) -> Pixels:
        return Pixels(notices=(Notice(kind=kind, text=f"the reader {reason}"),))

    def check(found: Pixels, size_bytes: int) -> None:  # noqa: ARG001 - the task's signature
        if found.width < 0 or len(found.rgb) != 3 * found.width * found.height:
            raise ValueError("the pixels are not as many as it says")

    return _process("pixels", Pixels, refused, check)


def content_process() -> LimitedProcess[PictureBytes]:
    """Return a limited process that takes pictures out of documents, by their address."""

    def refused(kind: str, reason: str) -> PictureBytes:
        return PictureBytes(notices=(Notice(kind=kind, text=f"the reader {reason}"),))

    return _process("content", PictureBytes, refused, lambda _found, _size: None)


def _process(
    name: str,
    result: type[Answer],
    refused: Callable[[str, str], Answer],
    check: Callable[[Answer, int], None],
) -> LimitedProcess[Answer]:
    need_images()
    pdf: bool = installed(PDFIUM)
    task = Task(
        program=f"hartonomous.media.picture_reading:{name}",
        formats=(*ENTRIES, *((PDF_ENTRY,) if pdf else ())),
        result=result,
        refused=refused,
        check=check,
    )
    paths = import_paths(*_PACKAGES, PDFIUM)
    return LimitedProcess(task, search_path=paths, memory_bytes=512 << 20, cpu_s=60)


def _check(found: PictureViews, size_bytes: int) -> None:  # noqa: ARG001 - the task's signature
    if found.kind == "picture" and len(found.pictures) != 1:
        raise ValueError("a picture's file has one picture")
    for one in found.places:
        if not 0 <= one.picture < len(found.pictures) or one.page < 0:
            raise ValueError("a place has no picture")
    for each in found.pictures:
        layout_bytes = 4 * picture_layout.DIMENSION
        if len(each.layout) != layout_bytes or len(each.hashes) not in (0, 32, 8 * 32):
            raise ValueError("a picture's features have another length")


def _recipe(path: str) -> str | None:
    """Return what a file of this name would be looked at by now, None if it has no pictures."""
    kind = ending(path)
    if kind not in PICTURES and kind not in WITH_PICTURES:
        return None
    lacks = LACKS_DOCUMENTS if kind in PDF and not installed(PDFIUM) else ""
    return f"{_READING}/{picture_hash.RECIPE}/{picture_layout.RECIPE}{lacks}"


def _waiting(parts: StoreParts, known: dict[bytes, str]) -> Iterator[Waiting]:
    return waiting_files(parts, known, _recipe, _serves)


def _serves(old: str, new: str) -> bool:
    """Say that what an older recipe saw may be compared: hashes and layouts are the same ones."""
    return old.partition("/")[2] == new.partition("/")[2]


def _delete(parts: StoreParts) -> None:
    with _whole(parts):
        delete_index(pictures_path(parts))


def _whole(parts: StoreParts) -> AbstractContextManager[None]:
    """Return a short lock: who opens the index finds all of its files, or none."""
    return locks.held(parts.lock_path("pictures"), what="the lock of the pictures' files")


def _held(parts: StoreParts) -> AbstractContextManager[None]:
    return locks.held(parts.lock_path("picture-views"), what="the lock of the index of pictures")


class _Making:
    """Looks at files one after the other."""

    def __init__(self, parts: StoreParts, files: OpenFiles, index: PictureIndex) -> None:
        self._parts = parts
        self._files = files
        self._index = index
        self.count = self.pictures = 0
        self.notes: list[str] = []

    def take_all(
        self,
        waiting: Sequence[TextFile],
        progress: Progress,
        *,
        lock: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """Look at files in their order, each under the lock."""
        self.count += take_each(
            waiting, picture_process, self.take, progress, stage="read pictures", lock=lock
        )

    def take(self, process: LimitedProcess[PictureViews], one: TextFile) -> None:
        """Look at one file; what cannot be read is noted and not asked for again."""
        recipe = _recipe(one.path)
        views = looked_at(self._parts, self._files, process, one, _refused)
        if views is None or recipe is None:
            return
        if views.kind == "picture":
            own = msgspec.structs.replace(views.pictures[0], digest=one.digest)
            views = msgspec.structs.replace(views, pictures=(own,))
        self.pictures += 1 if views.kind == "picture" else len(views.places)
        self.notes.extend(f"{one.shown}: {notice.text}" for notice in views.notices)
        self._index.put(one.digest, recipe, views)
