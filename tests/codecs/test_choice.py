"""Which encoding is chosen, and what reads it."""

import numpy as np
import pytest

from hartonomous.codecs.choice import best, choose, codec_for, measure, smallest
from hartonomous.codecs.fields import FieldsCodec
from hartonomous.codecs.zstd import ZstdCodec
from hartonomous.core.record import FRAME_BYTES, Encoding
from hartonomous.errors import UnsupportedStoreError

RANDOM = np.random.default_rng(3).bytes(FRAME_BYTES)


class Frames:
    """A sequence that makes its frames when asked, and notes which were."""

    def __init__(self, frames):
        self.frames = frames
        self.asked = []

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, index):
        self.asked.append(index)
        return memoryview(self.frames[index])


def part_random(share: float) -> memoryview:
    """A frame whose ``share`` is random and whose rest is zeros."""
    cut = int(FRAME_BYTES * share)
    return memoryview(RANDOM[:cut] + bytes(FRAME_BYTES - cut))


def test_two_percent_decide():
    assert choose([part_random(0.99)], None) is Encoding.RAW
    assert choose([part_random(0.97)], None) is Encoding.ZSTD
    assert choose([memoryview(RANDOM)], None) is Encoding.RAW
    assert choose([memoryview(bytes(FRAME_BYTES))], "F32") is not Encoding.RAW
    assert best({Encoding.RAW: 100, Encoding.FIELDS: 98}) is Encoding.FIELDS
    assert best({Encoding.RAW: 100, Encoding.FIELDS: 99, Encoding.ZSTD: 99}) is Encoding.RAW


def weights(count: int, dtype: str = "<f4", seed: int = 1) -> memoryview:
    return memoryview(
        (np.random.default_rng(seed).standard_normal(count) * 0.02).astype(dtype)
    ).cast("B")


@pytest.mark.parametrize(("dtype", "name"), [("<f4", "F32"), ("<f2", "F16"), ("<f8", "F64")])
def test_weights_are_kept_as_fields(dtype, name):
    frame = weights(30_000, dtype)
    assert choose([frame], name) is Encoding.FIELDS
    ((encoding, payload),) = smallest([frame], name, positions=[0])
    assert encoding is Encoding.FIELDS
    assert len(payload) < 0.98 * frame.nbytes
    back = bytearray(frame.nbytes)
    codec_for(encoding).decode_into(memoryview(payload), memoryview(back), b"")
    assert back == frame


def test_rows_that_repeat_are_kept_by_zstd():
    frame = memoryview(bytes(weights(500)) * 40)
    assert choose([frame], "F32") is Encoding.ZSTD
    ((encoding, payload),) = smallest([frame], "F32", positions=[0])
    assert encoding is Encoding.ZSTD
    assert len(payload) < frame.nbytes // 10


def test_what_is_no_tensor_is_never_cut_into_fields():
    assert set(measure([weights(5000)], None)) <= {Encoding.RAW, Encoding.ZSTD}


def test_samples_count_together():
    raw, zeros = memoryview(RANDOM), memoryview(bytes(FRAME_BYTES))
    assert choose([raw, raw, zeros], None) is Encoding.ZSTD
    assert choose([raw, raw, zeros[:1000]], None) is Encoding.RAW


@pytest.mark.parametrize(
    ("count", "asked"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (4, [0, 1, 3]), (101, [0, 50, 100])]
)
def test_at_most_three_frames_are_taken(count, asked):
    frames = Frames([bytes(64)] * count)
    assert choose(frames, None) is Encoding.ZSTD
    assert frames.asked == asked


def test_nothing_to_measure_stays_raw():
    assert choose([], None) is Encoding.RAW
    assert choose([memoryview(b"")], None) is Encoding.RAW
    assert choose([memoryview(b"x")], None) is Encoding.RAW


def test_every_choice_can_be_read():
    assert isinstance(codec_for(Encoding.ZSTD), ZstdCodec)
    assert isinstance(codec_for(Encoding.ZSTD, 1), ZstdCodec)
    assert isinstance(codec_for(Encoding.FIELDS, 1), FieldsCodec)


def test_raw_has_no_codec():
    with pytest.raises(ValueError, match="raw"):
        codec_for(Encoding.RAW)


@pytest.mark.parametrize("encoding", [e for e in Encoding if e not in (0, 1, 2)])
def test_reserved_encodings_are_refused_by_name(encoding):
    with pytest.raises(UnsupportedStoreError, match=encoding.name.lower()):
        codec_for(encoding)


@pytest.mark.parametrize("recipe", [0, 2])
def test_other_recipes_are_refused(recipe):
    with pytest.raises(UnsupportedStoreError, match=f"zstd, recipe {recipe}"):
        codec_for(Encoding.ZSTD, recipe)
