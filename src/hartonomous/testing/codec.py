"""Conformance suite of the codec port: exact round trips, and damage that is never a crash.

Derive a class whose name begins with ``Test``, implement ``make_codec``, and let pytest collect
it. A codec guards its own structure, not the bytes: damage that leaves a payload valid is caught
by the frame's checksum in the record, so here it may give wrong bytes, but exactly as many as
asked for, and never outside the buffer.
"""

# ruff: noqa: D102 - the name of a test says what it holds

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from hartonomous.core.record import FRAME_BYTES
from hartonomous.errors import DecodeError
from hartonomous.ports.codec import Codec

GUARD = b"\xa5" * 64
"""Bytes on both sides of the output that must not change."""


def sample_frames() -> list[tuple[str, str | None, bytes]]:
    """Return ``(name, dtype, bytes)`` of frames that codecs meet; the same on every call."""
    random = np.random.default_rng(7)
    weights = (random.standard_normal(FRAME_BYTES // 4) * 0.02).astype("<f4")
    nan_payloads = np.arange(0x7FC00000, 0x7FC00000 + 5000, dtype="<u4")
    specials = np.tile(np.array([0.0, -0.0, np.inf, -np.inf, 1e-45], "<f4"), 999)
    bf16 = (weights.view("<u4") >> 16).astype("<u2")
    text = b"the same words, over and over; " * 300
    return [
        ("zeros", None, bytes(FRAME_BYTES)),
        ("one byte", None, b"x"),
        ("odd length", "F32", weights.tobytes()[:10_007]),
        ("random", None, random.bytes(FRAME_BYTES)),
        ("f32", "F32", weights.tobytes()),
        ("bf16", "BF16", bf16.tobytes()),
        ("nan payloads", "F32", nan_payloads.tobytes()),
        ("special floats", "F32", specials.tobytes()),
        ("integers", "I64", np.arange(4096, dtype="<i8").tobytes()),
        ("text", None, text),
        ("unknown dtype", "X99_NEW", text),
    ]


def decode(codec: Codec, payload: bytes, size: int) -> bytes:
    """Return the ``size`` decoded bytes; asserts that nothing beside the buffer was written."""
    buffer = bytearray(GUARD + b"\xff" * size + GUARD)
    out = memoryview(buffer)[len(GUARD) : len(GUARD) + size]
    try:
        codec.decode_into(memoryview(payload), out, b"")
        return bytes(out)
    finally:
        assert buffer[: len(GUARD)] == GUARD
        assert buffer[len(GUARD) + size :] == GUARD
        assert len(buffer) == size + 2 * len(GUARD)


def refuses(codec: Codec, payload: bytes, size: int) -> bool:
    """Say whether decoding raises DecodeError; any other error passes through."""
    try:
        decode(codec, payload, size)
    except DecodeError:
        return True
    return False


class CodecContract:
    """Every promise of the port, as one test each."""

    def make_codec(self) -> Codec:
        """Return the codec under test."""
        raise NotImplementedError("return the codec under test")

    def encoded(self, *, largest: int = FRAME_BYTES) -> list[tuple[bytes, bytes]]:
        """Return ``(frame, payload)`` of the samples up to ``largest`` bytes that shrink."""
        codec = self.make_codec()
        pairs = [
            (frame, codec.encode(memoryview(frame), dtype))
            for _, dtype, frame in sample_frames()
            if len(frame) <= largest
        ]
        shrunk = [(frame, payload) for frame, payload in pairs if payload is not None]
        assert shrunk, "this codec makes none of the samples smaller"
        return shrunk

    def test_round_trip_is_exact(self) -> None:
        codec = self.make_codec()
        for frame, payload in self.encoded():
            assert decode(codec, payload, len(frame)) == frame

    def test_payloads_are_smaller_or_none(self) -> None:
        assert all(len(payload) < len(frame) for frame, payload in self.encoded())
        random = np.random.default_rng(1).bytes(FRAME_BYTES)
        assert self.make_codec().encode(memoryview(random), None) is None
        assert self.make_codec().encode(memoryview(b""), None) is None

    def test_encoding_leaves_its_input_alone(self) -> None:
        codec = self.make_codec()
        for _, dtype, frame in sample_frames():
            buffer = bytearray(frame)
            codec.encode(memoryview(buffer), dtype)
            assert buffer == frame

    def test_number_and_recipe_are_fixed(self) -> None:
        first, second = self.make_codec(), self.make_codec()
        assert (first.encoding, first.recipe) == (second.encoding, second.recipe)
        assert first.recipe > 0

    def test_truncated_payloads_are_refused(self) -> None:
        codec = self.make_codec()
        for frame, payload in self.encoded():
            step = max(1, len(payload) // 50)
            for size in (*range(0, len(payload), step), len(payload) - 1):
                assert refuses(codec, payload[:size], len(frame)), (len(payload), size)

    def test_bytes_after_the_payload_are_refused(self) -> None:
        codec = self.make_codec()
        for frame, payload in self.encoded():
            for more in (b"\0", b"x" * 100, payload):
                assert refuses(codec, payload + more, len(frame))

    def test_a_wrong_output_size_is_refused(self) -> None:
        codec = self.make_codec()
        for frame, payload in self.encoded():
            for size in {0, 1, len(frame) - 1, len(frame) + 1, 2 * len(frame)} - {len(frame)}:
                assert refuses(codec, payload, size)

    def test_every_flipped_byte_is_refused_or_stays_in_bounds(self) -> None:
        codec = self.make_codec()
        refused = 0
        for frame, payload in self.encoded(largest=25_000):
            for position in range(0, len(payload), max(1, len(payload) // 500)):
                for change in (0x01, 0x80, 0xFF):
                    damaged = bytearray(payload)
                    damaged[position] ^= change
                    refused += refuses(codec, bytes(damaged), len(frame))
        assert refused

    def test_noise_is_refused(self) -> None:
        codec = self.make_codec()
        random = np.random.default_rng(3)
        for size in range(200):
            assert refuses(codec, random.bytes(size), 1000)

    def test_unknown_parameters_are_refused(self) -> None:
        codec = self.make_codec()
        frame, payload = self.encoded()[0]
        try:
            codec.decode_into(memoryview(payload), memoryview(bytearray(len(frame))), b"\xff" * 7)
        except DecodeError:
            return
        raise AssertionError("parameters that mean nothing were accepted")

    def test_threads_do_not_disturb_each_other(self) -> None:
        codec = self.make_codec()

        def work(item: tuple[str, str | None, bytes]) -> bool:
            _, dtype, frame = item
            payload = codec.encode(memoryview(frame), dtype)
            return payload is None or decode(codec, payload, len(frame)) == frame

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, sample_frames() * 2))
