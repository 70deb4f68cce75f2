"""``hart doctor``: what is wrong, and what to do about it."""

import fcntl
import os
import shutil
import sqlite3
import time

import pytest
from cli_schema import validate

import hartonomous as hn
from hartonomous.codecs import kernel
from hartonomous.core.quantity import size
from hartonomous.operations.doctor import diagnose
from hartonomous.settings import StorePlace, load_settings


@pytest.fixture
def store(home, monkeypatch):
    path = home / "store"
    source = home / "noise.bin"
    source.write_bytes(os.urandom(100_000))
    with hn.open(path, create=True) as opened:
        opened.add(source)
    monkeypatch.setenv("HARTONOMOUS_STORE", str(path))
    return path


@pytest.fixture
def look(hart):
    """Run the command and return (exit code, {name: check})."""

    def call(*arguments):
        code, out, _ = hart("doctor", "--json", *arguments)
        (found,) = validate("doctor", out)
        checks = {one["name"]: one for one in found["checks"]}
        assert len(checks) == len(found["checks"])
        assert found["problem_count"] == sum(one["state"] == "problem" for one in found["checks"])
        for one in found["checks"]:
            assert one["state"] != "problem" or one["remedy"]
        return code, checks

    return call


def test_a_sound_store(look, store):
    code, checks = look()
    assert code == 0
    assert {name for name, one in checks.items() if one["state"] == "problem"} == set()
    for name in ("store.json", "catalog", "journal", "packs", "writers", "litter", "parser"):
        assert checks[name]["state"] == "ok", checks[name]
    assert "HARTONOMOUS_STORE" in checks["store"]["text"]


def test_nothing_is_changed(look, store):
    def listing():
        return {str(path): path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}

    before = listing()
    look()
    assert listing() == before


def test_without_a_store(look):
    code, checks = look()
    assert code == 0
    assert checks["store"]["state"] == "note"
    assert "hart init" in checks["store"]["remedy"]
    assert "catalog" not in checks


def test_for_people(hart, store):
    code, out, err = hart("doctor")
    assert (code, err) == (0, "")
    assert out.endswith("no problem\n")
    assert "zstd" in out
    packs = sum(path.stat().st_size for path in (store / "packs").rglob("*.pack"))
    assert f"packs take {size(packs)}" in out


def test_a_damaged_catalog(look, store):
    content = bytearray((store / "catalog.sqlite3").read_bytes())
    content[:16] = b"not a database.."
    (store / "catalog.sqlite3").write_bytes(content)
    code, checks = look()
    assert code == 1
    assert "hart repair" in checks["catalog"]["remedy"]
    assert checks["packs"]["state"] == "ok"


def test_a_missing_catalog_and_an_older_schema(look, store):
    with sqlite3.connect(store / "catalog.sqlite3") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0000'")
    connection.close()
    assert look()[1]["catalog"]["remedy"] == "hart migrate"
    (store / "catalog.sqlite3").unlink()
    assert "hart repair" in look()[1]["catalog"]["remedy"]


@pytest.mark.parametrize("damage", ["gone", "cut", "footer"])
def test_packs(look, store, damage):
    (pack,) = (store / "packs").rglob("*.pack")
    pack.chmod(0o644)
    if damage == "gone":
        pack.unlink()
    elif damage == "cut":
        os.truncate(pack, 5000)
    else:
        with pack.open("r+b") as file:
            file.seek(-64, os.SEEK_END)
            file.write(bytes(64))
    code, checks = look()
    assert code == 1
    assert checks["packs"]["state"] == "problem"
    assert checks["packs"]["remedy"].startswith("hart verify")


def test_store_json(look, store):
    (store / "store.json").write_text("{")
    assert "damaged" in look()[1]["store.json"]["text"]
    (store / "store.json").write_text(
        '{"format":"hartonomous-store","version":1,"id":"x","created":"x",'
        '"required_features":["teleport"]}'
    )
    assert "teleport" in look()[1]["store.json"]["text"]


def test_writers_alive_and_dead(look, store):
    with sqlite3.connect(store / "catalog.sqlite3") as connection:
        for number in (1, 2):
            connection.execute(
                "INSERT INTO writer (key, host, process, started_us) VALUES (?, 'here', ?, 0)",
                (bytes(15) + bytes([number]), number),
            )
    connection.close()
    lock = store / "locks" / f"writer-{(bytes(15) + bytes([1])).hex()}.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        check = look()[1]["writers"]
    assert check["text"] == "1 at work (process 1), 1 ended without tidying up"
    assert "hart gc" in check["remedy"]


def test_litter(look, store):
    (store / "tmp" / "123-0123456789abcdef").write_bytes(bytes(1000))
    stale = store / ".store.json.1-0123456789abcdef.tmp"
    stale.write_text("{}")
    os.utime(stale, (1, 1))
    check = look()[1]["litter"]
    assert check["text"].startswith("2 things")
    with hn.open(store) as opened:
        opened.gc()
    assert look()[1]["litter"]["state"] == "ok"


def test_a_repair_that_runs(look, store):
    with (store / "locks" / "store.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert look()[1]["use"]["state"] == "note"


def test_a_clock_that_is_behind_the_store(store):
    place = StorePlace(path=store, how="here", exists=True)
    year_us = 365 * 86_400_000_000
    past = diagnose(place, load_settings(), clock=lambda: time.time_ns() // 1000 - year_us // 2)
    checks = {one.name: one for one in past.checks}
    assert checks["store clock"].state == "problem"
    assert "182 days" in checks["store clock"].text
    old = diagnose(None, load_settings(), clock=lambda: 0)
    assert {one.name: one.state for one in old.checks}["clock"] == "problem"


def test_settings_and_variables(look, store, monkeypatch):
    monkeypatch.setenv("HARTONOMOUS_WORKRES", "3")
    code, checks = look()
    assert code == 0
    assert checks["variables"]["state"] == "note"
    monkeypatch.setenv("HARTONOMOUS_WORKERS", "many")
    code, checks = look()
    assert code == 1
    assert "HARTONOMOUS_WORKERS" in checks["settings"]["text"]
    monkeypatch.setenv("HARTONOMOUS_STORE", "s3://bucket")
    assert "URL" in look()[1]["store"]["text"]


def test_a_network_file_system(look, store, monkeypatch):
    monkeypatch.setattr("hartonomous.packs.directory.file_system_of", lambda path: "nfs4")
    code, checks = look()
    assert code == 1
    assert "nfs4" in checks["file system"]["text"]


def test_a_full_disk(look, store, monkeypatch):
    monkeypatch.setattr(
        "shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000)
    )
    assert look()[1]["room"]["state"] == "problem"


def test_which_kernel_runs(look, monkeypatch):
    monkeypatch.delenv(kernel.VARIABLE, raising=False)
    fastest = kernel.available()[0]
    found = look()[1]["kernel"]
    assert found["text"].startswith(fastest)
    assert (found["state"] == "note") == (fastest == kernel.NUMPY)


def test_a_kernel_that_is_named(look, monkeypatch):
    for name in kernel.available():
        monkeypatch.setenv(kernel.VARIABLE, name)
        _, checks = look()
        assert checks["kernel"]["text"].startswith(f"{name}, as {kernel.VARIABLE} says")
        assert checks["kernel"]["state"] == ("note" if name == kernel.NUMPY else "ok")
        assert checks["variables"]["state"] == "ok"


def test_a_kernel_that_is_named_and_not_there(look, monkeypatch):
    monkeypatch.setenv(kernel.VARIABLE, "abacus")
    code, checks = look()
    assert code != 0
    assert checks["kernel"]["state"] == "problem"
    assert "abacus" in checks["kernel"]["text"]
