"""Bits that flip in what is derived for search: verify finds them, and has it made anew."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import hartonomous as hn
from hartonomous.vectors.derived_file import write_derived

pytestmark = pytest.mark.parametrize("catalog_engine", ["sqlite"], indirect=True)
WORDS = "index/words.sqlite"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[hn.Store]:
    files = tmp_path / "files"
    files.mkdir()
    for number in range(12):
        text = f"# Pump {number}\n\nThe valve number {number} leaks água, seal {number % 3}.\n"
        (files / f"notes-{number}.md").write_text(text * 5)
    with hn.open(tmp_path / "store", create=True) as opened:
        opened.add(files)
        assert opened.search("valve").hits
        yield opened


def test_a_sound_index_is_sound_after_changes(store: hn.Store, tmp_path: Path) -> None:
    (tmp_path / "more.md").write_text("# More\n\nWords that come later, and two more valves.\n")
    store.add(tmp_path / "more.md")
    assert store.search("later").hits
    store.rm("more.md")
    store.gc(trash_days=0, grace_s=0)
    store.search("valve")
    assert store.verify().faults == ()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE passage SET body = replace(body, 'leaks', 'leans') WHERE id = 1",
        "UPDATE passage SET page = page + 1 WHERE id = 1",
        "DELETE FROM passage WHERE id = 1",
        "UPDATE source SET title = title || '!' WHERE id = 1",
        "UPDATE said SET terms = 'other' WHERE id = 1",
        "UPDATE term SET passages = passages + 1 WHERE term = 'valve'",
        "UPDATE spelling SET key = key + 1 WHERE term = 'valve'",
        "INSERT INTO words (rowid, heading, body) VALUES (900, 'more', 'words')",
        "INSERT INTO said_words (rowid, terms) VALUES (900, 'more')",
        "UPDATE words_docsize SET sz = x'0101' WHERE id = 1",
        "UPDATE words_data SET block = x'010203' WHERE id = 1",
    ],
)
def test_whatever_differs_in_the_index_of_words_is_found_and_made_anew(
    store: hn.Store, change: str
) -> None:
    place = store.path
    sound = [(hit.name, hit.score) for hit in store.search("leaking valve").hits]
    store.close()
    with closing(sqlite3.connect(place / WORDS)) as index:
        assert index.execute(change).rowcount > 0
        index.commit()
    with hn.open(place) as again:
        (fault,) = again.verify().faults
        assert fault.where == "index of words" and "is damaged" in fault.what
        report = again.verify(repair=True)
        assert report.sound
        assert report.mended == ("index of words (removed; the next search makes it anew)",)
        assert [(hit.name, hit.score) for hit in again.search("leaking valve").hits] == sound
        assert again.verify().sound


def test_vectors_that_rot_are_found_and_removed(store: hn.Store) -> None:
    folder = store.path / "index" / "spaces" / bytes(16).hex()
    content = np.random.default_rng(1).bytes(5_000)
    write_derived(folder / "generation", [content])
    assert store.verify().sound
    chance = random.Random(7)
    rotten = bytearray((folder / "generation").read_bytes())
    rotten[chance.randrange(len(rotten))] ^= 1 << chance.randrange(8)
    (folder / "generation").write_bytes(rotten)
    (fault,) = store.verify().faults
    assert fault.where == f"index of vectors index/spaces/{bytes(16).hex()}/generation"
    assert store.verify(repair=True).mended
    assert not (folder / "generation").exists() and store.verify().sound
