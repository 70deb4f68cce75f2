"""A store that somebody else made or changed: nothing outside it is touched, nothing is lost."""

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file

import hartonomous as hn
from hartonomous.core import manifest as manifests
from hartonomous.core.description import Description
from hartonomous.core.digest import digest
from hartonomous.core.journal_entry import decode_entry
from hartonomous.core.manifest import Manifest, Segment
from hartonomous.core.moment import format_time
from hartonomous.errors import ConflictError, IntegrityError, UnsupportedStoreError
from hartonomous.objects.local import LocalObjects
from hartonomous.objects.plain_cache import PlainCache
from hartonomous.packs import rescue
from hartonomous.packs.files import FileReader
from hartonomous.packs.frame_batch import FrameBatch
from hartonomous.packs.write_out import FileWriter
from hartonomous.ports.progress import NoProgress

A, B = bytes(range(256)) * 400, os.urandom(100_000)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return the directory of a store with one model folder of two files."""
    folder = tmp_path / "in" / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    save_file({"w": np.zeros(100, np.float32)}, folder / "model.safetensors")
    (folder / "sub" / "a.bin").write_bytes(A)
    with hn.open(tmp_path / "store", create=True) as store:
        store.add(folder, name="model")
    return tmp_path / "store"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Return a folder that is none of the store's, with a file in it."""
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "precious").write_text("precious")
    return folder


@pytest.mark.parametrize("name", ["tmp", "cache", "locks", "packs", "index"])
def test_a_folder_of_the_store_that_is_a_link_is_refused(place, victim, name):
    shutil.rmtree(place / name)
    (place / name).symlink_to(victim)
    for work in (lambda: hn.open(place), lambda: hn.repair(place)):
        with pytest.raises(UnsupportedStoreError, match="symbolic link"):
            work()
    assert [one.name for one in victim.iterdir()] == ["precious"]


def test_a_linked_catalog_is_refused_and_left_as_it_is(place, victim):
    foreign = victim / "precious"
    (place / "catalog.sqlite3").unlink()
    (place / "catalog.sqlite3").symlink_to(foreign)
    with pytest.raises(UnsupportedStoreError, match=r"catalog\.sqlite3 is a symbolic link"):
        hn.open(place)
    assert foreign.read_text() == "precious"


def test_sweeping_does_not_follow_a_link(place, victim):
    shutil.rmtree(place / "tmp")
    (place / "tmp").symlink_to(victim)
    assert LocalObjects(place).sweep() == 0
    assert (victim / "precious").exists()


def test_collection_removes_nothing_through_a_link_in_the_cache(place, victim):
    (place / "cache" / ("ab" * 32)).symlink_to(victim)
    with hn.open(place) as store:
        later = store.parts.clock() + 100 * 24 * 3_600_000_000
        cache = PlainCache(
            root=place / "cache", lock_path=store.parts.lock_path, clock=lambda: later
        )
        cache.sweep()
    assert (victim / "precious").read_text() == "precious"


def test_a_pipe_among_locks_and_packs_holds_nobody_up(place):
    old = place / "locks" / f"writer-{'ab' * 16}.lock"
    os.mkfifo(old)
    os.utime(old, (0, 0))
    (place / "packs" / "zz").mkdir()
    os.mkfifo(place / "packs" / "zz" / "aa.pack")
    with hn.open(place) as store:
        store.gc(grace_s=0)
    done = subprocess.run(
        [sys.executable, rescue.__file__, "list", place],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 4
    assert b"no plain file" in done.stderr
    assert b"model@1" in done.stdout


# -- an older copy of the catalog


def test_acknowledged_packs_stay_when_work_goes_on_with_an_older_catalog(place, tmp_path):
    (tmp_path / "b.bin").write_bytes(B)
    older = (place / "catalog.sqlite3").read_bytes()
    with hn.open(place) as store:
        store.add(tmp_path / "b.bin")
    (place / "catalog.sqlite3").write_bytes(older)
    with hn.open(place) as store:  # the number of b.bin's commit is given out again, and more
        for number in range(3):
            (tmp_path / f"{number}.txt").write_text(f"{number}" * 100)
            store.add(tmp_path / f"{number}.txt")
        assert store.gc(grace_s=0).litter_count == 0
    report = hn.repair(place)
    (name,) = report.recovered
    with hn.open(place) as store:
        store.get(name, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == B


# -- places to write to


def test_get_refuses_a_link_below_its_target(place, victim, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "sub").symlink_to(victim)
    with hn.open(place) as store:
        with pytest.raises(ConflictError, match="symbolic link"):
            store.get("model", out)
        assert list(out.iterdir()) == [out / "sub"]  # nothing was written at all
        (out / "linked").symlink_to(tmp_path / "real")
        (tmp_path / "real").mkdir()
        store.get("model", out / "linked")  # what the user named is followed
    assert (tmp_path / "real" / "sub" / "a.bin").read_bytes() == A
    assert [one.name for one in victim.iterdir()] == ["precious"]


@pytest.mark.parametrize("kind", ["hard link", "symbolic link", "pipe"])
def test_what_lies_in_place_of_a_partial_file_is_not_written_to(place, victim, tmp_path, kind):
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    part = out / "sub" / f".a.bin.{digest(A).hex()[:16]}.part"
    if kind == "hard link":
        part.hardlink_to(victim / "precious")
    elif kind == "symbolic link":
        part.symlink_to(victim / "precious")
    else:
        os.mkfifo(part)
    with hn.open(place) as store:
        store.get("model", out)
    assert (out / "sub" / "a.bin").read_bytes() == A
    assert (victim / "precious").read_text() == "precious"


# -- numbers


def _commit(**changed: object) -> bytes:
    return msgspec.json.encode(
        {
            "version": 1, "kind": "commit", "seq": 1, "time_us": 1, "artifact": "11" * 16,
            "name": "x", "number": 1, "uid": "22" * 16, "digest": "00" * 32, "members": [],
            "source": {"host": "h", "place": "p"}, "labels": [], "tags": [], "metadata": {},
            "model": None, "kind_of": "file", **changed,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [
        {"seq": 2**63 - 1},
        {"seq": 0},
        {"number": 2**63 - 1},
        {"number": -1},
        {"time_us": 2**63},
        {"model": {"parameter_count": 1}},
        {"model": {"layers": 5, "parameter_count": 1}},
        {"model": {"layers": [], "parameter_count": 2**64 - 1}},
    ],
)
def test_a_commit_with_impossible_values_is_damage(changed):
    assert decode_entry(_commit())["name"] == "x"
    with pytest.raises(IntegrityError):
        decode_entry(_commit(**changed))


@pytest.mark.parametrize("length", [-1, 2**63, 2**64 - 1])
def test_a_manifest_with_impossible_lengths_is_damage(length):
    name = digest(A)
    broken = Manifest(
        size=5, digest=name, sha256=name,
        segments=(Segment(length, name), Segment(5 - length, name)),
        description=Description(format="file"),
    )  # fmt: skip
    with pytest.raises(IntegrityError):
        manifests.decode(manifests.encode(broken))


@pytest.mark.parametrize(
    ("microseconds", "text"), [(2**62, "9999-12-31T23:59:59"), (-(2**62), "0001-01-01T00:00:00")]
)
def test_times_outside_the_calendar_are_the_nearest_inside(microseconds, text):
    assert format_time(microseconds).startswith(text)


def test_writing_out_needs_no_memory_for_what_a_size_claims(tmp_path):
    class Nothing:
        def batch(self) -> FrameBatch:
            return FrameBatch()

        def view(self, name: bytes, start: int, length: int) -> None:
            return None

        def gather(self, batch, name: bytes, out: memoryview, start: int) -> None:
            raise IntegrityError(f"nothing at {start}: {len(out)} bytes")

    name = digest(A)
    manifest = Manifest(
        size=2**62, digest=name, sha256=name, segments=(Segment(2**62, name),),
        description=Description(format="file"),
    )  # fmt: skip
    with (
        (tmp_path / "out").open("wb") as out,
        FileWriter(1) as writer,
        pytest.raises(IntegrityError, match="nothing at 0"),
    ):
        writer.write(out.fileno(), FileReader(Nothing(), manifest), sha256(), NoProgress())
    assert (tmp_path / "out").stat().st_size == 0
