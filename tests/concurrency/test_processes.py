"""Many processes at one store, while everything is collected that nobody needs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.concurrency import crowd

import hartonomous as hn
from hartonomous.catalog import bases, reference_counts

SOURCE = str(Path(hn.__file__).parents[1])
ROOT = str(Path(__file__).parents[2])
TURNS = int(os.environ.get("HARTONOMOUS_TEST_CROWD_TURNS", "5"))


def run_crowd(place: Path, folder: Path, roles: list[list[Any]]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, crowd.__file__, str(place), str(folder), json.dumps(roles)],
        check=False, capture_output=True, text=True, timeout=280,
        env={**os.environ, "PYTHONPATH": f"{SOURCE}:{ROOT}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-8000:]
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(roles)
    return results


def test_of_twenty_processes_with_one_base_one_stores_it(tmp_path: Path) -> None:
    size = 64 << 20
    base = tmp_path / "base.bin"
    base.write_bytes(os.urandom(1 << 20) + os.urandom(63 << 20))
    place = tmp_path / "store"
    hn.init(place).close()
    results = run_crowd(place, tmp_path, [["add_same", str(base)]] * 20)
    [first] = [one for one in results if one["outcome"] == "added"]
    others = [one for one in results if one is not first]
    assert {one["outcome"] for one in others} == {"unchanged"}
    assert {tuple(one["reasons"]) for one in others} == {("file already stored",)}
    assert first["stored_bytes"] >= size
    assert {one["number"] for one in results} == {1}
    mean = sum(one["cpu_s"] for one in others) / len(others)
    print(f"CPU s: the one that stores {first['cpu_s']:.2f}, the others {mean:.2f} each")
    with hn.open(place) as store:
        stats = store.stats()
        [row] = store.ls(versions=True)
        assert row.number == 1
        packed = sum(path.stat().st_size for path in (place / "packs").rglob("*.pack"))
        assert size < packed < size * 1.02
        assert stats.logical_bytes == size
        assert store.verify().sound


def test_families_are_added_removed_and_collected_at_once(tmp_path: Path) -> None:
    place = tmp_path / "store"
    hn.init(place).close()
    adders = [["add_family", seed, TURNS] for seed in range(8)]
    results = run_crowd(place, tmp_path, [*adders, ["collect"], ["change"], ["check"]])
    print([one for one in results if one["role"] != "add_family"])
    kept: dict[str, int] = {}
    for one in results:
        kept.update(one.get("kept", {}))
    with hn.open(place) as store:
        check_all(store, kept, tmp_path / "out")
        store.gc(trash_days=0, grace_s=0)
        check_all(store, kept, tmp_path / "out2")
        again = store.gc(trash_days=0, grace_s=0)
        assert (again.manifest_count, again.atom_count, again.litter_count) == (0, 0, 0)
        assert again.pack_count == again.compacted_count == 0
        known = {path.stem for path in (place / "packs").rglob("*.pack")}
        assert len(known) == store.stats().pack_count
        with store.parts.database.read() as tx:
            assert not tx.exec_driver_sql("SELECT * FROM writer").all()
            assert not tx.exec_driver_sql("SELECT * FROM manifest WHERE counted = 0").all()
            assert reference_counts.wrong_counts(tx, limit=10) == []
            assert bases.wrong_depths(tx, limit=10) == []
        assert not list((place / "locks").glob("writer-*"))
        assert not list((place / "tmp").iterdir())


def check_all(store: hn.Store, kept: dict[str, int], out: Path) -> None:
    assert store.verify(files=True).faults == ()
    listed = {row.name for row in store.ls()} - {"changed.bin", "moved.bin"}
    assert listed == set(kept)
    store.export_all(out)
    for name, number in kept.items():
        assert (out / name).read_bytes() == crowd.family_file(number)
