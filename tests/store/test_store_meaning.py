"""Search by vectors, fused with words; here in a space that needs no model."""

import json

import numpy as np
import pytest
from blake3 import blake3

from hartonomous.core.condition import parse_condition
from hartonomous.errors import NotFoundError, UsageError
from hartonomous.operations.search import SearchFilter
from hartonomous.packs import embedding, meaning_search
from hartonomous.ports.progress import NoProgress

TEXTS = {
    "pump": b"# Pumps\n\nThe main valve of the pump leaks at low pressure.\n",
    "ship": b"# Ships\n\nA ship with two masts sailed for the harbour.\n",
    "bread": b"# Bread\n\nThe dough rests overnight before it is baked.\n",
}


class Cut(NoProgress):
    """Ends the work while the second text is embedded."""

    count_left = 1

    def advance(self, done_bytes):
        if not self.count_left:
            raise KeyboardInterrupt
        self.count_left -= 1


def test_that_a_space_is_half_built_is_noted_until_it_is_complete(store, source, monkeypatch):
    for name, text in TEXTS.items():
        store.add(source(f"{name}.md", text), name=name)
    store.views.make()
    monkeypatch.setattr(embedding, "_HELD_TEXTS", 1)
    with pytest.raises(KeyboardInterrupt):
        store.embed(encoder="ngrams", progress=Cut())
    (made,) = store.spaces.list()
    assert (made.state, made.vector_count) == ("current", 1)
    (note,) = store.search("valve", space="ngrams").notes
    assert note.startswith("the space ngrams is not complete: it has 1 vectors, and 3 passages")
    assert store.embed(encoder="ngrams").added_count == 2
    assert store.search("valve", space="ngrams").notes == ()
    store.add(source("more.md", b"# More\n\nThis came later.\n"), name="more")
    assert store.search("valve", space="ngrams").notes == ()


@pytest.fixture
def embedded(store, source):
    for name, text in TEXTS.items():
        store.add(source(f"{name}.md", text), name=name)
    store.embed(encoder="ngrams")
    return store


def names(found):
    return [one.name for one in found.hits]


def test_a_space_without_a_model_is_searched_when_it_is_named(embedded):
    plain = embedded.search("pumping valves")
    assert all("meaning" not in one.ranks for one in plain.hits)
    found = embedded.search("pumping valves", space="ngrams")
    assert found.hits[0].name == "pump"
    assert found.hits[0].ranks["meaning"] == 1
    assert 0 < found.hits[0].scores["meaning"] <= 1.0001


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"main valve"', ["pump"]),
        ('ship dough "main valve"', ["pump"]),
        ('"main valve" "two masts"', []),
        ("valve -pump", ["ship", "bread"]),
        ('valve -"low pressure"', ["ship", "bread"]),
        ("valve -nowhere", ["pump", "ship", "bread"]),
        ('"main valve" -leaks', []),
    ],
)
def test_what_has_to_be_there_and_what_must_not_hold_for_vectors_too(embedded, text, expected):
    passages = SearchFilter(kinds=("passage",))
    found = embedded.search(text, space="ngrams", where=passages)
    assert sorted(names(found)) == sorted(expected)


def test_what_must_not_be_there_does_not_draw_what_is_near(embedded):
    plain = embedded.search("valve", space="ngrams", where=SearchFilter(kinds=("passage",)))
    found = embedded.search(
        "valve -nowhere", space="ngrams", where=SearchFilter(kinds=("passage",))
    )
    scores = [{one.name: one.scores["meaning"] for one in each.hits} for each in (plain, found)]
    assert scores[0] == scores[1]


def test_a_filter_that_hardly_anything_passes_finds_what_does(store, source, monkeypatch):
    monkeypatch.setattr(meaning_search, "_MOST_NEAR", meaning_search.FIRST_NEAR)
    near = "".join(f"# Pump {at}\n\nThe pump's valve leaks.\n\n" for at in range(150))
    store.add(source("pumps.md", near.encode()), name="pumps")
    for at in range(3):
        text = f"# Ships\n\nShip {at} with two masts sailed for the harbour.\n"
        store.add(source(f"{at}.md", text.encode()), name=f"ship-{at}", tags=["sea"])
    store.embed(encoder="ngrams")
    where = SearchFilter(kinds=("passage",), tag="sea")
    found = store.search("pump valve leaks", space="ngrams", where=where)
    assert sorted(names(found)) == ["ship-0", "ship-1", "ship-2"]
    assert all("meaning" in one.ranks for one in found.hits)
    alike = store.search(like="ship-1", space="ngrams", where=where)
    assert sorted(names(alike)) == ["ship-0", "ship-2"]


def test_what_is_like_a_stored_file_is_found_without_it(embedded, source):
    embedded.add(source("more.md", b"# Pumps\n\nThe main valve of a pump leaked again.\n"))
    embedded.embed()
    found = embedded.search(like="pump", space="ngrams")
    assert names(found)[0] == "more.md"
    assert "pump" not in names(found)
    assert names(embedded.search(like="pump:pump.md", space="ngrams")) == names(found)
    narrow = SearchFilter(condition=parse_condition("name = ship"))
    assert names(embedded.search(like="pump", space="ngrams", where=narrow)) == ["ship"]


@pytest.mark.parametrize(
    ("like", "lacks"),
    [
        ("pump page 9", "no page 9 in pump"),
        ("pump:pump.md page 9", "no page 9 in pump:pump.md"),
        ("pump, 351", "no passage that begins at 351 in pump"),
        ("pump page 1, 351", "no passage that begins at 351 on page 1 in pump"),
    ],
)
def test_a_page_or_passage_that_is_not_there_is_told(embedded, like, lacks):
    with pytest.raises(NotFoundError, match=lacks) as caught:
        embedded.search(like=like, space="ngrams")
    assert caught.value.hint.startswith("hart views ls pump lists")


def test_what_is_like_a_file_on_the_disk_or_a_vector(embedded, tmp_path):
    path = tmp_path / "question.txt"
    path.write_text("the valve of a pump leaks", encoding="utf-8")
    found = embedded.search(like=str(path), space="ngrams")
    assert found.hits[0].name == "pump"
    assert found.hits[0].snippet.startswith("The main valve")
    vector = np.zeros(512, np.float32)
    vector[3] = 1.0
    np.save(tmp_path / "v.npy", vector)
    assert len(embedded.search(like=str(tmp_path / "v.npy"), space="ngrams").hits) == 3
    np.save(tmp_path / "w.npy", np.ones(5, np.float32))
    with pytest.raises(UsageError, match="5"):
        embedded.search(like=str(tmp_path / "w.npy"), space="ngrams")
    for wrong in (np.zeros(512), np.full(512, np.nan), np.full(512, 1e39), np.zeros((0, 512))):
        np.save(tmp_path / "y.npy", wrong)
        with pytest.raises(UsageError, match=r"y\.npy"):
            embedded.search(like=str(tmp_path / "y.npy"), space="ngrams")
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY rubbish")
    with pytest.raises(UsageError, match="no vector"):
        embedded.search(like=str(tmp_path / "x.npy"), space="ngrams")
    with (tmp_path / "archive.npy").open("wb") as file:
        np.savez(file, vector)
    with (tmp_path / "huge.npy").open("wb") as file:
        told = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 512)}
        np.lib.format.write_array_header_1_0(file, told)
    for name in ("archive.npy", "huge.npy"):
        with pytest.raises(UsageError, match="no vector"):
            embedded.search(like=str(tmp_path / name), space="ngrams")


def test_what_cannot_be_searched_is_told(embedded):
    with pytest.raises(NotFoundError):
        embedded.search("valve", space="nothing")
    with pytest.raises(NotFoundError, match="no space"):
        embedded.search(like="pump", modality="picture")
    with pytest.raises(NotFoundError):
        embedded.search(like="nobody", space="ngrams")
    with pytest.raises(UsageError, match="no vectors of"):
        embedded.search("valve", space="ngrams", modality="picture")


def test_vectors_of_what_was_removed_are_not_found(embedded):
    embedded.rm("pump")
    assert "pump" not in names(embedded.search("pumping valves", space="ngrams"))


def test_varied_hits_are_told_apart_by_their_vectors(store, source):
    others = (
        "A harbour of ships.", "The dough rests overnight.", "Quick brown foxes jump.",
        "My zip code is long.", "Cotton hats dry in sun.", "Boys play football.",
        "Night music by Mozart.", "Eight green bottles.", "Tea with much milk.",
    )  # fmt: skip
    texts = ("Valves leaking, valves leaked.", "Valve leaks: valve leak.", *others)
    for at, text in enumerate(texts):
        store.add(source(f"{at}.txt", text.encode()))
    store.embed(encoder="ngrams")
    only = SearchFilter(kinds=("passage",))
    asked = {"where": only, "space": "ngrams", "top_k": 11}
    assert names(store.search("valves leaking", **asked))[:2] == ["0.txt", "1.txt"]
    # They have no word in common: by words alone the second would stay where it is.
    varied = names(store.search("valves leaking", varied=True, **asked))
    assert varied[0] == "0.txt"
    assert varied.index("1.txt") > 1
    assert len(set(varied)) == len(varied) == 11


def test_words_that_are_alike_by_chance_do_not_hide_what_is_near(embedded, source, monkeypatch):
    """Two of three words are like "start" and "cross"; nothing says "strait" or "crossing"."""
    rules = set()
    for at in range(3):
        text = f"# Number {at}\n\nTo start page {at}, cross the line.\n".encode()
        embedded.add(source(f"rules-{at}.md", text), name=f"rules-{at}")
        rules.add(blake3(text).digest())
    others = "".join(f"# Flower {at}\n\nIt has {at} petals.\n\n" for at in range(80))
    embedded.add(source("flowers.md", others.encode()), name="flowers")
    embedded.embed(encoder="ngrams")
    real = meaning_search.MeaningSearch.orders
    ship = blake3(TEXTS["ship"]).digest()

    def as_an_encoder_would(self, *given, **options):
        orders, notes = real(self, *given, **options)
        ((name, found),) = orders.items()
        near = sorted(found, key=lambda one: (one[0].digest != ship, one[0].digest in rules))
        return {name: near}, notes

    monkeypatch.setattr(meaning_search.MeaningSearch, "orders", as_an_encoder_would)
    wanted = SearchFilter(kinds=("passage",))
    found = embedded.search("scandinavian strait crossing", space="ngrams", where=wanted, top_k=99)
    assert names(found)[0] == "ship"
    (rule, *_) = (one for one in found.hits if one.name == "rules-0")
    assert rule.ranks["letters"] == 1


def test_what_is_like_a_view_is_found_beside_it(store, source):
    """A view is named as ``hart views ls`` prints it: a page, or where a passage begins."""
    text = "\n\n".join(f"# {name}\n\n{body.decode()[9:]}" for name, body in TEXTS.items())
    store.add(source("all.md", text.encode()), name="all")
    store.add(source("more.md", b"# Masts\n\nThree ships with masts sailed.\n"), name="more")
    made = ("The pump leaks at low pressure.", "Dough is baked overnight.")
    cells = [{"cell_type": "markdown", "metadata": {}, "source": [one]} for one in made]
    book = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    store.add(source("book.ipynb", json.dumps(book).encode()), name="book")
    store.embed(encoder="ngrams")
    (file,) = store.views.of("all")
    ship = next(one for one in file.passages if "ship" in one.text)

    def hits(like):
        found = store.search(like=like, space="ngrams").hits
        return [(one.name, one.page, one.start) for one in found]

    for spec in (f"all, {ship.start}", f"all@1:all.md, {ship.start}"):
        found = hits(spec)
        assert found[0][0] == "more"  # what the whole file is like is not said of its passage
        assert ("all", 0, ship.start) not in found
        assert {one for name, _, one in found if name == "all"} == {
            one.start for one in file.passages if one is not ship
        }
    found = hits("book@1:book.ipynb cell 2")
    bread = next(one.start for one in file.passages if "dough" in one.text)
    assert found[0] == ("all", 0, bread)
    assert [one[1] for one in found if one[0] == "book"] == [1]
    assert hits("book cell 2, 0") == found
    for wrong in ("book cell 3", "all page 1", f"all, {ship.start + 1}"):
        with pytest.raises(NotFoundError, match="there is no"):
            hits(wrong)
    with pytest.raises(NotFoundError, match="nobody"):
        hits("nobody page 1")
