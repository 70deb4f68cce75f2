"""``make torture``: faults at every call of every step, power cuts all through, flipped bits."""

import argparse
import random
import sys
import time
from collections.abc import Iterable

from tests.engines.postgres_server import running
from tests.torture import operations
from tests.torture.bench import Bench, Tally
from tests.torture.cut_connections import MODES as MODES_OF_CUTS
from tests.torture.cut_connections import STEPS, CutBench
from tests.torture.flips import KINDS, FlipBench
from tests.torture.shim import MODES

_SHOWN = 40
WHAT = ["faults", "cuts", "syncs", "flips", "connections"]


def main() -> None:
    """Try what was asked for and print the figures; exit with 1 if anything was lost or wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("what", nargs="*", default=WHAT, help=", ".join(WHAT))
    parser.add_argument("--steps", default="", help="of faults; all by default")
    parser.add_argument("--modes", default="", help="of faults; all by default")
    parser.add_argument("--every", type=int, default=1, help="take each so-manieth call only")
    parser.add_argument("--ways", type=int, default=3, help="power cuts by chance at each place")
    parser.add_argument("--flips", type=int, default=1000, help="of each kind of file")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    total = Tally()
    with Bench() as bench:
        if "faults" in given.what:
            steps = given.steps.split() or [*operations.INSIDE, *operations.ALONE]
            modes = given.modes.split() or [one for one in MODES if one != "none"]
            for step in steps:
                for mode in modes:
                    places = range(1, bench.count(step) + 1, given.every)
                    tries = (bench.try_fault(step, mode, nth) for nth in places)
                    _tell(f"{step}, {mode}", tries, total)
        if "cuts" in given.what:
            for name, steps in operations.SCRIPTS.items():
                recorded = bench.record(name, steps)
                places = list(range(0, len(recorded.calls) + 1, given.every))
                chance = random.Random(given.seed)
                _tell(
                    f"power cuts, {name}",
                    bench.try_cuts(recorded, chance, places, given.ways),
                    total,
                )
        if "syncs" in given.what:
            inside = set(operations.AGAIN) & operations.INSIDE.keys() - operations.ELSEWHERE
            for step in given.steps.split() or sorted(inside):
                chance = random.Random(given.seed)
                tries = (
                    bench.try_failed_sync(step, nth, chance, given.ways)
                    for nth in bench.failed_syncs(step)
                )
                _tell(f"failed syncs, {step}", tries, total)
        if "connections" in given.what:
            with running() as server:
                cuts = CutBench(bench, server)
                for step in given.steps.split() or STEPS:
                    for mode in MODES_OF_CUTS:
                        places = range(1, cuts.count(step) + 1, given.every)
                        tries = (cuts.try_cut(step, mode, nth) for nth in places)
                        _tell(f"{step}, cut {mode}", tries, total)
        if "flips" in given.what:
            flips = FlipBench(bench)
            for kind in KINDS:
                chance = random.Random(f"{given.seed} {kind}")
                chosen = (flips.choose(kind, chance) for _ in range(given.flips))
                _tell(f"flips, {kind}", (flips.try_flip(kind, one) for one in chosen), total)
    print(f"{'all':28} {_line(total)}, {len(total.wrong)} wrong")
    sys.exit(1 if total.wrong or total.lost else 0)


def _tell(name: str, tries: Iterable[Tally], total: Tally) -> None:
    begun = time.monotonic()
    mine = Tally()
    for one in tries:
        mine.add(one)
    print(f"{name:28} {_line(mine)}, {time.monotonic() - begun:.0f} s", flush=True)
    for line in mine.wrong[:_SHOWN]:
        print(f"  {line}", flush=True)
    total.add(mine)


def _line(one: Tally) -> str:
    return (
        f"{one.tried:6} tried, {one.hit:6} hit, {one.acknowledged:6} acknowledged,"
        f" {one.left:4} left, {one.lost} lost"
    )


if __name__ == "__main__":
    main()
