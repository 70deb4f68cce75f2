"""The index of words in SQLite: what only counts is ranked as if it had been looked for."""

import random

import pytest

from hartonomous.catalog.word_index import WordIndex
from hartonomous.core.indexed_text import IndexedPassage, IndexedSource, WordMatch


@pytest.fixture
def index(tmp_path):
    chance = random.Random(5)
    passages = []
    for at in range(400):
        words = ["common"] * chance.randrange(4) + ["usual"] * (at % 3 == 0)
        words += ["rare"] * (chance.randrange(4) if at % 20 == 0 else 0)
        words += [f"w{chance.randrange(50)}" for _ in range(chance.randrange(5, 60))]
        chance.shuffle(words)
        heading = "rare" if at == 40 else ""
        passages.append(IndexedPassage(
            kind="text", heading=heading, page=0, start=at, stop=at + 1, text=" ".join(words),
        ))  # fmt: skip
    with WordIndex(tmp_path / "words.sqlite") as opened:
        opened.put(IndexedSource(digest=b"d" * 32, recipe="r", kind="text"), passages)
        yield opened


@pytest.mark.parametrize("limit", [1, 5, 400])
def test_what_only_counts_is_ranked_as_if_it_had_been_looked_for(index, limit):
    rare, others = ("rare",), (("common",), ("usual",))
    holds = {row.id for row in index.ranked(WordMatch(any_of=(rare,)), limit=400)}
    every = index.ranked(WordMatch(any_of=(rare, *others)), limit=400)
    wanted = [row for row in every if row.id in holds][:limit]
    found = index.ranked(WordMatch(any_of=(rare,), also=others), limit=limit)
    assert 1 < len(holds) < 30
    assert [row.id for row in found] == [row.id for row in wanted]
    assert [row.score for row in found] == pytest.approx([row.score for row in wanted])


def test_passages_are_counted_anew_when_another_connection_wrote(index):
    assert index.passage_count() == index.passage_count() == 400
    with WordIndex(index.path) as other:
        other.put(
            IndexedSource(digest=b"e" * 32, recipe="r", kind="text"),
            [IndexedPassage(kind="text", heading="", page=0, start=0, stop=1, text="more")],
        )
    assert index.passage_count() == 401
    index.forget([b"e" * 32])
    assert index.passage_count() == 400


def test_a_passage_is_found_by_its_place(index):
    by_file = {one.start: one for one in index.passages_of(b"d" * 32)}
    assert index.passage_at(b"d" * 32, 0, 40) == by_file[40]
    assert index.passage_at(b"d" * 32, 1, 40) is None
    assert index.passage_at(b"d" * 32, 0, 400) is None
    assert index.passage_at(b"e" * 32, 0, 40) is None
