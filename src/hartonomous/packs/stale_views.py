"""Views that an older recipe made: searched as they are, until a job has made them anew.

The job has the kind ``views``; while one waits or runs no other is put. Whoever finds that the
recipe is another one puts it: a search, a look for similar pictures, a worker.
"""

from hartonomous.catalog import jobs
from hartonomous.core.job import MAX_ATTEMPTS
from hartonomous.packs.parts import StoreParts

KIND = "views"
KEY = "views"
_PRIORITY = 10
"""After what people wait for."""


def request_views(parts: StoreParts) -> int | None:
    """Put the job, and return its number; None where one waits or runs already."""
    with parts.database.read() as tx:
        if jobs.active_key(tx, KEY):
            return None
    now_us = parts.clock()
    new = jobs.NewJob(
        kind=KIND, arguments={}, key=KEY, priority=_PRIORITY, max_attempts=MAX_ATTEMPTS,
        run_after_us=now_us,
    )  # fmt: skip
    with parts.database.write(alone=False) as tx:
        job_id, made = jobs.put(tx, new, now_us=now_us)
    return job_id if made else None
