"""Text views: the passages of stored documents, read in a limited process, kept in the index.

A view is derived. What was read is known by the file's digest and the recipe: the readers, the cut
into passages, and which extras were there. What an older recipe read is searched until a job has
read it anew (``stale_views``).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path

import msgspec

from hartonomous import locks
from hartonomous.catalog import texts
from hartonomous.catalog.texts import TextFile
from hartonomous.catalog.word_index import WordIndex, damage_of, delete_index
from hartonomous.catalog.word_table import WordTable, drop_tables, has_tables, table_damage
from hartonomous.core import passage
from hartonomous.core.description import Notice
from hartonomous.core.document import Document
from hartonomous.core.indexed_text import IndexedPassage, IndexedSource
from hartonomous.formats.sandbox import LimitedProcess, Task
from hartonomous.media.endings import PDF, ending, worth_a_look
from hartonomous.media.reading import READERS, RECIPE
from hartonomous.packs.extra_packages import PDFIUM, import_paths, installed
from hartonomous.packs.model_views import update_said
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
from hartonomous.ports.text_index import TextIndex

_INDEX = "words.sqlite"
_PASSAGES_LIMIT = 100_000
_TITLE_CHARS = 500


def index_path(parts: StoreParts) -> Path:
    """Return where the index of words lies, if the catalog is SQLite."""
    return parts.directory / "index" / _INDEX


def index_damage(parts: StoreParts) -> str | None:
    """Return what is wrong with the index; None where it is sound, or of no known schema."""
    if parts.database.dialect != "sqlite":
        return table_damage(parts.database)
    return damage_of(index_path(parts))


def drop_views(parts: StoreParts) -> bool:
    """Drop what the index holds; return whether there was anything."""
    with _held(parts):
        return _drop(parts)


def change_number(parts: StoreParts) -> str:
    """Return what is another one whenever a search may find something else in the catalog."""
    with parts.database.read() as tx:
        return texts.change_number(tx)


def is_current(index: TextIndex, number: str) -> bool:
    """Say whether an index has everything that the catalog had at a change number."""
    return index.mark() == _mark(number)


def has_stale_texts(index: TextIndex) -> bool:
    """Say whether an older recipe made what an index holds, or a part of it."""
    made_by = index.mark().rpartition(" ")[2]
    return bool(made_by) and made_by.removesuffix(LACKS_DOCUMENTS) != _recipe("x")


def request_stale(parts: StoreParts) -> int | None:
    """Put the job that makes views anew, if an older recipe made some; return its number if put."""
    if parts.database.dialect != "sqlite":
        there = has_tables(parts.database)
    else:
        there = index_path(parts).exists()
    if not there:
        return None
    with open_index(parts) as index:
        return request_views(parts) if has_stale_texts(index) else None


def refresh_views(parts: StoreParts, files: OpenFiles, progress: Progress) -> ViewsMade | None:
    """Read what was not read yet, if the catalog changed since that was done; None if it did not.

    What an older recipe read stays as it is, and a job is put that reads it anew. Who may only read
    searches what is there, and a note says if there is more.
    """
    with open_index(parts) as index:
        number = change_number(parts)
        if is_current(index, number):
            return None
        if not index.is_writable():
            note = "what was added lately is not searched: this role may not write the index"
            return ViewsMade(read_count=0, passage_count=0, forgotten_count=0, notes=(note,))
        stale = has_stale_texts(index)
        if stale:
            request_views(parts)
        if stale and _same_but_for_recipe(index.mark(), _mark(number)):
            return None
    with _held(parts), open_index(parts) as index:
        if is_current(index, change_number(parts)):
            return None  # somebody else did it while this waited for the lock
        return _refreshed(parts, files, index, progress)


def _same_but_for_recipe(one: str, other: str) -> bool:
    """Say whether two marks are of one change number, with the same packages installed."""
    (number, _, old), (now, _, new) = one.rpartition(" "), other.rpartition(" ")
    return number == now and _serves(old, new)


def _refreshed(
    parts: StoreParts, files: OpenFiles, index: TextIndex, progress: Progress
) -> ViewsMade:
    """Read what no view serves; remember the older recipe while a part of the views is by it."""
    mark = _mark(change_number(parts))
    known = index.recipes()
    waiting = list(_waiting(parts, known))
    made = _Making(parts, files, index)
    made.take_all([one.file for one in waiting if not one.stale], progress)
    forgotten = index.forget(gone_files(parts, known))
    update_said(parts, index)
    stale = next((known[one.file.digest] for one in waiting if one.stale), None)
    if stale is not None:
        # Of the package that was missing when that was read nothing is left unread.
        recipe = stale.removesuffix(LACKS_DOCUMENTS) + (
            LACKS_DOCUMENTS if mark.endswith(LACKS_DOCUMENTS) else ""
        )
        mark = f"{mark.rpartition(' ')[0]} {recipe}"
    index.set_mark(mark)
    return made.told(forgotten)


def remake_texts(
    parts: StoreParts, files: OpenFiles, progress: Progress, *, again: bool = False
) -> ViewsMade:
    """Read anew what an older recipe read (``again``: everything), and what was not read yet.

    Searches go on meanwhile: they find what is there until a file's new views take its place, and
    who has to read what is new waits for one file at most.
    """
    with open_index(parts) as index:
        known = {} if again else index.recipes()
        waiting = list(_waiting(parts, known))
        made = _Making(parts, files, index)
        made.take_all([one.file for one in waiting], progress, lock=lambda: _held(parts))
    with _held(parts), open_index(parts) as index:
        rest = _refreshed(parts, files, index, progress)
    return msgspec.structs.replace(
        rest,
        read_count=rest.read_count + made.count,
        passage_count=rest.passage_count + made.passages,
        notes=(*made.notes, *rest.notes),
    )


def update_views(
    parts: StoreParts, files: OpenFiles, progress: Progress, *, rebuild: bool = False
) -> ViewsMade:
    """Read the files that were not read yet, or by an older recipe; forget those that are gone.

    With ``rebuild`` what is there is dropped first: searches find it again as it is read.
    """
    with _held(parts):
        if rebuild:
            _drop(parts)
        with open_index(parts) as index:
            # Before anything is looked at: what comes meanwhile is seen later.
            mark = _mark(change_number(parts))
            known = index.recipes()
            made = _Making(parts, files, index)
            made.take_all([one.file for one in _waiting(parts, known)], progress)
            forgotten = index.forget(gone_files(parts, known))
            update_said(parts, index)
            index.set_mark(mark)
            return made.told(forgotten)


def _mark(number: str) -> str:
    """Return what changes whenever views may have to be made: the catalog, or how they are made."""
    return f"{number} {_recipe('x.pdf')}"


def waiting_texts(parts: StoreParts) -> list[Waiting]:
    """Return the files whose texts were not read yet, or by an older recipe."""
    with open_index(parts) as index:
        return list(_waiting(parts, index.recipes()))


def open_index(parts: StoreParts) -> TextIndex:
    """Open the index of words; raises what opening it raises."""
    if parts.database.dialect != "sqlite":
        return WordTable(parts.database)
    with _whole(parts):
        return WordIndex(index_path(parts))


def _drop(parts: StoreParts) -> bool:
    if parts.database.dialect != "sqlite":
        return drop_tables(parts.database)
    with _whole(parts):
        path = index_path(parts)
        there = path.exists()
        delete_index(path)
        return there


def _whole(parts: StoreParts) -> AbstractContextManager[None]:
    """Return a short lock: who opens the index finds all of its files, or none."""
    return locks.held(parts.lock_path("words"), what="the lock of the index's files")


def _held(parts: StoreParts) -> AbstractContextManager[None]:
    return locks.held(parts.lock_path("views"), what="the lock of the index of words")


def _recipe(path: str) -> str:
    """Return what a file of this name would be read by now."""
    lacks = LACKS_DOCUMENTS if ending(path) in PDF and not installed(PDFIUM) else ""
    return f"{RECIPE}/{passage.RECIPE}{lacks}"


def _waiting(parts: StoreParts, known: dict[bytes, str]) -> Iterator[Waiting]:
    return waiting_files(
        parts, known, lambda path: _recipe(path) if worth_a_look(path) else None, _serves
    )


def _serves(old: str, new: str) -> bool:
    """Say that what an older recipe read may be searched; not what it could not read."""
    return old.endswith(LACKS_DOCUMENTS) == new.endswith(LACKS_DOCUMENTS)


def _refused(kind: str, reason: str) -> Document:
    notice = Notice(kind=kind, text=f"its text is not read: the reader {reason}")
    return Document(kind="file", notices=(notice,))


def _check(document: Document, size_bytes: int) -> None:  # noqa: ARG001 - the task's signature
    for block in document.blocks:
        if block.start < 0 or block.page < 0 or block.level < 0:
            raise ValueError("a block lies before the beginning")


def document_process() -> LimitedProcess[Document]:
    """Return a limited process that reads documents; close it, or use it as a context manager."""
    task = Task(
        program="hartonomous.media.reading:read",
        formats=READERS,
        result=Document,
        refused=_refused,
        check=_check,
    )
    return LimitedProcess(task, search_path=import_paths(PDFIUM), memory_bytes=512 << 20, cpu_s=60)


class _Making:
    """Reads files one after the other into the index."""

    def __init__(self, parts: StoreParts, files: OpenFiles, index: TextIndex) -> None:
        self._parts = parts
        self._files = files
        self._index = index
        self.count = self.passages = 0
        self.notes: list[str] = []

    def take_all(
        self,
        waiting: Sequence[TextFile],
        progress: Progress,
        *,
        lock: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """Read files in their order, each under the lock."""
        self.count += take_each(
            waiting, document_process, self.take, progress, stage="read texts", lock=lock
        )

    def told(self, forgotten_count: int) -> ViewsMade:
        """Return what was done."""
        return ViewsMade(
            read_count=self.count, passage_count=self.passages, forgotten_count=forgotten_count,
            notes=tuple(self.notes),
        )  # fmt: skip

    def take(self, process: LimitedProcess[Document], one: TextFile) -> None:
        """Read one file; what cannot be read is noted and not asked for again."""
        document = looked_at(self._parts, self._files, process, one, _refused)
        if document is None:
            return
        cut = passage.passages(document.blocks)
        found = [
            IndexedPassage(
                kind=each.kind, heading=_headed(document.title, each.heading), page=each.page,
                start=each.start, stop=each.stop, text=each.text,
            )
            for each in islice(cut, _PASSAGES_LIMIT)
        ]  # fmt: skip
        self.passages += len(found)
        notices = list(document.notices)
        if next(cut, None) is not None:
            text = f"only the first {_PASSAGES_LIMIT:,} passages of its text are searched"
            notices.append(Notice(kind="limit", text=text))
        self.notes.extend(f"{one.shown}: {notice.text}" for notice in notices)
        source = IndexedSource(
            digest=one.digest,
            recipe=_recipe(one.path),
            kind=document.kind,
            title=document.title[:_TITLE_CHARS],
            pages=document.pages,
            metadata=document.metadata,
            notices=tuple((notice.kind, notice.text) for notice in notices),
        )
        self._index.put(source, found)


def _headed(title: str, heading: str) -> str:
    """Return a passage's headings below its document's title, which is said once."""
    if not title or heading == title or heading.startswith(f"{title} > "):
        return heading
    return f"{title} > {heading}" if heading else title
