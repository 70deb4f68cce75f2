"""One run of a claimed job: the work in the main thread, its heartbeat in another.

The heartbeat lengthens the lease, tells the progress, and learns that the job was cancelled or
lost; then it interrupts the work as Ctrl-C does, after which a store is whole like after any end.
A third thread does the same where the work shows no progress any more, and ends the process where
that does not help either.
"""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from enum import Enum
from types import FrameType

import msgspec

from hartonomous.catalog import jobs
from hartonomous.core.job import (
    HEARTBEAT_S,
    LEASE_S,
    PROGRESS_S,
    Ending,
    Job,
    Status,
    after_failure,
    given_back,
)
from hartonomous.errors import HartonomousError, LockedError, UnreachableError
from hartonomous.packs.parts import StoreParts
from hartonomous.settings import Settings
from hartonomous.worker.kinds import Outcome, Work, bounded, checked, described

_ASK_AGAIN_S = 30.0
"""Work that was interrupted and goes on all the same is interrupted again after this time."""
STALLED_CODE = 75
"""The exit code of a process that ended itself because its job neither went on nor ended."""
_FINISH_TRIES = 5
_MOST_MESSAGES = 1000


class Why(Enum):
    """Why a run is to stop before its end."""

    CANCELLED = "cancelled"
    LOST = "lost"  # the lease ran out; the job is somebody else's now
    GIVEN_UP = "given up"  # the worker ends
    STALLED = "stalled"  # no progress for too long: the run failed


class JobProgress:
    """Keeps what an operation tells until the next heartbeat takes it; a port of progress."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self._lock = threading.Lock()
        self._stage: str | None = None
        self._done = self._all_done = self._records = 0
        self._total: int | None = None
        self._changed = False
        self._moved = time.monotonic()

    def stage(self, name: str, *, total_bytes: int | None = None) -> None:
        """Begin a stage."""
        with self._lock:
            self._stage, self._total, self._done = name[:200], total_bytes, 0
            self._changed = True
            self._moved = time.monotonic()

    def advance(self, byte_count: int) -> None:
        """Count bytes of the stage."""
        with self._lock:
            self._done += byte_count
            self._all_done += byte_count
            self._changed = True
            self._moved = time.monotonic()

    def count(self, record_count: int = 1) -> None:
        """Count things of all stages."""
        with self._lock:
            self._records += record_count
            self._changed = True
            self._moved = time.monotonic()

    def note(self, text: str) -> None:
        """Keep a message for the job's result."""
        with self._lock:
            self._moved = time.monotonic()
            if len(self.messages) < _MOST_MESSAGES:
                self.messages.append(text[:1000])

    @property
    def done_bytes(self) -> int:
        """Bytes of all stages."""
        return self._all_done

    @property
    def still_s(self) -> float:
        """Seconds since the operation told anything."""
        return time.monotonic() - self._moved

    @property
    def changed(self) -> bool:
        """Whether there is something that ``report`` did not take yet."""
        return self._changed

    def report(self) -> jobs.Report:
        """Return where the work stands."""
        with self._lock:
            self._changed = False
            return jobs.Report(
                stage=self._stage, record_count=self._records, done_bytes=self._done,
                total_bytes=self._total,
            )  # fmt: skip


class Interruption:
    """Interrupts the work of this process's main thread, and nothing that comes after it."""

    def __init__(self) -> None:
        self._at_work = self._asked = False
        self._main = threading.main_thread().ident
        self.why: Why | None = None

    def install(self) -> None:
        """Take SIGINT, which may be ignored in a process that was started in the background."""
        signal.signal(signal.SIGINT, self._on_signal)

    def ask(self, why: Why) -> None:
        """Interrupt the work, from any thread."""
        self.why = self.why or why
        if self._at_work and self._main is not None:
            self._asked = True
            signal.pthread_kill(self._main, signal.SIGINT)

    def during(self, work: Callable[[], Outcome]) -> Outcome:
        """Do work that may be interrupted; raises KeyboardInterrupt when it was."""
        try:
            self._at_work = True
            if self.why is not None:  # asked for just before
                raise KeyboardInterrupt
            return work()
        finally:
            self._at_work = self._asked = False

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        # Only here, in the main thread, is it certain that the work has not just ended. Once for
        # each time that it was asked: what tidies up behind the exception is not interrupted.
        if self._at_work and self._asked:
            self._asked = False
            raise KeyboardInterrupt


def run_job(
    parts: StoreParts, settings: Settings, job: Job, interruption: Interruption
) -> Ending | None:
    """Do a claimed job and write how it ended; None where it was lost to another worker."""
    progress = JobProgress()
    with contextlib.suppress(UnreachableError):  # the work meets it too, and its end waits
        parts.database.refresh()
    over = threading.Event()
    heart = threading.Thread(
        target=_beat, args=(parts, job, progress, interruption, over), name="heartbeat"
    )
    heart.start()
    try:
        ending = carry_out(parts, settings, job, interruption, progress)
        if ending is None:
            return None
        return ending if _finish(parts, ending) else None
    finally:
        over.set()
        heart.join()


def carry_out(
    parts: StoreParts,
    settings: Settings,
    job: Job,
    interruption: Interruption,
    progress: JobProgress,
) -> Ending | None:
    """Do a job and return how it ended, which is not written yet; None where it was lost."""
    try:
        kind, arguments = checked(job.kind, job.arguments)
        work = Work(parts, settings, progress)
        with _watched(progress, interruption, settings.stall_s):
            outcome = interruption.during(lambda: kind.run(work, arguments))
    except KeyboardInterrupt:
        if interruption.why is not Why.STALLED:
            return _interrupted(parts, job, interruption.why)
        outcome = Outcome(0, None, stalled(settings.stall_s))
    except MemoryError:
        outcome = Outcome(0, None, _out_of_memory())
    except HartonomousError as error:
        outcome = Outcome(0, None, error)
    except Exception as error:  # noqa: BLE001  # the worker's loop: every error is kept with its job
        text = f"unexpected {type(error).__name__}: {error}"
        outcome = Outcome(0, None, HartonomousError(text[:2000], hint="please report it"))
    result = None
    if outcome.report is not None:
        result = bounded(outcome.report, progress.messages)
    if outcome.error is None:
        return Ending(
            id=job.id, epoch=job.epoch, status=Status.DONE, record_count=outcome.record_count,
            done_bytes=progress.done_bytes, result=result,
        )  # fmt: skip
    ending = after_failure(
        job, described(outcome.error), now_us=parts.clock(), chance=random.SystemRandom().random,
        final=outcome.is_final,
    )  # fmt: skip
    return msgspec.structs.replace(
        ending, result=result, record_count=outcome.record_count, done_bytes=progress.done_bytes
    )


def _out_of_memory() -> HartonomousError:
    return HartonomousError(
        "out of memory", hint="lower memory_limit_bytes or workers; 'hart config' shows them"
    )


def stalled(stall_s: float) -> HartonomousError:
    """Return the error of a run that showed no progress for too long."""
    return HartonomousError(
        f"no progress for {stall_s:g} s: what hung was ended",
        hint="look at the disk or server that it waited for; 'stall_s' is the limit",
    )


@contextlib.contextmanager
def _watched(progress: JobProgress, interruption: Interruption, stall_s: float) -> Iterator[None]:
    """End work that stands still for longer than ``stall_s``, and the process if it must be."""
    over = threading.Event()
    watch = threading.Thread(
        target=_watch, args=(progress, interruption, stall_s, over), name="watch", daemon=True
    )
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()


def _watch(
    progress: JobProgress, interruption: Interruption, stall_s: float, over: threading.Event
) -> None:
    while not over.wait(max(stall_s - progress.still_s, PROGRESS_S / 10)):
        if progress.still_s < stall_s:
            continue
        interruption.ask(Why.STALLED)
        # What ends in good order is whole at once; else the process dies, and the store is as
        # after any kill. Nothing in it is asked, for whatever hangs may hold any lock.
        if not over.wait(min(stall_s, _ASK_AGAIN_S)):
            os._exit(STALLED_CODE)


def _interrupted(parts: StoreParts, job: Job, why: Why | None) -> Ending | None:
    if why is Why.LOST:
        return None
    if why is Why.CANCELLED:
        return Ending(id=job.id, epoch=job.epoch, status=Status.CANCELLED)
    return given_back(job, now_us=parts.clock())


def _finish(parts: StoreParts, ending: Ending) -> bool:
    """Write an ending; False where the job was not ours any more.

    While the catalog's server is away it is tried for as long as a lease: then it is somebody's.
    """
    until, tries = time.monotonic() + LEASE_S, _FINISH_TRIES
    while True:
        try:
            return bool(
                parts.database.run(
                    lambda tx: jobs.finish(tx, [ending], now_us=parts.clock()), alone=False
                )
            )
        except UnreachableError:
            if time.monotonic() >= until:
                raise
        except LockedError:
            tries -= 1
            if not tries:
                raise
        time.sleep(1)


def _beat(
    parts: StoreParts,
    job: Job,
    progress: JobProgress,
    interruption: Interruption,
    over: threading.Event,
) -> None:
    last = time.monotonic()
    asked: float | None = None
    while not over.wait(PROGRESS_S):
        now = time.monotonic()
        if asked is None and (progress.changed or now - last >= HEARTBEAT_S):
            last = now
            try:
                with parts.database.write(durable=False, alone=False) as tx:
                    stop = jobs.beat(tx, job, progress.report(), now_us=parts.clock())
            except HartonomousError:
                continue  # the catalog is busy: there are many heartbeats to a lease
            if stop is not False and not over.is_set():
                interruption.ask(Why.LOST if stop is None else Why.CANCELLED)
        if interruption.why is not None and (asked is None or now - asked > _ASK_AGAIN_S):
            asked = now
            interruption.ask(interruption.why)
