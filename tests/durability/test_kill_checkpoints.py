"""A training that is killed while it saves has every checkpoint that it was told is safe."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hartonomous as hn

SOURCE = str(Path(hn.__file__).parents[1])
ROUNDS = 3
_LOOP = """
import sys
import numpy as np
import hartonomous as hn
first = int(sys.argv[2])
def tensors(step):
    return {"w": np.random.default_rng(step).standard_normal((400, 500), dtype=np.float32)}
with hn.Checkpoints("run", keep="weights:all,optimizer:2", store=sys.argv[1]) as run:
    if run.latest() is not None:
        run.load()
    for step in range(first, first + 1000):
        state = {"state": {0: {"exp_avg": tensors(step + 5000)["w"]}}, "param_groups": [step]}
        print("saving", step, flush=True)
        run.save(step, tensors(step), state)
        run.wait()
        print("saved", step, flush=True)
"""


def tensors(step):
    return {"w": np.random.default_rng(step).standard_normal((400, 500), dtype=np.float32)}


def killed_while_saving(place, first, chance):
    """Train until a few steps are saved, then kill it in one; return the acknowledged steps."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("HARTONOMOUS_")}
    program = subprocess.Popen(
        [sys.executable, "-c", _LOOP, str(place), str(first)],
        stdout=subprocess.PIPE, text=True, env=kept | {"PYTHONPATH": SOURCE},
    )  # fmt: skip
    saved = []
    try:
        wanted = first + chance.randrange(1, 4)
        for line in program.stdout:
            word, step = line.split()
            if word == "saved":
                saved.append(int(step))
            elif int(step) > wanted:
                break
        try:
            program.wait(chance.random() * 0.2)  # somewhere in the save, or between two
        except subprocess.TimeoutExpired:
            program.send_signal(signal.SIGKILL)
        saved += [int(line.split()[1]) for line in program.stdout if line.startswith("saved")]
    finally:
        program.kill()
        program.wait()
        program.stdout.close()
    return saved


@pytest.mark.timeout(600)
def test_acknowledged_checkpoints_survive(tmp_path):
    chance = random.Random()
    place = tmp_path / "store"
    hn.init(place).close()
    acknowledged = []
    for turn in range(ROUNDS):
        acknowledged += killed_while_saving(place, 100 * turn, chance)
        assert acknowledged
        check(place, acknowledged)
    report = hn.repair(place)
    assert (report.damaged, report.lost) == ((), ())
    check(place, acknowledged)


def check(place, acknowledged):
    with hn.open(place) as store, hn.Checkpoints("run", store=store) as run:
        assert set(acknowledged) <= set(run.steps())
        for step in acknowledged:
            assert np.array_equal(run.load(step).model["w"], tensors(step)["w"])
        newest = run.load()
        expected = tensors(newest.step + 5000)["w"]
        assert np.array_equal(newest.optimizer["state"][0]["exp_avg"], expected)
        assert newest.optimizer["param_groups"] == [newest.step]
        assert store.verify(files=True).sound
