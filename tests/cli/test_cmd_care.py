"""``stats``, ``verify``, ``repair``, ``gc`` and ``migrate``."""

import contextlib
import sqlite3
from fractions import Fraction

import click
import numpy as np
import pytest
from cli_files import NAMES
from cli_schema import validate
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file as save_safetensors

import hartonomous
from hartonomous.cli.gc import _freed
from hartonomous.cli.quantities import Duration, Share


def packs(store):
    return sorted((store / "packs").rglob("*.pack"), key=lambda path: path.stat().st_mtime_ns)


def damage(store):
    """Change one byte in the middle of a pack's payloads."""
    (pack,) = packs(store)
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 0xFF
    pack.chmod(0o644)
    pack.write_bytes(content)


# -- stats


def test_stats(hart, full, sources):
    code, out, _ = hart("stats", "--json")
    assert code == 0
    (found,) = validate("stats", out)
    files = [path for path in sources.rglob("*") if path.is_file()]
    assert found["logical_bytes"] == sum(path.stat().st_size for path in files)
    assert (found["artifact_count"], found["file_count"]) == (5, 7)
    assert found["saved_by_equal_atoms"] >= 8 * 64 * 64 * 4 - 64 * 64 * 4
    assert sum(one["stored_bytes"] for one in found["held"][:-1]) == found["stored_bytes"]
    page = hart("stats")[1]
    assert page.splitlines()[0] == "artifacts:       5 (5 versions)"
    assert "equal tensors and data" in page
    assert hart("stats", "-q") == (0, "", "")


def test_stats_of_an_empty_store(hart, store):
    assert validate("stats", hart("stats", "--json")[1])[0]["stored_bytes"] == 0
    code, out, _ = hart("stats")
    assert code == 0
    assert "saved by" not in out


def test_stats_tell_the_trash(hart, full):
    assert hart("rm", "tiny")[0] == 0
    assert "1 version of" in hart("stats")[1]


# -- verify


@pytest.mark.parametrize(
    "arguments",
    [(), ("--quick",), ("--files",), ("--read-data-subset", "1/10"), ("--max-duration", "10m")],
)
def test_verify_of_a_sound_store(hart, full, arguments):
    code, out, err = hart("verify", *arguments)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "no fault found"
    (report,) = validate("verify", hart("verify", "--json", *arguments)[1])
    assert report["faults"] == []
    assert report["complete"] is True


def test_verify_finds_damage_and_names_the_files(hart, full):
    damage(full)
    code, out, err = hart("verify")
    assert code == 4
    assert out.split("\n")[0].split("  ")[0] == "where"
    assert "files that need it" in out.split("\n")[0]
    assert "hart: error: " in err
    code, out, err = hart("verify", "--json")
    assert code == 4
    (report,) = validate("verify", out)
    assert report["faults"]
    assert validate("error", err)[0]["error"]["kind"] == "integrity"
    assert hart("verify", "-q")[1].startswith(("atom blake3:", "manifest of blake3:", "pack "))


def test_verify_that_runs_out_of_time_says_so(hart, full):
    code, out, _ = hart("verify", "--max-duration", "0")
    assert code == 0
    assert "the time was up" in out
    assert (
        validate("verify", hart("verify", "--max-duration", "0s", "--json")[1])[0]["complete"]
        is False
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("--quick", "--files"), ("--quick", "--read-data-subset", "1/2"), ("more",),
        ("--read-data-subset", "2/1"), ("--read-data-subset", "0/3"), ("--read-data-subset", "1/0"),
        ("--read-data-subset", "a"), ("--max-duration", "10 parsecs"), ("--max-duration", "-1"),
    ],
)  # fmt: skip
def test_verify_refuses(hart, full, arguments):
    code, out, err = hart("verify", *arguments)
    assert (code, out) == (2, "")
    assert "hint: " in err


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_shares_read_back(part, whole):
    low, high = sorted((part, whole))
    assert Share().convert(f"{low}/{high}", None, None) == Fraction(low, high)


@given(
    st.integers(0, 10**6),
    st.sampled_from([("", 1), ("s", 1), ("m", 60), ("h", 3600), ("d", 86400)]),
)
def test_durations_read_back(number, unit):
    assert Duration().convert(f"{number}{unit[0]}", None, None) == number * unit[1]


@given(st.text(max_size=12))
def test_other_texts_are_refused_or_numbers(text):
    for kind in (Share(), Duration()):
        with contextlib.suppress(click.BadParameter):
            assert kind.convert(text, None, None) >= 0


def test_percent():
    assert Share().convert("12.5 %", None, None) == Fraction(1, 8)


# -- repair


def test_repair_brings_everything_back(hart, full):
    assert hart("rm", "notes.txt")[0] == 0
    before = validate("ls", hart("ls", "--json")[1])
    (full / "catalog.sqlite3").unlink()
    assert hart("ls")[0] == 10
    code, out, _ = hart("repair", "-y", "--json")
    assert code == 0
    (done,) = validate("repair", out)
    assert (done["lost"], done["damaged"], done["recovered"]) == ([], [], [])
    assert validate("ls", hart("ls", "--json")[1]) == before
    assert hart("undo")[0] == 0
    assert hart("ls", "-q")[1].split() == NAMES
    assert hart("verify", "--files")[0] == 0


def test_a_catalog_that_is_no_database_is_four_until_repaired(hart, full):
    (full / "catalog.sqlite3").write_bytes(b"no database " * 1000)
    for ending in ("-wal", "-shm"):
        (full / f"catalog.sqlite3{ending}").unlink(missing_ok=True)
    code, _, err = hart("ls")
    assert code == 4
    assert "hart repair" in err
    assert hart("repair", "-y")[0] == 0
    assert hart("ls", "-q")[1].split() == NAMES


def test_repair_asks(hart, full):
    code, out, err = hart("repair")
    assert (code, out) == (2, "")
    assert "-y" in err
    assert not list(full.glob("*before-repair*"))
    code, out, _ = hart("repair", "-y")
    assert code == 0
    assert out.splitlines()[-1] == "everything in the packs is back"
    assert list(full.glob("*before-repair*"))


def test_a_repair_is_foreseen(hart, full):
    (full / "catalog.sqlite3").unlink()
    code, out, _ = hart("repair", "-n", "--json")
    assert code == 0
    (foreseen,) = validate("repair", out)
    assert foreseen["dry_run"] is True
    assert foreseen["former_catalog"] is None
    assert not list(full.glob("catalog.sqlite3*"))
    assert hart("repair", "-n")[1].splitlines()[-1] == "nothing was changed (dry run)"
    (done,) = validate("repair", hart("repair", "-y", "--json")[1])
    assert done == {**foreseen, "dry_run": False}


def test_a_foreseen_repair_leaves_the_catalog_and_the_names_of_packs(hart, store, sources):
    for name in ("tiny", "tuned.safetensors"):
        assert hart("add", str(sources / name))[0] == 0
    one, other = packs(store)
    contents = one.read_bytes(), other.read_bytes()
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    catalog = (store / "catalog.sqlite3").read_bytes()
    code, out, err = hart("repair", "-n")
    assert code == 4
    assert "packs that would get their names back" in out
    assert "could not be brought back" in err
    assert (other.read_bytes(), one.read_bytes()) == contents
    assert (store / "catalog.sqlite3").read_bytes() == catalog
    assert not list(store.glob("catalog.sqlite3.*"))
    assert "packs that got their names back" in hart("repair", "-y")[1]
    assert (one.read_bytes(), other.read_bytes()) == contents
    assert hart("verify")[0] == 0


def test_a_repair_by_a_worker_is_not_foreseen(hart, full):
    code, _, err = hart("repair", "-n", "--background")
    assert code == 2
    assert "--dry-run does not go with --background" in err


def test_a_schedule_foresees_nothing(hart, full):
    code, _, err = hart("schedule", "add", "--every", "1d", "nightly", "gc", "--dry-run")
    assert code == 2
    assert "--dry-run does not go with a schedule" in err
    assert "--background" not in err


def test_repair_after_a_loss_is_four(hart, store, sources):
    assert hart("add", str(sources / "tiny"))[0] == 0
    assert hart("add", str(sources / "tuned.safetensors"))[0] == 0
    packs(store)[0].unlink()
    code, out, err = hart("repair", "-y")
    assert code == 4
    assert "lost" in out
    assert "could not be brought back" in err
    assert hart("verify")[0] == 0
    assert validate("repair", hart("repair", "-y", "--json")[1])[0]["lost"]


def test_repair_while_the_store_is_in_use(hart, full):
    with hartonomous.open(full):
        code, _, err = hart("repair", "-y")
    assert code == 11
    assert "in use" in err


# -- gc


def test_gc(hart, full):
    assert hart("rm", "tiny", "x.npy")[0] == 0
    kept = validate("gc", hart("gc", "--json")[1])[0]
    assert kept["purged_versions"] == []
    assert (kept["trash_count"], kept["trash_bytes"] > 0) == (2, True)
    told = hart("gc")[1]
    assert "nothing to remove\nleft in the trash:  2 versions of " in told
    assert "--empty-trash" in told
    dry = validate("gc", hart("gc", "-n", "--trash-days", "0", "--json")[1])[0]
    assert (dry["dry_run"], sorted(dry["purged_versions"])) == (True, ["tiny@1", "x.npy@1"])
    assert dry["trash_count"] == 0, "what would go is not left"
    assert hart("ls", "--trash", "-q")[1] != ""
    code, out, _ = hart("gc", "--trash-days", "0")
    assert code == 0
    assert out.startswith("gone from the trash\n")
    assert hart("ls", "--trash", "-q")[1] == ""
    assert hart("verify", "--files")[0] == 0
    assert hart("undo")[0] == 1
    assert hart("gc")[:2] == (0, "nothing to remove\n")


def test_gc_says_what_it_leaves_unused_in_a_pack(hart, home):
    noise = np.random.default_rng(5)
    tensors = {"large": noise.standard_normal((512, 512)).astype(np.float32),
               "small": noise.standard_normal((64, 64)).astype(np.float32)}  # fmt: skip
    both = home / "both.safetensors"
    save_safetensors(tensors, both)
    alone = home / "alone.safetensors"
    save_safetensors({"large": tensors["large"]}, alone)
    assert hart("init", "mostly")[0] == 0
    assert hart("--store", "mostly", "add", str(both), str(alone))[0] == 0
    assert hart("--store", "mostly", "rm", "both.safetensors")[0] == 0
    code, out, _ = hart("--store", "mostly", "gc", "--empty-trash", "-y")
    assert code == 0
    assert "left unused:" in out
    assert "in packs that are mostly in use" in out
    told = validate("gc", hart("--store", "mostly", "gc", "--json")[1])[0]
    assert 0 < told["unused_bytes"] < 64 * 64 * 4 + 4096


def test_a_gc_that_takes_more_room_at_first_says_so():
    assert _freed(1000) == "1.0 kB"
    assert _freed(-1000) == "nothing yet: what was written anew takes 1.0 kB more"


def test_emptying_the_trash_asks(hart, full):
    assert hart("gc", "--empty-trash")[0] == 0, "nothing in it, nothing to ask"
    assert hart("rm", "tiny")[0] == 0
    code, _, err = hart("gc", "--empty-trash")
    assert code == 2
    assert "Delete 1 version of " in err
    assert hart("gc", "--empty-trash", "-n")[0] == 0
    assert hart("gc", "--empty-trash", "-y", "-q")[1] == "tiny@1\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--trash-days", "-1"),
        ("--empty-trash", "--trash-days", "3"),
        ("--grace", "soon"),
        ("more",),
    ],
)
def test_gc_refuses(hart, full, arguments):
    assert hart("gc", *arguments)[:2] == (2, "")


# -- migrate


def test_migrate_of_a_store_that_is_up_to_date(hart, full):
    (done,) = validate("migrate", hart("migrate", "--json")[1])
    assert (done["changed"], done["copy"]) == (False, None)
    assert done["former_schema"] == done["schema"]
    assert hart("migrate")[1] == f"the catalog is up to date (schema {done['schema']})\n"


def test_migrate_refuses_a_newer_catalog(hart, full):
    with contextlib.closing(sqlite3.connect(full / "catalog.sqlite3")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    code, _, err = hart("migrate")
    assert code == 1
    assert "schema 9999" in err
    assert hart("ls")[0] == 1


def test_migrate_while_the_store_is_in_use(hart, full):
    with hartonomous.open(full):
        assert hart("migrate")[0] == 11


# -- repack


def test_repack(hart, full):
    dry = validate("repack", hart("repack", "-n", "--json")[1])[0]
    assert dry["dry_run"] is True
    assert dry["atom_count"] == 0
    assert "nothing was changed" in hart("repack", "-n")[1]
    (done,) = validate("repack", hart("repack", "--json")[1])
    assert done["examined_count"] == dry["examined_count"] > 0
    assert done["complete"] is True
    assert validate("repack", hart("repack", "--json")[1])[0]["examined_count"] == 0
    code, out, _ = hart("repack", "--again")
    assert code == 0
    assert out.splitlines()[0].split() == ["atoms", "looked", "at:", str(dry["examined_count"])]


def test_repack_without_time(hart, full):
    code, out, _ = hart("repack", "--max-duration", "0")
    assert code == 0
    assert "are left for the next run" in out
