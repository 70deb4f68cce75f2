"""Reading files: any byte range of a stored file, put together from its segments."""

from collections.abc import Iterator

from hartonomous.catalog.manifests import ManifestRow
from hartonomous.core import manifest as manifests
from hartonomous.core.digest import digest
from hartonomous.core.manifest import Manifest, SegmentMap
from hartonomous.core.record import RecordKind
from hartonomous.errors import IntegrityError, NotFoundError
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.frames import decode_record_whole

MAX_MANIFEST_BYTES = 512 * 1024 * 1024
CHUNK_BYTES = 4 * 1024 * 1024
_LOOKAHEAD = 512
_ATTEMPTS = 8


def load_manifest(atoms: AtomReader, row: ManifestRow) -> Manifest:
    """Read and check a stored file's manifest; raises IntegrityError.

    A compaction may have moved it since ``row`` was read: then it is looked up again.
    """
    for _ in range(_ATTEMPTS):
        try:
            return _read_manifest(atoms, row)
        except NotFoundError as error:
            now = atoms.manifest_row(row.file_digest)
            if now is None or (now.pack_key, now.header_offset) == (
                row.pack_key,
                row.header_offset,
            ):
                raise IntegrityError(
                    f"the manifest of blake3:{row.file_digest.hex()} is gone: {error.message}",
                    hint="hart verify names everything that is damaged",
                ) from error
            row = now
    raise IntegrityError(f"the manifest of blake3:{row.file_digest.hex()} moves all the time")


def _read_manifest(atoms: AtomReader, row: ManifestRow) -> Manifest:
    pack, header = atoms.record(row.pack_key, row.header_offset)
    if header.kind is not RecordKind.MANIFEST or header.digest != row.digest:
        raise IntegrityError(
            f"pack {pack.name} holds another record at {row.header_offset} than the manifest of "
            f"blake3:{row.file_digest.hex()}",
            hint="hart repair rebuilds the catalog from the packs",
        )
    content = decode_record_whole(pack, header, limit=MAX_MANIFEST_BYTES)
    if digest(content) != row.digest:
        raise IntegrityError(f"the manifest of blake3:{row.file_digest.hex()} has a wrong digest")
    manifest = manifests.decode(content)
    if manifest.digest != row.file_digest or manifest.size != row.size_bytes:
        raise IntegrityError(
            f"the manifest of blake3:{row.file_digest.hex()} is that of another file"
        )
    return manifest


class FileReader:
    """The bytes of one stored file by range; safe to use from several threads."""

    def __init__(self, atoms: AtomReader, manifest: Manifest) -> None:
        self._atoms = atoms
        self._map = SegmentMap(manifest.segments)
        self.manifest = manifest
        self.size = manifest.size

    def read_into(self, offset: int, out: memoryview) -> None:
        """Fill ``out`` with the file's bytes from ``offset``."""
        spans = list(self._map.spans(offset, len(out)))
        for first in range(0, len(spans), _LOOKAHEAD):
            window = spans[first : first + _LOOKAHEAD]
            if len(window) > 1:
                self._atoms.locate(
                    segment.digest for segment, _, _ in window if segment.digest is not None
                )
            for segment, start, stop in window:
                target, out = out[: stop - start], out[stop - start :]
                if segment.inline is not None:
                    target[:] = segment.inline[start:stop]
                elif segment.digest is not None:
                    self._atoms.read_into(segment.digest, start, target)

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``."""
        out = bytearray(length)
        self.read_into(offset, memoryview(out))
        return bytes(out)

    def view(self, offset: int, length: int) -> memoryview:
        """Return a read-only view: of the pack itself where the range lies raw, else of a copy."""
        spans = list(self._map.spans(offset, length))
        if len(spans) == 1 and spans[0][0].digest is not None:
            segment, start, _ = spans[0]
            found = self._atoms.view(segment.digest or b"", start, length)
            if found is not None:
                return found
        out = bytearray(length)
        self.read_into(offset, memoryview(out))
        return memoryview(out).toreadonly()

    def chunks(
        self, offset: int = 0, length: int | None = None, size: int = CHUNK_BYTES
    ) -> Iterator[bytes]:
        """Yield the range in pieces of at most ``size`` bytes."""
        end = self.size if length is None else offset + length
        while offset < end:
            piece = min(size, end - offset)
            yield self.read(offset, piece)
            offset += piece
