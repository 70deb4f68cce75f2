"""``make torture``: faults at every call of every step, power cuts all through, flipped bits."""

import argparse
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.engines.postgres_server import running
from tests.torture.bench import Bench
from tests.torture.plan import WHAT, Asked, Piece, Worker, pieces
from tests.torture.progress import Progress

_TOLD_EACH_S = 60


def main() -> None:
    """Try what was asked for and print the figures; exit with 1 if anything was lost or wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("what", nargs="*", help=f"all by default: {', '.join(WHAT)}")
    parser.add_argument("--steps", default="", help="all by default")
    parser.add_argument("--modes", default="", help="of faults; all by default")
    parser.add_argument("--every", type=int, default=1, help="take each so-manieth call only")
    parser.add_argument("--ways", type=int, default=3, help="power cuts by chance at each place")
    parser.add_argument("--flips", type=int, default=200, help="of each kind of file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--resume", type=Path, metavar="FILE", help="keep the figures there; what"
                        " is in it is not tried again")  # fmt: skip
    given = parser.parse_args()
    if unknown := set(given.what) - set(WHAT):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    asked = Asked(
        what=tuple(given.what or WHAT), steps=tuple(given.steps.split()),
        modes=tuple(given.modes.split()), every=given.every, ways=given.ways, flips=given.flips,
        seed=given.seed,
    )  # fmt: skip
    progress = Progress(asked, given.resume)
    try:
        ended = _Run(asked, progress).run(given.workers)
    finally:
        progress.close()
    print("\n".join(progress.table()), flush=True)
    total = progress.total()
    sys.exit(0 if ended and not total.wrong and not total.lost else 1)


class _Run:
    """Workers, each a thread with servers of its own, that take one piece after the other."""

    def __init__(self, asked: Asked, progress: Progress) -> None:
        self._asked, self._progress = asked, progress
        self._guard = threading.Lock()
        self._begun = self._told = time.monotonic()
        self._failed: list[BaseException] = []
        self._over = False

    def run(self, workers: int) -> bool:
        """Try everything; False where that was interrupted."""
        with ExitStack() as stack:
            wants_server = "connections" in self._asked.what
            server = stack.enter_context(running()) if wants_server else None
            planner = Worker(stack.enter_context(Bench()), server)
            stack.callback(planner.close)
            todo = (one for one in pieces(self._asked, planner) if not self._progress.has(one))
            threads = [
                threading.Thread(target=self._work, args=(planner, todo)) for _ in range(workers)
            ]
            for one in threads:
                one.start()
            try:
                for one in threads:
                    one.join()
            except KeyboardInterrupt:
                self._over = True
                for one in threads:
                    one.join()
        if self._failed:
            raise self._failed[0]
        return not self._over

    def _work(self, planner: Worker, todo: Iterator[Piece]) -> None:
        try:
            with Bench(planner.bench) as bench:
                worker = Worker(bench, planner.server)
                try:
                    while (piece := self._next(todo)) is not None:
                        self._do(worker, piece)
                finally:
                    worker.close()
        except BaseException as error:
            self._over = True
            self._failed.append(error)

    def _next(self, todo: Iterator[Piece]) -> Piece | None:
        with self._guard:
            return None if self._over else next(todo, None)

    def _do(self, worker: Worker, piece: Piece) -> None:
        begun = time.monotonic()
        tallies = piece.work(worker)
        with self._guard:
            now = time.monotonic()
            mine = self._progress.take(piece, tallies, now - begun)
            for line in mine.wrong:
                print(f"  {line}", flush=True)
            if now - self._told > _TOLD_EACH_S:
                self._told = now
                total = self._progress.total()
                print(
                    f"{now - self._begun:6.0f} s: {piece.name[:40]}, {total.tried} tried,"
                    f" {total.states} states, {total.lost} lost, {len(total.wrong)} wrong",
                    flush=True,
                )


if __name__ == "__main__":
    main()
