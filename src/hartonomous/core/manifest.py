"""Manifests: the ordered segments that partition a file, and what a parser said of it.

Every byte of the file belongs to exactly one segment. A segment is an atom, or a few bytes that
lie in the manifest itself. A tensor is a byte range of the file, that is a view over segments.
On disk a manifest is JSON (see docs/format.md); ``encode`` is deterministic.
"""

import bisect
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import msgspec

from hartonomous.core.description import Description, Tensor
from hartonomous.core.digest import DIGEST_BYTES
from hartonomous.core.json_size import refuse_many_values
from hartonomous.core.undecodable import UNDECODABLE
from hartonomous.errors import IntegrityError

INLINE_BYTES = 64
"""A segment of at most this many bytes lies in the manifest instead of in an atom."""

MANIFEST_VERSION = 1
MAX_NUMBER = 2**63 - 1
"""The largest size, offset or extent of a shape; a catalog holds no larger integer."""


class Segment(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``length`` bytes of a file: the whole of an atom (``digest``) or ``inline`` bytes."""

    length: int
    digest: bytes | None = None
    inline: bytes | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """How one file is rebuilt and what is in it.

    ``digest`` is the BLAKE3 and ``sha256`` the SHA-256 of the file's bytes, ``size`` its length.
    """

    version: int = MANIFEST_VERSION
    size: int
    digest: bytes
    sha256: bytes
    segments: tuple[Segment, ...]
    description: Description


class Piece(msgspec.Struct, frozen=True, gc=False):
    """A byte range of a file that will become one segment; a tensor's dtype steers its codec."""

    offset: int
    length: int
    dtype: str | None = None


def partition(size: int, tensors: Sequence[Tensor]) -> list[Piece]:
    """Cut ``[0, size)`` at every tensor boundary.

    A range that exactly one tensor (or several of the same dtype) covers whole carries its dtype;
    what no tensor covers, and what tensors overlap partly, carries None. Tensors must lie inside
    the file; empty and coded ones cut nothing.
    """
    cuts = {0, size}
    dtypes: dict[tuple[int, int], str | None] = {}
    for tensor in tensors:
        if tensor.length == 0:
            continue
        end = tensor.offset + tensor.length
        if tensor.offset < 0 or end > size:
            raise ValueError(f"tensor {tensor.name!r} lies outside the file of {size} bytes")
        if tensor.coding is not None:
            continue
        cuts.update((tensor.offset, end))
        span = (tensor.offset, end)
        if dtypes.setdefault(span, tensor.dtype) != tensor.dtype:
            dtypes[span] = None
    pieces = [
        Piece(start, end - start, dtypes.get((start, end))) for start, end in pairwise(sorted(cuts))
    ]
    return [piece for piece in pieces if piece.length]


def encode(manifest: Manifest) -> bytes:
    """Return the manifest's JSON; equal manifests give equal bytes."""
    return msgspec.json.encode(manifest, order="deterministic")


def decode(content: bytes | memoryview) -> Manifest:
    """Read a manifest; raises IntegrityError if it is none or its segments do not add up."""
    refuse_many_values(bytes(content))
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except UNDECODABLE as error:
        raise IntegrityError(f"this record is not a manifest: {error}") from error
    if manifest.version != MANIFEST_VERSION:
        raise IntegrityError(f"manifest version {manifest.version} is unknown to this program")
    _check_bounds(manifest)
    if sum(segment.length for segment in manifest.segments) != manifest.size:
        raise IntegrityError("the manifest's segments do not add up to the file's size")
    for segment in manifest.segments:
        held = segment.inline
        if (held is None) == (segment.digest is None):
            raise IntegrityError("a segment of the manifest is neither an atom nor inline bytes")
        if held is not None and len(held) != segment.length:
            raise IntegrityError("an inline segment of the manifest has the wrong length")
    return manifest


def _check_bounds(manifest: Manifest) -> None:
    """Raise IntegrityError where a number is none that a file or the catalog could have."""
    lengths = [segment.length for segment in manifest.segments]
    if 0 in lengths:
        raise IntegrityError("a segment of the manifest is empty")
    numbers = [manifest.size, *lengths]
    for tensor in manifest.description.tensors:
        numbers += (tensor.offset, tensor.length, *tensor.shape, *(tensor.strides or ()))
        if tensor.coding is not None:
            numbers += (tensor.coding.skip, tensor.coding.length)
    if min(numbers) < 0 or max(numbers) > MAX_NUMBER:
        raise IntegrityError("a number of the manifest is negative or beyond 64 bits")
    names = [manifest.digest, manifest.sha256]
    names += [segment.digest for segment in manifest.segments if segment.digest is not None]
    if any(len(name) != DIGEST_BYTES for name in names):
        raise IntegrityError("a digest of the manifest has another length than 32 bytes")


class SegmentMap:
    """Finds the segments under a byte range of the file in logarithmic time."""

    __slots__ = ("_starts", "segments", "size")

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.segments = segments
        self._starts = [0, *accumulate(segment.length for segment in segments)]
        self.size = self._starts[-1]

    def start_of(self, offset: int) -> int:
        """Return where the segment begins that holds the byte at ``offset``."""
        return self._starts[bisect.bisect_right(self._starts, offset) - 1]

    def spans(self, offset: int, length: int) -> Iterator[tuple[Segment, int, int]]:
        """Yield ``(segment, start, stop)`` in file order, start and stop inside the segment."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"[{offset}, {offset + length}) is outside the {self.size} bytes")
        if length == 0:
            return
        index = bisect.bisect_right(self._starts, offset) - 1
        end = offset + length
        while offset < end:
            segment, base = self.segments[index], self._starts[index]
            stop = min(end, base + segment.length)
            if stop > offset:
                yield segment, offset - base, stop - base
            offset, index = stop, index + 1
