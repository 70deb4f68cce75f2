"""Stored bytes as arrays: against numpy, ml_dtypes and the gguf library's own arithmetic."""

from math import prod
from pathlib import Path

import gguf
import ml_dtypes
import numpy as np
import pytest
from gguf.quants import dequantize, quantize
from hypothesis import given, settings
from hypothesis import strategies as st

from hartonomous.core import ggml
from hartonomous.core.array import as_array, dequantise, numpy_dtype, print_array, row_range
from hartonomous.core.dtype import DTYPES
from hartonomous.errors import LimitError, StructureError, UsageError

QUANTS = Path(__file__).parent.parent / "fixtures" / "quants"
PLAIN = sorted(name for name in DTYPES if numpy_dtype(name) is not None)
EXPECTED = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu, "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz, "BOOL": np.bool_,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8,
    "C64": np.complex64, "C128": np.complex128,
}  # fmt: skip


def test_every_plain_type_is_numpys_of_that_name():
    assert {name: np.dtype(kind) for name, kind in EXPECTED.items()} == {
        name: numpy_dtype(name) for name in PLAIN
    }
    for name in PLAIN:
        assert numpy_dtype(name).itemsize == DTYPES[name].block_bytes


@pytest.mark.parametrize("name", ["Q4_0", "Q8_K", "F4", "F6_E2M3", "I3", ""])
def test_types_that_share_bytes_or_are_unknown_have_no_numpy_type(name):
    assert numpy_dtype(name) is None


@settings(deadline=None, max_examples=60)
@given(name=st.sampled_from(PLAIN), shape=st.lists(st.integers(0, 4), max_size=4), data=st.data())
def test_as_array_keeps_bytes_shape_and_shares_memory(name, shape, data):
    size = prod(shape) * DTYPES[name].block_bytes
    content = data.draw(st.binary(min_size=size, max_size=size))
    array = as_array(content, name, tuple(shape))
    assert array.shape == tuple(shape)
    assert array.dtype == EXPECTED[name]
    assert array.tobytes() == content
    assert not array.flags.writeable


def test_as_array_is_a_view():
    content = bytearray(8)
    array = as_array(memoryview(content), "F32", (2,))
    content[0:4] = np.float32(1.5).tobytes()
    assert array[0] == 1.5


@pytest.mark.parametrize(
    ("dtype", "shape", "expected"),
    [
        ("Q4_0", (3, 64), (3, 36)),
        ("Q4_K", (2, 5, 256), (2, 5, 144)),
        ("Q8_0", (0, 32), (0, 34)),
        ("F4", (3, 4), (3, 2)),
        ("F4", (2, 3), (3,)),  # rows share bytes: flat
        ("F6_E3M2", (2, 8), (2, 6)),
    ],
)
def test_shared_byte_types_come_as_rows_of_blocks(dtype, shape, expected):
    content = bytes(DTYPES[dtype].byte_count(prod(shape)))
    array = as_array(content, dtype, shape)
    assert (array.dtype, array.shape) == (np.uint8, expected)


def test_unknown_types_come_flat():
    assert as_array(b"abc", "I3", (2, 4)).tolist() == [97, 98, 99]


@pytest.mark.parametrize(
    ("size", "dtype", "shape"),
    [(3, "F32", (1,)), (8, "F32", (1,)), (4, "F32", (2**62, 2**62)), (18, "Q4_0", (33,))],
)
def test_bytes_that_do_not_fit_the_shape_are_refused(size, dtype, shape):
    with pytest.raises(StructureError, match="bytes are no"):
        as_array(bytes(size), dtype, shape)


@pytest.mark.parametrize("shape", [(1,) * 65, (0, 2**70), (0, 2**62, 2**62)])
def test_shapes_that_numpy_does_not_have_are_a_limit(shape):
    with pytest.raises(LimitError):
        as_array(bytes(prod(shape)), "U8", shape)


@settings(deadline=None, max_examples=60)
@given(
    dtype=st.sampled_from(["F32", "BF16", "I64", "BOOL", "Q8_0", "Q6_K", "F4"]),
    rows=st.integers(0, 6),
    blocks=st.integers(1, 3),
    data=st.data(),
)
def test_row_range_selects_what_slicing_selects(dtype, rows, blocks, data):
    shape = (rows, 2, blocks * DTYPES[dtype].block_elements)
    size = DTYPES[dtype].byte_count(prod(shape))
    content = np.random.default_rng(rows).integers(0, 256, size, dtype=np.uint8).tobytes()
    start = data.draw(st.integers(0, rows))
    stop = data.draw(st.integers(start, rows))
    offset, length = row_range(dtype, shape, start, stop)
    part = as_array(content[offset : offset + length], dtype, (stop - start, *shape[1:]))
    assert part.tobytes() == as_array(content, dtype, shape)[start:stop].tobytes()


@pytest.mark.parametrize(
    ("dtype", "shape", "start", "stop"),
    [
        ("F32", (4, 2), 3, 5),
        ("F32", (4, 2), -1, 2),
        ("F32", (4, 2), 3, 2),
        ("F32", (), 0, 1),
        ("Q4_0", (64,), 0, 31),
        ("Q4_K", (2, 3, 128), 0, 1),
        ("I3", (4,), 0, 1),
    ],
)
def test_rows_that_cannot_be_selected_are_a_usage_error(dtype, shape, start, stop):
    with pytest.raises(UsageError):
        row_range(dtype, shape, start, stop)


def test_rows_of_one_axis_may_begin_on_block_borders():
    assert row_range("Q4_0", (96,), 32, 96) == (18, 36)


def test_print_array_is_numpys_text_and_bounded():
    values = np.arange(6, dtype=np.float32).reshape(2, 3) / 3
    assert print_array(values) == str(values)
    halves = as_array(values.astype(ml_dtypes.bfloat16).tobytes(), "BF16", (2, 3))
    assert print_array(halves) == str(values.astype(ml_dtypes.bfloat16))
    assert len(print_array(np.zeros(10**6, np.float32))) < 100


@pytest.mark.parametrize("name", ggml.dequantisable_types())
def test_dequantised_random_blocks_equal_the_gguf_library(name):
    random = np.random.default_rng(7)
    blocks = random.integers(0, 256, (300, DTYPES[name].block_bytes), dtype=np.uint8)
    ours = dequantise(blocks.tobytes(), name, (300, DTYPES[name].block_elements))
    with np.errstate(all="ignore"):
        theirs = dequantize(blocks, gguf.GGMLQuantizationType[name])
    nan = np.isnan(theirs)
    assert np.array_equal(np.isnan(ours), nan)
    assert np.array_equal(ours.view(np.uint32)[~nan], theirs.view(np.uint32)[~nan])


@pytest.mark.parametrize(
    "name",
    [name for name in ggml.dequantisable_types() if name != "TQ1_0"],
)
def test_dequantised_fixtures_equal_the_gguf_library(name):
    tensors = gguf.GGUFReader(QUANTS / f"mini.{name}.gguf").tensors
    assert [tensor.tensor_type.name for tensor in tensors] == [name, name]
    for tensor in tensors:
        shape = tuple(int(extent) for extent in reversed(tensor.shape))
        ours = dequantise(tensor.data.tobytes(), name, shape)
        theirs = dequantize(tensor.data, tensor.tensor_type)
        assert ours.shape == theirs.shape == shape
        assert ours.tobytes() == theirs.tobytes()


def test_types_without_a_dequantiser_are_named():
    with pytest.raises(UsageError, match="IQ3_S has no dequantiser"):
        dequantise(bytes(110), "IQ3_S", (256,))
    with pytest.raises(StructureError):
        dequantise(bytes(35), "Q8_0", (32,))


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), exponent=st.integers(-140, 120))
def test_q8_0_equals_the_reference_quantiser(seed, exponent):
    random = np.random.default_rng(seed)
    values = (random.standard_normal((5, 64)) * 2.0**exponent).astype(np.float32)
    values[0] = 0
    with np.errstate(all="ignore"):
        theirs = quantize(values, gguf.GGMLQuantizationType.Q8_0)
    assert ggml.quantise_q8_0(values).tobytes() == theirs.tobytes()


def test_q8_0_of_a_real_layer_equals_the_c_quantiser():
    floats = gguf.GGUFReader(QUANTS / "mini.F32.gguf").tensors
    quantised = gguf.GGUFReader(QUANTS / "mini.Q8_0.gguf").tensors
    for values, blocks in zip(floats, quantised, strict=True):
        assert ggml.quantise_q8_0(np.array(values.data)).tobytes() == blocks.data.tobytes()


def test_q8_0_rounds_halves_away_from_zero():
    values = np.zeros(32, np.float32)
    values[:5] = [127, 0.5, -0.5, 2.5, 0.49999997]
    codes = ggml.quantise_q8_0(values)[0, 2:].view(np.int8)
    assert codes[:5].tolist() == [127, 1, -1, 3, 0]
