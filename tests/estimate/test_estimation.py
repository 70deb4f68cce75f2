"""The arithmetic of estimates."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hartonomous.core.estimation import (
    Guess,
    guess_from_samples,
    share_out,
    spots,
    steps,
    sum_of,
)


@given(st.integers(0, 10**12), st.sampled_from([16, 32, 64]))
def test_spots_lie_inside_in_order_without_overlap_at_the_ends(length, size):
    found = spots(length, size)
    assert found == spots(length, size)
    assert found[0][0] == 0
    assert sum(found[-1]) == length
    assert [at for at, _ in found] == sorted(at for at, _ in found)
    assert all(at >= 0 and at + count <= length for at, count in found)
    assert sum(count for _, count in found) <= min(length, 30 * size)


@given(st.integers(1, 10**12), st.integers(1, 200))
def test_steps_see_every_stretch(total, count):
    found = steps(total, count, seed=1)
    assert len(found) == count
    for index, position in enumerate(found):
        assert index * total / count - 1 <= position <= (index + 1) * total / count
        assert position < total


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**9), max_size=8))
def test_shares_keep_to_the_budget_and_to_the_sizes(budget, sizes):
    shares = share_out(budget, sizes)
    assert sum(shares) <= budget
    assert all(0 <= share <= size for share, size in zip(shares, sizes, strict=True))
    if sum(sizes) <= budget:
        assert shares == sizes


def test_a_small_class_is_read_whole_and_the_rest_goes_to_the_large_one():
    small, large = share_out(1000, [10, 10**6])
    assert small == 10
    assert 980 <= large <= 990


def test_whole_samples_are_summed():
    guess = guess_from_samples(30, [(10, 5), (20, 20)], floor=0.0, whole=True)
    assert guess == Guess(estimated=25, low=25, high=25)


def test_without_samples_everything_is_possible():
    assert guess_from_samples(30, [], floor=0.01, whole=False) == Guess(
        estimated=30, low=0, high=30
    )
    assert guess_from_samples(0, [], floor=0.01, whole=False).high == 0


def test_one_sample_says_little_and_the_floor_holds():
    one = guess_from_samples(1000, [(10, 5)], floor=0.01, whole=False)
    assert one.half >= 500
    many = guess_from_samples(1000, [(10, 5)] * 50, floor=0.02, whole=False)
    assert (many.estimated, many.low, many.high) == (500, 490, 510)


@pytest.mark.parametrize("count", [2, 5, 11, 40])
def test_the_range_holds_the_truth_about_as_often_as_it_says(count):
    chooser = random.Random(count)
    right = 0
    for _ in range(300):
        samples = [(1000, round(1000 * chooser.uniform(0.2, 0.9))) for _ in range(count)]
        guess = guess_from_samples(10**6, samples, floor=0.0, whole=False)
        right += guess.low <= 550_000 <= guess.high
    assert right >= 270


def test_sums_have_smaller_errors_than_the_sum_of_errors():
    guess = sum_of([Guess(estimated=100, low=70, high=130), Guess(estimated=100, low=60, high=140)])
    assert guess == Guess(estimated=200, low=150, high=250)
    assert guess.half == 50
