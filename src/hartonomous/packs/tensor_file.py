"""A safetensors file of tensors in memory, read as if it lay on a disk; it never does.

``TensorFile`` is for tensors that are all there: header and memory are read in the file's order,
twice, as any file is. ``TensorStream`` is for tensors that come one at a time. The header stands
first in the file and needs all of their sizes, so each tensor is stored as it comes (atoms may be
stored in any order), and the file is then read from its header and from the stored atoms, for its
digests. Of either kind the file's bytes are the same: those that the safetensors library writes.
"""

import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from hartonomous.core.given_tensor import GivenTensor, TensorBytes, given_tensor
from hartonomous.core.manifest import INLINE_BYTES
from hartonomous.core.safetensors_writer import TensorEntry, header_bytes, in_file_order
from hartonomous.errors import StructureError, UsageError
from hartonomous.formats.safetensors import SAFETENSORS
from hartonomous.packs.source_file import BLOCK_BYTES
from hartonomous.ports.source import TensorKeeper

Read = Callable[[int, int], bytes]
"""Returns ``length`` bytes from ``offset`` of one tensor."""


class JoinedSource:
    """Parts that follow one another, each with its length and a way to read it."""

    def __init__(self, location: str, parts: Sequence[tuple[int, Read]]) -> None:
        self.location = location
        self._reads = [read for length, read in parts if length]
        self._starts = [0, *accumulate(length for length, _ in parts if length)]
        self.size = self._starts[-1]

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``; raises StructureError past the end."""
        end = offset + length
        if offset < 0 or end > self.size:
            raise StructureError(f"{self.location} holds {self.size} bytes, not {end}")
        pieces = []
        index = bisect.bisect_right(self._starts, offset) - 1
        while offset < end:
            stop = min(end, self._starts[index + 1])
            pieces.append(self._reads[index](offset - self._starts[index], stop - offset))
            offset, index = stop, index + 1
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_ahead(self, offset: int, length: int) -> memoryview:
        """Return a small range."""
        return memoryview(self.read(offset, length))

    def blocks(self, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the range in pieces of 4 MiB."""
        end = self.size if length is None else offset + length
        while offset < end:
            piece = self.read(offset, min(BLOCK_BYTES, end - offset))
            yield piece
            offset += len(piece)

    def check_unchanged(self) -> None:
        """Do nothing: memory has no time of change. The digests of both passes are compared."""

    def close(self) -> None:
        """Let go of the tensors."""
        self._reads.clear()


class TensorSource(JoinedSource):
    """A whole file: header, then tensors, with what the store's parser says of it."""

    def __init__(
        self, location: str, header: bytes, tensors: Sequence[tuple[TensorEntry, Read]]
    ) -> None:
        parts = [(entry.byte_count, read) for entry, read in tensors]
        super().__init__(location, [(len(header), _reader_of(memoryview(header))), *parts])
        try:
            # In this process: the header was written here, a moment ago.
            self.description = SAFETENSORS.parse(self)
        except StructureError as error:
            raise UsageError(
                f"{location} would be no safetensors file that can be read: {error.message}",
                hint="keep the tensors under several names, or use shorter metadata",
            ) from error


class TensorFile:
    """Tensors that are all in memory; see the module's text."""

    def __init__(
        self, location: str, tensors: Mapping[str, object], metadata: Mapping[str, str]
    ) -> None:
        """Check every tensor; raises UsageError for what cannot be written."""
        self._location = location
        given = [given_tensor(name, value) for name, value in tensors.items()]
        by_name = {one.entry.name: one for one in given}
        self._tensors = [by_name[entry.name] for entry in in_file_order(one.entry for one in given)]
        self._header = header_bytes([one.entry for one in self._tensors], metadata)
        self.size = len(self._header) + sum(one.entry.byte_count for one in self._tensors)

    def open(self, keeper: TensorKeeper) -> TensorSource:
        """Return the file's bytes; ``keeper`` is not needed."""
        del keeper
        memory = _OneAtATime()
        return TensorSource(
            self._location,
            self._header,
            [(one.entry, memory.reader_of(one)) for one in self._tensors],
        )


class TensorStream:
    """(name, tensor) pairs that come one at a time; no more than one is held."""

    def __init__(
        self, location: str, tensors: Iterable[tuple[str, object]], metadata: Mapping[str, str]
    ) -> None:
        self._location = location
        self._tensors = tensors
        self._metadata = metadata
        self.size = 0  # not known beforehand

    def open(self, keeper: TensorKeeper) -> TensorSource:
        """Store every tensor as it comes, then return the file's bytes; raises UsageError."""
        reads: dict[str, Read] = {}
        entries: list[TensorEntry] = []
        given_pairs: Iterable[object] = self._tensors
        for pair in given_pairs:
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise UsageError(
                    f"the iterator gave a {type(pair).__name__}, not a pair of name and tensor",
                    hint="give (name, tensor) pairs, such as model.state_dict().items()",
                )
            name, value = pair
            given = given_tensor(name, value)
            if name in reads:
                raise UsageError(f"tensor name {name!r} comes twice", hint="rename one of them")
            entries.append(given.entry)
            reads[name] = _kept(keeper, given)
        keeper.settle()
        ordered = in_file_order(entries)
        header = header_bytes(ordered, self._metadata)
        return TensorSource(self._location, header, [(one, reads[one.name]) for one in ordered])


class _OneAtATime:
    """Lends the bytes of one tensor at a time: PyTorch may have to make a copy for that."""

    def __init__(self) -> None:
        self._lent: GivenTensor | None = None
        self._view: TensorBytes = memoryview(b"")

    def reader_of(self, given: GivenTensor) -> Read:
        def read(offset: int, length: int) -> bytes:
            if self._lent is not given:
                self._lent, self._view = None, memoryview(b"")
                self._lent, self._view = given, _checked(given)
            return bytes(self._view[offset : offset + length])

        return read


def _kept(keeper: TensorKeeper, given: GivenTensor) -> Read:
    """Give a tensor away and return how its bytes are read from now on."""
    view, length = _checked(given), given.entry.byte_count
    if length <= INLINE_BYTES:
        return _reader_of(memoryview(bytes(view[0:length])))
    location = f"tensor {given.entry.name!r}"
    source = JoinedSource(location, [(length, _reader_of(view))])
    digest = keeper.keep(source, given.entry.dtype, given.entry.shape)
    return lambda offset, count: keeper.read_kept(digest, offset, count)


def _checked(given: GivenTensor) -> TensorBytes:
    view = given.view()
    if len(view) != given.entry.byte_count:
        raise UsageError(f"tensor {given.entry.name!r} changed its size while it was being read")
    return view


def _reader_of(view: TensorBytes) -> Read:
    return lambda offset, length: bytes(view[offset : offset + length])
