"""Processes that know of each other through the catalog and the directory alone: one copy of all.

Each opens the store itself, as on a machine of its own, and all begin at the same moment.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save
from sqlalchemy import select

import hartonomous as hn
from hartonomous.catalog import atoms, bases, reference_counts
from hartonomous.catalog.schema import atom, manifest

SOURCE = str(Path(hn.__file__).parents[1])
PROCESSES = 6
_ADD = """
import sys
import hartonomous as hn
with hn.open(sys.argv[1], settings={"workers": 1}) as store:
    sys.stdout.write("ready\\n")
    sys.stdout.flush()
    sys.stdin.readline()
    report = store.add(sys.argv[2:], labels=["all"])
    assert not report.skipped, report.skipped
    print(",".join(sorted(one.outcome for one in report.artifacts)))
"""


def make_family(folder: Path) -> list[str]:
    """Write a small family: a base, casts, fine-tunes of it, and files of no structure."""
    folder.mkdir()
    random = np.random.default_rng(5)
    weights = {f"layers.{n}.w": random.standard_normal((60, 64)).astype("f4") for n in range(30)}
    some = {name: np.zeros(7, "f4") for name in ("norm.a", "norm.b")}  # what all have
    (folder / "base.safetensors").write_bytes(save({**weights, **some}))
    cast = {name: value.astype("f2") for name, value in weights.items()}
    (folder / "cast.safetensors").write_bytes(save({**cast, **some}))
    for number in range(3):
        moved = {
            name: value + random.standard_normal(value.shape).astype("f4") * np.float32(1e-4)
            for name, value in weights.items()
        }
        (folder / f"tuned{number}.safetensors").write_bytes(save({**moved, **some}))
    (folder / "notes.bin").write_bytes(random.bytes(400_000))
    return sorted(map(str, folder.iterdir()))


def state_of(store: hn.Store) -> tuple[object, ...]:
    with store.parts.database.read() as tx:
        assert reference_counts.wrong_counts(tx, limit=9) == []
        assert atoms.holes(tx, limit=9) == []
        assert bases.wrong_depths(tx, limit=9) == []
        assert not tx.exec_driver_sql("SELECT * FROM writer").all()
        counts = tx.execute(select(atom.c.digest, atom.c.reference_count).order_by(atom.c.digest))
        files = tx.scalars(select(manifest.c.file_digest).order_by(manifest.c.file_digest))
        return counts.all(), files.all()


def test_of_many_that_add_one_family_each_thing_is_stored_once(
    served: hn.Store, tmp_path: Path
) -> None:
    family = make_family(tmp_path / "family")
    served.close()
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _ADD, str(served.path), *family],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": SOURCE},
        )
        for _ in range(PROCESSES)
    ]  # fmt: skip
    for child in children:
        assert child.stdout is not None and child.stdin is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    said = [child.communicate(timeout=240) for child in children]
    assert [child.returncode for child in children] == [0] * PROCESSES, said
    outcomes = [word for out, _ in said for word in out.strip().split(",")]
    assert sorted(outcomes) == ["added"] * 6 + ["unchanged"] * 6 * (PROCESSES - 1)
    with hn.init(tmp_path / "alone", catalog="sqlite") as alone:
        alone.add(family, labels=["all"])
        alone.gc(grace_s=0)
        expected = state_of(alone)
    with hn.open(served.path) as store:
        store.gc(grace_s=0)
        found = state_of(store)
        assert found[1] == expected[1]
        assert {row[0]: row[1] for row in found[0]} == {row[0]: row[1] for row in expected[0]}
        assert store.verify(files=True).sound
        assert [(one.number, one.labels) for one in store.ls(versions=True)] == [(1, ("all",))] * 6
        for path in family:
            store.get(Path(path).name, tmp_path / "out" / Path(path).name)
            assert (tmp_path / "out" / Path(path).name).read_bytes() == Path(path).read_bytes()
        card = json.loads((served.path / "store.json").read_text())
        assert card["catalog"]["engine"] == "postgresql"
