"""The codec of quantised tensors beside their source: exact, small, and alike on every path."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantised_samples import fixture_names, formula, strange, tensors

from hartonomous.codecs import kernel
from hartonomous.codecs.fields import FieldsCodec
from hartonomous.codecs.kernel import VARIABLE
from hartonomous.codecs.quantised import QuantisedCodec, supported
from hartonomous.codecs.quantised_blocks import (
    REFERENCE,
    SEARCHED,
    SHAPES,
    STORED,
    gather_blocks,
    spread_blocks,
)
from hartonomous.codecs.quantised_payload import decode_payload
from hartonomous.codecs.rounding_reference import Grid
from hartonomous.core import ggml
from hartonomous.core.dtype import DTYPES
from hartonomous.core.record import Encoding
from hartonomous.errors import DecodeError

PATHS = kernel.available()
CODEC = QuantisedCodec()
PARAMS = {REFERENCE: 0, STORED: 0, SEARCHED: 0, 16: 16}
K_TYPES = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
NAMES = [name for dtype in SHAPES for name in fixture_names(dtype)]
# The most that scales and codes may cost, as shares of a fixture's tensor of some 40 kB, where
# tables weigh more than in one of real size.
LIMITS = {
    "Q4_0": (0, 0), "Q4_1": (0, 0), "Q5_0": (0, 0), "Q5_1": (0, 0), "Q8_0": (0, 0),
    "Q4_0.imat": (0.085, 0.012), "Q4_1.imat": (0.12, 0.013), "Q5_0.imat": (0.07, 0.014),
    "Q5_1.imat": (0.1, 0.015),
    "Q2_K": (0.13, 0.002), "Q2_K.imat": (0.18, 0.003), "Q3_K": (0.07, 0.001),
    "Q3_K.imat": (0.1, 0.002), "Q4_K": (0.07, 0), "Q4_K.imat": (0.08, 0),
    "Q5_K": (0.05, 0), "Q5_K.imat": (0.055, 0), "Q6_K": (0.045, 0.0005),
    "Q6_K.imat": (0.05, 0.0005),
    "IQ4_NL": (0.075, 0.002), "IQ4_NL.imat": (0.08, 0.002), "IQ4_XS": (0.075, 0.007),
    "IQ4_XS.imat": (0.08, 0.007), "MXFP4": (0.002, 0),
}  # fmt: skip


def encode(blocks, source, dtype, position=0, **how):
    first, stop = CODEC.window(dtype, position, len(blocks))
    start = -(-position // DTYPES[dtype].block_bytes) * DTYPES[dtype].block_elements
    assert first == start
    part = source[: stop - first]
    (payload,) = CODEC.encode_many([memoryview(blocks)], [part], dtype, positions=[position], **how)
    return payload


def decode(payload, source, size, dtype, position=0):
    first, stop = CODEC.window(dtype, position, size)
    guard = b"\xa5" * 64
    out = bytearray(guard + bytes(size) + guard)
    CODEC.decode_many(
        [memoryview(payload)], [source[: stop - first]], [memoryview(out)[64 : 64 + size]],
        dtype, positions=[position],
    )  # fmt: skip
    assert out[:64] == guard
    assert out[64 + size :] == guard
    return bytes(out[64 : 64 + size])


def shares(payload, blocks):
    parts = decode_payload(memoryview(payload), PARAMS)
    # A section that is all zero costs the byte that says so.
    return tuple((one.byte_count - 1) / len(blocks) for one in (parts.header, parts.residual))


def test_number_and_recipe():
    assert (CODEC.encoding, CODEC.recipe) == (Encoding.DERIVED, 1)
    assert set(LIMITS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_llama_cpps_tensors_come_back_from_their_source(name):
    dtype = name.split(".")[0]
    for blocks, source in zip(tensors(name), tensors("F32"), strict=True):
        content = blocks.tobytes()
        payload = encode(content, source, dtype)
        assert decode(payload, source, len(content), dtype) == content
        scales, codes = shares(payload, content)
        assert scales <= LIMITS[name][0]
        assert codes <= LIMITS[name][1]


@pytest.mark.parametrize("dtype", K_TYPES)
def test_ggmls_search_says_all_where_it_was_used(dtype):
    blocks, source = tensors(dtype)[0].tobytes(), tensors("F32")[0]
    payload = encode(blocks, source, dtype, smallest=True)
    assert len(payload) == 12
    assert decode(payload, source, len(blocks), dtype) == blocks
    assert encode(blocks, source, dtype)[0] == STORED


@pytest.mark.parametrize("dtype", K_TYPES)
def test_the_search_is_not_taken_where_it_was_not_used(dtype):
    blocks, source = tensors(f"{dtype}.imat")[0].tobytes(), tensors("F32")[0]
    assert len(encode(blocks, source, dtype, smallest=True)) <= len(encode(blocks, source, dtype))


@pytest.mark.parametrize("dtype", sorted(SHAPES))
def test_a_sibling_of_8_bits_serves_as_source(dtype):
    source = np.empty(len(tensors("F32")[0]), np.float32)
    kernel.active().block_values(SHAPES["Q8_0"], tensors("Q8_0")[0], source)
    blocks = tensors(dtype)[0].tobytes()
    payload = encode(blocks, source, dtype)
    assert len(payload) <= 0.17 * len(blocks)
    assert decode(payload, source, len(blocks), dtype) == blocks


@pytest.mark.parametrize("dtype", sorted(SHAPES))
def test_blocks_taken_apart_lose_nothing(dtype):
    shape = SHAPES[dtype]
    noise = np.random.default_rng(3).integers(0, 256, (50, shape.byte_count), dtype=np.uint8)
    assert np.array_equal(gather_blocks(shape, spread_blocks(shape, noise)), noise)


@pytest.mark.parametrize("name", NAMES)
def test_every_path_writes_the_same_and_reads_it_back(name, monkeypatch):
    dtype = name.split(".")[0]
    blocks, source = tensors(name)[0], tensors("F32")[0]
    count = 40 * (256 // DTYPES[dtype].block_elements)
    content = blocks[: count * DTYPES[dtype].block_bytes].tobytes()
    payloads = []
    for path in PATHS:
        monkeypatch.setenv(VARIABLE, path)
        payloads.append(encode(content, source, dtype, smallest=True))
        payloads.append(encode(content, source, dtype))
    assert len(set(payloads[::2])) == len(set(payloads[1::2])) == 1
    for path in PATHS:
        monkeypatch.setenv(VARIABLE, path)
        for payload in payloads[:2]:
            assert decode(payload, source, len(content), dtype) == content


def tables(shape, count):
    header = np.empty(count * shape.layout.element_bytes, np.uint8)
    return header, np.empty(count * shape.elements, np.uint8)


@given(
    dtype=st.sampled_from(sorted(SHAPES)), seed=st.integers(0, 10_000), count=st.integers(0, 9),
    noise=st.booleans(),
)  # fmt: skip
def test_any_floats_and_any_blocks_on_every_path(dtype, seed, count, noise):
    """NaN, infinities, subnormals, zeros: the paths agree on each prediction, nothing is lost."""
    shape = SHAPES[dtype]
    source = strange(count * shape.elements, seed)
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 256, count * shape.byte_count, dtype=np.uint8)
    if not noise:
        blocks[random.integers(0, 2, len(blocks)) > 0] = 0
    for recipe in shape.recipes:
        found = []
        for path in PATHS:
            chosen, (header, residual) = kernel.of_name(path), tables(shape, count)
            wrong = chosen.split_blocks(shape, recipe, blocks, source, header, residual)
            assert wrong == np.count_nonzero(residual)
            found.append((header.tobytes(), residual.tobytes()))
            out = np.empty_like(blocks)
            chosen.join_blocks(shape, recipe, header, source, residual, out)
            assert np.array_equal(out, blocks)
            plain = np.empty_like(blocks)
            chosen.join_blocks(shape, recipe, np.zeros_like(header), source, None, plain)
            found.append(plain.tobytes())
        assert len(set(found[::2])) == len(set(found[1::2])) == 1


@given(dtype=st.sampled_from(sorted(SHAPES)), data=st.data())
def test_a_frame_may_be_cut_anywhere(dtype, data):
    whole, values = tensors(dtype)[0].tobytes(), tensors("F32")[0]
    begin = data.draw(st.integers(0, 1000))
    size = data.draw(st.integers(0, 5000))
    first, stop = CODEC.window(dtype, begin, size)
    content, source = whole[begin : begin + size], values[first:stop]
    (payload,) = CODEC.encode_many([memoryview(content)], [source], dtype, positions=[begin])
    block = DTYPES[dtype].block_bytes
    if payload is None:
        assert size < 12 * block
        return
    out = memoryview(bytearray(size))
    CODEC.decode_many([memoryview(payload)], [source], [out], dtype, positions=[begin])
    assert bytes(out) == content


@pytest.mark.parametrize("dtype", sorted(SHAPES))
def test_a_wrong_source_gives_the_bytes_back_or_is_not_used(dtype):
    blocks = tensors(dtype)[0].tobytes()
    noise = np.random.default_rng(4).standard_normal(len(tensors("F32")[0])).astype(np.float32)
    near = tensors("F32")[0] + noise * np.float32(0.001)
    for source in (noise, near, np.full_like(noise, np.nan), np.zeros_like(noise)):
        payload = encode(blocks, source, dtype)
        if payload is not None:
            assert decode(payload, source, len(blocks), dtype) == blocks
    assert encode(blocks, noise, dtype) is None


def test_what_fields_keeps_nearly_as_small_is_not_derived():
    blocks, source = tensors("Q4_K")[0].tobytes(), tensors("F32")[0]
    rough = source + np.random.default_rng(5).standard_normal(len(source)).astype(np.float32) / 64
    payload = encode(blocks, rough, "Q4_K")
    fields = FieldsCodec().encode(memoryview(blocks), "Q4_K")
    plain = len(fields) if fields is not None else len(blocks)
    assert payload is None or len(payload) < 0.8 * plain
    assert encode(blocks, np.roll(source, 1), "Q4_K") is None


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["Q4_0.imat", "Q4_K", "Q6_K", "MXFP4"])
def test_damage_is_refused_or_stays_in_bounds(path, name, monkeypatch):
    monkeypatch.setenv(VARIABLE, path)
    dtype = name.split(".")[0]
    blocks, source = tensors(name)[0].tobytes()[:20_000], tensors("F32")[0]
    payload = encode(blocks, source, dtype)
    refused = 0
    places = [*range(40), *range(40, len(payload), max(1, len(payload) // 40))]
    for at in (place for place in places if place < len(payload)):
        for change in (0x01, 0x80, 0xFF):
            damaged = bytearray(payload)
            damaged[at] ^= change
            try:
                decode(damaged, source, len(blocks), dtype)
            except DecodeError:
                refused += 1
    assert refused > 10
    for size in (0, 1, 9, 10, 11, len(payload) // 2, len(payload) - 1):
        with pytest.raises(DecodeError):
            decode(payload[:size], source, len(blocks), dtype)
    with pytest.raises(DecodeError, match="follow"):
        decode(payload + b"x", source, len(blocks), dtype)


def test_a_payload_of_another_type_or_size_is_refused():
    blocks, source = tensors("Q4_K")[0].tobytes(), tensors("F32")[0]
    payload = encode(blocks, source, "Q4_K")
    with pytest.raises(DecodeError, match="another frame"):
        decode(payload, source, len(blocks) - 144, "Q4_K")
    with pytest.raises(DecodeError, match="another type"):
        decode(payload, np.zeros(73728 * 2, np.float32), 73728 // 256 * 176, "Q5_K")
    with pytest.raises(DecodeError, match="not derived"):
        decode(payload, source, len(blocks), "IQ2_S")


def test_a_damaged_frame_leaves_the_others_alone():
    blocks, source = tensors("Q5_K")[0].tobytes(), tensors("F32")[0]
    payload = encode(blocks, source, "Q5_K")
    outs = [memoryview(bytearray(len(blocks))) for _ in range(3)]
    given_ = [memoryview(one) for one in (payload, payload[:-1], payload)]
    with pytest.raises(DecodeError, match="a derived payload is damaged"):
        CODEC.decode_many(given_, [source] * 3, outs, "Q5_K", positions=[0] * 3)
    assert bytes(outs[0]) == bytes(outs[2]) == blocks


def test_a_source_of_another_size_is_an_error_of_the_caller():
    blocks, source = tensors("Q4_K")[0].tobytes(), tensors("F32")[0]
    payload = encode(blocks, source, "Q4_K")
    with pytest.raises(ValueError, match="elements"):
        CODEC.encode_many([memoryview(blocks)], [source[:-1]], "Q4_K", positions=[0])
    with pytest.raises(ValueError, match="elements"):
        out = memoryview(bytearray(len(blocks)))
        CODEC.decode_many([memoryview(payload)], [source[:-1]], [out], "Q4_K", positions=[0])


@pytest.mark.parametrize("path", PATHS)
def test_the_kernel_refuses_arrays_of_other_sizes(path):
    native = kernel.of_name(path).native
    if native is None:
        return
    blocks, source = np.zeros(144, np.uint8), np.zeros(256, np.float32)
    header, residual = np.zeros(20, np.uint8), np.zeros(256, np.uint8)
    assert native.split_blocks(12, STORED, 0, blocks, source, header, residual) == 0
    for bad in ((13, blocks, source), (12, blocks, source[:-1]), (99, blocks, source)):
        with pytest.raises(ValueError, match=r"bytes where|no recipe"):
            native.split_blocks(bad[0], STORED, 0, bad[1], bad[2], header, residual)
    with pytest.raises(ValueError, match="no recipe"):
        native.split_blocks(12, REFERENCE, 0, blocks, source, header, residual)
    with pytest.raises(ValueError, match="residual"):
        native.join_blocks(12, STORED, 0, header, source, residual[:-1], blocks)
    with pytest.raises((BufferError, ValueError, TypeError)):
        native.join_blocks(12, STORED, 0, header, source, None, bytes(144))


def test_which_types_are_derived():
    assert all(supported(dtype) for dtype in (*SHAPES, "I8", "U8", "F8_E4M3", "F8_E5M2"))
    assert not any(supported(dtype) for dtype in (None, "F32", "IQ2_S", "IQ3_S", "TQ2_0", "X99"))
    assert [dtype for dtype in SHAPES if supported(dtype, smallest=True)] == list(K_TYPES)
    (payload,) = CODEC.encode_many([memoryview(bytes(82))], [np.zeros(0)], "IQ2_S", positions=[0])
    assert payload is None


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", sorted(SHAPES))
def test_values_equal_ggmls(path, dtype, monkeypatch):
    monkeypatch.setenv(VARIABLE, path)
    noise = np.random.default_rng(6).integers(0, 256, 60 * DTYPES[dtype].block_bytes, np.uint8)
    for blocks in (tensors(dtype)[0], noise):
        elements = len(blocks) // DTYPES[dtype].block_bytes * DTYPES[dtype].block_elements
        out = np.empty(elements, np.float32)
        kernel.active().block_values(SHAPES[dtype], blocks, out)
        expected = ggml.dequantise_blocks(blocks.tobytes(), dtype)
        known = ~np.isnan(expected)
        assert np.array_equal(np.isnan(out), ~known)
        assert np.array_equal(out[known].view(np.uint32), expected[known].view(np.uint32))


@pytest.mark.parametrize("dtype", ["Q4_K", "I8"])
def test_a_source_that_lies_at_an_odd_address_serves(dtype):
    source = tensors("F32")[0][:2560]
    blocks = tensors(dtype)[0][:1440].tobytes() if dtype in SHAPES else bytes(2560)
    odd = np.frombuffer(memoryview(b"x" + source.tobytes())[1:], np.float32)
    assert not odd.flags.aligned
    payload = encode(blocks, odd, dtype)
    assert payload == encode(blocks, source, dtype)
    assert decode(payload, odd, len(blocks), dtype) == blocks


@pytest.mark.parametrize("path", [name for name in PATHS if name != kernel.NUMPY])
def test_c_takes_no_numbers_that_are_not_aligned(path):
    shape, blocks = SHAPES["Q8_0"], np.zeros(68, np.uint8)
    odd = np.zeros(257, np.uint8)[1:].view(np.float32)
    header, residual = np.zeros(4, np.uint8), np.zeros(64, np.uint8)
    native = kernel.of_name(path)
    with pytest.raises(ValueError, match="source has to be aligned to 4 bytes"):
        native.split_blocks(shape, STORED, blocks, odd, header, residual)
    with pytest.raises(ValueError, match="source has to be aligned"):
        native.join_blocks(shape, STORED, header, odd, None, blocks)
    with pytest.raises(ValueError, match="values has to be aligned"):
        native.block_values(shape, blocks, odd)
    with pytest.raises(ValueError, match="values has to be aligned"):
        native.fit_rounded("I8", residual, odd, 0, Grid())
    with pytest.raises(ValueError, match="values has to be aligned"):
        native.round_values("I8", np.zeros(5, np.uint8), odd, 0, Grid(), None, residual)


def test_the_formula_of_the_document_uses_every_range():
    source = formula(256)
    assert (np.abs(source.reshape(-1, 16)).max(1) > 0).all()
    assert (source < 0).any()


@given(dtype=st.sampled_from(sorted(SHAPES)), data=st.data())
def test_a_part_of_a_frame_is_that_part_of_the_whole(dtype, data):
    whole, values = tensors(dtype)[0].tobytes(), tensors("F32")[0]
    block, elements = DTYPES[dtype].block_bytes, DTYPES[dtype].block_elements
    begin = data.draw(st.integers(0, 3 * block))
    size = data.draw(st.integers(20 * block, min(5000 + 20 * block, len(whole) - begin)))
    first, stop = CODEC.window(dtype, begin, size)
    content = whole[begin : begin + size]
    (payload,) = CODEC.encode_many(
        [memoryview(content)], [values[first:stop]], dtype, positions=[begin]
    )
    assert payload is not None
    low = data.draw(st.integers(0, size - 1))
    out = memoryview(bytearray(data.draw(st.integers(1, size - low))))
    one, other = CODEC.part_blocks(dtype, begin, size, low, low + len(out))
    source = values[first + one * elements : first + other * elements]
    CODEC.decode_part(memoryview(payload), source, out, dtype, begin, size, low)
    assert bytes(out) == content[low : low + len(out)]
    with pytest.raises(ValueError, match="elements for"):
        CODEC.decode_part(memoryview(payload), values, out, dtype, begin, size, low)
    with pytest.raises(DecodeError):
        CODEC.decode_part(memoryview(payload[:-1]), source, out, dtype, begin, size, low)
