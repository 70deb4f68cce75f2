"""What is asked for cannot be said to a database: refused in words, on either engine."""

import os

import pytest

from hartonomous.core.condition import parse_condition
from hartonomous.errors import HartonomousError, NotFoundError, UsageError

RAW = os.fsdecode(b"no text \xff")
"""As the system gives an argument whose bytes are no UTF-8."""


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.names(RAW),
        lambda store: store.ls(tag=RAW),
        lambda store: store.tensor("a", RAW),
        lambda store: store.explain("a", RAW),
        lambda store: store.search_tensors(RAW),
        lambda store: store.jobs.list(kind=RAW),
        lambda store: store.jobs.remove_schedule(RAW),
        lambda store: store.jobs.submit("gc", {RAW: RAW}),
        lambda store: store.relate("a", "fine-tune-of", "b", note=RAW),
    ],
)
def test_texts_that_are_no_utf_8(store, source, ask):
    store.add(source("a", b"one"))
    store.add(source("b", b"two"))
    with pytest.raises((UsageError, NotFoundError)):
        ask(store)
    assert len(store.ls()) == 2


@pytest.mark.parametrize("number", [0, -1, 2**63, -(2**70)])
@pytest.mark.parametrize("ask", ["get", "cancel", "retry", "wait"])
def test_jobs_of_numbers_that_no_job_has(store, ask, number):
    with pytest.raises(NotFoundError):
        getattr(store.jobs, ask)(number)


@pytest.mark.parametrize("ask", [lambda store: store.jobs.list, lambda store: store.names])
def test_limits_beyond_the_numbers_of_a_database(store, ask):
    with pytest.raises(HartonomousError):
        ask(store)(limit=2**70)


@pytest.mark.parametrize("value", ["nan", "9" * 400 + "GB"])
def test_numbers_of_a_condition_that_are_none(value):
    with pytest.raises(UsageError):
        parse_condition(f"size > {value}")
