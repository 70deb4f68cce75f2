"""What narrows a search down, orders its hits another way, or writes one of them out."""

import struct
import time
import zlib
from pathlib import Path

import pytest

from hartonomous.core.condition import parse_condition
from hartonomous.errors import ConflictError, StructureError, UsageError
from hartonomous.operations.search import SearchFilter
from hartonomous.packs import text_views

DOCUMENTS = Path(__file__).parents[1] / "fixtures" / "documents"
PASSAGES = ("passage",)


def found(store, text, **wanted):
    return {one.name for one in store.search(text, where=SearchFilter(**wanted)).hits}


@pytest.fixture
def filled(store, source):
    store.add(source("a.md", b"# Valves\n\nA valve of brass.\n"), name="a", tags=["x"],
              metadata={"author": "Ada Byron"})  # fmt: skip
    store.add(source("b.txt", b"A valve of steel, and a gasket of rubber.\n"), name="b",
              metadata={"author": "Bea", "year": "1999"})  # fmt: skip
    store.add(source("paper.odt", (DOCUMENTS / "text.odt").read_bytes()), name="c")
    return store


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("meta.author = Ada*", {"a"}),
        ("author = Ada Byron", {"a"}),
        ("meta.author != Bea", {"a"}),
        ("author ~ BYRON or year < 2000", {"a", "b"}),
        ("(author = Bea and year >= 1999) or tag = y", {"b"}),
        ("tag in (x, y)", {"a"}),
        ("format = markdown", {"a"}),
        ("kind = text and file = *.txt", {"b"}),
        ("size > 1MB", set()),
        ("size < 1kB and name = b", {"b"}),
        ("meta.nothing = x", set()),
    ],
)
def test_conditions(filled, condition, expected):
    assert found(filled, "valve", kinds=PASSAGES, condition=parse_condition(condition)) == expected


def test_what_was_in_use_at_a_time(store, source):
    def now():
        time.sleep(0.002)
        return time.time_ns() // 1000

    before = now()
    store.add(source("a.txt", b"a valve of brass"), name="a")
    added = now()
    store.rm("a")
    removed = now()
    store.undo()
    undone = now()
    store.rm("a")
    assert found(store, "valve") == set()
    for at, expected in ((before, set()), (added, {"a"}), (removed, set()), (undone, {"a"})):
        assert found(store, "valve", as_of_us=at) == expected, at
        assert found(store, "a", kinds=("model",), as_of_us=at) == expected


def test_tensors_obey_what_narrows_a_search_down(store, source):
    import numpy as np
    from safetensors.numpy import save

    for name in ("one", "two"):
        weights = {"encoder.layer.0.attention.weight": np.full((4, 4), len(name), np.float32)}
        path = source(f"{name}.safetensors", save(weights))
        store.add(path, name=name, tags=["x"] if name == "one" else [])
    time.sleep(0.002)
    both = time.time_ns() // 1000
    store.rm("two")

    def tensors(**wanted):
        return found(store, "layer.0.attention", kinds=("tensor",), **wanted)

    assert tensors() == {"one"}
    assert tensors(as_of_us=both) == {"one", "two"}
    store.undo()
    assert tensors() == {"one", "two"}
    assert tensors(name="t*") == {"two"}
    assert tensors(tag="x") == {"one"}
    assert tensors(after_us=both) == set()
    assert tensors(condition=parse_condition("format = safetensors and name != one")) == {"two"}
    assert tensors(condition=parse_condition("size > 1MB")) == set()
    assert tensors(as_of_us=1) == set()


def test_hits_that_repeat_others_are_put_back(store, source):
    for number in range(4):
        text = f"the valve of pump {number} leaks at low pressure in the cold of winter"
        store.add(source(f"{number}.txt", text.encode()), name=f"pump{number}")
    store.add(source("z.txt", b"a valve is a part which opens and closes a pipe, and much more of "
                     b"what such parts do is told in the handbook of the maker"))  # fmt: skip
    where = SearchFilter(kinds=PASSAGES)
    plain = [one.name for one in store.search("valve leaks", where=where).hits]
    varied = [one.name for one in store.search("valve leaks", where=where, varied=True).hits]
    assert sorted(plain) == sorted(varied)
    assert plain.index("z.txt") == 4
    assert varied.index("z.txt") < 4


def test_each_hit_says_why_it_is_one(filled):
    hit = filled.search("brass vlave", where=SearchFilter(kinds=PASSAGES)).hits[0]
    assert hit.name == "a"
    assert "has brass" in hit.why
    assert "valve for vlave" in hit.why
    # Words alone hold too little of this to be looked for as well.
    assert hit.scores.keys() == hit.ranks.keys() == {"letters"}


def test_nothing_is_read_while_the_catalog_is_what_it_was(filled, source, monkeypatch):
    assert found(filled, "valve", kinds=PASSAGES) == {"a", "b"}

    def refuse(*_, **__):
        raise AssertionError("files were looked at")

    with monkeypatch.context() as patch:
        patch.setattr(text_views, "_refreshed", refuse)
        assert found(filled, "valve", kinds=PASSAGES) == {"a", "b"}
        filled.gc()
        assert found(filled, "valve", kinds=PASSAGES) == {"a", "b"}
        filled.add(source("d.txt", b"a valve of gold"), name="d")
        with pytest.raises(AssertionError):
            filled.search("valve")
    assert found(filled, "valve", kinds=PASSAGES) == {"a", "b", "d"}
    filled.mv("d", "pumps/gold")
    assert found(filled, "gold", kinds=("model",)) == {"pumps/gold"}


def test_a_word_of_nearly_every_passage_does_not_hide_the_others(store, source):
    text = "".join(f"# Part {n}\n\nthe part number {n} of the pump\n\n" for n in range(40))
    store.add(source("parts.md", text.encode()))
    hits = store.search("the pump 17", where=SearchFilter(kinds=PASSAGES)).hits
    assert "number 17 of" in hits[0].snippet


def test_scripts_without_blanks_are_found_by_parts_of_their_runs(store, source):
    store.add(source("a.txt", "東京都の水道管は古い。".encode()), name="tokyo")
    store.add(source("b.txt", "大阪の空は青い。".encode()), name="osaka")
    assert found(store, "水道", kinds=PASSAGES) == {"tokyo"}
    assert found(store, "ÉCOLE") == set()


def test_pages_are_written_out(store, source, tmp_path):
    store.add(source("paper.pdf", (DOCUMENTS / "paper.pdf").read_bytes()), name="paper")
    store.add(source("plan.pptx", (DOCUMENTS / "plan.pptx").read_bytes()), name="plan")
    store.add(source("a.bin", b"\0\1\2"), name="bin")
    page = store.views.write("paper", page=2, folder=tmp_path)
    assert page.name == "paper.pdf-page-2.png"
    content = page.read_bytes()
    assert content[12:16] == b"IHDR"
    width, height = struct.unpack(">II", content[16:24])
    assert 1_000 <= max(width, height) <= 1_601
    start = content.index(b"IDAT") + 4
    (length,) = struct.unpack(">I", content[start - 8 : start - 4])
    rows = zlib.decompress(content[start : start + length])
    assert len(rows) == height * (3 * width + 1)
    assert len(set(rows)) > 2  # something is drawn
    with pytest.raises(ConflictError):
        store.views.write("paper", page=2, folder=tmp_path)
    store.views.write("paper", page=2, folder=tmp_path, force=True)
    with pytest.raises(StructureError, match="it has"):
        store.views.write("paper", page=99, folder=tmp_path)
    slide = store.views.write("plan", page=1, folder=tmp_path)
    assert slide.name == "plan.pptx-page-1.txt"
    assert slide.read_text(encoding="utf-8").strip()
    assert store.views.write("bin", folder=tmp_path).read_bytes() == b"\0\1\2"


@pytest.mark.parametrize(
    "text", ["", "author", "a =", "= b", "(a = b", "a = b c or", "a in b", 'a = "b', "a ! b",
             "size > lots", "number <= newest", "(" * 50 + "a = b" + ")" * 50, "x" * 5_000]
)  # fmt: skip
def test_wrong_conditions_are_refused(text):
    with pytest.raises(UsageError):
        parse_condition(text)
