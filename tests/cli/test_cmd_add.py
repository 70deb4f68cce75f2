"""``hart add``: outcomes, exit codes, standard input, interruption."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_files import TREE_NAMES
from cli_schema import validate


@pytest.fixture
def broken(monkeypatch):
    """Make reading files of a given name fail, as a bad disk does."""
    real = os.pread

    def fail_for(name):
        def pread(descriptor, length, offset):
            if Path(f"/proc/self/fd/{descriptor}").readlink().name == name:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(descriptor, length, offset)

        monkeypatch.setattr(os, "pread", pread)

    return fail_for


def test_table_says_what_each_cost_and_why(hart, store, sources):
    code, out, err = hart("add", str(sources))
    note = "hart: note: sources/tiny declares 'org/base' as its base, which is not in this store\n"
    assert (code, err) == (0, note)
    lines = out.splitlines()
    assert lines[0].split() == ["name", "version", "outcome", "size", "stored", "why"]
    assert [line.split()[0] for line in lines[1:-1]] == TREE_NAMES
    tuned = next(line for line in lines if line.startswith("sources/tuned"))
    assert "8 of 9 tensors already stored; fields" in tuned
    assert lines[-1].startswith("5 added: ")
    assert out.isascii()
    again = hart("add", str(sources))[1].splitlines()
    assert all("the same bytes as before" in line for line in again[1:-1])
    assert again[-1].startswith("5 unchanged: ")


def test_json_is_one_report(hart, store, sources):
    code, out, _ = hart("add", str(sources), "--json")
    assert code == 0
    (report,) = validate("add", out)
    assert [one["name"] for one in report["artifacts"]] == TREE_NAMES
    assert {one["outcome"] for one in report["artifacts"]} == {"added"}
    assert report["logical_bytes"] == sum(
        path.stat().st_size for path in sources.rglob("*") if path.is_file()
    )
    assert 0 < report["stored_bytes"] < report["logical_bytes"]


def test_ids_are_names_with_versions(hart, store, sources):
    path = sources / "notes.txt"
    assert hart("add", "-q", str(path))[1] == "notes.txt@1\n"
    path.write_text("other words")
    assert hart("add", "-q", str(path), "--update")[1] == "notes.txt@2\n"
    assert hart("add", "-q", str(path), "--name", "notes.txt")[1] == "notes.txt@2\n"
    path.write_text("third")
    assert hart("add", "-q", str(path), "--name", "notes.txt")[1] == "notes.txt@3\n"


def test_labels_tags_and_metadata(hart, store, sources):
    code, _, _ = hart(
        "add", str(sources / "tiny"), "--name", "org/tiny", "--label", "prod", "--label", "best",
        "--tag", "a", "--tag", "b", "--meta", "team=vision", "--meta", "note=x=y",
    )  # fmt: skip
    assert code == 0
    shown = validate("show", hart("show", "org/tiny@prod", "--json")[1])[0]
    assert shown["labels"] == ["best", "prod"]
    assert shown["tags"] == ["a", "b"]
    assert shown["metadata"] == {"team": "vision", "note": "x=y"}


def test_include_and_exclude(hart, store, sources):
    assert hart("add", "-q", str(sources), "--include", "*.npy", "--include", "*.txt")[1] == (
        "sources/notes.txt@1\nsources/x.npy@1\n"
    )
    code, _, err = hart("add", str(sources), "--include", "*.none")
    assert code == 1
    assert "nothing to add was found" in err


def test_move_removes_the_source_afterwards(hart, store, sources):
    path = sources / "x.npy"
    content = path.read_bytes()
    code, out, _ = hart("add", "--move", str(path))
    assert code == 0
    assert "source removed" in out
    assert not path.exists()
    assert hart("get", "x.npy", "-o", "back.npy")[0] == 0
    assert Path("back.npy").read_bytes() == content


def test_init_makes_the_store(hart, home, sources):
    assert hart("add", str(sources))[0] == 10
    code, out, err = hart("add", "-q", "--init", str(sources / "x.npy"))
    assert (code, out) == (0, "x.npy@1\n")
    assert err == f"hart: note: made an empty store at {home}/.local/share/hartonomous/store\n"
    assert hart("add", "-q", "--init", str(sources / "x.npy")) == (0, "x.npy@1\n", "")


def test_a_structure_that_is_refused_is_told_and_the_bytes_are_kept(hart, store, home):
    path = home / "bad.safetensors"
    path.write_bytes(b"\xff" * 100)
    code, out, err = hart("add", str(path))
    assert code == 0
    assert "added" in out
    assert err.startswith("hart: note: bad.safetensors: not taken as safetensors")
    assert hart("get", "bad.safetensors", "-o", "back")[0] == 0
    assert Path("back").read_bytes() == b"\xff" * 100


def test_some_failed_is_three(hart, store, sources, broken):
    broken("notes.txt")
    code, out, err = hart("add", str(sources))
    assert code == 3
    assert next(line for line in out.splitlines() if "failed" in line).startswith(
        "sources/notes.txt"
    )
    assert out.splitlines()[-1].startswith("4 added, 1 failed: ")
    assert "hart: error: 1 of 5 could not be added" in err
    report = validate("add", hart("add", "--json", str(sources))[1])[0]
    assert report["failed_count"] == 1
    assert [one["name"] for one in report["artifacts"] if one["error"]] == ["sources/notes.txt"]
    kept = [name for name in TREE_NAMES if name != "sources/notes.txt"]
    assert hart("ls", "-q")[1].split() == sorted(kept)


def test_all_failed_is_one(hart, store, sources, broken):
    broken("notes.txt")
    code, out, err = hart("add", str(sources / "notes.txt"))
    assert code == 1
    assert "failed" in out
    assert "hart: error: notes.txt could not be added: cannot read" in err


def test_skipped_things_are_notes(hart, store, sources):
    os.mkfifo(sources / "pipe")
    code, _, err = hart("add", str(sources))
    assert code == 0
    assert "hart: note: skipped" in err
    assert "pipe" in err


def test_dry_run_is_an_estimate_and_stores_nothing(hart, store, sources):
    (found,) = validate("add", hart("add", "-n", "--json", str(sources))[1])
    assert found["dry_run"]
    assert [one["name"] for one in found["artifacts"]] == TREE_NAMES
    out = hart("add", "-n", str(sources))[1]
    assert out.splitlines()[0].split()[-3:] == ["would", "take", "why"]
    assert "nothing was stored (dry run)" in out.splitlines()[-1]
    assert hart("ls", "-q") == (0, "", "")
    assert hart("add", "-n", "--init", "--store", "other", str(sources))[1] == out
    assert not Path("other").exists()
    assert hart("add", "-n", "--store", "other", str(sources))[0] == 10


def test_a_dry_run_notes_what_an_add_notes(hart, store, home):
    path = home / "cut.safetensors"
    path.write_bytes((500).to_bytes(8, "little") + b'{"a":')
    foreseen = hart("add", "-n", str(path))[2]
    assert "not taken as safetensors" in foreseen
    assert hart("add", str(path))[2] == foreseen


@pytest.mark.parametrize("options", [(), ("--update",)])
def test_dry_run_foresees_names_and_outcomes(hart, store, sources, home, options):
    def told(*arguments):
        (report,) = validate("add", hart("add", "--json", *arguments)[1])
        keys = ("outcome", "name", "number", "logical_bytes", "file_count", "source", "labels")
        return [tuple(map(str, map(one.get, keys))) for one in report["artifacts"]], report

    other = home / "other" / "sources"
    other.mkdir(parents=True)
    for name in ("notes.txt", "x.npy"):  # one of the same bytes, one of others
        (other / name).write_bytes((sources / name).read_bytes())
    (other / "x.npy").write_bytes(b"else")
    (other / "twin.txt").write_bytes((other / "notes.txt").read_bytes())
    foreseen, dry = told("-n", *options, str(sources))
    done, real = told(*options, str(sources))
    assert foreseen == done
    assert abs(dry["stored_bytes"] - real["stored_bytes"]) < 0.1 * real["stored_bytes"]
    assert told("-n", *options, str(sources))[0] == told(*options, str(sources))[0]
    (sources / "notes.txt").write_text("a line\n" * 499 + "a lime\n")
    for places in ((str(sources),), (str(other),), (str(sources), str(other))):
        foreseen, _ = told("-n", *options, *places)
        assert foreseen == told(*options, *places)[0]
    foreseen, dry = told("-n", str(sources / "x.npy"), "--name", "sources/tiny")
    assert foreseen == told(str(sources / "x.npy"), "--name", "sources/tiny")[0]
    assert dry["stored_bytes"] == 0  # its bytes are stored already
    assert foreseen[0][:3] == ("updated", "sources/tiny", "2")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-", "--name", "a", "--dry-run"),
        ("-",),
        ("-", "SOURCES/x.npy", "--name", "a"),
        ("-", "--name", "a", "--update"),
        ("-", "--name", "a", "--move"),
        ("-", "--name", "a", "--include", "*"),
        ("SOURCES", "--name", "several"),
        ("SOURCES/x.npy", "--name", "a/../b"),
        ("SOURCES/x.npy", "--name", "a", "--update"),
        ("SOURCES/x.npy", "--label", "12"),
        ("SOURCES/x.npy", "--tag", "a b"),
        ("SOURCES/x.npy", "--meta", "novalue"),
        ("SOURCES/x.npy", "--meta", "k=\x01"),
        ("",),
    ],
)
def test_wrong_usage_is_two_and_stores_nothing(hart, store, sources, arguments):
    code, out, err = hart("add", *(word.replace("SOURCES", str(sources)) for word in arguments))
    assert (code, out) == (2, "")
    assert "hint: " in err
    assert hart("ls", "-q") == (0, "", "")


def test_a_path_that_is_not_there_is_one(hart, store, sources):
    code, out, err = hart("add", str(sources / "x.npy"), "nowhere")
    assert (code, out) == (1, "")
    assert "nowhere" in err
    assert hart("ls", "-q") == (0, "", "")


def test_the_operation_checks_tags_and_metadata_too(store, sources):
    import hartonomous
    from hartonomous.errors import UsageError

    with hartonomous.open(store) as opened:
        for wrong in ({"tags": ["a b"]}, {"metadata": {"a b": "c"}}):
            with pytest.raises(UsageError):
                opened.add(sources / "x.npy", **wrong)


def test_standard_input(process, store):
    done = process("add", "-", "--name", "piped", "-q", input="from a pipe\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "piped@1\n", "")
    done = process("get", "piped", "-o", "back", "--json")
    assert done.returncode == 0
    validate("get", done.stdout)
    assert Path("back").read_text() == "from a pipe\n"
    assert list((store / "tmp").iterdir()) == []


def test_exit_codes_of_the_process(process, store, sources):
    assert process("add", str(sources / "x.npy")).returncode == 0
    assert process("add", "nowhere").returncode == 1
    assert process("add").returncode == 2
    assert process("add", "-", stdin=subprocess.DEVNULL).returncode == 2


def test_ctrl_c_leaves_the_store_whole(process, store, sources):
    assert process("add", str(sources / "x.npy")).returncode == 0
    line = [sys.executable, "-m", "hartonomous", "add", "-", "--name", "endless"]
    child = subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with child:
        assert child.stdin is not None
        child.stdin.write(b"x" * 100)
        child.stdin.flush()
        for _ in range(3000):  # it waits for more once the spool file is there
            if list((store / "tmp").glob("stream-*")):
                break
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=30) == 130
        assert child.stderr is not None
        told = child.stderr.read().decode()
    assert "the store is whole" in told
    assert "Traceback" not in told
    assert list((store / "tmp").iterdir()) == []
    assert process("verify").returncode == 0
    assert process("ls", "-q").stdout == "x.npy\n"
