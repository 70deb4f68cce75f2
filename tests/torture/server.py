"""Runs steps and checks in processes of their own, forked from one that has everything imported.

Two of these serve the tests: one with the shim preloaded does the steps, one without looks at what
is left. A request and its answer are a line of JSON each.
"""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.durability.workload import DirectParser
from tests.torture import observe, operations
from tests.torture.shim import Shim
from tests.torture.warm import warm

import hartonomous as hn
import hartonomous.opening as door
from hartonomous.catalog import copies
from hartonomous.errors import HartonomousError
from hartonomous.packs import directory
from hartonomous.packs.catalog_home import VARIABLE

_LIMIT_S = 120
_HOURS_US = 7_200_000_000
Say = Callable[[str, object], None]


class Server:
    """One such process; ``ask`` has a child of it do something."""

    def __init__(self, library: Path | None, folder: Path) -> None:
        """Start one that has ``folder`` for what it does before it is asked."""
        environment = operations.environment()
        if library is not None:
            environment["LD_PRELOAD"] = str(library)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.server", str(folder), str(library or "")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip

    def ask(self, what: str, **words: Any) -> dict[str, Any]:
        """Return what the child said: ``acknowledged``, ``error``, ``status`` and more."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"what": what, **words}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the server is gone"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()


def _do_run(request: dict[str, Any], shim: Shim | None, say: Say) -> None:
    """Do steps, under faults where the shim is there."""
    store, files = Path(request["store"]), Path(request["files"])
    done: list[str] = []

    def acknowledge(step: str) -> None:
        if shim is not None:
            shim.mark(step)
        done.append(step)
        say("acknowledged", len(done))

    if shim is not None:
        shim.begin(
            request.get("root") or request["store"],
            request.get("log"),
            request["nth"],
            request["mode"],
            seed=" ".join(request["steps"]),
            epoch_s=request["epoch_s"],
        )
    # Somebody else has the store open, so that its log is not folded when this one closes it.
    other = hn.open(store) if request.get("held") else None
    if other is not None:
        other.ls()
    try:
        operations.run(store, files, tuple(request["steps"]), acknowledge)
    except HartonomousError as error:
        say("error", [type(error).__name__, error.message, error.hint])
        left = request["steps"][len(done) :]
        if request.get("again") and left and left[0] in operations.AGAIN:
            operations.run(store, files, tuple(left), acknowledge)
    finally:
        if shim is not None:
            say("count", shim.count())
            say("places", shim.places() if request["mode"] == "none" else "")


def _do_make(request: dict[str, Any], shim: Shim | None, say: Say) -> None:
    operations.write_files(Path(request["files"]))
    operations.make(Path(request["store"]), Path(request["files"]))
    if request.get("rich"):
        copies.MANY_DEPENDENTS = 0  # whatever others are built on is kept twice
        operations.enrich(Path(request["store"]), Path(request["files"]))


def _do_make_other(request: dict[str, Any], shim: Shim | None, say: Say) -> None:
    operations.make_other(Path(request["store"]), Path(request["files"]))


def _do_look_at_backups(request: dict[str, Any], shim: Shim | None, say: Say) -> None:
    for name, value in observe.backups(
        Path(request["folder"]), Path(request["store"]), Path(request["out"])
    ).items():
        say(name, value)


def _do_observe(request: dict[str, Any], shim: Shim | None, say: Say) -> None:
    clock = door.now_us
    # Later, so that what dead processes left is old enough to be litter.
    door.now_us = lambda: clock() + _HOURS_US
    for name, value in observe.everything(
        Path(request["store"]), Path(request["out"]), collect=request["collect"],
        may_need_repair=request["may_need_repair"], repair=request["repair"],
    ).items():  # fmt: skip
        say(name, value)


def _do_damaged(request: dict[str, Any], shim: Shim | None, say: Say) -> None:
    before = request["before"]
    if before == "repair":
        report = hn.repair(request["store"])
        say("lost", [*report.lost, *report.damaged, *report.recovered])
    for name, value in observe.damaged(
        Path(request["store"]), Path(request["out"]), mend=before == "mend"
    ).items():
        say(name, value)


_DOES = {"run": _do_run, "make": _do_make, "observe": _do_observe, "damaged": _do_damaged,
         "make_other": _do_make_other, "look_at_backups": _do_look_at_backups}  # fmt: skip


def _child(request: dict[str, Any], shim: Shim | None, out: int) -> None:
    def say(name: str, value: object) -> None:
        os.write(out, (json.dumps([name, value]) + "\n").encode())

    signal.alarm(_LIMIT_S)
    if "catalog" in request:
        os.environ[VARIABLE] = request["catalog"]
    try:
        _DOES[request["what"]](request, shim, say)
    except HartonomousError as error:
        say("refused", [type(error).__name__, error.message, error.hint])
    except BaseException as error:
        say("crashed", _where_it_crashed(error))


def _where_it_crashed(error: BaseException) -> str:
    """Return the error with the places that led to it, in one line."""
    frames = traceback.extract_tb(error.__traceback__)[-7:]
    places = " > ".join(f"{Path(one.filename).stem}:{one.lineno}" for one in frames)
    return f"{type(error).__name__}: {str(error)[:300]} at {places}"


def _serve(request: dict[str, Any], shim: Shim | None) -> dict[str, Any]:
    source, sink = os.pipe()
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(source)
        _child(request, shim, sink)
        os._exit(0)
    os.close(sink)
    with os.fdopen(source, "rb") as pipe:
        lines = pipe.read().splitlines()
    _, status = os.waitpid(child, 0)
    answer: dict[str, Any] = {"acknowledged": 0, "status": os.waitstatus_to_exitcode(status)}
    answer["seconds"] = round(time.monotonic() - begun, 3)
    for line in lines:
        name, value = json.loads(line)
        answer[name] = value
    return answer


def main() -> None:
    """Serve requests from standard input until it ends."""
    directory.ParserProcess = DirectParser  # type: ignore[misc, assignment]
    operations.few_make_an_index()
    shim = Shim(Path(sys.argv[2])) if sys.argv[2] else None
    warm(Path(sys.argv[1]))
    for line in sys.stdin:
        print(json.dumps(_serve(json.loads(line), shim)), flush=True)


if __name__ == "__main__":
    main()
