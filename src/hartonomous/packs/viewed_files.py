"""Stored files of which views are made: which are to be read, which are gone, and reading one."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import IO, NamedTuple, TypeVar

import msgspec

from hartonomous.catalog import manifests, texts
from hartonomous.catalog.manifests import ManifestRow
from hartonomous.catalog.texts import TextFile
from hartonomous.core.digest import Bytes
from hartonomous.core.quantity import size
from hartonomous.errors import IntegrityError, NotFoundError
from hartonomous.formats.sandbox import LimitedProcess
from hartonomous.objects.durable import storage_error
from hartonomous.packs.open_files import OpenFiles
from hartonomous.packs.parts import StoreParts
from hartonomous.ports.progress import Progress

VIEWED_LIMIT_BYTES = 256 << 20
"""Larger files are not read for views."""
LACKS_DOCUMENTS = "-lacks-documents"
"""The end of the recipe of an installation without the package that reads PDF files."""

_FILES_A_PAGE = 2_000

Found = TypeVar("Found")


class ViewsMade(msgspec.Struct, frozen=True, kw_only=True):
    """What bringing views up to date did; a document is read for words, and for pictures.

    ``read_count`` counts it twice then; ``looked_count`` of these were for pictures. ``notes`` say
    of which files something is missing.
    """

    read_count: int
    forgotten_count: int
    looked_count: int = 0
    passage_count: int = 0
    picture_count: int = 0
    notes: tuple[str, ...] = ()


class Waiting(NamedTuple):
    """A file that was not read by its recipe; ``stale`` says that an older one may serve so far."""

    file: TextFile
    stale: bool


def waiting_files(
    parts: StoreParts,
    known: Mapping[bytes, str],
    recipe: Callable[[str], str | None],
    serves: Callable[[str, str], bool],
) -> Iterator[Waiting]:
    """Yield files in use that were not read by their recipe, each once.

    ``known`` are the recipes by which files were read, by digest; ``recipe(path)`` is what a file
    of this name would be read by now, None for one that is not worth a look; ``serves(old, new)``
    says whether what an older recipe made may be searched until a newer one made it again.
    """
    last: int | None = 0
    while last is not None:
        with parts.database.read() as tx:
            page, last = texts.files(tx, after_id=last, limit=_FILES_A_PAGE)
        seen: set[int] = set()
        for one in page:
            wanted = None if one.manifest_id in seen else recipe(one.path)
            if wanted is None:
                continue
            seen.add(one.manifest_id)
            held = known.get(one.digest)
            # What an installation with more packages read serves one with less.
            if held not in (wanted, wanted.removesuffix(LACKS_DOCUMENTS)):
                yield Waiting(one, held is not None and serves(held, wanted))


def gone_files(parts: StoreParts, known: Mapping[bytes, str]) -> list[bytes]:
    """Return those of the digests in ``known`` of which the store has no file any more."""
    with parts.database.read() as tx:
        kept = texts.kept(tx, known)
    return [one for one in known if one not in kept]


def looked_at(
    parts: StoreParts,
    files: OpenFiles,
    process: LimitedProcess[Found],
    one: TextFile,
    refused: Callable[[str, str], Found],
) -> Found | None:
    """Return what a limited process finds in a stored file, None where that is gone.

    ``refused(kind, reason)`` makes what is told of a file that is too large or damaged.
    """
    with parts.database.read() as tx:
        row = manifests.by_ids(tx, [one.manifest_id]).get(one.manifest_id)
    if row is None:
        return None  # a collection removed it since the list was made
    if one.size_bytes > VIEWED_LIMIT_BYTES:
        return refused("limit", f"takes files of up to {size(VIEWED_LIMIT_BYTES)}")
    try:
        with plain_copy(parts, files, row) as plain:
            return process.look(plain.fileno(), one.path)[0]
    except (IntegrityError, NotFoundError) as error:
        return refused("structure", f"found it damaged: {error.message}")


def take_each(
    waiting: Sequence[TextFile],
    process: Callable[[], LimitedProcess[Found]],
    take: Callable[[LimitedProcess[Found], TextFile], None],
    progress: Progress,
    *,
    stage: str,
    lock: Callable[[], AbstractContextManager[object]],
) -> int:
    """Take files in their order, each under the lock, with one process; return how many."""
    if not waiting:
        return 0
    progress.stage(stage, total_bytes=sum(one.size_bytes for one in waiting))
    with process() as running:
        for one in waiting:
            with lock():
                take(running, one)
            progress.advance(one.size_bytes)
            progress.count()
    return len(waiting)


def plain_copy(parts: StoreParts, files: OpenFiles, row: ManifestRow) -> IO[bytes]:
    """Return a temporary file of a stored file's bytes; close it.

    Raises StorageFullError where there is no room, and what reading the file raises.
    """
    return plain_file(parts, files.open(row).chunks(), size_bytes=row.size_bytes)


def plain_file(parts: StoreParts, chunks: Iterable[Bytes], *, size_bytes: int) -> IO[bytes]:
    """Return a temporary file of some bytes, for a limited process; close it."""
    place = parts.directory / "tmp"
    try:
        with contextlib.ExitStack() as undo:
            plain = undo.enter_context(tempfile.TemporaryFile(dir=place))
            for chunk in chunks:
                plain.write(chunk)
            plain.flush()
            os.lseek(plain.fileno(), 0, os.SEEK_SET)
            undo.pop_all()
            return plain
    except OSError as error:
        raise storage_error(
            error, "write a document for its reader", place, wanted_bytes=size_bytes
        ) from error
