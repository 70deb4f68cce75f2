"""Plans: what is a sound one, and which bytes of its bases it needs."""

import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_samples import sound_plans

from hartonomous.core import ggml
from hartonomous.core import plan as plans
from hartonomous.core.dtype import DTYPES
from hartonomous.core.plan import Operand, Plan, Window, decode, encode, windows
from hartonomous.errors import IntegrityError

MATRIX = Operand("F32", (4, 6))


def plan_of(*steps, dtype="F32", shape=(4, 6), operands=(MATRIX,)):
    return Plan(dtype, shape, operands, steps)


@given(sound_plans(), st.data())
def test_windows_are_inside_the_operands_and_whole_for_the_whole(plan, data):
    size = plans.target_bytes(plan)
    start = data.draw(st.integers(0, size))
    stop = data.draw(st.integers(start, size))
    found = windows(plan, start, stop)
    assert [one.operand for one in found] == list(range(len(plan.operands)))
    for one, operand, end in zip(found, plan.operands, plans.base_bytes(plan), strict=True):
        known = DTYPES[operand.dtype]
        begin = operand.first // known.block_elements * known.block_bytes
        if one.start == one.stop:
            assert one == Window(one.operand, 0, 0)
        else:
            assert begin <= one.start < one.stop <= end
            assert (one.start - begin) % known.block_bytes == 0
            assert (one.stop - begin) % known.block_bytes == 0
    if start == stop:
        assert all(one.start == one.stop for one in found)


@given(sound_plans(), st.data())
def test_a_wider_range_needs_no_less(plan, data):
    size = plans.target_bytes(plan)
    a, b, c, d = sorted(data.draw(st.lists(st.integers(0, size), min_size=4, max_size=4)))
    for inner, outer in zip(windows(plan, b, c), windows(plan, a, d), strict=True):
        if inner.start < inner.stop:
            assert outer.start <= inner.start < inner.stop <= outer.stop


def test_windows_of_casts_rows_and_parts():
    cast = plan_of(plans.Cast("BF16"), dtype="BF16", operands=(Operand("F32", (4, 6), 100),))
    assert windows(cast, 3, 5) == (Window(0, 404, 412),)
    blocks = Plan("Q4_K", (2, 256), (Operand("F16", (2, 256), 1),), (plans.Cast("F32"),))
    assert windows(blocks, 143, 145) == (Window(0, 2, 2 + 1024),)
    assert windows(blocks, 144, 150) == (Window(0, 2 + 512, 2 + 1024),)
    appended = plan_of(plans.Append(2), shape=(6, 6))
    assert windows(appended, 0, 144) == (Window(0, 0, 96),)
    assert windows(appended, 96, 144) == (Window(0, 0, 0),)
    joined = plan_of(plans.Concatenate(), shape=(8, 6), operands=(MATRIX, MATRIX))
    assert windows(joined, 90, 100) == (Window(0, 88, 96), Window(1, 0, 4))


def test_windows_of_a_range_that_the_target_does_not_have_are_refused():
    for start, stop in ((-1, 4), (0, 97), (5, 4)):
        with pytest.raises(ValueError, match="no bytes"):
            windows(plan_of(), start, stop)


UNSOUND = {
    "no operand": plan_of(operands=()),
    "nine operands": plan_of(plans.Linear((1.0,) * 9), plans.Cast("F32"), operands=(MATRIX,) * 9),
    "nine steps": plan_of(*[plans.Cast("F32")] * 9),
    "another shape": plan_of(shape=(6, 4)),
    "another type": plan_of(dtype="F16"),
    "two values": plan_of(operands=(MATRIX, MATRIX)),
    "an empty shape": plan_of(shape=(0, 6), operands=(Operand("F32", (0, 6)),)),
    "a negative extent": plan_of(shape=(-2, -3), operands=(Operand("F32", (-2, -3)),)),
    "too many elements": plan_of(shape=(2**60, 2), operands=(Operand("F32", (2**60, 2)),)),
    "nine axes": plan_of(shape=(1,) * 9, operands=(Operand("F32", (1,) * 9),)),
    "an unknown operand": plan_of(operands=(Operand("F31", (4, 6)),)),
    "an operand of integers": plan_of(operands=(Operand("I32", (4, 6)),)),
    "a negative start": plan_of(operands=(Operand("F32", (4, 6), -1),)),
    "an unknown target": plan_of(dtype="F31"),
    "a logical target": plan_of(dtype="BOOL"),
    "blocks that are not whole": Plan("Q8_0", (4, 6), (MATRIX,)),
    "a start inside a block": Plan(
        "F32", (32,), (Operand("Q8_0", (32,), 16),), (plans.Dequantise(),)
    ),
    "a cast of blocks": Plan("F32", (32,), (Operand("Q8_0", (32,)),), (plans.Cast("F32"),)),
    "a cast to integers": plan_of(plans.Cast("I8"), dtype="I8"),
    "an unknown rule": plan_of(plans.Cast("BF16", "loud"), dtype="BF16"),
    "axes that are not there": plan_of(plans.Transpose((0, 2)), shape=(4, 6)),
    "an axis twice": plan_of(plans.Transpose((0, 0)), shape=(4, 4)),
    "one axis": plan_of(plans.Transpose((0,)), shape=(4,)),
    "no heads": plan_of(plans.PermuteHeads(0)),
    "heads that do not fit": plan_of(plans.PermuteHeads(4)),
    "rows that are not there": plan_of(plans.Rows(2, 5), shape=(3, 6)),
    "no rows": plan_of(plans.Rows(2, 2), shape=(0, 6)),
    "rows appended twice": plan_of(plans.Append(1), plans.Append(1), shape=(6, 6)),
    "fewer rows appended": plan_of(plans.Append(-1), shape=(3, 6)),
    "rows of a scalar": plan_of(plans.Rows(0, 1), shape=(), operands=(Operand("F32", ()),)),
    "parts of other types": plan_of(
        plans.Concatenate(), shape=(8, 6), operands=(MATRIX, Operand("F16", (4, 6)))
    ),
    "parts of other rows": plan_of(
        plans.Concatenate(), shape=(8, 6), operands=(MATRIX, Operand("F32", (4, 5)))
    ),
    "a weight too few": plan_of(plans.Linear((), "F32")),
    "a weight that is no number": plan_of(plans.Linear((math.nan,), "F32")),
    "an infinite divisor": plan_of(plans.Linear((1.0,), "F32", math.inf)),
    "a divisor of zero": plan_of(plans.Linear((1.0,), "F32", 0.0)),
    "a sum in integers": plan_of(plans.Linear((1.0,), "I32")),
    "a sum of other shapes": plan_of(
        plans.Linear((1.0, 1.0), "F32"), operands=(MATRIX, Operand("F32", (6, 4)))
    ),
    "one matrix": plan_of(plans.LowRank(1.0, "F32")),
    "matrices that do not fit": plan_of(
        plans.LowRank(1.0, "F32"), operands=(MATRIX, Operand("F32", (4, 2)), MATRIX)
    ),
    "an infinite scale": plan_of(
        plans.LowRank(math.inf, "F32"),
        operands=(MATRIX, Operand("F32", (4, 2)), Operand("F32", (2, 6))),
    ),
    "a large transposition": plan_of(
        plans.Transpose(), shape=(8192, 4097), operands=(Operand("F32", (4097, 8192)),)
    ),
    "one large head": plan_of(
        plans.PermuteHeads(1), shape=(8192, 4097), operands=(Operand("F32", (8192, 4097)),)
    ),
    "a long text": plan_of(plans.Cast("x" * 70_000)),
}


@pytest.mark.parametrize("plan", UNSOUND.values(), ids=UNSOUND.keys())
def test_an_unsound_plan_is_neither_written_nor_read(plan):
    with pytest.raises(ValueError):
        encode(plan)
    with pytest.raises(IntegrityError):
        decode(msgspec.json.encode(plan))


def test_what_is_as_large_as_allowed_is_sound():
    plan = plan_of(plans.Transpose(), shape=(8192, 4096), operands=(Operand("F32", (4096, 8192)),))
    assert decode(encode(plan)) == plan


SOUND = b'{"dtype":"F32","shape":[4],"operands":[{"dtype":"F32","shape":[4]}]}'
HOSTILE = {
    "nothing": b"",
    "no JSON": b"\xff\xfe",
    "another value": b"[]",
    "null": b"null",
    "cut": SOUND[:-1],
    "more behind": SOUND + b"{}",
    "no operands": b'{"dtype":"F32","shape":[4]}',
    "an unknown member": SOUND[:-1] + b',"more":1}',
    "an unknown member of an operand": SOUND.replace(b"}]", b',"more":1}]'),
    "an unknown step": SOUND[:-1] + b',"steps":[{"step":"run","code":"x"}]}',
    "a step without a name": SOUND[:-1] + b',"steps":[{"dtype":"F32"}]}',
    "a member too many in a step": SOUND[:-1]
    + b',"steps":[{"step":"cast","dtype":"F32","more":1}]}',
    "a text for a number": SOUND.replace(b"[4]}]", b'["4"]}]'),
    "half an element": SOUND.replace(b"[4]}]", b"[4.5]}]"),
    "a large number": SOUND.replace(b"[4]}]", b"[1" + b"0" * 400 + b"]}]"),
    "a huge number": SOUND.replace(b"[4]}]", b"[1" + b"0" * 5000 + b"]}]"),
    "deep nesting": b"[" * 50_000,
    "deep nesting in a member": SOUND[:-1] + b',"steps":' + b"[" * 30_000,
    "not a number": SOUND[:-1] + b',"steps":[{"step":"linear","weights":[NaN]}]}',
    "no number": SOUND[:-1] + b',"steps":[{"step":"linear","weights":[null],"dtype":"F32"}]}',
    "an infinite weight": SOUND[:-1]
    + b',"steps":[{"step":"linear","weights":[1e999],"dtype":"F32"}]}',
    "too long": SOUND + b" " * 60_000,
    "a lone surrogate": SOUND.replace(
        b'"F32","shape":[4],"operands"', b'"\\ud800","shape":[4],"operands"'
    ),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_json_is_refused(content):
    assert decode(SOUND) == Plan("F32", (4,), (Operand("F32", (4,)),))
    with pytest.raises(IntegrityError, match="plan"):
        decode(content)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["F32", "cast", "x"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["dtype", "shape", "operands", "steps", "step", "first"]), inner
        )
    ),
    max_leaves=12,
)


@given(_json)
def test_any_json_is_a_plan_or_refused(value):
    try:
        plan = decode(json.dumps(value).encode())
    except IntegrityError:
        return
    assert decode(encode(plan)) == plan


@given(sound_plans(), st.data())
def test_any_change_of_a_plan_is_a_plan_or_refused(plan, data):
    value = json.loads(encode(plan))
    place = data.draw(st.sampled_from(["dtype", "shape", "operands", "steps"]))
    value[place] = data.draw(_json)
    try:
        changed = decode(json.dumps(value).encode())
    except IntegrityError:
        return
    size = plans.target_bytes(changed)
    assert len(windows(changed, 0, min(size, 1))) == len(changed.operands)


def test_the_blocks_that_plans_take_are_those_that_can_be_dequantised():
    assert set(ggml.dequantisable_types()) >= plans.DEQUANTISED
    assert {DTYPES[name].kind for name in plans.DEQUANTISED} == {"quantised"}
