"""The zstd codec against the conformance suite, zstd itself and hostile payloads."""

import sys
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hartonomous.codecs.zstd import ZstdCodec
from hartonomous.core.record import FRAME_BYTES, Encoding
from hartonomous.errors import DecodeError
from hartonomous.testing.codec import CodecContract, decode, refuses, sample_frames

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT = b"the same words, over and over; " * 300


class TestZstdContract(CodecContract):
    def make_codec(self):
        return ZstdCodec()


def encode(content: bytes) -> bytes:
    payload = ZstdCodec().encode(memoryview(content), None)
    assert payload is not None
    return payload


def test_number_and_recipe():
    assert (ZstdCodec().encoding, ZstdCodec().recipe) == (Encoding.ZSTD, 1)


def test_payload_is_one_plain_frame():
    payload = encode(TEXT)
    assert zstd.decompress(payload) == TEXT
    info = zstd.get_frame_info(payload)
    assert (info.decompressed_size, info.dictionary_id) == (len(TEXT), 0)
    assert zstd.get_frame_size(payload) == len(payload)
    assert payload[4] & 0b100 == 0  # the checksum flag of the frame header descriptor


def test_frames_do_not_depend_on_those_before():
    first = encode(TEXT)
    for _, dtype, frame in sample_frames():
        ZstdCodec().encode(memoryview(frame), dtype)
    assert encode(TEXT) == first


@given(st.binary(max_size=3000), st.integers(1, 50))
def test_any_bytes_come_back(piece, times):
    content = piece * times
    payload = ZstdCodec().encode(memoryview(content), "F32")
    if payload is not None:
        assert len(payload) < len(content)
        assert decode(ZstdCodec(), payload, len(content)) == content


@settings(max_examples=300)
@given(st.binary(max_size=100), st.integers(0, 5000))
@example(b"", 0)
@example(b"\x28\xb5\x2f\xfd", 0)
def test_any_payload_is_refused_or_fills_the_output(payload, size):
    for content in (payload, b"\x28\xb5\x2f\xfd" + payload):
        refuses(ZstdCodec(), content, size)  # checks the bounds; no other error may be raised


def test_every_flipped_bit_of_a_small_payload():
    payload = encode(b"abcabcabc" * 30)
    for position in range(len(payload)):
        for bit in range(8):
            damaged = bytearray(payload)
            damaged[position] ^= 1 << bit
            refuses(ZstdCodec(), bytes(damaged), 270)


def test_foreign_frames_of_the_right_content_are_read():
    for options in ({100: 19}, {100: -5}, {100: 1, 201: 1}):
        payload = zstd.compress(TEXT, options=options)
        assert decode(ZstdCodec(), payload, len(TEXT)) == TEXT


def blocks_frame(header: bytes, *blocks: tuple[int, int, bytes]) -> bytes:
    """Return a zstd frame of (type, size, content) blocks; type 0 is raw, 1 repeats a byte."""
    frame = b"\x28\xb5\x2f\xfd" + header
    for index, (kind, size, content) in enumerate(blocks):
        last = index == len(blocks) - 1
        frame += (size << 3 | kind << 1 | last).to_bytes(3, "little") + content
    return frame


def single_segment(size: int) -> bytes:
    return b"\xa0" + size.to_bytes(4, "little")


@pytest.mark.parametrize("size", [1000, 32 * 1024, 128 * 1024])
def test_an_empty_last_block_is_read_and_needed(size):
    payload = blocks_frame(single_segment(size), (1, size, b"x"), (0, 0, b""))
    assert zstd.decompress(payload) == b"x" * size
    assert decode(ZstdCodec(), payload, size) == b"x" * size
    assert refuses(ZstdCodec(), payload[:-3], size)


def test_equal_size_is_not_smaller():
    # A stored size equal to the decoded one means raw bytes, so such a payload may not be given.
    by_gain = {size - len(zstd.compress(b"x" * size, 3)): size for size in range(1, 40)}
    assert ZstdCodec().encode(memoryview(b"x" * by_gain[0]), None) is None
    assert ZstdCodec().encode(memoryview(b"x" * by_gain[1]), None) is not None


@pytest.mark.parametrize("claimed", [0, 999, 1001, 1 << 31, (1 << 32) - 1])
def test_a_lying_content_size_is_refused(claimed):
    payload = blocks_frame(single_segment(claimed), (1, 1000, b"x"))
    assert refuses(ZstdCodec(), payload, 1000)
    assert claimed > 1001 or refuses(ZstdCodec(), payload, claimed)


def test_a_bomb_is_refused_before_it_is_decoded():
    bomb = zstd.compress(bytes(50_000_000))
    lying = single_segment(FRAME_BYTES), *[(1, 128 * 1024, b"x")] * 400
    tracemalloc.start()
    try:
        for payload in (bomb, blocks_frame(*lying)):
            assert len(payload) < 20_000
            assert refuses(ZstdCodec(), payload, FRAME_BYTES)
        assert tracemalloc.get_traced_memory()[1] < 4 * FRAME_BYTES
    finally:
        tracemalloc.stop()


def test_a_window_larger_than_the_frame_is_refused():
    # No single segment: the window is named by a byte, exponents 7 and 16 above 1 KiB.
    size = (200_000).to_bytes(4, "little")
    blocks = (1, 100_000, b"x"), (1, 100_000, b"y")
    near, far = (blocks_frame(b"\x80" + window + size, *blocks) for window in (b"\x38", b"\x80"))
    assert decode(ZstdCodec(), near, 200_000) == b"x" * 100_000 + b"y" * 100_000
    with pytest.raises(DecodeError, match="damaged"):
        decode(ZstdCodec(), far, 200_000)


def test_frames_that_are_not_ours_are_refused():
    unknown_size = zstd.compress(TEXT, options={200: 0})
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    dictionary = zstd.ZstdDict(TEXT[:2000], is_raw=True)
    for payload in (
        unknown_size,
        skippable,
        skippable + encode(TEXT),
        encode(TEXT) + skippable,
        encode(TEXT[:62]) + encode(TEXT[62:]),
        zstd.compress(TEXT[5:], zstd_dict=dictionary),
    ):
        assert refuses(ZstdCodec(), payload, len(TEXT))
    assert refuses(ZstdCodec(), skippable, 0)


def test_a_frame_with_a_named_dictionary_is_refused():
    samples = [b"%d the same words %d" % (i, i * i) for i in range(5000)]
    dictionary = zstd.train_dict(samples, 2000)
    payload = zstd.compress(TEXT, zstd_dict=dictionary)
    with pytest.raises(DecodeError, match="dictionary"):
        decode(ZstdCodec(), payload, len(TEXT))


def test_each_thread_has_its_own_compressor():
    results = {}

    def work(number):
        results[number] = encode(TEXT * (number + 1))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, payload in results.items():
        assert zstd.decompress(payload) == TEXT * (number + 1)
    assert len(results) == 6


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", "F8_E4M3", "I8", "Q4_K", "unheard-of"])
def test_the_dtype_steers_the_level_and_never_the_bytes(dtype):
    values = np.random.Generator(np.random.SFC64(5)).standard_normal(20_000, np.float32)
    frame = memoryview(values).cast("B")
    payload = ZstdCodec().encode(frame, dtype)
    assert payload is not None
    assert decode(ZstdCodec(), payload, frame.nbytes) == frame.tobytes()


def test_floats_are_no_larger_at_their_own_level():
    values = np.random.Generator(np.random.SFC64(5)).standard_normal(60_000, np.float32)
    frame = memoryview(values).cast("B")
    floats, plain = (len(ZstdCodec().encode(frame, dtype) or b"") for dtype in ("F32", None))
    assert 0 < floats <= plain * 1.001
