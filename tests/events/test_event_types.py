"""Every change of a store is told, once, with what its schema promises."""

import re

import numpy as np
import pytest
from safetensors.numpy import save, save_file
from sqlalchemy import text
from told import DATA, ROOT, kinds, told

import hartonomous as hn
from hartonomous.catalog import events
from hartonomous.core.event import MAX_DATA_BYTES, TYPES, source_of
from hartonomous.errors import ConflictError

FEED = {"workers": 1}


class Feed:
    """The events since it was asked last."""

    def __init__(self, store):
        self._store = store
        self._since = "beginning"

    def __call__(self):
        found = told(self._store, self._since)
        self._since = found[-1].id if found else self._since
        return found


@pytest.fixture
def news(store):
    return Feed(store)


def test_each_type_has_a_schema():
    assert DATA["$defs"].keys() == TYPES.keys()
    assert all(one["additionalProperties"] is False for one in DATA["$defs"].values())


def test_adding(store, source, news):
    path = source("a.txt", b"one")
    store.add(path, name="org/a", labels=["prod", "best"], tags=["t"], metadata={"k": "v"})
    added, first, second = news()
    assert (added.type, added.subject) == ("artifact.added", "org/a")
    assert added.source == source_of(store.id) == f"urn:uuid:{_dashed(store.id)}"
    assert added.data["logical_bytes"] == 3
    assert added.data["source"]["place"] == str(path)
    assert (added.data["labels"], added.data["tags"]) == (["prod", "best"], ["t"])
    assert {first.data["label"], second.data["label"]} == {"prod", "best"}
    assert kinds([first, second]) == ["artifact.labelled"] * 2
    store.add(path, name="org/a", labels=["prod"])
    assert news() == []  # the same bytes under the same label
    source("a.txt", b"two")
    store.add(path, name="org/a", labels=["prod"])
    updated, moved = news()
    assert kinds([updated, moved]) == ["artifact.updated", "artifact.labelled"]
    assert (moved.data["previous_version"], moved.data["version"]) == (1, 2)
    assert updated.data["sequence"] == store.log(limit=1)[0].sequence
    assert updated.time_us == store.log(limit=1)[0].at_us


def _dashed(name):
    return "-".join((name[:8], name[8:12], name[12:16], name[16:20], name[20:]))


def test_what_was_there_already_is_told_of_where_something_changed(store, source, news):
    path = source("a.txt", b"one")
    store.add(path, name="a")
    news()
    store.add(path, name="a", tags=["new"], metadata={"key": "value"}, labels=["prod"])
    annotated, labelled = news()
    assert kinds([annotated, labelled]) == ["artifact.annotated", "artifact.labelled"]
    assert (annotated.data["tags"], annotated.data["metadata_keys"]) == (["new"], ["key"])


def test_models(store, source, news):
    weights = {"model.layers.0.mlp.up_proj.weight": np.ones((8, 8), np.float16)}
    folder = source("tiny/config.json", b'{"architectures": ["LlamaForCausalLM"],'
                    b' "model_type": "llama"}').parent  # fmt: skip
    save_file(weights, folder / "model.safetensors")
    store.add(folder)
    added, model = news()
    assert kinds([added, model]) == ["artifact.added", "model.ingested"]
    assert model.data["architecture"] == "LlamaForCausalLM"
    assert (model.data["parameter_count"], model.data["formats"]) == (64, ["safetensors"])
    assert (model.data["dtypes"], model.data["file_count"]) == (["F16"], 2)


def test_labels_names_and_the_trash(store, source, news):
    for number in range(3):
        store.add(source("a.txt", b"%d" % number), name="a")
    news()
    store.label("a@1", "prod")
    store.label("a@1", "prod")  # nothing to change
    store.label("a@2", "prod")
    done = news()
    assert [(e.data["previous_version"], e.data["version"]) for e in done] == [(None, 1), (1, 2)]
    store.undo()
    (back,) = news()
    assert (back.type, back.data["previous_version"], back.data["version"]) == (
        "artifact.labelled", 2, 1,
    )  # fmt: skip
    store.mv("a", "b/c")
    store.mv("b/c", "b/c")
    (moved,) = news()
    assert (moved.subject, moved.data["name"]) == ("a", "b/c")
    store.undo()
    (moved,) = news()
    assert (moved.subject, moved.data["name"]) == ("b/c", "a")
    store.rm("a")
    found = news()
    assert kinds(found) == ["artifact.unlabelled", *["artifact.removed"] * 3]
    assert {one.data["remaining_count"] for one in found[1:]} == {0}
    store.undo()
    assert kinds(news()) == [*["artifact.restored"] * 3, "artifact.labelled"]
    store.unlabel("a", "prod")
    assert kinds(news()) == ["artifact.unlabelled"]
    store.rm("a@3")
    (gone,) = news()
    assert (gone.data["version"], gone.data["remaining_count"]) == (3, 2)
    store.gc(trash_days=0, grace_s=0)
    purged, collected = news()
    assert kinds([purged, collected]) == ["artifact.purged", "store.collected"]
    assert (purged.subject, purged.data["version"]) == ("a", 3)
    assert collected.data["purged_count"] == 1
    store.gc(trash_days=0, grace_s=0)
    store.gc(trash_days=0, grace_s=0)
    assert len(news()) <= 1  # of what the first one could not see yet; then there is nothing


def test_dropped_parts(store, news):
    weights = {"w": np.ones((4, 4), np.float32)}
    state = {"state": {"w": np.zeros((4, 4), np.float32)}, "param_groups": []}
    store.add_tensors(weights, "run", optimizer=state, step=1)
    news()
    store.drop("run", "optimizer")
    (dropped,) = news()
    assert dropped.type == "artifact.part-dropped"
    assert dropped.data["paths"] == ["optimizer.safetensors"]
    assert dropped.data["digest"] != dropped.data["previous_digest"]
    store.undo()
    (back,) = news()
    assert back.type == "artifact.part-restored"
    assert back.data["digest"] == dropped.data["previous_digest"]


def test_relations(store, source, news):
    store.add([source("a", b"a"), source("b", b"b")])
    news()
    store.relate("a", "fine-tune-of", "b", weight=0.5, note="because")
    (made,) = news()
    assert (made.type, made.subject, made.data["target"]["name"]) == ("relation.created", "a", "b")
    assert (made.data["weight"], made.data["note"]) == (0.5, "because")
    store.unrelate("a", "fine-tune-of", "b")
    assert kinds(news()) == ["relation.removed"]
    store.undo()
    assert kinds(news()) == ["relation.created"]


def test_care_of_the_store(store, source, news):
    base = np.random.default_rng(1).standard_normal((300, 300)).astype(np.float32)
    store.add(source("a.safetensors", save({"w": base})))
    news()
    assert store.verify().sound
    assert store.repack(dry_run=True).dry_run
    assert news() == []
    with store.parts.database.write() as tx:
        tx.execute(text("UPDATE atom SET size_bytes = size_bytes + 1"))
    assert not store.verify().sound
    (found,) = news()
    assert (found.type, found.subject) == ("store.verified", None)
    assert found.data["fault_count"] >= len(found.data["faults"]) > 0


def test_repacking(tmp_path, catalog_engine, source):
    base = np.random.default_rng(1).standard_normal((300, 300)).astype(np.float32)
    tuned = base + np.float32(1e-4) * base[::-1]
    with hn.open(tmp_path / "s", create=True, settings={**FEED, "variants": False}) as store:
        store.add(source("a.safetensors", save({"w": base})))
        store.add(source("b.safetensors", save({"w": tuned})))
    with hn.open(tmp_path / "s", settings=FEED) as store:
        done = store.repack()
        found = told(store)[-1]
        assert found.type == "store.repacked"
        assert found.data["atom_count"] == done.atom_count > 0
        store.repack()
        assert told(store)[-1].id == found.id  # nothing more to do, nothing to tell


def test_a_repair_begins_the_feed_anew(tmp_path, catalog_engine, source):
    with hn.open(tmp_path / "s", create=True, settings=FEED) as store:
        store.add(source("a", b"a"))
        store.label("a", "prod")
        before = told(store)
        store.events.cursors.set("mine", "now")
    hn.repair(tmp_path / "s")
    with hn.open(tmp_path / "s", settings=FEED) as store:
        (repaired,) = told(store)
        assert (repaired.type, repaired.data["version_count"]) == ("store.repaired", 1)
        assert told(store, before[-1].id) == [repaired]  # who reads on sees the gap
        assert store.events.cursors.list() == ()
        store.unlabel("a", "prod")
        after = told(store)
        assert not {one.id for one in before} & {one.id for one in after}
        assert kinds(after) == ["store.repaired", "artifact.unlabelled"]


def test_what_fails_is_not_told_of(store, source, news):
    store.add([source("a", b"a"), source("b", b"b")])
    news()
    with pytest.raises(ConflictError):
        store.mv("a", "b")
    assert store.add(source("c", b"c"), dry_run=True).dry_run
    assert store.rm("a", dry_run=True).dry_run
    assert store.label("a", "prod", dry_run=True).dry_run
    assert news() == []


def test_no_event_without_the_change_and_no_change_without_the_event(store, source, monkeypatch):
    store.add(source("a", b"a"))
    before = told(store)

    def fail(*words, **how):
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(events, "append_all", fail)
        with pytest.raises(InterruptedError):
            store.label("a", "prod")
        with pytest.raises(InterruptedError):
            store.add(source("b", b"b"))
    assert told(store) == before
    assert [(row.name, row.labels) for row in store.ls()] == [("a", ())]


def test_data_of_an_event_is_bounded(store, source, news):
    path = source("n" * 200, b"1")
    labels = [f"label-{number}-{'x' * 40}" for number in range(50)]
    tags = [f"{number}{'ü' * 60}" for number in range(50)]
    metadata = {f"key{number}": "value" * 500 for number in range(50)}
    store.add(path, name="n" * 500, labels=labels, tags=tags, metadata=metadata)
    found = news()
    assert kinds(found).count("artifact.labelled") == 50
    assert max(len(str(one.data).encode()) for one in found) < MAX_DATA_BYTES / 2
    with pytest.raises(ValueError, match="of 65544 bytes"), store.parts.database.write() as tx:
        events.append(tx, "artifact.added", "a", {"x": "y" * MAX_DATA_BYTES}, now_us=1)
    for kind in ("artifact", "Artifact.added", "a.b.c", ""):
        with pytest.raises(ValueError, match="no type"), store.parts.database.write() as tx:
            events.append(tx, kind, "a", {}, now_us=1)
    assert news() == []


def test_the_page_lists_every_type():
    page = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z.-]+)` \|", page, re.M) == list(TYPES)
