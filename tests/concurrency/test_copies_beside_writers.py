"""Backups and pushes while others write, remove, collect and repack: what was told is there."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import hartonomous as hn

SOURCE = str(Path(hn.__file__).parents[1])
WRITERS = 4

_WRITER = """
import random, sys
import hartonomous as hn
own, base = sys.argv[2], sys.argv[3]
with hn.open(sys.argv[1], settings={"workers": 1, "pack_bytes": 1 << 20}) as store:
    for count in range(100_000):
        path = f"{base}/{own}-{count}"
        with open(path, "wb") as out:
            out.write(random.Random(path).randbytes(60_000) + own.encode() * 10_000)
        store.add(path, name=f"{own}-{count}")
        print(f"{own}-{count}", flush=True)
"""
_CLEANER = """
import random, sys
import hartonomous as hn
with hn.open(sys.argv[1], settings={"workers": 1}) as store:
    for count in range(100_000):
        path = f"{sys.argv[3]}/gone"
        with open(path, "wb") as out:
            out.write(random.Random(count).randbytes(100_000))
        store.add(path, name=f"gone-{count}")
        store.rm(f"gone-{count}")
        store.gc(trash_days=0, grace_s=3600)
        if count % 3 == 0:
            store.repack()
        print("collected", flush=True)
"""


class Crowd:
    """Processes at work on a store; ``told`` is what they acknowledged."""

    def __init__(self, place: Path, base: Path) -> None:
        self.told: set[str] = set()
        self.collections = 0
        self._children = []
        self._threads = []
        for number in range(WRITERS + 1):
            own = base / f"w{number}"
            own.mkdir()
            code = _CLEANER if number == WRITERS else _WRITER
            child = subprocess.Popen(
                [sys.executable, "-c", code, str(place), f"w{number}", str(own)],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env={**os.environ, "PYTHONPATH": SOURCE},
            )  # fmt: skip
            thread = threading.Thread(target=self._listen, args=(child,))
            thread.start()
            self._children.append(child)
            self._threads.append(thread)

    def _listen(self, child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        for line in child.stdout:
            if line == "collected\n":
                self.collections += 1
            else:
                self.told.add(line.rstrip("\n"))

    def wait_for(self, count: int, collections: int) -> None:
        event = threading.Event()
        while len(self.told) < count or self.collections < collections:
            for child in self._children:
                assert child.poll() is None, child.communicate()[1]
            event.wait(0.05)

    def end(self) -> None:
        for child in self._children:
            child.kill()
        for child, thread in zip(self._children, self._threads, strict=True):
            child.wait()
            thread.join()
            child.stdout.close()
            child.stderr.close()


@pytest.mark.timeout(600)
def test_copies_while_others_write_and_collect(tmp_path):
    place = tmp_path / "store"
    hn.init(place).close()
    hn.init(tmp_path / "other").close()
    crowd = Crowd(place, tmp_path)
    try:
        with hn.open(place) as store, hn.open(tmp_path / "other") as other:
            for turn in range(3):
                crowd.wait_for(12 * (turn + 1), turn + 1)
                told = set(crowd.told)
                done = store.backup(tmp_path / "backup")
                assert done.faults == ()
                hn.restore(tmp_path / "backup", tmp_path / f"again{turn}")
                with hn.open(tmp_path / f"again{turn}") as again:
                    assert told <= {one.name for one in again.ls()}
                    assert again.verify(files=True).faults == ()
                told = set(crowd.told)
                assert store.push(other).failed == ()
                assert told <= {one.name for one in other.ls()}
    finally:
        crowd.end()
    with hn.open(place) as store, hn.open(tmp_path / "other") as other:
        hn.sync(store, other)
        assert {one.name for one in store.ls()} == {one.name for one in other.ls()}
        assert {one.digest for one in store.ls()} == {one.digest for one in other.ls()}
        for one in (store, other):
            one.gc(trash_days=0, grace_s=0)
            assert one.verify(files=True).faults == ()
