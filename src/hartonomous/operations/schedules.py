"""Schedules: work that is put into the queue again and again, and putting what is due."""

from typing import Any

from hartonomous.catalog import jobs, schedules
from hartonomous.core.job import check_submission
from hartonomous.core.name import check_name
from hartonomous.core.schedule import (
    Schedule,
    check_times,
    first_run_us,
    following_run_us,
    mended_run_us,
)
from hartonomous.errors import ConflictError, IntegrityError, NotFoundError, UsageError
from hartonomous.packs.parts import StoreParts

MOST_SCHEDULES = 1000


def add(
    parts: StoreParts,
    name: str,
    kind: str,
    arguments: dict[str, Any],
    *,
    every_s: float | None,
    cron: str | None,
    priority: int,
    max_attempts: int,
    replace: bool,
) -> Schedule:
    """Keep a schedule of a kind of job whose arguments were checked.

    Raises UsageError for times that are none, ConflictError for a name that is taken, unless
    ``replace``.
    """
    check_name(name)
    check_submission(key=_key(name), priority=priority, max_attempts=max_attempts)
    check_times(every_s, cron)
    now_us = parts.clock()
    whole_s = None if every_s is None else round(every_s)
    new = Schedule(
        name=name, kind=kind, arguments=arguments, every_s=whole_s, cron=cron, priority=priority,
        max_attempts=max_attempts, created_us=now_us, next_us=first_run_us(whole_s, cron, now_us),
    )  # fmt: skip
    with parts.database.write() as tx:
        there = schedules.has(tx, name)
        if there and not replace:
            raise ConflictError(
                f"there is a schedule {name} already", hint="--replace puts this in its place"
            )
        if not there and schedules.count(tx) >= MOST_SCHEDULES:
            raise ConflictError(f"there are {MOST_SCHEDULES} schedules already")
        schedules.put(tx, new)
    return new


def listed(parts: StoreParts, *, wrong: dict[str, str] | None = None) -> list[Schedule]:
    """Return every schedule, by name; ``wrong`` receives what is wrong with damaged ones.

    Raises IntegrityError for damage where there is no ``wrong``.
    """
    with parts.database.read() as tx:
        return schedules.listed(tx, wrong=wrong)


def remove(parts: StoreParts, name: str) -> Schedule | None:
    """Forget a schedule and return what it was; a job of it that waits stays.

    None for one that is damaged. Raises NotFoundError.
    """
    with parts.database.write(alone=False) as tx:
        if not schedules.has(tx, name):
            raise NotFoundError(
                f"there is no schedule {name}", hint="'hart schedule ls' lists them"
            )
        try:
            found = schedules.by_name(tx, name)
        except IntegrityError:
            found = None
        schedules.remove(tx, name)
    return found


def put_due(parts: StoreParts, *, wrong: dict[str, str] | None = None) -> list[int]:
    """Put a job of each schedule that is due; return the ids of those that are new.

    One job of a schedule is active at a time, whichever worker looks, and however many runs were
    missed. What this version cannot read as times, as another one may have written it, is passed
    over, and so is a damaged one; ``wrong`` receives why, by name.
    """
    wrong = {} if wrong is None else wrong
    now_us = parts.clock()
    with parts.database.read() as tx:
        if not any(
            _is_due(one, now_us) for one in _sound(schedules.listed(tx, wrong=wrong), wrong)
        ):
            return []
    put: list[int] = []
    with parts.database.write(alone=False) as tx:
        for one in _sound(schedules.locked(tx, wrong=wrong), wrong):
            if one.next_us > now_us:
                mended = mended_run_us(one, now_us)
                if mended < one.next_us:
                    schedules.set_run(tx, one.name, next_us=mended)
                continue
            new = jobs.NewJob(
                kind=one.kind, arguments=one.arguments, key=_key(one.name),
                priority=one.priority, run_after_us=now_us, max_attempts=one.max_attempts,
            )  # fmt: skip
            job_id, made = jobs.put(tx, new, now_us=now_us)
            following = following_run_us(one, now_us)
            schedules.set_run(tx, one.name, next_us=following, last=(now_us, job_id))
            if made:
                put.append(job_id)
    return put


def _sound(found: list[Schedule], wrong: dict[str, str]) -> list[Schedule]:
    """Return the schedules whose times can be told, and say of the others why."""
    sound = []
    for one in found:
        try:
            check_times(one.every_s, one.cron)
        except UsageError as error:
            wrong[one.name] = error.message
        else:
            sound.append(one)
    return sound


def _is_due(one: Schedule, now_us: int) -> bool:
    return one.next_us <= now_us or mended_run_us(one, now_us) < one.next_us


def _key(name: str) -> str:
    return f"schedule:{name}"
