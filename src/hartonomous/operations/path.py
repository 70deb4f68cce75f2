"""Path: a plain file or folder from the read-only cache, for tools that open files themselves."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from hartonomous.catalog import contents, dropped, resolve, versions
from hartonomous.catalog.manifests import ManifestRow
from hartonomous.core.digest import AtomHasher, ContentHasher, format_digest
from hartonomous.errors import IntegrityError, NotFoundError
from hartonomous.objects.plain_cache import PlainCache, held_bytes
from hartonomous.objects.plain_file import PlainFile
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.files import CHUNK_BYTES, FileReader, load_manifest
from hartonomous.packs.member_paths import folder_name, member_path
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.plain_files import HOUR_US, plain_cache
from hartonomous.packs.write_out import FileWriter
from hartonomous.ports.progress import NoProgress, Progress
from hartonomous.sources.files import split_set_of


class Plain(msgspec.Struct, frozen=True, kw_only=True):
    """Where a version, or one file of it, lies as plain files. ``os.fspath`` gives the path.

    ``sha256`` is the file's, or that of the sorted lines ``<hex SHA-256>  <path>\\n`` of a folder.
    ``built`` says that something had to be written; ``notes`` what the user should know.
    """

    path: str
    name: str
    number: int
    sha256: str
    file_count: int
    logical_bytes: int
    built: bool
    notes: tuple[str, ...] = ()

    def __fspath__(self) -> str:
        """Return the absolute path."""
        return self.path


class PlainHeld(msgspec.Struct, frozen=True, kw_only=True):
    """One thing in the cache; ``in_use`` says that it was given out lately and stays."""

    path: str
    sha256: str
    file_count: int
    logical_bytes: int
    used_us: int
    in_use: bool


class PlainCleared(msgspec.Struct, frozen=True, kw_only=True):
    """What was removed from the cache, and what stays because it was given out lately."""

    removed_count: int
    freed_bytes: int
    kept_count: int
    kept_bytes: int


def path(
    parts: StoreParts,
    spec: str,
    *,
    file: str | None = None,
    cache_bytes: int,
    keep_hours: int,
    progress: Progress | None = None,
) -> Plain:
    """Return where the version that ``spec`` means lies as a plain file or folder, read-only.

    ``file`` names one of its files; a part of a split GGUF set comes with the other parts. It stays
    there for ``keep_hours`` at least. Raises NotFoundError, IntegrityError when stored bytes are
    damaged, and StorageFullError.
    """
    progress = progress or NoProgress()
    with parts.database.read() as tx:
        version = resolve.version(tx, spec)
        members, rows = contents.of_version(tx, version.id)
        own_file = dropped.is_single_file(tx, version)
    chosen = _chosen(members, file, spec)
    single = len(chosen) == 1 and (file is not None or own_file)
    by_sha256: dict[bytes, ManifestRow] = {}
    files = []
    for one in chosen:
        row = rows[one.manifest_id]
        by_sha256[row.sha256] = row
        place = None if single else member_path(one)
        files.append(PlainFile(path=place, sha256=row.sha256, size=row.size_bytes))
    own = member_path(chosen[0]).name if single else folder_name(version.name)
    key = files[0].sha256 if single else _folder_key(files)
    cache = plain_cache(parts, cache_bytes=cache_bytes, keep_hours=keep_hours)
    target, built = _place(
        parts, cache, key=key, own=own, files=files, contents=by_sha256, progress=progress
    )
    if file is not None and not single:
        target = target / member_path(next(one for one in chosen if one.path == file))
    return Plain(
        path=str(target),
        name=version.name,
        number=version.number,
        sha256=format_digest(key, "sha256"),
        file_count=len(files),
        logical_bytes=sum(one.size for one in files),
        built=built,
        notes=_notes(cache) if built else (),
    )


def listing(parts: StoreParts, *, keep_hours: int) -> list[PlainHeld]:
    """Return what is in the cache, the least recently used first."""
    cache = plain_cache(parts, cache_bytes=0, keep_hours=keep_hours)
    return [
        PlainHeld(
            path=str(entry.path),
            sha256=format_digest(entry.key, "sha256"),
            file_count=entry.file_count,
            logical_bytes=entry.logical_bytes,
            used_us=entry.used_us,
            in_use=cache.in_use(entry),
        )
        for entry in cache.entries()
    ]


def clear(parts: StoreParts, *, keep_hours: int, force: bool = False) -> PlainCleared:
    """Empty the cache; ``force`` removes what was given out in the last ``keep_hours`` too."""
    cache = plain_cache(parts, cache_bytes=0, keep_hours=keep_hours)
    removed = cache.clear(forced=force)
    return PlainCleared(
        removed_count=removed.entry_count,
        freed_bytes=removed.freed_bytes,
        kept_count=removed.kept_count,
        kept_bytes=removed.kept_bytes,
    )


def _chosen(
    members: list[versions.MemberRow], file: str | None, spec: str
) -> list[versions.MemberRow]:
    """Return the members that are asked for: all, one, or the parts of one split set."""
    if file is None:
        return members
    if all(one.path != file for one in members):
        names = sorted(one.path for one in members)
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        raise NotFoundError(
            f"{spec} has no file {file!r}", hint=f"it has {', '.join(names[:8])}{more}"
        )
    folder, _, own = file.rpartition("/")
    described = split_set_of(own)
    if described is None:
        return [one for one in members if one.path == file]
    return [
        one
        for one in members
        if one.path.rpartition("/")[0] == folder
        and split_set_of(one.path.rpartition("/")[2]) == described
    ]


def _folder_key(files: Iterable[PlainFile]) -> bytes:
    lines = sorted((os.fsencode(one.path or ""), one.sha256.hex().encode()) for one in files)
    content = b"".join(sha256 + b"  " + place + b"\n" for place, sha256 in lines)
    return hashlib.sha256(content).digest()


def _place(
    parts: StoreParts,
    cache: PlainCache,
    *,
    key: bytes,
    own: str,
    files: list[PlainFile],
    contents: dict[bytes, ManifestRow],
    progress: Progress,
) -> tuple[Path, bool]:
    reader = AtomReader(parts)

    def write(descriptor: int, file: PlainFile) -> None:
        row = contents[file.sha256]
        hasher = ContentHasher()
        writer.write(descriptor, FileReader(reader, load_manifest(reader, row)), hasher, progress)
        if (hasher.digest(), hasher.sha256()) != (row.file_digest, row.sha256):
            raise IntegrityError(
                f"{file.path or own} came out with a wrong digest and was not kept",
                hint="hart verify names what is damaged",
            )

    def check(descriptor: int, file: PlainFile) -> bool:
        hasher = AtomHasher()
        for start in range(0, file.size, CHUNK_BYTES):
            hasher.update(os.pread(descriptor, CHUNK_BYTES, start))
        return hasher.digest() == contents[file.sha256].file_digest

    progress.stage(f"plain {own}", total_bytes=sum(one.size for one in files))
    try:
        with FileWriter(parts.workers, cached=True) as writer:  # whoever asked reads it next
            return cache.place(key, own, files, write=write, check=check)
    finally:
        reader.close()


def _notes(cache: PlainCache) -> tuple[str, ...]:
    entries = cache.entries()
    held = held_bytes(entries)
    if held <= cache.limit_bytes:
        return ()
    used = sum(cache.in_use(entry) for entry in entries)
    return (
        f"the cache of plain files holds {held:,} bytes, more than its limit of "
        f"{cache.limit_bytes:,}: {used} of its {len(entries)} entries were given out in the last "
        f"{cache.keep_us // HOUR_US} hours and stay",
    )
