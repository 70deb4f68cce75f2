"""Sketches: positions to the bit, orders of elements against numpy's, distances, chance."""

from itertools import pairwise
from math import comb

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hartonomous.core import sketch
from hartonomous.core.array import dequantise, numpy_dtype
from hartonomous.core.dtype import DTYPES
from hartonomous.core.elements import element_values, has_values, ranges_of, types_with_values
from hartonomous.core.ggml import dequantisable_types
from hartonomous.errors import IntegrityError

ALL = (1 << 64) - 1
FLOATS = sorted(name for name in types_with_values() if DTYPES[name].kind == "float")


def normal(shape, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@st.composite
def values(draw) -> np.ndarray:
    """Draw 256 values: normal ones at a scale, some of them replaced by anything."""
    scale = draw(st.sampled_from([0.0, 1e-40, 1e-3, 1.0, 1e30, 3e38]))
    with np.errstate(all="ignore"):
        drawn = normal(256, draw(st.integers(0, 1 << 32))) * np.float32(scale)
    anything = st.floats(width=32, allow_nan=True, allow_infinity=True)
    for at, value in draw(st.dictionaries(st.integers(0, 255), anything, max_size=12)).items():
        drawn[at] = value
    if draw(st.booleans()):
        drawn[draw(st.integers(0, 255)) :] = draw(anything)
    return drawn


matrices = st.tuples(st.integers(1, 90), st.integers(1, 90)).filter(
    lambda shape: shape[0] * shape[1] >= sketch.LEAST_ELEMENTS
)


def mixed(seed: int) -> int:
    """Return what splitmix64 gives next, written down from its paper."""
    z = seed & ALL
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & ALL
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & ALL
    return z ^ (z >> 31)


# -- positions


@given(st.integers(sketch.LEAST_ELEMENTS, sketch.MOST_ELEMENTS))
def test_positions_are_those_of_the_document(count):
    edges = [index * count // 256 for index in range(257)]
    expected = [
        low + mixed(count + (index + 1) * 0x9E3779B97F4A7C15) % (high - low)
        for index, (low, high) in enumerate(pairwise(edges))
    ]
    assert sketch.positions(count).tolist() == expected
    assert expected == sorted(set(expected))
    assert 0 <= expected[0] < expected[-1] < count


def test_positions_never_change():
    assert sketch.positions(2048)[:8].tolist() == [6, 15, 19, 31, 32, 42, 48, 63]
    assert sketch.positions(11_720_448)[:4].tolist() == [42222, 81831, 119631, 149042]


@pytest.mark.parametrize("count", [0, 1, 2047, (1 << 54) + 1, 1 << 63])
def test_other_counts_have_no_positions(count):
    with pytest.raises(ValueError, match="no sketch"):
        sketch.positions(count)


# -- orders


@given(matrices)
def test_transposed_elements_are_those_of_the_transpose(shape):
    matrix = np.arange(shape[0] * shape[1]).reshape(shape)
    at = sketch.positions(matrix.size)
    assert (matrix.reshape(-1)[sketch.transposed(at, *shape)] == matrix.T.reshape(-1)[at]).all()


@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 70))
def test_permuted_elements_are_those_of_the_base(heads, half, columns):
    rows = heads * 2 * half
    columns += sketch.LEAST_ELEMENTS // rows
    base = np.arange(rows * columns).reshape(rows, columns)
    # As llama.cpp's converter permutes the rows of q and k.
    made = base.reshape(heads, 2, half, columns).swapaxes(1, 2).reshape(rows, columns)
    at = sketch.positions(base.size)
    there = sketch.heads_permuted(at, rows, columns, heads, inverse=False)
    assert (made.reshape(-1)[there] == base.reshape(-1)[at]).all()
    back = sketch.heads_permuted(at, rows, columns, heads, inverse=True)
    assert (base.reshape(-1)[back] == made.reshape(-1)[at]).all()


@given(st.lists(st.integers(0, 40_000), min_size=0, max_size=4).map(tuple))
def test_parts_lie_inside_and_those_that_are_fused_fill_the_whole(shape):
    total = int(np.prod(shape, dtype=object))
    for part in sketch.parts(shape):
        assert part.count >= sketch.LEAST_ELEMENTS
        assert 0 <= part.first < part.first + part.count <= total
    fused = sketch.fused(shape)
    assert sum(part.count for part in fused) in (0, total)
    assert [part.first for part in fused] == [n * part.count for n, part in enumerate(fused)]


def test_parts_of_common_shapes():
    def of(*shape: int) -> list[tuple[int, int]]:
        return [(part.first, part.count) for part in sketch.parts(shape)]

    assert of(4096, 4096) == []
    assert of(14336, 4096) == []
    assert of(2304, 768) == [(n * 768 * 768, 768 * 768) for n in range(3)]
    assert of(16384, 3072) == [
        (0, 1024 * 3072), (0, 8192 * 3072), (8192 * 3072, 8192 * 3072),
    ]  # fmt: skip
    assert of(151936, 896) == [(0, 1024 * 896)]
    assert of(5_000_000) == []


# -- signs


def bits(one: sketch.Sketch) -> np.ndarray:
    return np.unpackbits(np.frombuffer(one.signs, np.uint8), bitorder="little")


@given(values())
def test_signs_of_anything_say_what_is_above_the_median(drawn):
    one = sketch.sketch_of(drawn)
    finite = sorted(drawn[np.isfinite(drawn)].tolist())
    middle = finite[(len(finite) - 1) // 2] if finite else 0.0
    assert bits(one).tolist() == [int(value > middle) for value in drawn.tolist()]


@pytest.mark.parametrize("kind", [ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("offset", [0, 1])  # weights, and norms
def test_signs_outlive_a_cast(kind, offset):
    drawn = normal(256, 3) * np.float32(0.05) + np.float32(offset)
    one, cast = sketch.sketch_of(drawn), sketch.sketch_of(drawn.astype(kind).astype(np.float32))
    assert bits(one).sum() == 128
    assert (bits(one) != bits(cast)).sum() <= 24
    assert sketch.distance(cast, one, "BF16" if kind is ml_dtypes.bfloat16 else "F16") == 0


@pytest.mark.parametrize("ones", [0, 1, 17, 60, 128, 200, 255, 256])
def test_what_is_near_is_so_by_chance_once_in_a_billion(ones):
    limits = sketch.furthest(ones)
    assert limits.shape == (257,)
    for other in (0, 1, 16, 64, 127, 128, 129, 250, 256):
        ways = {  # of placing the other's bits, by the distance
            ones + other - 2 * both: comb(ones, both) * comb(256 - ones, other - both)
            for both in range(max(0, ones + other - 256), min(ones, other) + 1)
        }
        assert sum(ways.values()) == comb(256, other)

        def chance(limit, ways=ways, other=other):
            return sum(n for far, n in ways.items() if far <= limit) / comb(256, other)

        limit = int(limits[other])
        assert limit == -1 or limit in ways
        assert chance(limit) <= 1e-9 * 1.001
        farther = min((far for far in ways if far > limit), default=None)
        assert farther is None or chance(farther) > 1e-9 * 0.999


# -- distances


@given(values(), values(), st.sampled_from([*FLOATS, "Q4_K", "I8"]))
def test_distances_of_anything_are_finite_and_the_same_both_ways(a, b, dtype):
    one, other = sketch.Sketch(b"", a), sketch.Sketch(b"", b)
    there = sketch.distance(one, other, dtype)
    assert 0 <= there < 34
    assert there == sketch.distance(other, one, dtype)
    assert sketch.distance(one, one, dtype) == 0


def test_a_neighbour_is_one_bit_away():
    a = normal(256)
    b = np.nextafter(a, np.float32(9), dtype=np.float32)
    one, other = sketch.Sketch(b"", a), sketch.Sketch(b"", b)
    assert sketch.distance(one, other) == 1
    assert sketch.distance(one, other, "BF16") < 0.1
    zeros = sketch.Sketch(b"", np.zeros(256, np.float32))
    assert sketch.distance(zeros, sketch.Sketch(b"", np.full(256, -0.0, np.float32))) == 0


def test_more_noise_is_farther():
    a = normal(256)
    apart = [a + normal(256, 1) * np.float32(share) for share in (1e-6, 1e-4, 1e-2, 0.1, 1)]
    found = sketch.distances(a, np.stack(apart)).tolist()
    assert found == sorted(found)
    assert found[0] < 5 < 20 < found[-1]


# -- values


@given(values())
def test_values_come_back(drawn):
    content = sketch.encode_values(drawn)
    assert sketch.decode_values(content).tobytes() == drawn.tobytes()
    rounded = (drawn.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    content = sketch.encode_values(rounded)
    assert len(content) == 512
    assert sketch.decode_values(content).tobytes() == rounded.tobytes()


@pytest.mark.parametrize("size", [0, 511, 513, 1023, 1025, 4096])
def test_other_lengths_are_no_values(size):
    with pytest.raises(IntegrityError, match=f"{size} bytes"):
        sketch.decode_values(bytes(size))


@pytest.mark.parametrize("dtype", types_with_values())
def test_elements_are_those_of_the_whole(dtype):
    count = 4096
    content = np.random.default_rng(len(dtype)).bytes(DTYPES[dtype].byte_count(count) or 0)
    with np.errstate(all="ignore"):
        if DTYPES[dtype].kind == "quantised":
            whole = dequantise(content, dtype, (count,))
        else:
            whole = np.frombuffer(content, numpy_dtype(dtype)).astype(np.float32)
    for at in (sketch.positions(count), np.array([4095, 0, 7, 7, 300])):
        found = element_values(ranges_of(content), dtype, at)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, whole[at])


def test_types_that_are_no_weights_have_no_values():
    assert set(dequantisable_types()) <= set(types_with_values())
    for name in ("I64", "U8", "BOOL", "C64", "F4", "F6_E2M3", "F8_E8M0", "IQ1_S", "X"):
        assert not has_values(name)
