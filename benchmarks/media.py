"""Documents: what taking in 10,000 mixed ones costs, and how long a search over them takes.

``add`` and ``views make`` run as a user runs them, in a process of their own with all its children;
memory is that of all of them together. Queries are three words drawn from passages, so that each
finds something; those with a typo have one letter changed. The store stays open between queries, as
a server's or a notebook's does. They are searched by words and by vectors (``passage_vectors``),
with the query's vector given, and with the query encoded. Milliseconds are medians of three rounds
over the same queries, on the clock and of the processor; documents are taken in once. All this
takes about nine minutes on two cores.
"""

import hashlib
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
from context import Context, Result
from documents import mixed_documents
from passage_vectors import with_vectors, written_queries
from tables import table

import hartonomous as hn
from hartonomous.core.terms import terms
from hartonomous.operations.demo_base import fetch_base
from hartonomous.packs.text_views import open_index
from hartonomous.store import Store

_QUERIES = 100
_ROUNDS = 3
_TIMES = ("p50 ms", "p95 ms", "p50 CPU ms", "p95 CPU ms")
_SOURCE = str(Path(hn.__file__).resolve().parents[1])


def run(context: Context) -> Result:
    """Take the documents in, and search them."""
    folder = mixed_documents(context)
    count = sum(1 for path in folder.rglob("*") if path.is_file())
    shutil.rmtree(_place(context), ignore_errors=True)
    store, rows = stored(context)
    try:
        speeds = searches(context, store)
    finally:
        store.close()
    kinds: dict[str, int] = {}
    for path in folder.rglob("*.*"):
        kinds[path.suffix[1:]] = kinds.get(path.suffix[1:], 0) + path.is_file()
    mixed = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()) if number >= 10)
    text = table(
        f"media: taking in {count:,} documents ({mixed})",
        ["step", "wall s", "CPU s", "documents/s", "memory of all processes MB (limit 1,000)",
         "processes"], rows,
    )  # fmt: skip
    text += "\n" + speed_table(speeds)
    return Result(text=text, figures={"ingest": rows, "search": speeds})


def is_stored(context: Context) -> bool:
    """Say whether the store of the documents was made already."""
    folders = context.work.glob("media-*")
    return any((one / "store.json").exists() for one in folders)


def stored(context: Context) -> tuple[Store, list[list[Any]]]:
    """Return the open store of the documents, made once, and what making it took; [] if before."""
    folder = mixed_documents(context)
    count = sum(1 for path in folder.rglob("*") if path.is_file())
    place = _place(context)
    part = place.with_name(f"{place.name}.part")
    rows: list[list[Any]] = []
    if not (place / "store.json").exists():
        command = [sys.executable, "-m", "hartonomous"]
        environment = {"PYTHONPATH": _SOURCE, "HARTONOMOUS_STORE": str(part)}
        shutil.rmtree(part, ignore_errors=True)
        hn.init(part).close()
        quiet = ["--progress", "none"]
        steps = {"add": ["add", *quiet, str(folder)], "read texts": ["views", "rebuild", *quiet]}
        for name, words in steps.items():
            done = measure.run([*command, *words], env=environment, timeout_s=7200)
            if not done.ok:
                raise RuntimeError(f"hart {words[0]} failed: {done.output}")
            rows.append([name, done.wall_s, done.cpu_s, count / done.wall_s,
                         done.peak_anon_bytes / 1e6, done.process_count])  # fmt: skip
        part.rename(place)
    return hn.open(place), rows


def _place(context: Context) -> Path:
    return context.work / f"media-{mixed_documents(context).name}"


def searches(context: Context, store: Store) -> dict[str, Any]:
    """Return milliseconds of searches, by kind of query and by what is timed."""
    store.search("warm up")  # reads what was not read by this version yet
    model = fetch_base(context.files / "family-base", cache=context.files, from_path=context.model)
    with_vectors(store, model)
    with open_index(store.parts) as index:
        total = index.passage_count()
        drawn = _drawn(index, total)
    figures: dict[str, Any] = {"passages": total}
    folder = context.work / "media-queries"
    warm, *_ = written_queries(store, ["warm up"], folder)
    store.search("warm up", like=str(warm))
    store.search("warm up")  # the encoder is open from here on
    for kind, queries in drawn.items():
        given = written_queries(store, queries, folder)
        figures[kind] = _timed(
            lambda at, queries=queries, given=given: store.search(queries[at], like=str(given[at])),
            len(queries),
        )
        figures[f"{kind}, query encoded"] = _timed(
            lambda at, queries=queries: store.search(queries[at]), len(queries)
        )
    shutil.rmtree(folder)
    return figures


def _timed(search: Callable[[int], object], count: int) -> dict[str, float]:
    """Return medians over the rounds of what each round of searches took, in milliseconds."""
    rounds: list[tuple[float, ...]] = []
    for _ in range(_ROUNDS):
        clock, processor = [], []
        for at in range(count):
            started, worked = time.perf_counter(), time.process_time()
            search(at)
            processor.append((time.process_time() - worked) * 1000)
            clock.append((time.perf_counter() - started) * 1000)
        found = [(sorted(one)[count // 2], sorted(one)[int(count * 0.95)])
                 for one in (clock, processor)]  # fmt: skip
        rounds.append((*found[0], *found[1]))
    middle = (statistics.median(one) for one in zip(*rounds, strict=True))
    return dict(zip(_TIMES, middle, strict=True))


def speed_table(figures: dict[str, Any]) -> str:
    """Return the table of what ``searches`` found."""
    rows = [[kind, *(found[one] for one in _TIMES)]
            for kind, found in figures.items() if kind != "passages"]  # fmt: skip
    return table(
        f"search: {figures['passages']:,} passages by words and vectors, top 10 (goal: p50 20 ms)",
        ["queries", *_TIMES],
        rows,
    )


def _drawn(index: Any, total: int) -> dict[str, list[str]]:
    """Return queries of words of passages, and of the same words with a typo."""
    plain, typos = [], []
    ids = [1 + _number(f"passage {at}") % max(total, 1) for at in range(2 * _QUERIES)]
    for row_id, one in index.passages(ids).items():
        words = sorted({word for word in terms(one.text) if word.isalpha() and len(word) > 3},
                       key=lambda word, row_id=row_id: _number(f"{row_id} {word}"))[:3]  # fmt: skip
        if len(words) < 3 or len(plain) >= _QUERIES:
            continue
        plain.append(" ".join(words))
        at = 1 + row_id % (len(words[0]) - 2)
        swapped = words[0][:at] + words[0][at + 1] + words[0][at] + words[0][at + 2 :]
        typos.append(" ".join([swapped, *words[1:]]))
    return {"three words": plain, "one misspelled": typos}


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
