"""Stored files that stay open between reads, and the files of one version.

One ``OpenFiles`` belongs to an open store: it holds the packs that were read and the manifests
that were used last, so that reading a thousand tensors of a model parses its manifest once.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from hartonomous.catalog import contents, resolve
from hartonomous.catalog.manifests import ManifestRow
from hartonomous.catalog.versions import VersionRow
from hartonomous.errors import AmbiguousNameError, NotFoundError, UsageError
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.files import FileReader, load_manifest
from hartonomous.packs.parts import StoreParts

_KEPT_FILES = 32
_SHOWN_PATHS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFile:
    """One file of a version: its path inside the artifact and its catalog row."""

    path: str
    row: ManifestRow


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFiles:
    """A version as it was when its name was looked up, with its files in order of path."""

    version: VersionRow
    files: tuple[VersionFile, ...]

    @property
    def spec(self) -> str:
        """``NAME@NUMBER``."""
        return f"{self.version.name}@{self.version.number}"

    def chosen(self, member: str | None) -> tuple[VersionFile, ...]:
        """Return the file at path ``member``, or all for None; raises NotFoundError."""
        if member is None:
            return self.files
        found = tuple(one for one in self.files if one.path == member)
        if not found:
            raise no_file(self.spec, member, [one.path for one in self.files])
        return found

    def single(self, member: str | None) -> VersionFile:
        """Return the file at ``member``, or the only one; raises AmbiguousNameError of several."""
        found = self.chosen(member)
        if len(found) != 1:
            raise AmbiguousNameError(
                f"{self.spec} has {len(found)} files",
                hint=f"name one of them: {self.shown_paths()}",
            )
        return found[0]

    def shown_paths(self) -> str:
        """Return the first few paths for a message."""
        return _first([one.path for one in self.files])


def no_file(spec: str, path: str, there: Sequence[str]) -> NotFoundError:
    """Return the error for a file that a version does not have; ``there`` are those that it has."""
    return NotFoundError(f"{spec} has no file {path!r}", hint=f"it has {_first(there)}")


def _first(paths: Sequence[str]) -> str:
    more = len(paths) - _SHOWN_PATHS
    shown = ", ".join(paths[:_SHOWN_PATHS])
    return f"{shown} and {more} more" if more > 0 else shown


def find_version(parts: StoreParts, spec: str) -> VersionFiles:
    """Look up ``NAME`` or ``NAME@X``; raises NotFoundError or AmbiguousNameError."""
    with parts.database.read() as tx:
        row = resolve.version(tx, spec)
        members, rows = contents.of_version(tx, row.id)
    return VersionFiles(
        version=row,
        files=tuple(VersionFile(path=one.path, row=rows[one.manifest_id]) for one in members),
    )


class OpenFiles:
    """Readers of one store's files; safe to use from several threads."""

    def __init__(self, parts: StoreParts) -> None:
        self._parts = parts
        self._guard = threading.Lock()
        self._files: OrderedDict[bytes, FileReader] = OrderedDict()
        self._atoms: AtomReader | None = None
        self._closed = False

    @property
    def atoms(self) -> AtomReader:
        """The reader of atoms, made when it is first asked for; raises UsageError when closed."""
        with self._guard:
            self.check_open()
            if self._atoms is None:
                self._atoms = AtomReader(self._parts)
            return self._atoms

    def check_open(self) -> None:
        """Raise UsageError once the store is closed."""
        if self._closed:
            raise UsageError("the store is closed", hint="open it again to read from it")

    def open(self, row: ManifestRow) -> FileReader:
        """Return the reader of a stored file, kept for the next time."""
        atoms = self.atoms
        with self._guard:
            kept = self._files.get(row.file_digest)
            if kept is not None:
                self._files.move_to_end(row.file_digest)
                return kept
        opened = FileReader(atoms, load_manifest(atoms, row))
        with self._guard:
            self._files[row.file_digest] = opened
            while len(self._files) > _KEPT_FILES:
                self._files.popitem(last=False)
        return opened

    def close(self) -> None:
        """Release every pack; later reads raise UsageError."""
        with self._guard:
            self._closed = True
            self._files.clear()
            atoms, self._atoms = self._atoms, None
        if atoms is not None:
            atoms.close()
