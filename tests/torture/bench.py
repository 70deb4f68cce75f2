"""Tries faults and power cuts, one at a time, and says what each came to.

Used by the tests, for a sample, and by ``python -m tests.torture``, for all of them.
"""

import json
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.torture import operations, shim
from tests.torture.disk_model import Disk
from tests.torture.looks import Answer, Looks, digest_of
from tests.torture.server import Server
from tests.torture.shim import Call, Operation

MEMORY = Path("/dev/shm")
_STEP_S = 3600
"""Longer than any step takes by the shim's clock."""
ONCE = {"eio", "enospc", "short"}
"""Modes behind which the same step must succeed when it is tried again."""


@dataclass(slots=True)
class Tally:
    """How many were tried, what was acknowledged in them, and what was lost or wrong."""

    tried: int = 0
    states: int = 0  # of a disk, which nobody had looked at before
    hit: int = 0  # in which a call failed, or a power cut took something
    acknowledged: int = 0
    lost: int = 0
    left: int = 0  # behind which a pack waits for a repair, of which gc tells
    wrong: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        self.tried += other.tried
        self.states += other.states
        self.hit += other.hit
        self.acknowledged += other.acknowledged
        self.lost += other.lost
        self.left += other.left
        self.wrong += other.wrong


class Bench:
    """A folder in memory, the store that steps begin with, and the two servers."""

    def __init__(self, model: "Bench | None" = None) -> None:
        """Make them, or take those of a ``model`` that stays open, and what was found by it."""
        where = MEMORY if MEMORY.is_dir() else None
        self.base = Path(tempfile.mkdtemp(dir=where, prefix="hartonomous-torture-"))
        held = model or self  # stores say where the files were that were added
        self.files, self.made, self.other = (
            held.base / name for name in ("files", "made", "other")
        )
        self._states: dict[tuple[str, ...], Any] = {}
        self._epoch_s = model._epoch_s if model else 0
        self._looks = model._looks if model else Looks()
        # the steps behind the store that lies at "reference"
        self._reference: tuple[str, ...] = ("",)
        self._places: dict[str, str] = {}
        try:
            self.shimmed = Server(shim.build(self.base), self.base)
            self.plain = Server(None, self.base)
            if model is None:
                self._make()
        except BaseException:
            shutil.rmtree(self.base)
            raise

    def _make(self) -> None:
        for what, store in (("make", self.made), ("make_other", self.other)):
            answer = self.plain.ask(what, store=str(store), files=str(self.files))
            assert answer.keys() == {"acknowledged", "status", "seconds"}, answer
        self._epoch_s = int(time.time()) + 1  # behind everything that was done in them

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in (self.shimmed, self.plain):
            server.__exit__(kind, error, trace)
        shutil.rmtree(self.base)

    # -- stores

    def fresh(self, first: str, name: str = "store") -> Path:
        """Return a store as steps begin with it, or an empty folder for those from nothing."""
        store = self.base / name
        shutil.rmtree(store, ignore_errors=True)
        if first in operations.FROM_NOTHING:
            store.mkdir()
        else:
            shutil.copytree(self.made, store)
        return store

    def run(self, store: Path, steps: tuple[str, ...], **how: Any) -> Answer:
        """Do steps with the shim in the process."""
        words = {"nth": 0, "mode": "none", "epoch_s": self._epoch_s, **how}
        beside = operations.beside(store)
        shutil.rmtree(beside, ignore_errors=True)
        if operations.WITH_OTHER.intersection(steps):
            shutil.copytree(self.other, beside)
        if operations.ELSEWHERE.intersection(steps):
            words["root"] = str(beside)
        return self.shimmed.ask(
            "run", store=str(store), files=str(self.files), steps=list(steps), **words
        )

    def look(
        self,
        store: Path,
        *,
        collect: bool = True,
        may_need_repair: bool = False,
        repair: bool = False,
    ) -> Answer:
        """Return what a new process without the shim finds."""
        return self.plain.ask(
            "observe", store=str(store), out=str(self.base / "out"), collect=collect,
            may_need_repair=may_need_repair, repair=repair,
        )  # fmt: skip

    def state_after(self, steps: tuple[str, ...]) -> Any:
        """Return what a store shows after steps without a fault, from the beginning or nothing."""
        if steps not in self._states:
            if steps and steps[0] not in operations.FROM_NOTHING:
                self.state_after(steps[:-1])
            if self._reference != steps[:-1] or not steps or steps[0] in operations.FROM_NOTHING:
                self._reference = ()
                self.fresh("".join(steps[:1]), "reference")
            store = self.base / "reference"
            begin = len(self._reference)
            for number, step in enumerate(steps[begin:], begin):
                # Each in a process whose clock begins behind that of the step before.
                done = self.run(store, (step,), epoch_s=self._epoch_s + number * _STEP_S)
                assert done["acknowledged"] == 1, done
            self._reference = steps
            answer = self.look(store, collect=False)
            assert answer.get("wrong") == [], answer
            self._states[steps] = answer["state"]
        return self._states[steps]

    def count(self, step: str) -> int:
        """Return how many calls a step makes that can fail."""
        return len(self.places(step))

    def places(self, step: str) -> str:
        """Return what each call is that a step makes and that can fail, as ``Shim.places`` does."""
        if step not in self._places:
            done = self.run(self.fresh(step), (step,))
            assert done["acknowledged"] == 1, done
            self._places[step] = str(done["places"])
        return self._places[step]

    # -- faults

    def try_fault(self, step: str, mode: str, nth: int) -> Tally:
        """Do a step in which the n-th call fails; look at what is left."""
        tally = Tally(tried=1)
        before = None if step in operations.FROM_NOTHING else self.state_after(())
        after = self.state_after((step,))  # what lies beside a store is made anew by each run
        if step == "push":
            self._states_of_other(step)
        store = self.fresh(step)
        log = self.base / "log"
        done = self.run(store, (step,), nth=nth, mode=mode, again=mode in ONCE, log=str(log))
        calls = shim.read_log(log)
        faults = [one for one in calls if one.operation is Operation.FAULT]
        tally.hit = int(bool(faults) or done["status"] == -9)
        what = faults[0].first.decode() if faults else "call"
        self._judge_end(tally, done, mode)
        told = min(int(done["acknowledged"]), 1)
        if step in operations.ELSEWHERE:
            self._judge_beside(tally, store, step, told)
            told = 0  # here nothing was to change
        self._judge(tally, store, [before, after], told, step == "repair")
        tally.wrong = [f"{step} {mode} {nth} ({what}): {one}" for one in tally.wrong]
        return tally

    def _judge_end(self, tally: Tally, done: Answer, mode: str) -> None:
        if done["status"] != (-9 if mode == "kill" and tally.hit else 0):
            tally.wrong.append(f"ended with {done['status']}")
        for name in ("crashed", "refused"):
            if name in done:
                tally.wrong.append(f"{name}: {done[name]}")

    def _judge(
        self, tally: Tally, store: Path, states: list[Any], told: int, repairing: bool
    ) -> None:
        """Compare what is left with the state that was acknowledged, or the one after it."""
        tally.acknowledged += told

        def look() -> tuple[Answer, ...]:
            first = self.look(store, may_need_repair=repairing)
            return (first, self.look(store, repair=True)) if first.get("left") else (first,)

        key = (digest_of(store), f"look, repairing: {repairing}")
        (found, *repaired), is_new = self._looks.found(key, look)
        tally.states += is_new
        if "wrong" not in found:
            tally.lost += told
            tally.wrong.append(f"cannot be looked at: {_short(found)}")
            return
        tally.wrong += found["wrong"]
        if repaired:
            tally.left += 1
            found = repaired[0]
            tally.wrong += found.get("wrong", [_short(found)])
            if found.get("left"):
                tally.wrong.append("a repair leaves what waited for it")
        if found.get("state") not in states[told : told + 2]:
            tally.lost += told
            allowed = states[told : told + 2]
            tally.wrong.append(f"shows what it must not: {difference(found.get('state'), allowed)}")

    def _judge_beside(self, tally: Tally, store: Path, step: str, told: int) -> None:
        """Compare what lies beside a store with what a step that writes there was to leave."""
        place = operations.beside(store)
        if step == "backup":
            allowed = [None, self.state_after(())]

            def look() -> tuple[Answer, ...]:
                return (
                    self.plain.ask("look_at_backups", folder=str(place), store=str(store),
                                   out=str(self.base / "out")),
                )  # fmt: skip

            key = (digest_of(place, store), "backups")
        else:
            allowed = self._states_of_other(step)

            def look() -> tuple[Answer, ...]:
                return (self.look(place),)

            key = (digest_of(place), "beside")
        (found,), is_new = self._looks.found(key, look)
        tally.states += is_new
        tally.acknowledged += told
        tally.wrong += [f"beside it: {one}" for one in found.get("wrong", [_short(found)])]
        if "wrong" not in found or found["state"] not in allowed[told:]:
            tally.lost += told
            tally.wrong.append("beside it is what must not be there")

    def _states_of_other(self, step: str) -> list[Any]:
        """Return what the other store shows before a step that brings it something, and after."""
        if (step, "other") not in self._states:
            before = self.look(self.other, collect=False)
            self.state_after((step,))
            done = self.run(self.fresh(step), (step,))
            assert done["acknowledged"] == 1, done
            after = self.look(operations.beside(self.base / "store"), collect=False)
            assert before["wrong"] == after["wrong"] == []
            self._states[step, "other"] = [before["state"], after["state"]]
        return list(self._states[step, "other"])

    # -- syncs that fail

    def failed_syncs(self, step: str) -> list[int]:
        """Return the numbers of the calls of a step that sync a file."""
        recorded = self.record("syncs", (step,), held=True)
        counted = [
            one for one in recorded.calls
            if one.operation not in (Operation.MARK, Operation.MAPPED, Operation.FAULT)
        ]  # fmt: skip
        return [
            number
            for number, one in enumerate(counted, start=1)
            if one.operation is Operation.SYNC and not one.offset
        ]

    def try_failed_sync(self, step: str, nth: int, chance: random.Random, ways: int) -> Tally:
        """Fail a sync, try the step again in the same process, go on, then cut the power.

        What the failed sync was for may be lost, whatever was synced later.
        """
        steps = (step, "mv")
        recorded = self.record("failed", steps, nth=nth, mode="eio", again=True, held=True)
        told = int(recorded.done["acknowledged"])
        steps = steps[:told]
        tally = Tally(tried=1, hit=1)
        where = f"{step}, sync {nth} failed"
        if "crashed" in recorded.done or "refused" in recorded.done:
            tally.wrong = [f"{where}: {_short(recorded.done)}"]
            return tally
        recorded.steps = steps or (step,)
        # Behind the last acknowledgement, before anything is folded.
        end = [1 + at for at, one in enumerate(recorded.calls) if one.operation is Operation.MARK][
            -1:
        ]
        for one in self.try_cuts(recorded, chance, end, ways):
            tally.add(one)
        tally.wrong = [f"{where}: {one}" for one in tally.wrong]
        return tally

    # -- power cuts

    def record(self, name: str, steps: tuple[str, ...], **how: Any) -> "Recorded":
        """Do steps once and keep the log of what was written."""
        store = self.fresh(steps[0])
        disk = Disk(store)
        log = self.base / f"log-{name}"
        done = self.run(store, steps, log=str(log), **how)
        return Recorded(name, steps, store, shim.read_log(log), disk, done)

    def try_cuts(
        self, recorded: "Recorded", chance: random.Random, places: list[int], ways: int
    ) -> Iterator[Tally]:
        """Cut the power before calls ``places`` of a recorded run, ``ways`` times by chance each.

        The first time nothing is left but what was made safe.
        """
        steps = recorded.steps
        states = [None if steps[0] in operations.FROM_NOTHING else self.state_after(())]
        states += [self.state_after(steps[: n + 1]) for n in range(len(steps))]
        target = self.base / "cut"
        for place in sorted(places):
            recorded.go_to(place)
            told = recorded.disk.acknowledged
            for way in range(1 + ways):
                shutil.rmtree(target, ignore_errors=True)
                seed = chance.getrandbits(32)
                recorded.disk.cut(target, random.Random(seed) if way else None)
                tally = Tally(tried=1, hit=1)
                doing = steps[told] if told < len(steps) else ""
                self._judge(tally, target, states, told, doing == "repair")
                where = (
                    f"{recorded.name}: cut before call {place} ({doing}), seed {seed if way else 0}"
                )
                tally.wrong = [f"{where}: {one}" for one in tally.wrong]
                yield tally


@dataclass(slots=True)
class Recorded:
    """A run of steps with the calls that it made; ``disk`` has taken the first ``at`` of them."""

    name: str
    steps: tuple[str, ...]
    store: Path
    calls: list[Call]
    disk: Disk
    done: Answer
    at: int = 0

    def go_to(self, place: int) -> None:
        """Have the disk take the calls before ``place``."""
        for call in self.calls[self.at : place]:
            self.disk.take(call)
        self.at = place

    def copied(self) -> "Recorded":
        """Return one whose disk goes on by itself."""
        return replace(self, disk=deepcopy(self.disk))


def _short(answer: Answer) -> str:
    return json.dumps(answer)[:1500]


def difference(found: Any, allowed: list[Any]) -> str:
    """Say where a state differs from the allowed one that it resembles most."""
    if found is None:
        return "no store"
    told = []
    for one in allowed:
        if one is None:
            told.append("there was to be no store")
            continue
        wrong = {name for name in found.keys() | one.keys() if found.get(name) != one.get(name)}
        told.append(", ".join(sorted(wrong)) or "nothing")
    return " or ".join(told)[:800]
