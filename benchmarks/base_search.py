"""Base search in large catalogs: milliseconds a query, beside a scan of all values by numpy.

The catalogs hold made-up sketches: normal values that fit BF16, interleaved over many shapes, as
models that come one after the other leave them. Queries have 4096 × 4096 elements; half of them are
stored sketches with a hundredth of noise, half resemble nothing. What a query reads of its own
tensor is at hand, so that this is the search alone: signs, rows, distances. The cold query is the
first of a process and loads the signs of its size.

The demo's model is stored, too, and looked for by what is made of its tensors: casts, transposes,
Q8_0, noise; and by made-up ones of the same shapes and spreads.
"""

import shutil
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from context import Context, Result
from tables import table

import hartonomous as hn
from hartonomous.catalog.batches import insert_rows
from hartonomous.catalog.database import Database, create_sqlite, open_sqlite
from hartonomous.catalog.schema import atom
from hartonomous.catalog.sketches import NewSketch, add_sketches
from hartonomous.core.array import numpy_dtype
from hartonomous.core.digest import digest
from hartonomous.core.elements import Indices, Values, ranges_of, values_of
from hartonomous.core.ggml import quantise_q8_0
from hartonomous.core.sketch import POSITIONS, distances, encode_values, positions, sketch_of
from hartonomous.errors import HartonomousError
from hartonomous.operations.demo_base import fetch_base
from hartonomous.packs.base_search import BaseSearch, TensorQuery

T = TypeVar("T")

SHAPE = (4096, 4096)
COUNT = SHAPE[0] * SHAPE[1]
_ATOM = (
    atom.c.id, atom.c.digest, atom.c.size_bytes, atom.c.stored_bytes, atom.c.encoding,
    atom.c.created_us,
)  # fmt: skip
_MADE_ROWS = 20_000
_SCAN_ROWS = 4096
_SCANS = 5
_HEAD = [
    "tensors", "of one shape", "p50 ms", "p99 ms", "cold ms", "held MB", "found", "false",
    "numpy scan p50 ms", "catalog MB",
]  # fmt: skip


def run(context: Context) -> Result:
    """Measure 400 queries in 100,000 tensors and in 5,000,000; a tenth of both when quick."""
    scale = 10 if context.quick else 1
    rows, figures = [], {}
    for total, same in (
        (100_000 // scale, 20_000 // scale),
        (5_000_000 // scale, 200_000 // scale),
    ):
        path = context.work / f"sketches-{total}.sqlite3"
        try:
            values = _make(path, total, total // same)
            found = _measure(path, values, queries=100 if context.quick else 400)
            found["catalog MB"] = path.stat().st_size / 1e6
        finally:
            for one in context.work.glob(path.name + "*"):
                one.unlink()
        row = [total, same, *(found[name] for name in _HEAD[2:])]
        rows.append(row)
        figures[str(total)] = dict(zip(_HEAD, row, strict=True))
    text = table("base-search: related tensors found by their sketches", _HEAD, rows)
    try:
        base = fetch_base(
            context.files / "family-base", cache=context.files, from_path=context.model
        )
    except HartonomousError as error:
        return Result(text=f"{text}\nreal weights: not run: {error}\n", figures=figures)
    real = _real(base, context.work / "sketches-real")
    head = ["made of a tensor", "tensors", "source first", "others found"]
    text += "\n" + table("base-search: a model's tensors by what is made of them", head, real)
    return Result(text=text, figures={**figures, "real": real})


# -- real weights


Change = Callable[[Any], tuple[str, bytes, tuple[int, ...]]]
"""Makes dtype, bytes and shape of something from a tensor."""


def _real(base: Path, place: Path) -> list[list[object]]:
    """Return, for each way of changing tensors, how many of their sources come first."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    with hn.open(place / "store", create=True) as store:
        store.add(base / "model.safetensors")
        stored = hn.load_file("model.safetensors", store)
        weights = {digest(one.tobytes()): one for one in stored.values() if one.size >= 2048}
        search = BaseSearch(store.parts.database)
        rows = [[name, *_found(search, weights, make)] for name, make in _CHANGES.items()]
    shutil.rmtree(place)
    return rows


def _found(search: BaseSearch, weights: dict[bytes, Any], make: Change) -> tuple[int, int, int]:
    first = others = 0
    for name, array in weights.items():
        dtype, content, shape = make(array)
        read = values_of(ranges_of(content), dtype)
        found = search.candidates(TensorQuery(dtype=dtype, shape=shape, read=read))
        first += bool(found) and found[0].digest == name
        others += sum(one.digest != name for one in found)
    return len(weights), first, others


def _plain(array: Any, dtype: str = "F32") -> tuple[str, bytes, tuple[int, ...]]:
    kind = numpy_dtype(dtype)
    return dtype, np.ascontiguousarray(array.astype(kind)).tobytes(), array.shape


def _noise(array: Any, share: float) -> Any:
    noise = np.random.default_rng(array.size).standard_normal(array.shape, np.float32)
    return noise * np.float32(share * array.std())


_CHANGES: dict[str, Change] = {
    "BF16": lambda array: _plain(array, "BF16"),
    "F16": lambda array: _plain(array, "F16"),
    "F8_E4M3": lambda array: _plain(array, "F8_E4M3"),
    "transposed": lambda array: _plain(array.T),
    "Q8_0": lambda array: ("Q8_0", quantise_q8_0(array.reshape(-1)).tobytes(), array.shape),
    "noise of a hundredth": lambda array: _plain(array + _noise(array, 0.01)),
    "noise of a half": lambda array: _plain(array + _noise(array, 0.5)),
    "unrelated": lambda array: _plain(array.mean() + _noise(array, 1)),
}


# -- made-up catalogs


def _made_values(random: np.random.Generator, count: int) -> Values:
    """Return rows of normal values that BF16 can hold."""
    values = random.standard_normal((count, POSITIONS), np.float32)
    return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def _make(path: Path, total: int, shapes: int) -> Values:
    """Write a catalog of so many tensors; return the sketches of the queries' shape.

    Not synced: whoever pulls the plug makes it again.
    """
    create_sqlite(path).dispose()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA journal_mode=OFF")
    database = Database(open_sqlite(path))
    random = np.random.default_rng(total)
    kept = []
    for start in range(0, total, _MADE_ROWS):
        count = min(_MADE_ROWS, total - start)
        values = _made_values(random, count)
        kept.append(values[-start % shapes :: shapes].copy())
        ids = range(start + 1, start + count + 1)
        with database.write(durable=False) as tx:
            insert_rows(
                tx, _ATOM, ((i, i.to_bytes(32, "big"), 2 * COUNT, COUNT, 2, 0) for i in ids)
            )
            add_sketches(
                tx, ((i, _sketch(i - 1, shapes, one)) for i, one in zip(ids, values, strict=True))
            )
    database.close()
    return np.concatenate(kept)


def _sketch(index: int, shapes: int, values: Values) -> NewSketch:
    made = sketch_of(values)
    return NewSketch(
        first_element=0, element_count=COUNT + 4096 * (index % shapes), columns=4096,
        dtype="BF16", signs=made.signs, content=encode_values(values),
    )  # fmt: skip


def _measure(path: Path, stored: Values, *, queries: int) -> dict[str, float]:
    random = np.random.default_rng(1)
    database = Database(open_sqlite(path))
    search = BaseSearch(database)
    related = [
        (stored[at] + 0.01 * random.standard_normal(POSITIONS)).astype(np.float32)
        for at in random.integers(0, len(stored), queries // 2)
    ]
    unrelated = list(random.standard_normal((queries // 2, POSITIONS), np.float32))
    cold = _timed(partial(search.candidates, _query(random, unrelated[0])))[0]
    taken, found, false = [], 0, 0
    for pair in zip(related, unrelated, strict=True):
        for values, wanted in zip(pair, (True, False), strict=True):
            query = _query(random, values)
            took, candidates = _timed(partial(search.candidates, query))
            taken.append(took)
            found += wanted and bool(candidates)
            false += len(candidates) - (wanted and bool(candidates))
    held = search._signs.held_bytes
    database.close()
    scans = [_timed(partial(_scan, stored, one))[0] for one in related[:_SCANS]]
    return {
        "p50 ms": float(np.percentile(taken, 50)), "p99 ms": float(np.percentile(taken, 99)),
        "cold ms": cold, "held MB": held / 1e6, "found": found / len(related), "false": int(false),
        "numpy scan p50 ms": float(np.median(scans)),
    }  # fmt: skip


def _query(random: np.random.Generator, values: Values) -> TensorQuery:
    """Return a query that has these values in its own order, and others when transposed."""
    own = positions(COUNT)
    other = random.standard_normal(POSITIONS, np.float32)

    def read(elements: Indices) -> Values:
        return values if np.array_equal(elements, own) else other

    return TensorQuery(dtype="BF16", shape=SHAPE, read=read)


def _scan(stored: Values, values: Values) -> int:
    """Return the nearest of all by comparing all values, as a search without signs would."""
    best = np.concatenate(
        [
            distances(values, stored[start : start + _SCAN_ROWS], "BF16")
            for start in range(0, len(stored), _SCAN_ROWS)
        ]
    )
    return int(best.argmin())


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    begun = time.perf_counter()
    result = work()
    return (time.perf_counter() - begun) * 1e3, result


if __name__ == "__main__":
    sys.exit("python benchmarks/run.py --only base-search")
