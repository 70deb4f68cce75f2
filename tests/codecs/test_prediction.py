"""Predictions: the arithmetic of each step, and that a range is the slice of the whole."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from plan_samples import bases, sound_plans, whole

from hartonomous.codecs import prediction
from hartonomous.core import plan as plans
from hartonomous.core.casts import cast
from hartonomous.core.dtype import DTYPES
from hartonomous.core.plan import Operand, Plan, decode, encode, target_bytes, windows
from hartonomous.core.sums import linear

TORCH = Path(__file__).resolve().parents[1] / "fixtures" / "casts" / "torch.json"


def predict(plan, start, stop, contents):
    parts = [
        memoryview(contents[window.operand])[window.start : window.stop]
        for window in windows(plan, start, stop)
    ]
    return prediction.predict(plan, start, stop, parts)


def expected(plan, start, stop, made):
    """Return the slice of the whole prediction that the bytes [start, stop) are or come from."""
    if plan.dtype in plans.FLOAT_TARGETS:
        return made.view(np.uint8)[start:stop]
    first, last = plans.target_range(plan, start, stop)
    return made[first:last].view(np.uint8) if start < stop else made[:0].view(np.uint8)


@given(sound_plans(), st.integers(0, 2**32), st.data())
def test_a_range_is_the_slice_of_the_whole(plan, seed, data):
    contents, size = bases(plan, seed), target_bytes(plan)
    made = np.ascontiguousarray(whole(plan, contents))
    start = data.draw(st.integers(0, size), label="start")
    stop = data.draw(st.integers(start, size), label="stop")
    for first, last in ((0, size), (start, stop)):
        found = predict(plan, first, last, contents)
        assert found.dtype == (np.uint8 if plan.dtype in plans.FLOAT_TARGETS else np.float32)
        assert bytes(found.view(np.uint8)) == bytes(expected(plan, first, last, made))


@given(sound_plans(), st.integers(0, 2**32), st.data())
def test_long_ranges_are_computed_in_runs_alike(plan, seed, data):
    contents, size = bases(plan, seed), target_bytes(plan)
    start = data.draw(st.integers(0, size), label="start")
    at_once = predict(plan, start, size, contents)
    with pytest.MonkeyPatch.context() as patch:
        run = data.draw(st.integers(DTYPES[plan.dtype].block_bytes, 700), label="run")
        patch.setattr(prediction, "RUN_BYTES", run)
        assert bytes(predict(plan, start, size, contents)) == bytes(at_once)


@given(sound_plans())
def test_a_plan_survives_its_encoding(plan):
    assert decode(encode(plan)) == plan
    assert encode(decode(encode(plan))) == encode(plan)


def test_what_is_predicted_as_it_stands_is_not_copied():
    content = np.arange(4096, dtype="<f4").tobytes()
    plan = Plan("F32", (32, 64), (Operand("F32", (32, 64), 100),))
    found = predict(plan, 10, 8001, [content])
    assert np.shares_memory(found, np.frombuffer(content, np.uint8))
    assert bytes(found) == content[410:8401]


def test_operands_of_another_size_are_refused():
    plan = Plan("F32", (4,), (Operand("F32", (4,)),))
    with pytest.raises(ValueError, match="windows"):
        prediction.predict(plan, 0, 16, [memoryview(bytes(15))])


@pytest.mark.parametrize(
    "entry",
    json.loads(TORCH.read_text())["entries"],
    ids=lambda one: " ".join(map(str, one.get("cast") or one["linear"])),
)
def test_casts_and_sums_are_those_of_torch(entry):
    stored = {name: np.dtype(kind) for name, kind in _STORED.items()}
    values = [bytes.fromhex(one) for one in entry["values"]]
    if "cast" in entry:
        source, target = entry["cast"]
        before = np.frombuffer(values[0], stored[source])
        if source == "F64" and target == "F16":  # torch rounds twice
            before, source = cast(before, "F64", "F32"), "F32"
        made = cast(before, source, target)
    else:
        dtype, weights, divisor = entry["linear"]
        typed = [(np.frombuffer(one, stored[dtype]), dtype) for one in values]
        made = linear(typed, weights, dtype, divisor)
    assert made.tobytes().hex() == entry["result"]


_STORED = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "F8_E4M3": "u1",
    "F8_E5M2": "u1",
}
_ML = {
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
}


@pytest.mark.parametrize("source", ["F16", "BF16", "F8_E4M3", "F8_E5M2"])
@pytest.mark.parametrize("target", ["F64", "F32", "F16", "BF16"])
def test_every_element_of_a_narrow_type_is_cast_as_by_ml_dtypes(source, target):
    bits = np.dtype(_STORED[source])
    codes = np.arange(1 << 8 * bits.itemsize).astype(bits.str.replace("f", "u")).view(bits)
    numbers = codes.view(_ML.get(source, bits))
    with np.errstate(all="ignore"):
        peer = numbers.astype(np.float32).astype(_ML.get(target, _STORED[target]))
    made = cast(codes, source, target).view(_ML.get(target, _STORED[target]))
    number = ~np.isnan(numbers.astype(np.float32))
    with np.errstate(invalid="ignore"):  # a signalling NaN of F64
        assert (np.isnan(made.astype(np.float32)) == ~number).all()
    assert made[number].tobytes() == peer[number].tobytes()


@given(
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=64), st.sampled_from(["F16", "BF16"])
)
@example([0x7F7FFFFF, 0x00000001, 0x33000000, 0x33000001, 0x477FF000, 0x477FEFFF], "F16")
def test_any_f32_is_rounded_as_by_ml_dtypes(bits, target):
    values = np.array(bits, "<u4").view("<f4")
    kind = _ML.get(target, "<f2")
    with np.errstate(all="ignore"):
        peer = values.astype(kind)
    made = cast(values, "F32", target).view(kind)
    number = ~np.isnan(values)
    assert made[number].tobytes() == peer[number].tobytes()
    assert np.isnan(made[~number].astype(np.float32)).all()


@pytest.mark.parametrize(
    ("rule", "bf16", "f16"),
    [
        ("quiet", [0x7FC0, 0x7FC0, 0xFFD2, 0xFFFF], [0x7E00, 0x7E00, 0xFE91, 0xFFFF]),
        ("kept", [0x7FC0, 0x7F81, 0xFF92, 0xFFFF], [0x7E00, 0x7C01, 0xFC91, 0xFFFF]),
        ("signed", [0x7FC0, 0x7FC0, 0xFFC0, 0xFFC0], [0x7E00, 0x7E00, 0xFE00, 0xFE00]),
        ("canonical", [0x7FC0] * 4, [0x7E00] * 4),
        ("ones", [0xFFFF] * 4, [0xFFFF] * 4),
    ],
)
def test_each_rule_of_nan(rule, bf16, f16):
    values = np.array([0x7FC00000, 0x7F800001, 0xFF923456, 0xFFFFFFFF, 0x3F800000], "<u4")
    made = {
        target: cast(values.view("<f4"), "F32", target, rule).view("<u2").tolist()
        for target in ("BF16", "F16")
    }
    assert made == {"BF16": [*bf16, 0x3F80], "F16": [*f16, 0x3C00]}


def test_the_rule_of_nan_is_ml_dtypes_and_a_wider_type_keeps_the_payload():
    odd = np.array([0x7FC00000, 0x7F800001, 0xFF923456, 0xFFFFFFFF], "<u4").view("<f4")
    with np.errstate(all="ignore"):
        peer = odd.astype(ml_dtypes.bfloat16)
    assert cast(odd, "F32", "BF16", "signed").tobytes() == peer.tobytes()
    half = np.array([0x7C01, 0xFE23], "<u2").view("<f2")
    assert cast(half, "F16", "F32").view("<u4").tolist() == [0x7F802000, 0xFFC46000]
    assert cast(half, "F16", "F64").view("<u8").tolist() == [0x7FF0040000000000, 0xFFF88C0000000000]


def test_nan_of_a_sum_is_one_whatever_the_processor_makes():
    values = np.array([0x7F800000, 0xFFA12345, 0x7FC00001], "<u4").view("<f4")
    for dtype, nan in (
        ("F64", 0x7FF8 << 48),
        ("F32", 0x7FC00000),
        ("BF16", 0x7FC0),
        ("F16", 0x7E00),
    ):
        made = linear([(values, "F32"), (-values, "F32")], [1.0, 1.0], dtype, 1.0)
        assert made.view(f"<u{made.dtype.itemsize}").tolist() == [nan] * 3
