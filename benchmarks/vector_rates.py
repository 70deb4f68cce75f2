"""Rates and recall of the indexes of vectors of this checkout, one query at a time, one thread.

    python vector_rates.py VECTORS.npy FOLDER OUT.json QUERIES
    python vector_rates.py --build scan|graph VECTORS.npy FOLDER QUERIES  # one index, to be traced

Seconds are those of the processor. Queries are vectors that are left out of the index. Rates,
and the seconds of a merge and of a rebuild, are medians of three.
"""

import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE.parent / "src"))

import numpy as np  # noqa: E402
from vector_peers import K, nearest, split  # noqa: E402

from hartonomous.testing.vector_index import ListedVectors, made_space  # noqa: E402
from hartonomous.vectors.graph import GraphIndex  # noqa: E402
from hartonomous.vectors.merging import Tiers  # noqa: E402
from hartonomous.vectors.scan import ScanIndex  # noqa: E402

_RUNS = 3
_TRACED_GRAPH = 2_000
"""Rows of the graph that is traced: how often it syncs does not depend on their number."""


def recall(true: np.ndarray, found: np.ndarray) -> float:
    """Return the share of the true nearest that was found."""
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(true, found, strict=True)]))


def rate(ask: Callable[[np.ndarray], np.ndarray], queries: np.ndarray) -> tuple[float, np.ndarray]:
    """Return (queries a second of the processor, ids found); the median of three runs."""
    ask(queries[:1])
    rates = []
    for _ in range(_RUNS):
        started = time.process_time()
        found = np.concatenate([ask(queries[at : at + 1]) for at in range(len(queries))])
        rates.append(len(queries) / (time.process_time() - started))
    return statistics.median(rates), found


def seconds(act: Callable[[], object]) -> float:
    """Return the processor's seconds that something takes."""
    started = time.process_time()
    act()
    return time.process_time() - started


def index_bytes(folder: Path) -> int:
    """Return the size of an index's files."""
    return sum(one.stat().st_size for one in folder.iterdir())


def main() -> None:
    """Measure all."""
    if sys.argv[1] == "--build":
        build(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5]))
        return
    folder = Path(sys.argv[2])
    base, queries = split(Path(sys.argv[1]), int(sys.argv[4]))
    shutil.rmtree(folder, ignore_errors=True)
    figures = measured(base, queries, folder)
    Path(sys.argv[3]).write_text(json.dumps(figures, indent=1), encoding="utf-8")


def build(kind: str, path: Path, folder: Path, queries: int) -> None:
    """Build one index."""
    base, _ = split(path, queries)
    truth = ListedVectors(made_space(base.shape[1]))
    truth.add(base if kind == "scan" else base[:_TRACED_GRAPH])
    if kind == "scan":
        ScanIndex(folder, truth).update()
    else:
        GraphIndex(folder, truth, first_rows=_TRACED_GRAPH).update()


def measured(base: np.ndarray, queries: np.ndarray, folder: Path) -> dict[str, Any]:
    """Return every figure."""
    out: dict[str, Any] = {"rows": len(base), "dimension": base.shape[1], "queries": len(queries)}
    ids = np.arange(1, len(base) + 1)
    true = nearest(base, queries, ids)

    def exactly(some: np.ndarray) -> np.ndarray:
        scores = base @ some[0]
        best = np.argpartition(-scores, K)[:K]
        return ids[best[np.argsort(-scores[best])]][None, :]

    exact_rate, _ = rate(exactly, queries[:: max(1, len(queries) // 100)])
    out["numpy"] = {"rate": exact_rate}

    truth = ListedVectors(made_space(base.shape[1]))
    truth.add(base)
    one = ScanIndex(folder / "one", truth)
    out["build_s"] = seconds(one.update)
    out["one"] = searched(one, queries, true)
    out["bytes"] = index_bytes(folder / "one") / sum(one.segment_rows)
    out["segments"] = len(one.segment_rows)
    out["filters"] = filters(one, base, queries, ids)
    expected = one.search(queries, K).ids
    out["open_ms"], out["first_ms"] = opened(folder / "one", truth, queries)
    one.close()
    times = []
    for _ in range(_RUNS):
        shutil.rmtree(folder / "one")
        again = ScanIndex(folder / "one", truth)
        times.append(seconds(again.update))
        if len(times) < _RUNS:
            again.close()
    out["rebuild_s"] = statistics.median(times)
    out["same_ids"] = float((again.search(queries, K).ids == expected).all(axis=1).mean())
    again.close()

    out |= in_pieces(base, queries, true, folder)
    graph = GraphIndex(folder / "graph", truth)
    out["graph_build_s"] = seconds(graph.update)
    out["graph"] = searched(graph, queries, true)
    out["graph_bytes"] = index_bytes(folder / "graph") / len(base)
    return out


def searched(index: Any, queries: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Return rate and recall of an index."""
    found_rate, found = rate(lambda some: index.search(some, K).ids, queries)
    return {"rate": found_rate, "recall": recall(true, found)}


def opened(folder: Path, truth: Any, queries: np.ndarray) -> tuple[float, float]:
    """Return ms until an index is open, its files hashed, and until the first hit."""
    opens, firsts = [], []
    for _ in range(9):
        started = time.perf_counter()
        index = ScanIndex(folder, truth)
        opens.append(1000 * (time.perf_counter() - started))
        index.search(queries[:1], K)
        firsts.append(1000 * (time.perf_counter() - started))
        index.close()
    return statistics.median(opens), statistics.median(firsts)


def filters(index: Any, base: np.ndarray, queries: np.ndarray, ids: np.ndarray) -> list[Any]:
    """Return (share, rate, recall, share of queries with K hits) of filters."""
    rows = []
    random = np.random.default_rng(1)
    some = queries[:200]
    for share in (0.01, 0.1, 0.5):
        kept = random.random(len(ids)) < share
        true = nearest(base[kept], some, ids[kept])
        allowed = ids[kept]
        found_rate, found = rate(
            lambda one, allowed=allowed: index.search(one, K, allowed=allowed).ids, some
        )
        full = float((found != -1).all(axis=1).mean())
        rows.append([share, found_rate, recall(true, found), full])
    return rows


def in_pieces(
    base: np.ndarray, queries: np.ndarray, true: np.ndarray, folder: Path
) -> dict[str, Any]:
    """Return what ten segments, their merge, and a tail with removed vectors give."""
    out: dict[str, Any] = {}
    step = -(-len(base) // 10)
    tiers = Tiers(least=step // 2, factor=100)
    truth = ListedVectors(made_space(base.shape[1]))
    ten = ScanIndex(folder / "ten", truth, tiers=tiers)
    for at in range(0, len(base), step):
        truth.add(base[at : at + step])
        ten.update()
    out["ten_segments"] = len(ten.segment_rows)
    out["ten"] = searched(ten, queries, true)
    ten.close()
    times = []
    for number in range(_RUNS):
        place = folder / f"merged-{number}"
        shutil.copytree(folder / "ten", place)
        merging = ScanIndex(place, truth, tiers=Tiers(least=step // 2, factor=10))
        times.append(seconds(merging.update))
        if len(times) < _RUNS:
            merging.close()
    out["merge_s"] = statistics.median(times)
    out["merged_segments"] = len(merging.segment_rows)
    out["merged"] = searched(merging, queries, true)
    merging.close()

    truth = ListedVectors(made_space(base.shape[1]))
    nine = ScanIndex(folder / "nine", truth, tiers=tiers)
    step = (len(base) - 5000) // 9 + 1
    for at in range(0, len(base) - 5000, step):
        truth.add(base[at : min(at + step, len(base) - 5000)])
        nine.update()
    truth.add(base[-5000:])
    dead = np.flatnonzero(np.random.default_rng(2).random(len(base)) < 0.1) + 1
    truth.remove(dead)
    live = truth.ids()
    out["tail_rows"], out["nine_segments"] = nine.tail_rows, len(nine.segment_rows)
    out["tail"] = searched(nine, queries, nearest(truth.vectors(live), queries, live))
    out["dead_found"] = int(np.isin(nine.search(queries, 100).ids, dead).sum())
    nine.close()
    return out


if __name__ == "__main__":
    main()
