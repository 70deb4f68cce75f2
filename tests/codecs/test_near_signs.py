"""Signs compared by the C kernel: every path gives what numpy and a plain loop give."""

import numpy as np
import pytest

from hartonomous.codecs import kernel
from hartonomous.core.sketch import furthest

NAMES = kernel.available()


def planted(count, seed):
    """Return random signs (4, count) and some of one column with a few bits turned over."""
    random = np.random.default_rng(seed)
    words = random.integers(0, 1 << 64, (4, count), dtype=np.uint64)
    wanted = random.integers(0, 1 << 64, 4, dtype=np.uint64)
    for bits, column in enumerate(random.permutation(count)[:100]):
        turned = np.zeros(256, np.uint8)
        turned[random.permutation(256)[:bits]] = 1
        words[:, column] = wanted ^ np.packbits(turned).view(np.uint64)
    return words, wanted


def by_hand(words, wanted, limits):
    found = []
    for column in range(words.shape[1]):
        ones = sum(int(word).bit_count() for word in words[:, column])
        apart = sum(
            (int(a) ^ int(b)).bit_count() for a, b in zip(words[:, column], wanted, strict=True)
        )
        if apart <= limits[ones]:
            found.append((column, apart))
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [0, 1, 7, 511, 512, 513, 8193])
def test_near(name, count):
    words, wanted = planted(count, seed=count)
    limits = furthest(sum(int(word).bit_count() for word in wanted))
    expected = by_hand(words, wanted, limits)
    assert count < 500 or 50 < len(expected) < 100
    wide = np.zeros((4, count + 9), np.uint64)  # as a table has it: room behind the last column
    wide[:, :count] = words
    for one in (words, wide[:, :count]):
        columns, distances = kernel.of_name(name).near_signs(one, wanted, limits)
        assert list(zip(columns.tolist(), distances.tolist(), strict=True)) == expected


@pytest.mark.parametrize("name", NAMES)
def test_every_distance_and_none(name):
    words, wanted = planted(700, seed=3)
    one = kernel.of_name(name)
    everything = one.near_signs(words, wanted, np.full(257, 256, np.int16))
    assert everything[0].tolist() == list(range(700))
    assert not len(one.near_signs(words, wanted, np.full(257, -1, np.int16))[0])


@pytest.mark.parametrize("name", NAMES)
def test_other_shapes_are_refused(name):
    words, wanted = planted(20, seed=4)
    limits = np.zeros(257, np.int16)
    for bad in (
        (words[:3], wanted, limits),
        (words, wanted[:3], limits),
        (words, wanted, limits[:256]),
    ):
        with pytest.raises(ValueError, match=r"words have to be|wanted has to|limits has to"):
            kernel.of_name(name).near_signs(*bad)
    if name != kernel.NUMPY:
        with pytest.raises(ValueError, match="row by row"):
            kernel.of_name(name).near_signs(words[:, ::2], wanted, limits)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [0, 1, 511, 1025, 8193])
def test_many_at_once(name, count):
    one = kernel.of_name(name)
    words, wanted = planted(count, seed=count)
    random = np.random.default_rng(5)
    many = random.integers(0, 1 << 64, (40, 4), dtype=np.uint64)
    many[7], many[31] = wanted, ~wanted
    many[8:30:3] = words[:, :1000:125].T[:8] if count > 1000 else many[8:30:3]
    ones = np.bitwise_count(many).sum(axis=1).tolist()
    limits = np.stack([furthest(bits) for bits in ones])
    expected = [bool(by_hand(words, *pair)) for pair in zip(many, limits, strict=True)]
    assert count < 500 or 1 <= sum(expected) < 20
    wide = np.zeros((4, count + 9), np.uint64)
    wide[:, :count] = words
    for some in (words, wide[:, :count]):
        assert one.any_near(some, many, limits).tolist() == expected
    assert one.any_near(words, many[:0], limits[:0]).tolist() == []


@pytest.mark.parametrize("name", NAMES)
def test_many_of_other_shapes_are_refused(name):
    words, wanted = planted(20, seed=4)
    many, limits = np.stack([wanted] * 3), np.zeros((3, 257), np.int16)
    for bad in (
        (words[:3], many, limits),
        (words, many[:, :3], limits),
        (words, many, limits[:2]),
        (words, many, limits[:, :256]),
    ):
        with pytest.raises(ValueError, match=r"words have to be|wanted has to|limits has to"):
            kernel.of_name(name).any_near(*bad)
