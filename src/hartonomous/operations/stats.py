"""Stats: what is stored, how many bytes that takes, and why."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hartonomous.catalog import accesses, bases, copies, schemas, totals
from hartonomous.core.notebook import html_table
from hartonomous.core.quantity import several, share, size
from hartonomous.core.record import Encoding
from hartonomous.packs.parts import StoreParts


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes kept in one way. ``logical_bytes`` counts each atom once."""

    kind: str
    count: int
    logical_bytes: int
    stored_bytes: int


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the whole store.

    ``logical_bytes`` is what all versions in use would take as plain files; ``distinct_bytes``
    counts equal files once, ``atom_bytes`` equal atoms once, ``stored_bytes`` is what the atoms
    take in packs. ``kept_as_bases`` are those that no file holds any more and that others are
    computed from. ``copy_bytes`` are those of second copies. ``disk_bytes`` is the whole directory,
    by part. ``read_count`` is how often versions were read, if counted.
    """

    artifact_count: int
    version_count: int
    file_count: int
    tensor_count: int
    atom_count: int
    pack_count: int
    logical_bytes: int
    distinct_bytes: int
    atom_bytes: int
    stored_bytes: int
    saved_by_equal_files: int
    saved_by_equal_atoms: int
    saved_by_encoding: int
    held: tuple[Held, ...]
    kept_as_bases: Held
    copy_bytes: int
    trash_version_count: int
    trash_bytes: int
    dead_bytes: int
    disk_bytes: dict[str, int]
    read_count: int = 0

    def __repr__(self) -> str:
        """Return one line: what there is, and what it takes."""
        return (
            f"<Stats: {several(self.artifact_count, 'artifact')}, "
            f"{several(self.file_count, 'file')}, {size(self.logical_bytes)}, "
            f"stored {size(self.stored_bytes)}>"
        )

    def _repr_html_(self) -> str:
        """Return a table for notebooks."""
        return html_table(
            repr(self)[1:-1],
            ("saved by", "bytes", "of all"),
            (
                (words, size(saved), share(saved, self.logical_bytes))
                for words, saved in (
                    ("equal files", self.saved_by_equal_files),
                    ("equal tensors and data", self.saved_by_equal_atoms),
                    ("encoding", self.saved_by_encoding),
                )
            ),
        )


def stats(parts: StoreParts) -> Stats:
    """Return the store's sums; reads the catalog and the sizes of files only."""
    with parts.database.read() as tx:
        counted = totals.count_all(tx)
        by_encoding = totals.by_encoding(tx)
        read_count = accesses.total(tx, accesses.VERSION)
        for_others = bases.kept_for_others(tx)
        _, copied = copies.stored_bytes(tx)
        on_server = schemas.size_bytes(tx) if parts.database.dialect == "postgresql" else 0
    atom_bytes = sum(row[3] for row in by_encoding)
    needed = atom_bytes - for_others[1]  # by files
    stored = sum(row[4] for row in by_encoding)
    return Stats(
        artifact_count=counted["artifacts"],
        version_count=counted["versions"],
        file_count=counted["files"],
        tensor_count=counted["tensors"],
        atom_count=sum(row[2] for row in by_encoding),
        pack_count=counted["packs"],
        logical_bytes=counted["logical_bytes"],
        distinct_bytes=counted["distinct_bytes"],
        atom_bytes=atom_bytes,
        stored_bytes=stored,
        saved_by_equal_files=counted["logical_bytes"] - counted["live_distinct_bytes"],
        saved_by_equal_atoms=counted["distinct_bytes"] - counted["inline_bytes"] - needed,
        saved_by_encoding=needed - stored,
        held=_held(by_encoding, counted),
        kept_as_bases=Held(
            kind="kept as bases",
            count=for_others[0],
            logical_bytes=for_others[1],
            stored_bytes=for_others[2],
        ),
        copy_bytes=copied,
        trash_version_count=counted["trash_versions"],
        trash_bytes=counted["trash_bytes"],
        dead_bytes=max(0, counted["pack_bytes"] - stored - copied - counted["manifest_bytes"]),
        disk_bytes=_disk(parts, counted["pack_bytes"], on_server),
        read_count=read_count,
    )


def _held(
    by_encoding: Sequence[tuple[int, bool, int, int, int]], counted: dict[str, int]
) -> tuple[Held, ...]:
    """Return how atoms are kept, by encoding, and what lies in manifests."""
    atoms = [
        Held(
            kind="computed exactly" if empty else Encoding(encoding).name.lower(),
            count=count,
            logical_bytes=logical,
            stored_bytes=kept,
        )
        for encoding, empty, count, logical, kept in by_encoding
    ]
    inside = Held(
        kind="inside manifests",
        count=counted["manifests"],
        logical_bytes=counted["inline_bytes"],
        stored_bytes=counted["manifest_bytes"],
    )
    return (*atoms, inside)


def _disk(parts: StoreParts, pack_bytes: int, on_server: int) -> dict[str, int]:
    """Return the bytes on disk of each part of the store's directory, and of a server's catalog."""
    sizes = {"packs": pack_bytes, "catalog": on_server, "cache": 0, "other": 0}
    if not parts.directory.is_dir():
        return sizes
    sizes["packs"] = 0
    for folder, _, names in os.walk(parts.directory):  # passes over what is removed meanwhile
        for name in names:
            path = Path(folder, name)
            with contextlib.suppress(FileNotFoundError):
                top = path.relative_to(parts.directory).parts[0]
                key = "catalog" if top.startswith("catalog.") else top
                sizes[key if key in sizes else "other"] += path.lstat().st_blocks * 512
    return sizes
