"""Threads in order: results as ``map`` gives them, few items ahead, errors where they belong."""

import threading

import pytest

from hartonomous.packs.ordered_threads import OrderedThreads


def test_results_come_in_the_order_of_items():
    first_may_end = threading.Event()

    def work(number):
        if number == 0:
            assert first_may_end.wait(60)
        else:
            first_may_end.set()  # a later one ends before the first
        return number * number

    with OrderedThreads(2, "test") as each:
        assert list(each(work, range(50))) == [number * number for number in range(50)]
        assert list(each(work, [])) == []


def test_items_are_taken_a_few_ahead():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    with OrderedThreads(2, "test") as each:
        results = each(str, items())
        assert taken == []
        assert next(results) == "0"
        assert len(taken) == 3
        results.close()
    assert len(taken) == 3


def test_an_error_is_raised_where_its_result_is_taken():
    def work(number):
        if number == 3:
            raise ValueError("the third")
        return number

    with OrderedThreads(2, "test") as each:
        results = each(work, range(100))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="the third"):
            next(results)
    assert not [one for one in threading.enumerate() if one.name.startswith("test_")]
