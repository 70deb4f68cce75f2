"""Get: exact files out again, under their names, with modes and times, each checked by digest.

A file is written beside its final name and renamed when it is whole and right. A partly written
one is continued by the next get: what is there is hashed, and the rest is added.
"""

import fnmatch
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import msgspec

from hartonomous.catalog import contents, dropped, manifests, resolve, spaces, versions
from hartonomous.core.digest import AtomHasher
from hartonomous.errors import ConflictError, IntegrityError, NotFoundError
from hartonomous.objects.durable import storage_error
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.files import CHUNK_BYTES, FileReader, load_manifest
from hartonomous.packs.member_paths import disk_path, file_path, folder_name, member_path
from hartonomous.packs.open_files import no_file
from hartonomous.packs.output_file import (
    kept_content,
    open_part,
    output_place,
    part_of,
    refuse_linked_folder,
)
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.room import PlannedFile, check_room
from hartonomous.packs.vanished import told_if_removed
from hartonomous.packs.write_out import PIECE_BYTES, FileWriter
from hartonomous.ports.progress import NoProgress, Progress
from hartonomous.sources.files import are_one_set

_TOLD_DAMAGED = 8


class GotFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was written, or was there already with the right bytes (``kept``)."""

    path: str
    logical_bytes: int
    digest: str
    kept: bool = False
    resumed_bytes: int = 0


class GetReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a get wrote, and where."""

    name: str
    number: int
    output: str
    files: tuple[GotFile, ...]
    logical_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    target: Path
    row: manifests.ManifestRow
    mode: int
    modified_us: int


def get(
    parts: StoreParts,
    spec: str,
    output: str | os.PathLike[str] | None = None,
    *,
    members: Iterable[str] = (),
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> GetReport:
    """Write the version that ``spec`` means.

    One file goes to ``output`` (a file, or into a folder that exists or whose path ends in ``/``)
    or under its own name into the working folder; a model folder becomes ``output`` or a folder of
    its name. One member of a folder goes to ``output`` too, unless that is a folder or ends in
    ``/``: then it lies below it under its path. Raises ConflictError when something else is in the
    way and ``force`` is not given; nothing is written then.
    """
    with parts.database.read() as tx:
        row = resolve.version(tx, spec)
        named = tuple(members)
        all_rows, files = contents.of_version(tx, row.id)
        rows = _chosen(all_rows, named, spec)
        own = dropped.is_single_file(tx, row)
    single = len(rows) == 1 and (own or (bool(named) and _is_file_name(output)))
    place = None if output is None else output_place(output)
    into = output is not None and os.fspath(output).endswith("/")
    base = _base(place, row.name, rows, single=single, into=into)
    wanted = [
        _Wanted(
            target=base if single else base / member_path(one),
            row=files[one.manifest_id],
            mode=one.mode,
            modified_us=one.modified_us,
        )
        for one in rows
    ]
    if not dry_run:
        parts.count_read(row.uid, [one.row.file_digest for one in wanted])
    with told_if_removed(parts, row), _Output(parts, progress) as out:
        return out.write_all(
            wanted, name=row.name, number=row.number, base=base, root=base, force=force,
            dry_run=dry_run,
        )  # fmt: skip


def export_all(
    parts: StoreParts,
    output: Path,
    *,
    names: Sequence[str] | None = None,
    all_versions: bool = False,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> list[GetReport]:
    """Write the newest version (or all, in folders ``NAME@N``) of each artifact below ``output``.

    ``names`` are NAME, NAME@X or shell patterns over names; None means everything. Files that lay
    side by side and are one artifact are written so again. Where one artifact's files would lie on
    another's, one of them goes to ``NAME@N``. Raises NotFoundError and ConflictError before
    anything of an artifact is written; IntegrityError for damaged ones once all others are.
    """
    output = output_place(output)
    with parts.database.read() as tx:
        rows = _to_export(tx, names, all_versions=all_versions)
    taken = _Taken()
    # The deepest first: a file in the way of a folder can step aside, not the other way round.
    plans = {
        row.id: _plan(parts, row, output, taken, numbered=all_versions)
        for row in sorted(rows, key=lambda one: -one.name.count("/"))
    }
    reports: list[GetReport] = []
    damaged: list[str] = []
    with _Output(parts, progress) as out:
        for row in rows:
            base, files = plans[row.id]
            try:
                with told_if_removed(parts, row):
                    reports.append(
                        out.write_all(
                            files, name=row.name, number=row.number, base=base, root=output,
                            force=force, dry_run=dry_run,
                        )
                    )  # fmt: skip
            except IntegrityError as error:
                damaged.append(f"{row.name}: {error.message}")
    if damaged:
        raise IntegrityError(
            f"{len(damaged)} of {len(rows)} artifacts could not be written whole, the others are "
            f"below {output}: {'; '.join(damaged[:_TOLD_DAMAGED])}",
            hint="hart verify names what is damaged, and rescue.py writes what is left of it",
        )
    return reports


def _to_export(
    tx: Any, names: Sequence[str] | None, *, all_versions: bool
) -> list[versions.VersionRow]:
    live = versions.live(tx)
    newest = {row.artifact_id: row.id for row in live}
    offered = [row for row in live if all_versions or newest[row.artifact_id] == row.id]
    if names is None:
        return [row for row in offered if row.kind != spaces.KIND]
    chosen: dict[int, versions.VersionRow] = {}
    for name in names:
        chosen.update((row.id, row) for row in _named(tx, name, offered))
    return list(chosen.values())


def _named(tx: Any, name: str, offered: list[versions.VersionRow]) -> list[versions.VersionRow]:
    exact = [row for row in offered if row.name == name]
    if exact or not any(mark in name for mark in "*?["):
        return exact or [resolve.version(tx, name)]
    fitting = [row for row in offered if fnmatch.fnmatchcase(row.name, name)]
    if not fitting:
        raise NotFoundError(f"no artifact fits {name!r}", hint="hart ls shows what is there")
    return fitting


class _Taken:
    """The paths that an export has given away: files, and folders that hold some."""

    def __init__(self) -> None:
        self._files: set[Path] = set()
        self._folders: set[Path] = set()

    def refuses(self, targets: Iterable[Path]) -> bool:
        """Say whether one of the files would lie on, above or below another artifact's file."""
        return any(
            one in self._files or one in self._folders or not self._files.isdisjoint(one.parents)
            for one in targets
        )

    def add(self, targets: Iterable[Path]) -> None:
        """Give paths away."""
        for one in targets:
            self._files.add(one)
            self._folders.update(one.parents)


def _plan(
    parts: StoreParts, row: versions.VersionRow, output: Path, taken: _Taken, *, numbered: bool
) -> tuple[Path, list[_Wanted]]:
    with parts.database.read() as tx:
        members, files = contents.of_version(tx, row.id)
        single = dropped.is_single_file(tx, row)
    side_by_side = are_one_set(row.name.rpartition("/")[2], [one.path for one in members])
    for in_version in (True,) if numbered else (False, True):
        base = output / disk_path(f"{row.name}@{row.number}" if in_version else row.name)
        if side_by_side and not in_version:
            base = base.parent  # as they lay in the tree that they came from
        elif single and in_version:
            base = base / member_path(members[0]).name
        elif single:
            base = output / file_path(row.name, members[0])
        wanted = [
            _Wanted(
                target=base if single else base / member_path(one),
                row=files[one.manifest_id],
                mode=one.mode,
                modified_us=one.modified_us,
            )
            for one in members
        ]
        targets = [one.target for one in wanted]
        if not taken.refuses(targets):
            taken.add(targets)
            return base, wanted
    raise ConflictError(
        f"{row.name}@{row.number} would lie on another artifact's files below {output}",
        hint="export it alone, to another folder",
    )


def _chosen(
    rows: list[versions.MemberRow], members: tuple[str, ...], spec: str
) -> list[versions.MemberRow]:
    if not members:
        return rows
    paths = {one.path for one in rows}
    for wanted in members:
        if wanted not in paths:
            raise no_file(spec, wanted, sorted(paths))
    return [one for one in rows if one.path in members]


def _is_file_name(output: str | os.PathLike[str] | None) -> bool:
    """Say whether one file would be written at ``output`` itself, as cp would."""
    if output is None or os.fspath(output).endswith("/"):
        return False
    return not os.path.isdir(output)  # noqa: PTH112  # the other raises for names too long


def _base(
    output: Path | None, name: str, rows: list[versions.MemberRow], *, single: bool, into: bool
) -> Path:
    own = member_path(rows[0]).name if single else folder_name(name)
    if output is None:
        return Path(own)
    if single and (into or os.path.isdir(output)):  # noqa: PTH112  # the other raises
        return output / own
    return output


class _Output:
    """Writes files of one store; what was read for one is there for the next."""

    def __init__(self, parts: StoreParts, progress: Progress | None) -> None:
        self._reader = AtomReader(parts)
        self._writer = FileWriter(parts.workers)
        self._progress = progress or NoProgress()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._reader.close()

    def write_all(
        self,
        wanted: list[_Wanted],
        *,
        name: str,
        number: int,
        base: Path,
        root: Path,
        force: bool,
        dry_run: bool,
    ) -> GetReport:
        """Write files; first make sure that none is in the way, nor a link below ``root``."""
        for one in wanted:
            refuse_linked_folder(root, one.target)
        kept = {one.target: _is_there(one, force=force) for one in wanted}
        missing = [one for one in wanted if not kept[one.target]]
        _check_room(base, missing)
        self._progress.stage(f"get {name}", total_bytes=sum(one.row.size_bytes for one in wanted))
        if missing and not dry_run:
            self._reader.expect(one.row.id for one in missing)
        done = []
        for one in wanted:
            if kept[one.target] or dry_run:
                resumed = 0
                self._progress.advance(one.row.size_bytes)
            else:
                resumed = _write(self._reader, self._writer, one, root, self._progress)
            done.append(
                GotFile(
                    path=str(one.target),
                    logical_bytes=one.row.size_bytes,
                    digest=f"blake3:{one.row.file_digest.hex()}",
                    kept=kept[one.target],
                    resumed_bytes=resumed,
                )
            )
        return GetReport(
            name=name,
            number=number,
            output=str(base),
            files=tuple(done),
            logical_bytes=sum(one.logical_bytes for one in done),
        )


def _check_room(base: Path, missing: list[_Wanted]) -> None:
    """Raise StorageFullError where the files surely do not fit on the disk."""
    try:
        check_room(
            base,
            [
                PlannedFile(target=one.target, part=_part(one), size_bytes=one.row.size_bytes)
                for one in missing
            ],
        )
    except OSError as error:
        raise storage_error(error, "look for room", base) from error


def _part(one: _Wanted) -> Path:
    """Return where a file is written before it gets its name."""
    return part_of(one.target, one.row.file_digest.hex()[:16])


def _is_there(one: _Wanted, *, force: bool) -> bool:
    """Say whether the target has the right bytes already; refuse anything else."""

    def same(there: BinaryIO) -> bytes | None:
        hasher = AtomHasher()
        while block := there.read(CHUNK_BYTES):
            hasher.update(block)
        return found if (found := hasher.digest()) == one.row.file_digest else None

    return kept_content(one.target, one.row.size_bytes, same, force=force) is not None


def _write(
    reader: AtomReader, writer: FileWriter, one: _Wanted, root: Path, progress: Progress
) -> int:
    """Write one file; return how many bytes an earlier, interrupted get had left."""
    file = FileReader(reader, load_manifest(reader, one.row))
    part = _part(one)
    try:
        one.target.parent.mkdir(parents=True, exist_ok=True)
        refuse_linked_folder(root, one.target)  # again: it may be new
        descriptor = open_part(part)
        try:
            hasher = AtomHasher()
            done = _resume(descriptor, file, hasher, progress)
            writer.write(descriptor, file, hasher, progress, start=done)
            if hasher.digest() != one.row.file_digest:
                os.ftruncate(descriptor, 0)
                raise IntegrityError(
                    f"{one.target} came out with a wrong digest and was not kept",
                    hint="hart verify names what is damaged",
                )
            os.fchmod(descriptor, one.mode & 0o777)
            os.utime(descriptor, ns=(one.modified_us * 1000, one.modified_us * 1000))
            os.fsync(descriptor)
            part.replace(one.target)  # while it is locked: the next get must not take it
        finally:
            os.close(descriptor)
    except OSError as error:
        raise storage_error(
            error, "write a file", one.target, wanted_bytes=one.row.size_bytes
        ) from error
    return done


def _resume(descriptor: int, file: FileReader, hasher: AtomHasher, progress: Progress) -> int:
    """Hash what an interrupted get left; compare each piece with the stored bytes."""
    left = min(os.fstat(descriptor).st_size, file.size)
    done = 0
    for at, length in file.pieces(0, left, PIECE_BYTES):
        piece = os.pread(descriptor, length, at)
        if file.read(at, length) != piece:
            break
        hasher.update(piece)
        done += length
        progress.advance(length)
    os.ftruncate(descriptor, done)
    return done
