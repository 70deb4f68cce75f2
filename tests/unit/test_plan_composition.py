"""Composed plans give the bits of the two plans carried out one after the other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hartonomous.codecs.prediction import predict
from hartonomous.core import plan as plans
from hartonomous.core.dtype import DTYPES
from hartonomous.core.plan import (
    Append,
    Cast,
    Linear,
    Operand,
    PermuteHeads,
    Plan,
    Rows,
    Transpose,
)
from hartonomous.core.plan_composition import compose

ROWS, COLUMNS = 16, 24
SHAPE = (ROWS, COLUMNS)
FLOATS = ("F32", "F16", "BF16")


def noise(seed, count=ROWS * COLUMNS):
    """Any bits: NaNs, infinities and subnormal numbers among them."""
    return np.random.default_rng(seed).integers(0, 256, 4 * count, np.uint8).tobytes()


def made(plan, bases):
    windows = plans.windows(plan, 0, plans.target_bytes(plan))
    parts = [
        memoryview(base)[one.start : one.stop] for base, one in zip(bases, windows, strict=True)
    ]
    return predict(plan, 0, plans.target_bytes(plan), parts).tobytes()


def check(plan, below, bases):
    """Compare; ``bases[i]`` are those of base ``i``, or its own bytes where nothing is below."""
    composed = compose(plan, below)
    assert composed is not None
    between = [
        of[0] if one is None else made(one, of) for one, of in zip(below, bases, strict=True)
    ]
    given_bases = [bases[at][number or 0] for at, number in composed.sources]
    assert made(composed.plan, given_bases) == made(plan, between)
    return composed.plan


def casts(source, *steps, shape=SHAPE, first=0):
    target = steps[-1] if steps else source
    return Plan(target, shape, (Operand(source, shape, first),), tuple(map(Cast, steps)))


@given(st.integers(0, 2**32), st.sampled_from(FLOATS), st.sampled_from(FLOATS))
def test_a_cast_of_a_cast(seed, middle, last):
    plan = casts(middle, last)
    check(plan, [casts("F32", "F16", middle)], [[noise(seed)]])


@given(st.integers(0, 2**32), st.integers(0, ROWS - 4), st.sampled_from(FLOATS))
def test_some_rows_of_what_was_transposed_or_permuted(seed, first, dtype):
    inner = Plan("BF16", SHAPE, (Operand("F32", (COLUMNS, ROWS)),), (Transpose(), Cast("BF16")))
    rows = Plan(
        dtype, (4, COLUMNS), (Operand("BF16", (4, COLUMNS), first * COLUMNS),), (Cast(dtype),)
    )
    assert Rows(first, first + 4) in check(rows, [inner], [[noise(seed)]]).steps
    inner = Plan("F16", SHAPE, (Operand("F16", SHAPE),), (PermuteHeads(2),))
    check(casts("F16", dtype), [inner], [[noise(seed)]])


@given(st.integers(0, 2**32))
def test_a_cast_of_a_sum(seed):
    inner = Plan(
        "F32", SHAPE, (Operand("F32", SHAPE), Operand("F16", SHAPE)), (Linear((0.5, 0.25), "F32"),)
    )
    plan = check(casts("F32", "BF16"), [inner], [[noise(seed), noise(seed + 1)]])
    assert len(plan.operands) == 2


@given(st.integers(0, 2**32))
def test_a_sum_of_alike_casts_and_of_what_has_their_type(seed):
    plan = Plan("BF16", SHAPE, (Operand("BF16", SHAPE),) * 3, (Linear((0.5, 0.25, 0.25), "BF16"),))
    inner = casts("F32", "BF16", first=0)
    check(plan, [inner, None, inner], [[noise(seed)], [noise(seed + 1)], [noise(seed + 2)]])


def test_parts_of_casts_begin_where_they_did():
    inner = Plan("BF16", (100,), (Operand("F32", (100,), 7),), (Cast("BF16"),))
    plan = Plan("BF16", (20,), (Operand("BF16", (20,), 30),))
    found = check(plan, [inner], [[noise(1)]])
    assert found.operands[0] == Operand("F32", (20,), 37)


def test_a_type_that_is_quantised_after_a_cast():
    inner = casts("F32", "F16", shape=(ROWS, 32))
    plan = Plan("Q8_0", (ROWS, 32), (Operand("F16", (ROWS, 32)),), (Cast("F32"),))
    check(plan, [inner], [[noise(3, ROWS * 32)]])
    assert DTYPES["Q8_0"].kind == "quantised"


@pytest.mark.parametrize(
    ("plan", "below"),
    [
        # Other casts of the operands of one sum, and a cast that would change what stays.
        (Plan("F32", SHAPE, (Operand("F32", SHAPE),) * 2, (Linear((0.5, 0.5), "F32"),)),
         [casts("F32", "F16", "F32"), casts("F32", "BF16", "F32")]),
        (Plan("F32", SHAPE, (Operand("F32", SHAPE),) * 2, (Linear((0.5, 0.5), "F32"),)),
         [casts("F32", "F16", "F32"), None]),
        # Zeros behind the end of a base have no place in the middle of a plan.
        (casts("F32", "F16"),
         [Plan("F32", SHAPE, (Operand("F32", (4, COLUMNS)),), (Append(ROWS - 4),))]),
        # The bytes are read as another type than the one that was computed.
        (casts("F16", shape=(ROWS, COLUMNS)), [casts("F32", "BF16")]),
        # More steps than a plan may have.
        (casts("F32", *["F16", "F32"] * 4), [casts("F32", "BF16", "F32")]),
        (casts("F32", "F16"), [None]),
    ],
)  # fmt: skip
def test_what_is_no_plan_is_not_composed(plan, below):
    assert compose(plan, below) is None
