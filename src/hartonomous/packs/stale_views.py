"""Views that an older recipe made: searched as they are, until a job has made them anew.

The job has the kind ``views``; while one waits or runs no other is put. Whoever finds that the
recipe is another one puts it: an add, a search, a look for similar pictures, a worker.
"""

from hartonomous.catalog import jobs
from hartonomous.core.job import MAX_ATTEMPTS
from hartonomous.errors import HartonomousError
from hartonomous.packs.parts import StoreParts
from hartonomous.ports.progress import Progress

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


def look_for_stale(parts: StoreParts, progress: Progress) -> None:
    """Put the job if an older recipe read texts, after something else was done.

    That counts whatever fails here, such as an index that is damaged, of which a search tells more.
    """
    if parts.database.dialect == "sqlite" and not (parts.directory / "index").exists():
        return
    # Here, because it takes 25 ms, and most adds are to a store without views.
    from hartonomous.packs.text_views import request_stale

    try:
        request_stale(parts)
    except HartonomousError as error:
        progress.note(f"the index of words was not looked at: {error.message}")
