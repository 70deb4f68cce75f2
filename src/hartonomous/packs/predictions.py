"""Predictions of frames: which parts of which bases they take, read through whoever has the bases.

Reading a base may need bases of its own. The digests on the way down go along as a *chain*, so that
a circle, which no writer makes, ends in an error and not in a recursion without end.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from hartonomous.codecs.predicted import Prediction, encoding_of, source_window
from hartonomous.codecs.prediction import predict
from hartonomous.core import plan as plans
from hartonomous.core.plan import LowRank, PermuteHeads, Plan, Transpose
from hartonomous.core.record import RecordHeader
from hartonomous.errors import HartonomousError, IntegrityError
from hartonomous.packs.chain import MAX_CHAIN, Chain
from hartonomous.packs.operands import Operands, filled

MOST_WINDOW_BYTES = 2 * plans.WHOLE_BYTES + (64 << 20)
"""The most of one base that neighbouring frames may need: two heads that lie side by side, and room
for wider types. What a writer makes needs less; a plan that asks for more is refused unread."""

Span = tuple[int, int]
"""Bytes ``[start, stop)`` of a target."""


class Variant(msgspec.Struct, frozen=True):
    """How an atom is predicted: its plan, and the digests of its bases in the plan's order."""

    plan: Plan
    bases: tuple[bytes, ...]


class BaseGoneError(Exception):
    """A base is not stored: it may have been dropped after what needed it was kept otherwise.

    Whoever reads the atom that needs it looks once more; ``error`` is what to raise if it is so.
    """

    def __init__(self, error: IntegrityError) -> None:
        super().__init__(error.message)
        self.error = error


class BaseCircleError(BaseGoneError):
    """An atom needs itself: one on the way may be kept otherwise by now, on what was built on it.

    So all on the way look once more.
    """


class BaseSource(Protocol):
    """Who has the bytes of bases: an open store, or what a survey found in its packs."""

    operands: Operands

    def read_base(self, name: bytes, out: memoryview, start: int, chain: Chain) -> None:
        """Fill ``out`` with an atom's bytes from ``start``; ``chain`` are the atoms that need it.

        Raises BaseGoneError, IntegrityError.
        """
        ...


def variant_of(header: RecordHeader) -> Variant:
    """Return the plan and bases of a predicted record; raises IntegrityError if they do not fit."""
    plan = plans.decode(header.params)
    if len(plan.operands) != len(header.bases):
        raise IntegrityError(
            f"a record has {len(header.bases)} bases, its plan {len(plan.operands)} operands"
        )
    if plans.target_bytes(plan) != header.total or encoding_of(plan.dtype) is not header.encoding:
        raise IntegrityError("a record's plan is for another target than the record's")
    return Variant(plan, header.bases)


def refuse_chain(name: bytes, chain: Chain) -> None:
    """Raise IntegrityError where a chain of bases is too long.

    BaseCircleError where an atom's base is the atom itself.
    """
    if name not in chain and len(chain) <= MAX_CHAIN:
        return
    first, way = chain.names[0].hex(), " > ".join(f"blake3:{one.hex()}" for one in (*chain, name))
    if name in chain:
        raise BaseCircleError(IntegrityError(f"atom blake3:{first} needs itself as a base: {way}"))
    raise IntegrityError(f"atom blake3:{first} has over {MAX_CHAIN} bases below it: {way}")


def predict_spans(
    source: BaseSource, variant: Variant, spans: Sequence[Span], chain: Chain
) -> list[Prediction]:
    """Return the prediction of each span; they follow one another without gaps.

    ``chain`` ends with the target itself. Raises IntegrityError that names the base which cannot be
    read.
    """
    plan, start, stop = variant.plan, spans[0][0], spans[-1][1]
    windows = plans.windows(plan, start, stop)
    _refuse_large(variant, windows)
    content = [_read(source, variant, window, chain) for window in windows]
    whole = predict(plan, start, stop, content)
    if plan.dtype in plans.FLOAT_TARGETS:
        return [whole[low - start : high - start] for low, high in spans]
    begin = plans.target_range(plan, start, stop)[0]
    parts = (source_window(plan.dtype, low, high - low) for low, high in spans)
    return [whole[first - begin : last - begin] for first, last in parts]


def _refuse_large(variant: Variant, windows: Sequence[plans.Window]) -> None:
    for window in windows:
        size = window.stop - window.start
        if size > MOST_WINDOW_BYTES:
            name = variant.bases[window.operand].hex()
            raise IntegrityError(
                f"a record's plan needs {size} bytes of blake3:{name} at once,"
                f" over the limit of {MOST_WINDOW_BYTES}",
                hint="hart verify names everything that is damaged",
            )


def _read(source: BaseSource, variant: Variant, window: plans.Window, chain: Chain) -> memoryview:
    name = variant.bases[window.operand]

    def fill(out: memoryview) -> None:
        chain.spend(len(out))
        try:
            source.read_base(name, out, window.start, chain)
        except HartonomousError as error:
            raise IntegrityError(
                f"atom blake3:{chain.names[-1].hex()} is kept as what differs from"
                f" blake3:{name.hex()}, which cannot be read: {error.message}",
                hint="hart verify names everything that is damaged",
            ) from error

    size = window.stop - window.start
    if size and _takes_whole(variant.plan):
        return source.operands.get((name, window.start, window.stop), fill)
    return filled(size, fill)


def _takes_whole(plan: Plan) -> bool:
    """Say whether neighbouring windows of a target need the same parts of a base."""
    return any(isinstance(step, Transpose | PermuteHeads | LowRank) for step in plan.steps)
