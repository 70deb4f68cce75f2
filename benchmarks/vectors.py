"""Indexes of vectors: rate, recall, size, merges, filters, and other engines on the same vectors.

The vectors are the definitions of WordNet (Debian's package ``wordnet-base``), encoded by the model
of the demo's wheel: 117,033 of 384 dimensions, of which 1,000 are the queries. They are encoded
once and kept in ``files/glosses.npy``; when quick, 20,000 of them are taken. One query at a time,
one thread; seconds are those of the processor, and what builds may use all cores. A peer whose
build or search takes more than ``_LIMIT_S`` is stopped, and the table says so. Syncs are counted in
builds of their own: Qdrant's takes three times as long when it is traced.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from context import Context, Result
from peers.peer import UnavailableError, package_version, python_with
from peers.zipnn import TORCH
from tables import table

from hartonomous.operations.demo_base import fetch_base

_HERE = Path(__file__).resolve().parent
_SYNCS = "fsync,fdatasync,msync,sync_file_range,syncfs,sync"
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1",
    "LANCE_CPU_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
}  # fmt: skip
_LIMIT_S = 400
_QUICK_ROWS = 20_000
PEERS = {
    "usearch": ("numpy",),
    "lancedb": ("numpy",),
    "qdrant-edge-py": ("numpy",),
    "sqlite-vec": ("numpy", "apsw"),
}
"""Packages of the index, with what else their environment needs here."""


def run(context: Context) -> Result:
    """Measure ours, then each peer in a process and an environment of its own."""
    path = _vectors(context)
    folder = context.work / "vectors"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    few = folder / "some.npy"
    np.save(few, np.load(path, mmap_mode="r")[:_QUICK_ROWS])
    if context.quick:
        path = few
    queries = 200 if context.quick else 1000
    try:
        ours = _ours(path, folder, queries)
        peers = {
            name: _peer(context, name, path, few, folder, queries)
            for name in PEERS if name not in context.skip
        }  # fmt: skip
        return Result(
            text="\n".join([_promises(ours), _beside(ours, peers, context.versions)]),
            figures={"ours": ours, "peers": peers},
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ours(path: Path, folder: Path, queries: int) -> dict[str, Any]:
    script, rates = _HERE / "vector_rates.py", folder / "rates.json"
    _call(sys.executable, script, path, folder / "ours", rates, queries)
    ours: dict[str, Any] = json.loads(rates.read_text(encoding="utf-8"))
    for kind in ("scan", "graph"):
        ours[f"{kind}_syncs"] = _traced(
            folder, sys.executable, script, "--build", kind, path, folder / f"traced-{kind}",
            queries,
        )  # fmt: skip
    return ours


def _vectors(context: Context) -> Path:
    """Return the file of vectors; encode them if they are not there."""
    path = context.files / "glosses.npy"
    if path.exists():
        return path
    folder = context.work / "wordnet"
    folder.mkdir(parents=True, exist_ok=True)
    _call("apt-get", "download", "wordnet-base", cwd=folder)
    (package,) = folder.glob("wordnet-base*.deb")
    _call("dpkg-deb", "-x", package, folder)
    model = fetch_base(context.files / "family-base", cache=context.files, from_path=context.model)
    python = python_with("transformers", context.tools, first=TORCH)
    words = folder / "usr" / "share" / "wordnet"
    _call(python, _HERE / "gloss_encoding.py", words, model, path)
    shutil.rmtree(folder)
    return path


def _call(
    *words: object, cwd: Path | None = None, alone: bool = True, limit_s: float | None = None
) -> None:
    """Run a command to its end, on one thread if ``alone``; raises OSError when it fails."""
    with subprocess.Popen(
        [str(word) for word in words], cwd=cwd,
        env={**os.environ, **(_ONE_THREAD if alone else {})},
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            _, errors = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # what strace runs goes on without it
            raise OSError(f"stopped after {limit_s} s") from None
    if process.returncode:
        last = (errors.strip().splitlines() or ["no reason given"])[-1]
        raise OSError(f"exit code {process.returncode}: {last}")


def _traced(folder: Path, *words: object, **how: Any) -> int | None:
    """Run a command and return how often it synced; None where strace is not installed."""
    if shutil.which("strace") is None:
        _call(*words, **how)
        return None
    out = folder / "strace.txt"
    _call("strace", "-f", "--seccomp-bpf", "-e", f"trace={_SYNCS}", "-o", out, *words, **how)
    calls = re.compile(rf"\b({_SYNCS.replace(',', '|')})\(")
    return sum(bool(calls.search(line)) for line in out.read_text(encoding="utf-8").splitlines())


def _peer(
    context: Context, name: str, path: Path, few: Path, folder: Path, queries: int
) -> dict[str, Any]:
    """Return the figures of a peer, or why it was not run; its syncs are those of ``few`` rows."""
    place, out = folder / name, folder / f"{name}.json"
    figures: dict[str, Any] = {}
    try:
        python = python_with(name, context.tools, beside=PEERS[name])
        context.versions[name] = package_version(python, name)
        for act in ("build", "search"):
            words = (python, _HERE / "vector_peers.py", name, act, path, place, out, queries)
            print(f"vectors: {name}, {act}", file=sys.stderr, flush=True)
            _call(*words, alone=act == "search", limit_s=_LIMIT_S)
            figures |= json.loads(out.read_text(encoding="utf-8"))
        print(f"vectors: {name}, syncs", file=sys.stderr, flush=True)
        figures["syncs"] = _traced(
            folder, python, _HERE / "vector_peers.py", name, "build", few, folder / "traced", out,
            queries, alone=False, limit_s=_LIMIT_S,
        )  # fmt: skip
    except (UnavailableError, subprocess.CalledProcessError, OSError) as error:
        figures["not_run"] = str(error)
    shutil.rmtree(place, ignore_errors=True)
    shutil.rmtree(folder / "traced", ignore_errors=True)
    return figures


def _promises(ours: dict[str, Any]) -> str:
    """Return the table of what is promised."""
    one, ten, tail = ours["one"], ours["ten"], ours["tail"]
    rows: list[list[object]] = [
        ["scan, best 100 rescored: recall@10", one["recall"], "0.995"],
        ["  times the rate of exact numpy", one["rate"] / ours["numpy"]["rate"], "10"],
        ["  bytes a vector", ours["bytes"], f"{ours['dimension'] / 4 * 1.05:.1f}"],
        ["  open, files mapped and hashed: ms", ours["open_ms"], "20"],
        ["  open until the first hit: ms", ours["first_ms"], ""],
        [f"{ours['ten_segments']} segments: rate beside one", ten["rate"] / one["rate"], "0.6"],
        ["  recall lost", one["recall"] - ten["recall"], "0.002"],
        ["merge of them beside a rebuild: time", ours["merge_s"] / ours["rebuild_s"], "0.2"],
        ["  recall@10 after it", ours["merged"]["recall"], "0.995"],
        [f"{ours['nine_segments']} segments, tail of {ours['tail_rows']:,}, 10 % removed: recall",
         tail["recall"], "0.995"],
        ["  queries/s", tail["rate"], ""],
        ["  removed vectors found", ours["dead_found"], "0"],
        ["deleted and rebuilt: queries with the same ids", ours["same_ids"], "1.0"],
    ]  # fmt: skip
    for share, found_rate, found_recall, full in ours["filters"]:
        rows.append([f"filter that keeps {share:.0%}: recall@10", found_recall, "0.99"])
        rows.append(["  queries with 10 hits", full, "1.0"])
        rows.append(["  queries/s", found_rate, ""])
    title = (
        f"vectors: {ours['rows']:,} × {ours['dimension']}, cosine, {ours['queries']:,} queries,"
        " one at a time"
    )
    return table(title, ["", "measured", "goal"], rows)


def _beside(
    ours: dict[str, Any], peers: dict[str, dict[str, Any]], versions: dict[str, str]
) -> str:
    """Return the table of engines."""
    rows: list[list[object]] = [
        ["numpy, exact", None, ours["numpy"]["rate"], 1.0, 0.0, 0.0, None],
        ["hartonomous scan", ours["queries"], ours["one"]["rate"], ours["one"]["recall"],
         ours["build_s"], ours["bytes"], ours["scan_syncs"]],
        ["hartonomous graph", ours["queries"], ours["graph"]["rate"], ours["graph"]["recall"],
         ours["graph_build_s"], ours["graph_bytes"], ours["graph_syncs"]],
    ]  # fmt: skip
    asked = ("queries", "rate", "recall", "build_s", "bytes", "syncs")
    for name, found in peers.items():
        shown = f"{name} {versions.get(name, '')}".strip()
        shown += ": not run" if "not_run" in found else ""
        rows.append([shown, *(found.get(one) for one in asked)])
    head = ["engine", "queries", "queries/CPU-s", "recall@10", "build CPU-s", "bytes a vector",
            "syncs"]  # fmt: skip
    notes = [
        "Bytes of the peers hold the vectors themselves; ours are stored once, beside. Syncs are"
        f" calls while the index is built: the peers' of {_QUICK_ROWS:,} vectors, the graph's of"
        " 2,000. Each is a build of its own: to be traced makes some three times as slow.",
        *(f"{name}: {found['not_run']}" for name, found in peers.items() if "not_run" in found),
    ]
    text = table("engines on the same vectors, as shipped", head, rows)
    return "\n".join([text, *notes]) + "\n"
