"""Encoders: passages of 256 tokens a CPU-second, f32 and int8, beside torch, and what int8 costs.

The model is the demo's (22.7 million parameters). Passages are cut out of this repository's pages,
long enough that 256 tokens count of each. Each contender encodes the same ones on one thread, in
turns; medians of three count, one when quick. CPU-seconds are those of the process that computes,
without starting and loading, which are told apart. torch runs transformers' model with mean
pooling, as sentence-transformers does, in an environment that has that; the variable
``BENCHMARK_TORCH_PYTHON`` names an interpreter that has torch and transformers already.
"""

import json
import os
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from context import Context, Result
from peers import UnavailableError
from peers.peer import package_version, python_with
from peers.zipnn import TORCH
from tables import table

import hartonomous as hn
from hartonomous.errors import HartonomousError
from hartonomous.operations.demo_base import fetch_base

_ROOT = Path(__file__).resolve().parent.parent
_WORDS = 280
_NEAREST = 10
_TORCH = """
import json, sys, time
import numpy, torch
from transformers import AutoModel, AutoTokenizer
torch.set_num_threads(1)
texts = json.load(open(sys.argv[2]))
started = time.process_time()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModel.from_pretrained(sys.argv[1]).eval()
loading_s = time.process_time() - started
def encode(some):
    given = tokenizer(some, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        states = model(**given).last_hidden_state
    mask = given["attention_mask"][:, :, None].float()
    mean = (states * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(mean, dim=1)
encode(texts[:1])
started = time.process_time()
found = torch.cat([encode(texts[at:at + 32]) for at in range(0, len(texts), 32)])
used_s = time.process_time() - started
numpy.save(sys.argv[3], found.numpy())
print(json.dumps({"used_s": used_s, "loading_s": loading_s}))
"""


def run(context: Context) -> Result:
    """Measure; FACTS of an earlier measurement: f32 16 to 18 passages, int8 24 to 31."""
    try:
        base = fetch_base(
            context.files / "family-base", cache=context.files, from_path=context.model
        )
    except HartonomousError as error:
        return Result(text=f"encoders: not run: {error}\n", figures={"not_run": str(error)})
    texts = passages(32 if context.quick else 128)
    context.work.mkdir(parents=True, exist_ok=True)
    rounds = 1 if context.quick else 3
    python = _torch_python(context)
    rates: dict[str, list[float]] = {}
    loading: dict[str, float] = {}
    vectors: dict[str, np.ndarray] = {}
    with (
        tempfile.TemporaryDirectory(dir=context.work) as place,
        hn.open(Path(place) / "store", create=True, settings={"workers": 1}) as store,
    ):
        store.encoders.add(base, name="f32")
        store.encoders.add("f32", name="int8", quantisation="int8")
        for _ in range(rounds):
            for name in ("f32", "int8"):
                used_s, loading[name], vectors[name] = _ours(store, name, texts)
                rates.setdefault(name, []).append(len(texts) / used_s)
            if isinstance(python, Path):
                used_s, loading["torch f32"], vectors["torch f32"] = _torch(
                    python, base, texts, Path(place)
                )
                rates.setdefault("torch f32", []).append(len(texts) / used_s)
    rows = [
        [name, statistics.median(some), loading[name], *_agreement(vectors["f32"], vectors[name])]
        for name, some in rates.items()
    ]
    head = ["encoder", "passages/CPU-s", "start and load, CPU-s", "largest difference to f32",
            "least cosine", "mean cosine", f"of f32's nearest {_NEAREST}"]  # fmt: skip
    title = f"encoders: {len(texts)} passages of 256 tokens, one thread"
    figures: dict[str, Any] = {
        str(row[0]): dict(zip(head[1:], row[1:], strict=True)) for row in rows
    }
    text = table(title, head, rows)
    if isinstance(python, str):
        text += f"\ntorch: not run: {python}\n"
        figures["torch f32"] = {"not_run": python}
    else:
        for one in ("torch", "transformers"):
            context.versions[one] = package_version(python, one)
    return Result(text=text, figures=figures)


def passages(count: int) -> list[str]:
    """Return pieces of this repository's pages, each longer than what counts of it."""
    words: list[str] = []
    for path in sorted([*_ROOT.glob("*.md"), *_ROOT.glob("docs/**/*.md")]):
        words += re.findall(r"\S+", path.read_text(encoding="utf-8"))
    step = max(1, (len(words) - _WORDS) // count)
    return [" ".join(words[at * step : at * step + _WORDS]) for at in range(count)]


def _ours(store: hn.Store, name: str, texts: list[str]) -> tuple[float, float, np.ndarray]:
    encoder = store.encoders.get(name)
    try:
        before = _children_cpu_s() + time.process_time()
        encoder.encode_texts(texts[:1])
        loaded = _children_cpu_s() + time.process_time()
        found = encoder.encode_texts(texts)
        return _children_cpu_s() + time.process_time() - loaded, loaded - before, found
    finally:
        encoder.close()


def _children_cpu_s() -> float:
    """Return the processor time of this process's living children."""
    ticks = 0
    for path in Path("/proc/self/task").glob("*/children"):
        for pid in path.read_text(encoding="ascii").split():
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2]
            ticks += sum(map(int, fields.split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _torch(
    python: Path, base: Path, texts: list[str], place: Path
) -> tuple[float, float, np.ndarray]:
    """Return (CPU-seconds, those of loading, vectors) of transformers on torch."""
    given, out = place / "texts.json", place / "torch.npy"
    given.write_text(json.dumps(texts), encoding="utf-8")
    done = subprocess.run(
        [python, "-c", _TORCH, str(base), str(given), str(out)],
        stdout=subprocess.PIPE, text=True, timeout=3600, check=True,
        env={**os.environ, "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    told = json.loads(done.stdout.splitlines()[-1])
    return told["used_s"], told["loading_s"], np.load(out)


def _torch_python(context: Context) -> Path | str:
    """Return an interpreter with torch and transformers, or why there is none."""
    if "torch" in context.skip:
        return "left out by --skip"
    named = os.environ.get("BENCHMARK_TORCH_PYTHON")
    if named:
        return Path(named)
    try:
        return python_with("transformers", context.tools, first=TORCH)
    except UnavailableError as error:
        return str(error)


def _agreement(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float, float]:
    """Return the largest difference of two numbers, the least and mean cosine, and the share of
    nearest passages that both have.
    """
    cosines = (first * second).sum(axis=1)
    nearest = []
    for one in (first, second):
        scores = one @ one.T
        np.fill_diagonal(scores, -2)
        nearest.append(np.argsort(-scores, axis=1)[:, :_NEAREST])
    shared = [len(set(a) & set(b)) / _NEAREST for a, b in zip(*nearest, strict=True)]
    return (
        float(np.abs(first - second).max()),
        float(cosines.min()),
        float(cosines.mean()),
        float(np.mean(shared)),
    )
