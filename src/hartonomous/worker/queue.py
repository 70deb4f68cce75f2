"""``store.jobs``: the queue and its schedules as Python code sees them."""

from collections.abc import Sequence
from typing import Any

import msgspec

from hartonomous.core.job import MAX_ATTEMPTS, Job
from hartonomous.core.schedule import Schedule
from hartonomous.operations import jobs, schedules
from hartonomous.packs.parts import StoreParts


class Jobs:
    """Work in the background; a worker (``hart worker``) does it."""

    def __init__(self, parts: StoreParts) -> None:
        self._parts = parts

    def submit(
        self,
        kind: str,
        arguments: dict[str, Any] | None = None,
        *,
        key: str | None = None,
        priority: int = 0,
        delay_s: float = 0,
        max_attempts: int = MAX_ATTEMPTS,
    ) -> Job:
        """Put a job of a kind (add, repack, verify, gc, embed, views, repair) and return it.

        While a job with the same ``key`` waits or runs, that one is returned and nothing is put.
        Lower priorities run first. Raises UsageError for wrong arguments, NotFoundError for a
        path, encoder or space that is not there.
        """
        return jobs.submit(
            self._parts, kind, self._checked(kind, arguments), key=key, priority=priority,
            delay_s=delay_s, max_attempts=max_attempts,
        )  # fmt: skip

    def list(
        self,
        *,
        statuses: Sequence[str] = (),
        kind: str | None = None,
        limit: int = 100,
        wrong: dict[int, str] | None = None,
    ) -> list[Job]:
        """Return jobs, the newest first.

        ``wrong`` receives what is wrong with rows that are damaged, by the job's number; without
        it the first such row raises IntegrityError.
        """
        return jobs.listed(
            self._parts, statuses=statuses, kind=kind, limit=limit, wrong=wrong
        )  # fmt: skip

    def get(self, job_id: int) -> Job:
        """Return one job; raises NotFoundError."""
        return jobs.get(self._parts, job_id)

    def retry(self, job_id: int) -> Job:
        """Let a job that failed, is dead or was cancelled wait anew, due now."""
        return jobs.retry(self._parts, job_id)

    def cancel(self, job_id: int) -> Job:
        """Cancel a job: at once while it waits, within seconds while it runs."""
        return jobs.cancel(self._parts, job_id)

    def wait(self, job_id: int, *, timeout_s: float | None = None) -> Job:
        """Return a job when it is done, dead or cancelled."""
        return jobs.wait(self._parts, job_id, timeout_s=timeout_s)

    def add_schedule(
        self,
        name: str,
        kind: str,
        arguments: dict[str, Any] | None = None,
        *,
        every_s: float | None = None,
        cron: str | None = None,
        priority: int = 0,
        max_attempts: int = MAX_ATTEMPTS,
        replace: bool = False,
    ) -> Schedule:
        """Put a kind of job again and again: every so many seconds, or by five fields in UTC."""
        given = self._checked(kind, arguments)
        jobs.check_size(given)
        return schedules.add(
            self._parts, name, kind, given, every_s=every_s, cron=cron,
            priority=priority, max_attempts=max_attempts, replace=replace,
        )  # fmt: skip

    def schedules(self, *, wrong: dict[str, str] | None = None) -> Sequence[Schedule]:
        """Return every schedule, by name; ``wrong`` is as in ``list``, by the schedule's name."""
        return schedules.listed(self._parts, wrong=wrong)

    def remove_schedule(self, name: str) -> Schedule | None:
        """Forget a schedule; None for one that is damaged. Raises NotFoundError."""
        return schedules.remove(self._parts, name)

    def _checked(self, kind: str, arguments: dict[str, Any] | None) -> dict[str, Any]:
        """Return arguments as they are kept; raises what is wrong with them."""
        from hartonomous.worker.kinds import checked  # all that jobs can do: 60 ms

        found, given = checked(kind, arguments or {})
        kept: dict[str, Any] = msgspec.to_builtins(given)
        found.look(self._parts, given)
        return kept
