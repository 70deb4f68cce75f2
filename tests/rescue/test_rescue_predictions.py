"""rescue.py predicts what the program predicts."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_samples import bases, sound_plans

from hartonomous.codecs.prediction import predict
from hartonomous.core import plan as plans
from hartonomous.core.casts import STORED, cast
from hartonomous.core.dtype import DTYPES
from hartonomous.core.ggml import dequantise_blocks
from hartonomous.packs import rescue


def by_program(plan, start, stop, contents):
    parts = [
        memoryview(contents[one.operand])[one.start : one.stop]
        for one in plans.windows(plan, start, stop)
    ]
    return predict(plan, start, stop, parts)


@given(sound_plans(), st.integers(0, 2**32), st.data())
def test_any_range_of_any_plan_is_predicted_alike(plan, seed, data):
    contents, size = bases(plan, seed), plans.target_bytes(plan)
    start = data.draw(st.integers(0, size), label="start")
    stop = data.draw(st.integers(start, size), label="stop")

    def read(operand, first, last):
        assert 0 <= first < last <= len(contents[operand])
        return contents[operand][first:last]

    found = rescue.Prediction(json.loads(plans.encode(plan)), read)
    expected = by_program(plan, start, stop, contents)
    if plan.dtype in plans.FLOAT_TARGETS:
        assert found.bytes_of(start, stop) == bytes(expected)
    elif start < stop:
        made = found.elements(*plans.target_range(plan, start, stop))
        assert made.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", sorted(plans.DEQUANTISED))
def test_blocks_of_any_bytes_have_the_values_of_the_program(dtype):
    known = DTYPES[dtype]
    random = np.random.default_rng(7)
    blocks = random.integers(0, 256, (300, known.block_bytes), np.uint8)
    expected = dequantise_blocks(blocks.tobytes(), dtype)
    expected[np.isnan(expected)] = np.nan
    with np.errstate(all="ignore"):
        found = rescue.block_values(blocks.reshape(-1), dtype)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("source", ["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"])
@pytest.mark.parametrize("target", ["F64", "F32", "F16", "BF16"])
@pytest.mark.parametrize("rule", sorted(plans.NAN_RULES))
def test_any_bits_are_cast_alike(source, target, rule):
    random = np.random.default_rng(3)
    words = random.integers(0, 256, (4000, 8), np.uint8)
    words[2000:, 7] |= 127  # many NaN of F64 …
    words[2000:3000, 6] |= 240
    words[:2000, 3] |= 127  # … and of the other types
    words[1000:2000, 2] |= 128
    words[:1000, 1] |= 127
    words[:1000, 0] &= 3
    content = words.tobytes()
    values = np.frombuffer(content, STORED[source])
    with np.errstate(all="ignore"):
        found = rescue.cast_elements(rescue.elements_of(content, source), source, target, rule)
    assert found.tobytes() == cast(values, source, target, rule).tobytes()


@pytest.mark.parametrize(
    "plan",
    [
        {"dtype": "F32", "shape": [2], "operands": []},
        {"dtype": "F32", "shape": [2], "operands": [{"dtype": "F16", "shape": [2]}]},
        {"dtype": "F32", "shape": [2], "operands": [{"dtype": "F32", "shape": [2]}], "steps": [3]},
        {"shape": [2]},
    ],
)
def test_an_unsound_plan_is_damage(plan):
    with pytest.raises(rescue.DamageError):
        rescue.Prediction(plan, None)
