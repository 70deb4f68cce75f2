"""What "keep each tensor once, XOR it with its base" would store: a stand-in for ZipLLM's BitX.

ZipLLM (Wang et al., NSDI 2026) has no program that could be run beside the others, so this keeps to
what it publishes: a tensor of a model whose base is declared is XORed with the base's tensor of the
same name, type and shape, and the rest of it compressed; every other distinct tensor is compressed
as it is. Bases come from ``family.toml``, which says what each member is made from: the nearest
member above it that has such a tensor, or an earlier cast of that member, as a hub has a base in
the fine-tune's type. The XOR goes through zstd -3 by byte planes, everything else through zstd -3,
each tensor as one piece; where that is smaller, a tensor with a base is kept without it. Files are
cut as for ``tensor_reference.py``, and names, manifests and an index are not counted either.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from family.definition import Family
from tensor_reference import Cut, cuts, distinct

from hartonomous.core.dtype import DTYPES

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_LEVEL = 3
_CAST = "cast"


@dataclass(frozen=True, slots=True, kw_only=True)
class XorReference:
    """Distinct bytes and what they take: what had a base, and what had none or is no tensor."""

    xor_plain: int
    xor_stored: int
    other_plain: int
    other_stored: int

    @property
    def stored_bytes(self) -> int:
        """What the reference stores in all."""
        return self.xor_stored + self.other_stored


def references(family: Family, parts: Mapping[str, Sequence[Path]]) -> dict[str, XorReference]:
    """Return what each part takes; members are in their order of arrival, named by their paths."""
    seen: set[bytes] = set()
    return {part: _reference(family, paths, seen) for part, paths in parts.items()}


def _reference(family: Family, paths: Sequence[Path], seen: set[bytes]) -> XorReference:
    members: dict[str, dict[str, Cut]] = {}
    xor_plain = xor_stored = other_plain = other_stored = 0
    for path in paths:
        bases = [members[name] for name in declared(family, path.name) if name in members]
        for cut in distinct([path], seen):
            data = cut.read()
            base = _base(cut, bases)
            stored = min(len(data), len(zstd.compress(data, _LEVEL)))
            if base is None:
                other_plain, other_stored = other_plain + len(data), other_stored + stored
            else:
                width = DTYPES[cut.dtype or ""].block_bytes
                stored = min(stored, xor_bytes(data, base.read(), width))
                xor_plain, xor_stored = xor_plain + len(data), xor_stored + stored
        members[path.name] = {name: cut for cut in cuts(path) for name in cut.names}
    return XorReference(
        xor_plain=xor_plain, xor_stored=xor_stored,
        other_plain=other_plain, other_stored=other_stored,
    )  # fmt: skip


def declared(family: Family, name: str) -> Iterator[str]:
    """Yield a member's possible bases: what it is made from, the nearest first, and casts of it."""
    for base in family.bases_of(name):
        yield base
        for one in family.members:
            if one.name == name:
                break
            if one.recipe == _CAST and base in one.sources:
                yield one.name


def xor_bytes(data: bytes, base: bytes, width: int) -> int:
    """Return what ``data`` takes as byte planes of its XOR with ``base``; ``width`` in bytes."""
    changed = np.frombuffer(data, np.uint8) ^ np.frombuffer(base, np.uint8)
    coded = zstd.compress(np.ascontiguousarray(changed.reshape(-1, width).T), _LEVEL)
    planes = np.frombuffer(zstd.decompress(coded), np.uint8).reshape(width, -1)
    back = np.ascontiguousarray(planes.T).reshape(-1) ^ np.frombuffer(base, np.uint8)
    if back.tobytes() != data:
        raise ValueError(f"{len(data)} bytes came back changed from XOR, byte planes and zstd")
    return len(coded)


def _base(cut: Cut, bases: Sequence[Mapping[str, Cut]]) -> Cut | None:
    """Return the first base's tensor of the same name, type (no blocks), shape and length."""
    if cut.dtype not in DTYPES or DTYPES[cut.dtype].block_elements != 1:
        return None
    for tensors in bases:
        for name in cut.names:
            base = tensors.get(name)
            if base and (base.dtype, base.shape, base.length) == (cut.dtype, cut.shape, cut.length):
                return base
    return None
