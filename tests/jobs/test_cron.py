"""Cron expressions against a slow reading of crontab(5), minute by minute."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hartonomous.core.cron import next_after, parse
from hartonomous.errors import UsageError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def us(*when):
    return (datetime(*when, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("0 3 * * *", (2026, 11, 21, 2, 59, 59), (2026, 11, 21, 3, 0)),
        ("0 3 * * *", (2026, 11, 21, 3, 0), (2026, 11, 22, 3, 0)),
        ("*/15 * * * *", (2026, 11, 21, 23, 45, 1), (2026, 11, 22, 0, 0)),
        ("30 4 1,15 * 5", (2026, 11, 2), (2026, 11, 6, 4, 30)),  # a Friday: one of two is enough
        ("0 0 * * 7", (2026, 11, 21), (2026, 11, 22)),
        ("0 0 * * SUN", (2026, 11, 21), (2026, 11, 22)),
        ("0 0 29 2 *", (2026, 1, 1), (2028, 2, 29)),
        ("0 0 29 2 *", (2096, 3, 1), (2104, 2, 29)),
        ("0 0 31 dec-dec *", (2026, 12, 31), (2027, 12, 31)),
        ("@weekly", (2026, 11, 21), (2026, 11, 22)),
        ("5-59/10 22 * jan,jul mon-fri", (2026, 7, 3, 22, 55), (2026, 7, 6, 22, 5)),
        ("10/20 * * * *", (2026, 7, 3, 22, 31), (2026, 7, 3, 22, 50)),
    ],
)
def test_next_time(text, after, expected):
    assert next_after(parse(text), us(*after)) == us(*expected)


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *",
     "* * * * 8", "a * * * *", "*/0 * * * *", "5-1 * * * *", "1,, * * * *", "-1 * * * *",
     "0 0 31 2 *", "0 0 30 feb *", "@reboot", "* * * foo *", "٣ * * * *",
     "0 " * 5000, "*/999 99 * * *"],
)  # fmt: skip
def test_what_is_no_time(text):
    with pytest.raises(UsageError):
        parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [("*/0 * * * *", "'\\*/0' has a step of 0"), ("5-1 * * * *", "'5-1' ends before it begins"),
     ("61-5 * * * *", "'61-5' is not between 0 and 59")],
)  # fmt: skip
def test_what_is_wrong_with_a_time_is_said(text, said):
    with pytest.raises(UsageError, match=said):
        parse(text)


def field(low, high):
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: "{}-{}".format(*sorted(pair)))
    step = st.integers(1, high).map(lambda n: f"*/{n}")
    one = st.one_of(st.just("*"), number.map(str), span, step)
    return st.lists(one, min_size=1, max_size=3).map(",".join)


def slow_values(text, low, high):
    found = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        numbers = range(low, high + 1)
        if span != "*":
            numbers = range(int(first), int(last or first) + 1)
        found |= set(list(numbers)[:: int(step or 1)])
    return found


@given(
    fields=st.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6)),
    start=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),
)
def test_as_a_slow_reading_of_the_rules(fields, start):
    minutes, hours, days, months, weekdays = (
        slow_values(text, low, high)
        for text, (low, high) in zip(
            fields, [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)], strict=True
        )
    )
    found_us = next_after(parse(" ".join(fields)), us(*start.timetuple()[:6]))
    assert found_us is not None
    found = EPOCH + timedelta(microseconds=found_us)

    def fits(day):
        by_day, by_weekday = day.day in days, day.isoweekday() % 7 in weekdays
        starred = fields[2].startswith("*") or fields[4].startswith("*")
        chosen = by_day and by_weekday if starred else by_day or by_weekday
        return chosen and day.month in months

    begin = start.replace(tzinfo=UTC, second=0, microsecond=0)
    assert begin < found
    assert fits(found) and found.minute in minutes and found.hour in hours
    day = begin.date()
    while day < found.date():  # no day before has a time that is later than the start
        if fits(day):
            last = datetime(day.year, day.month, day.day, max(hours), max(minutes), tzinfo=UTC)
            assert last <= start.replace(tzinfo=UTC)
        day += timedelta(days=1)
    for earlier in range(found.hour * 60 + found.minute):
        hour, minute = divmod(earlier, 60)
        if hour in hours and minute in minutes:
            assert found.replace(hour=hour, minute=minute) <= start.replace(tzinfo=UTC)


def test_a_clock_beyond_all_years():
    assert next_after(parse("0 0 * * *"), 2**62) is None
