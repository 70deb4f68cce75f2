"""Other engines on the same vectors, as they are shipped; run in an environment that has them.

    python vector_peers.py ENGINE build|search VECTORS.npy FOLDER OUT.json QUERIES

``build`` writes an index that another process opens; ``search`` opens it and asks one query at a
time, of QUERIES vectors that are left out of the index. Seconds are those of the processor, all
threads counted.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

K = 10


def split(path: Path, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (base, queries), the same each time."""
    rows = np.load(path)
    order = np.random.default_rng(0).permutation(len(rows))
    return rows[order[queries:]], rows[order[:queries]]


def nearest(base: np.ndarray, queries: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return the ids of the true nearest [queries, K]; rows have unit length."""
    found = []
    for at in range(0, len(queries), 64):
        scores = queries[at : at + 64] @ base.T
        best = np.argpartition(-scores, K, axis=1)[:, :K]
        found.append(ids[best])
    return np.concatenate(found)


Ask = Callable[[np.ndarray], list[int]]


def usearch_build(base: np.ndarray, folder: Path) -> None:
    """HNSW in bfloat16, the settings of the package."""
    from usearch.index import Index

    index = Index(ndim=base.shape[1], metric="cos", dtype="bf16")
    index.add(np.arange(1, len(base) + 1), base)
    index.save(folder / "index.usearch")


def usearch_open(folder: Path) -> Ask:
    """Map the file."""
    from usearch.index import Index

    index = Index.restore(folder / "index.usearch", view=True)
    return lambda query: [int(one) for one in index.search(query, K, threads=1).keys]


def lancedb_build(base: np.ndarray, folder: Path) -> None:
    """IVF-PQ, the settings of the package."""
    import lancedb
    import lancedb.index
    import pyarrow

    flat = pyarrow.array(base.reshape(-1))
    vectors = pyarrow.FixedSizeListArray.from_arrays(flat, base.shape[1])
    ids = pyarrow.array(np.arange(1, len(base) + 1))
    table = lancedb.connect(folder).create_table(
        "glosses", pyarrow.table({"id": ids, "vector": vectors})
    )
    table.create_index("vector", config=lancedb.index.IvfPq(distance_type="cosine"))


def lancedb_open(folder: Path) -> Ask:
    """Search with the settings of the package, refined by 10 times as many."""
    import lancedb

    table = lancedb.connect(folder).open_table("glosses")

    def ask(query: np.ndarray) -> list[int]:
        found = table.search(query).distance_type("cosine").limit(K).refine_factor(10)
        return found.select(["id", "_distance"]).to_arrow()["id"].to_pylist()

    return ask


def qdrant_build(base: np.ndarray, folder: Path) -> None:
    """A shard of Qdrant's segment engine, then its own optimisation, which builds HNSW."""
    import qdrant_edge as edge

    (folder / "shard").mkdir()
    vectors = edge.EdgeVectorParams(size=base.shape[1], distance=edge.Distance.Cosine)
    shard = edge.EdgeShard.create(str(folder / "shard"), edge.EdgeConfig(vectors=vectors))
    for at in range(0, len(base), 2000):
        rows = base[at : at + 2000].tolist()
        points = [edge.Point(at + number + 1, row, {}) for number, row in enumerate(rows)]
        shard.update(edge.UpdateOperation.upsert_points(points))
    shard.optimize()
    shard.flush()
    shard.close()


def qdrant_open(folder: Path) -> Ask:
    """Search with the settings of the package."""
    import qdrant_edge as edge

    shard = edge.EdgeShard.load(str(folder / "shard"))

    def ask(query: np.ndarray) -> list[int]:
        nearest = edge.Query.Nearest(query.tolist())
        return [int(one.id) for one in shard.search(edge.SearchRequest(nearest, K))]

    return ask


def _sqlite(folder: Path) -> Any:
    import apsw  # brings its own SQLite: many builds of Python cannot load extensions
    import sqlite_vec

    database = apsw.Connection(str(folder / "vectors.sqlite"))
    database.enable_load_extension(True)
    database.load_extension(sqlite_vec.loadable_path())
    return database


def sqlite_build(base: np.ndarray, folder: Path) -> None:
    """A table of vec0, which compares all."""
    database = _sqlite(folder)
    wide = base.shape[1]
    database.execute(
        f"CREATE VIRTUAL TABLE v USING vec0(vector float[{wide}] distance_metric=cosine)"
    )
    with database:
        database.executemany(
            "INSERT INTO v (rowid, vector) VALUES (?, ?)",
            ((number + 1, row.tobytes()) for number, row in enumerate(base)),
        )


def sqlite_open(folder: Path) -> Ask:
    """Search by MATCH."""
    database = _sqlite(folder)
    words = f"SELECT rowid FROM v WHERE vector MATCH ? ORDER BY distance LIMIT {K}"
    return lambda query: [one for (one,) in database.execute(words, (query.tobytes(),))]


ENGINES: dict[str, tuple[Callable[[np.ndarray, Path], None], Callable[[Path], Ask], int]] = {
    "usearch": (usearch_build, usearch_open, 1000),
    "lancedb": (lancedb_build, lancedb_open, 200),
    "qdrant-edge-py": (qdrant_build, qdrant_open, 1000),
    "sqlite-vec": (sqlite_build, sqlite_open, 30),
}


def main() -> None:
    """Build or search."""
    build, open_it, count = ENGINES[sys.argv[1]]
    base, queries = split(Path(sys.argv[3]), int(sys.argv[6]))
    folder = Path(sys.argv[4])
    figures: dict[str, float] = {}
    started = time.process_time()
    if sys.argv[2] == "build":
        folder.mkdir(parents=True)
        build(base, folder)
        figures["build_s"] = time.process_time() - started
        kept = [one.stat().st_size for one in folder.rglob("*") if one.is_file()]
        figures["bytes"] = sum(kept) / len(base)
    else:
        some = queries[:count]
        true = nearest(base, some, np.arange(1, len(base) + 1))
        ask = open_it(folder)
        ask(some[0])
        started = time.process_time()
        found = [ask(one) for one in some]
        figures["queries"] = len(some)
        figures["rate"] = len(some) / (time.process_time() - started)
        hits = [np.isin(a, b).mean() for a, b in zip(true, found, strict=True)]
        figures["recall"] = float(np.mean(hits))
    Path(sys.argv[5]).write_text(json.dumps(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
