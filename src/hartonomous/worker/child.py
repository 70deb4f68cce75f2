"""The child process of a worker: it runs jobs one after the other, as standard input gives them.

A process of its own, so that a job that is killed, or takes all memory, ends no other job. When
standard input ends, the job that runs is given back and the process ends; so nothing is left behind
by a worker that was killed.
"""

import contextlib
import os
import queue
import random
import threading
import time
from pathlib import Path
from typing import BinaryIO

from hartonomous.core.job import Ending, Job, after_failure
from hartonomous.errors import HartonomousError
from hartonomous.packs import directory
from hartonomous.settings import Settings, load_settings
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
    try:
        settings, held = _open(setup)
    except HartonomousError as error:
        job = waiting.get()
        if job is not None:
            _tell(told, job, _failure(job, error), written=False)
        return
    try:
        while (job := waiting.get()) is not None:
            if interruption.why is not Why.GIVEN_UP:
                interruption.why = None
            trouble = None
            try:
                ending = run_job(held.parts, settings, job, interruption)
            except HartonomousError as error:  # its end is not written: its lease runs out
                ending, trouble = None, error.message
            _tell(told, job, ending, written=True, trouble=trouble)
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
    try:
        settings, held = _open(setup, alone=True)
    except HartonomousError as error:  # somebody else has it open: it is tried again
        _tell(told, job, _failure(job, error), written=False)
        return
    try:
        ending = carry_out(held.parts, settings, job, interruption, JobProgress())
    finally:
        held.close()
    _tell(told, job, ending, written=False)


def _open(
    setup: messages.Setup, *, alone: bool = False
) -> tuple[Settings, directory.OpenDirectory]:
    place = Path(setup.store)
    settings = load_settings(given=setup.settings, store=place)
    held = directory.open_directory(
        place, settings=settings, clock=_now_us, force=setup.force, exclusive=alone,
        with_catalog=not alone,
    )  # fmt: skip
    return settings, held


def _failure(job: Job, error: HartonomousError) -> Ending:
    chance = random.SystemRandom().random
    return after_failure(job, described(error), now_us=_now_us(), chance=chance)


def _tell(
    told: BinaryIO, job: Job, ending: Ending | None, *, written: bool, trouble: str | None = None
) -> None:
    said = messages.Told(job_id=job.id, ending=ending, written=written, trouble=trouble)
    # A worker that was killed hears nothing any more; standard input tells of that as well.
    with contextlib.suppress(BrokenPipeError):
        told.write(messages.line(said))


def _now_us() -> int:
    return time.time_ns() // 1000
