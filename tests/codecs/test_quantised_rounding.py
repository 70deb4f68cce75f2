"""8-bit tensors beside their floats: scales found by fit, bytes exact."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantised_samples import strange

from hartonomous.codecs.quantised import QuantisedCodec
from hartonomous.codecs.quantised_payload import decode_payload
from hartonomous.codecs.quantised_rounding import PARAM_BYTES, ROUNDED
from hartonomous.codecs.rounding_reference import Grid
from hartonomous.errors import DecodeError

CODEC = QuantisedCodec()
ROWS, COLUMNS = 256, 384
F8 = {"F8_E4M3": (ml_dtypes.float8_e4m3fn, 448), "F8_E5M2": (ml_dtypes.float8_e5m2, 57344)}


def weights(seed=0):
    random = np.random.default_rng(seed)
    x = random.standard_normal((ROWS, COLUMNS)) * random.uniform(0.01, 0.1, (ROWS, 1))
    return x.astype(np.float32)


def round_trip(content, source, dtype, *, position=0, grid=None):
    values = source.reshape(-1)
    (payload,) = CODEC.encode_many(
        [memoryview(content)], [values], dtype, positions=[position], grid=grid
    )
    if payload is None:
        return None
    out = memoryview(bytearray(len(content)))
    CODEC.decode_many([memoryview(payload)], [values], [out], dtype, positions=[position])
    assert bytes(out) == content
    return payload


def residual_bytes(payload):
    return decode_payload(memoryview(payload), {ROUNDED: PARAM_BYTES}).residual.byte_count - 1


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_symmetric_int8(axis):
    x = weights()
    largest = np.abs(x).max(axis=axis, keepdims=True)
    codes = np.clip(np.rint(x / (largest / np.float32(127))), -127, 127).astype(np.int8)
    grid = {
        None: None,
        0: Grid(columns=COLUMNS, block_columns=1),
        1: Grid(columns=COLUMNS, block_rows=1),
    }
    payload = round_trip(codes.tobytes(), x, "I8", grid=grid[axis])
    assert residual_bytes(payload) == 0
    assert len(payload) < 200 + (0 if axis is None else 5 * x.shape[1 - axis])


@pytest.mark.parametrize(("dtype", "low"), [("U8", 0), ("I8", -128)])
def test_asymmetric_with_a_zero_point(dtype, low):
    x = weights() + np.float32(0.03)
    scale = (x.max() - x.min()) / np.float32(255)
    zero = np.rint(low - x.min() / scale)
    codes = np.clip(np.rint(x / scale) + zero, low, low + 255).astype(
        dtype.replace("I8", "i1").replace("U8", "u1")
    )
    assert residual_bytes(round_trip(codes.tobytes(), x, dtype)) == 0


@pytest.mark.parametrize("dtype", sorted(F8))
def test_fp8_casts_and_blocks_of_128(dtype):
    kind, largest = F8[dtype]
    x = weights()
    plain = x.astype(kind).tobytes()
    assert residual_bytes(round_trip(plain, x, dtype)) == 0
    blocks = x.reshape(2, 128, 3, 128)
    scale = np.abs(blocks).max(axis=(1, 3), keepdims=True) / np.float32(largest)
    scaled = (blocks / scale).reshape(x.shape).astype(kind).tobytes()
    grid = Grid(columns=COLUMNS, block_rows=128, block_columns=128)
    payload = round_trip(scaled, x, dtype, grid=grid)
    assert residual_bytes(payload) == 0
    assert len(payload) < 100


def test_frames_in_the_middle_of_a_row():
    x = weights()
    largest = np.abs(x).max(axis=1, keepdims=True)
    codes = np.rint(x / (largest / np.float32(127))).astype(np.int8).tobytes()
    grid = Grid(columns=COLUMNS, block_rows=1)
    for begin, size in ((100, 5000), (383, 2000), (384, 1537), (70_001, 9999)):
        part = x.reshape(-1)[begin : begin + size]
        payload = round_trip(codes[begin : begin + size], part, "I8", position=begin, grid=grid)
        assert residual_bytes(payload) == 0


@pytest.mark.parametrize("dtype", sorted(F8))
def test_every_rounding_is_that_of_ml_dtypes(dtype):
    kind, largest = F8[dtype]
    codes = np.arange(256, dtype=np.uint8).view(kind).astype(np.float32)
    finite = np.sort(codes[np.isfinite(codes)])
    middles = (finite[1:] + finite[:-1]) / 2
    x = np.concatenate(
        [finite, middles, np.nextafter(middles, np.inf), np.nextafter(middles, -np.inf)]
    )
    x = np.tile(x[np.abs(x) <= largest], 4).astype(np.float32)
    assert residual_bytes(round_trip(x.astype(kind).tobytes(), x, dtype)) == 0


@given(
    dtype=st.sampled_from(("I8", "U8", "F8_E4M3", "F8_E5M2")), seed=st.integers(0, 10_000),
    size=st.integers(0, 3000), shape=st.tuples(*[st.integers(0, 40)] * 3),
    position=st.integers(0, 5000),
)  # fmt: skip
def test_any_floats_and_any_grid(dtype, seed, size, shape, position):
    x = strange(size, seed)
    with np.errstate(all="ignore"):
        scaled = np.clip(np.nan_to_num(x * np.float32(500)), 0, 127).astype(np.uint8).tobytes()
    grid = Grid(columns=shape[0], block_rows=shape[1], block_columns=shape[2])
    round_trip(scaled, x, dtype, position=position, grid=grid)


def test_a_wrong_source_is_not_used():
    codes = np.rint(weights(1) / np.float32(0.001)).astype(np.int8).tobytes()
    assert round_trip(codes, weights(2), "I8") is None


def test_damage_is_refused_or_stays_in_bounds():
    x = weights()
    codes = np.rint(x / (np.abs(x).max() / np.float32(127))).astype(np.int8).tobytes()[:5000]
    values = x.reshape(-1)[:5000]
    payload = round_trip(codes, values, "I8", grid=Grid(columns=50, block_rows=1))
    refused = 0
    for at in range(len(payload)):
        for change in (0x01, 0x80, 0xFF):
            damaged = bytearray(payload)
            damaged[at] ^= change
            try:
                out = memoryview(bytearray(5000))
                CODEC.decode_many([memoryview(damaged)], [values], [out], "I8", positions=[0])
            except DecodeError:
                refused += 1
    assert refused > 20


def test_more_scales_than_elements_are_refused():
    x = weights().reshape(-1)[:5000]
    codes = np.rint(x / np.float32(0.001)).astype(np.int8).tobytes()
    payload = bytearray(round_trip(codes, x, "I8"))
    payload[10:26] = (1 << 40).to_bytes(8, "little") + bytes(4) + (1).to_bytes(4, "little")
    with pytest.raises(DecodeError, match="more scales"):
        out = memoryview(bytearray(5000))
        CODEC.decode_many([memoryview(payload)], [x], [out], "I8", positions=[0])
