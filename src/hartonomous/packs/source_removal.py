"""Removing sources that were moved into the store, each after its copy was read back."""

from collections.abc import Sequence
from pathlib import Path

from hartonomous.catalog import manifests
from hartonomous.errors import IntegrityError, NotFoundError, SourceChangedError, UsageError
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.files import FileReader, load_manifest
from hartonomous.packs.ingest import IngestedFile
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.source_file import SourceFile


def remove_sources(
    parts: StoreParts, reader: AtomReader, files: Sequence[IngestedFile]
) -> str | None:
    """Delete the source files, each after its stored copy was read back and compared with it.

    None if all are gone, else why they were kept. None is deleted before all were compared.
    """
    for file in files:
        kept = _differs(parts, reader, file)
        if kept is not None:
            return kept
    for file in files:
        try:
            Path(file.source.location).unlink()
        except OSError as error:
            return f"{file.source.path} cannot be removed: {error.strerror}"
    return None


def _differs(parts: StoreParts, reader: AtomReader, file: IngestedFile) -> str | None:
    """Say how a source differs from its stored copy; None if it does not."""
    with parts.database.read() as tx:
        row = manifests.by_file_digest(tx, file.digest)
    if row is None:
        raise IntegrityError(f"{file.source.location} was published without its manifest")
    try:
        stored = FileReader(reader, load_manifest(reader, row))
        with SourceFile(file.source.location) as source:
            offset = 0
            for block in source.blocks():
                if offset + len(block) > stored.size or stored.read(offset, len(block)) != block:
                    return f"{file.source.path} changed after it was read"
                offset += len(block)
            return (
                None if offset == stored.size else f"{file.source.path} changed after it was read"
            )
    except IntegrityError as error:
        return (
            f"the stored copy of {file.source.path} is damaged ({error.message}); "
            "'hart verify' marks the damage, and adding the file again then mends it"
        )
    except (NotFoundError, UsageError, SourceChangedError) as error:
        return error.message
