"""A worker: claims jobs, has child processes run them, takes care of schedules and lost leases.

It has one thread and computes nothing; so it goes on whatever a job does. SIGTERM and SIGINT let
running jobs end within a limit and give the others back; a second one ends at once.
"""

import contextlib
import os
import random
import selectors
import signal
import threading
import time
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from hartonomous.catalog import jobs
from hartonomous.catalog.engines.postgres import ForbiddenError
from hartonomous.core.job import (
    HEARTBEAT_S,
    LEASE_S,
    Ending,
    Job,
    Status,
    after_failure,
    given_back,
)
from hartonomous.errors import HartonomousError, UnreachableError
from hartonomous.operations import schedules
from hartonomous.packs import directory
from hartonomous.packs.picture_views import request_stale_pictures
from hartonomous.packs.text_views import request_stale
from hartonomous.settings import load_settings
from hartonomous.worker import messages
from hartonomous.worker.kinds import KINDS
from hartonomous.worker.slot import Slot

POLL_S = 0.5
"""How often an idle worker looks for jobs."""
TEND_S = 5.0
"""How often it looks for schedules that are due and leases that are over."""
_RELEASE_S = 10.0
"""How long a child may take to give its job back before it is killed."""
_PATIENCE_S = 600.0
"""A catalog that cannot be used for so long ends the worker."""


class Until(Enum):
    """When a worker ends by itself."""

    STOPPED = "stopped"  # never: by a signal
    ONCE = "once"
    EMPTY = "empty"


class Worked(msgspec.Struct, frozen=True, kw_only=True):
    """How many runs ended how. ``given_back`` were stopped and wait, ``lost`` ran out of lease."""

    done: int = 0
    failed: int = 0
    dead: int = 0
    cancelled: int = 0
    given_back: int = 0
    lost: int = 0


_COUNTED = {
    Status.DONE: "done",
    Status.FAILED: "failed",
    Status.DEAD: "dead",
    Status.CANCELLED: "cancelled",
    Status.PENDING: "given_back",
}


class Worker:
    """Runs jobs of the store at ``place`` in up to ``processes`` child processes.

    ``settings`` are values by name as ``hartonomous.open`` takes them. ``tell`` receives a line
    for each thing that happened.
    """

    def __init__(
        self,
        place: Path,
        *,
        settings: dict[str, Any],
        processes: int,
        drain_s: float,
        tell: Callable[[str], None],
        clock: Callable[[], int],
        force: bool = False,
    ) -> None:
        self._place = place
        self._given = settings
        self._force = force
        self._processes = processes
        self._drain_s = drain_s
        self._tell = tell
        self._clock = clock
        self._chance = random.SystemRandom().random
        self._slots: list[Slot] = []
        self._selector = selectors.DefaultSelector()
        self._stops = 0
        self._tended = -TEND_S
        self._asked_for_views = False
        self._wrong: set[str] = set()  # schedules that were told of
        self._troubled: float | None = None
        self._alone: Job | None = None
        self._beaten = 0.0
        self._counts: dict[str, int] = {}
        self._unwritten: list[tuple[Job, Ending, float]] = []  # and until when they are tried again
        self._held = self._open()
        self.name = f"{self._held.parts.host}:{os.getpid()}:{os.urandom(4).hex()}"

    def run(self, until: Until = Until.STOPPED) -> Worked:
        """Work until a signal, or until there is nothing more to do; return what was done."""
        claimed_once = False
        with self._signals():
            if until is Until.STOPPED:
                self._tell(
                    f"worker {self.name} waits for jobs; up to {self._processes} run at once"
                )
            try:
                while not self._stops:
                    self._settle_late()
                    claimed = 0
                    if not (claimed_once and until is Until.ONCE):
                        claimed = self._look_for_work()
                        claimed_once = claimed_once or self._troubled is None
                    if self._alone is not None and not self._busy():
                        self._run_alone(self._alone)
                    elif until is not Until.STOPPED and self._is_over(until, claimed):
                        break
                    else:
                        self._listen(POLL_S)
                self._drain()
            finally:
                self._end()
        return Worked(**self._counts)

    # -- looking for work

    def _look_for_work(self) -> int:
        """Tend the queue and claim what there is room for; return how many jobs were claimed."""
        try:
            self._tend()
            claimed = self._claim()
        except ForbiddenError:
            raise  # waiting gives nobody a right
        except HartonomousError as error:
            now = time.monotonic()
            if self._troubled is None:
                self._troubled = now
                self._tell(f"cannot use the catalog, trying again: {error.message}")
            elif now - self._troubled > _PATIENCE_S:
                raise
            return 0
        self._troubled = None
        return claimed

    def _tend(self) -> None:
        if self._alone is not None and self._beat_alone(self._alone) is not False:
            self._alone = None
        if time.monotonic() - self._tended < TEND_S:
            return
        self._tended = time.monotonic()
        self._take_back()
        wrong: dict[str, str] = {}
        for job_id in schedules.put_due(self._held.parts, wrong=wrong):
            self._tell(f"job {job_id} was put by its schedule")
        for name in sorted(wrong.keys() - self._wrong):
            self._tell(f"the schedule {name} is passed over: {wrong[name]}")
        self._wrong = set(wrong)
        if not self._asked_for_views:
            self._asked_for_views = True
            parts = self._held.parts
            asked = request_stale(parts) or request_stale_pictures(parts)
            if asked is not None:
                self._tell(f"job {asked} was put: an older recipe made some views")

    def _take_back(self) -> None:
        database = self._held.parts.database
        with database.read() as tx:
            over = jobs.any_over(tx, now_us=self._clock())
        if over:
            with database.write(alone=False) as tx:
                wrong: dict[int, str] = {}
                taken = jobs.take_back(
                    tx, now_us=self._clock(), chance=self._chance, wrong=wrong
                )  # fmt: skip
            for one in taken:
                self._tell(f"job {one.id} ({one.kind[:40]}) was taken back from a lost worker")
            self._count_damaged(wrong)
            self._kill_holders({one.id for one in taken} | wrong.keys())

    def _kill_holders(self, gone: set[int]) -> None:
        """End children of ours that hang: what they had is not theirs any more."""
        for slot in self._slots:
            if slot.job is not None and slot.job.id in gone:
                slot.kill()

    def _claim(self) -> int:
        room = self._processes - len(self._busy())
        if not room or self._alone is not None:
            return 0
        claimed = self._claimed(room)
        for job in claimed:
            kind = KINDS.get(job.kind)
            if kind is None or not kind.alone:
                self._start(job)
            elif self._alone is None:
                self._alone, self._beaten = job, time.monotonic()
            else:
                self._give_back(job)
        return len(claimed)

    def _claimed(self, room: int) -> list[Job]:
        """Claim jobs; where all that were due are damaged, and so dead now, look for others."""
        database = self._held.parts.database
        while not self._stops:
            with database.read() as tx:
                if not jobs.any_due(tx, now_us=self._clock()):
                    break
            wrong: dict[int, str] = {}
            with database.write(alone=False) as tx:
                claimed = jobs.claim(
                    tx, worker=self.name, now_us=self._clock(), limit=room, wrong=wrong
                )  # fmt: skip
            self._count_damaged(wrong)
            if claimed or not wrong:
                return claimed
        return []

    def _count_damaged(self, wrong: dict[int, str]) -> None:
        for number, why in wrong.items():
            self._counts["dead"] = self._counts.get("dead", 0) + 1
            self._tell(f"job {number}: dead: {why}")

    def _start(self, job: Job) -> None:
        slot = next((one for one in self._slots if one.job is None), None)
        if slot is None:
            slot = Slot(self._setup(alone=False))
            self._slots.append(slot)
            self._selector.register(slot, selectors.EVENT_READ)
        slot.give(job)

    def _is_over(self, until: Until, claimed: int) -> bool:
        if claimed or self._busy() or self._unwritten or self._troubled is not None:
            return False
        if until is Until.ONCE:
            return True
        with self._held.parts.database.read() as tx:
            return not jobs.any_failed(tx) and not jobs.any_due(tx, now_us=self._clock())

    # -- listening to the children

    def _busy(self) -> list[Slot]:
        return [slot for slot in self._slots if slot.job is not None]

    def _listen(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            if isinstance(key.fileobj, Slot):
                self._hear(key.fileobj)
            else:
                os.read(key.fd, 4096)  # a signal came; its handler has counted it

    def _hear(self, slot: Slot) -> None:
        told = slot.hear()
        if told is None:
            self._bury(slot)
            return
        for one in told:
            job, slot.job = slot.job, None
            if job is not None:
                if one.trouble is not None:
                    self._tell_unwritten(job.id, one.trouble)
                if one.written:
                    self._count(job, one.ending)
                else:
                    self._settle(job, one.ending)

    def _bury(self, slot: Slot) -> None:
        """Take leave of a child that has ended; what it had failed with it."""
        self._selector.unregister(slot)
        self._slots.remove(slot)
        how = slot.wait()
        job = slot.job
        if job is None:
            return
        error = {
            "kind": "failed",
            "message": f"the process that ran this job {how}",
            "hint": "the system log may say why; a job that takes too much memory is killed",
        }
        if self._stops:
            ending = given_back(job, now_us=self._clock())
        else:
            ending = after_failure(job, error, now_us=self._clock(), chance=self._chance)
        self._settle(job, ending)

    def _count(self, job: Job, ending: Ending | None) -> None:
        word = "lost" if ending is None else _COUNTED[ending.status]
        self._counts[word] = self._counts.get(word, 0) + 1
        why = "" if ending is None or ending.error is None else f": {ending.error['message']}"
        self._tell(f"job {job.id} ({job.kind[:40]}): {word.replace('_', ' ')}{why}")

    def _settle(self, job: Job, ending: Ending | None, until: float | None = None) -> None:
        """Write and count how a run ended, None where its job was lost.

        While the catalog's server is away it is tried for as long as a lease; then the job is
        somebody's.
        """
        held = False
        try:
            held = ending is not None and self._finish(ending)
        except UnreachableError as error:
            assert ending is not None, "nothing was to be written"
            until = time.monotonic() + LEASE_S if until is None else until
            if time.monotonic() < until:
                self._unwritten.append((job, ending, until))
                return
            self._tell_unwritten(job.id, error.message)
        except HartonomousError as error:
            self._tell_unwritten(job.id, error.message)
        self._count(job, ending if held else None)

    def _settle_late(self) -> None:
        late, self._unwritten = self._unwritten, []
        for one in late:
            self._settle(*one)

    def _give_back(self, job: Job) -> None:
        try:
            self._finish(given_back(job, now_us=self._clock()))
        except HartonomousError as error:
            # Its lease runs out, and somebody takes it back.
            self._tell_unwritten(job.id, error.message)

    def _finish(self, ending: Ending) -> bool:
        with self._held.parts.database.write(alone=False) as tx:
            return bool(jobs.finish(tx, [ending], now_us=self._clock()))

    def _tell_unwritten(self, job_id: int, why: str) -> None:
        self._tell(f"the end of job {job_id} could not be written: {why}")

    # -- a job that needs the store alone

    def _beat_alone(self, job: Job) -> bool | None:
        """Keep a job that waits for the others to end; anything but False: let it go."""
        if time.monotonic() - self._beaten < HEARTBEAT_S:
            return False
        self._beaten = time.monotonic()
        report = jobs.Report(
            stage="wait for other jobs", record_count=0, done_bytes=0, total_bytes=None
        )
        with self._held.parts.database.write(durable=False, alone=False) as tx:
            stop = jobs.beat(tx, job, report, now_us=self._clock())
        if stop is not False:
            ending = Ending(id=job.id, epoch=job.epoch, status=Status.CANCELLED) if stop else None
            self._settle(job, ending)
        return stop

    def _run_alone(self, job: Job) -> None:
        """Close the store, let a child work on it alone, open it again, and write the end."""
        self._alone = None
        for slot in self._slots:
            slot.release()
        while self._slots:
            self._listen(POLL_S)
        self._held.close()
        slot = Slot(self._setup(alone=True))
        slot.give(job)
        told = self._wait_for_answer(slot)
        how = slot.wait()
        self._held = self._open()
        if told is not None:
            ending = told.ending
        elif self._stops:
            ending = given_back(job, now_us=self._clock())
        else:
            error = {
                "kind": "failed",
                "message": f"the process that ran this job {how}",
                "hint": "it needs the store alone: end everything else that has it open",
            }
            ending = after_failure(job, error, now_us=self._clock(), chance=self._chance)
        self._settle(job, ending)

    def _wait_for_answer(self, slot: Slot) -> messages.Told | None:
        deadline: float | None = None
        with selectors.DefaultSelector() as watch:
            watch.register(slot, selectors.EVENT_READ)
            while True:
                if self._stops and deadline is None:
                    deadline = time.monotonic() + self._drain_s
                if self._stops > 1 or (deadline is not None and time.monotonic() >= deadline):
                    slot.kill()
                if watch.select(POLL_S):
                    told = slot.hear()
                    if told is None or told:
                        return told[0] if told else None

    # -- the end

    def _drain(self) -> None:
        """Let running jobs end; after the limit, or at a second signal, let them be given back."""
        deadline = time.monotonic() + self._drain_s
        if self._busy() and self._stops:
            self._tell(f"ending; running jobs may take {self._drain_s:g} s")
        while (self._busy() or self._unwritten) and self._stops < 2 and time.monotonic() < deadline:
            self._listen(min(POLL_S, max(deadline - time.monotonic(), 0.0)))
            self._settle_late()
        if self._alone is not None:
            self._give_back(self._alone)
            self._alone = None
        if self._stops < 2:
            for slot in self._slots:
                slot.release()
        limit = time.monotonic() + _RELEASE_S
        while self._slots and self._stops < 2 and time.monotonic() < limit:
            self._listen(POLL_S)

    def _end(self) -> None:
        """End what is left of the children, give their jobs back, and close the store."""
        self._stops = max(self._stops, 1)
        for slot in self._slots:
            slot.kill()
        while self._slots:
            self._hear(self._slots[0])  # what it said before, then its end
        for job, ending, _ in self._unwritten:
            self._settle(job, ending, until=0.0)
        self._selector.close()
        self._held.close()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Count SIGTERM and SIGINT; a third one ends the process as it always does."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        os.set_blocking(reader, False)
        self._selector.register(reader, selectors.EVENT_READ)
        before = {
            number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)
        }
        former = signal.set_wakeup_fd(writer)
        try:
            yield
        finally:
            signal.set_wakeup_fd(former)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(reader)
            os.close(writer)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._stops += 1
        if self._stops > 1:
            signal.signal(number, signal.SIG_DFL)

    def _setup(self, *, alone: bool) -> messages.Setup:
        return messages.Setup(
            store=str(self._place), settings=self._given, force=self._force, alone=alone
        )

    def _open(self) -> directory.OpenDirectory:
        settings = load_settings(given=self._given, store=self._place)
        return directory.open_directory(
            self._place, settings=settings, clock=self._clock, force=self._force
        )
