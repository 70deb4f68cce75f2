"""Predictions: the bytes or values that a plan makes of its bases.

``core.plan`` says which elements each step needs; here they are computed, a run of the target at a
time. docs/format-plans.md specifies the arithmetic.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hartonomous.codecs import kernel
from hartonomous.codecs.quantised_blocks import SHAPES
from hartonomous.core import plan as plans
from hartonomous.core.casts import STORED, Array, without_payload
from hartonomous.core.dtype import DTYPES
from hartonomous.core.ggml import dequantise_blocks
from hartonomous.core.plan import Plan, Range, Value
from hartonomous.core.sums import linear, low_rank, task_vectors

RUN_BYTES = 1 << 20
"""Target bytes computed at once, so that temporaries stay at some tens of megabytes."""


def predict(plan: Plan, start: int, stop: int, operands: Sequence[memoryview]) -> NDArray[np.uint8]:
    """Return the prediction of the target's bytes ``[start, stop)``, which may be cut anywhere.

    ``operands[i]`` holds exactly the bytes of ``plan.windows(plan, start, stop)[i]``. For a target
    of F32, F16 or BF16 the result is uint8 of stop - start elements, and may be a view of an
    operand. For any other target it is the float32 values of the whole blocks that the bytes touch.
    Raises ValueError if the plan is not sound or the operands have other sizes.
    """
    windows = plans.windows(plan, start, stop)
    if [operand.nbytes for operand in operands] != [one.stop - one.start for one in windows]:
        raise ValueError("the operands are not the windows of the range")
    levels = plans.ranges(plan, start, stop)
    if stop - start > RUN_BYTES and plan.steps and _in_runs(plan):
        return _predict_in_runs(plan, start, stop, operands)
    return _predict(plan, start, stop, operands, levels)


def _in_runs(plan: Plan) -> bool:
    """Say whether a run costs what it yields: no step before a transposition works on the whole."""
    steps = plan.steps
    turns = [at for at, step in enumerate(steps) if isinstance(step, plans.Transpose)]
    return not turns or turns[-1] == 0


def _predict_in_runs(
    plan: Plan, start: int, stop: int, operands: Sequence[memoryview]
) -> NDArray[np.uint8]:
    """Put the prediction together from runs that begin with whole blocks of the target."""
    outer = plans.windows(plan, start, stop)
    size = DTYPES[plan.dtype].block_bytes
    length = RUN_BYTES // size * size
    made = []
    at = start
    while at < stop:
        end = min(stop, at // size * size + length)
        inner = plans.windows(plan, at, end)
        parts = [
            operand[part.start - whole.start : part.stop - whole.start]
            if part.start < part.stop
            else operand[:0]
            for operand, part, whole in zip(operands, inner, outer, strict=True)
        ]
        made.append(_predict(plan, at, end, parts, plans.ranges(plan, at, end)))
        at = end
    return np.concatenate(made)


def _predict(
    plan: Plan,
    start: int,
    stop: int,
    operands: Sequence[memoryview],
    levels: Sequence[tuple[Range, ...]],
) -> NDArray[np.uint8]:
    if start == stop:
        return np.empty(0, np.uint8 if plan.dtype in plans.FLOAT_TARGETS else np.float32)
    types = plans.trace(plan)
    arrays = [
        np.frombuffer(operand, STORED.get(value.dtype, np.dtype(np.uint8)))
        for operand, value in zip(operands, types[0], strict=True)
    ]
    for step, values, have, need in zip(plan.steps, types, levels, levels[1:], strict=False):
        arrays = _apply(step, arrays, values, have, need)
    if plan.dtype not in plans.FLOAT_TARGETS:
        return arrays[0]
    first = plans.target_range(plan, start, stop)[0] * DTYPES[plan.dtype].block_bytes
    return arrays[0].view(np.uint8)[start - first : stop - first]


def _apply(
    step: plans.AnyStep,
    arrays: list[Array],
    values: Sequence[Value],
    have: Sequence[Range],
    need: Sequence[Range],
) -> list[Array]:
    """Carry out one step on the elements ``have`` of its values; returns the elements ``need``."""
    if all(first == stop for first, stop in need):  # only appended rows are wanted
        return [np.empty(0, np.uint8)] * len(need)
    typed = [(array, value.dtype) for array, value in zip(arrays, values, strict=True)]
    if isinstance(step, plans.Concatenate):
        return [_joined([array for array in arrays if len(array)])]
    if isinstance(step, plans.Linear):
        return [linear(typed, step.weights, step.dtype, step.divisor)]
    if isinstance(step, plans.TaskVectors):
        return [task_vectors(typed, step.weights, step.dtype, step.scale)]
    if isinstance(step, plans.LowRank):
        return [_low_rank(step, arrays, values, need[0])]
    return [
        _apply_to_one(step, *item) if item[3][0] < item[3][1] else item[0]
        for item in zip(arrays, values, have, need, strict=True)
    ]


def _apply_to_one(
    step: plans.AnyStep, array: Array, value: Value, have: Range, need: Range
) -> Array:
    if isinstance(step, plans.Cast):
        return kernel.active().cast(array, value.dtype, step.dtype, step.nan)
    if isinstance(step, plans.Transpose):
        return _transposed(step, array, value, need)
    if isinstance(step, plans.PermuteHeads):
        return _permuted(step, array, value, have, need)
    if isinstance(step, plans.Append):
        zeros = np.zeros(max(need[1] - max(need[0], value.size), 0), STORED[value.dtype])
        return _joined([one for one in (array, zeros) if len(one)])
    if isinstance(step, plans.Dequantise) and value.dtype in plans.DEQUANTISED:
        values = without_payload(_dequantised(array, value.dtype))
        return values[need[0] - have[0] : need[1] - have[0]]
    return array  # Rows: what is needed of the value is what there is


def _dequantised(blocks: Array, dtype: str) -> Array:
    """Return the float32 values of whole blocks; the kernel does what it derives, too."""
    shape = SHAPES.get(dtype)
    if shape is None:
        return dequantise_blocks(blocks.tobytes(), dtype)
    values = np.empty(len(blocks) // shape.byte_count * shape.elements, np.float32)
    kernel.active().block_values(shape, blocks, values)
    return values


def _joined(arrays: list[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _transposed(step: plans.Transpose, array: Array, value: Value, need: Range) -> Array:
    view = array.reshape(value.shape).transpose(step.axes)
    if not view.shape:
        return array
    row = value.size // view.shape[0]
    first, stop = need[0] // row, -(-need[1] // row)
    rows = np.ascontiguousarray(view[first:stop]).reshape(-1)
    return rows[need[0] - first * row : need[1] - first * row]


def _permuted(
    step: plans.PermuteHeads, array: Array, value: Value, have: Range, need: Range
) -> Array:
    """Take the rows needed from the whole heads that there are."""
    head, row = value.shape[0] // step.heads, value.row
    first, stop = need[0] // row, -(-need[1] // row)
    rows = np.arange(first, stop)
    inside = rows % head
    # heads × 2 × half → heads × half × 2: row 2 i + j comes from row j × half + i.
    stride = 2 if step.inverse else head // 2
    source = rows - inside + inside % (head // stride) * stride + inside // (head // stride)
    taken: Array = array.reshape(-1, row)[source - have[0] // row].reshape(-1)
    return taken[need[0] - first * row : need[1] - first * row]


def _low_rank(
    step: plans.LowRank, arrays: list[Array], values: Sequence[Value], need: Range
) -> Array:
    """Compute whole rows, or the part of one row, around the elements needed."""
    width, rank = values[2].shape[1], values[2].shape[0]
    rows, right = -(-need[1] // width) - need[0] // width, arrays[2].reshape(rank, width)
    first = need[0] % width
    base = arrays[0]
    if rows == 1:
        right = right[:, first : first + len(base)]
    else:
        base = np.zeros(rows * width, base.dtype)
        base[first : first + len(arrays[0])] = arrays[0]
    made = low_rank(
        (base.reshape(rows, -1), values[0].dtype),
        (arrays[1].reshape(rows, rank), values[1].dtype),
        (right, values[2].dtype),
        step.scale,
        step.dtype,
        product=step.product,
    ).reshape(-1)
    return made if rows == 1 else made[first : first + len(arrays[0])]
