"""Stores of every released format open, verify, give everything back, repair and are rescued."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from make_store import listing

import hartonomous as hn
from hartonomous.errors import UnsupportedStoreError
from hartonomous.opening import migrate_store

HERE = Path(__file__).parent
NAMES = sorted(path.name.removesuffix(".tar.gz") for path in HERE.glob("*.tar.gz"))


@pytest.fixture(params=NAMES)
def as_released(request, tmp_path) -> tuple[Path, dict[str, Any]]:
    """Return a copy of a kept store as it was released, and what is in it."""
    place = tmp_path / "store"
    place.mkdir()
    with tarfile.open(HERE / f"{request.param}.tar.gz") as archive:
        archive.extractall(place, filter="data")
    expected = json.loads((HERE / f"{request.param}.json").read_text(encoding="utf-8"))
    return place, expected


@pytest.fixture
def kept(as_released) -> tuple[Path, dict[str, Any]]:
    """Return a copy of a kept store with today's schema, and what is in it."""
    migrate_store(as_released[0])
    return as_released


def check_files(version: dict[str, Any], folder: Path) -> None:
    """Compare a folder with the files of a version: bytes, modes, times."""
    found = {}
    for below, _, names in os.walk(os.fsencode(folder)):
        for name in names:
            path = Path(os.fsdecode(below + b"/" + name))
            status = path.stat()
            content = path.read_bytes()
            found[f"sha256:{hashlib.sha256(content).hexdigest()}"] = (
                len(content), status.st_mode & 0o777, status.st_mtime_ns // 1000,
            )  # fmt: skip
    assert found == {
        file["sha256"]: (file["size"], file["mode"], file["modified_us"])
        for file in version["files"]
    }


def check_everything(store: hn.Store, expected: dict[str, Any], out: Path) -> None:
    assert listing(store) == expected
    for version in expected["versions"]:
        target = out / str(version["number"]) / version["name"]
        spec = f"{version['name']}@{version['number']}"
        if len(version["files"]) == 1:
            target.mkdir(parents=True)
        store.get(spec, target)
        check_files(version, target)
    report = store.verify(files=True)
    assert report.sound, report.faults


def test_there_are_kept_stores():
    assert "v1" in NAMES
    assert all((HERE / f"{name}.tar.gz").stat().st_size <= 300_000 for name in NAMES)


def test_it_opens_and_gives_everything_back(kept, tmp_path):
    place, expected = kept
    with hn.open(place) as store:
        check_everything(store, expected, tmp_path / "out")


def test_it_can_be_written_to(kept, tmp_path):
    place, expected = kept
    file = tmp_path / "new.bin"
    file.write_bytes(b"new" * 1000)
    with hn.open(place) as store:
        store.undo()
        assert listing(store) != expected
        store.add(file)
        store.gc(trash_days=0, grace_s=0)
        assert store.verify(files=True).sound
        assert {one.name for one in store.ls()} > {"new.bin"}


def test_its_catalog_is_brought_to_this_schema(as_released, tmp_path):
    place, expected = as_released
    with pytest.raises(UnsupportedStoreError, match="older schema") as refused:
        hn.open(place)
    assert "hart migrate" in (refused.value.hint or "")
    foreseen = migrate_store(place, dry_run=True)
    assert foreseen.changed and foreseen.copy is None
    with pytest.raises(UnsupportedStoreError, match="older schema"):
        hn.open(place)
    done = migrate_store(place)
    assert (done.former_schema, done.schema) == (foreseen.former_schema, foreseen.schema)
    assert done.former_schema < done.schema
    assert done.copy is not None and Path(done.copy).exists()
    with hn.open(place) as store:
        check_everything(store, expected, tmp_path / "out")
        assert list(store.events()) == []
        store.undo()
        assert [one.type for one in store.events()] != []
    assert not migrate_store(place).changed


@pytest.mark.parametrize("with_catalog", [True, False])
def test_it_can_be_repaired(as_released, tmp_path, with_catalog):
    place, expected = as_released
    if not with_catalog:
        (place / "catalog.sqlite3").unlink()
    report = hn.repair(place)
    assert (report.damaged, report.lost, report.recovered) == ((), (), ())
    with hn.open(place) as store:
        check_everything(store, expected, tmp_path / "out")


@pytest.mark.parametrize("which", ["its own", "today's"])
def test_it_is_rescued_by_a_script_alone(kept, tmp_path, which):
    place, expected = kept
    (place / "catalog.sqlite3").unlink()
    script = place / "rescue.py"
    if which == "today's":
        from hartonomous.packs import rescue

        script = Path(rescue.__file__)
    out = tmp_path / "out"

    def run(*words: str | Path) -> str:
        done = subprocess.run(
            [sys.executable, "-P", str(script), *map(str, words)],
            env={"PATH": os.environ["PATH"]}, cwd=tmp_path, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("verify", place)
    lines = run("list", place).splitlines()
    assert len(lines) == len(expected["versions"]) + len(expected["trash"])
    for version in expected["versions"]:
        spec = f"{version['name']}@{version['number']}"
        (line,) = [one for one in lines if one.startswith(f"{spec}  ")]
        assert all(label in line for label in version["labels"])
        assert "(removed)" not in line
    run("restore", place, out, "--all-versions")
    for version in expected["versions"]:
        check_files(version, out / f"{version['name']}@{version['number']}")
