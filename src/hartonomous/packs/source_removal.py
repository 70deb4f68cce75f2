"""Removing sources that were moved into the store, each after its copy was read back."""

from collections.abc import Sequence
from pathlib import Path

from hartonomous.catalog import manifests
from hartonomous.errors import IntegrityError, NotFoundError, SourceChangedError, UsageError
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.files import FileReader, load_manifest
from hartonomous.packs.ingest import IngestedFile
from hartonomous.packs.parts import StoreParts, pack_object_key
from hartonomous.packs.source_file import Identity, SourceFile, identity


def remove_sources(
    parts: StoreParts, reader: AtomReader, files: Sequence[IngestedFile]
) -> str | None:
    """Delete the source files, each after its stored copy was read back and compared with it.

    None if all are gone, else why they were kept. None is deleted before all were compared, and
    none that was written to, or replaced, since it was. ``reader`` keeps no frames; packs are read
    from the disk, not from pages that writing left in memory.
    """
    compared: list[Identity] = []
    for file in files:
        found = _compare(parts, reader, file)
        if isinstance(found, str):
            return found
        compared.append(found)
    for file, seen in zip(files, compared, strict=True):
        path = Path(file.source.location)
        try:
            if identity(path.stat()) != seen:
                return f"{file.source.path} changed after it was compared"
            path.unlink()
        except OSError as error:
            return f"{file.source.path} cannot be removed: {error.strerror}"
    return None


def _compare(parts: StoreParts, reader: AtomReader, file: IngestedFile) -> Identity | str:
    """Return which file equals its stored copy, or say why none can be said to."""
    with parts.database.read() as tx:
        row = manifests.by_file_digest(tx, file.digest)
    if row is None:
        raise IntegrityError(f"{file.source.location} was published without its manifest")
    changed = f"{file.source.path} changed after it was read"
    try:
        stored = FileReader(reader, load_manifest(reader, row))
        _evict(parts, reader, stored)
        with SourceFile(file.source.location) as source:
            if source.size != stored.size:
                return changed
            offset = 0
            for block in source.blocks():
                if stored.read(offset, len(block)) != block:
                    return changed
                offset += len(block)
            source.check_unchanged()
            return source.identity
    except IntegrityError as error:
        return (
            f"the stored copy of {file.source.path} is damaged ({error.message}); "
            "'hart verify' marks the damage, and adding the file again then mends it"
        )
    except (NotFoundError, UsageError, SourceChangedError) as error:
        return error.message


def _evict(parts: StoreParts, reader: AtomReader, stored: FileReader) -> None:
    """Have the packs that hold the file's own atoms read from the disk again."""
    names = (one.digest for one in stored.manifest.segments if one.digest is not None)
    places = reader.locate(names).values()
    for key in {extent.pack_key for extents in places for extent in extents}:
        parts.objects.evict(pack_object_key(key))
