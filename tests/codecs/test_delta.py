"""The codec DELTA: properties, choices, what a frame costs at most, and damage, on every path."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_deltas import RELATIONS, TYPES, decayed, numbers, pair, pairs
from sample_tensors import weights

from hartonomous.codecs import kernel
from hartonomous.codecs.delta import DeltaCodec
from hartonomous.codecs.differences import KINDS, differences, restored, scaled, stepped
from hartonomous.codecs.fields import FieldsCodec
from hartonomous.codecs.kernel import NUMPY, VARIABLE
from hartonomous.core.record import FRAME_BYTES, Encoding
from hartonomous.errors import DecodeError
from hartonomous.packs import rescue

PATHS = kernel.available()
CODEC = DeltaCodec()


def encode_on(path: str, dtype: str, prediction: bytes, frame: bytes, lead: int = 0):
    views = [memoryview(frame)], [memoryview(prediction)]
    return kernel.of_name(path).encode_deltas(*views, [lead], KINDS[dtype])[0]


def decode_on(path: str, payload: bytes, prediction: bytes) -> tuple[str | None, bytes]:
    out = memoryview(bytearray(len(prediction)))
    (fault,) = kernel.of_name(path).decode_deltas(
        [memoryview(payload)], [memoryview(prediction)], [out]
    )
    return fault, bytes(out)


def test_number_and_recipe():
    assert (CODEC.encoding, CODEC.recipe) == (Encoding.DELTA, 1)


@given(one=pairs())
def test_every_path_writes_the_same_and_reads_it_back(one):
    dtype, prediction, frame, lead = one
    payloads = {encode_on(path, dtype, prediction, frame, lead) for path in PATHS}
    assert len(payloads) == 1
    (payload,) = payloads
    assert (payload == b"") == (prediction == frame)
    assert payload is None or len(payload) * 50 <= len(frame) * 49
    for path in PATHS if payload is not None else ():
        assert decode_on(path, payload, prediction) == (None, frame)


@given(some=st.lists(pairs(most=500), min_size=1, max_size=5), path=st.sampled_from(PATHS))
def test_the_codec_gives_back_frames_of_many_kinds_in_one_call(some, path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, path)
        coded = []
        for dtype, prediction, frame, lead in some:
            position = -lead % KINDS[dtype].width
            views = [memoryview(frame)], [memoryview(prediction)]
            (payload,) = CODEC.encode_many(*views, dtype, positions=[position])
            if payload is not None:
                coded.append((payload, prediction, frame))
                rescued = rescue.decode_delta(payload, prediction, dtype, len(frame))
                assert rescued == frame
        outs = [memoryview(bytearray(len(frame))) for _, _, frame in coded]
        views = [memoryview(one) for one, _, _ in coded], [memoryview(two) for _, two, _ in coded]
        CODEC.decode_many(*views, outs)
        assert [bytes(out) for out in outs] == [frame for _, _, frame in coded]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("relation", RELATIONS)
def test_whole_frames_of_every_relation(dtype, relation):
    count = FRAME_BYTES // KINDS[dtype].width
    prediction, frame = pair(dtype, count, relation)
    results = {encode_on(path, dtype, prediction, frame) for path in PATHS}
    assert len(results) == 1
    (payload,) = results
    if relation in ("unrelated", "bits") and payload is None:
        return
    assert payload is not None
    for path in PATHS:
        assert decode_on(path, payload, prediction) == (None, frame)
    assert rescue.decode_delta(payload, prediction, dtype, FRAME_BYTES) == frame


@pytest.mark.parametrize(
    ("dtype", "relation", "form", "share"),
    [
        ("BF16", "few", (1, 0), 0.001), ("F32", "few", (1, 0), 0.001),
        ("F32", "scaled", (1, 1), 0.01), ("F32", "partly scaled", (2, 2), 0.60),
        ("BF16", "scaled", (1, 1), 0.01), ("F16", "scaled", (2, 1), 0.10),
        ("BF16", "ulp", (2, 0), 0.08), ("F32", "ulp", (2, 0), 0.04),
        ("BF16", "trained", (2, 0), 0.33), ("F32", "trained", (2, 0), 0.68),
        ("BF16", "blocks", (2, 0), 0.30), ("F32", "decayed", (2, 2), 0.19),
    ],
)  # fmt: skip
def test_each_relation_takes_its_form_and_no_more_than_it_may(dtype, relation, form, share):
    prediction, frame = pair(dtype, FRAME_BYTES // KINDS[dtype].width, relation)
    payload = encode_on(PATHS[0], dtype, prediction, frame)
    assert (payload[0] & 3, payload[0] >> 4 & 3) == form
    assert len(payload) < share * len(frame)


def test_changes_cost_less_than_a_stream_of_their_own():
    """What differs is coded in the context of the prediction's size: better than order 0."""
    prediction, frame = pair("BF16", FRAME_BYTES // 2, "trained")
    kind = KINDS["BF16"]
    change = differences(kind, kind.read(prediction), kind.read(frame))
    counts = np.bincount(change)
    counts = counts[counts > 0]
    order_0 = -(counts * np.log2(counts / counts.sum())).sum() / 8
    assert len(encode_on(PATHS[0], "BF16", prediction, frame)) < 0.93 * order_0


@pytest.mark.parametrize("dtype", [*TYPES, "F64", "Q8_0", "U8"])
def test_a_useless_prediction_costs_no_more_than_fields_alone(dtype):
    frame, prediction = weights(dtype, FRAME_BYTES), np.random.default_rng(1).bytes(FRAME_BYTES)
    alone = FieldsCodec().encode(memoryview(frame), dtype)
    views = [memoryview(frame)], [memoryview(prediction)]
    (payload,) = CODEC.encode_many(*views, dtype, positions=[0])
    assert (payload is None) == (alone is None)
    if payload is not None:
        assert len(payload) <= len(alone) + 1
        assert payload[0] == 0
        out = memoryview(bytearray(FRAME_BYTES))
        CODEC.decode_many([memoryview(payload)], [memoryview(prediction)], [out])
        assert out == frame
        assert rescue.decode_delta(payload, prediction, dtype, FRAME_BYTES) == frame


def test_types_without_differences():
    frame = memoryview(np.random.default_rng(1).bytes(5000))
    other = memoryview(bytes(5000))
    for dtype in ("F64", "I32", "X99_NEW"):
        assert CODEC.encode_many([frame, frame], [frame, other], dtype, positions=[0, 1]) == [
            b"", None,
        ]  # fmt: skip


def test_an_exact_prediction_costs_nothing():
    frame = memoryview(weights("F32", 1000))
    assert CODEC.encode_many([frame], [frame], "F32", positions=[0]) == [b""]
    out = memoryview(bytearray(1000))
    CODEC.decode_many([memoryview(b"")], [frame], [out])
    assert out == frame


@pytest.mark.parametrize("dtype", TYPES)
def test_every_bit_pattern_against_every_sign(dtype):
    """All 2^16 patterns, or as many spread over 2^32, from predictions of both signs and NaNs."""
    kind = KINDS[dtype]
    patterns = np.arange(1 << 16, dtype=f"<u{kind.width}")
    if kind.width == 4:
        patterns = patterns * np.uint32(65_537)
    for prediction in (0, 1 << (8 * kind.width - 1), (1 << (8 * kind.width)) - 1, 0x3F81, 0x7F81):
        base = np.full(len(patterns), prediction, patterns.dtype)
        change = differences(kind, base, patterns)
        assert len(np.unique(change)) == len(patterns)
        assert (restored(kind, base, change) == patterns).all()
        payload = encode_on(PATHS[0], dtype, base.tobytes(), patterns.tobytes())
        for path in PATHS if payload is not None else ():
            assert decode_on(path, payload, base.tobytes()) == (None, patterns.tobytes())


def test_the_scaled_prediction_is_one_rounding():
    """Against float64, which holds the product of two float32 exactly."""
    random = np.random.default_rng(5)
    values = (random.standard_normal(50_000) * 10.0 ** random.integers(-30, 30, 50_000)).astype(
        "<f4"
    )
    factor = np.float32(0.99997)
    found = scaled(KINDS["F32"], values.view("<u4"), factor).view("<f4")
    assert (found == (values.astype(np.float64) * float(factor)).astype(np.float32)).all()
    special = np.array([0, 0x80000000, 1, 0x7F800000, 0x7FC00001, 0xFF800001, 0x00800000], "<u4")
    assert (scaled(KINDS["F32"], special, factor) == special).all()
    halves = random.standard_normal(50_000).astype("<f2")
    found = scaled(KINDS["F16"], halves.view("<u2"), np.float32(0.875)).view("<f2")
    product = halves.astype(np.float64) * 0.875
    normal = np.abs(product) >= 2.0**-14
    assert (found == product.astype("<f2"))[normal].all()


def test_steps_move_normal_numbers_towards_zero_and_leave_all_others():
    random = np.random.default_rng(6)
    steps = random.integers(-(1 << 15), 1 << 15, 64, dtype=np.int16)
    words = random.integers(0, 1 << 32, 5000, dtype=np.uint32)
    words[:6] = [0, 0x80000000, 0x007FFFFF, 0x7F800000, 0xFFC00001, 0x00800000]
    expected = [
        one - int(steps[one >> 17 & 63]) if 1 <= one >> 23 & 255 <= 254 else one
        for one in words.tolist()
    ]
    assert stepped(words, steps).tolist() == expected


@pytest.mark.parametrize("path", PATHS)
def test_weight_decay_that_rounds_to_units_costs_next_to_nothing(path):
    """Steps by the mantissa predict it; a factor leaves several bits of each element."""
    base = np.abs(numbers("F32", FRAME_BYTES // 4, np.random.default_rng(7)))
    base[::2] |= np.uint32(1 << 31)
    with np.errstate(all="ignore"):
        after = decayed(base.view(np.float32)).view(np.uint32)
    payload = encode_on(path, "F32", base.tobytes(), after.tobytes())
    assert payload[0] & 0x80
    assert len(payload) < 0.02 * FRAME_BYTES
    assert decode_on(path, payload, base.tobytes()) == (None, after.tobytes())


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_steps_are_for_f32_only(dtype):
    prediction, frame = pair(dtype, 20_000, "decayed")
    assert not encode_on(PATHS[0], dtype, prediction, frame)[0] & 0x80


@given(data=st.data())
def test_every_path_judges_damage_alike(data):
    dtype = data.draw(st.sampled_from(TYPES))
    relation = data.draw(st.sampled_from(("few", "trained", "partly scaled", "decayed", "blocks")))
    prediction, frame = pair(dtype, data.draw(st.integers(600, 4000)), relation)
    payload = bytearray(encode_on(PATHS[0], dtype, prediction, frame))
    for _ in range(data.draw(st.integers(1, 3))):
        last = data.draw(st.sampled_from((40, 400, len(payload) - 1)))
        payload[data.draw(st.integers(0, min(last, len(payload) - 1)))] = data.draw(
            st.integers(0, 255)
        )
    damaged = bytes(payload[: data.draw(st.sampled_from((len(payload), len(payload) - 1)))])
    results = [decode_on(path, damaged, prediction) for path in PATHS]
    assert len({fault is None for fault, _ in results}) == 1
    sound = results[0][0] is None
    if sound:
        assert len(set(results)) == 1
    if not damaged or damaged[0] == 0 or (damaged[0] >> 2 & 3) != KINDS[dtype].number:
        return
    if sound:
        assert rescue.decode_delta(damaged, prediction, dtype, len(frame)) == results[0][1]
    else:
        with pytest.raises(rescue.DamageError):
            rescue.decode_delta(damaged, prediction, dtype, len(frame))


def test_one_damaged_frame_leaves_the_others_alone():
    prediction, frame = pair("BF16", 20_000, "trained")
    payload = encode_on(PATHS[0], "BF16", prediction, frame)
    damaged = payload[:-1] + bytes([payload[-1] ^ 1]) + b"x"
    for path in PATHS:
        outs = [memoryview(bytearray(len(frame))) for _ in range(5)]
        given_ = [memoryview(damaged if k in (1, 2) else payload) for k in range(5)]
        faults = kernel.of_name(path).decode_deltas(given_, [memoryview(prediction)] * 5, outs)
        assert [fault is None for fault in faults] == [True, False, False, True, True]
        assert [bytes(outs[k]) for k in (0, 3, 4)] == [frame] * 3


HEAD = bytes([2, 0])
TABLE = bytes.fromhex("0100000003 87ff 87ff".replace(" ", ""))


@pytest.mark.parametrize(
    "payload",
    [
        b"\x01", b"\x03\0", b"\x81\0", b"\x41\0", b"\x31\0", b"\x0d\0", b"\x01\x02", b"\x09\x04",
        b"\x01\0\x80", b"\x01\0\xff\xff\xff\xff\xff\x01", b"\x01\0\xff\xff\x7f\x01", b"\x01\0\0\0",
        b"\x89\0", b"\x91\0" + bytes(128), b"\x95\0" + bytes(128), b"\x99\0" + bytes(127),
        b"\xa9\0" + bytes(128), b"\xb9\0" + bytes(200),
        b"\x01\0\0\xff\xff\xff\xff\x7f", b"\x11\0\0\0\0\0", b"\x11\0\0\0\x80\x7f", b"\x11\0\0",
        HEAD, HEAD + b"\0\0\1\0\0\0", HEAD + b"\0\0\xfe\xff\xff\xff" + bytes(9999),
        HEAD + b"\0\0\0\0\0\0" + b"\x00\x80\x00\x00\x03\x87\xff\x87\xff" + bytes(200),
        HEAD + b"\0\0\0\0\0\0" + TABLE + b"\xff\xff\xff\xff" + b"\0\x80\0\0" * 32,
        b"\x42\0" + b"\xff" * 3,
    ],
)  # fmt: skip
def test_hostile_structures_are_refused(payload):
    prediction = bytes(2100)
    for path in PATHS:
        assert decode_on(path, payload, prediction)[0] is not None
    with pytest.raises(DecodeError, match="a delta payload is damaged: "):
        CODEC.decode_many(
            [memoryview(payload)], [memoryview(prediction)], [memoryview(bytearray(2100))]
        )
    with pytest.raises(rescue.DamageError):
        rescue.decode_delta(payload, prediction, "F32" if payload[0] & 8 else "BF16", 2100)


def test_arguments_that_are_wrong():
    content, short = memoryview(bytes(1000)), memoryview(bytes(998))
    other = memoryview(b"\1" * 1000)
    for path in PATHS:
        chosen = kernel.of_name(path)
        with pytest.raises(ValueError, match="a prediction of each"):
            chosen.encode_deltas([content], [short], [0], KINDS["F32"])
        with pytest.raises(ValueError, match=r"cannot be encoded|lead"):
            chosen.encode_deltas([content], [other], [4], KINDS["F32"])
        with pytest.raises(ValueError, match="a prediction of each"):
            chosen.decode_deltas([short], [short], [memoryview(bytearray(1000))])
        with pytest.raises(ValueError, match="as many"):
            chosen.decode_deltas([content], [content], [])
        large = memoryview(bytes((16 << 20) + 1))
        with pytest.raises(ValueError, match="over the limit"):
            chosen.encode_deltas([large], [large], [0], KINDS["F32"])
        assert chosen.encode_deltas([], [], [], KINDS["F32"]) == []
        assert chosen.decode_deltas([], [], []) == []
    with pytest.raises(ValueError, match="a position of each"):
        CODEC.encode_many([content], [content], "F32", positions=[])
    with pytest.raises(ValueError, match="as many"):
        CODEC.decode_many([content], [], [content])


def test_paths_are_all_here():
    assert NUMPY in PATHS
