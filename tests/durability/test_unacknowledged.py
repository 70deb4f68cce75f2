"""Processes that die at chosen places: between pack and catalog, between two batches of rows.

A change that was not acknowledged must not come back with a repair after others have gone on.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

import hartonomous as hn
from hartonomous.core.journal import unacknowledged_times

pytestmark = pytest.mark.usefixtures("catalog_engine")

SOURCE = str(Path(hn.__file__).parents[1])
DIED = 9
_PROGRAM = """
import os, sys
import hartonomous as hn
from hartonomous.catalog import manifests, packs
from hartonomous.operations import collect
from hartonomous.packs.publication import Publication

def die(*arguments, **named):
    os._exit(9)

def seal_and_die(self, also=None):
    self._session.flush()
    die()

{at}
with hn.open(sys.argv[1]) as store:
    {what}
"""
SEALED = "Publication.finish = seal_and_die"


def die(place: Path, what: str, *, at: str = SEALED) -> None:
    """Run ``what`` on the store in a process that ends without a word at ``at``."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(at=at, what=what), str(place)],
        check=False, timeout=60, env={**os.environ, "PYTHONPATH": SOURCE},
    )  # fmt: skip
    assert done.returncode == DIED


@pytest.fixture
def place(tmp_path: Path) -> Path:
    with hn.open(tmp_path / "store", create=True) as store:
        for name in ("one", "two"):
            (tmp_path / name).write_bytes(name.encode() * 1000)
            store.add(tmp_path / name)
    return tmp_path / "store"


def names(place: Path) -> dict[str, tuple[str, ...]]:
    with hn.open(place) as store:
        assert store.verify(files=True).faults == ()
        return {row.name: tuple(row.labels) for row in store.ls()}


def test_a_removal_that_was_not_acknowledged(place: Path) -> None:
    die(place, "store.rm('one')")
    with hn.open(place) as store:
        store.label("two", "prod")
    before = names(place)
    assert before == {"one": (), "two": ("prod",)}
    hn.repair(place)
    assert names(place) == before


def test_an_emptied_trash_that_was_not_acknowledged(place: Path) -> None:
    with hn.open(place) as store:
        store.rm("one")
    die(place, "store.gc(trash_days=0)")
    with hn.open(place) as store:
        store.undo()
    hn.repair(place)
    assert names(place) == {"one": (), "two": ()}


def test_an_add_that_was_not_acknowledged_does_not_take_the_name(place: Path) -> None:
    source = place.parent / "three"
    source.write_bytes(b"first" * 100)
    die(place, f"store.add({str(source)!r})")
    source.write_bytes(b"second" * 100)
    with hn.open(place) as store:
        store.add(source)
    report = hn.repair(place)
    assert len(report.recovered) == 1  # the first bytes are lost property
    with hn.open(place) as store:
        store.get("three", place.parent / "out")
    assert (place.parent / "out").read_bytes() == b"second" * 100


def test_the_last_add_in_doubt_may_come_back(place: Path) -> None:
    (place.parent / "three").write_bytes(b"three")
    die(place, f"store.add({str(place.parent / 'three')!r})")
    assert set(names(place)) == {"one", "two"}
    hn.repair(place)
    assert set(names(place)) in ({"one", "two"}, {"one", "two", "three"})


@pytest.mark.parametrize("at", ["packs.move = die", "collect._drop_packs = die", "packs.add = die"])
def test_a_compaction_that_was_cut_short(place: Path, at: str) -> None:
    with hn.open(place) as store:
        store.rm("one")
        store.label("two", "prod")
        for name in ("big", "junk"):  # into one pack
            (place.parent / name).write_bytes(os.urandom(100_000))
        store.add([place.parent / "big", place.parent / "junk"])
        store.rm("junk")
    if at == "collect._drop_packs = die":  # the second time, after the compaction
        at = "first = collect._drop_packs; collect._drop_packs = lambda *a: setattr(" \
             "collect, '_drop_packs', die) or first(*a)"  # fmt: skip
    die(place, "store.gc(trash_days=0, grace_s=0)", at=at)
    before = names(place)
    assert before == {"two": ("prod",), "big": ()}
    hn.repair(place)
    assert names(place) == before
    with hn.open(place) as store:
        store.gc(trash_days=0, grace_s=0)
    assert names(place) == before


@pytest.mark.parametrize("collected", [False, True])
def test_a_large_manifest_whose_writer_died_half_way(place: Path, collected: bool) -> None:
    """The next add of the same file clears what the dead writer staged, collection or not."""
    source = place.parent / "many.safetensors"
    source.write_bytes(save({f"t{i}": np.full(30, i, np.float32) for i in range(1200)}))
    die(place, f"store.add({str(source)!r})", at="manifests.finish = die")
    with hn.open(place) as store:
        if collected:
            store.gc(grace_s=0)
        [one] = store.add(source).artifacts
        assert (one.outcome, one.tensor_count) == ("added", 1200)
        store.get(one.name, place.parent / "out")
        assert (place.parent / "out").read_bytes() == source.read_bytes()
        store.gc(grace_s=0)
    assert set(names(place)) == {"one", "two", "many.safetensors"}
    assert not list((place / "locks").glob("writer-*"))


def test_a_name_used_again_after_the_trash_was_emptied(place: Path) -> None:
    """The removal is forgotten, the purged commit still in a pack: it must not take the name."""
    source = place.parent / "model"
    shared = os.urandom(600_000)
    with hn.open(place) as store:
        source.write_bytes(shared)
        store.add(source)
        store.rm("model")
        source.write_bytes(shared + b"more")
        store.add(source)
    die(place, "store.gc(trash_days=0, grace_s=0)", at="collect._compact_packs = die")
    report = hn.repair(place)
    assert report.recovered == ()
    assert set(names(place)) == {"one", "two", "model"}
    with hn.open(place) as store:
        store.get("model", place.parent / "out")
    assert (place.parent / "out").read_bytes() == shared + b"more"


def test_a_store_half_made_can_be_made_again(tmp_path: Path) -> None:
    place = tmp_path / "store"
    hn.init(place).close()
    (place / "store.json").unlink()
    with hn.init(place) as store:
        assert store.ls() == []
    with pytest.raises(hn.HartonomousError, match="already"):
        hn.init(place)
    (place / "store.json").unlink()
    (place / "packs" / "00").mkdir()
    with pytest.raises(hn.HartonomousError, match="not an empty folder"):
        hn.init(place)


def test_times_of_publications_that_never_ended() -> None:
    def entry(seq: int, time_us: int) -> dict[str, int]:
        return {"seq": seq, "time_us": time_us}

    assert unacknowledged_times([]) == set()
    assert unacknowledged_times([entry(1, 10), entry(2, 10), entry(3, 11)]) == set()
    # 20 died with two numbers; 30 took the first of them, 40 the second.
    journal = [entry(7, 20), entry(8, 20), entry(7, 30), entry(8, 40)]
    assert unacknowledged_times(journal) == {20}
    assert unacknowledged_times(reversed([*journal, entry(7, 25)])) == {20, 25}
