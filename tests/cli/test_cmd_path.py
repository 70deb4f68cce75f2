"""``hart path``: the path and nothing else on standard output."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_schema import validate

import hartonomous as hn


@pytest.fixture
def store(home, monkeypatch):
    path = home / "my store"
    (home / "two words.bin").write_bytes(b"content" * 100)
    with hn.open(path, create=True) as opened:
        opened.add(home / "two words.bin")
    monkeypatch.setenv("HARTONOMOUS_STORE", str(path))
    return path


def test_only_the_path_is_printed(hart, store):
    code, out, err = hart("path", "two words.bin")
    assert (code, err) == (0, "")
    path = Path(out.removesuffix("\n"))
    assert path.is_absolute()
    assert path.read_bytes() == b"content" * 100
    assert hart("path", "-q", "two words.bin")[1] == out


def test_a_shell_can_use_it(store):
    line = f'cat "$({sys.executable} -m hartonomous path "two words.bin")"'
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True, timeout=60)
    assert done.stdout == b"content" * 100


def test_bytes_that_are_no_text_come_out_as_they_are(store, home, process):
    raw = os.fsencode(home) + b"/\xff\xfe.bin"
    Path(os.fsdecode(raw)).write_bytes(b"odd")
    with hn.open(store) as opened:
        (added,) = opened.add(os.fsdecode(raw)).artifacts
    line = [sys.executable, "-m", "hartonomous", "path", added.name]
    done = subprocess.run(line, capture_output=True, check=True, timeout=60)
    assert Path(os.fsdecode(done.stdout.removesuffix(b"\n"))).read_bytes() == b"odd"


def test_json(hart, store):
    (found,) = validate("path", hart("path", "two words.bin", "--json")[1])
    assert found["built"] is True
    (held,) = validate("path", hart("path", "--list", "--json")[1])
    assert held["path"] == found["path"]
    assert held["in_use"] is True
    (cleared,) = validate("path", hart("path", "--clear", "--json")[1])
    assert (cleared["removed_count"], cleared["kept_count"]) == (0, 1)


def test_listing_and_clearing_for_people(hart, store):
    _, path, _ = hart("path", "two words.bin")
    assert path.strip() in hart("path", "--list")[1]
    assert "--force removes them too" in hart("path", "--clear")[1]
    assert hart("path", "--clear", "--force")[1] == "removed 1, freed 700 B\n"
    assert not Path(path.strip()).exists()


def test_a_full_cache_is_told_on_standard_error(hart, store):
    code, out, err = hart("path", "two words.bin", "--set", "cache_bytes=1")
    assert code == 0
    assert out.count("\n") == 1
    assert "more than its limit" in err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "no artifact is named"),
        (("a", "--list"), "exclude each other"),
        (("--list", "--clear"), "exclude each other"),
        (("--list", "--file", "x"), "--file needs"),
        (("a", "--force"), "--clear only"),
    ],
)
def test_wrong_usage(hart, store, arguments, word):
    code, out, err = hart("path", *arguments)
    assert (code, out) == (2, "")
    assert word in err


def test_what_is_not_there(hart, store):
    code, out, err = hart("path", "nothing", "--json")
    assert (code, out) == (1, "")
    assert json.loads(err)["error"]["kind"] == "not-found"
