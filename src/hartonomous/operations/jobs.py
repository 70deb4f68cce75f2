"""Jobs: putting work into the queue, looking at it, trying it again, cancelling it, waiting for it.

What a kind of job does, and which arguments it takes, is known to the worker (`worker/kinds.py`).
"""

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from hartonomous.catalog import job_rows, jobs
from hartonomous.core.job import (
    ENDED,
    MAX_ARGUMENT_BYTES,
    SECOND_US,
    Job,
    Status,
    check_submission,
    may_become,
)
from hartonomous.errors import ConflictError, InterruptedWorkError, NotFoundError, UsageError
from hartonomous.packs.parts import StoreParts

_MOST_WAIT_S = 36_500 * 86_400
_FIRST_LOOK_S, _LAST_LOOK_S = 0.05, 1.0


def submit(
    parts: StoreParts,
    kind: str,
    arguments: dict[str, Any],
    *,
    key: str | None,
    priority: int,
    delay_s: float,
    max_attempts: int,
) -> Job:
    """Put a job whose arguments were checked; return it, or the active one that has its key."""
    check_submission(key=key, priority=priority, max_attempts=max_attempts)
    check_size(arguments)
    if not 0 <= delay_s <= _MOST_WAIT_S:
        raise UsageError(f"a delay of {delay_s} s is none", hint="give seconds from 0 on")
    now_us = parts.clock()
    new = jobs.NewJob(
        kind=kind, arguments=arguments, key=key, priority=priority, max_attempts=max_attempts,
        run_after_us=now_us + int(delay_s * SECOND_US),
    )  # fmt: skip
    with parts.database.write(alone=False) as tx:
        job_id, _ = jobs.put(tx, new, now_us=now_us)
        found = jobs.by_id(tx, job_id)
    assert found is not None, "it was just put"
    return found


def check_size(arguments: dict[str, Any]) -> None:
    """Raise UsageError for arguments that are too large or no JSON."""
    try:
        size = len(msgspec.json.encode(arguments))
    except (TypeError, UnicodeError) as error:
        raise UsageError(
            f"a job's arguments must be JSON: {error}",
            hint="names that are no text cannot be kept; do this work in the foreground",
        ) from error
    if size > MAX_ARGUMENT_BYTES:
        raise UsageError(
            f"a job's arguments take {size} bytes, more than {MAX_ARGUMENT_BYTES}",
            hint="put several jobs, or name a folder in place of its files",
        )


def listed(
    parts: StoreParts, *, statuses: Sequence[str] = (), kind: str | None = None, limit: int = 100,
    wrong: dict[int, str] | None = None,
) -> list[Job]:  # fmt: skip
    """Return jobs, the newest first, with one of these statuses and of this kind if given.

    ``wrong`` receives what is wrong with damaged ones, by number. Raises UsageError for an unknown
    status or a limit below 1, and IntegrityError for damage where there is no ``wrong``.
    """
    if limit < 1:
        raise UsageError(f"--limit {limit} is no number of jobs", hint="use 1 or more")
    try:
        wanted = [Status(word) for word in statuses]
    except ValueError as error:
        raise UsageError(f"{error}", hint=f"one of {', '.join(Status)}") from error
    with parts.database.read() as tx:
        found = jobs.listed(tx, statuses=wanted, kind=kind, limit=limit)
    if wrong is None:
        for number, why in found.damaged.items():
            raise job_rows.refused(number, why)
    else:
        wrong.update(found.damaged)
    return found.jobs


def get(parts: StoreParts, job_id: int) -> Job:
    """Return one job; raises NotFoundError."""
    with parts.database.read() as tx:
        return _there(jobs.by_id(tx, job_id), job_id)


def cancel(parts: StoreParts, job_id: int) -> Job:
    """Cancel a job: at once while it waits; one that runs is stopped by its worker soon.

    Raises NotFoundError, ConflictError for a job that has ended.
    """
    with parts.database.write(alone=False) as tx:
        found = _there(jobs.by_id(tx, job_id, lock=True), job_id)
        if not may_become(found.status, Status.CANCELLED):
            raise ConflictError(f"job {job_id} is {found.status} already")
        jobs.cancel(tx, found, now_us=parts.clock())
        return _there(jobs.by_id(tx, job_id), job_id)


def retry(parts: StoreParts, job_id: int) -> Job:
    """Let a job that failed, is dead or was cancelled wait anew, due now, with all its attempts.

    Raises NotFoundError, and ConflictError for a job that is running, waiting or done, or whose key
    another active job has.
    """
    with parts.database.write(alone=False) as tx:
        found = _there(jobs.by_id(tx, job_id, lock=True), job_id)
        if found.status == Status.RUNNING or not may_become(found.status, Status.PENDING):
            raise ConflictError(
                f"job {job_id} is {found.status}", hint="submit the work as a new job"
            )
        if not jobs.put_again(tx, found, now_us=parts.clock()):
            raise ConflictError(
                f"another job with the key {found.key!r} is waiting or running",
                hint="wait for that one, or cancel it",
            )
        return _there(jobs.by_id(tx, job_id), job_id)


def wait(parts: StoreParts, job_id: int, *, timeout_s: float | None = None) -> Job:
    """Return a job when it has ended: done, dead or cancelled.

    Raises NotFoundError, InterruptedWorkError after ``timeout_s`` seconds.
    """
    limit = None if timeout_s is None else time.monotonic() + timeout_s
    pause_s = _FIRST_LOOK_S
    while True:
        found = get(parts, job_id)
        if found.status in ENDED:
            return found
        left_s = pause_s if limit is None else limit - time.monotonic()
        if left_s <= 0:
            raise InterruptedWorkError(
                f"job {job_id} is still {found.status} after {timeout_s:g} s",
                hint="jobs run while a worker does: hart worker",
            )
        time.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 2, _LAST_LOOK_S)


def _there(found: Job | None, job_id: int) -> Job:
    if found is None:
        raise NotFoundError(f"there is no job {job_id}", hint="'hart jobs ls' lists them")
    return found
