"""What a job tells while it runs: its stage, bytes, and how many things it has processed."""

import numpy as np
import pytest
from safetensors.numpy import save_file

import hartonomous as hn
from hartonomous.worker.kinds import Work, checked
from hartonomous.worker.running import JobProgress


@pytest.fixture
def store(tmp_path):
    """Return an empty store."""
    with hn.open(tmp_path / "store", create=True) as opened:
        yield opened


@pytest.fixture
def run(store):
    """Return what runs a job's work here and gives its progress and outcome."""

    def run(kind, arguments):
        progress = JobProgress()
        found, given = checked(kind, arguments)
        return progress, found.run(Work(store.parts, store.settings, progress), given)

    return run


@pytest.fixture
def models(tmp_path):
    """Return a folder of three models, two of which are alike."""
    folder = tmp_path / "models"
    folder.mkdir()
    rng = np.random.default_rng(9)
    weights = rng.standard_normal((64, 64)).astype(np.float32)
    for at, array in enumerate([weights, weights * np.float32(1.001), weights.T.copy()]):
        save_file({"w": array}, folder / f"{at}.safetensors")
    return folder


@pytest.mark.parametrize("kind", ["verify", "repack", "gc", "repair", "views", "embed"])
def test_things_are_counted_while_a_job_runs(store, models, run, kind):
    """At the end as many were told as the job counts."""
    (models / "notes.md").write_text("# Weights\n\nThree matrices that came from one seed.\n")
    progress, outcome = run("add", {"paths": [str(models)]})
    assert progress.report().record_count == outcome.record_count == 4
    if kind == "gc":
        for one in store.ls():
            store.rm(one.name)
    arguments = {
        "gc": {"trash_days": 0, "grace_s": 0},
        "repack": {"again": True},
        "embed": {"encoder": "ngrams"},
    }
    progress, outcome = run(kind, arguments.get(kind, {}))
    told = progress.report().record_count
    assert told > 0
    if kind not in ("repair", "embed"):  # which read records and files before what they count
        assert told == outcome.record_count
