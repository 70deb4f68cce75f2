"""Search by words over a whole store: what is found, where, and when it no longer is."""

import contextlib
import os
import sqlite3
import threading

import pytest
from blake3 import blake3

from hartonomous.core.indexed_text import IndexedPassage, IndexedSource
from hartonomous.errors import IntegrityError, UsageError
from hartonomous.operations.search import SearchFilter
from hartonomous.packs import text_views
from hartonomous.packs.text_views import index_path
from hartonomous.ports.progress import NoProgress
from hartonomous.worker.kinds import Work, checked

REPORT = b"""# Pumps

## Leaks

The main valve of the pump leaks at low pressure, and the gasket is worn.

## Repairs

A new seal was fitted in spring.
"""


def names(found):
    return [f"{one.name}@{one.number}:{one.member}" for one in found.hits]


@pytest.fixture
def filled(store, source):
    store.add(
        source("report.md", REPORT), name="report", metadata={"author": "Ada"}, tags=["field"]
    )
    store.add(
        source("notes.txt", b"Nothing is said here of pressure.\n\nThe gasket came late."),
        name="notes",
    )
    store.add(source("data.bin", b"\0\1gasket\2\3"))
    return store


def test_passages_are_found_with_their_places(filled):
    (hit, *_) = filled.search("leaking valve gasket").hits
    assert (hit.kind, hit.name, hit.number, hit.member) == ("passage", "report", 1, "report.md")
    assert hit.heading == "Pumps > Leaks"
    text = REPORT.decode()
    assert text[hit.start : hit.stop].startswith("The main valve")
    marked = {hit.snippet[start:stop] for start, stop in hit.marks}
    assert {"valve", "gasket"} <= marked
    assert hit.ranks["words"] == 1


def test_misspelled_words_are_found_by_their_letters(filled):
    found = filled.search("gaskett", where=SearchFilter(kinds=("passage",)))
    assert found.misspelled == ("gaskett",)
    assert set(names(found)) == {"report@1:report.md", "notes@1:notes.txt"}
    assert all("words" not in one.ranks for one in found.hits)


def test_phrases_and_exclusions(filled):
    assert names(filled.search('"low pressure"'))[0] == "report@1:report.md"
    passages = SearchFilter(kinds=("passage",))
    found = filled.search("pressure -valve", where=passages)
    assert [one.name for one in found.hits] == ["notes"]


def test_hits_follow_the_names_that_files_have_now(filled, source):
    filled.mv("report", "pumps/report")
    assert names(filled.search("valve"))[0] == "pumps/report@1:report.md"
    filled.rm("pumps/report")
    assert "pumps/report" not in [one.name for one in filled.search("valve").hits]
    filled.undo()
    assert names(filled.search("valve"))[0] == "pumps/report@1:report.md"
    filled.add(source("copy.md", REPORT), name="copy")
    hit = filled.search("valve", where=SearchFilter(kinds=("passage",))).hits[0]
    assert (hit.name, hit.also_in, hit.also_in_count) == ("copy", ("pumps/report@1",), 1)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"name": "no*"}, {"notes"}),
        ({"tag": "field"}, {"report"}),
        ({"metadata": (("author", "A*"),)}, {"report"}),
        ({"metadata": (("author", "B*"),)}, set()),
        ({"after_us": 1}, {"report", "notes"}),
        ({"before_us": 1}, set()),
    ],
)
def test_filters(filled, wanted, expected):
    found = filled.search("gasket", where=SearchFilter(kinds=("passage",), **wanted))
    assert {one.name for one in found.hits} == expected


def test_pages_of_hits_and_passages_a_file(store, source):
    for number in range(30):
        text = "".join(f"# Part {part}\n\nA valve in part {part}.\n\n" for part in range(4))
        store.add(source(f"{number:02}.md", f"{text}\n{number}".encode()))
    wanted = SearchFilter(kinds=("passage",))
    first = store.search("valve", where=wanted, top_k=70)
    second = store.search("valve", where=wanted, top_k=70, skip=70)
    assert (len(first.hits), first.more) == (70, True)
    assert (len(second.hits), second.more) == (50, False)
    ids = {(one.name, one.start) for one in (*first.hits, *second.hits)}
    assert len(ids) == 120
    single = store.search("valve", where=wanted, top_k=100, per_file=1)
    assert len(single.hits) == 30
    assert len({one.name for one in single.hits}) == 30


def test_a_long_document_does_not_hide_the_others(store, source):
    store.add(source("long.md", b"# Valves\n\n" + b"the valve leaks again. " * 20_000))
    store.add(source("short.md", b"all of the pumps but one have a valve of brass\n"))
    found = store.search("valve", per_file=1, where=SearchFilter(kinds=("passage",)))
    assert {one.name for one in found.hits} == {"long.md", "short.md"}


def test_models_and_tensors_are_found_too(store, source):
    import numpy as np

    import hartonomous as hn

    weights = {"encoder.layer.0.attention.weight": np.zeros((4, 4), np.float32)}
    hn.save_file(weights, "sentence-encoder", store=store)
    kinds = [one.kind for one in store.search("sentence encoder").hits]
    assert kinds == ["model"]
    (hit,) = store.search("layer.0.attention", where=SearchFilter(kinds=("tensor",))).hits
    assert hit.snippet.startswith("encoder.layer.0.attention.weight F32 [4, 4]")


def test_a_word_that_is_a_role_is_looked_for_in_names_of_tensors_too(store, source):
    import numpy as np

    import hartonomous as hn

    name = "encoder.layer.0.attention.self.query.weight"
    hn.save_file({name: np.zeros((4, 4), np.float32)}, "encoder", store=store)
    tensors = SearchFilter(kinds=("tensor",))
    for words in ("attention", "query", "attention 4x4", "norm attention"):
        (hit,) = store.search(words, where=tensors).hits
        assert hit.snippet.startswith(f"{name} F32 [4, 4]"), words
    assert not store.search("attention 5x5", where=tensors).hits


def test_views_are_listed_dropped_and_made_again(filled):
    assert filled.views.list().waiting_count == 2
    made = filled.views.make()
    assert (made.read_count, made.passage_count) == (2, 3)
    assert filled.views.make().read_count == 0
    assert {one.kind: one.file_count for one in filled.views.list().kinds} == {
        "markdown": 1,
        "text": 1,
    }
    (views,) = filled.views.of("report")
    assert [one.heading for one in views.passages] == ["Pumps > Leaks", "Pumps > Repairs"]
    assert filled.views.drop()
    assert not filled.views.drop()
    assert names(filled.search("valve"))[0] == "report@1:report.md"
    assert filled.views.make(rebuild=True).read_count == 2


def test_what_was_removed_for_good_is_forgotten(filled):
    filled.views.make()
    filled.rm("report")
    filled.gc(trash_days=0, grace_s=0)
    assert filled.views.make().forgotten_count == 1
    assert {one.kind for one in filled.views.list().kinds} == {"text"}


@pytest.mark.parametrize("catalog_engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("damage", [b"", b"no database at all" * 300, None])
def test_a_damaged_index_is_made_anew(filled, damage):
    filled.views.make()
    path = index_path(filled.parts)
    for other in path.parent.glob(f"{path.name}-*"):
        other.unlink()
    content = damage if damage is not None else path.read_bytes()[:5_000]
    path.write_bytes(content)
    assert names(filled.search("valve"))[0] == "report@1:report.md"


@pytest.mark.parametrize("catalog_engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("ending", ["", "-wal"])
@pytest.mark.parametrize("kind", ["link", "dangling", "loop", "pipe"])
def test_the_index_is_never_written_through_a_link(filled, tmp_path, kind, ending):
    filled.views.drop()
    other = tmp_path / "other.sqlite3"
    if kind == "link":
        with contextlib.closing(sqlite3.connect(other)) as mine:
            mine.execute("CREATE TABLE mine (a)")
        before = other.read_bytes()
    path = index_path(filled.parts)
    path.parent.mkdir(exist_ok=True)
    place = path.with_name(path.name + ending)
    if kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(place if kind == "loop" else other)
    assert names(filled.search("valve"))[0] == "report@1:report.md"
    assert not path.is_symlink()
    if kind == "link":
        assert other.read_bytes() == before
    else:
        assert not other.exists()


@pytest.mark.parametrize("catalog_engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("ending", ["", "-wal", "-shm"])
def test_a_folder_in_place_of_the_index_is_told(filled, ending):
    filled.views.drop()
    path = index_path(filled.parts)
    path.parent.mkdir(exist_ok=True)
    path.with_name(path.name + ending).mkdir()
    for use in (lambda: filled.search("valve"), filled.views.list, filled.views.drop):
        with pytest.raises(IntegrityError, match="is a folder") as error:
            use()
        assert error.value.hint
    path.with_name(path.name + ending).rmdir()
    assert filled.search("valve").hits


@pytest.mark.parametrize("catalog_engine", ["sqlite"], indirect=True)
def test_a_database_of_other_tables_is_made_anew(filled):
    filled.views.drop()
    path = index_path(filled.parts)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE source (a)")
        other.execute("PRAGMA user_version = 2")
    assert names(filled.search("valve"))[0] == "report@1:report.md"


def test_a_newer_recipe_replaces_the_old(filled, monkeypatch):
    filled.views.make()
    monkeypatch.setattr(text_views, "RECIPE", "documents-tomorrow")
    assert filled.views.list().stale_count == 2
    assert filled.views.make().read_count == 2


def test_a_vocabulary_that_an_older_recipe_read_is_gone_once_the_job_ran(
    filled, source, monkeypatch
):
    vocabulary = b"[PAD]\n[unused0]\ngasket\n##ing\n"
    filled.add(source("vocab.txt", vocabulary))
    with monkeypatch.context() as older:
        older.setattr(text_views, "RECIPE", "documents-1")
        filled.views.make()
        with text_views.open_index(filled.parts) as index:
            (digest,) = (one for one in index.recipes() if one == blake3(vocabulary).digest())
            read = IndexedSource(
                digest=digest, recipe=index.recipes()[digest], kind="text", title="", pages="",
                metadata={}, notices=(), passages=1,
            )  # fmt: skip
            text = vocabulary.decode()
            index.put(
                read,
                [IndexedPassage(kind="text", heading="", page=0, start=0, stop=33, text=text)],
            )
        assert "vocab.txt@1:vocab.txt" in names(filled.search("gasket"))
    filled.search("gasket")
    run_views_job(filled)
    found = names(filled.search("gasket"))
    assert set(found) == {"report@1:report.md", "notes@1:notes.txt"}
    assert filled.views.list().stale_count == 0


def run_views_job(store):
    (job,) = store.jobs.list(kind="views")
    kind, given = checked(job.kind, job.arguments)
    kind.run(Work(store.parts, store.settings, NoProgress()), given)


def test_a_missing_extra_is_told_and_made_good(store, source, monkeypatch):
    from pathlib import Path

    paper = Path(__file__).parents[1] / "fixtures" / "documents" / "paper.pdf"
    store.add(source("paper.pdf", paper.read_bytes()))
    with monkeypatch.context() as patch:
        patch.setattr(text_views, "import_paths", lambda *_: ())
        patch.setattr(text_views, "installed", lambda *_: False)
        patch.setattr(text_views, "READERS", ("hartonomous.media.plain_text:PLAIN_TEXT",))
        assert store.search("gaskets").hits == ()
        store.views.make()  # its pictures are read, too
        assert store.views.make().read_count == 0
    (hit,) = store.search("gaskets", where=SearchFilter(kinds=("passage",))).hits
    assert (hit.pages, hit.page, hit.title) == ("page", 2, "A paper")


def test_what_an_installation_with_an_extra_read_serves_one_without(store, source, monkeypatch):
    from pathlib import Path

    paper = Path(__file__).parents[1] / "fixtures" / "documents" / "paper.pdf"
    store.add(source("paper.pdf", paper.read_bytes()))
    only = SearchFilter(kinds=("passage",))
    assert store.search("gaskets", where=only).hits
    jobs = len(store.jobs.list(kind="views"))
    with monkeypatch.context() as patch:
        patch.setattr(text_views, "installed", lambda *_: False)
        patch.setattr(text_views, "READERS", ("hartonomous.media.plain_text:PLAIN_TEXT",))
        found = store.search("gaskets", where=only)
        assert found.hits and not found.notes
        made = store.views.make()
        assert made.read_count == made.looked_count  # for pictures
    assert store.search("gaskets", where=only).hits
    assert len(store.jobs.list(kind="views")) == jobs


def test_common_words_name_no_version(store, source):
    for at in range(30):
        text = f"# Page {at}\n\nThe and for of page number {at}, with some words.\n"
        store.add(source(f"page-{at}.md", text.encode()), name=f"page-{at}")
    store.add(source("with-and-for.bin", b"\0\1"), name="with-and-for")
    models = SearchFilter(kinds=("model",))
    assert not store.search("gasket for and with", where=models).hits
    assert names(store.search("with-and-for", where=models)) == ["with-and-for@1:"]


def test_a_condition_may_be_a_text(filled):
    assert names(filled.search("gasket", where="meta.author = Ada")) == ["report@1:report.md"]
    with pytest.raises(UsageError):
        filled.search("gasket", where="meta.author =")


def test_searches_go_on_while_others_drop_and_rebuild(filled):
    errors = []

    def repeat(use):
        try:
            for _ in range(5):
                use()
        except BaseException as error:
            errors.append(error)

    uses = (
        filled.views.drop,
        lambda: filled.views.make(rebuild=True),
        filled.views.list,
        lambda: filled.search("valve", update=False),
    )
    threads = [threading.Thread(target=repeat, args=(use,)) for use in uses]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert errors == []
    assert filled.search("valve").hits


def test_searches_at_once_read_each_file_once(filled):
    errors = []

    def look():
        try:
            assert filled.search("valve").hits
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert errors == []
    assert sum(one.file_count for one in filled.views.list().kinds) == 2


def test_an_empty_store_is_searched(store):
    assert store.search("valve").hits == ()
    assert store.search("valve").hits == ()


@pytest.mark.parametrize(
    "options", [{"top_k": 0}, {"top_k": 1001}, {"skip": -1}, {"skip": 1 << 70}, {"per_file": 0}]
)
def test_wrong_limits_are_refused(filled, options):
    with pytest.raises(UsageError):
        filled.search("valve", **options)


def test_wrong_kinds_are_refused(filled):
    with pytest.raises(UsageError, match="no kind"):
        filled.search("valve", where=SearchFilter(kinds=("song",)))


@pytest.mark.parametrize(
    "text", ['a"b', "AND OR NOT", "x* (y", "NEAR(a b)", "é\0x", "heading:x", '"a\0 b"']
)
def test_nothing_in_a_search_is_the_databases_language(filled, text):
    found = filled.search(text)
    assert {one.name for one in found.hits} <= {"report", "notes"}
    assert names(filled.search("valve"))[0] == "report@1:report.md"  # and the index is whole


def test_tensors_are_found_by_role_and_shape(store, source):
    import numpy as np

    import hartonomous as hn

    weights = {
        "model.layers.0.self_attn.q_proj.weight": np.zeros((4, 6), np.float32),
        "model.layers.0.self_attn.k_proj.weight": np.ones((4, 4), np.float32),
        "model.layers.1.self_attn.q_proj.weight": np.full((4, 4), 2, np.float32),
    }
    hn.save_file(weights, "decoder", store=store)
    store.add(source("size.md", b"# Pictures\n\nA picture of 4x6 pixels.\n"))

    def found(words, *kinds):
        where = SearchFilter(kinds=kinds) if kinds else None
        hits = store.search(words, where=where).hits
        return [one.snippet.split(" ")[0][13:] for one in hits if one.kind == "tensor"]

    assert found("attention-q") == ["0.self_attn.q_proj.weight", "1.self_attn.q_proj.weight"]
    assert found("4x6") == found("[4,6]") == ["0.self_attn.q_proj.weight"]
    assert store.search("attention-q").misspelled == ()
    assert store.search("attention-q vlave").misspelled[-1] == "vlave"
    assert found("attention-q 4x4") == ["1.self_attn.q_proj.weight"]
    assert found("self_attn 4x4") == ["0.self_attn.k_proj.weight", "1.self_attn.q_proj.weight"]
    assert found("k_proj", "tensor") == found("k_proj") == ["0.self_attn.k_proj.weight"]
    assert found("proj attention-k", "tensor") == ["0.self_attn.k_proj.weight"]
    assert found("picture of 4x6 pixels") == []
    assert store.search("picture of 4x6 pixels").hits[0].name == "size.md"
