"""Damage in a server's tables of words: verify finds it, and has them made anew."""

import pytest
from sqlalchemy import text

import hartonomous as hn
from hartonomous.catalog import word_table
from hartonomous.core.query import parse_query
from hartonomous.packs.text_views import open_index


@pytest.fixture
def filled(served: hn.Store, source) -> hn.Store:
    for number in range(12):
        words = f"# Pump {number}\n\nThe valve number {number} leaks água, seal {number % 3}.\n"
        path = source(f"notes/notes-{number}.md", words.encode() * 5)
    served.add(path.parent)
    assert served.search("valve").hits
    return served


def test_sound_tables_are_sound_after_changes(filled: hn.Store, source) -> None:
    filled.add(source("more.md", b"# More\n\nWords that come later, and two more valves.\n"))
    assert filled.search("later").hits
    filled.rm("more.md")
    filled.gc(trash_days=0, grace_s=0)
    filled.search("valve")
    assert filled.verify().faults == ()


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("passage", "UPDATE derived_word_passage SET body = replace(body, 'leaks', 'leans')"),
        ("passage", "UPDATE derived_word_passage SET page = page + 1 WHERE id = 1"),
        ("passage", "UPDATE derived_word_passage SET words = words || 'more:1' WHERE id = 1"),
        ("passage", "UPDATE derived_word_passage SET length = length + 1 WHERE id = 1"),
        ("passage", "DELETE FROM derived_word_passage WHERE id = 1"),
        ("passage", "DELETE FROM derived_word_source WHERE id = 1"),
        ("source", "UPDATE derived_word_source SET title = title || '!' WHERE id = 1"),
        ("source", "UPDATE derived_word_source SET passages = passages + 1 WHERE id = 1"),
        ("source", "UPDATE derived_word_source SET digest = set_byte(digest, 3, 7) WHERE id = 1"),
        ("said", "UPDATE derived_word_said SET words = 'other:1' WHERE id = 1"),
        ("said", "UPDATE derived_word_said SET stamp = set_byte(stamp, 0, 7) WHERE id = 1"),
        ("term", "UPDATE derived_word_term SET passages = passages + 1 WHERE term = 'valve'"),
        ("term", "DELETE FROM derived_word_term WHERE term = 'valve'"),
        ("spelling", "UPDATE derived_word_spelling SET key = key + 1 WHERE term = 'valve'"),
    ],
)
def test_whatever_differs_is_found_and_made_anew(filled: hn.Store, table: str, change: str) -> None:
    sound = [(hit.name, hit.score) for hit in filled.search("leaking valve").hits]
    assert filled.verify().sound
    with filled.parts.database.write() as tx:
        if table in ("source", "passage", "said"):
            # Else the server computes the sum of what is written here, as no rotten disk does.
            tx.execute(text(f"ALTER TABLE derived_word_{table} ALTER COLUMN sum DROP EXPRESSION"))
        assert tx.execute(text(change)).rowcount > 0
    (fault,) = filled.verify().faults
    assert fault.where == "index of words" and "is damaged" in fault.what
    with filled.parts.database.write() as tx:  # as another writer finds them
        tx.execute(text("UPDATE derived_word_state SET value = '' WHERE name = 'schema'"))
    assert filled.verify().sound
    assert [(hit.name, hit.score) for hit in filled.search("leaking valve").hits] == sound
    assert filled.verify().sound


@pytest.mark.parametrize("averaged", [5_000, 0])
def test_equal_searches_are_equal(
    served: hn.Store, source, monkeypatch: pytest.MonkeyPatch, averaged: int
) -> None:
    """Also where the average length of passages is that of a sample of the table's pages."""
    monkeypatch.setattr(word_table, "_AVERAGED", averaged)
    for number in range(400):
        words = "valve " * (1 + number % 3) + "other words " * (3 + number % 30)
        path = source(f"notes/notes-{number}.md", words.encode())
    served.add(path.parent)
    match = parse_query("valve other").match()
    with open_index(served.parts) as index:
        served.search("valve")
        assert len({tuple(index.ranked(match, limit=100)) for _ in range(20)}) == 1


def test_a_passage_is_found_by_its_place(filled: hn.Store) -> None:
    with open_index(filled.parts) as index:
        for digest in index.recipes():
            for one in index.passages_of(digest):
                assert index.passage_at(digest, one.page, one.start) == one
                assert index.passage_at(digest, one.page + 1, one.start) is None
                assert index.passage_at(digest[::-1], one.page, one.start) is None


def test_what_is_damaged_is_emptied_by_repair(filled: hn.Store) -> None:
    sound = [(hit.name, hit.score) for hit in filled.search("leaking valve").hits]
    change = "UPDATE derived_word_term SET passages = passages + 1 WHERE term = 'valve'"
    with filled.parts.database.write() as tx:
        tx.execute(text(change))
    report = filled.verify(repair=True)
    assert report.mended == ("index of words (removed; the next search makes it anew)",)
    assert [(hit.name, hit.score) for hit in filled.search("leaking valve").hits] == sound
    assert filled.verify().sound
