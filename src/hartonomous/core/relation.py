"""Relations between versions: what came from what, who says so, and what that rests on.

A *declared* relation is what files say (configuration, card, GGUF keys) or what somebody stated
with ``hart relate``. A *measured* one follows from how the tensors of two versions are kept: equal,
cast, transposed, quantised from each other, near. How near two models lie has no direction; a
direction needs a reason of its own, and without one the relation stays undirected. That a document
contains a picture is derived from the bytes of both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class RelationKind(StrEnum):
    """What the first version is to the second."""

    CAST_OF = "cast-of"
    QUANTISED_FROM = "quantised-from"
    EXPORTED_FROM = "exported-from"
    FINE_TUNE_OF = "fine-tune-of"
    CHECKPOINT_AFTER = "checkpoint-after"
    ADAPTER_OF = "adapter-of"
    MERGED_FROM = "merged-from"
    SAME_TENSORS = "same-tensors"
    NEAR = "near"
    CONTAINS = "contains"


STATABLE = tuple(
    kind.value
    for kind in RelationKind
    if kind not in (RelationKind.SAME_TENSORS, RelationKind.NEAR, RelationKind.CONTAINS)
)
"""What somebody may state; the others are measured only: alike without a direction, and contained.
"""

MEASURED_SHARE = 0.1
"""A relation is measured where at least this part of the smaller side's tensor bytes is related."""
MOST_SHARE = 0.5
"""Part of the related bytes that one way of keeping needs to name the relation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What is known of a version that may give a relation its direction."""

    tensor_bytes: int
    formats: frozenset[str] = frozenset()
    float_bits: int = 0
    """Bits of the float type that most tensor bytes have; 0 where most are no floats."""
    quantised: bool = False
    adapter: bool = False
    step: int | None = None
    optimizer: bool = False


@dataclass(slots=True)
class Shares:
    """Tensor bytes of the first version by how they are related to the second."""

    equal: int = 0
    cast: int = 0
    transposed: int = 0
    quantised: int = 0
    merged: int = 0
    near: int = 0
    weights: dict[float, int] = field(default_factory=dict)
    """Weight in a merge: bytes that have it."""

    @property
    def related(self) -> int:
        """Bytes that are related in any way."""
        return self.equal + self.cast + self.transposed + self.quantised + self.merged + self.near


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A measured relation; ``forward`` is None where nothing gives it a direction.

    ``forward`` means that the first version came from the second. ``reason`` says what gives the
    direction, or why there is none.
    """

    kind: RelationKind
    forward: bool | None
    reason: str


_EXPORTS = frozenset({"onnx", "gguf"})


def judge(first: Side, second: Side, shares: Shares) -> Verdict | None:
    """Return what two versions are to each other, judged by how their tensors are kept.

    None where less than a tenth of the smaller one's tensor bytes is related: a shared vocabulary
    or equal norms make no kinship.
    """
    smaller = min(first.tensor_bytes, second.tensor_bytes) or 1
    related = shares.related
    if related < MEASURED_SHARE * smaller:
        return None
    most = MOST_SHARE * related
    if shares.quantised and (first.quantised != second.quantised or shares.quantised > most):
        return _quantised(first, second)
    # What a merge leaves alone is equal: an adapter changes few of its base's tensors.
    changed = related - shares.equal
    if shares.merged > max(MEASURED_SHARE * related, MOST_SHARE * changed):
        return Verdict(kind=RelationKind.MERGED_FROM, forward=True, reason="a sum of weights fits")
    if shares.near > MEASURED_SHARE * related:
        return _near(first, second)
    if shares.cast > most:
        return _cast(first, second)
    return _same(first, second)


def _quantised(first: Side, second: Side) -> Verdict:
    forward = None if first.quantised == second.quantised else first.quantised
    reason = "both are quantised" if forward is None else "quantised blocks have floats as source"
    return Verdict(kind=RelationKind.QUANTISED_FROM, forward=forward, reason=reason)


def _cast(first: Side, second: Side) -> Verdict:
    bits = (first.float_bits, second.float_bits)
    if bits[0] == bits[1]:
        return Verdict(
            kind=RelationKind.CAST_OF, forward=None, reason="both have floats of one width"
        )
    return Verdict(
        kind=RelationKind.CAST_OF,
        forward=bits[0] < bits[1],
        reason=f"precision: {min(bits)} bits came from {max(bits)}",
    )


def _near(first: Side, second: Side) -> Verdict:
    if first.step is not None and second.step is not None and first.step != second.step:
        return Verdict(
            kind=RelationKind.CHECKPOINT_AFTER,
            forward=first.step > second.step,
            reason=f"step {max(first.step, second.step)} follows {min(first.step, second.step)}",
        )
    if first.optimizer != second.optimizer:
        return Verdict(
            kind=RelationKind.NEAR,
            forward=first.optimizer,
            reason="the state of an optimizer lies beside one of them",
        )
    return Verdict(kind=RelationKind.NEAR, forward=None, reason="distance alone has no direction")


def _same(first: Side, second: Side) -> Verdict:
    exported = bool(first.formats & _EXPORTS), bool(second.formats & _EXPORTS)
    if exported[0] != exported[1]:
        return Verdict(
            kind=RelationKind.EXPORTED_FROM,
            forward=exported[0],
            reason="format: " + " and ".join(sorted((first.formats | second.formats) & _EXPORTS)),
        )
    return Verdict(kind=RelationKind.SAME_TENSORS, forward=None, reason="the same tensors in both")


def main_weight(weights: Mapping[float, int]) -> float | None:
    """Return the weight that most bytes have; None without any."""
    return max(weights, key=lambda one: weights[one]) if weights else None
