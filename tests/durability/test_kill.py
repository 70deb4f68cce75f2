"""A process that is killed at any moment takes back nothing that it acknowledged."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.durability import workload

import hartonomous as hn

ACKNOWLEDGEMENTS = int(os.environ.get("HARTONOMOUS_TEST_KILL_ACKNOWLEDGEMENTS", "1000"))
MEMORY = Path("/dev/shm")
SOURCE = str(Path(hn.__file__).parents[1])
ROOT = str(Path(__file__).parents[2])


@dataclass
class Promises:
    """What was acknowledged and not taken back since."""

    kept: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> kind, key
    gone: set[str] = field(default_factory=set)
    labels: dict[str, set[str]] = field(default_factory=dict)
    in_doubt: set[str] = field(default_factory=set)
    count: int = 0
    said: dict[str, int] = field(default_factory=dict)

    def hear(self, event: str, name: str, *more: str) -> None:
        self.said[event] = self.said.get(event, 0) + 1
        if event == "added":
            self.kept[name] = (more[0], more[1])
        elif event == "labelled":
            self.labels.setdefault(name, set()).add(more[0])
        elif event == "removing":
            self.in_doubt.add(name)
        elif event == "removed":
            self.in_doubt.discard(name)
            self.gone.add(name)
        elif event == "restoring":
            self.gone.discard(name)
            self.in_doubt.add(name)
        elif event == "restored":
            self.in_doubt.discard(name)
        self.count += event in {"added", "labelled", "removed", "restored"}

    def names(self) -> dict[str, tuple[str, str]]:
        """Return what must be there."""
        uncertain = self.gone | self.in_doubt
        return {name: one for name, one in self.kept.items() if name not in uncertain}


def check_names(store: hn.Store, promises: Promises) -> None:
    listed = {row.name: set(row.labels) for row in store.ls()}
    missing = promises.names().keys() - listed.keys()
    assert not missing
    assert not promises.gone & listed.keys()
    for name in promises.names():
        assert promises.labels.get(name, set()) <= listed[name]


def check_content(store: hn.Store, promises: Promises, out: Path) -> None:
    store.export_all(out)
    for name, (kind, key) in promises.names().items():
        assert (out / name).read_bytes() == workload.content(kind, key), name
    shutil.rmtree(out)


def run_and_kill(
    server: subprocess.Popen[str], promises: Promises, seed: int, words: int, wait_s: float
) -> None:
    """Let a child work until it said ``words`` things, then ``wait_s`` more, and kill it."""
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(f"{seed}\n")
    server.stdin.flush()
    word, child = json.loads(server.stdout.readline())
    assert word == "ready"
    for _ in range(words):
        promises.hear(*json.loads(server.stdout.readline()))
    time.sleep(wait_s)
    os.kill(child, signal.SIGKILL)
    while True:
        heard = json.loads(server.stdout.readline())
        if heard[0] == "ended":
            assert heard[1] == -signal.SIGKILL, "the child failed before it was killed"
            return
        promises.hear(*heard)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Give a folder in memory where there is one: what a killed process wrote is there as well."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="hartonomous-") as name:
        yield Path(name)


@pytest.mark.timeout(1800)
def test_what_was_acknowledged_survives_being_killed(folder: Path, catalog_engine: str) -> None:
    place, base, out = folder / "store", folder / "work", folder / "out"
    base.mkdir()
    hn.init(place).close()
    seed = int(os.environ.get("HARTONOMOUS_TEST_SEED", str(random.SystemRandom().getrandbits(31))))
    chance = random.Random(seed)
    print(f"HARTONOMOUS_TEST_SEED={seed}")
    promises = Promises()
    rounds = 0
    # Beside a server each of them takes longer.
    wanted = ACKNOWLEDGEMENTS if catalog_engine == "sqlite" else ACKNOWLEDGEMENTS // 4
    with subprocess.Popen(
        [sys.executable, workload.__file__, str(place), str(base)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": f"{SOURCE}:{ROOT}"},
    ) as server:  # fmt: skip
        while promises.count < wanted:
            words = chance.choice((0, 0, 1, 3, 8, 20, 40))
            run_and_kill(server, promises, rounds, words, chance.uniform(0, 0.1))
            rounds += 1
            with hn.open(place, settings=workload.SETTINGS) as store:
                assert store.verify(quick=True).faults == ()
                check_names(store, promises)
    print(f"{promises.count} acknowledgements, {rounds} kills, {promises.said}")

    with hn.open(place) as store:
        assert store.verify(files=True).faults == ()
        check_content(store, promises, out)
    hn.repair(place)
    with hn.open(place) as store:
        assert store.verify(files=True).faults == ()
        check_names(store, promises)
        store.gc(trash_days=0, grace_s=0)
        assert store.verify(files=True).faults == ()
        check_names(store, promises)
        check_content(store, promises, out)
    assert sorted(path.name for path in (place / "tmp").iterdir()) == []
    assert not list((place / "locks").glob("writer-*"))
