"""Parts dropped from versions: what is left, undoing, freeing, and rebuilding it all from packs."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

import hartonomous as hn
from hartonomous.errors import NotFoundError, UsageError

RESCUE = Path(hn.__file__).parent / "packs" / "rescue.py"
OPTIMIZER = "optimizer.safetensors"


def tensors(seed):
    return {"w": np.random.default_rng(seed).standard_normal((200, 300), dtype=np.float32)}


def state(seed):
    return {"state": {0: {"exp_avg": tensors(seed + 100)["w"]}}, "param_groups": [{"params": [0]}]}


def save_step(store, step):
    return store.add_tensors(tensors(step), "run", optimizer=state(step), step=step)


def paths(store, spec="run"):
    return [file.path for file in store.show(spec).files]


def restored(store, tmp_path, spec):
    folder = tmp_path / f"got-{spec.replace('@', '-')}"
    shutil.rmtree(folder, ignore_errors=True)
    store.get(spec, folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_what_is_left_is_whole_and_the_version_says_what_is_gone(store, tmp_path):
    before = save_step(store, 1)
    done = store.drop("run", "optimizer")
    assert (done.action, done.changed, done.versions) == ("drop-members", True, ("run@1",))
    shown = store.show("run@step-1")
    assert [file.path for file in shown.files] == ["model.safetensors"]
    assert [(one.path, one.sequence) for one in shown.dropped] == [(OPTIMIZER, done.sequence)]
    assert shown.digest != before.digest
    assert shown.model["training"] == {"has_optimizer_state": False, "step": 1}
    assert shown.logical_bytes == shown.files[0].logical_bytes
    assert list(restored(store, tmp_path, "run")) == ["model.safetensors"]
    assert store.ls()[0].file_count == 1
    assert store.verify(files=True).sound
    assert store.log(limit=1)[0].detail == f"{OPTIMIZER} dropped"
    again = store.drop("run", "optimizer")
    assert (again.changed, again.sequence) == (False, None)


def test_a_dry_run_changes_nothing(store):
    save_step(store, 1)
    foreseen = store.drop("run", "optimizer", dry_run=True)
    assert foreseen.dry_run and foreseen.changed
    assert len(paths(store)) == 2


def test_undo_brings_the_files_back(store, tmp_path):
    before = save_step(store, 1)
    exact = restored(store, tmp_path, "run")
    store.drop("run", "optimizer")
    store.gc(grace_s=0)  # within the trash's time nothing of it goes
    assert store.undo().versions == ("run@1",)
    assert store.show("run").digest == before.digest
    assert store.show("run").dropped == ()
    assert restored(store, tmp_path, "run") == exact
    assert store.verify(files=True).sound


def test_gc_frees_the_bytes_and_then_undo_is_refused(store, tmp_path):
    save_step(store, 1)
    exact = restored(store, tmp_path, "run")
    done = store.drop("run", "optimizer")
    before = store.stats()
    foreseen = store.gc(trash_days=0, grace_s=0, dry_run=True)
    collected = store.gc(trash_days=0, grace_s=0)
    assert collected.manifest_count == foreseen.manifest_count == 1
    assert collected.atom_count == foreseen.atom_count == 2  # the tensor, and the header
    assert sum_of(store.stats()) < sum_of(before)
    with pytest.raises(NotFoundError, match="freed"):
        store.undo(done.sequence)
    with pytest.raises(NotFoundError, match="nothing to undo"):
        store.undo()
    assert store.log(only_undoable=True) == ()
    assert [one.undoable for one in store.log()] == [False, False]
    store.label("run", "best")
    assert store.undo().detail.startswith("label ")
    assert restored(store, tmp_path, "run") == {"model.safetensors": exact["model.safetensors"]}
    assert store.verify(files=True).sound


def sum_of(stats):
    return stats.disk_bytes["packs"]


def test_the_same_files_again_are_another_version(store):
    save_step(store, 1)
    store.drop("run", "optimizer")
    assert save_step(store, 1).number == 2
    assert paths(store, "run@step-1") == ["model.safetensors", OPTIMIZER]
    assert paths(store, "run@1") == ["model.safetensors"]


@pytest.mark.parametrize("freed", [False, True])
def test_a_rebuilt_catalog_knows_what_was_dropped(tmp_path, freed):
    place = tmp_path / "store"
    with hn.open(place, create=True) as store:
        for step in range(3):
            save_step(store, step)
        store.drop("run@1", "optimizer")
        taken_back = store.drop("run@2", "optimizer").sequence
        store.undo(taken_back)
        if freed:
            store.gc(trash_days=0, grace_s=0)
        expected = {number: restored(store, tmp_path, f"run@{number}") for number in (1, 2, 3)}
        digests = [one.digest for one in store.ls(versions=True)]
    report = hn.repair(place)
    assert (report.lost, report.damaged, report.recovered) == ((), (), ())
    with hn.open(place) as store:
        assert [one.digest for one in store.ls(versions=True)] == digests
        for number, files in expected.items():
            assert restored(store, tmp_path, f"run@{number}") == files
        assert [one.path for one in store.show("run@1").dropped] == [OPTIMIZER]
        assert store.verify(files=True).sound
        if not freed:
            store.undo(store.show("run@1").dropped[0].sequence)
            assert len(paths(store, "run@1")) == 2


def test_a_purged_version_takes_its_dropped_files_along(tmp_path):
    place = tmp_path / "store"
    with hn.open(place, create=True) as store:
        save_step(store, 1)
        save_step(store, 2)
        store.drop("run@1", "optimizer")
        store.rm("run@1")
        store.gc(trash_days=0, grace_s=0)
        assert store.verify(files=True).sound
    report = hn.repair(place)
    assert (report.lost, report.recovered) == ((), ())
    with hn.open(place) as store:
        assert [one.number for one in store.ls(versions=True)] == [2]


@pytest.mark.parametrize("freed", [False, True])
def test_the_rescue_script_restores_what_is_left(store, tmp_path, freed):
    save_step(store, 1)
    save_step(store, 2)
    store.drop("run@1", "optimizer")
    sequence = store.drop("run@2", "optimizer").sequence
    store.undo(sequence)
    if freed:
        store.gc(trash_days=0, grace_s=0)
    out = tmp_path / "rescued"
    done = subprocess.run(
        [sys.executable, str(RESCUE), "restore", str(store.path), str(out), "--all-versions"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert found == {
        "run@1/model.safetensors", "run@2/model.safetensors", f"run@2/{OPTIMIZER}",
    }  # fmt: skip


def folder_with(tmp_path, **files):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return folder


def test_weights_of_a_folder_can_be_dropped_and_come_back_in_order(store, tmp_path):
    weights = save(tensors(1))
    folder = folder_with(
        tmp_path, config__json=b'{"model_type": "bert"}', model__safetensors=weights,
        optimizer__safetensors=save({"state.0.exp_avg": tensors(2)["w"]}),
        rng_state__pth=b"some bytes of no format",
    )  # fmt: skip
    store.add(folder, name="run")
    whole = paths(store)
    first = store.drop("run", "weights")
    assert paths(store) == ["config.json", "optimizer.safetensors", "rng_state.pth"]
    second = store.drop("run", "optimizer")
    assert paths(store) == ["config.json"]
    store.undo(first.sequence)
    assert paths(store) == ["config.json", "model.safetensors"]
    assert store.verify(files=True).sound
    store.undo(second.sequence)
    assert paths(store) == whole
    assert restored(store, tmp_path, "run") == {
        path.name: path.read_bytes() for path in sorted(folder.iterdir())
    }


def test_what_cannot_be_dropped_is_refused(store, tmp_path):
    mixed = save({"model.w": tensors(1)["w"], "optimizer.state.0.exp_avg": tensors(2)["w"]})
    folder = folder_with(tmp_path, both__safetensors=mixed)
    store.add(folder / "both.safetensors", name="both")
    store.add_tensors(tensors(1), "plain")
    for spec, part, error, said in [
        ("both", "optimizer", UsageError, "in one file"),
        ("plain", "optimizer", NotFoundError, "has no optimizer"),
        ("plain", "weights", UsageError, "nothing but its weights"),
        ("plain", "config", UsageError, "unknown"),
        ("none", "weights", NotFoundError, "none"),
    ]:
        with pytest.raises(error, match=said):
            store.drop(spec, part)
    assert len(store.log()) == 2


def test_reading_a_dropped_tensor_says_that_it_is_not_there(store):
    save_step(store, 1)
    assert "state.0.exp_avg" in store.tensors("run")
    store.drop("run", "optimizer")
    assert "state.0.exp_avg" not in store.tensors("run")
    with pytest.raises(NotFoundError):
        store.tensor("run", "state.0.exp_avg")
