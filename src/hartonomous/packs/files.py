"""Reading files: any byte range of a stored file, put together from its segments."""

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from hartonomous.catalog.manifests import ManifestRow, TensorRow
from hartonomous.core import manifest as manifests
from hartonomous.core.description import Tensor
from hartonomous.core.digest import digest
from hartonomous.core.manifest import Manifest, SegmentMap
from hartonomous.core.record import FRAME_BYTES, RecordKind
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

    def described(self, row: TensorRow) -> Tensor:
        """Return what the manifest says of a tensor that the catalog tells of.

        The catalog knows where it lies without the manifest; the manifest has a digest, the row has
        none, so bytes are read only where both say the same. Raises IntegrityError if they do not.
        """
        found = self._described.get((row.name, row.dtype, row.shape, row.offset, row.length))
        if found is None:
            raise IntegrityError(
                f"the catalog is damaged: the manifest of blake3:{self.manifest.digest.hex()} tells"
                f" of no tensor {row.name!r} as the catalog has it",
                hint="hart repair rebuilds the catalog from the packs",
            )
        return found

    @cached_property
    def _described(self) -> dict[tuple[object, ...], Tensor]:
        return {
            (one.name, one.dtype, one.shape, one.offset, one.length): one
            for one in self.manifest.description.tensors
        }

    def decode_into(self, out: memoryview, start: int = 0) -> None:
        """Fill ``out`` with the file's bytes from ``start``; raises IntegrityError."""
        batch = self._atoms.batch()
        spans = list(self._map.spans(start, len(out)))
        for first in range(0, len(spans), _LOOKAHEAD):
            window = spans[first : first + _LOOKAHEAD]
            if len(window) > 1:
                self._atoms.locate(
                    segment.digest for segment, _, _ in window if segment.digest is not None
                )
            for segment, begin, end in window:
                target, out = out[: end - begin], out[end - begin :]
                if segment.inline is not None:
                    target[:] = segment.inline[begin:end]
                elif segment.digest is not None:
                    self._atoms.gather(batch, segment.digest, target, begin)
        batch.decode()

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``."""
        return bytes(self.view(offset, length))

    def view(self, offset: int, length: int) -> memoryview:
        """Return a read-only view: of the pack itself where the range lies raw, else of a copy.

        It stays valid whatever becomes of the store.
        """
        found = self.raw_view(offset, length)
        if found is not None:
            return found
        out = fresh_memory(length)
        self.decode_into(out, offset)
        return out.toreadonly()

    def raw_view(self, offset: int, length: int) -> memoryview | None:
        """Return a checked, read-only view of the pack, None where the range is not all raw."""
        spans = self._map.spans(offset, length)
        first = next(spans, None)
        if first is None or first[0].digest is None or first[2] - first[1] != length:
            return None
        return self._atoms.view(first[0].digest, first[1], length)

    def pieces(
        self, offset: int = 0, length: int | None = None, size: int = CHUNK_BYTES
    ) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) of at most ``size`` bytes that partition a range, in order.

        They end where frames end, so that reading one after the other decodes no frame twice.
        """
        end = self.size if length is None else offset + length
        while offset < end:
            stop = min(offset + size, end)
            if stop < end:
                begin = self._map.start_of(stop)
                border = stop - (stop - begin) % FRAME_BYTES
                stop = border if border > offset else stop
            yield offset, stop - offset
            offset = stop

    def chunks(
        self, offset: int = 0, length: int | None = None, size: int = CHUNK_BYTES
    ) -> Iterator[memoryview]:
        """Yield the range in read-only views of at most ``size`` bytes."""
        for start, count in self.pieces(offset, length, size):
            yield self.view(start, count)


def fresh_memory(length: int) -> memoryview:
    """Return ``length`` bytes of new memory, whatever is in it."""
    memory: memoryview = np.empty(length, np.uint8).data
    return memory
