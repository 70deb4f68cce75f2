"""Search quality on the frozen questions, and how long searches take.

The questions (tests/fixtures/search_quality: exact words, typos, paraphrases) came before
weights were fitted. They may be fitted to the development half; the frozen half is only measured.
What is printed is the mean reciprocal rank of the entry that is asked for among 400. The encoder is
the demo's model, kept in the store. txtai searches the same entries with the same model, with its
vectors alone and with its hybrid of words and vectors; it needs an environment of its own, which
``TXTAI_PYTHON`` names. All this takes about two minutes on two cores. How long searches over many
documents take is measured too, if ``media`` has made its store already, which takes ten.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from context import Context, Result
from tables import table

import hartonomous as hn
from hartonomous.core.query import parse_query
from hartonomous.operations.demo_base import fetch_base
from hartonomous.operations.search import SearchFilter, SearchResult
from hartonomous.packs.kept_uses import KeptUses
from hartonomous.packs.search_filter import Chosen
from hartonomous.packs.text_views import change_number, open_index
from hartonomous.packs.word_search import WordSearch
from hartonomous.store import Store
from media import is_stored, searches, speed_table, stored

PARTS = ("words", "typos", "paraphrases")
METHODS = ("words", "letters", "meaning", "fused")
_FIXTURES = Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "search_quality"
_PEER = Path(__file__).with_name("peers") / "txtai_search.py"
_VARIABLE = "TXTAI_PYTHON"
_DEPTH = 400
"""As many hits are asked for as there are entries."""
_TIMED_EACH = 6

Question = dict[str, str]
Ranks = dict[str, list[float]]


def run(context: Context) -> Result:
    """Measure both halves, then the time of searches over the documents of ``media``, if there."""
    base = fetch_base(context.files / "family-base", cache=context.files, from_path=context.model)
    questions = [json.loads(line) for line in
                 (_FIXTURES / "questions.jsonl").read_text("utf-8").splitlines()]  # fmt: skip
    store = _store(context, base)
    try:
        found, taken = _measure(store, questions)
    finally:
        store.close()
        shutil.rmtree(store.path, ignore_errors=True)
    peer = _peer(context, base, questions)
    figures: dict[str, Any] = {}
    texts = []
    for half in ("development", "frozen"):
        rows = []
        for method in METHODS:
            rows.append([method, *_means(found[half], method)])
        for method in sorted({name for _, name in peer.get(half, {})}):
            rows.append([f"txtai {method}", *_means(peer[half], method)])
        count = sum(one["half"] == half for one in questions)
        texts.append(
            table(f"search: MRR, {half} half, {count} questions", ["", *PARTS, "all"], rows)
        )
        figures[half] = {row[0]: dict(zip([*PARTS, "all"], row[1:], strict=True)) for row in rows}
    figures["query ms"] = taken
    texts.append(f"a search of 400 passages, its query encoded: p50 {taken:.1f} ms\n")
    if not peer:
        texts.append(f"txtai: not run; {_VARIABLE} names the Python that has it\n")
    if not is_stored(context):
        texts.append("searches over many documents: not measured; --only media makes their store\n")
        return Result(text="\n".join(texts), figures=figures)
    documents, _ = stored(context)
    try:
        figures["speed"] = searches(context, documents)
        texts.append(speed_table(figures["speed"]))
    finally:
        documents.close()
    return Result(text="\n".join(texts), figures=figures)


def _store(context: Context, base: Path) -> Store:
    place = context.work / "search-quality"
    shutil.rmtree(place, ignore_errors=True)
    store = hn.open(place, create=True)
    store.add(_FIXTURES / "entries.md")
    store.encoders.add(base, name="minilm")
    store.views.make()
    store.embed(encoder="minilm")
    return store


def _measure(
    store: Store, questions: list[Question]
) -> tuple[dict[str, dict[tuple[str, str], list[float]]], float]:
    """Return reciprocal ranks by half, part and method, and the median milliseconds of a search."""
    found: dict[str, dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    where = SearchFilter(kinds=("passage",), name="entries.md")
    taken = []
    store.search("warm up", where=where)
    for at, one in enumerate(questions):
        if at % _TIMED_EACH == 0:
            started = time.perf_counter()
            store.search(one["text"], where=where)
            taken.append((time.perf_counter() - started) * 1000)
        result = store.search(one["text"], where=where, top_k=_DEPTH)
        ranks = _ranks(result, one["answer"]) | _alone(store, where, one)
        for method, rank in ranks.items():
            found[one["half"]][one["part"], method].append(1 / rank if rank else 0.0)
    return found, statistics.median(taken)


def _ranks(result: SearchResult, answer: str) -> dict[str, int]:
    """Return the rank of the entry by all methods and by meaning, 0 where it was not found."""
    entries = [_entry(hit.heading) for hit in result.hits]
    own = [hit.ranks["meaning"] for hit, entry in zip(result.hits, entries, strict=True)
           if entry == answer and "meaning" in hit.ranks]  # fmt: skip
    fused = entries.index(answer) + 1 if answer in entries else 0
    return {"fused": fused, "meaning": min(own, default=0)}


def _alone(store: Store, where: SearchFilter, one: Question) -> dict[str, int]:
    """Return the rank of the entry by words and by letters alone: a search leaves one of them out
    where the other does."""
    found = {}
    with open_index(store.parts) as index:
        chosen = Chosen(store.parts, index, where, KeptUses().at(change_number(store.parts)))
        search = WordSearch(index, parse_query(one["text"]), chosen)
        orders = {
            "words": search.by_words(_DEPTH, per_file=None),
            "letters": search.by_letters(_DEPTH, per_file=None),
        }
        for method, rows in orders.items():
            passages = index.passages([row.id for row in rows])
            entries = [_entry(passages[row.id].heading) for row in rows]
            found[method] = entries.index(one["answer"]) + 1 if one["answer"] in entries else 0
    return found


def _entry(heading: str) -> str:
    return heading.rpartition(" > ")[2]


def _means(found: dict[tuple[str, str], list[float]], method: str) -> list[float]:
    parts = [statistics.fmean(found[part, method]) for part in PARTS]
    return [*parts, statistics.fmean(parts)]


def _peer(
    context: Context, base: Path, questions: list[Question]
) -> dict[str, dict[tuple[str, str], list[float]]]:
    python = os.environ.get(_VARIABLE)
    if not python or "txtai" in context.skip:
        return {}
    done = subprocess.run(
        [python, str(_PEER), str(base), str(_FIXTURES)], stdout=subprocess.PIPE,
        stderr=sys.stderr, check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"},
    )  # fmt: skip
    said = json.loads(done.stdout.splitlines()[-1])
    context.versions["txtai"] = said["version"]
    found: dict[str, dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for one, ranks in zip(questions, said["ranks"], strict=True):
        for method, rank in ranks.items():
            found[one["half"]][one["part"], method].append(1 / rank if rank else 0.0)
    return found
