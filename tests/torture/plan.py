"""Everything that is to be tried, in pieces that any worker can take, each with a name of its own.

The same arguments give the same names, so that what was done already can be left out.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.torture import operations
from tests.torture.bench import Bench, Recorded, Tally
from tests.torture.cut_connections import MODES as MODES_OF_CUTS
from tests.torture.cut_connections import STEPS, CutBench
from tests.torture.flips import KINDS, FlipBench
from tests.torture.shim import MODES, differs_at

WHAT = ("faults", "cuts", "syncs", "flips", "connections")
_PLACES = 8
"""Places of a power cut in one piece."""


@dataclass(frozen=True)
class Asked:
    """What to try, and how much of it; see ``python -m tests.torture --help``."""

    what: tuple[str, ...] = WHAT
    steps: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    every: int = 1
    ways: int = 3
    flips: int = 200
    seed: int = 1


@dataclass
class Worker:
    """Benches of one worker; ``server`` is of tests/engines, where connections are cut."""

    bench: Bench
    server: Any = None
    _flips: FlipBench | None = None
    _cuts: CutBench | None = None

    @property
    def flips(self) -> FlipBench:
        """The store whose bits are flipped, made when first asked for."""
        self._flips = self._flips or FlipBench(self.bench)
        return self._flips

    @property
    def cuts(self) -> CutBench:
        """The store on a server, made when first asked for."""
        self._cuts = self._cuts or CutBench(self.bench, self.server)
        return self._cuts

    def close(self) -> None:
        """Drop the databases; the bench is whoever's opened it."""
        if self._cuts is not None:
            self._cuts.close()


@dataclass(frozen=True)
class Piece:
    """Some tries: ``row`` of the table they belong to, and a ``name`` that no other piece has."""

    row: str
    name: str
    work: Callable[[Worker], list[Tally]] = field(compare=False)


def pieces(asked: Asked, planner: Worker) -> Iterator[Piece]:
    """Yield all pieces in order; ``planner`` finds out how much there is to each."""
    parts = {
        "faults": _faults, "cuts": _cuts, "syncs": _syncs, "connections": _connections,
        "flips": _flips,
    }  # fmt: skip
    for what, part in parts.items():
        if what in asked.what:
            yield from part(asked, planner)


def _faults(asked: Asked, planner: Worker) -> Iterator[Piece]:
    modes = asked.modes or tuple(one for one in MODES if one != "none")
    for step in asked.steps or (*operations.INSIDE, *operations.ALONE):
        places = planner.bench.places(step)
        for nth in range(1, len(places) + 1, asked.every):
            some = [one for one in modes if differs_at(one, places[nth - 1])]

            def work(
                worker: Worker, step: str = step, nth: int = nth, some: list[str] = some
            ) -> list[Tally]:
                return [worker.bench.try_fault(step, mode, nth) for mode in some]

            yield Piece(f"faults, {step}", f"faults {step} {nth} {' '.join(modes)}", work)


def _cuts(asked: Asked, planner: Worker) -> Iterator[Piece]:
    for name, steps in operations.SCRIPTS.items():
        recorded = planner.bench.record(name, steps)
        assert recorded.done["acknowledged"] == len(steps), recorded.done
        run = _fingerprint(recorded)
        places = list(range(0, len(recorded.calls) + 1, asked.every))
        for at in range(0, len(places), _PLACES):
            some = places[at : at + _PLACES]
            recorded.go_to(some[0])
            copied = recorded.copied()
            chance = random.Random(f"{asked.seed} {name} {some[0]}")

            def work(
                worker: Worker,
                copied: Recorded = copied,
                chance: random.Random = chance,
                some: list[int] = some,
            ) -> list[Tally]:
                return list(worker.bench.try_cuts(copied, chance, some, asked.ways))

            yield Piece(f"cuts, {name}", f"cuts {name} {run} {some}", work)


def _fingerprint(recorded: Recorded) -> str:
    """Name a recording by the calls in it, which a part of another one is no part of."""
    said = bytes(number for one in recorded.calls for number in (one.operation, one.error % 256))
    return hashlib.sha256(said).hexdigest()[:16]


def _syncs(asked: Asked, planner: Worker) -> Iterator[Piece]:
    inside = set(operations.AGAIN) & operations.INSIDE.keys() - operations.ELSEWHERE
    for step in asked.steps or sorted(inside):
        for nth in planner.bench.failed_syncs(step):

            def work(worker: Worker, step: str = step, nth: int = nth) -> list[Tally]:
                chance = random.Random(f"{asked.seed} {step} {nth}")
                return [worker.bench.try_failed_sync(step, nth, chance, asked.ways)]

            yield Piece("syncs", f"syncs {step} {nth}", work)


def _connections(asked: Asked, planner: Worker) -> Iterator[Piece]:
    for step in asked.steps or STEPS:
        for nth in range(1, planner.cuts.count(step) + 1, asked.every):

            def work(worker: Worker, step: str = step, nth: int = nth) -> list[Tally]:
                return [worker.cuts.try_cut(step, mode, nth) for mode in MODES_OF_CUTS]

            yield Piece(f"connections, {step}", f"connections {step} {nth}", work)


def _flips(asked: Asked, planner: Worker) -> Iterator[Piece]:
    for kind in KINDS:
        for number in range(asked.flips):

            def work(worker: Worker, kind: str = kind, number: int = number) -> list[Tally]:
                chance = random.Random(f"{asked.seed} {kind} {number}")
                return [worker.flips.try_flip(kind, worker.flips.choose(kind, chance))]

            yield Piece(f"flips, {kind}", f"flips {kind} {number}", work)
