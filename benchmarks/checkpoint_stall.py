"""Checkpoint stall: by how much a training loop is held up by saving 200 MB of weights.

A small network is trained in PyTorch on the processor, in a process of its own. In each round some
steps run without a save, and the same number while one checkpoint is saved: by ``torch.save`` in
the loop, by ``torch.save`` of a copy in a thread, and by ``hartonomous.Checkpoints``. *call* is how
long the loop stands still; *stall* is the wall time of save and steps together above the same steps
alone, so it counts what the background work takes from the processor too. torch.save does not sync;
what it wrote is synced before the next round begins.
"""

import json
import os
import shutil
import sys
import sysconfig

from context import Context, Result
from measure import run as run_command
from peers.hartonomous_store import environment
from peers.peer import UnavailableError, package_version, python_with
from peers.zipnn import TORCH
from tables import table

ROUNDS = 5
_WAYS = ("torch.save", "torch.save in a thread", "hartonomous")
_LOOP = """
import json, os, sys, threading, time
import torch
import hartonomous as hn
work, layers, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.manual_seed(1)
model = torch.nn.Sequential(*[torch.nn.Linear(2048, 2048, bias=False) for _ in range(layers)])
optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
inputs = torch.randn(16, 2048)

def steps(count):
    taken = []
    for _ in range(count):
        begun = time.perf_counter()
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
        taken.append(time.perf_counter() - begun)
    return taken

def plain(step):
    torch.save(model.state_dict(), f"{work}/plain.pt")
    return lambda: None

def threaded(step):
    copy = {name: one.detach().clone() for name, one in model.state_dict().items()}
    thread = threading.Thread(target=torch.save, args=(copy, f"{work}/thread.pt"))
    thread.start()
    return thread.join

with hn.open(f"{work}/store", create=True) as store, hn.Checkpoints("run", store=store) as run:
    def stored(step):
        run.save(step, model)
        return run.wait
    ways = {"torch.save": plain, "torch.save in a thread": threaded, "hartonomous": stored}
    steps(3)
    for way in ways.values():  # once each, so that files, memory and threads are there
        way(0)()
    figures = {name: [] for name in ways}
    for turn in range(rounds):
        for name, way in ways.items():
            os.sync()
            alone = steps(10)
            begun = time.perf_counter()
            finish = way(turn + 1)
            call = time.perf_counter() - begun
            beside = steps(10)
            together = time.perf_counter() - begun
            finish()
            done = time.perf_counter() - begun
            figures[name].append([
                sorted(alone)[5], call, max(beside), together - sum(alone), done])
    size = sum(one.numel() * one.element_size() for one in model.parameters())
print(json.dumps({"bytes": size, "figures": figures}))
"""


def run(context: Context) -> Result:
    """Measure a network of 200 MB, 34 MB when quick."""
    try:
        python = python_with("numpy", context.tools, first=TORCH)
    except UnavailableError as error:
        return Result(text=f"checkpoints: not run: {error}\n", figures={"not run": str(error)})
    context.versions["torch"] = package_version(python, "torch")
    work = context.work / "checkpoints"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    # The package's dependencies are those of this interpreter, behind torch's own.
    paths = [environment()["PYTHONPATH"], sysconfig.get_path("purelib")]
    try:
        done = run_command(
            [str(python), "-c", _LOOP, str(work), "2" if context.quick else "12", str(ROUNDS)],
            env={**environment(), "PYTHONPATH": os.pathsep.join(paths)},
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if not done.ok:
        return Result(text=f"checkpoints: failed: {done.output}\n", figures={"failed": done.output})
    found = json.loads(done.output.splitlines()[-1])
    rows = [[way, *map(_median, zip(*found["figures"][way], strict=True))] for way in _WAYS]
    head = ["saved by", "step alone s", "call s", "longest step s", "stall s", "until saved s"]
    size = found["bytes"] / 1e6
    title = f"checkpoints: a save of {size:.0f} MB beside ten training steps, median of {ROUNDS}"
    return Result(text=table(title, head, rows), figures=found)


def _median(values: tuple[float, ...]) -> float:
    return sorted(values)[len(values) // 2]


if __name__ == "__main__":
    sys.exit("python benchmarks/run.py --only checkpoints")
