"""``events`` and ``events cursors``."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cli_schema import validate

pytestmark = pytest.mark.usefixtures("catalog_engine")


@pytest.fixture
def told(hart, store, home):
    """A store with five events: two of ``notes``, a label, a name, and ``other``."""
    for name in ("notes", "other"):
        (home / name).write_text(name)
        assert hart("add", "-q", str(home / name))[0] == 0
    assert hart("label", "notes", "prod")[0] == 0
    assert hart("mv", "notes", "org/notes")[0] == 0
    assert hart("rm", "other")[0] == 0
    return store


KINDS = ["artifact.added", "artifact.added", "artifact.labelled", "artifact.moved",
         "artifact.removed"]  # fmt: skip


def test_lines_for_people_and_for_programs(hart, told):
    code, out, err = hart("events")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[2] for line in lines] == KINDS
    assert "notes@1  prod" in lines[2]
    assert "notes  -> org/notes" in lines[3]
    found = validate("events", hart("events", "--json")[1])
    assert [one["type"] for one in found] == KINDS
    assert [line.rpartition("(")[2] for line in lines] == [f"{one['id']})" for one in found]
    ids = hart("events", "-q")[1].split()
    assert ids == [one["id"] for one in found]
    (batch,) = validate("events", hart("events", "--batch")[1])
    assert batch == found
    assert hart("events", "--batch", "--type", "job.*") == (0, "", "")


def test_what_is_wanted(hart, told):
    ids = hart("events", "-q")[1].split()

    def some(*words):
        return [ids.index(one) for one in hart("events", "-q", *words)[1].split()]

    assert some("--type", "artifact.l*", "--type", "artifact.r*") == [2, 4]
    assert some("--subject", "o*") == [1, 4]
    assert some("--limit", "2") == [0, 1]
    assert some("--since", ids[2]) == [3, 4]
    assert some("--since", "beginning", "--limit", "1") == [0]
    assert some("--since", "1h") == [0, 1, 2, 3, 4]
    assert some("--since", "now") == []
    for words in (("--since", "yesterday"), ("--limit", "0"), ("--consumer", "a b"), ("nothing",)):
        assert hart("events", *words)[0] == 2, words
    code, _, err = hart("events", "--since", "fffffffffffffff.0.1")
    assert code == 1
    assert "no event" in err


def test_consumers(hart, told):
    assert hart("events", "cursors", "ls") == (
        0, "", "hart: note: no consumer has a cursor\n",
    )  # fmt: skip
    assert len(hart("events", "--consumer", "mine", "-q", "--limit", "2")[1].split()) == 2
    (row,) = validate("events", hart("events", "cursors", "ls", "--json")[1])
    assert (row["consumer"], row["behind_count"]) == ("mine", 3)
    assert len(hart("events", "-q", "--consumer", "mine")[1].split()) == 3
    assert hart("events", "-q", "--consumer", "mine", "--since", "beginning")[1] == ""
    code, out, _ = hart("events", "cursors", "set", "mine", "beginning")
    assert (code, out) == (0, "mine: 5 events waiting\n")
    assert hart("events", "cursors", "ls", "-q")[1] == "mine\n"
    assert "mine" in hart("events", "cursors", "ls")[1].splitlines()[1]
    validate("events", hart("events", "cursors", "rm", "mine", "--json")[1])
    assert hart("events", "cursors", "rm", "mine")[0] == 1


def test_what_could_not_be_written_is_not_passed(told):
    """A page counts as told when it was written and flushed, and not before."""
    line = [sys.executable, "-m", "hartonomous", "events", "--json", "--consumer", "mine"]
    with Path("/dev/full").open("wb") as full:
        assert subprocess.run(line, stdout=full, check=False, timeout=60).returncode == 1
    done = subprocess.run(line, capture_output=True, check=True, text=True, timeout=60)
    assert [one["type"] for one in validate("events", done.stdout)] == KINDS


def following(*words):
    line = [sys.executable, "-m", "hartonomous", "events", "--follow", "--json", *words]
    return subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_following_ends_with_a_signal(hart, told, how):
    with following("--consumer", "mine") as child:
        assert child.stdout is not None and child.stderr is not None
        heard = [json.loads(child.stdout.readline()) for _ in KINDS]
        assert hart("label", "org/notes", "best")[0] == 0
        heard.append(json.loads(child.stdout.readline()))
        child.send_signal(how)
        assert (child.wait(60), child.stdout.read(), child.stderr.read()) == (0, "", "")
    assert [one["type"] for one in heard] == [*KINDS, "artifact.labelled"]
    rest = hart("events", "-q", "--consumer", "mine")[1].split()
    assert rest in ([], [heard[-1]["id"]])  # the last page may not have counted yet


def test_following_ends_when_nobody_reads(told):
    with following("--since", "beginning") as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.readline()
        child.stdout.close()  # and nothing more happens in the store
        assert child.wait(60) == 141
        assert child.stderr.read() == ""


def test_following_here(hart, told, monkeypatch):
    """The same in this process, where standard output is no file."""
    main = threading.main_thread().ident

    def interrupt():
        time.sleep(0.3)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    code, out, err = hart("events", "--follow", "--since", "beginning", "-q")
    thread.join()
    assert (code, len(out.split()), err) == (0, 5, "")


def test_help(hart):
    assert "cursors" in hart("events", "--help")[1]
    assert "Forget a consumer." in hart("help", "events", "cursors")[1]
    assert hart("events", "cursors")[0] == 2
    assert hart("events", "cursor")[0] == 2
