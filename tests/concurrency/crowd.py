"""Many processes at one store: a script that forks one process for each role given as JSON.

    python crowd.py STORE FOLDER '[["add_same", …], ["collect"], …]'

The roles run at the same time. Each process writes one line of JSON at its end; roles that go on
for ever stop when all others are done. Nothing of the store is open before the fork.
"""

import json
import os
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save
from tests.durability.workload import DirectParser

import hartonomous as hn
from hartonomous.errors import ConflictError, NotFoundError, UsageError
from hartonomous.packs import directory

Report = dict[str, Any]
WORDS = [bytes([65 + i]) * 300 + random.Random(i).randbytes(3000) for i in range(40)]
LARGE = random.Random(99).randbytes(300_000)


def family_file(number: int) -> bytes:
    """Return one of 60 files that have parts in common; every seventh holds some 300 kB.

    Every fifth is a model; these are fine-tunes of one another, which are kept as what differs.
    """
    if number % 5 == 0:
        return tuned_model(number)
    chance = random.Random(number)
    parts = [chance.choice(WORDS) for _ in range(chance.randrange(1, 12))]
    return b"".join(parts) + (LARGE if number % 7 == 0 else b"")


def tuned_model(number: int) -> bytes:
    """Return a model that is one of a dozen fine-tunes of the same weights."""
    weights = np.random.default_rng(1).standard_normal((80, 128), np.float32)
    moved = np.random.default_rng(number).standard_normal(weights.shape, np.float32)
    half = (weights * np.float32(1 + number)).astype(np.float16)
    return bytes(save({"weights": weights + moved * np.float32(1e-3), "half": half}))


def add_same(store: hn.Store, _: Path, path: str) -> Report:
    """Add one file that everybody adds."""
    report = store.add(path)
    used = os.times()
    [one] = report.artifacts
    return {
        "outcome": one.outcome,
        "number": one.number,
        "reasons": [row.reason for row in one.reasons],
        "stored_bytes": one.stored_bytes,
        "cpu_s": used.user + used.system,
    }


def add_family(store: hn.Store, folder: Path, seed: int, count: int) -> Report:
    """Add files of the family under names of one's own, in groups."""
    chance = random.Random(seed)
    own = folder / f"own-{seed}"
    own.mkdir()
    kept: dict[str, int] = {}
    for turn in range(count):
        batch = {f"{seed}-{turn}-{i}.bin": chance.randrange(60) for i in range(4)}
        for name, number in batch.items():
            (own / name).write_bytes(family_file(number))
        report = store.add([own / name for name in batch])
        for one, (name, number) in zip(report.artifacts, batch.items(), strict=True):
            assert (one.name, one.outcome) == (name, "added"), one
            kept[name] = number
        for name in list(kept)[-2:]:
            target = own / f"got-{name}"
            store.get(name, target)
            assert target.read_bytes() == family_file(kept[name])
            target.unlink()
        victim = chance.choice(list(kept))
        if chance.random() < 0.5:
            store.rm(victim)
            del kept[victim]
    return {"kept": kept}


def change(store: hn.Store, _: Path) -> Report:
    """Label, remove and undo things of one's own and of others."""
    chance = random.Random(5)
    own = Path(_) / "changed.bin"
    own.write_bytes(b"changed" * 1000)
    store.add(own)
    refused: dict[str, int] = {}
    turns = 0
    while not stopped():
        turns += 1
        try:
            what = chance.randrange(3)
            if what == 0:
                names = [row.name for row in store.ls()]
                store.label(chance.choice(names), f"label{chance.randrange(5)}")
            elif what == 1:
                done = store.rm("changed.bin")
                store.undo(done.sequence)
            else:
                store.mv("changed.bin", "moved.bin")
                store.mv("moved.bin", "changed.bin")
        except (NotFoundError, ConflictError, UsageError) as error:
            # A name that was just removed, or the trash emptied between removal and undo.
            refused[error.kind] = refused.get(error.kind, 0) + 1
            if not any(row.name in {"changed.bin", "moved.bin"} for row in store.ls()):
                store.add(own)
    return {"turns": turns, "refused": refused}


def collect(store: hn.Store, _: Path) -> Report:
    """Collect with no mercy, again and again."""
    turns = notes = 0
    while not stopped():
        done = store.gc(trash_days=0, grace_s=0)
        turns += 1
        notes += len(done.notes)
        time.sleep(0.01)
    return {"turns": turns, "notes": notes}


def check(store: hn.Store, _: Path) -> Report:
    """Verify, again and again."""
    turns = 0
    while not stopped():
        report = store.verify(files=True)
        assert report.sound, report.faults
        turns += 1
    return {"turns": turns}


_stop = threading.Event()


def stopped() -> bool:
    """Say whether the roles that have an end are done."""
    return _stop.is_set()


ENDLESS: list[Callable[..., Report]] = [change, collect, check]
ROLES: dict[str, Callable[..., Report]] = {
    role.__name__: role for role in (add_same, add_family, *ENDLESS)
}


def _run(place: Path, folder: Path, name: str, arguments: list[Any], stop: int) -> None:
    def listen() -> None:
        os.read(stop, 1)  # ends when the parent closes the other end
        _stop.set()

    threading.Thread(target=listen, daemon=True).start()
    with hn.open(place, settings={"pack_bytes": 1 << 20, "workers": 1}) as store:
        result = ROLES[name](store, folder, *arguments)
    os.write(1, (json.dumps({"role": name, **result}) + "\n").encode())


def main() -> int:
    """Run all roles; return 0 if none failed."""
    place, folder = Path(sys.argv[1]), Path(sys.argv[2])
    directory.ParserProcess = DirectParser  # type: ignore[misc, assignment]
    reading, writing = os.pipe()
    endless, ending = [], []
    for name, *arguments in json.loads(sys.argv[3]):
        child = os.fork()
        if child == 0:
            os.close(writing)
            try:
                _run(place, folder, name, arguments, reading)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        (endless if ROLES[name] in ENDLESS else ending).append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in ending]
    os.close(writing)
    codes += [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in endless]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
