"""Times of day by five fields, as crontab(5) has them: minute, hour, day, month, weekday; in UTC.

A field is ``*``, a number, a range ``a-b``, either with a step ``/n``, or several with commas;
months and weekdays also by the first three letters of their English names, Sunday is 0 and 7. If
both day and weekday are restricted, one of the two is enough. ``@hourly``, ``@daily``, ``@weekly``
and ``@monthly`` are known. There is no time zone and so no hour that is missing or doubled.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hartonomous.errors import UsageError

MAX_CHARS = 200
_LONGEST_DAYS = 8 * 366 + 1
"""29 February is this far from the next one where a century's is left out."""

_NAMES = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *",
}  # fmt: skip
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_PART = re.compile(r"(\*|([0-9a-z]{1,3})(?:-([0-9a-z]{1,3}))?)(?:/([0-9]{1,3}))?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """The minutes, hours, days, months and weekdays (Sunday is 0) that fit."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool  # both were restricted: one is enough


def parse(text: str) -> Cron:
    """Return what a cron expression says; raises UsageError for what is none, or never comes."""
    words = _NAMES.get(text.strip().lower(), text).lower().split()
    if len(text) > MAX_CHARS or len(words) != 5:
        raise _wrong(text, "it has not five fields")
    cron = Cron(
        minutes=tuple(sorted(_field(text, words[0], 0, 59))),
        hours=tuple(sorted(_field(text, words[1], 0, 23))),
        days=_field(text, words[2], 1, 31),
        months=_field(text, words[3], 1, 12, names=_MONTHS, first=1),
        weekdays=frozenset(day % 7 for day in _field(text, words[4], 0, 7, names=_WEEKDAYS)),
        either_day=not (words[2].startswith("*") or words[4].startswith("*")),
    )
    if next_after(cron, 0) is None:
        raise _wrong(text, "such a day never comes")
    return cron


def next_after(cron: Cron, after_us: int) -> int | None:
    """Return the first time (µs UTC) after ``after_us`` that fits; None if none can be told."""
    try:
        start = _EPOCH + timedelta(minutes=after_us // 60_000_000 + 1)
        day = start.replace(hour=0, minute=0)
        for number in range(_LONGEST_DAYS):
            if _fits(cron, day):
                earliest = (start.hour, start.minute) if number == 0 else (0, 0)
                for hour in cron.hours:
                    for minute in cron.minutes:
                        if (hour, minute) >= earliest:
                            found = day + timedelta(hours=hour, minutes=minute)
                            return (found - _EPOCH) // timedelta(microseconds=1)
            day += timedelta(days=1)
    except OverflowError:  # a clock beyond the year 9999
        return None
    return None


def _fits(cron: Cron, day: datetime) -> bool:
    by_day = day.day in cron.days
    by_weekday = day.isoweekday() % 7 in cron.weekdays
    fits = by_day or by_weekday if cron.either_day else by_day and by_weekday
    return fits and day.month in cron.months


def _field(
    text: str,
    field: str,
    low: int,
    high: int,
    *,
    names: Sequence[str] = (),
    first: int = 0,
) -> frozenset[int]:
    found: set[int] = set()
    for part in field.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise _wrong(text, f"{part!r} is no field")
        begin, end = low, high
        if match[2] is not None:
            begin = _number(text, match[2], names, first)
            single = match[3] is None and match[4] is None
            end = begin if single else high
            if match[3] is not None:
                end = _number(text, match[3], names, first)
        step = int(match[4] or 1)
        if not step:
            raise _wrong(text, f"{part!r} has a step of 0")
        if not (low <= begin <= high and low <= end <= high):
            raise _wrong(text, f"{part!r} is not between {low} and {high}")
        if begin > end:
            raise _wrong(text, f"{part!r} ends before it begins")
        found.update(range(begin, end + 1, step))
    return frozenset(found)


def _number(text: str, word: str, names: Sequence[str], first: int) -> int:
    if word in names:
        return names.index(word) + first
    if not word.isdigit():
        raise _wrong(text, f"{word!r} is no number")
    return int(word)


def _wrong(text: str, why: str) -> UsageError:
    return UsageError(
        f"{text[:60]!r} says no times: {why}",
        hint="write minute, hour, day, month, weekday: '0 3 * * 1' is Mondays at 03:00 UTC",
    )
