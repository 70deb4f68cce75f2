"""Backup, restore and push that are killed at any moment: nothing half made, the next goes on."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from killed_child import run_and_kill
from safetensors.numpy import save

import hartonomous as hn
from hartonomous.opening import check_backups, list_backups

pytestmark = pytest.mark.usefixtures("catalog_engine")

ROUNDS = 8

_BACKUP = """
import sys
import hartonomous as hn
with hn.open(sys.argv[1]) as store:
    print("began", flush=True)
    for count in range(1000):
        store.add(hn.__file__, name=f"more{count}")
        store.backup(sys.argv[1] + ".backup", keep=2)
"""
_RESTORE = """
import sys
import hartonomous as hn
print("began", flush=True)
hn.restore(sys.argv[1] + ".backup", sys.argv[1] + ".again")
"""
_PUSH = """
import sys
import hartonomous as hn
from hartonomous.packs import receiving
from hartonomous.operations import transfer
transfer._PUBLISH_BYTES = receiving._PACK_BYTES = 1 << 20
with hn.open(sys.argv[1]) as store, hn.open(sys.argv[1] + ".other") as other:
    print("began", flush=True)
    store.push(other)
"""


def listed(store):
    return [
        (one.name, one.number, one.digest, one.labels, one.created_us)
        for one in store.ls(versions=True)
    ]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a store of some twenty megabytes, a third of it fine-tunes."""
    base = np.random.default_rng(0).standard_normal((500, 1000)).astype(np.float32)
    with hn.open(tmp_path / "store", create=True, settings={"pack_bytes": 2 << 20}) as store:
        for number in range(10):
            change = np.random.default_rng(number).standard_normal(base.shape) * 1e-3 * number
            path = tmp_path / f"model{number}.safetensors"
            path.write_bytes(save({"w": (base + change).astype(np.float32)}))
            store.add(path, labels=["prod"])
        for number in range(10):
            path = tmp_path / f"noise{number}"
            path.write_bytes(random.Random(number).randbytes(700_000))
            store.add(path)
    return tmp_path / "store"


@pytest.fixture
def chance() -> random.Random:
    seed = random.SystemRandom().getrandbits(31)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.mark.timeout(600)
def test_a_backup_that_is_killed(place, chance, tmp_path):
    folder = Path(f"{place}.backup")
    for _ in range(ROUNDS):
        run_and_kill(_BACKUP, place, chance, within_s=0.6)
        if (folder / "backup.json").exists():
            assert check_backups(folder).faults == ()
    with hn.open(place) as store:
        done = store.backup(folder, keep=1)
        assert done.faults == ()
        assert check_backups(folder).faults == ()
        assert [one.name for one in list_backups(folder)] == [done.snapshot]
        hn.restore(folder, tmp_path / "again")
        with hn.open(tmp_path / "again") as again:
            assert listed(again) == listed(store)
            assert again.verify(files=True).faults == ()
    assert list((folder / "tmp").iterdir()) == []
    kept = {path.name for path in (folder / "packs").rglob("*.pack")}
    assert kept == {path.name for path in (tmp_path / "again" / "packs").rglob("*.pack")}


@pytest.mark.timeout(600)
def test_a_restore_that_is_killed(place, chance):
    with hn.open(place) as store:
        store.backup(f"{place}.backup")
        said = listed(store)
    target = Path(f"{place}.again")
    resumed = 0
    for _ in range(ROUNDS):
        run_and_kill(_RESTORE, place, chance, within_s=0.12)
        if not (target / "store.json").exists():
            done = hn.restore(f"{place}.backup", target, dry_run=True)
            assert done.id is None
            continue
        with hn.open(target) as again:
            assert listed(again) == said
        shutil.rmtree(target)
    if not (target / "store.json").exists():
        resumed = hn.restore(f"{place}.backup", target).resumed_bytes
    print(f"{resumed} bytes were there already")
    with hn.open(target) as again:
        assert listed(again) == said
        assert again.verify(files=True).faults == ()
    assert list((target / "tmp").iterdir()) == []


@pytest.mark.timeout(600)
def test_a_push_that_is_killed(place, chance):
    other = Path(f"{place}.other")
    hn.init(other).close()
    for _ in range(ROUNDS):
        run_and_kill(_PUSH, place, chance, within_s=0.25)
        with hn.open(other) as store:
            assert store.verify(quick=True).faults == ()
            names = {one.name for one in store.ls()}
    with hn.open(place) as store, hn.open(other) as received:
        done = store.push(received)
        assert done.version_count == len(store.ls()) - len(names)
        assert listed(received) == listed(store)
        received.gc(trash_days=0, grace_s=0)
        assert listed(received) == listed(store)
        assert received.verify(files=True).faults == ()
        assert store.push(received).carried == ()
    assert list((other / "tmp").iterdir()) == []
    assert not list((other / "locks").glob("writer-*"))
