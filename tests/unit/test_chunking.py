"""Content-defined chunking against its own rule, written out byte by byte."""

import hashlib
import itertools

import blake3
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hartonomous.core.chunking import Chunker, cut_lengths, gear_table

KIB = 1024
MIN, NORMAL, MAX = 16 * KIB, 64 * KIB, 256 * KIB


def reference_gear() -> list[int]:
    return [
        int.from_bytes(blake3.blake3(b"hartonomous chunking 1" + bytes([b])).digest()[:4], "little")
        for b in range(256)
    ]


def reference_cuts(content: bytes) -> list[int]:
    """The rule of the module's docstring, one byte at a time, with a rolling hash."""
    gear = reference_gear()
    cuts, start, value = [], 0, 0
    for position, byte in enumerate(content):
        value = ((value << 1) + gear[byte]) & 0xFFFFFFFF
        length = position - start + 1
        if length < MIN:
            continue
        if length == MAX or value < (1 << 14 if length < NORMAL else 1 << 18):
            cuts.append(length)
            start = position + 1
    if start < len(content):
        cuts.append(len(content) - start)
    return cuts


def noise(size: int, seed: int) -> bytes:
    return blake3.blake3(b"%d" % seed).digest(length=size)


def split(content: bytes, sizes: list[int]) -> list[memoryview]:
    view, blocks = memoryview(content), []
    for size in itertools.cycle(sizes):
        if not view:
            return blocks
        blocks.append(view[:size])
        view = view[size:]
    return blocks


MIXED = (
    noise(700_000, 1)
    + bytes(600_000)
    + noise(100_000, 2)
    + b"ab" * 50_000
    + np.arange(60_000, dtype="<f4").tobytes()
)


# Windows by the hash that they end with, at both sides of the two limits.
WINDOWS = {
    2**14 - 1: "71e0fd77b07670eb940bd5335f973daad8619b91ffc911f57cced45872a1fd5d",
    2**14: "bbbf2ce03753c9bdfa0ff0169dc9575674066676cfb0b4eb8902c442541f65b4",
    2**18 - 1: "0a7309cb4a1252e4da70e6720fcaa4da1e98406c189c24279e9851d58e24d508",
    2**18: "814204136feb5713c166b13269dd63fc35c797ff08a6cd90095066a7a40c701d",
}


@pytest.mark.parametrize(
    ("value", "length", "cut"),
    [
        (2**14 - 1, MIN - 1, MAX),
        (2**14 - 1, MIN, MIN),
        (2**14, MIN, MAX),
        (2**14, NORMAL - 1, MAX),
        (2**14 - 1, NORMAL - 1, NORMAL - 1),
        (2**14, NORMAL, NORMAL),
        (2**18 - 1, NORMAL, NORMAL),
        (2**18, NORMAL, MAX),
        (2**18 - 1, MAX - 1, MAX - 1),
    ],
)
def test_limits_to_the_byte(value, length, cut):
    window = bytes.fromhex(WINDOWS[value])
    content = bytes(length - 32) + window + bytes(MAX)
    assert reference_cuts(content)[0] == cut
    assert next(cut_lengths([content])) == cut


def test_gear_table_is_the_specified_one():
    assert gear_table().tolist() == reference_gear()


def test_agrees_with_the_reference():
    assert list(cut_lengths([MIXED])) == reference_cuts(MIXED)


def test_cuts_are_pinned():
    # Other cuts would find nothing equal in stores that are there: this must never change.
    cuts = np.array(list(cut_lengths([noise(3_000_000, 5)])), "<u4")
    assert cuts[:4].tolist() == [71733, 82812, 18303, 76033]
    assert hashlib.sha256(cuts.tobytes()).hexdigest() == (
        "5c25bbfa8d4d67c83cee9cce4692c7ed94abf6b59903e0203fa832a6a4a443d3"
    )


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, MIN - 1, MIN, MIN + 1, MAX - 1, MAX, MAX + 1])
def test_short_streams(size):
    for content in (bytes(size), noise(size, size)):
        cuts = list(cut_lengths([content]))
        assert cuts == reference_cuts(content)
        assert sum(cuts) == size


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 300_000), min_size=1, max_size=8).filter(
        lambda sizes: sum(sizes) > 100_000
    ),
    at=st.integers(0, len(MIXED)),
)
def test_blocks_do_not_matter(sizes, at):
    content = MIXED[at:]
    assert list(cut_lengths(split(content, sizes))) == list(cut_lengths([content]))


@pytest.mark.parametrize("sizes", [[3], [31], [32], [1, 40, 7], [MIN - 1], [MIN, 1]])
def test_small_blocks_around_the_first_cuts(sizes):
    content = noise(180_000, 9)
    assert list(cut_lengths(split(content, sizes))) == reference_cuts(content)


@settings(max_examples=25, deadline=None)
@given(
    parts=st.lists(
        st.tuples(st.integers(0, 255), st.integers(1, 300_000), st.integers(0, 100_000)),
        max_size=5,
    )
)
def test_lengths_are_within_bounds(parts):
    content = b"".join(bytes([byte]) * run + noise(tail, run) for byte, run, tail in parts)
    cuts = list(cut_lengths([content]))
    assert sum(cuts) == len(content)
    assert all(MIN <= cut <= MAX for cut in cuts[:-1])
    assert all(0 < cut <= MAX for cut in cuts)


def test_constant_bytes_give_the_longest_chunks():
    for byte in range(256):
        assert list(cut_lengths([bytes([byte]) * (2 * MAX + 5)])) == [MAX, MAX, 5], byte


def test_cuts_find_their_way_back_after_an_insertion():
    content = noise(2_000_000, 11)
    before = list(itertools.accumulate(cut_lengths([content])))
    after = list(itertools.accumulate(cut_lengths([b"inserted" + content])))
    moved = {end - len(b"inserted") for end in after}
    assert len(moved & set(before)) >= len(before) - 3


def test_average_is_near_the_normal_size():
    cuts = list(cut_lengths([noise(16_000_000, 13)]))
    assert NORMAL * 0.9 <= np.mean(cuts) <= NORMAL * 1.4


def test_feed_returns_what_is_complete():
    chunker = Chunker()
    assert chunker.feed(bytes(MAX - 1)) == []
    assert chunker.feed(b"") == []
    assert chunker.feed(b"\0") == [MAX]
    assert chunker.finish() == []
    assert Chunker().finish() == []


def test_what_is_kept_does_not_grow():
    chunker = Chunker()
    content = bytearray(noise(1_000_000, 15))
    fed = chunker.feed(content)
    content += b"x"  # a bytearray with an array on it cannot grow
    assert sum(fed) + sum(chunker.finish()) == 1_000_000
