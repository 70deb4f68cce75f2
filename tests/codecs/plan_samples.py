"""Plans to test with: a strategy of sound ones, their operands, and a plain way to carry them out.

``whole`` computes all of a target with ml_dtypes and whole arrays, and shares no code with the
program but the dequantisation of blocks.
"""

import math

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from hartonomous.core import plan as plans
from hartonomous.core.dtype import DTYPES
from hartonomous.core.ggml import dequantise_blocks
from hartonomous.core.plan import Operand, Plan

NUMPY = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16), "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}  # fmt: skip
SOURCES = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
FLOATS = ("F64", "F32", "F16", "BF16")


def elements(dtype: str, count: int, seed: int) -> np.ndarray:
    """Return weights, small and large, with zeros, but without NaN and infinity."""
    random = np.random.default_rng(seed)
    values = random.standard_normal(count) * np.exp2(random.integers(-30, 6, count))
    values[random.random(count) < 0.05] = -0.0
    if dtype in NUMPY:
        with np.errstate(all="ignore"):
            return values.astype(np.float32).astype(NUMPY[dtype])
    known = DTYPES[dtype]
    blocks = random.integers(0, 256, (count // known.block_elements, known.block_bytes), np.uint8)
    return _finite(blocks, dtype)


def _finite(blocks: np.ndarray, dtype: str) -> np.ndarray:
    """Replace blocks whose scale is NaN or infinite by zeros."""
    values = dequantise_blocks(blocks.tobytes(), dtype).reshape(len(blocks), -1)
    blocks[~np.isfinite(values).all(axis=1)] = 0
    return blocks.reshape(-1)


def bases(plan: Plan, seed: int) -> list[bytes]:
    """Return bytes of each operand's base, with some before and behind the part."""
    made = []
    for number, one in enumerate(plan.operands):
        block = DTYPES[one.dtype].block_elements
        made.append(elements(one.dtype, one.first + one.count + 2 * block, seed + number).tobytes())
    return made


def whole(plan: Plan, contents: list[bytes]) -> np.ndarray:
    """Return all elements of the prediction."""
    values = [_operand(one, content) for one, content in zip(plan.operands, contents, strict=True)]
    for step in plan.steps:
        values = _apply(step, values)
    (made,) = values
    return made.reshape(-1)


def _operand(one: Operand, content: bytes) -> np.ndarray:
    if one.dtype in NUMPY:
        found = np.frombuffer(content, NUMPY[one.dtype])[one.first : one.first + one.count]
    else:
        found = dequantise_blocks(content, one.dtype)[one.first : one.first + one.count]
    return found.reshape(one.shape)


def _rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        return values.astype(NUMPY[dtype]).astype(values.dtype)


def _apply(step: plans.AnyStep, values: list[np.ndarray]) -> list[np.ndarray]:
    with np.errstate(all="ignore"):
        match step:
            case plans.Cast():
                return [_cast(one, step.dtype) for one in values]
            case plans.Transpose():
                return [one.transpose(step.axes) for one in values]
            case plans.PermuteHeads():
                return [_heads(step, one) for one in values]
            case plans.Rows():
                return [one[step.first : step.stop] for one in values]
            case plans.Append():
                return [_append(step, one) for one in values]
            case plans.Concatenate():
                return [np.concatenate(values)]
            case plans.Linear():
                return [_linear(step, values)]
            case plans.TaskVectors():
                return [_task_vectors(step, values)]
            case plans.LowRank():
                return [_low_rank(step, *values)]
    return values


def _cast(one: np.ndarray, dtype: str) -> np.ndarray:
    if one.dtype.itemsize == 2 or dtype == "BF16":
        one = one.astype(np.float32)
    return one.astype(NUMPY[dtype])


def _heads(step: plans.PermuteHeads, one: np.ndarray) -> np.ndarray:
    half = one.shape[0] // step.heads // 2
    cut = (step.heads, half, 2) if step.inverse else (step.heads, 2, half)
    return one.reshape(*cut, *one.shape[1:]).swapaxes(1, 2).reshape(one.shape)


def _append(step: plans.Append, one: np.ndarray) -> np.ndarray:
    return np.concatenate([one, np.zeros((step.rows, *one.shape[1:]), one.dtype)])


def _linear(step: plans.Linear, values: list[np.ndarray]) -> np.ndarray:
    wide = np.float64 if step.dtype == "F64" else np.float32
    terms = [
        _rounded(one.astype(wide) * wide(weight), step.dtype)
        for one, weight in zip(values, step.weights, strict=True)
    ]
    total = terms[0]
    for term in terms[1:]:
        total = _rounded(total + term, step.dtype)
    if step.divisor != 1:
        total = _rounded(total / wide(step.divisor), step.dtype)
    return total.astype(NUMPY[step.dtype])


def _task_vectors(step: plans.TaskVectors, values: list[np.ndarray]) -> np.ndarray:
    wide = np.float64 if step.dtype == "F64" else np.float32
    base, *others = (_rounded(one.astype(wide), step.dtype) for one in values)
    # All but the first are rounded once, after the subtraction.
    others = [_rounded(one.astype(wide) - base, step.dtype) for one in values[1:]]
    terms = [
        _rounded(one * wide(weight), step.dtype)
        for one, weight in zip(others, step.weights, strict=True)
    ]
    total = terms[0] if terms else np.zeros_like(base)
    for term in terms[1:]:
        total = _rounded(total + term, step.dtype)
    total = _rounded(total * wide(step.scale), step.dtype)
    return _rounded(base + total, step.dtype).astype(NUMPY[step.dtype])


def _low_rank(step: plans.LowRank, base, left, right) -> np.ndarray:
    wide = np.float64 if step.dtype == "F64" else np.float32
    kind = NUMPY[step.product]
    left, right = (one.astype(kind).astype(np.float64) for one in (left, right))
    product = np.outer(left[:, 0], right[0]).astype(kind)
    for k in range(1, left.shape[1]):
        product = (product.astype(np.float64) + np.outer(left[:, k], right[k])).astype(kind)
    delta = product.astype(wide) if step.dtype in ("F64", "F32") else product.astype(np.float32)
    delta = _rounded(_rounded(delta, step.dtype) * wide(step.scale), step.dtype)
    return _rounded(base.astype(wide) + delta, step.dtype).astype(NUMPY[step.dtype])


# --- sound plans ----------------------------------------------------------------------------------

_sides = st.integers(1, 12)
_weights = st.floats(-2, 2, width=32)


@st.composite
def sound_plans(draw: st.DrawFn) -> Plan:
    """Draw plans of every step; the bases hold what the operands need."""
    kind = draw(st.sampled_from(("plain", "concatenate", "linear", "low rank", "blocks")))
    operands, steps, shape, dtype = getattr(_Draws, kind.replace(" ", "_"))(draw)
    if draw(st.booleans()) and len(shape) > 1:
        axes = tuple(draw(st.permutations(range(len(shape)))))
        steps.append(plans.Transpose(axes))
        shape = tuple(shape[axis] for axis in axes)
    if draw(st.booleans()) and shape and shape[0] % 2 == 0:
        heads = draw(st.sampled_from([n for n in (1, 2, 3) if shape[0] % (2 * n) == 0]))
        steps.append(plans.PermuteHeads(heads, draw(st.booleans())))
    if draw(st.booleans()) and shape:
        first = draw(st.integers(0, shape[0] - 1))
        stop = draw(st.integers(first + 1, shape[0]))
        steps.append(plans.Rows(first, stop))
        shape = (stop - first, *shape[1:])
    target = draw(st.sampled_from(("F32", "F16", "BF16")))
    if draw(st.integers(0, 4)) == 0:
        target = draw(st.sampled_from(("I8", "Q8_0", "Q4_K")))
    wanted = target if target in plans.FLOAT_TARGETS else "F32"
    if wanted != dtype or draw(st.booleans()):
        steps.append(plans.Cast(wanted))
    if draw(st.booleans()) and shape:
        rows = draw(st.integers(1, 5))
        steps.append(plans.Append(rows))
        shape = (shape[0] + rows, *shape[1:])
    if math.prod(shape) % DTYPES[target].block_elements:
        target = wanted
    return Plan(target, shape, tuple(operands), tuple(steps))


class _Draws:
    @staticmethod
    def operand(draw, shape, types=SOURCES) -> Operand:
        return Operand(draw(st.sampled_from(types)), shape, draw(st.integers(0, 9)))

    @staticmethod
    def plain(draw):
        shape = draw(st.lists(_sides, max_size=4).map(tuple) | st.just((8, 32)))
        one = _Draws.operand(draw, shape)
        return [one], [], shape, one.dtype

    @staticmethod
    def concatenate(draw):
        row = draw(st.lists(_sides, max_size=2).map(tuple))
        rows = draw(st.lists(_sides, min_size=1, max_size=4))
        dtype = draw(st.sampled_from(SOURCES))
        operands = [_Draws.operand(draw, (n, *row), (dtype,)) for n in rows]
        return operands, [plans.Concatenate()], (sum(rows), *row), dtype

    @staticmethod
    def linear(draw):
        shape = draw(st.lists(_sides, max_size=3).map(tuple))
        weights = tuple(draw(st.lists(_weights, min_size=1, max_size=8)))
        dtype, divisor = draw(st.sampled_from(FLOATS)), draw(st.sampled_from((1.0, 3.0, -7.5)))
        operands = [_Draws.operand(draw, shape) for _ in weights]
        step = plans.Linear(weights, dtype, divisor)
        if draw(st.booleans()):
            step = plans.TaskVectors(weights[1:], dtype, divisor)
        return operands, [step], shape, dtype

    @staticmethod
    def low_rank(draw):
        out, rank, width = draw(_sides), draw(_sides), draw(_sides)
        operands = [_Draws.operand(draw, one) for one in ((out, width), (out, rank), (rank, width))]
        dtype, product = draw(st.sampled_from(FLOATS)), draw(st.sampled_from(("F64", "F32")))
        return operands, [plans.LowRank(draw(_weights), dtype, product)], (out, width), dtype

    @staticmethod
    def blocks(draw):
        dtype = draw(st.sampled_from(sorted(plans.DEQUANTISED)))
        block = DTYPES[dtype].block_elements
        shape = draw(st.sampled_from(((2, block), (4, block // 2), (block * 3,))))
        operand = Operand(dtype, shape, draw(st.integers(0, 2)) * block)
        return [operand], [plans.Dequantise()], shape, "F32"
