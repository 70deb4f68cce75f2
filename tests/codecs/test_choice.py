"""Which encoding is chosen, and what reads it."""

import numpy as np
import pytest

from hartonomous.codecs.choice import choose, codec_for
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
    assert choose([memoryview(bytes(FRAME_BYTES))], "F32") is Encoding.ZSTD


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


def test_raw_has_no_codec():
    with pytest.raises(ValueError, match="raw"):
        codec_for(Encoding.RAW)


@pytest.mark.parametrize("encoding", [e for e in Encoding if e not in (0, 1)])
def test_reserved_encodings_are_refused_by_name(encoding):
    with pytest.raises(UnsupportedStoreError, match=encoding.name.lower()):
        codec_for(encoding)


@pytest.mark.parametrize("recipe", [0, 2])
def test_other_recipes_are_refused(recipe):
    with pytest.raises(UnsupportedStoreError, match=f"zstd, recipe {recipe}"):
        codec_for(Encoding.ZSTD, recipe)
