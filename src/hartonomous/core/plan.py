"""Plans: how the bytes of one atom are predicted from those of others.

A record of the encodings DELTA and DERIVED keeps what differs from a prediction. Its plan says how
that is computed: the *operands* are parts of the bases, read as tensors; the *steps* turn them into
one tensor. A plan is JSON in the record's parameters. docs/format-plans.md specifies it and the
arithmetic of each step to the bit; ``codecs.prediction`` does that arithmetic.

Values stand in a row: at first the operands, after the last step exactly one. ``Cast``,
``Transpose``, ``PermuteHeads``, ``Rows``, ``Append`` and ``Dequantise`` work on each of them,
``Concatenate``, ``Linear``, ``TaskVectors`` and ``LowRank`` make one of all. If the target is F32,
F16 or BF16 the last value has its type and its bytes are the prediction; any other target is
derived from the last value, which is F32 and has the target's shape.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from hartonomous.core.dtype import DTYPES
from hartonomous.errors import IntegrityError

MAX_BYTES = 60_000
MAX_OPERANDS = 8
MAX_STEPS = 8
MAX_AXES = 8
MAX_ELEMENTS = 2**60
WHOLE_BYTES = 128 << 20
"""The largest value that may be needed whole (before a transposition, say), in bytes."""

FLOAT_TARGETS = frozenset({"F32", "F16", "BF16"})
"""Targets whose prediction is bytes; of others it is the float32 values they were made from."""
COMPUTED = frozenset({"F64", "F32", "F16", "BF16"})
"""Types that a step may produce."""
WIDENED = frozenset({"F8_E4M3", "F8_E5M2"})
"""Types of operands that can be cast, but not produced."""
DEQUANTISED = frozenset(
    {
        *("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"),
        *("IQ4_NL", "IQ4_XS", "MXFP4", "TQ1_0", "TQ2_0"),
    }
)
"""Blocks of ggml that ``Dequantise`` takes."""
NAN_RULES = frozenset({"quiet", "kept", "signed", "canonical", "ones"})
"""What a NaN becomes in a narrower type; see docs/format-plans.md."""

Range = tuple[int, int]
"""Elements ``[first, stop)`` of a value in its order."""


class Value(NamedTuple):
    """Type and shape of an operand or of what a step made."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Return the number of elements."""
        return math.prod(self.shape)

    @property
    def row(self) -> int:
        """Return the elements of one row along the first axis; 1 for a scalar."""
        return math.prod(self.shape[1:])


class Operand(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Part of a base: its type, the part's shape, and where in the base its first element is."""

    dtype: str
    shape: tuple[int, ...]
    first: int = 0

    @property
    def count(self) -> int:
        """Return the number of elements of the part."""
        return math.prod(self.shape)


class Step(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One step; the classes below are all there are."""


class Cast(Step, frozen=True, tag_field="step", tag="cast", omit_defaults=True):
    """Round each element to ``dtype``, to nearest, ties to even."""

    dtype: str
    nan: str = "quiet"


class Transpose(Step, frozen=True, tag_field="step", tag="transpose", omit_defaults=True):
    """Axis ``i`` of the result is axis ``axes[i]`` of the value; needs the value whole."""

    axes: tuple[int, ...] = (1, 0)


class PermuteHeads(Step, frozen=True, tag_field="step", tag="permute_heads", omit_defaults=True):
    """Order rows as llama.cpp does: heads × 2 × half become heads × half × 2, or the inverse."""

    heads: int
    inverse: bool = False


class Rows(Step, frozen=True, tag_field="step", tag="rows", omit_defaults=True):
    """Keep the rows ``[first, stop)`` along the first axis."""

    first: int
    stop: int


class Append(Step, frozen=True, tag_field="step", tag="append", omit_defaults=True):
    """Add ``rows`` rows of zeros; only as the last step."""

    rows: int


class Dequantise(Step, frozen=True, tag_field="step", tag="dequantise", omit_defaults=True):
    """Make F32 of ggml's blocks; values of plain types stay what they are."""


class Concatenate(Step, frozen=True, tag_field="step", tag="concatenate", omit_defaults=True):
    """Make one value of all, along the first axis; types and other axes are equal."""


class Linear(Step, frozen=True, tag_field="step", tag="linear", omit_defaults=True):
    """Sum of weight × value, divided by ``divisor``, with each operation rounded to ``dtype``."""

    weights: tuple[float, ...]
    dtype: str = "F64"
    divisor: float = 1.0


class TaskVectors(Step, frozen=True, tag_field="step", tag="task_vectors", omit_defaults=True):
    """Value 0 + ``scale`` × the sum of weight × (each further value - value 0), in ``dtype``."""

    weights: tuple[float, ...]
    dtype: str = "F64"
    scale: float = 1.0


class LowRank(Step, frozen=True, tag_field="step", tag="low_rank", omit_defaults=True):
    """Value 0 (out × in) + ``scale`` × value 1 (out × r) · value 2 (r × in), in ``dtype``.

    ``product`` is the type in which the products of a row and a column are summed.
    """

    scale: float
    dtype: str = "F64"
    product: str = "F64"


AnyStep = (
    Cast
    | Transpose
    | PermuteHeads
    | Rows
    | Append
    | Dequantise
    | Concatenate
    | Linear
    | TaskVectors
    | LowRank
)


class Plan(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a target of this type and shape (in elements) is predicted; operand i is of base i."""

    dtype: str
    shape: tuple[int, ...]
    operands: tuple[Operand, ...]
    steps: tuple[AnyStep, ...] = ()


class Window(NamedTuple):
    """The bytes ``[start, stop)`` of the base of an operand; empty if nothing of it is needed."""

    operand: int
    start: int
    stop: int


_DECODER = msgspec.json.Decoder(Plan)
_ENCODER = msgspec.json.Encoder()


def encode(plan: Plan) -> bytes:
    """Return the plan as compact JSON; raises ValueError for one that ``decode`` would refuse."""
    trace(plan)
    content = _ENCODER.encode(plan)
    if len(content) > MAX_BYTES:
        raise ValueError(f"a plan of {len(content)} bytes is over the limit of {MAX_BYTES}")
    return content


def decode(content: bytes) -> Plan:
    """Return the plan of a record's parameters; raises IntegrityError for what is none.

    Whatever comes back can be carried out on bases that hold its operands; see ``base_bytes``.
    """
    if len(content) > MAX_BYTES:
        raise IntegrityError(f"a plan of {len(content)} bytes is over the limit of {MAX_BYTES}")
    try:
        plan = _DECODER.decode(content)
        trace(plan)
    except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError) as error:
        raise IntegrityError(f"a record's plan is damaged: {error}") from error
    return plan


def base_bytes(plan: Plan) -> tuple[int, ...]:
    """Return how many bytes the base of each operand must have at least."""
    return tuple(_byte(one.dtype, one.first + one.count) for one in plan.operands)


def target_bytes(plan: Plan) -> int:
    """Return the size of the whole target."""
    return _byte(plan.dtype, math.prod(plan.shape))


def windows(plan: Plan, start: int, stop: int) -> tuple[Window, ...]:
    """Return which bytes of each base predict the target's bytes ``[start, stop)``.

    One window for each operand, in order; raises ValueError if the target has no such bytes.
    """
    return tuple(
        Window(
            number,
            _byte(one.dtype, one.first + first) if first < last else 0,
            _byte(one.dtype, one.first + last) if first < last else 0,
        )
        for number, (one, (first, last)) in enumerate(
            zip(plan.operands, ranges(plan, start, stop)[0], strict=True)
        )
    )


def target_range(plan: Plan, start: int, stop: int) -> Range:
    """Return which elements of the target the bytes ``[start, stop)`` touch, in whole blocks."""
    known = DTYPES[plan.dtype]
    size = known.block_bytes
    return start // size * known.block_elements, -(-stop // size) * known.block_elements


def ranges(plan: Plan, start: int, stop: int) -> list[tuple[Range, ...]]:
    """Return the elements needed of each value: first of the operands, then after each step.

    Bytes ``[start, stop)`` of the target are wanted. Raises ValueError if it has no such bytes.
    """
    levels = trace(plan)
    if not 0 <= start <= stop <= target_bytes(plan):
        raise ValueError(f"a target of {target_bytes(plan)} bytes has no bytes {start} to {stop}")
    needed: tuple[Range, ...] = (target_range(plan, start, stop) if start < stop else (0, 0),)
    found = [needed]
    for step, values in zip(reversed(plan.steps), reversed(levels[:-1]), strict=True):
        needed = _before(step, values, needed)
        found.append(needed)
    return found[::-1]


@functools.lru_cache(maxsize=256)
def trace(plan: Plan) -> tuple[tuple[Value, ...], ...]:
    """Return the values before the first step and after each; raises ValueError if one cannot be.

    The one place that says what a sound plan is.
    """
    if not 1 <= len(plan.operands) <= MAX_OPERANDS or len(plan.steps) > MAX_STEPS:
        raise ValueError(f"a plan has 1 to {MAX_OPERANDS} operands and up to {MAX_STEPS} steps")
    _refuse_shape(plan.shape)
    values = tuple(_operand(one) for one in plan.operands)
    levels = [values]
    for number, step in enumerate(plan.steps):
        if isinstance(step, Append) and number + 1 < len(plan.steps):
            raise ValueError("rows are appended before the last step")
        values = _after(step, values)
        levels.append(values)
    target = DTYPES.get(plan.dtype)
    if target is None or target.kind not in ("float", "quantised", "integer"):
        raise ValueError("the target's type is unknown")
    wanted = Value(plan.dtype if plan.dtype in FLOAT_TARGETS else "F32", plan.shape)
    if values != (wanted,) or target.byte_count(wanted.size) is None:
        raise ValueError(f"the steps do not make {wanted.dtype} values of the target's shape")
    return tuple(levels)


def _operand(one: Operand) -> Value:
    _refuse_shape(one.shape)
    if one.dtype not in COMPUTED | WIDENED | DEQUANTISED:
        raise ValueError(f"an operand cannot be {one.dtype[:20]!r}")
    whole = DTYPES[one.dtype].byte_count
    if not 0 <= one.first <= MAX_ELEMENTS or whole(one.first) is None or whole(one.count) is None:
        raise ValueError("an operand does not begin and end with whole blocks of its base")
    return Value(one.dtype, one.shape)


def _refuse_shape(shape: tuple[int, ...]) -> None:
    sound = len(shape) <= MAX_AXES and all(0 < extent <= MAX_ELEMENTS for extent in shape)
    if not sound or math.prod(shape) > MAX_ELEMENTS:
        raise ValueError("a shape is empty or out of bounds")


def _byte(dtype: str, element: int) -> int:
    known = DTYPES[dtype]
    return element // known.block_elements * known.block_bytes


# --- what each step makes of its values -----------------------------------------------------------


def _after(step: AnyStep, values: tuple[Value, ...]) -> tuple[Value, ...]:
    after = _COMBINED.get(type(step))
    if after is not None:
        return (after(step, values),)
    return tuple(_SINGLE[type(step)](step, value) for value in values)


def _refuse_types(values: Sequence[Value], types: frozenset[str]) -> None:
    for value in values:
        if value.dtype not in types:
            raise ValueError(f"a step cannot take {value.dtype} values")


def _refuse_large(value: Value) -> None:
    if _byte(value.dtype, value.size) > WHOLE_BYTES:
        raise ValueError(f"a value needed whole is over {WHOLE_BYTES} bytes")


def _cast(step: Cast, value: Value) -> Value:
    _refuse_types([value], COMPUTED | WIDENED)
    if step.dtype not in COMPUTED or step.nan not in NAN_RULES:
        raise ValueError("a cast's type or rule is unknown")
    return Value(step.dtype, value.shape)


def _transpose(step: Transpose, value: Value) -> Value:
    _refuse_types([value], COMPUTED | WIDENED)
    _refuse_large(value)
    if sorted(step.axes) != list(range(len(value.shape))):
        raise ValueError("a transposition's axes are not those of its value")
    return Value(value.dtype, tuple(value.shape[axis] for axis in step.axes))


def _permute_heads(step: PermuteHeads, value: Value) -> Value:
    _refuse_types([value], COMPUTED | WIDENED)
    if not value.shape or step.heads < 1 or value.shape[0] % (2 * step.heads):
        raise ValueError("the rows are not twice as many as any number for each head")
    _refuse_large(Value(value.dtype, (value.shape[0] // step.heads, *value.shape[1:])))
    return value


def _rows(step: Rows, value: Value) -> Value:
    _refuse_types([value], COMPUTED | WIDENED)
    if not value.shape or not 0 <= step.first < step.stop <= value.shape[0]:
        raise ValueError("a value does not have the rows that a step takes")
    return Value(value.dtype, (step.stop - step.first, *value.shape[1:]))


def _append(step: Append, value: Value) -> Value:
    _refuse_types([value], COMPUTED)
    if not value.shape or step.rows < 1:
        raise ValueError("no rows can be appended")
    shape = (value.shape[0] + step.rows, *value.shape[1:])
    _refuse_shape(shape)
    return Value(value.dtype, shape)


def _dequantise(_step: Dequantise, value: Value) -> Value:
    return Value("F32", value.shape) if value.dtype in DEQUANTISED else value


def _concatenate(_step: Concatenate, values: tuple[Value, ...]) -> Value:
    _refuse_types(values, COMPUTED | WIDENED)
    first = values[0]
    if any(not v.shape or (v.dtype, v.shape[1:]) != (first.dtype, first.shape[1:]) for v in values):
        raise ValueError("values of different types or rows cannot be concatenated")
    shape = (sum(value.shape[0] for value in values), *first.shape[1:])
    _refuse_shape(shape)
    return Value(first.dtype, shape)


def _linear(step: Linear, values: tuple[Value, ...]) -> Value:
    if step.divisor == 0:
        raise ValueError("a sum cannot be divided by 0")
    return _sum(values, (*step.weights, step.divisor), step.dtype)


def _task_vectors(step: TaskVectors, values: tuple[Value, ...]) -> Value:
    return _sum(values, (*step.weights, step.scale, 1.0), step.dtype)


def _sum(values: tuple[Value, ...], numbers: tuple[float, ...], dtype: str) -> Value:
    """Check a sum of values with one number more than there are values."""
    _refuse_types(values, COMPUTED | WIDENED)
    if len(numbers) != len(values) + 1 or not all(map(math.isfinite, numbers)):
        raise ValueError("a sum does not have a finite weight for each value")
    if dtype not in COMPUTED:
        raise ValueError("a sum cannot be computed so")
    if any(value.shape != values[0].shape for value in values):
        raise ValueError("values of different shapes cannot be added")
    return Value(dtype, values[0].shape)


def _low_rank(step: LowRank, values: tuple[Value, ...]) -> Value:
    _refuse_types(values, COMPUTED | WIDENED)
    known = step.dtype in COMPUTED and step.product in ("F64", "F32")
    if not known or not math.isfinite(step.scale):
        raise ValueError("a product of low rank cannot be computed so")
    if len(values) != 3 or any(len(value.shape) != 2 for value in values):
        raise ValueError("a product of low rank needs three matrices")
    base, left, right = (value.shape for value in values)
    if base != (left[0], right[1]) or left[1] != right[0]:
        raise ValueError("the matrices of a product do not fit each other")
    _refuse_large(values[2])
    return Value(step.dtype, base)


_SINGLE: dict[type, Callable[..., Value]] = {
    Cast: _cast, Transpose: _transpose, PermuteHeads: _permute_heads, Rows: _rows,
    Append: _append, Dequantise: _dequantise,
}  # fmt: skip
_COMBINED: dict[type, Callable[..., Value]] = {
    Concatenate: _concatenate, Linear: _linear, TaskVectors: _task_vectors, LowRank: _low_rank
}  # fmt: skip


# --- which elements each step needs ---------------------------------------------------------------


def _before(
    step: AnyStep, values: tuple[Value, ...], needed: tuple[Range, ...]
) -> tuple[Range, ...]:
    """Return what a step needs of ``values`` for the ranges ``needed`` of what it makes."""
    if isinstance(step, Concatenate):
        return _before_concatenation(values, needed[0])
    if isinstance(step, Linear | TaskVectors):
        return needed * len(values)
    if isinstance(step, LowRank):
        return _before_low_rank(values, needed[0])
    return tuple(
        _before_single(step, value, one) if one[0] < one[1] else (0, 0)
        for value, one in zip(values, needed, strict=True)
    )


def _before_single(step: AnyStep, value: Value, needed: Range) -> Range:
    first, stop = needed
    if isinstance(step, Transpose):
        return 0, value.size
    if isinstance(step, PermuteHeads):
        head = value.size // step.heads
        return first // head * head, -(-stop // head) * head
    if isinstance(step, Rows):
        return first + step.first * value.row, stop + step.first * value.row
    if isinstance(step, Append):
        return (first, min(stop, value.size)) if first < value.size else (0, 0)
    if isinstance(step, Dequantise):
        block = DTYPES[value.dtype].block_elements
        return first // block * block, -(-stop // block) * block
    return needed


def _before_concatenation(values: tuple[Value, ...], needed: Range) -> tuple[Range, ...]:
    found, begin = [], 0
    for value in values:
        first, stop = max(needed[0] - begin, 0), min(needed[1] - begin, value.size)
        found.append((first, stop) if first < stop else (0, 0))
        begin += value.size
    return tuple(found)


def _before_low_rank(values: tuple[Value, ...], needed: Range) -> tuple[Range, ...]:
    if needed[0] == needed[1]:
        return ((0, 0),) * 3
    width, rank = values[2].shape[1], values[2].shape[0]
    return needed, (needed[0] // width * rank, -(-needed[1] // width) * rank), (0, values[2].size)
