"""``backup``, ``restore``, ``push``, ``pull`` and ``sync``."""

import sqlite3
import types

import pytest
from cli_schema import validate

import hartonomous
from hartonomous.packs import room

pytestmark = pytest.mark.usefixtures("catalog_engine")


@pytest.fixture
def other(home):
    place = home / "other"
    hartonomous.init(place).close()
    return place


def names(hart, place):
    return hart("--store", str(place), "ls", "-q")[1].split()


# -- backup and restore


def test_backup_and_restore(hart, full, home):
    folder, again = home / "backup", home / "again"
    (told,) = validate("backup", hart("backup", str(folder), "-n", "--json")[1])
    assert (told["dry_run"], told["snapshot"]) == (True, None)
    assert hart("backup", str(folder), "-n")[1].count("and the catalog\n") == 1
    code, out, _ = hart("backup", str(folder), "--json")
    (done,) = validate("backup", out)
    assert (code, done["copied_bytes"]) == (0, told["copied_bytes"])
    code, out, _ = hart("backup", str(folder))
    assert code == 0
    assert "copied:    0 (0 B)" in out
    (first, second) = validate("backup", hart("backup", str(folder), "--list", "--json")[1])
    assert first["name"] == done["snapshot"] < second["name"]
    (told,) = validate(
        "restore", hart("restore", str(folder), "--to", str(again), "-n", "--json")[1]
    )
    assert told["id"] is None
    code, out, _ = hart("restore", str(folder), "--to", str(again), "--json")
    (restored,) = validate("restore", out)
    assert (code, restored["snapshot"]) == (0, second["name"])
    assert names(hart, again) == names(hart, full)
    assert hart("--store", str(again), "verify", "--files")[0] == 0
    code, out, _ = hart("--store", str(home / "third"), "restore", str(folder))
    assert code == 0
    assert str(home / "third") in out
    assert names(hart, home / "third") == names(hart, full)


def test_jobs_and_schedules_that_a_restore_keeps_are_told(hart, full, home):
    folder = home / "backup"
    assert hart("backup", str(folder), "-q")[0] == 0
    _, out, _ = hart("restore", str(folder), "--to", str(home / "quiet"))
    assert "original" not in out
    assert hart("verify", "--background")[0] == 0
    assert hart("schedule", "add", "--every", "1d", "nightly", "gc")[0] == 0
    assert hart("backup", str(folder), "-q")[0] == 0
    _, out, _ = hart("restore", str(folder), "--to", str(home / "again"))
    assert "kept from the original: 1 waiting job and 1 schedule" in out
    _, out, _ = hart("restore", str(folder), "--to", str(home / "third"), "--json")
    (told,) = validate("restore", out)
    assert (told["waiting_job_count"], told["schedule_count"]) == (1, 1)


def test_snapshots_are_checked_and_removed(hart, full, home):
    folder = home / "backup"
    for _ in range(3):
        assert hart("backup", str(folder), "-q")[0] == 0
    code, out, _ = hart("backup", str(folder), "--keep", "2", "--json")
    assert (code, len(validate("backup", out)[0]["removed_snapshots"])) == (0, 2)
    kept = hart("backup", str(folder), "--list", "-q")[1].split()
    code, out, _ = hart("backup", str(folder), "--verify")
    assert (code, out.splitlines()[-1]) == (0, "no fault found")
    assert hart("backup", str(folder), "--remove", kept[0])[0] == 2, "asks off a terminal"
    code, _, err = hart("backup", str(folder), "--remove", "nope")
    assert code == 1, "nobody is asked about what is not there"
    assert "has no snapshot 'nope'" in err
    code, out, _ = hart("backup", str(folder), "--remove", kept[0], "--yes", "--json")
    assert (code, validate("backup", out)[0]["snapshot"]) == (0, kept[0])
    pack = next((folder / "packs").rglob("*.pack"))
    pack.chmod(0o644)
    pack.write_bytes(pack.read_bytes()[:-5])
    code, out, err = hart("backup", str(folder), "--verify", "--json")
    assert code == 4
    assert pack.name in validate("backup", out)[0]["faults"][0]
    assert '"kind": "integrity"' in err
    assert hart("restore", str(folder), "--to", str(home / "again"))[0] == 4
    assert not (home / "again" / "store.json").exists()


def test_a_damaged_snapshot_is_told_with_what_to_do(hart, full, home):
    folder = home / "backup"
    assert hart("backup", str(folder))[0] == 0
    (name,) = hart("backup", str(folder), "--list", "-q")[1].split()
    catalog = folder / "snapshots" / name / "catalog.sqlite3"
    catalog.chmod(0o644)
    catalog.write_bytes(b"none")
    code, out, err = hart("backup", str(folder), "--verify")
    assert code == 4
    assert f"{name}: catalog.sqlite3 is not what was written" in out
    assert "--remove" in err
    assert hart("backup", str(folder), "--remove", name, "--yes")[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [("--list", "--verify"), ("--list", "--keep", "2"), ("--verify", "-n"), ("--keep", "0")],
)
def test_options_of_backup_that_do_not_go_together(hart, full, home, arguments):
    assert hart("backup", str(home / "backup"), *arguments)[0] == 2
    assert not (home / "backup").exists()


def test_where_there_is_nothing_to_restore(hart, full, home):
    assert hart("restore", str(home / "none"), "--to", str(home / "again"))[0] == 1
    assert hart("backup", str(home / "none"), "--list")[0] == 1
    assert hart("backup", str(home / "backup"))[0] == 0
    code, _, err = hart("restore", str(home / "backup"))
    assert code == 11
    assert "there is a store" in err


def test_no_room_for_what_is_restored_names_the_option_of_the_place(hart, full, home, monkeypatch):
    assert hart("backup", str(home / "backup"))[0] == 0
    monkeypatch.setattr(room, "file_system_of", lambda path: "ext4")
    none = types.SimpleNamespace(f_bfree=0, f_bavail=0, f_frsize=4096)
    monkeypatch.setattr(room.os, "statvfs", lambda path: none)
    code, _, err = hart("restore", str(home / "backup"), "--to", str(home / "again"))
    assert code == 1
    assert "are missing" in err
    assert "another disk with --to" in err
    assert not (home / "again").exists()


# -- push, pull, sync


def test_push_and_pull(hart, full, other, home):
    (told,) = validate("push", hart("push", str(other), "-n", "--json")[1])
    code, out, _ = hart("push", str(other), "--json")
    (done,) = validate("push", out)
    assert (code, done["sent_bytes"]) == (0, told["sent_bytes"])
    assert names(hart, other) == names(hart, full)
    assert "nothing to do" in hart("push", str(other))[1]
    hart("--store", str(other), "label", names(hart, full)[0], "mine")
    code, out, _ = hart("pull", str(other), "--json")
    assert (code, validate("pull", out)[0]["carried"][0]["action"]) == (0, "label")
    hart("init", str(home / "third"))
    code, out, _ = hart("--store", str(home / "third"), "pull", str(full), "tiny")
    assert code == 0
    assert "1 version of" in out
    assert names(hart, home / "third") == ["tiny"]


def test_sync(hart, full, other):
    (both,) = validate("sync", hart("sync", str(other), "-n", "--json")[1])
    assert both["pushed"]["carried"] == []
    assert both["pulled"]["version_count"] > 0
    assert hart("sync", str(full), str(other))[0] == 0
    assert names(hart, other) == names(hart, full)
    (again,) = validate("sync", hart("sync", str(other), "--json")[1])
    assert again["pulled"]["carried"] == again["pushed"]["carried"] == []


def test_a_taken_name_names_the_ways_out(hart, full, other, home):
    (home / "text").write_text("other content")
    assert hart("--store", str(other), "add", str(home / "text"), "--name", "tiny")[0] == 0
    code, _, err = hart("push", str(other))
    assert code == 11
    assert "'tiny'" in err
    assert "--rename" in err
    assert names(hart, other) == ["tiny"]
    assert hart("push", str(other), "tiny", "--as", "mine")[0] == 0
    assert names(hart, other) == ["mine", "tiny"]
    assert hart("push", str(other), "--rename")[0] == 0
    assert hart("push", str(other), "--as", "x")[0] == 2
    assert hart("push", str(other), "none")[0] == 1
    assert hart("push", str(home / "nowhere"))[0] == 10


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("restore", "backups", "there 1"), "--to 'there 1' says where the store is made"),
        (("get", "tiny", "copy"), "-o copy says where to write"),
        (("path", "tiny", "config.json"), "--file config.json names one file of it"),
    ],
)
def test_an_argument_too_many_is_told_with_its_option(hart, full, words, hint):
    code, _, err = hart(*words)
    assert code == 2
    assert f"hart: error: there is an argument too many: {words[2]!r}\n" in err
    assert f"hint: {hint}" in err


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE alembic_version SET version_num = 'junk'", "the schema's revision is no number"),
        ("UPDATE version SET number = 'x'", "where int belongs"),
    ],
)
def test_damage_of_the_other_store_is_told_as_that_ones(hart, full, home, statement, told):
    other = home / "an other"
    hartonomous.init(other, catalog="sqlite").close()
    assert hart("push", str(other), "-q")[0] == 0
    database = sqlite3.connect(other / "catalog.sqlite3", isolation_level=None)
    database.execute("PRAGMA ignore_check_constraints = ON")
    database.execute(statement)
    database.close()
    for words in (("pull",), ("sync",), ("push",), ("pull", "-n")):
        code, _, err = hart(*words[:1], str(other), *words[1:])
        assert code == 4, (words, err)
        assert f"the store at {other}: the catalog is damaged: " in err
        assert told in err
        assert f"hart --store '{other}' repair" in err
    assert hart("verify")[0] == 0
