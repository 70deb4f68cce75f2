"""The object store on a real disk, used by several processes: a kill, a race."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from hartonomous.objects.local import LocalObjects
from hartonomous.testing.object_store import content_of, keys_of


@pytest.fixture
def store(tmp_path):
    return LocalObjects(tmp_path)


def litter(store):
    folder = store.root / "tmp"
    return sorted(folder.iterdir()) if folder.exists() else []


def run(script, *arguments):
    """Start a Python process on ``script`` and return it."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


WRITE_AND_WAIT = """
    import sys
    from pathlib import Path
    from hartonomous.objects.local import LocalObjects
    store = LocalObjects(Path(sys.argv[1]))
    store.put("before", b"acknowledged")
    writer = store.create("packs/a")
    writer.write(b"x" * 100_000)
    print("written", flush=True)
    sys.stdin.read()
"""


def test_a_kill_before_commit_leaves_only_litter(store):
    process = run(WRITE_AND_WAIT, store.root)
    with process:
        assert process.stdout.readline() == b"written\n"
        assert store.sweep() == 0  # its writer lives
        assert len(litter(store)) == 1
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert keys_of(store) == ["before"]
    assert content_of(store, "before") == b"acknowledged"
    assert [str(process.pid) in path.name for path in litter(store)] == [True]
    store.put("packs/a", b"again")
    assert store.sweep() == 1
    assert litter(store) == []
    assert keys_of(store) == ["before", "packs/a"]


RACE = """
    import sys
    from pathlib import Path
    from hartonomous.errors import ObjectExistsError
    from hartonomous.objects.local import LocalObjects
    store, mark = LocalObjects(Path(sys.argv[1])), sys.argv[2].encode()
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(100):
        try:
            store.put(f"race/{number}", mark * 1000)
        except ObjectExistsError:
            continue
        print(number, flush=True)
"""


def test_two_processes_race_for_the_same_keys(store):
    processes = {mark: run(RACE, store.root, mark) for mark in "ab"}
    assert [one.stdout.readline() for one in processes.values()] == [b"ready\n"] * 2
    for process in processes.values():
        process.stdin.write(b"go\n")
        process.stdin.flush()
    won = {mark: process.communicate()[0].split() for mark, process in processes.items()}
    assert [process.returncode for process in processes.values()] == [0, 0]
    assert sorted(map(int, won["a"] + won["b"])) == list(range(100))
    for mark, number in [(mark, int(one)) for mark, numbers in won.items() for one in numbers]:
        assert content_of(store, f"race/{number}") == mark.encode() * 1000
    assert litter(store) == []
