"""The child process of a worker: it runs jobs one after the other, as standard input gives them.

A process of its own, so that a job that is killed, or takes all memory, ends no other job. When
standard input ends, the job that runs is given back and the process ends; so nothing is left behind
by a worker that was killed.
"""

import os
import queue
import random
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

from hartonomous.core.job import Ending, Job, after_failure
from hartonomous.errors import HartonomousError
from hartonomous.packs import directory
from hartonomous.settings import load_settings
from hartonomous.worker import messages
from hartonomous.worker.kinds import KINDS, described
from hartonomous.worker.running import Interruption, JobProgress, Why, carry_out, run_job


def main() -> None:
    """Serve until standard input ends."""
    interruption = Interruption()
    interruption.install()
    given, told = _streams()
    setup = messages.to_setup.decode(given.readline())
    waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
    threading.Thread(
        target=_listen, args=(given, waiting, interruption), name="listen", daemon=True
    ).start()
    serve = _serve_alone if setup.alone else _serve
    serve(setup, waiting, interruption, told)


def _streams() -> tuple[BinaryIO, BinaryIO]:
    """Return the two pipes; whatever else is printed goes to standard error."""
    told = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    given = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return given, told


def _listen(
    given: BinaryIO, waiting: "queue.SimpleQueue[Job | None]", interruption: Interruption
) -> None:
    for text in given:
        waiting.put(messages.to_job.decode(text))
    waiting.put(None)
    interruption.ask(Why.GIVEN_UP)


def _serve(
    setup: messages.Setup,
    waiting: "queue.SimpleQueue[Job | None]",
    interruption: Interruption,
    told: BinaryIO,
) -> None:
    place = Path(setup.store)
    settings = load_settings(given=setup.settings, store=place)
    held = directory.open_directory(place, settings=settings, clock=_now_us, force=setup.force)
    try:
        while (job := waiting.get()) is not None:
            if interruption.why is not Why.GIVEN_UP:
                interruption.why = None
            ending = run_job(held.parts, settings, job, interruption)
            told.write(messages.line(messages.Told(job_id=job.id, ending=ending, written=True)))
    finally:
        held.close()


def _serve_alone(
    setup: messages.Setup,
    waiting: "queue.SimpleQueue[Job | None]",
    interruption: Interruption,
    told: BinaryIO,
) -> None:
    """Run one job that nobody else may have the store open for, without its catalog."""
    job = waiting.get()
    if job is None:
        return
    assert KINDS[job.kind].alone, "others have a heartbeat"
    place = Path(setup.store)
    settings = load_settings(given=setup.settings, store=place)
    ending: Ending | None
    try:
        held = directory.open_directory(
            place, settings=settings, clock=_now_us, force=setup.force, exclusive=True,
            with_catalog=False,
        )  # fmt: skip
    except HartonomousError as error:  # somebody else has it open: it is tried again
        chance = random.SystemRandom().random
        ending = after_failure(job, described(error), now_us=_now_us(), chance=chance)
    else:
        try:
            ending = carry_out(held.parts, settings, job, interruption, JobProgress())
        finally:
            held.close()
    told.write(messages.line(messages.Told(job_id=job.id, ending=ending, written=False)))


def _now_us() -> int:
    return time.time_ns() // 1000


if __name__ == "__main__":
    main()
    sys.stderr.flush()
