"""Text views: the passages of stored documents, read in a limited process, kept in the index.

A view is derived. What was read is known by the file's digest and the recipe: the readers, the cut
into passages, and which extras were there. A newer recipe replaces the old one when views are next
brought up to date.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path

from hartonomous import locks
from hartonomous.catalog import texts
from hartonomous.catalog.texts import TextFile
from hartonomous.catalog.word_index import WordIndex, delete_index
from hartonomous.catalog.word_table import WordTable, drop_tables
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
from hartonomous.packs.viewed_files import ViewsMade, gone_files, looked_at, waiting_files
from hartonomous.ports.progress import Progress
from hartonomous.ports.text_index import TextIndex

_INDEX = "words.sqlite"
_PASSAGES_LIMIT = 100_000
_TITLE_CHARS = 500


def index_path(parts: StoreParts) -> Path:
    """Return where the index of words lies, if the catalog is SQLite."""
    return parts.directory / "index" / _INDEX


def drop_views(parts: StoreParts) -> bool:
    """Drop what the index holds; return whether there was anything."""
    with _held(parts):
        return _drop(parts)


def is_current(parts: StoreParts, index: TextIndex) -> bool:
    """Say whether an index has everything that the catalog has."""
    return index.mark() == _mark(parts)


def refresh_views(parts: StoreParts, files: OpenFiles, progress: Progress) -> ViewsMade | None:
    """Bring the views up to date if the catalog changed since they last were; None if it did not.

    Who may only read searches what is there, and a note says if there is more.
    """
    with open_index(parts) as index:
        if is_current(parts, index):
            return None
        if not index.is_writable():
            note = "what was added lately is not searched: this role may not write the index"
            return ViewsMade(read_count=0, passage_count=0, forgotten_count=0, notes=(note,))
    return update_views(parts, files, progress)


def update_views(
    parts: StoreParts, files: OpenFiles, progress: Progress, *, rebuild: bool = False
) -> ViewsMade:
    """Read the files that were not read yet, or by an older recipe; forget those that are gone."""
    with _held(parts):
        if rebuild:
            _drop(parts)
        with open_index(parts) as index:
            mark = _mark(parts)  # before anything is looked at: what comes meanwhile is seen later
            known = index.recipes()
            waiting = list(_waiting(parts, known))
            made = _Making(parts, files, index)
            progress.stage("read texts", total_bytes=sum(one.size_bytes for one in waiting))
            with document_process() as process:
                for one in waiting:
                    made.take(process, one)
                    progress.advance(one.size_bytes)
            forgotten = index.forget(gone_files(parts, known))
            update_said(parts, index)
            index.set_mark(mark)
            return ViewsMade(
                read_count=len(waiting),
                passage_count=made.passages,
                forgotten_count=forgotten,
                notes=tuple(made.notes),
            )


def _mark(parts: StoreParts) -> str:
    """Return what changes whenever views may have to be made: the catalog, or how they are made."""
    with parts.database.read() as tx:
        number = texts.change_number(tx)
    return f"{number} {_recipe('x.pdf')}"


def waiting_texts(parts: StoreParts) -> list[TextFile]:
    """Return the files whose texts were not read yet."""
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
    lacks = "-lacks-documents" if ending(path) in PDF and not installed(PDFIUM) else ""
    return f"{RECIPE}/{passage.RECIPE}{lacks}"


def _waiting(parts: StoreParts, known: dict[bytes, str]) -> Iterator[TextFile]:
    return waiting_files(parts, known, lambda path: _recipe(path) if worth_a_look(path) else None)


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
        self.passages = 0
        self.notes: list[str] = []

    def take(self, process: LimitedProcess[Document], one: TextFile) -> None:
        """Read one file; what cannot be read is noted and not asked for again."""
        document = looked_at(self._parts, self._files, process, one, _refused)
        if document is None:
            return
        found = [
            IndexedPassage(
                kind=each.kind, heading=_headed(document.title, each.heading), page=each.page,
                start=each.start, stop=each.stop, text=each.text,
            )
            for each in islice(passage.passages(document.blocks), _PASSAGES_LIMIT)
        ]  # fmt: skip
        self.passages += len(found)
        self.notes.extend(f"{one.path}: {notice.text}" for notice in document.notices)
        source = IndexedSource(
            digest=one.digest,
            recipe=_recipe(one.path),
            kind=document.kind,
            title=document.title[:_TITLE_CHARS],
            pages=document.pages,
            metadata=document.metadata,
            notices=tuple((notice.kind, notice.text) for notice in document.notices),
        )
        self._index.put(source, found)


def _headed(title: str, heading: str) -> str:
    """Return a passage's headings below its document's title, which is said once."""
    if not title or heading == title or heading.startswith(f"{title} > "):
        return heading
    return f"{title} > {heading}" if heading else title
