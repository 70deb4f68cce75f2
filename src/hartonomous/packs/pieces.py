"""Pieces of a source: hashed while its blocks go by, read frame by frame, cut by content."""

from collections.abc import Iterator, Sequence

from hartonomous.core.chunking import cut_lengths
from hartonomous.core.digest import AtomHasher, digest
from hartonomous.core.elements import Indices, ReadRanges
from hartonomous.core.manifest import Piece
from hartonomous.core.record import FRAME_BYTES
from hartonomous.errors import SourceChangedError
from hartonomous.packs.frames import split_frames
from hartonomous.ports.source import ReadSource


class PieceHasher:
    """Hashes the pieces of a file while its blocks go by; a single piece is the file's own hash."""

    def __init__(self, pieces: Sequence[Piece], digests: dict[int, bytes]) -> None:
        self._waiting = iter(pieces if len(pieces) > 1 else ())
        self._digests = digests
        self._piece = next(self._waiting, None)
        self._hasher: AtomHasher | None = None  # of a piece that began in a block before
        self._position = 0

    def update(self, block: bytes) -> None:
        """Take the next block of the file."""
        view = memoryview(block)
        start, self._position = self._position, self._position + len(block)
        while self._piece is not None and self._piece.offset < self._position:
            end = self._piece.offset + self._piece.length
            part = view[max(0, self._piece.offset - start) : end - start]
            if self._hasher is None and end <= self._position:
                self._digests[self._piece.offset] = digest(part)
            else:
                self._hasher = self._hasher or AtomHasher()
                self._hasher.update(part)
                if end > self._position:
                    return
                self._digests[self._piece.offset] = self._hasher.digest()
                self._hasher = None
            self._piece = next(self._waiting, None)


class WholeFrames(Sequence[memoryview]):
    """The whole frames of a piece, each read when it is asked for."""

    def __init__(self, source: ReadSource, piece: Piece) -> None:
        self._source = source
        self._piece = piece

    def __len__(self) -> int:
        return self._piece.length // FRAME_BYTES

    def __getitem__(self, index: int) -> memoryview:  # type: ignore[override]  # no slices
        start = self._piece.offset + index * FRAME_BYTES
        return memoryview(self._source.read(start, FRAME_BYTES))


def checked_frames(source: ReadSource, piece: Piece, name: bytes) -> Iterator[memoryview]:
    """Yield a tensor's frames; the last one only if all of them still have the digest ``name``."""
    hasher = AtomHasher()
    left = piece.length
    for block in source.blocks(piece.offset, piece.length):
        hasher.update(block)
        left -= len(block)
        if left == 0:
            check_same(source, hasher.digest(), name)
        yield from split_frames(block)


def check_same(source: ReadSource, now: bytes, before: bytes) -> None:
    """Compare the passes' digests: times and sizes do not tell every change."""
    if now != before:
        raise changed_source(source)


def changed_source(source: ReadSource) -> SourceChangedError:
    """Return the error for a source that changed while it was being read."""
    return SourceChangedError(
        f"{source.location} changed while it was being read",
        hint="add it again once nothing writes to it",
    )


def chunks_of(source: ReadSource, piece: Piece) -> Iterator[bytes]:
    """Yield the content-defined chunks of a piece; holds one block and one chunk."""
    held = bytearray()

    def feed() -> Iterator[memoryview]:
        for block in source.blocks(piece.offset, piece.length):
            held.extend(block)
            yield memoryview(block)

    for length in cut_lengths(feed()):
        chunk = bytes(held[:length])
        del held[:length]
        yield chunk


def ranges_of_piece(source: ReadSource, piece: Piece) -> ReadRanges:
    """Return a reader of ranges of a piece, wherever they lie in the source."""

    def read(offsets: Indices, length: int) -> bytes:
        return b"".join([source.read(at, length) for at in (offsets + piece.offset).tolist()])

    return read
