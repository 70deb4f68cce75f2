"""Files as a comparison sees them, whether they lie in the store or on disk beside it.

Both kinds tell path, size, digest and tensors at once, and give metadata and bytes when asked.
A file on disk is described by the limited parser process and read by range, never whole.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from hartonomous.catalog import manifests, versions
from hartonomous.core.description import Description, Tensor
from hartonomous.core.digest import AtomHasher
from hartonomous.core.item_names import ItemNames
from hartonomous.core.model import summarise
from hartonomous.core.tree import tree_digest
from hartonomous.errors import SourceChangedError, UsageError
from hartonomous.formats.sandbox import ParserProcess
from hartonomous.packs.compared_tensors import ComparedTensor, compared_tensors
from hartonomous.packs.external_files import Said, external_files, with_external
from hartonomous.packs.open_files import OpenFiles, VersionFile, find_version
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.source_file import SourceFile
from hartonomous.ports.progress import Progress
from hartonomous.ports.source import Candidate, MemberSource
from hartonomous.sources.discover import discover


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedFile:
    """One file: its tensors, and ``describe``, which returns what a parser said."""

    path: str
    size: int
    digest: bytes
    format: str
    tensors: tuple[ComparedTensor, ...]
    describe: Callable[[], Description]

    @property
    def column_major(self) -> bool:
        """Whether its array lies column by column (`.npy` in Fortran order)."""
        return self.format == "npy" and self.describe().metadata.get("fortran_order") is True


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedVersion:
    """One side of a comparison; ``number`` is None for what lies on disk."""

    name: str
    number: int | None
    digest: bytes
    model: dict[str, Any] | None
    files: tuple[ComparedFile, ...]


def stored_version(parts: StoreParts, files: OpenFiles, spec: str) -> ComparedVersion:
    """Return what a spec means; reads manifests and bytes when they are asked for."""
    found = find_version(parts, spec)
    with parts.database.read() as tx:
        model = versions.model_of(tx, found.version.id)
        rows = {
            one.row.id: manifests.tensors_of(tx, one.row.id) if one.row.tensor_count else []
            for one in found.files
        }
    return ComparedVersion(
        name=found.version.name,
        number=found.version.number,
        digest=found.version.digest,
        model=model,
        files=tuple(_stored_file(files, one, rows[one.row.id]) for one in found.files),
    )


def _stored_file(
    files: OpenFiles, one: VersionFile, rows: list[manifests.TensorRow]
) -> ComparedFile:
    @cache
    def checked() -> None:
        for row in rows:
            files.open(one.row).described(row)

    def view(offset: int, length: int) -> memoryview:
        checked()
        return files.open(one.row).view(offset, length)

    # The catalog knows all that is needed unless a tensor has no digest: it may have strides.
    tensors = (
        files.open(one.row).manifest.description.tensors
        if any(row.digest is None for row in rows)
        else [_tensor(row) for row in rows]
    )
    return ComparedFile(
        path=one.path,
        size=one.row.size_bytes,
        digest=one.row.file_digest,
        format=one.row.format,
        tensors=compared_tensors(view, tensors, [row.digest for row in rows], member=one.path),
        describe=lambda: files.open(one.row).manifest.description,
    )


def _tensor(row: manifests.TensorRow) -> Tensor:
    return Tensor(
        name=row.name, dtype=row.dtype, shape=row.shape, offset=row.offset, length=row.length
    )


@contextmanager
def version_on_disk(path: str | os.PathLike[str], progress: Progress) -> Iterator[ComparedVersion]:
    """Describe and hash the model or file at ``path``; it may be read until the block ends.

    Raises NotFoundError, UsageError when there is not exactly one artifact, SourceChangedError.
    """
    candidate = _only_candidate(path)
    disk = _Disk()
    try:
        progress.stage(f"hash {os.fspath(path)}", total_bytes=candidate.size)
        names = ItemNames()
        with ParserProcess() as parser:
            said = external_files(candidate.members, parser)
            files = tuple(
                _disk_file(disk, member, parser, progress, names=names, said=said)
                for member in candidate.members
            )
        summary = summarise([(one.path, one.describe()) for one in files])
        yield ComparedVersion(
            name=os.fspath(path),
            number=None,
            digest=tree_digest((one.path, one.digest) for one in files),
            model=None if summary is None else msgspec.to_builtins(summary),
            files=files,
        )
    finally:
        disk.close()


def _only_candidate(path: str | os.PathLike[str]) -> Candidate:
    found = [one for one in islice(discover([path]), 1000) if isinstance(one, Candidate)]
    sources = {one.source for one in found}
    if len(sources) != 1:
        raise UsageError(
            f"{os.fspath(path)} holds {len(found) or 'no'} models or files, one can be compared",
            hint="name one file or one model folder",
        )
    return found[-1]


class _Disk:
    """The one file on disk that is open now; another one takes its place."""

    def __init__(self) -> None:
        self._source: SourceFile | None = None
        self._seen: dict[str, tuple[int, int]] = {}

    def open(self, location: str) -> SourceFile:
        """Open a file; raises SourceChangedError when it is not what it was at first."""
        if self._source is not None and self._source.location == location:
            return self._source
        self.close()
        self._source = source = SourceFile(location)
        status = os.fstat(source.descriptor)
        now = (status.st_size, status.st_mtime_ns)
        if self._seen.setdefault(location, now) != now:
            raise SourceChangedError(
                f"{location} changed while it was being compared",
                hint="compare again once nothing writes to it",
            )
        return source

    def close(self) -> None:
        """Close the file that is open."""
        if self._source is not None:
            self._source.close()
            self._source = None


def _disk_file(
    disk: _Disk,
    member: MemberSource,
    parser: ParserProcess,
    progress: Progress,
    *,
    names: ItemNames,
    said: Said,
) -> ComparedFile:
    def view(offset: int, length: int) -> bytes:
        return disk.open(member.location).read(offset, length)

    source = disk.open(member.location)
    description = with_external(
        parser.describe(source.descriptor, member.path), member.path, source.size, said
    )
    description = names.told(member.path, description)
    hasher = AtomHasher()
    for block in source.blocks():
        hasher.update(block)
        progress.advance(len(block))
    tensors = compared_tensors(
        view, description.tensors, [None] * len(description.tensors), member=member.path
    )
    source.check_unchanged()
    return ComparedFile(
        path=member.path,
        size=source.size,
        digest=hasher.digest(),
        format=description.format,
        tensors=tensors,
        describe=lambda: description,
    )


def names_a_place(text: str | os.PathLike[str]) -> bool:
    """Say whether an argument can only mean a place on disk: a path object, ``/…``, ``./…``."""
    if not isinstance(text, str):
        return True
    return text in (".", "..") or text.startswith(("/", "./", "../"))


def is_there(text: str) -> bool:
    """Say whether something lies on disk under this path."""
    try:
        return "\0" not in text and Path(text).exists()
    except OSError:  # such as a name that is too long for any file
        return False
