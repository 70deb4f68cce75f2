"""Schedules: a kind of job that is put again and again, and when the next one is due."""

from typing import Any

import msgspec

from hartonomous.core import cron as cron_times
from hartonomous.core.job import CLOCKS_DIFFER_S, SECOND_US
from hartonomous.errors import UsageError

SHORTEST_S = 60
LONGEST_S = 3660 * 86_400
_NEVER_US = 2**62


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of job with its arguments, put every ``every_s`` seconds or by ``cron``, in UTC.

    ``next_us`` is when it is due, ``last_us`` when it was put last and ``last_job_id`` as which
    job; runs that were missed are put once.
    """

    name: str
    kind: str
    arguments: dict[str, Any]
    every_s: int | None
    cron: str | None
    priority: int
    max_attempts: int
    created_us: int
    next_us: int
    last_us: int | None = None
    last_job_id: int | None = None


def check_times(every_s: float | None, cron: str | None) -> None:
    """Raise UsageError unless just one of the two is given, and says times."""
    if (every_s is None) == (cron is None):
        raise UsageError(
            "a schedule needs either a period or a cron expression",
            hint="write --every 1d, or --cron '0 3 * * *'",
        )
    if cron is not None:
        cron_times.parse(cron)
    elif every_s is not None and not SHORTEST_S <= every_s <= LONGEST_S:
        raise UsageError(
            f"a period of {every_s:g} s is too short or too long",
            hint="give a minute at least and ten years at most",
        )


def first_run_us(every_s: int | None, cron: str | None, now_us: int) -> int:
    """Return when a schedule made now is due first: a period from now, or the next fitting time."""
    if cron is not None:
        found = cron_times.next_after(cron_times.parse(cron), now_us)
        return _NEVER_US if found is None else found
    assert every_s is not None, "one of the two is given"
    return now_us + every_s * SECOND_US


def following_run_us(schedule: Schedule, now_us: int) -> int:
    """Return when a schedule that is due at ``now_us`` is due again: in the future.

    A period keeps its beat, however late it is; what was missed in between is not made up for.
    """
    if schedule.every_s is None:
        return first_run_us(None, schedule.cron, now_us)
    period = schedule.every_s * SECOND_US
    missed = max(now_us - schedule.next_us, 0) // period
    return schedule.next_us + (missed + 1) * period


def mended_run_us(schedule: Schedule, now_us: int) -> int:
    """Return when a schedule is due, also where the clock was set back since it was put last.

    It is due then as if it were made now. Clocks that differ a little change nothing.
    """
    seen_us = max(schedule.created_us, schedule.last_us or 0)
    if seen_us <= now_us + CLOCKS_DIFFER_S * SECOND_US:
        return schedule.next_us
    return min(schedule.next_us, first_run_us(schedule.every_s, schedule.cron, now_us))
