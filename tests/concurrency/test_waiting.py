"""Who waits for another process's lock is told what for, and who holds it."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hartonomous as hn
from hartonomous import locks
from hartonomous.errors import HartonomousError, LockedError

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import fcntl, sys
held = open(sys.argv[1], "a")
fcntl.flock(held, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holding(tmp_path):
    """Start a process that holds the lock at a path until it is told to end."""
    children = []
    own = tmp_path / "own.lock"
    with locks.held(own, what="a lock to see whether the kernel tells of it"):
        if locks.holder(own) == "another process":
            pytest.skip("/proc/locks does not tell of locks on this file system")

    def hold(path):
        child = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        children.append(child)
        assert child.stdout.readline() == b"held\n"
        return child

    yield hold
    for child in children:
        child.stdin.close()
        child.stdout.close()
        child.wait(timeout=60)


@pytest.mark.parametrize(
    ("lock", "arguments", "what"),
    [
        ("publish.lock", ("label", "a", "prod", "--json"), "the store's publication"),
        ("ingest-{:02x}.lock", ("add", "large", "--json"), "a file that is being added"),
    ],
)
def test_a_command_says_what_it_waits_for(tmp_path, holding, lock, arguments, what):
    (tmp_path / "a").write_bytes(b"a" * 1000)
    content = os.urandom(1 << 16) * 160  # large enough to be stored by one process at a time
    (tmp_path / "large").write_bytes(content)
    with hn.open(tmp_path / "store", create=True) as store:
        store.add(tmp_path / "a")
    from hartonomous.core.digest import digest

    child = holding(tmp_path / "store" / "locks" / lock.format(digest(content)[0]))
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT / "src"), "HARTONOMOUS_STORE": str(tmp_path / "store")
    }  # fmt: skip
    command = subprocess.Popen(
        [sys.executable, "-m", "hartonomous", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path,
    )  # fmt: skip
    with command:
        line = command.stderr.readline()
        child.stdin.close()  # which ends it
        out, rest = command.communicate(timeout=120)
    assert line.startswith(f"hart: note: waiting for {what}, held by process {child.pid} (")
    assert " on " in line
    assert " since 20" in line
    assert rest == ""
    assert command.returncode == 0
    assert out.startswith("{")


def test_who_holds_a_lock(tmp_path, holding):
    path = tmp_path / "a.lock"
    path.touch()
    assert locks.holder(path) == "another process"
    child = holding(path)
    assert locks.holder(path).startswith(f"process {child.pid} (python")
    with (
        pytest.raises(LockedError, match=f"a thing was held by process {child.pid} "),
        locks.held(path, what="a thing", timeout_s=0),
    ):
        pass
    assert locks.holder(tmp_path / "none.lock") == "another process"


def test_a_short_wait_is_not_told(tmp_path):
    told = []
    with locks.telling(told.append):
        waiting = locks.Waiting("a thing", lambda: "somebody")
        waiting.tell_in_time()
        assert told == []
        waiting._told_at = 0.0
        for _ in range(3):
            waiting.tell_in_time()
    assert told == ["waiting for a thing, held by somebody"]
    waiting._told_at = 0.0
    waiting.tell_in_time()  # nobody listens any more
    assert len(told) == 1


def test_a_file_system_without_locks_is_told_and_nothing_stays_open(tmp_path, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    path = tmp_path / "a.lock"
    path.touch()
    opened, really_open = [], os.open

    def noted(*arguments):
        opened.append(really_open(*arguments))
        return opened[-1]

    monkeypatch.setattr(os, "open", noted)
    monkeypatch.setattr(fcntl, "flock", refuse)
    for ask in (locks.try_lock, locks.is_held):
        with pytest.raises(HartonomousError, match=r"a\.lock: No locks available") as caught:
            ask(path)
        assert "local disk" in caught.value.hint
    assert len(opened) == 2
    for descriptor in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_a_store_lets_go_of_its_lock_whatever_else_fails_to_close(tmp_path, monkeypatch):
    def stuck():
        raise OSError("no way")

    store = hn.open(tmp_path / "store", create=True)
    held = store.path / "locks" / "store.lock"
    monkeypatch.setattr(store.spaces.meaning, "close", stuck)
    assert locks.try_lock(held) is None
    with pytest.raises(OSError, match="no way"):
        store.close()
    lock = locks.try_lock(held)
    assert lock is not None
    lock.release()


def test_a_lock_that_cannot_be_looked_at_is_an_error_of_ours(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for ask in (locks.try_lock, locks.is_held):
        with pytest.raises(HartonomousError, match="symbolic links"):
            ask(tmp_path / "loop" / "a.lock")
