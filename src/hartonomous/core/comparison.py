"""Comparison of two models: which tensor became which, and what differs.

Pure. First stage: tensors are paired by name and by the digest of their bytes, without reading
them. Second stage (``core.value_comparison``): the caller reads the pairs whose bytes differ.
Results are JSON-friendly; a number is finite or null. Every step is near-linear in the input.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from enum import StrEnum
from math import prod

import msgspec

from hartonomous.core.canonical_name import canonical_name
from hartonomous.core.dtype import DTYPES
from hartonomous.core.metadata_comparison import MetadataComparison
from hartonomous.core.value_comparison import ValueDifference, is_comparable

_TELLING_BYTES = 256
"""Shorter tensors (a scalar, a counter) are often equal by chance: a name then tells more."""

_SUFFIX_PARTS = 16
"""So many trailing parts of a name are looked at when equal bytes have several candidates."""


class TensorUse(msgspec.Struct, frozen=True, kw_only=True):
    """One tensor of one model: its name, type and shape, and the digest of its bytes.

    ``digest`` is the 32-byte BLAKE3 of the ``length`` bytes; ``member`` the file it lies in.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    digest: bytes
    length: int
    member: str = ""


class PairStatus(StrEnum):
    """What became of a tensor between model a and model b."""

    SAME = "same"  # equal bytes, name, type and shape
    RENAMED = "renamed"  # equal bytes under another name
    RESHAPED = "reshaped"  # equal bytes and name, another shape
    RETYPED = "retyped"  # equal bytes and name, read as another element type
    CAST = "cast"  # same name and shape, another element type
    TRANSPOSED = "transposed"  # same name and type; each is the other turned, bit for bit
    PERMUTED = "permuted"  # same name, type and shape; the rows are the same in another order
    CHANGED = "changed"  # same name, type and shape, other bytes
    RESIZED = "resized"  # same name, another shape and other bytes
    ADDED = "added"
    REMOVED = "removed"


class TensorPair(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor of model a with its counterpart in model b; one of them may be missing."""

    status: PairStatus
    a: TensorUse | None = None
    b: TensorUse | None = None


class TensorDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a comparison. ``values`` is there when values were compared."""

    status: PairStatus
    name_a: str | None = None
    name_b: str | None = None
    dtype_a: str | None = None
    dtype_b: str | None = None
    shape_a: tuple[int, ...] | None = None
    shape_b: tuple[int, ...] | None = None
    member_a: str | None = None
    member_b: str | None = None
    values: ValueDifference | None = None


class ComparisonSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of a comparison; ``statuses`` has every status, ``shared_bytes`` lie in both models.

    ``identical`` is true when all tensors are the same and no metadata differs.
    """

    identical: bool
    tensor_count_a: int
    tensor_count_b: int
    statuses: dict[str, int]
    shared_bytes: int
    metadata_difference_count: int


class ModelComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that differs, and what does not, between two models."""

    summary: ComparisonSummary
    tensors: tuple[TensorDifference, ...]
    metadata: MetadataComparison = MetadataComparison()


Key = Callable[[TensorUse], Hashable | None]


def pair_tensors(a: Iterable[TensorUse], b: Iterable[TensorUse]) -> list[TensorPair]:
    """Return every tensor of both models exactly once, in the order of ``a``, then added ones.

    Evidence is taken in this order: equal name and bytes; equal bytes that are unique in both
    models (a layer that moved keeps its content, not its name); equal name; equal bytes among
    several (nearest names first, compared from their ends); equal canonical name.
    """
    matching = _Matching(list(a), list(b))
    for key in _named_keys():
        matching.pair_up(key)
    matching.pair_up_unique(lambda use: use.digest if use.length >= _TELLING_BYTES else None)
    for key in _renaming_keys():
        matching.pair_up(key)
    _pair_equal_bytes(matching)
    matching.pair_up(lambda use: (canonical_name(use.name), use.shape))
    matching.pair_up(lambda use: canonical_name(use.name))
    return matching.result()


def _pair_equal_bytes(matching: "_Matching") -> None:
    """Pair copies of one content: same type and shape first, then longest common name ending."""
    if not matching.has_equal_bytes():
        return
    for typed in (True, False):
        for parts in range(_SUFFIX_PARTS, 0, -1):
            matching.pair_up(_ending_key(parts, typed=typed))
        matching.pair_up(_content_key(typed=typed))


def _named_keys() -> list[Key]:
    return [
        lambda use: (use.member, use.name, use.digest, use.dtype, use.shape),
        lambda use: (use.name, use.digest, use.dtype, use.shape),
        lambda use: (use.name, use.digest),
    ]


def _renaming_keys() -> list[Key]:
    return [
        lambda use: (use.member, use.name, use.dtype, use.shape),
        lambda use: (use.name, use.dtype, use.shape),
        lambda use: (use.name, use.shape),
        lambda use: use.name,
    ]


def _ending_key(parts: int, *, typed: bool) -> Key:
    def key(use: TensorUse) -> Hashable | None:
        ending = use.name.rsplit(".", parts)[-parts:]
        if not use.length or len(ending) < parts:
            return None
        kind = (use.dtype, use.shape) if typed else None
        return (use.digest, tuple(ending), kind)

    return key


def _content_key(*, typed: bool) -> Key:
    def key(use: TensorUse) -> Hashable | None:
        return (use.digest, (use.dtype, use.shape) if typed else None) if use.length else None

    return key


class _Matching:
    """The tensors of both sides that have no counterpart yet, and the pairs found."""

    __slots__ = ("a", "b", "free_a", "free_b", "partner")

    def __init__(self, a: Sequence[TensorUse], b: Sequence[TensorUse]) -> None:
        self.a, self.b = a, b
        self.free_a, self.free_b = list(range(len(a))), list(range(len(b)))
        self.partner: dict[int, int] = {}

    def pair_up(self, key: Key) -> None:
        """Pair free tensors with equal keys, in order; a key of None is never equal."""
        if not self.free_a or not self.free_b:
            return
        waiting = _group(self.b, reversed(self.free_b), key)
        for index in self.free_a:
            wanted = key(self.a[index])
            if wanted is not None and waiting.get(wanted):
                self.partner[index] = waiting[wanted].pop()
        self._drop_paired()

    def pair_up_unique(self, key: Key) -> None:
        """Pair free tensors whose key occurs once in the whole of either model."""
        left, right = (_group(side, range(len(side)), key) for side in (self.a, self.b))
        free_a, free_b = set(self.free_a), set(self.free_b)
        for wanted, found in left.items():
            others = right.get(wanted, ())
            if len(found) == 1 and len(others) == 1 and found[0] in free_a and others[0] in free_b:
                self.partner[found[0]] = others[0]
        self._drop_paired()

    def has_equal_bytes(self) -> bool:
        """Say whether any free tensors of both sides have equal, non-empty bytes."""
        here = {self.a[index].digest for index in self.free_a if self.a[index].length}
        return any(self.b[index].digest in here for index in self.free_b)

    def _drop_paired(self) -> None:
        taken = set(self.partner.values())
        self.free_a = [index for index in self.free_a if index not in self.partner]
        self.free_b = [index for index in self.free_b if index not in taken]

    def result(self) -> list[TensorPair]:
        """Return the pairs and what is left on either side."""
        pairs = []
        for index, use in enumerate(self.a):
            if index in self.partner:
                other = self.b[self.partner[index]]
                pairs.append(TensorPair(status=_status(use, other), a=use, b=other))
            else:
                pairs.append(TensorPair(status=PairStatus.REMOVED, a=use))
        pairs += [TensorPair(status=PairStatus.ADDED, b=self.b[index]) for index in self.free_b]
        return pairs


def _group(
    uses: Sequence[TensorUse], indexes: Iterable[int], key: Key
) -> dict[Hashable, list[int]]:
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index in indexes:
        value = key(uses[index])
        if value is not None:
            groups[value].append(index)
    return groups


def _status(a: TensorUse, b: TensorUse) -> PairStatus:
    if a.digest == b.digest and a.length == b.length:
        if a.name != b.name:
            return PairStatus.RENAMED
        if a.dtype != b.dtype:
            return PairStatus.RETYPED
        return PairStatus.SAME if a.shape == b.shape else PairStatus.RESHAPED
    if a.shape != b.shape:
        return PairStatus.RESIZED
    return PairStatus.CHANGED if a.dtype == b.dtype else PairStatus.CAST


def has_comparable_values(pair: TensorPair) -> bool:
    """Say whether reading both tensors tells more: bytes differ, shapes agree, types can be read.

    For a type of unknown size the element count to pass to ``compare_values`` is the length, so
    both lengths must agree.
    """
    if pair.a is None or pair.b is None:
        return False
    if pair.status is PairStatus.CHANGED:
        return pair.a.length == pair.b.length
    return pair.status is PairStatus.CAST and is_comparable(pair.a.dtype, pair.b.dtype)


def may_be_transposed(pair: TensorPair) -> bool:
    """Say whether a matrix of plain elements may be the other one turned; their bytes tell."""
    a, b = pair.a, pair.b
    if a is None or b is None or a.dtype != b.dtype or a.length != b.length:
        return False
    dtype = DTYPES.get(a.dtype)
    is_plain = dtype is not None and dtype.block_elements == 1
    is_matrix = len(a.shape) == 2 and min(a.shape) > 1 and a.shape == b.shape[::-1]
    open_ones = (PairStatus.CHANGED, PairStatus.RESIZED)
    return is_plain and is_matrix and pair.status in open_ones


def row_bytes_of(pair: TensorPair) -> int | None:
    """Return the bytes of a row (an element of the first axis) where rows may be permuted.

    None where a pair cannot be that: blocks lie across rows, or type, shape or size differ.
    """
    a, b = pair.a, pair.b
    if pair.status is not PairStatus.CHANGED or a is None or b is None or a.length != b.length:
        return None
    dtype = DTYPES.get(a.dtype)
    if dtype is None or len(a.shape) == 0 or a.shape[0] < 4 or prod(a.shape[1:]) == 0:
        return None
    whole_rows = (a.shape[-1] if len(a.shape) > 1 else 1) % dtype.block_elements == 0
    return a.length // a.shape[0] if whole_rows and a.length % a.shape[0] == 0 else None


def tensor_difference(pair: TensorPair, values: ValueDifference | None = None) -> TensorDifference:
    """Return the line that tells about a pair."""
    a, b = pair.a, pair.b
    return TensorDifference(
        status=pair.status,
        name_a=a.name if a else None,
        name_b=b.name if b else None,
        dtype_a=a.dtype if a else None,
        dtype_b=b.dtype if b else None,
        shape_a=a.shape if a else None,
        shape_b=b.shape if b else None,
        member_a=a.member if a else None,
        member_b=b.member if b else None,
        values=values,
    )


def compare_models(
    pairs: Sequence[TensorPair],
    *,
    read_values: Callable[[TensorPair], ValueDifference | None] | None = None,
    metadata: MetadataComparison | None = None,
) -> ModelComparison:
    """Return the whole comparison of what ``pair_tensors`` paired.

    ``read_values`` is called once for each pair that ``has_comparable_values``; without it, values
    are not compared.
    """
    lines = tuple(
        tensor_difference(
            pair,
            read_values(pair) if read_values is not None and has_comparable_values(pair) else None,
        )
        for pair in pairs
    )
    metadata = metadata or MetadataComparison()
    return ModelComparison(summary=_summary(pairs, metadata), tensors=lines, metadata=metadata)


def _summary(pairs: Sequence[TensorPair], metadata: MetadataComparison) -> ComparisonSummary:
    statuses = {status.value: 0 for status in PairStatus}
    for pair in pairs:
        statuses[pair.status] += 1
    metadata_count = len(metadata.differences) + metadata.omitted_count
    return ComparisonSummary(
        identical=statuses[PairStatus.SAME] == len(pairs) and not metadata_count,
        tensor_count_a=sum(pair.a is not None for pair in pairs),
        tensor_count_b=sum(pair.b is not None for pair in pairs),
        statuses=statuses,
        shared_bytes=sum(
            pair.a.length for pair in pairs if pair.a and pair.b and pair.a.digest == pair.b.digest
        ),
        metadata_difference_count=metadata_count,
    )
