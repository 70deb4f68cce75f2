"""Views that an older recipe made: searched until a job has made them anew. On both engines."""

from pathlib import Path

import pytest

import hartonomous as hn
from hartonomous.operations.search import SearchFilter
from hartonomous.packs import picture_views, text_views
from hartonomous.ports.progress import NoProgress
from hartonomous.worker.kinds import Work, checked

PICTURES = Path(__file__).parents[1] / "fixtures" / "pictures"
PASSAGES = SearchFilter(kinds=("passage",))


@pytest.fixture
def filled(store, source):
    store.add(source("pump.md", b"# Pumps\n\nThe main valve of the pump leaks.\n"), name="pump")
    store.add(source("bread.md", b"# Bread\n\nThe dough rests overnight.\n"), name="bread")
    store.views.make()
    return store


def names(store, words):
    return [one.name for one in store.search(words, where=PASSAGES).hits]


def run(store, job):
    kind, given = checked(job.kind, job.arguments)
    return kind.run(Work(store.parts, store.settings, NoProgress()), given).report


def recipes(store):
    with text_views.open_index(store.parts) as index:
        return {one.partition("/")[0] for one in index.recipes().values()}


def test_searches_use_what_an_older_recipe_read_until_a_job_made_it_anew(
    filled, source, monkeypatch
):
    old = recipes(filled)
    monkeypatch.setattr(text_views, "RECIPE", "documents-next")
    assert filled.views.list().stale_count == 2
    assert names(filled, "valve") == ["pump"]
    assert recipes(filled) == old
    (job,) = filled.jobs.list(kind="views")
    assert names(filled, "dough") == ["bread"]
    filled.add(source("ship.md", b"# Ships\n\nA ship with two masts.\n"), name="ship")
    assert names(filled, "masts") == ["ship"]  # what is new is read at once, by the new recipe
    assert recipes(filled) == {*old, "documents-next"}
    assert names(filled, "valve") == ["pump"]
    assert [one.id for one in filled.jobs.list(kind="views")] == [job.id]  # one is enough
    assert filled.views.list().stale_count == 2
    assert run(filled, job).read_count == 2
    assert recipes(filled) == {"documents-next"}
    assert filled.views.list().stale_count == 0
    filled.jobs.cancel(job.id)  # stands for its end
    assert names(filled, "valve") == ["pump"]
    assert len(filled.jobs.list(kind="views")) == 1  # nothing is left to be asked for


def test_a_job_that_was_killed_goes_on_where_it_was(filled, monkeypatch):
    monkeypatch.setattr(text_views, "RECIPE", "documents-next")
    names(filled, "valve")
    (job,) = filled.jobs.list(kind="views")
    put = text_views._Making.take
    taken = []

    def dies(self, process, one):
        if taken:
            raise KeyboardInterrupt
        taken.append(one)
        put(self, process, one)

    with monkeypatch.context() as once:
        once.setattr(text_views._Making, "take", dies)
        with pytest.raises(KeyboardInterrupt):
            run(filled, job)
    assert filled.views.list().stale_count == 1
    assert names(filled, "valve") == ["pump"]
    assert names(filled, "dough") == ["bread"]
    assert run(filled, job).read_count == 1
    assert recipes(filled) == {"documents-next"}


def test_searches_do_not_wait_for_the_job(filled, source, monkeypatch):
    filled.add(source("ship.md", b"# Ships\n\nA ship with two masts.\n"), name="ship")
    names(filled, "valve")
    found = []
    advance = NoProgress.advance

    class Watching(NoProgress):
        def advance(self, *given, **more):
            found.append(names(filled, "valve masts"))
            return advance(self, *given, **more)

    kind, given = checked("views", {"again": True})
    report = kind.run(Work(filled.parts, filled.settings, Watching()), given).report
    assert report.read_count == 3
    assert len(found) >= 3
    assert all(set(one) == {"pump", "ship"} for one in found)


def test_a_worker_asks_for_it_once(filled, monkeypatch):
    assert text_views.request_stale(filled.parts) is None
    monkeypatch.setattr(text_views, "RECIPE", "documents-next")
    number = text_views.request_stale(filled.parts)
    assert filled.jobs.get(number).kind == "views"
    assert text_views.request_stale(filled.parts) is None


def test_an_add_asks_for_it_once(filled, source, monkeypatch):
    filled.add(source("ship.md", b"# Ships\n\nA ship with two masts.\n"), name="ship")
    assert filled.jobs.list(kind="views") == []
    monkeypatch.setattr(text_views, "RECIPE", "documents-next")
    filled.add(source("oar.md", b"# Oars\n\nAn oar of ash.\n"), name="oar")
    filled.add(source("sail.md", b"# Sails\n\nA sail of linen.\n"), name="sail")
    assert len(filled.jobs.list(kind="views")) == 1


def test_an_add_counts_where_the_index_of_words_is_damaged(tmp_path, source):
    with hn.open(tmp_path / "alone", create=True) as store:
        store.views.make()
        index = text_views.index_path(store.parts)
    index.write_bytes(b"no database" * 1000)
    with hn.open(tmp_path / "alone") as again:
        again.add(source("oar.md", b"# Oars\n\nAn oar of ash.\n"), name="oar")
        assert again.show("oar").number == 1


def test_a_store_without_views_gets_none(store):
    assert text_views.request_stale(store.parts) is None
    assert not text_views.index_path(store.parts).exists()


def test_pictures_that_can_be_compared_stay_and_others_are_seen_anew(store, source, monkeypatch):
    pytest.importorskip("pdqhash")
    store.add(source("scene.jpg", (PICTURES / "scene.jpg").read_bytes()), name="scene")
    store.views.make()
    looked_at = "pictures-next"
    monkeypatch.setattr(picture_views, "_READING", looked_at)
    assert [one.name for one in store.similar_images(PICTURES / "scene.png").hits] == ["scene"]
    (job,) = store.jobs.list(kind="views")
    with picture_views.open_pictures(store.parts) as index:
        assert not any(one.startswith(looked_at) for one in index.recipes().values())
    assert run(store, job).picture_count == 1
    with picture_views.open_pictures(store.parts) as index:
        assert all(one.startswith(looked_at) for one in index.recipes().values())
    monkeypatch.setattr("hartonomous.core.picture_hash.RECIPE", "hash-next")
    store.similar_images(PICTURES / "scene.png")  # its hashes are others: they are made at once
    assert store.views.list().stale_count == 0


def test_a_worker_asks_for_pictures_too(store, source, monkeypatch):
    pytest.importorskip("pdqhash")
    store.add(source("scene.jpg", (PICTURES / "scene.jpg").read_bytes()), name="scene")
    assert picture_views.request_stale_pictures(store.parts) is None
    store.views.make()
    assert picture_views.request_stale_pictures(store.parts) is None
    monkeypatch.setattr(picture_views, "_READING", "pictures-next")
    assert text_views.request_stale(store.parts) is None
    number = picture_views.request_stale_pictures(store.parts)
    assert store.jobs.get(number).kind == "views"


def test_what_another_process_removes_is_not_found(filled):
    assert set(names(filled, "valve dough")) == {"pump", "bread"}
    with hn.open(filled.path) as other:
        other.rm("pump")
    assert set(names(filled, "valve dough")) == {"bread"}
    with hn.open(filled.path) as other:
        other.undo()
    assert set(names(filled, "valve dough")) == {"pump", "bread"}
    filled.mv("pump", "engine")
    assert set(names(filled, "valve dough")) == {"engine", "bread"}
