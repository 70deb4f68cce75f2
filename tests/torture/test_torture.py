"""A seeded sample of what `make torture` tries in full: nothing acknowledged is ever lost."""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.torture import operations, shim
from tests.torture.bench import Bench, Tally
from tests.torture.cut_connections import MODES as CUTS
from tests.torture.cut_connections import CutBench
from tests.torture.flips import KINDS, FlipBench
from tests.torture.shim import MODES, Operation

SEED = int(os.environ.get("HARTONOMOUS_TEST_SEED", str(random.SystemRandom().getrandbits(31))))
_FLIPS = {
    "pack": 3,
    "catalog": 3,
    "rows": 4,
    "twice": 2,
    "plain": 2,
    "stamp": 1,
    "card": 3,
    "index": 4,
    "block": 2,
    "vectors": 3,
    "tail": 2,
}
STEPS = [*operations.INSIDE, *operations.ALONE]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    print(f"HARTONOMOUS_TEST_SEED={SEED}")
    with Bench() as held:
        yield held


def nothing_wrong(tallies: list[Tally]) -> Tally:
    total = Tally()
    for one in tallies:
        total.add(one)
    assert total.wrong == []
    assert total.lost == 0
    return total


@pytest.mark.parametrize("step", STEPS)
def test_a_call_that_fails_leaves_the_step_done_or_undone(bench: Bench, step: str) -> None:
    """At a place by chance, with EIO and in another mode; behind one fault a retry succeeds."""
    chance = random.Random(f"{SEED} {step}")
    calls = bench.count(step)
    assert calls > 10, "the step writes nothing that the shim sees"
    other = chance.choice([mode for mode in MODES if mode not in ("none", "eio")])
    # The first half is reached for sure, however the threads take turns.
    tries = [("eio", chance.randint(1, calls // 2)), (other, chance.randint(1, calls))]
    total = nothing_wrong([bench.try_fault(step, mode, nth) for mode, nth in tries])
    assert total.hit, "no fault came about"


@pytest.mark.parametrize("name", sorted(operations.SCRIPTS))
def test_a_power_cut_takes_nothing_that_was_acknowledged(bench: Bench, name: str) -> None:
    chance = random.Random(f"{SEED} {name}")
    steps = operations.SCRIPTS[name]
    recorded = bench.record(name, steps)
    assert recorded.done["acknowledged"] == len(steps), recorded.done
    places = chance.sample(range(len(recorded.calls) + 1), 3)
    total = nothing_wrong(list(bench.try_cuts(recorded, chance, places, 1)))
    assert total.tried == 6


def test_a_sync_that_failed_is_not_made_good_by_a_later_one(bench: Bench) -> None:
    """Somebody else has the store open, so that closing it does not write everything once more."""
    chance = random.Random(f"{SEED} syncs")
    last = bench.failed_syncs("label")[-1]  # that of the commit in the catalog
    total = nothing_wrong([bench.try_failed_sync("label", last, chance, 1)])
    assert total.acknowledged, "the step that was tried again was not acknowledged"


@pytest.mark.parametrize("name", sorted(operations.SCRIPTS))
def test_the_log_has_every_byte_and_no_file_is_written_by_a_mapping(
    bench: Bench, name: str
) -> None:
    """Replaying the whole log gives the directory, byte for byte; else the shim missed a call."""
    recorded = bench.record(f"whole-{name}", operations.SCRIPTS[name])
    for call in recorded.calls:
        recorded.disk.take(call)
    again = bench.base / "again"
    recorded.disk.write_all(again)
    assert _content(again) == _content(recorded.store)
    shutil.rmtree(again)
    mapped = {path.rpartition(b"/")[2] for path in recorded.disk.mapped}
    assert mapped == {b"catalog.sqlite3-shm"} | (
        {b"catalog.sqlite3.repair-shm"} if "repair" in recorded.steps else set()
    )


def _content(place: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(place)): path.read_bytes() if path.is_file() else None
        for path in place.rglob("*")
        if not path.name.endswith("-shm")
    }


def test_a_disk_that_forgets_its_syncs_is_found_out(bench: Bench) -> None:
    """The model is no blind one: with every sync taken away acknowledged things are lost."""
    steps = ("add", "label")
    recorded = bench.record("forgetful", steps)
    recorded.calls = [one for one in recorded.calls if one.operation is not Operation.SYNC]
    (tally,) = bench.try_cuts(recorded, random.Random(1), [len(recorded.calls)], 0)
    assert tally.acknowledged == 2
    assert tally.lost == 2 and tally.wrong


@pytest.mark.parametrize("mode", ["enospc-on", "full"])
def test_a_full_disk_is_told_with_what_was_wanted_and_leaves_no_litter(
    bench: Bench, mode: str
) -> None:
    """Also where it fills up in the catalog; a message says so, and what to do."""
    chance = random.Random(f"{SEED} {mode}")
    calls = bench.count("add")
    first = range(1, 13)  # those of opening the catalog, which SQLite tells in several ways
    for nth in (*first, *chance.sample(range(13, calls // 2), 3)):
        store = bench.fresh("add")
        done = bench.run(store, ("add",), nth=nth, mode=mode)
        assert done["acknowledged"] == 0, done
        kind, message, hint = done["error"]
        assert kind == "StorageFullError", f"{mode} {nth}: {done}"
        assert "full" in message or "No space" in message or "no room" in message, message
        assert "space" in hint, hint
        found = bench.look(store)
        assert found["wrong"] == [] and found["left"] == 0, f"{mode} {nth}: {found}"
        assert found["state"] == bench.state_after(())


def test_a_connection_that_is_cut_leaves_the_step_done_or_undone(
    bench: Bench, postgres_server: object
) -> None:
    """The catalog is on a PostgreSQL server; a cut COMMIT was done, or it was not."""
    chance = random.Random(f"{SEED} connections")
    cuts = CutBench(bench, postgres_server)
    try:
        for step in ("update", chance.choice(["rm", "label", "gc", "verify"])):
            calls = cuts.count(step)
            assert calls > 5, "the step says nothing to the server"
            tries = [(mode, chance.randint(1, calls // 2)) for mode in CUTS]
            total = nothing_wrong([cuts.try_cut(step, mode, nth) for mode, nth in tries])
            assert total.hit == len(CUTS)
    finally:
        cuts.close()


@pytest.fixture(scope="module")
def flips(bench: Bench) -> FlipBench:
    return FlipBench(bench)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_found_or_changes_nothing(
    bench: Bench, flips: FlipBench, kind: str
) -> None:
    chance = random.Random(f"{SEED} {kind}")
    chosen = [flips.choose(kind, chance) for _ in range(_FLIPS[kind])]
    total = nothing_wrong([flips.try_flip(kind, one) for one in chosen])
    if kind in ("twice", "plain", "block", "vectors"):
        assert total.hit == total.tried


def test_a_shim_without_a_compiler_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(AssertionError, match="no C compiler"):
        shim.build(tmp_path)
