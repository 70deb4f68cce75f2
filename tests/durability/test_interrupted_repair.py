"""A repair killed while it puts the new catalog in place, and what goes on beside one."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import hartonomous as hn
from hartonomous.errors import HartonomousError, LockedError, NoStoreError, NotFoundError

# Kills itself before the n-th time that a catalog gets another name.
_REPAIR = """
import os, pathlib, signal, sys
import hartonomous as hn
left = int(sys.argv[2])
def killing(name):
    before = getattr(pathlib.Path, name)
    def renamed(self, target):
        global left
        if "catalog" in str(self) or "catalog" in str(target):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return before(self, target)
    setattr(pathlib.Path, name, renamed)
for name in ("replace", "hardlink_to", "rename"):
    killing(name)
hn.repair(sys.argv[1])
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    source = tmp_path / "a.bin"
    source.write_bytes(os.urandom(100_000))
    with hn.open(tmp_path / "store", create=True) as store:
        store.add([source], labels=["prod"])
    return tmp_path / "store"


def _listing(place: Path) -> list[tuple[str, int, str, tuple[str, ...]]]:
    with hn.open(place) as store:
        assert store.verify().sound
        return [(one.name, one.number, one.digest, one.labels) for one in store.ls()]


@pytest.mark.parametrize("wal", [False, True])
def test_a_repair_killed_at_any_rename_leaves_a_store(place: Path, wal: bool) -> None:
    before = _listing(place)
    for number in range(1, 6):
        killed = place.with_name(f"store{number}")
        shutil.copytree(place, killed)
        if wal:  # as a process that was killed leaves it
            (killed / "catalog.sqlite3-wal").write_bytes(b"")
        command = [sys.executable, "-c", _REPAIR, str(killed), str(number)]
        code = subprocess.run(command, check=False, timeout=120).returncode
        assert code in (0, -9)
        if wal and code:
            try:
                assert _listing(killed) == before
            except NoStoreError as error:
                assert "repair" in (error.hint or "")
        else:
            assert _listing(killed) == before
        hn.repair(killed)
        assert _listing(killed) == before
        if code == 0:
            return
    pytest.fail("the repair was killed at every rename")


def test_adding_beside_a_repair_waits_or_is_refused(place: Path, tmp_path: Path) -> None:
    extra = tmp_path / "b.bin"
    extra.write_bytes(os.urandom(50_000))
    with hn.open(place) as store:
        with pytest.raises(LockedError):
            hn.repair(place)
        store.add([extra])
    hn.repair(place)
    with hn.open(place) as store:
        assert store.names() == ["a.bin", "b.bin"]


def test_removing_and_collecting_while_files_are_got(tmp_path: Path) -> None:
    """A get ends with the exact bytes, or says that what it wanted is gone; never with others."""
    content = os.urandom(30_000_000)
    source = tmp_path / "big.bin"
    source.write_bytes(content)
    done = threading.Event()
    wrong: list[str] = []
    with hn.open(tmp_path / "store", create=True) as store:
        store.add([source])

        def get(name: str) -> None:
            out = tmp_path / name
            while not done.is_set():
                try:
                    store.get("big.bin", out)
                except NotFoundError:
                    continue
                except HartonomousError as error:
                    wrong.append(repr(error))
                    continue
                if out.read_bytes() != content:
                    wrong.append("other bytes")
                out.unlink()

        readers = [threading.Thread(target=get, args=(f"out{number}",)) for number in range(2)]
        for reader in readers:
            reader.start()
        for _ in range(5):
            store.rm("big.bin")
            store.gc(trash_days=0)
            store.add([source])
        done.set()
        for reader in readers:
            reader.join()
        assert wrong == []
        assert store.verify().sound
