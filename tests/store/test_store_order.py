"""The order in which a family comes matters little, and what no file holds is given up."""

import random
import shutil

import numpy as np
import pytest
from disk import pack_paths
from hypothesis import given, settings
from hypothesis import strategies as st
from killed_child import run_and_kill
from store_family import BASE, FAMILY, check, content_of, depths, edges, fill, model, normal, stored

import hartonomous as hn
from hartonomous.catalog import atoms
from hartonomous.core.digest import digest
from hartonomous.core.plan import Cast, Operand, Plan
from hartonomous.core.record import Encoding
from hartonomous.operations import collect
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.reencoding import reencode
from hartonomous.packs.session import WriteSession
from hartonomous.packs.variants import Chosen
from hartonomous.ports.progress import NoProgress


@pytest.fixture
def forward(tmp_path, source):
    with hn.open(tmp_path / "forward", create=True, settings={"workers": 2}) as store:
        fill(store, source, FAMILY)
        store.repack()
        yield stored(store)


def test_a_family_takes_as_much_in_whatever_order_it_came(store, source, tmp_path, forward):
    fill(store, source, reversed(FAMILY))
    before = stored(store)
    done = store.repack()
    assert done.complete
    assert done.notes == ()
    assert before > 1.02 * forward  # there is something to mend
    assert stored(store) <= 1.02 * forward
    assert max(depths(store).values()) <= 2
    store.gc(grace_s=0)
    check(store, tmp_path / "out", FAMILY)
    again = store.repack()
    assert (again.examined_count, again.atom_count) == (0, 0)
    assert store.repack(again=True).atom_count == 0


@settings(max_examples=6, deadline=None)
@given(order=st.permutations(sorted(FAMILY)), every=st.booleans())
def test_any_order_and_repacks_in_between(tmp_path_factory, order, every):
    place = tmp_path_factory.mktemp("order")
    with hn.open(place / "store", create=True, settings={"workers": 1}) as store:
        for name in order:
            path = place / f"{name}.safetensors"
            path.write_bytes(FAMILY[name])
            store.add(path, name=name)
            if every:
                store.repack()
        store.repack()
        assert stored(store) <= 0.75 * sum(len(FAMILY[one]) for one in ("base", "tuned"))
        assert max(depths(store).values()) <= 2
        check(store, place / "out", FAMILY)
    shutil.rmtree(place)


def test_only_what_has_newer_relatives_is_looked_at_again(store, source):
    other = {"other": model(normal(50, (128, 256)))}
    fill(store, source, other, other)
    fill(store, source, ["half"])
    store.repack()
    fill(store, source, ["base"])
    done = store.repack()
    # Tensor and header of the new file and the half that resembles it, not the other one.
    assert done.examined_count == 3
    assert store.repack().examined_count == 0


def test_a_dry_run_of_other_bases_changes_nothing(store, source):
    fill(store, source, reversed(FAMILY))
    before = {path: path.stat().st_mtime_ns for path in pack_paths(store.path)}
    held = edges(store)
    dry = store.repack(dry_run=True)
    assert dry.atom_count > 0
    assert dry.stored_bytes < dry.former_bytes
    assert {path: path.stat().st_mtime_ns for path in pack_paths(store.path)} == before
    assert edges(store) == held


def test_without_variants_nothing_is_built_on_others(store, source):
    with hn.open(store.path, settings={"variants": False}) as plain:
        fill(plain, source, FAMILY)
        plain.repack()
        assert edges(plain) == []


def test_turned_around_beside_a_reader_that_knows_the_old_places(store, source, tmp_path):
    """What was built on a tensor becomes its base; an open reader goes on, old packs or none."""
    fill(store, source, ["tuned", "half", "base"])
    with hn.open(store.path, settings={"frame_cache_bytes": 0}) as reader:
        # It has looked up one of the two only: the other it will find where it lies now.
        assert content_of(reader, "base", tmp_path / "out") == FAMILY["base"]
        with hn.open(store.path) as writer:
            writer.repack()
            assert content_of(reader, "half", tmp_path / "out") == FAMILY["half"]
            assert content_of(reader, "base", tmp_path / "out") == FAMILY["base"]
            writer.gc(grace_s=0)
        check(reader, tmp_path / "out", ["tuned", "half", "base"])


def test_a_circle_by_old_places_is_looked_up_again(store, source, tmp_path):
    """A reader that knows the old place of one and the new place of the other sees a circle."""
    coarse, fine = digest(BASE.astype(np.float16).tobytes()), digest(BASE.tobytes())
    fill(store, source, ["half", "base"])
    with store.parts.database.read() as tx:
        rows = {one.digest: one for one in atoms.stored_page(tx, after_id=0, limit=99)}
    assert rows[fine].depth == 1
    with hn.open(store.path, settings={"frame_cache_bytes": 0}) as other:
        reader = AtomReader(other.parts)
        reader.locate([fine])  # the old place, which names the half as its base
        _turn(store, rows[coarse], rows[fine])
        assert depths(store)[coarse] == 1
        assert depths(store)[fine] == 0
        out = bytearray(BASE.nbytes)
        reader.decode_into(fine, memoryview(out))
        assert bytes(out) == BASE.tobytes()
    check(store, tmp_path / "out", ["half", "base"])


def _turn(store, coarse, fine):
    """Write the fine tensor on its own and the coarse one built on it, as repack may decide."""
    reader = AtomReader(store.parts)
    with WriteSession(store.parts) as session:
        reencode(session, reader, fine, Encoding.FIELDS, lambda *_: None, None, larger=True)
        session.flush()
        assert session.hold([fine.digest]) == {fine.digest}
        plan = Plan("F16", BASE.shape, (Operand("F32", BASE.shape),), (Cast("F16"),))
        chosen = Chosen(plan, (fine.digest,), 0)
        reencode(session, reader, coarse, None, lambda *_: None, chosen, larger=True)
        session.flush()
    reader.close()


_KILLED = """
import sys
import hartonomous as hn
from hartonomous.operations import repack
repack._FLUSH_BYTES = 1
with hn.open(sys.argv[1]) as store:
    print("began", flush=True)
    store.repack(again=True)
    store.gc(trash_days=0, grace_s=0)
"""


def test_killed_at_any_moment(store, source, tmp_path, forward):
    fill(store, source, reversed(FAMILY))
    path = store.path
    store.close()
    chance = random.Random(7)
    for _ in range(6):
        run_and_kill(_KILLED, path, chance, within_s=0.3)
        with hn.open(path) as again:
            assert again.verify(files=True).sound
    with hn.open(path) as again:
        assert again.repack(again=True).complete
        again.gc(grace_s=0)
        assert stored(again) <= 1.02 * forward
        check(again, tmp_path / "out", FAMILY)


def test_undo_and_repair_after_a_repack(store, source, tmp_path):
    fill(store, source, reversed(FAMILY))
    store.repack()
    store.rm("base")
    store.gc(grace_s=0)
    store.repack(again=True)
    store.undo()
    check(store, tmp_path / "out", FAMILY)
    path, held = store.path, depths(store)
    store.gc(grace_s=0)
    store.close()
    done = hn.repair(path)
    assert (done.damaged, done.lost) == ((), ())
    with hn.open(path) as again:
        assert depths(again) == held
        check(again, tmp_path / "out", FAMILY)


# -- bases that no file holds


def test_what_is_cheaper_without_a_removed_base_is_built_on_something_else(
    store, source, tmp_path, monkeypatch
):
    monkeypatch.setattr(collect, "SMALL_PACKS", 1)
    fill(store, source, ["base", "half", "brain"])
    # 0.8 of four bytes an element are kept for what takes at most two on its own.
    dry_rm = store.rm("base", dry_run=True)
    real_rm = store.rm("base")
    for one in (dry_rm, real_rm):
        assert one.base_count == 1
        assert one.base_bytes > BASE.nbytes // 2
        assert {file.split("@")[0] for file in one.needed_by} == {"half", "brain"}
    dry = store.gc(trash_days=0, grace_s=0, dry_run=True)
    before = stored(store)
    real = store.gc(trash_days=0, grace_s=0)
    assert dry.rebased_count == real.rebased_count == 2
    assert dry.rebased_saved_bytes == real.rebased_saved_bytes > 0
    assert (dry.kept_count, dry.kept_bytes) == (real.kept_count, real.kept_bytes) == (0, 0)
    assert dry.atom_count == real.atom_count
    assert stored(store) < 0.6 * before
    assert digest(BASE.tobytes()) not in depths(store)
    assert store.stats().kept_as_bases.count == 0
    check(store, tmp_path / "out", ["half", "brain"])


def test_what_would_take_more_keeps_its_base(store, source, tmp_path):
    fill(store, source, ["base", "tuned"])
    store.rm("base")
    held = edges(store)
    files = {f"t{at}": model(BASE + normal(100 + at) * np.float32(1e-4)) for at in range(4)}
    fill(store, source, files, files)
    real = store.gc(trash_days=0, grace_s=0)
    assert real.kept_count == 1
    assert real.kept_bytes == store.stats().kept_as_bases.stored_bytes > 0
    assert real.rebased_count == 0
    assert set(held) <= set(edges(store))
    check(store, tmp_path / "out", ["tuned", *files], {**FAMILY, **files})
    # Decided once: nothing is measured again while nothing changes.
    assert store.gc(trash_days=0, grace_s=0).kept_count == 1


def test_an_undo_before_the_trash_is_emptied_finds_everything(store, source, tmp_path):
    fill(store, source, ["base", "half", "brain"])
    store.rm("base")
    assert store.gc(trash_days=30, grace_s=0).rebased_count == 0
    store.undo()
    check(store, tmp_path / "out", ["base", "half", "brain"])


def test_rm_of_what_nothing_needs_says_nothing(store, source):
    fill(store, source, ["base", "half"])
    assert store.rm("half").base_count == 0
    store.undo()
    # Both at once: what would need the base goes with it.
    fill(store, source, ["base"])
    done = store.rm("*", dry_run=True)
    assert (done.base_count, done.needed_by) == (0, ())


_KILLED_GC = """
import sys
import hartonomous as hn
with hn.open(sys.argv[1]) as store:
    print("began", flush=True)
    store.gc(trash_days=0, grace_s=0)
"""


def test_a_collection_killed_while_it_rebases(store, source, tmp_path):
    fill(store, source, ["base", "half", "brain"])
    store.rm("base")
    path = store.path
    store.close()
    chance = random.Random(11)
    for _ in range(4):
        run_and_kill(_KILLED_GC, path, chance, within_s=0.3)
        with hn.open(path) as again:
            assert again.verify(files=True).sound
    with hn.open(path) as again:
        again.gc(trash_days=0, grace_s=0)
        assert again.stats().kept_as_bases.count == 0
        check(again, tmp_path / "out", ["half", "brain"])


def test_that_something_is_built_on_a_tensor_is_no_fault_to_tell(store, source):
    """It is met where a repack looks for what the tensor could be built on."""
    notes = []

    class Told(NoProgress):
        def note(self, text):
            notes.append(text)

    fill(store, source, ["base", "tuned"])
    assert edges(store)
    store.repack(again=True, progress=Told())
    assert notes == []
