"""The codec FIELDS: the conformance suite, properties, choices, and damage, on every path."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_tensors import frames, plane_tags, weights

from hartonomous.codecs import kernel
from hartonomous.codecs.fields import FieldsCodec
from hartonomous.codecs.kernel import NUMPY, VARIABLE
from hartonomous.codecs.layouts import LAYOUTS, decode_layout
from hartonomous.core.dtype import DTYPES
from hartonomous.core.record import FRAME_BYTES, Encoding
from hartonomous.errors import DecodeError
from hartonomous.testing.codec import CodecContract

PATHS = kernel.available()
CODEC = FieldsCodec()
FLIPS = (0x01, 0x80, 0xFF)


class TestFieldsContract(CodecContract):
    """The suite on each path; the name of the one that ran is asserted."""

    @pytest.fixture(autouse=True, params=PATHS)
    def path(self, request, monkeypatch):
        monkeypatch.setenv(VARIABLE, request.param)
        assert kernel.active().name == request.param

    def make_codec(self):
        return FieldsCodec()

    def test_every_flipped_byte_is_refused_or_stays_in_bounds(self):
        """As for every codec, but all at once in numpy, which would take minutes one by one."""
        if kernel.active().name != NUMPY:
            super().test_every_flipped_byte_is_refused_or_stays_in_bounds()
            return
        for frame, payload in self.encoded(largest=25_000):
            step = max(1, len(payload) // 150)
            places = [(at, change) for at in range(0, len(payload), step) for change in FLIPS]
            damaged = [memoryview(bytearray(payload)) for _ in places]
            for one, (at, change) in zip(damaged, places, strict=True):
                one[at] ^= change
            outs = [memoryview(bytearray(len(frame))) for _ in places]
            faults = kernel.active().decode_many(damaged, outs)
            assert sum(fault is not None for fault in faults) > len(places) // 10


def encode_on(path: str, dtype: str, content: bytes, position: int = 0) -> bytes | None:
    layout = LAYOUTS[dtype]
    lead = layout.lead(position)
    return kernel.of_name(path).encode_many([memoryview(content)], [lead], layout)[0]


def decode_on(path: str, payload: bytes, size: int) -> tuple[str | None, bytes]:
    out = memoryview(bytearray(size))
    (fault,) = kernel.of_name(path).decode_many([memoryview(payload)], [out])
    return fault, bytes(out)


def test_number_and_recipe():
    assert (CODEC.encoding, CODEC.recipe) == (Encoding.FIELDS, 1)


@given(frame=frames())
def test_every_path_writes_the_same_and_reads_it_back(frame):
    dtype, content, position = frame
    payloads = {encode_on(path, dtype, content, position) for path in PATHS}
    assert len(payloads) == 1
    (payload,) = payloads
    assert payload is None or len(payload) * 50 <= len(content) * 49
    for path in PATHS if payload is not None else ():
        assert decode_on(path, payload, len(content)) == (None, content)


@pytest.mark.parametrize("dtype", sorted(LAYOUTS))
def test_whole_frames_of_every_type(dtype):
    """Two frames of a tensor that begin inside an element where its size is no power of two."""
    tensor = weights(dtype, 2 * FRAME_BYTES + 1)
    cuts = [memoryview(tensor)[at : at + FRAME_BYTES] for at in (0, FRAME_BYTES, 2 * FRAME_BYTES)]
    leads = [LAYOUTS[dtype].lead(k * FRAME_BYTES) for k in range(3)]
    results = [kernel.of_name(path).encode_many(cuts, leads, LAYOUTS[dtype]) for path in PATHS]
    assert all(result == results[0] for result in results)
    payloads = [memoryview(payload) for payload in results[0][:2]]
    assert results[0][2] is None
    for path in PATHS:
        outs = [memoryview(bytearray(FRAME_BYTES)) for _ in payloads]
        assert kernel.of_name(path).decode_many(payloads, outs) == [None, None]
        assert outs == cuts[:2]


@given(some=st.lists(frames(most=3000), max_size=9))
def test_frames_of_many_kinds_in_one_call(some):
    pairs = [(encode_on(PATHS[0], *frame), frame[1]) for frame in some]
    pairs = [(payload, content) for payload, content in pairs if payload is not None]
    for path in PATHS:
        outs = [memoryview(bytearray(len(content))) for _, content in pairs]
        faults = kernel.of_name(path).decode_many([memoryview(one) for one, _ in pairs], outs)
        assert faults == [None] * len(pairs)
        assert [bytes(out) for out in outs] == [content for _, content in pairs]


@given(data=st.data())
def test_every_path_judges_damage_alike(data):
    dtype = data.draw(st.sampled_from(("BF16", "F32", "Q8_0", "U8")))
    content = weights(dtype, data.draw(st.integers(2500, 5000)))
    payload = bytearray(encode_on(PATHS[0], dtype, content))
    for _ in range(data.draw(st.integers(1, 3))):
        # The structure is at the beginning; half of the damage goes there.
        last = data.draw(st.sampled_from((200, len(payload) - 1)))
        payload[data.draw(st.integers(0, last))] = data.draw(st.integers(0, 255))
    payload = bytes(payload[: data.draw(st.sampled_from((len(payload), len(payload) - 1)))])
    results = [decode_on(path, payload, len(content)) for path in PATHS]
    assert len({fault is None for fault, _ in results}) == 1
    if results[0][0] is None:
        assert len(set(results)) == 1


def test_one_damaged_frame_leaves_the_others_alone():
    content = weights("BF16", 40_000)
    payload = encode_on(PATHS[0], "BF16", content)
    damaged = payload[:-1] + bytes([payload[-1] ^ 1]) + b"x"
    for path in PATHS:
        outs = [memoryview(bytearray(len(content))) for _ in range(5)]
        given_ = [memoryview(damaged if k in (1, 2) else payload) for k in range(5)]
        faults = kernel.of_name(path).decode_many(given_, outs)
        assert [fault is None for fault in faults] == [True, False, False, True, True]
        assert [bytes(outs[k]) for k in (0, 3, 4)] == [content] * 3


def test_a_damaged_stream_of_a_pair_leaves_the_other_alone():
    """The last symbols are changed, so both streams are decoded side by side before it shows."""
    content = weights("U8", 40_000)
    payload = encode_on(PATHS[0], "U8", content)
    damaged = bytearray(payload)
    damaged[-200] ^= 0x55
    for path in PATHS:
        for order in ((0, 1), (1, 0)):
            outs = [memoryview(bytearray(len(content))) for _ in order]
            both = [memoryview(payload), memoryview(damaged)]
            faults = kernel.of_name(path).decode_many([both[k] for k in order], outs)
            assert faults[order.index(0)] is None
            assert faults[order.index(1)] is not None
            assert bytes(outs[order.index(0)]) == content


def test_planes_are_kept_as_it_pays():
    size = FRAME_BYTES
    f32 = np.frombuffer(weights("F32", size), "<f4")
    expected = {
        ("BF16", weights("BF16", size)): [2, 0],
        ("F32", f32.tobytes()): [2, 0, 0, 0],
        ("F32", f32.astype("<f2").astype("<f4").tobytes()): [2, 0, 2, 2],
        ("F32", (f32.view("<u4") & 0xFFFF0000).tobytes()): [2, 2, 1, 2],
        ("F32", bytes(size)): [1, 1, 1, 1],
        ("I64", np.arange(size // 8, dtype="<i8").tobytes()): [1, 1, 1, 1, 1, 1, 2, 0],
    }
    for (dtype, content), tags in expected.items():
        payload = CODEC.encode(memoryview(content), dtype)
        found = plane_tags(payload, content)
        if dtype == "F32" and tags[1:] == [0, 2, 2]:
            found, tags = found[:1], tags[:1]
        assert found == tags, (dtype, tags)


def test_what_does_not_pay_stays_raw():
    noise = np.random.default_rng(2).bytes(FRAME_BYTES)
    for path in PATHS:
        assert encode_on(path, "F32", noise) is None
        assert encode_on(path, "F32", b"") is None
        assert encode_on(path, "F32", b"abc") is None
        assert encode_on(path, "Q8_0", bytes(33)) is None


def test_types_without_layout_stay_raw():
    assert CODEC.encode(memoryview(bytes(5000)), None) is None
    assert CODEC.encode(memoryview(bytes(5000)), "X99_NEW") is None


def test_every_type_that_can_be_cut_has_a_layout_of_its_size():
    assert set(LAYOUTS) == set(DTYPES)
    for name, layout in LAYOUTS.items():
        size = DTYPES[name].block_bytes
        assert size % layout.element_bytes == 0, name
        assert layout.element_bytes == size or name.startswith(("C", "F6")), name
        assert decode_layout(layout.encode()) == layout


@pytest.mark.parametrize(
    "descriptions",
    [b"", b"\x01\x01", bytes(3), b"\x01\0\0", b"\x03\1\0", b"\x11\1\0", b"\x21\1\0",
     b"\x01\1\0" * 17, b"\x08\xff\xff"],
)  # fmt: skip
def test_layouts_that_are_none(descriptions):
    with pytest.raises(ValueError, match=r"layout|description|large"):
        decode_layout(descriptions)
    frame = (100).to_bytes(4, "little") + bytes(2) + bytes([len(descriptions) // 3]) + descriptions
    for path in PATHS:
        assert decode_on(path, frame + bytes(200), 100)[0] is not None


def test_a_field_may_be_as_large_as_the_limit():
    for path in PATHS:
        layout = decode_layout(b"\x08\x00\x02")
        content = bytes(range(256)) * 64
        (payload,) = kernel.of_name(path).encode_many([memoryview(content)], [0], layout)
        assert decode_on(path, payload, len(content)) == (None, content)


def test_arguments_that_are_wrong():
    content = memoryview(bytes(1000))
    for path in PATHS:
        chosen = kernel.of_name(path)
        with pytest.raises(ValueError, match=r"cannot be encoded|lead"):
            chosen.encode_many([content], [4], LAYOUTS["F32"])
        with pytest.raises(ValueError, match="over the limit"):
            chosen.encode_many([memoryview(bytes((16 << 20) + 1))], [0], LAYOUTS["F32"])
        with pytest.raises(ValueError, match="as many"):
            chosen.decode_many([content], [])
        assert chosen.encode_many([], [], LAYOUTS["F32"]) == []
        assert chosen.decode_many([], []) == []


def test_a_read_only_output_is_refused():
    payload = encode_on(PATHS[0], "BF16", weights("BF16", 9000))
    for path in PATHS:
        with pytest.raises((BufferError, ValueError, TypeError)):
            kernel.of_name(path).decode_many([memoryview(payload)], [memoryview(bytes(9000))])


def test_the_codec_says_what_is_damaged():
    payload = CODEC.encode(memoryview(weights("BF16", 9000)), "BF16")
    with pytest.raises(DecodeError, match="a fields payload is damaged: "):
        CODEC.decode_into(memoryview(payload)[:-1], memoryview(bytearray(9000)), b"")
    with pytest.raises(DecodeError, match="no parameters"):
        CODEC.decode_into(memoryview(payload), memoryview(bytearray(9000)), b"x")
