"""Processes that change a store and processes that follow its events, all to be killed.

Run as a script it is a server, so that a process costs a fork: for each line, a list of roles, it
forks a child each and prints their process ids, then each prints that it is ready; an empty list
waits for all of them to end.
"""

import json
import os
import random
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from tests.durability.workload import DirectParser

import hartonomous as hn
from hartonomous.errors import HartonomousError
from hartonomous.packs import directory

SETTINGS: dict[str, Any] = {"workers": 1}


def say(path: Path, *words: object) -> None:
    """Append a line; one write, so that it is there whole or not at all."""
    line = (json.dumps(words) + "\n").encode()
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(number, line)
    os.close(number)


def write(place: Path, folder: Path, seed: int) -> None:
    """Add, label and remove for ever; a line says what was done, after it was."""
    chance = random.Random(seed)
    said = folder / f"said-{seed}"
    path = folder / f"file-{seed}"
    with hn.open(place, settings=SETTINGS) as store:
        os.write(1, b'"ready"\n')
        for count in range(1_000_000):
            name = f"own/{seed}-{chance.randrange(3)}"
            what = chance.choice(("add", "add", "label", "rm", "shared"))
            try:
                if what in ("add", "shared"):
                    name = name if what == "add" else "shared"
                    path.write_bytes(b"%d %d" % (seed, count))
                    (done,) = store.add(path, name=name).artifacts
                    say(said, f"artifact.{done.outcome}", name, done.number)
                elif what == "label":
                    label = f"label-{count}"
                    found = store.label(name, label).versions[0]
                    say(said, "artifact.labelled", name, int(found.rpartition("@")[2]), label)
                else:
                    for spec in store.rm(name).versions:
                        say(said, "artifact.removed", name, int(spec.rpartition("@")[2]))
            except HartonomousError as error:
                if error.kind != "not-found":
                    raise


def follow(place: Path, folder: Path, consumer: str) -> None:
    """Write every event down, for ever."""
    with hn.open(place, settings=SETTINGS) as store:
        os.write(1, b'"ready"\n')
        for event in store.events(consumer=consumer, follow=True):
            say(folder / f"heard-{consumer}", event.cloudevent())


def warm_up() -> None:
    """Import before the forks whatever the work needs: that takes longer than all of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        path.write_bytes(b"warm")
        with hn.open(Path(folder, "store"), create=True, settings=SETTINGS) as store:
            store.add(path, name="warm")
            store.label("warm", "up")
            store.rm("warm")
            assert list(store.events(consumer="warm"))


def main() -> None:
    place, folder = Path(sys.argv[1]), Path(sys.argv[2])
    directory.ParserProcess = DirectParser  # type: ignore[misc, assignment]
    warm_up()
    children: list[int] = []
    for line in sys.stdin:
        roles = json.loads(line)
        if not roles:
            codes = [os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in children]
            print(json.dumps(codes), flush=True)
            children = []
            continue
        told, telling = os.pipe()
        for role, argument in roles:
            child = os.fork()
            if child == 0:
                try:
                    os.close(telling)
                    os.read(told, 1)  # until the line with all of them is printed
                    {"write": write, "follow": follow}[role](place, folder, argument)
                except BaseException:
                    say(folder / "failed", role, traceback.format_exc())
                finally:
                    os._exit(1)
            children.append(child)
        print(json.dumps(children), flush=True)
        os.close(telling)
        os.close(told)


if __name__ == "__main__":
    main()
