"""Values of two tensors: figures against plain numpy, every pair of types, chunk by chunk."""

import math

import ml_dtypes
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hartonomous.core import value_comparison
from hartonomous.core.array import numpy_dtype
from hartonomous.core.dtype import DTYPES
from hartonomous.core.ggml import dequantisable_types, quantise_q8_0
from hartonomous.core.value_comparison import ValueDifference, compare_values, is_comparable

READABLE = [name for name in DTYPES if numpy_dtype(name) is not None] + list(dequantisable_types())


def compare(a, b, dtype_a, dtype_b=None, count=None) -> ValueDifference:
    raw_a, raw_b = bytes(memoryview(a).cast("B")), bytes(memoryview(b).cast("B"))
    return compare_values(
        lambda offset, length: raw_a[offset : offset + length],
        lambda offset, length: memoryview(raw_b)[offset : offset + length],
        dtype_a,
        dtype_b or dtype_a,
        len(a) if count is None else count,
    )


def raw(array):
    return array.view(np.uint8)


def test_figures_are_those_of_plain_numpy():
    random = np.random.default_rng(1)
    a = random.standard_normal(1000).astype(np.float32)
    b = a.copy()
    b[::4] *= np.float32(1.01)
    found = compare(a, b, "F32")
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    assert (found.unit, found.unit_count, found.changed_count) == ("element", 1000, 250)
    assert found.changed_share == 0.25
    assert found.l2_norm == pytest.approx(np.linalg.norm(wide_b - wide_a), rel=1e-12)
    assert found.relative_norm == pytest.approx(
        np.linalg.norm(wide_b - wide_a) / np.linalg.norm(wide_a), rel=1e-12
    )
    cosine = wide_a @ wide_b / np.linalg.norm(wide_a) / np.linalg.norm(wide_b)
    assert found.cosine == pytest.approx(cosine, rel=1e-12)
    assert found.largest_absolute == np.abs(wide_b - wide_a).max()
    assert found.largest_ulp == np.abs(a.view(np.int32) - b.view(np.int32)).max()
    assert found.cast_exact is None


def test_chunks_add_up_and_each_read_is_bounded(monkeypatch):
    random = np.random.default_rng(2)
    a, b = random.standard_normal((2, 1000)).astype(np.float32)
    whole = compare(a, b, "F32")
    monkeypatch.setattr(value_comparison, "CHUNK_ELEMENTS", 256)
    asked = []

    def read(values):
        content = values.tobytes()

        def piece(offset, length):
            asked.append((offset, length))
            return content[offset : offset + length]

        return piece

    parts = compare_values(read(a), read(b), "F32", "F32", 1000)
    assert asked[::2] == [(0, 1024), (1024, 1024), (2048, 1024), (3072, 928)]
    expected = msgspec.structs.asdict(whole)
    for field, value in msgspec.structs.asdict(parts).items():
        near = pytest.approx(value, rel=1e-12) if isinstance(value, float) else value
        assert expected[field] == near, field


def test_one_chunk_is_at_most_a_mebi_element():
    assert value_comparison.CHUNK_ELEMENTS <= 1 << 20
    assert all(value_comparison.CHUNK_ELEMENTS % d.block_elements == 0 for d in DTYPES.values())


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20), st.data())
def test_ulp_distance_counts_the_numbers_between(values, data):
    a = np.array(values, np.float32)
    steps = data.draw(st.integers(0, 5))
    b = a.copy()
    with np.errstate(over="ignore"):
        for _ in range(steps):
            b = np.nextafter(b, np.float32(np.inf))
    # The walk ends at infinity, which is not counted; on its way up it meets 0, never -0 and 0.
    finite = np.isfinite(a) & np.isfinite(b)
    assert compare(a, b, "F32").largest_ulp == (steps if finite.any() else None)


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(np.float16, "F16"), (np.float32, "F32"), (np.float64, "F64"), (ml_dtypes.bfloat16, "BF16")],
)
def test_ulp_distance_across_the_signs(dtype, name):
    """-0 is 0, and two steps lie between the smallest negative and positive numbers."""
    least = float(ml_dtypes.finfo(dtype).smallest_subnormal)
    values = np.array([-0.0, -least, least, 0.0], dtype)

    def distance(at, to):
        return compare(raw(values[[at]]), raw(values[[to]]), name, count=1).largest_ulp

    assert [distance(*pair) for pair in ((0, 3), (1, 2), (2, 1), (0, 2), (1, 0))] == [0, 2, 2, 1, 1]


def test_nan_payloads_and_signed_zeros_are_changed_bits_of_equal_value():
    a = np.array([0x7FC00000, 0x00000000, 0x3F800000, 0x7F800000], np.uint32).view(np.float32)
    b = np.array([0x7FC00001, 0x80000000, 0x3F800000, 0xFF800000], np.uint32).view(np.float32)
    found = compare(a, b, "F32")
    assert found.changed_count == 3
    assert (found.nan_count_a, found.nan_count_b) == (1, 1)
    assert (found.infinite_count_a, found.infinite_count_b) == (1, 1)
    assert (found.l2_norm, found.cosine, found.largest_ulp) == (0.0, 1.0, 0)


def test_nothing_finite_gives_no_norms():
    found = compare(np.full(3, np.nan, np.float32), np.ones(3, np.float32), "F32")
    assert (found.l2_norm, found.cosine, found.largest_ulp) == (None, None, None)
    assert (found.nan_count_a, found.nan_count_b, found.changed_share) == (3, 0, 1.0)


def test_zero_norms_and_no_elements():
    zeros, ones = np.zeros(4, np.float32), np.ones(4, np.float32)
    assert compare(zeros, ones, "F32").relative_norm is None
    assert compare(zeros, ones, "F32").cosine is None
    assert compare(zeros, zeros, "F32").relative_norm == 0.0
    empty = compare(zeros[:0], zeros[:0], "F32")
    assert (empty.unit_count, empty.changed_share, empty.l2_norm) == (0, 0.0, None)


def test_sums_beyond_float64_are_null_not_infinite():
    huge = np.array([1e300, -1e300])
    found = compare(huge, -huge, "F64")
    assert (found.l2_norm, found.cosine) == (None, None)
    assert found.largest_absolute == 2e300


@pytest.mark.parametrize(
    ("dtype", "kind"), [("BF16", ml_dtypes.bfloat16), ("F16", np.float16), ("F8_E4M3", None)]
)
def test_a_cast_is_exact_and_one_wrong_element_is_not(dtype, kind):
    kind = kind or ml_dtypes.float8_e4m3fn
    a = np.random.default_rng(3).standard_normal(4096).astype(np.float32)
    a[0] = np.nan
    b = a.astype(kind)
    found = compare(a, raw(b), "F32", dtype, 4096)
    assert (found.cast_exact, found.cast_from, found.largest_ulp) == (True, "a", 0)
    assert 0.9 < found.changed_share < 1
    back = compare(raw(b), b.astype(np.float32), dtype, "F32", 4096)
    assert (back.cast_exact, back.cast_from, back.changed_count) == (True, "both", 0)
    wrong = b.copy()
    raw(wrong)[2 * wrong.itemsize] ^= 1  # the last mantissa bit of element 2
    broken = compare(a, raw(wrong), "F32", dtype, 4096)
    assert (broken.cast_exact, broken.cast_from, broken.largest_ulp) == (False, None, 1)


def test_rounding_once_is_told_from_truncating():
    a = np.random.default_rng(4).standard_normal(100).astype(np.float32)
    cut = (a.view(np.uint32) >> 16).astype(np.uint16)
    found = compare(a, cut, "F32", "BF16")
    assert (found.cast_exact, found.largest_ulp) == (False, 1)


def test_integers_and_booleans():
    a = np.array([-(2**63), 5, 2**62 + 1, 0], np.int64)
    b = np.array([2**63 - 1, 5, 2**62, 0], np.int64)
    assert compare(a, b, "I64").largest_ulp == 2**64 - 1
    assert compare(a[1:], b[1:], "I64").largest_ulp == 1
    assert compare(a[1:], b[1:], "I64").changed_count == 1
    small = np.array([0, 1, 1], np.uint8)
    flags = compare(small, small[::-1].copy(), "BOOL")
    assert (flags.changed_count, flags.largest_ulp) == (2, 1)
    widened = compare(np.array([1, -2], np.int8), np.array([1, -2], np.int64), "I8", "I64")
    assert (widened.cast_exact, widened.cast_from) == (True, "both")
    signs = compare(np.array([-1], np.int64), np.array([2**64 - 1], np.uint64), "I64", "U64")
    assert (signs.cast_exact, signs.changed_count) == (False, 1)
    as_float = compare(np.array([1.0, 2.0]), np.array([1, 2]), "F64", "I64")
    assert (as_float.cast_exact, as_float.cast_from) == (True, "b")


def test_complex_numbers_count_once_and_measure_both_parts():
    a = np.array([1 + 1j, 2 + 0j], np.complex64)
    b = np.array([1 + 4j, 2 + 0j], np.complex64)
    found = compare(raw(a), raw(b), "C64", count=2)
    assert (found.unit_count, found.changed_count, found.l2_norm) == (2, 1, 3.0)
    assert found.largest_ulp is None


def test_quantised_against_float_and_against_itself():
    values = np.random.default_rng(5).standard_normal(2048).astype(np.float32)
    blocks = quantise_q8_0(values)
    against_float = compare(values, blocks.ravel(), "F32", "Q8_0", 2048)
    assert against_float.unit == "element"
    assert against_float.cosine > 0.9999
    assert 0 < against_float.relative_norm < 0.01
    assert against_float.cast_exact is None
    other = blocks.copy()
    other[3, 7] ^= 1
    found = compare(blocks.ravel(), other.ravel(), "Q8_0", count=2048)
    assert (found.unit, found.unit_count, found.changed_count) == ("block", 64, 1)
    assert found.largest_absolute > 0


def test_types_without_values_compare_by_bits_alone():
    a = np.arange(220, dtype=np.uint8)
    b = a.copy()
    b[200] += 1
    blocks = compare(a, b, "IQ3_S", count=512)
    assert (blocks.unit, blocks.unit_count, blocks.changed_count) == ("block", 2, 1)
    assert blocks.cosine is None
    unknown = compare(a, b, "I3", count=220)
    assert (unknown.unit, unknown.unit_count, unknown.changed_count) == ("byte", 220, 1)
    assert not is_comparable("IQ3_S", "F32")
    with pytest.raises(ValueError, match="cannot be compared"):
        compare(a, b, "IQ3_S", "F32", 256)


@pytest.mark.parametrize("dtype_a", READABLE)
def test_random_bits_of_every_pair_of_types_give_json(dtype_a):
    random = np.random.default_rng(6)
    for dtype_b in READABLE:
        sides = [
            random.integers(0, 256, DTYPES[dtype].byte_count(512), dtype=np.uint8)
            for dtype in (dtype_a, dtype_b)
        ]
        found = compare(*sides, dtype_a, dtype_b, 512)
        numbers = [value for value in msgspec.structs.astuple(found) if isinstance(value, float)]
        assert all(map(math.isfinite, numbers))
        assert msgspec.json.decode(msgspec.json.encode(found), type=ValueDifference) == found
        same = compare(sides[0], sides[0], dtype_a, count=512)
        assert (same.changed_count, same.l2_norm) in ((0, 0.0), (0, None))
