"""Threads that share a store, forked processes that inherit one, and stores in odd places."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.durability.workload import DirectParser

import hartonomous as hn
from hartonomous import locks
from hartonomous.errors import HartonomousError, LockedError
from hartonomous.packs import directory

SOURCE = str(Path(hn.__file__).parents[1])


@pytest.fixture(autouse=True)
def direct_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "ParserProcess", DirectParser)


def run_threads(*work: Callable[[], None]) -> None:
    failed: list[BaseException] = []

    def guarded(one: Callable[[], None]) -> None:
        try:
            one()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def test_two_threads_add_and_eight_read(tmp_path: Path) -> None:
    done = threading.Event()
    with hn.open(tmp_path / "store", create=True) as store:
        (tmp_path / "base").write_bytes(b"base" * 50_000)
        store.add(tmp_path / "base")

        def add(which: int) -> Callable[[], None]:
            def work() -> None:
                for i in range(12):
                    path = tmp_path / f"{which}-{i}"
                    path.write_bytes(b"base" * 20_000 + os.urandom(1000))
                    assert store.add(path).artifacts[0].outcome == "added"
                done.set()

            return work

        def read(which: int) -> Callable[[], None]:
            def work() -> None:
                turn = 0
                while not done.is_set():
                    out = tmp_path / f"out-{which}-{turn}"
                    store.get("base", out)
                    assert out.read_bytes() == b"base" * 50_000
                    out.unlink()
                    assert "base" in {row.name for row in store.ls()}
                    turn += 1

            return work

        run_threads(*(add(i) for i in range(2)), *(read(i) for i in range(8)))
        assert store.verify(files=True).faults == ()
        assert len(store.ls()) == 25


def test_two_stores_in_one_process(tmp_path: Path) -> None:
    with (
        hn.open(tmp_path / "a", create=True) as one,
        hn.open(tmp_path / "b", create=True) as two,
        hn.open(tmp_path / "a") as one_again,
    ):
        for store, name in ((one, "x"), (two, "y"), (one_again, "z")):
            (tmp_path / name).write_bytes(name.encode() * 500)
            store.add(tmp_path / name)
        assert [row.name for row in one.ls()] == ["x", "z"]
        assert [row.name for row in two.ls()] == ["y"]
        with pytest.raises(LockedError, match="in use"):
            hn.repair(tmp_path / "a")
    hn.repair(tmp_path / "a")


_FORK = """
import os, sys
from pathlib import Path
import hartonomous as hn
place, base = Path(sys.argv[1]), Path(sys.argv[2])
store = hn.open(place)
store.add(base / "before")
assert len(store.ls()) == 1
children = []
for i in range(4):
    child = os.fork()
    if child == 0:
        try:
            store.add(base / f"child{i}")
            assert "before" in {row.name for row in store.ls()}
            if i % 2:
                store.close()
            elif i == 2:  # one at a time: a second one would be refused
                store.gc(grace_s=0)
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    children.append(child)
    store.add(base / f"parent{i}")
codes = [os.waitpid(child, 0)[1] for child in children]
assert codes == [0] * 4, codes
assert len(store.ls()) == 9
assert store.verify(files=True).sound
store.close()
"""


def test_forked_processes_go_on_with_an_inherited_store(tmp_path: Path) -> None:
    hn.init(tmp_path / "store").close()
    for name in ("before", *(f"{who}{i}" for who in ("child", "parent") for i in range(4))):
        (tmp_path / name).write_bytes(name.encode() * 3000)
    subprocess.run(
        [sys.executable, "-c", _FORK, str(tmp_path / "store"), str(tmp_path)],
        check=True, timeout=120, env={**os.environ, "PYTHONPATH": SOURCE},
    )  # fmt: skip
    with hn.open(tmp_path / "store") as store:
        assert store.verify(files=True).sound


_FORK_UNDER_A_LOCK = """
import os, signal, sys
from pathlib import Path
from hartonomous import locks
path = Path(sys.argv[1])
lock = locks.try_lock(path)
told, tell = os.pipe()
child = os.fork()
if child == 0:
    signal.alarm(60)
    lock.release(remove=True)  # not its own to give
    os.write(tell, b"x")
    signal.pause()
idle = os.fork()
if idle == 0:  # it lives on and knows nothing of the lock, as a loader of data does
    signal.alarm(60)
    signal.pause()
os.read(told, 1)
assert path.exists() and locks.is_held(path)
lock.release()
assert not locks.is_held(path)
again = locks.try_lock(path)
assert again is not None
again.release(remove=True)
for one in (child, idle):
    os.kill(one, signal.SIGKILL)
    os.waitpid(one, 0)
"""


def test_a_forked_process_neither_keeps_a_lock_nor_gives_it_back(tmp_path: Path) -> None:
    """A training that saves in the background forks loaders of data at any moment."""
    subprocess.run(
        [sys.executable, "-c", _FORK_UNDER_A_LOCK, str(tmp_path / "x.lock")],
        check=True, timeout=120, env={**os.environ, "PYTHONPATH": SOURCE},
    )  # fmt: skip


def test_many_make_one_store(tmp_path: Path) -> None:
    ids: list[str] = []

    def make() -> None:
        with hn.open(tmp_path / "store", create=True) as store:
            ids.append(store.id)

    run_threads(*[make] * 6)
    assert len(ids) == 6
    assert len(set(ids)) == 1


SQLITE = pytest.mark.parametrize("catalog_engine", ["sqlite"], indirect=True)
"""For what is about the path of the catalog's file."""


@SQLITE
@pytest.mark.parametrize(
    "name", [b"two words", b"what?mode=memory&x=1#y", b"100%41", b"caf\xe9", b"a:b'\"\\", b"-s"]
)
def test_a_store_may_have_any_name(tmp_path: Path, name: bytes) -> None:
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    (tmp_path / "file").write_bytes(b"bytes" * 100)
    with hn.open(place, create=True) as store:
        store.add(tmp_path / "file")
    assert (place / "catalog.sqlite3").is_file()
    hn.repair(place)
    with hn.open(place) as store:
        assert store.verify(files=True).sound
        assert [row.name for row in store.ls()] == ["file"]
        store.gc(grace_s=0)


@SQLITE
def test_a_closed_store_may_move_and_be_named_by_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"bytes" * 100)
    monkeypatch.chdir(tmp_path)
    with hn.open("store", create=True) as store:
        store.add("file")
    shutil.move("store", "moved")
    (tmp_path / "elsewhere").mkdir()
    with hn.open("moved") as store:
        monkeypatch.chdir(tmp_path / "elsewhere")  # an open store does not follow
        store.get("file", "out")
        assert Path("out").read_bytes() == b"bytes" * 100
        assert store.verify(files=True).sound
        (tmp_path / "other").write_bytes(b"other")
        store.add("../other")
    assert str(tmp_path / "moved").encode() not in (tmp_path / "moved/catalog.sqlite3").read_bytes()


_OTHER_USER = """
import json, os, sys
import hartonomous as hn
hn.open(sys.argv[1], create=True).close()  # loads what another user may not be able to read
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
said = []
for place in sys.argv[2:]:
    try:
        hn.open(place, create=True)
    except hn.HartonomousError as error:
        said.append([error.message, error.hint])
print(json.dumps(said))
"""


def test_another_user_gets_a_clear_answer() -> None:
    """Whoever may not write a store is told so: every use of a store writes to it."""
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        place = base / "store"
        with hn.open(place, create=True) as store:
            store.add(__file__)
        for path in (base, *base.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        with tempfile.TemporaryDirectory() as own:
            Path(own).chmod(0o755)
            done = subprocess.run(
                [sys.executable, "-c", _OTHER_USER, f"{own}/s", str(place), str(base / "new")],
                check=True, stdout=subprocess.PIPE, text=True,
                env={**os.environ, "PYTHONPATH": SOURCE, "HOME": own, "XDG_CONFIG_HOME": own},
            )  # fmt: skip
        for path in (base, *base.rglob("*")):
            path.chmod(0o755)
        said = json.loads(done.stdout)
    assert len(said) == 2, said
    for message, hint in said:
        assert "ermission denied" in message, message
        assert "permissions" in hint


def test_a_lock_file_that_is_removed_while_others_wait(tmp_path: Path) -> None:
    """However often the file is removed, two never hold the lock at once."""
    path = tmp_path / "x.lock"
    inside = 0
    most = 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(60):
            while (lock := locks.try_lock(path)) is None:
                pass
            with guard:
                inside += 1
                most = max(most, inside)
            assert locks.is_held(path)
            with guard:
                inside -= 1
            lock.release(remove=True)

    run_threads(*[work] * 6)
    assert most == 1
    assert not path.exists()
    assert not locks.is_held(path)
    assert not path.exists()  # asking does not make one


def test_waiting_for_a_lock_ends(tmp_path: Path) -> None:
    lock = locks.try_lock(tmp_path / "x.lock")
    assert lock is not None
    with (
        pytest.raises(LockedError, match="the thing was held"),
        locks.held(tmp_path / "x.lock", what="the thing", timeout_s=0.05),
    ):
        pass
    lock.release()
    with locks.held(tmp_path / "x.lock", what="the thing", timeout_s=0.05):
        assert locks.is_held(tmp_path / "x.lock")


def test_wrong_places(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for place in (tmp_path / "file", tmp_path / "nothing"):
        with pytest.raises(HartonomousError, match="no store"):
            hn.open(place)
    with pytest.raises(HartonomousError, match="not an empty folder"):
        hn.init(tmp_path)
