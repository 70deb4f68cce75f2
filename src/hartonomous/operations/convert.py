"""Convert (`hart get --as safetensors`): tensors of a version as safetensors files, without loss.

What the format cannot carry is named before anything is written. Tensors keep their bits; views
that do not lie in C order are written in it, tensors that share a storage each get bytes of their
own. Files without tensors are written as they are.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from hartonomous.catalog import contents, dropped, manifests, resolve, versions
from hartonomous.core.digest import AtomHasher
from hartonomous.errors import ConflictError, UsageError
from hartonomous.objects.durable import storage_error
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.converted_file import (
    ConvertedFile,
    LeftOut,
    convert_file,
    told_together,
)
from hartonomous.packs.files import CHUNK_BYTES, FileReader, load_manifest
from hartonomous.packs.member_paths import disk_path, folder_name, member_path
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
from hartonomous.packs.write_out import FileWriter
from hartonomous.ports.progress import NoProgress, Progress
from hartonomous.sources.files import WEIGHT_ENDINGS

SUFFIX = ".safetensors"
_TOLD = 8


class ConvertedMember(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was written; ``source`` is the member that it comes from.

    ``digest`` is None in a dry run. ``converted`` is False for what is written as it is stored.
    """

    path: str
    source: str
    logical_bytes: int
    digest: str | None
    converted: bool
    kept: bool


class ConvertReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was written, and what the format could not carry."""

    name: str
    number: int
    output: str
    files: tuple[ConvertedMember, ...]
    left_out: tuple[LeftOut, ...]
    logical_bytes: int
    dry_run: bool = False


class _Planned(msgspec.Struct, frozen=True, kw_only=True):
    target: Path
    source: str
    file: FileReader | ConvertedFile
    converted: bool
    mode: int
    modified_us: int


def convert(
    parts: StoreParts,
    spec: str,
    output: str | os.PathLike[str] | None = None,
    *,
    partial: bool = False,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ConvertReport:
    """Write the version that ``spec`` means with its tensors in safetensors files.

    Names end in ``.safetensors`` instead of what they ended in. Raises UsageError where something
    cannot be carried over and ``partial`` is not given, ConflictError where another file is in the
    way and ``force`` is not; nothing is written then.
    """
    progress = progress or NoProgress()
    with parts.database.read() as tx:
        row = resolve.version(tx, spec)
        members, rows = contents.of_version(tx, row.id)
        single = dropped.is_single_file(tx, row)
    reader = AtomReader(parts)
    try:
        left_out: list[LeftOut] = []
        base = _base(output, row.name, members, single=single)
        with told_if_removed(parts, row):
            planned = [
                _plan(reader, member, rows[member.manifest_id], base, left_out, single=single)
                for member in members
            ]
            _refuse(spec, planned, left_out, partial=partial)
            done = _write_all(parts, planned, base, progress, force=force, dry_run=dry_run)
    finally:
        reader.close()
    return ConvertReport(
        name=row.name,
        number=row.number,
        output=str(base),
        files=tuple(done),
        left_out=tuple(left_out),
        logical_bytes=sum(one.logical_bytes for one in done),
        dry_run=dry_run,
    )


def _base(
    output: str | os.PathLike[str] | None,
    name: str,
    members: Sequence[versions.MemberRow],
    *,
    single: bool,
) -> Path:
    own = _renamed(member_path(members[0])).name if single else folder_name(name)
    if output is None:
        return Path(own)
    place = output_place(output)
    is_folder = os.path.isdir(place)  # noqa: PTH112  # the other raises
    into = single and (is_folder or os.fspath(output).endswith("/"))
    return place / own if into else place


def _renamed(path: Path) -> Path:
    """Return the path with another ending: in the place of one that is known, else behind it."""
    if path.suffix == SUFFIX:
        return path
    known = path.suffix in (*WEIGHT_ENDINGS, ".npy")
    named = path.with_suffix(SUFFIX) if known else path.parent / (path.name + SUFFIX)
    return named.with_name(disk_path(named.name).name)  # it is longer


def _plan(
    reader: AtomReader,
    member: versions.MemberRow,
    row: manifests.ManifestRow,
    base: Path,
    left_out: list[LeftOut],
    *,
    single: bool,
) -> _Planned:
    stored = FileReader(reader, load_manifest(reader, row))
    path = member_path(member)
    file: FileReader | ConvertedFile = stored
    converted = stored.manifest.description.format != "safetensors" and _has_tensors(stored)
    if converted:
        file = convert_file(member.path, stored, left_out)
        path = _renamed(path)
    return _Planned(
        target=base if single else base / path,
        source=member.path,
        file=file,
        converted=converted,
        mode=member.mode,
        modified_us=member.modified_us,
    )


def _has_tensors(stored: FileReader) -> bool:
    description = stored.manifest.description
    return bool(description.tensors or description.metadata.get("compressed"))


def _refuse(
    spec: str, planned: Sequence[_Planned], left_out: Sequence[LeftOut], *, partial: bool
) -> None:
    if not any(one.converted for one in planned):
        raise UsageError(
            f"{spec} has no tensors that would be converted",
            hint=f"hart get {spec!r} writes its files as they are",
        )
    taken: set[Path] = set()
    for one in planned:
        if one.target in taken:
            raise ConflictError(
                f"several files of {spec} would become {one.target.name}",
                hint="get them one at a time, under names of their own",
            )
        taken.add(one.target)
    if left_out and not partial:
        lines = told_together(left_out)
        more = f"; and {len(lines) - _TOLD} more reasons" if len(lines) > _TOLD else ""
        raise UsageError(
            f"safetensors cannot carry all of {spec}: {'; '.join(lines[:_TOLD])}{more}",
            hint="--partial writes the rest and names what it leaves out (partial=True in Python)",
        )


def _write_all(
    parts: StoreParts,
    planned: Sequence[_Planned],
    base: Path,
    progress: Progress,
    *,
    force: bool,
    dry_run: bool,
) -> list[ConvertedMember]:
    for one in planned:
        refuse_linked_folder(base, one.target)
    kept = {one.target: _is_there(one, force=force) for one in planned}
    missing = [one for one in planned if not kept[one.target]]
    try:
        check_room(
            base,
            [
                PlannedFile(target=one.target, part=_part(one), size_bytes=one.file.size)
                for one in missing
            ],
        )
    except OSError as error:
        raise storage_error(error, "look for room", base) from error
    done = []
    progress.stage("convert", total_bytes=sum(one.file.size for one in missing))
    with FileWriter(parts.workers) as writer:
        for one in planned:
            digest = kept[one.target]
            if digest is None and not dry_run:
                digest = _write(writer, one, base, progress)
            done.append(
                ConvertedMember(
                    path=str(one.target),
                    source=one.source,
                    logical_bytes=one.file.size,
                    digest=None if digest is None else f"blake3:{digest.hex()}",
                    converted=one.converted,
                    kept=kept[one.target] is not None,
                )
            )
    return done


def _part(one: _Planned) -> Path:
    """Return where a file is written before it gets its name."""
    return part_of(one.target, f"{one.file.size:x}")


def _is_there(one: _Planned, *, force: bool) -> bytes | None:
    """Return the digest of a target that has the right bytes already; refuse anything else."""

    def same(there: BinaryIO) -> bytes | None:
        hasher = AtomHasher()
        for at, length in one.file.pieces(size=CHUNK_BYTES):
            wanted = memoryview(bytearray(length))
            one.file.decode_into(wanted, at)
            if there.read(length) != wanted:
                return None
            hasher.update(wanted)
        return hasher.digest()

    return kept_content(one.target, one.file.size, same, force=force)


def _write(writer: FileWriter, one: _Planned, root: Path, progress: Progress) -> bytes:
    """Write one file, synced before it gets its name; return its digest."""
    part = _part(one)
    hasher = AtomHasher()
    try:
        one.target.parent.mkdir(parents=True, exist_ok=True)
        refuse_linked_folder(root, one.target)  # again: it may be new
        descriptor = open_part(part)
        try:
            os.ftruncate(descriptor, 0)
            writer.write(descriptor, one.file, hasher, progress)
            os.fchmod(descriptor, one.mode & 0o777)
            os.utime(descriptor, ns=(one.modified_us * 1000, one.modified_us * 1000))
            os.fsync(descriptor)
            part.replace(one.target)
        except BaseException:
            part.unlink(missing_ok=True)  # what is converted is not gone on with
            raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise storage_error(
            error, "write a file", one.target, wanted_bytes=one.file.size
        ) from error
    return hasher.digest()
