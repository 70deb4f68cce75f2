"""Push and pull: what the other store lacks goes over as it lies, and nothing else."""

import numpy as np
import pytest
from disk import noise
from safetensors.numpy import save
from store_family import FAMILY, depths, fill, stored

import hartonomous as hn
from hartonomous.errors import ConflictError, NotFoundError, UsageError
from hartonomous.operations import transfer
from hartonomous.packs.receiving import Receiver


@pytest.fixture
def other(tmp_path):
    with hn.open(tmp_path / "other", create=True, settings={"workers": 2}) as opened:
        yield opened


def listed(store):
    return [
        (one.name, one.number, one.digest, one.labels, one.created_us, one.source)
        for one in store.ls(versions=True)
    ]


def test_variants_go_over_as_they_lie_with_what_they_are_built_on(store, other, source):
    fill(store, source, FAMILY)
    done = store.push(other)
    assert done.sent_bytes == stored(store) == stored(other)
    assert depths(other) == depths(store)
    assert max(depths(other).values()) > 0
    assert listed(other) == listed(store)
    assert other.verify(files=True).faults == ()
    again = store.push(other)
    assert (again.carried, again.sent_bytes, again.atom_count) == ((), 0, 0)


def test_of_a_fine_tune_only_the_difference_goes_where_its_base_is(store, other, source):
    fill(store, source, ["base"])
    store.push(other)
    fill(store, source, ["tuned"])
    done = store.push(other, ["tuned"])
    assert 0 < done.sent_bytes < 0.6 * len(FAMILY["tuned"])
    other.get("tuned", source("x", b"").parent / "tuned.out")
    assert (source("x", b"").parent / "tuned.out").read_bytes() == FAMILY["tuned"]


def test_a_base_goes_over_with_what_is_built_on_it_alone(store, other, source):
    """The base's own file does not go; what the tensors need does."""
    fill(store, source, ["base", "tuned"])
    store.push(other, ["tuned"])
    assert [one.name for one in other.ls()] == ["tuned"]
    assert other.verify(files=True).faults == ()
    assert other.gc(trash_days=0, grace_s=0).rebased_count == 1, "no file there holds the base"
    assert other.verify(files=True).faults == ()


def test_everything_that_was_said_goes_along(store, other, source):
    fill(store, source, ["base", "tuned"])
    store.add(source("f", noise(9000)), name="f", labels=["a"], tags=["t"], metadata={"k": "1"})
    store.label("tuned", "prod")
    store.relate("tuned", "fine-tune-of", "base", note="said so")
    store.push(other)
    store.add(source("f", noise(9000)), name="f", tags=["u"], metadata={"k": "2"})
    store.unlabel("f", "a")
    store.mv("base", "origin")
    other.label("tuned", "mine")
    done = store.push(other)
    assert {one.action for one in done.carried} == {"annotate", "unlabel", "rename"}
    shown = other.show("f")
    assert (shown.tags, shown.metadata, shown.labels) == (("t", "u"), {"k": "2"}, ())
    assert set(other.show("tuned").labels) == {"mine", "prod"}
    assert [one.note for one in other.relations()] == ["said so"]
    assert other.relations()[0].target == "origin@1"
    store.unrelate("tuned", "fine-tune-of", "origin")
    store.push(other)
    assert other.relations() == ()


def test_later_statements_win_whoever_made_them(store, other, source):
    store.add(source("f", noise(900, 1)), name="f")
    store.add(source("f", noise(900, 2)), name="f")
    store.push(other)
    store.label("f@1", "prod")
    other.label("f@2", "prod")
    store.push(other)
    assert other.show("f@prod").number == 2, "said later"
    store.pull(other)
    assert store.show("f@prod").number == 2
    other.unlabel("f", "prod")
    store.pull(other)
    with pytest.raises(NotFoundError):
        store.show("f@prod")


def test_what_is_removed_goes_to_the_trash_there_and_can_be_had_back(store, other, source):
    store.add(source("f", noise(900)), name="f", labels=["prod"])
    store.push(other)
    store.rm("f")
    store.push(other)
    assert other.ls() == []
    assert [one.name for one in other.ls(trash=True)] == ["f"]
    other.undo()
    assert other.show("f").labels == ("prod",)
    store.pull(other)
    assert store.show("f").labels == ("prod",)
    other.rm("f")
    store.push(other)
    assert other.ls() == [], "the removal came later than what the other says"


def test_what_is_deleted_for_good_does_not_come_back(store, other, source):
    store.add(source("f", noise(900)), name="f")
    store.push(other)
    other.rm("f")
    other.gc(trash_days=0, grace_s=0)
    done = store.push(other)
    assert other.ls() == []
    assert "deleted for good" in done.notes[0]
    store.pull(other)
    assert store.ls() == []
    assert [one.name for one in store.ls(trash=True)] == ["f"]


def test_versions_made_apart_are_merged_by_time(store, other, source):
    def add(where, seed):
        where.add(source("f", noise(900, seed)), name="f")
        return where.show("f").digest

    first = add(store, 1)
    store.push(other)
    mine, yours, later = add(store, 2), add(other, 3), add(store, 4)
    done = store.push(other)
    said = [(one.number, one.digest) for one in other.ls("f", versions=True)]
    assert [digest for _, digest in said] == [first, mine, yours, later]
    assert [number for number, _ in said] == sorted({number for number, _ in said})
    assert "renumber" in {one.action for one in done.carried}
    store.pull(other)
    assert listed(store) == listed(other)
    assert store.show("f").digest == later


def test_a_name_that_means_something_else_is_told_before_anything_is_sent(store, other, source):
    store.add(source("f", noise(900, 1)), name="f")
    store.add(source("g", noise(900, 2)), name="g")
    other.add(source("f", noise(900, 3)), name="f")
    for dry_run in (True, False):
        with pytest.raises(ConflictError, match="different things"):
            store.push(other, dry_run=dry_run)
    assert [one.name for one in other.ls()] == ["f"]
    store.push(other, ["f"], as_name="theirs/f")
    assert [one.name for one in other.ls()] == ["f", "theirs/f"]
    hn.sync(store, other, rename=True)
    assert sorted(one.name for one in store.ls()) == sorted(one.name for one in other.ls())
    assert len(store.ls()) == 3


def test_the_same_files_added_apart_are_one_artifact(store, other, source):
    for one in (store, other):
        one.add(source("f", noise(900, 1)), name="f")
    store.add(source("f", noise(900, 2)), name="f", labels=["new"])
    done = store.push(other)
    assert [one.action for one in done.carried] == ["add", "label"]
    assert [one.number for one in other.ls("f", versions=True)] == [1, 2]
    assert hn.sync(store, other).pushed.carried == ()


def test_names_choose_what_goes(store, other, source):
    for name in ("a/1", "a/2", "b"):
        store.add(source("f", noise(900, len(name))), name=name, labels=["x"])
    store.add(source("f", noise(900, 9)), name="b")
    store.push(other, ["a/*"])
    assert [one.name for one in other.ls()] == ["a/1", "a/2"]
    store.push(other, ["b@x"])
    assert [(one.number, one.labels) for one in other.ls("b", versions=True)] == [(1, ("x",))]
    store.push(other, ["b@2"])
    assert [one.number for one in other.ls("b", versions=True)] == [1, 2]
    for names in (["none"], ["b", "b@7"]):
        with pytest.raises(NotFoundError, match="has no"):
            store.push(other, names)
    with pytest.raises(UsageError, match="the same store"):
        store.push(store)
    with pytest.raises(UsageError, match="--as"):
        store.push(other, as_name="x")


def test_a_dry_run_tells_what_would_go_and_changes_nothing(store, other, source):
    fill(store, source, FAMILY)
    told = store.push(other, dry_run=True)
    assert other.ls() == []
    done = store.push(other)
    assert (told.sent_bytes, told.atom_count) == (done.sent_bytes, done.atom_count)
    assert told.version_count == done.version_count == len(FAMILY)


def test_what_came_before_a_run_was_cut_short_is_not_sent_again(store, other, source, monkeypatch):
    for number in range(6):
        store.add(source(f"f{number}", noise(300_000, number)), name=f"f{number}")
    monkeypatch.setattr(transfer, "_PUBLISH_BYTES", 600_000)
    take, taken = Receiver.take, []

    def cut_short(self, *arguments):
        if len(taken) == 4:
            raise KeyboardInterrupt
        taken.append(arguments)
        take(self, *arguments)

    monkeypatch.setattr(Receiver, "take", cut_short)
    with pytest.raises(KeyboardInterrupt):
        store.push(other)
    kept = len(other.ls())
    assert kept >= 2
    monkeypatch.setattr(Receiver, "take", take)
    done = store.push(other)
    assert done.version_count == 6 - kept
    assert done.sent_bytes <= (6 - kept) * 300_000
    assert other.verify(files=True).faults == ()
    other.gc(trash_days=0, grace_s=0)
    assert listed(other) == listed(store)


def test_an_atom_larger_than_a_pack_goes_over_in_its_parts(tmp_path, source, other):
    large = source("large.safetensors", save({"w": np.frombuffer(noise(5_000_000), np.uint8)}))
    settings = {"workers": 2, "pack_bytes": 2 << 20}
    with hn.open(tmp_path / "small", create=True, settings=settings) as small:
        small.add(large, name="large")
        done = small.push(other)
        assert done.failed == ()
        back = other.push(small)
        assert (back.carried, back.sent_bytes) == ((), 0)
    other.get("large", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == large.read_bytes()


def test_a_repair_of_the_receiving_store_gives_the_same(store, other, source):
    fill(store, source, FAMILY)
    store.push(other)
    store.add(source("f", noise(900, 1)), name="base")
    other.add(source("f", noise(900, 2)), name="base")
    hn.sync(store, other)
    said, place = listed(other), other.path
    other.close()
    assert hn.repair(place).lost == ()
    with hn.open(place) as again:
        assert listed(again) == said
        assert again.verify(files=True).faults == ()
        assert hn.sync(store, again).pushed.carried == ()
