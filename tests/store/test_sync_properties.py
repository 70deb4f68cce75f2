"""Two stores that were worked on apart: after a sync they say the same, and nothing is lost."""

import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import hartonomous as hn
from hartonomous.core.digest import digest
from hartonomous.core.replica import Numbered, merge_numbers
from hartonomous.core.tree import tree_digest
from hartonomous.errors import HartonomousError

NAMES = ("m", "n", "o")
LABELS = ("prod", "best")
sides = st.integers(0, 1)
names = st.sampled_from(NAMES)
STEPS = st.one_of(
    st.tuples(st.just("add"), sides, names, st.integers(0, 5)),
    st.tuples(st.just("add"), sides, names, st.integers(0, 5)),
    st.tuples(st.just("rm"), sides, names),
    st.tuples(st.just("rm-one"), sides, names, st.integers(1, 3)),
    st.tuples(st.just("undo"), sides),
    st.tuples(st.just("label"), sides, names, st.sampled_from(LABELS), st.integers(1, 3)),
    st.tuples(st.just("unlabel"), sides, names, st.sampled_from(LABELS)),
    st.tuples(st.just("annotate"), sides, names, st.integers(0, 2)),
    st.tuples(st.just("purge"), sides),
    st.tuples(st.just("sync")),
    st.tuples(st.just("push")),
)


def content(number):
    return f"content {number}\n".encode() * 40


def files_of(folder, number):
    path = folder / f"file-{number}"
    path.write_bytes(content(number))
    return path


class Pair:
    """Two stores and what was done to them."""

    def __init__(self, base: Path) -> None:
        self.base = base
        open_one = lambda name: hn.open(base / name, create=True, settings={"workers": 1})  # noqa: E731
        self.stores = (open_one("a"), open_one("b"))
        self.removed: set[str] = set()

    def step(self, step) -> None:
        kind, *rest = step
        if kind == "sync":
            hn.sync(*self.stores, rename=True)
            return
        if kind == "push":
            self.stores[0].push(self.stores[1], rename=True)
            return
        store, rest = self.stores[rest[0]], rest[1:]
        with contextlib.suppress(HartonomousError):  # nothing of that name, nothing to undo
            self._do(store, kind, *rest)

    def _do(self, store, kind, *rest) -> None:
        match kind:
            case "add":
                store.add(files_of(self.base, rest[1]), name=rest[0])
            case "rm":
                self.removed |= {one.digest for one in store.ls(rest[0], versions=True)}
                store.rm(rest[0])
            case "rm-one":
                self.removed |= {one.digest for one in store.ls(rest[0], versions=True)}
                store.rm(f"{rest[0]}@{rest[1]}")
            case "undo":
                store.undo()
            case "label":
                store.label(f"{rest[0]}@{rest[2]}", rest[1])
            case "unlabel":
                store.unlabel(rest[0], rest[1])
            case "annotate":
                newest = store.show(rest[0], tensors=False)
                number = next(n for n in range(6) if digest_of(n) == newest.digest)
                store.add(
                    files_of(self.base, number), name=rest[0], tags=[f"t{rest[1]}"],
                    metadata={"key": f"v{rest[1]}"},
                )  # fmt: skip
            case "purge":
                store.gc(trash_days=0, grace_s=0)


def digest_of(number):
    path = f"file-{number}"
    return f"blake3:{tree_digest([(path, digest(content(number)))]).hex()}"


def told(store):
    return [
        (one.name, one.number, one.digest, sorted(one.labels),
         store.show(f"{one.name}@{one.number}", tensors=False).tags,
         store.show(f"{one.name}@{one.number}", tensors=False).metadata)
        for one in store.ls(versions=True)
    ]  # fmt: skip


@pytest.mark.timeout(900)
@given(st.lists(STEPS, min_size=2, max_size=12))
@settings(max_examples=25)
@example([("add", 0, "m", 0), ("add", 1, "m", 1)])
@example(
    [("add", 0, "m", 0), ("sync",), ("add", 0, "m", 1), ("add", 1, "m", 2), ("rm-one", 1, "m", 2)]
)
@example([("add", 0, "m", 0), ("add", 1, "m", 0), ("rm", 0, "m"), ("add", 0, "m", 1)])
@example([("add", 0, "m", 0), ("sync",), ("rm", 0, "m"), ("sync",), ("undo", 1)])
@example([("add", 0, "m", 0), ("sync",), ("rm", 1, "m"), ("add", 0, "m", 1), ("purge", 1)])
@example([("add", 0, "m", 0), ("sync",), ("rm", 1, "m"), ("add", 1, "m", 1), ("add", 0, "m", 2)])
def test_two_stores_agree_after_a_sync_and_lose_nothing(steps):
    base = Path(tempfile.mkdtemp())
    try:
        pair = Pair(base)
        for step in steps:
            pair.step(step)
        before = {one.digest for store in pair.stores for one in store.ls(versions=True)}
        hn.sync(*pair.stores, rename=True)
        hn.sync(*pair.stores, rename=True)
        first, second = pair.stores
        assert told(first) == told(second)
        third = hn.sync(*pair.stores, rename=True)
        assert (third.pulled.carried, third.pushed.carried) == ((), ())
        after = {one.digest for one in first.ls(versions=True)}
        assert before - pair.removed <= after
        for store in pair.stores:
            assert store.verify(files=True).faults == ()
            for one in store.ls(versions=True):
                store.get(f"{one.name}@{one.number}", base / "out", force=True)
                found = (base / "out").read_bytes()
                assert found in [content(number) for number in range(6)]
        said = told(first)
        first.close()
        hn.repair(base / "a")
        with hn.open(base / "a") as again:
            assert told(again) == said
        second.close()
    finally:
        shutil.rmtree(base)


numbered = st.builds(
    Numbered,
    st.binary(min_size=1, max_size=1),
    st.integers(1, 6),
    st.integers(0, 9),
)


def distinct(versions):
    """Return versions of one store: each uid and each number once."""
    uids = {one.uid: one for one in versions}
    return list({one.number: one for one in uids.values()}.values())


@given(st.lists(numbered), st.lists(numbered))
@settings(max_examples=300)
def test_numbers_are_merged_without_a_collision(here, there):
    here, there = distinct(here), distinct(there)
    merged = merge_numbers(here, there, first_free=7)
    assert set(merged) == {one.uid for one in (*here, *there)}
    assert len(set(merged.values())) == len(merged)
    assert all(merged[one.uid] >= one.number for one in (*here, *there)), "a number never falls"
    assert merge_numbers(there, here, first_free=7) == merged
    settled = [Numbered(uid, number, 0) for uid, number in merged.items()]
    assert merge_numbers(settled, here, first_free=99) == merged, "taken over, they stay"
