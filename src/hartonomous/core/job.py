"""Jobs: what one is, and what may become of it. Decisions only; the catalog carries them out.

A job waits (``pending``), is held by one worker for the time of a lease (``running``), and ends as
``done``, ``dead`` or ``cancelled``. A run that failed leaves it ``failed``: it waits for its retry.
Each claim raises the job's epoch. Who reports with an older epoch lost the job, and is refused.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from hartonomous.errors import UsageError

SECOND_US = 1_000_000
LEASE_S = 60
"""How long a job belongs to a worker that says nothing."""
HEARTBEAT_S = 5
"""How often a worker says that it is alive; a twelfth of the lease."""
CLOCKS_DIFFER_S = 60
"""Clocks of machines that share a store are no further apart."""
PROGRESS_S = 1
"""Progress is written no more often."""
FIRST_RETRY_S = 10
LONGEST_RETRY_S = 3600
MAX_ATTEMPTS = 5

MAX_ARGUMENT_BYTES = 48 * 1024
"""With the rest of a job it fits into a pipe, so that nobody waits for who reads it."""
MAX_RESULT_BYTES = 256 * 1024
MAX_KEY_CHARS = 200
MAX_PRIORITY = 1000
MOST_ATTEMPTS = 100


class Status(StrEnum):
    """Where a job stands."""

    PENDING = "pending"
    RUNNING = "running"
    FAILED = "failed"  # and waits for its retry
    DONE = "done"
    DEAD = "dead"  # somebody has to look
    CANCELLED = "cancelled"


ENDED = frozenset({Status.DONE, Status.DEAD, Status.CANCELLED})

_NEXT = {
    Status.PENDING: {Status.RUNNING, Status.CANCELLED},
    # A worker that ends gives its jobs back: they are pending again.
    Status.RUNNING: {*ENDED, Status.FAILED, Status.PENDING},
    Status.FAILED: {Status.RUNNING, Status.CANCELLED, Status.PENDING},
    Status.DONE: set[Status](),
    Status.DEAD: {Status.PENDING},
    Status.CANCELLED: {Status.PENDING},
}

_FINAL = frozenset(
    {"usage", "ambiguous-name", "integrity", "decode", "danger", "unsupported-store"}
)
"""Kinds of errors that the same run would meet again: nothing but a person mends them."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it stands. Times are microseconds UTC; of equal ``priority`` the oldest runs first.

    Lower priorities run first. ``stage``, ``record_count``, ``done_bytes`` and ``total_bytes`` are
    the progress of the newest run, ``error`` ({kind, message, hint}) is why it failed, ``result``
    what it gave, with long lists cut.
    """

    id: int
    kind: str
    arguments: dict[str, Any]
    key: str | None
    status: Status
    priority: int
    run_after_us: int
    attempts: int
    max_attempts: int
    epoch: int
    worker: str | None
    lease_until_us: int | None
    heartbeat_us: int | None
    cancel_asked: bool
    created_us: int
    started_us: int | None
    ended_us: int | None
    stage: str | None
    record_count: int
    done_bytes: int
    total_bytes: int | None
    error: dict[str, str | None] | None
    result: dict[str, Any] | None


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How one run of a job ended, as its worker reports it."""

    id: int
    epoch: int
    status: Status
    record_count: int = 0
    done_bytes: int = 0
    error: dict[str, str | None] | None = None
    result: dict[str, Any] | None = None
    run_after_us: int = 0
    attempts: int = 0


def may_become(before: Status, after: Status) -> bool:
    """Say whether a job may go from one status to another."""
    return after in _NEXT[before]


def new_lease_us(now_us: int) -> int:
    """Return the end of a lease that is given now."""
    return now_us + LEASE_S * SECOND_US


def latest_lease_us(now_us: int) -> int:
    """Return the latest end that a lease can have now.

    A later one was given by a clock that has been set back since; it is cut to a new one's, so that
    the jobs of a dead worker wait for a lease and not for the clock.
    """
    return new_lease_us(now_us) + CLOCKS_DIFFER_S * SECOND_US


def latest_retry_us(now_us: int) -> int:
    """Return the latest time that a retry can wait for now; a later one is cut likewise."""
    return now_us + (LONGEST_RETRY_S + CLOCKS_DIFFER_S) * SECOND_US


def retry_delay_s(attempts: int, chance: Callable[[], float]) -> float:
    """Return how long a job waits for its next run after ``attempts`` runs: backoff, full jitter.

    ``chance`` gives numbers from 0 to 1. The longest wait doubles with each run; anywhere below it
    is as good, so that jobs that failed together do not come back together
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    doublings = min(max(attempts - 1, 0), 32)
    return chance() * min(LONGEST_RETRY_S, FIRST_RETRY_S << doublings)


def after_failure(
    job: Job, error: Mapping[str, str | None], *, now_us: int, chance: Callable[[], float],
    final: bool = False,
) -> Ending:  # fmt: skip
    """Return what a run that failed makes of its job: a retry, the end, or what was asked for.

    ``final`` says that no retry mends this, whatever the error's kind.
    """
    status, wait_s = Status.FAILED, 0.0
    if job.cancel_asked:
        status = Status.CANCELLED
    elif final or error.get("kind") in _FINAL or job.attempts >= job.max_attempts:
        status = Status.DEAD
    else:
        wait_s = retry_delay_s(job.attempts, chance)
    return Ending(
        id=job.id, epoch=job.epoch, status=status, error=dict(error), attempts=job.attempts,
        record_count=job.record_count, done_bytes=job.done_bytes,
        run_after_us=now_us + int(wait_s * SECOND_US),
    )  # fmt: skip


def given_back(job: Job, *, now_us: int) -> Ending:
    """Return the ending of a run that its worker gave up unharmed: it does not count as one."""
    return Ending(
        id=job.id, epoch=job.epoch, status=Status.PENDING, attempts=max(job.attempts - 1, 0),
        run_after_us=min(job.run_after_us, now_us),
    )  # fmt: skip


def check_submission(*, key: str | None, priority: int, max_attempts: int) -> None:
    """Raise UsageError for what no job may have."""
    if key is not None and not (0 < len(key) <= MAX_KEY_CHARS and key.isprintable()):
        raise UsageError(
            f"the key {key[:40]!r} is empty, too long or not printable",
            hint=f"give 1 to {MAX_KEY_CHARS} printable characters",
        )
    if not -MAX_PRIORITY <= priority <= MAX_PRIORITY:
        raise UsageError(
            f"the priority {priority} is not between -{MAX_PRIORITY} and {MAX_PRIORITY}",
            hint="0 is the usual one, lower ones run first",
        )
    if not 1 <= max_attempts <= MOST_ATTEMPTS:
        raise UsageError(
            f"{max_attempts} attempts are not between 1 and {MOST_ATTEMPTS}",
            hint=f"{MAX_ATTEMPTS} is the usual number",
        )
