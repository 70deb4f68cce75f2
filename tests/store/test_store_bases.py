"""Bases are cared for: short chains under hot versions, second copies, the smallest encodings."""

from pathlib import Path

import numpy as np
import pytest
from disk import flip, pack_paths, records_of
from safetensors.numpy import save
from store_family import BASE, FAMILY, check, content_of, depths, edges, fill, model, normal, stored

import hartonomous as hn
from hartonomous.catalog import atoms, copies, families
from hartonomous.core.digest import digest
from hartonomous.core.record import RecordKind
from hartonomous.errors import IntegrityError
from hartonomous.operations import collect

# -- hot versions


def chain(length):
    """Each lies much nearer to the one before than to any other: a deeper base must save more."""
    values = [BASE]
    for at in range(length - 1):
        values.append(values[-1] + normal(20 + at) * np.float32(0.003 / 8**at))
    return {f"c{at}": model(value) for at, value in enumerate(values)}, values


def test_hot_versions_come_to_lie_over_one_base(store, source, tmp_path):
    files, values = chain(4)
    with hn.open(store.path, settings={"max_depth": 3}) as deep:
        fill(deep, source, files, files)
        held = depths(deep)
        hot = max(files, key=lambda name: held[digest(values[int(name[1:])].tobytes())])
        name = digest(values[int(hot[1:])].tobytes())
        assert held[name] >= 2
        deep.repack()
        assert depths(deep)[name] == held[name]
        told = deep.label(hot, "hot", dry_run=True)
        assert "hart repack" in told.detail
        deep.label(hot, "hot")
        dry = deep.repack(dry_run=True)
        assert dry.atom_count >= 1
        done = deep.repack()
        assert done.atom_count >= 1
        assert depths(deep)[name] <= 1
        assert "hart repack" not in deep.label(hot, "hot", dry_run=True).detail
        # What is planned later keeps it so.
        deep.repack(again=True)
        assert depths(deep)[name] <= 1
        deep.gc(grace_s=0)
        check(deep, tmp_path / "out", files, files)


def test_other_labels_can_be_hot_and_none(store, source):
    fill(store, source, ["base"])
    for said, wanted in ((["prod"], ("prod",)), ("a, b", ("a", "b")), ([], ())):
        with hn.open(store.path, settings={"hot_labels": said}) as other:
            assert other.parts.hot_labels == wanted
    with pytest.raises(hn.errors.UsageError, match="hot_labels"):
        hn.open(store.path, settings={"hot_labels": [3]})


def test_a_lower_limit_is_kept_after_a_repack(store, source, tmp_path):
    files, _ = chain(4)
    with hn.open(store.path, settings={"max_depth": 4}) as deep:
        fill(deep, source, files, files)
    with hn.open(store.path, settings={"max_depth": 1}) as flat:
        flat.repack()
        assert max(depths(flat).values()) <= 1
        check(flat, tmp_path / "out", files, files)
    with hn.open(store.path, settings={"max_depth": 0}) as flat:
        flat.repack()
        assert edges(flat) == []
        check(flat, tmp_path / "out", files, files)


# -- second copies


@pytest.fixture
def popular(store, source, monkeypatch):
    """Return a store in which many tensors are built on one, which has a second copy."""
    monkeypatch.setattr(copies, "MANY_DEPENDENTS", 3)
    fill(store, source, ["base"])
    values = {f"t{at}": BASE + normal(60 + at) * np.float32(1e-4) for at in range(5)}
    # Other names of tensors: else their headers were one piece of data, in the base's pack.
    files = {name: save({name: value}) for name, value in values.items()}
    with hn.open(store.path, settings={"max_depth": 1}) as flat:
        fill(flat, source, files, files)
        done = flat.repack()
    assert done.copied_count == 1
    return store, {"base": FAMILY["base"], **files}


NAME = digest(BASE.tobytes())


def packs_of(store, name=NAME):
    return [
        (path, header)
        for path in pack_paths(store.path)
        for _, header in records_of(path)
        if header.kind is RecordKind.EXTENT and header.digest == name
    ]


def place_of(store, copy):
    with store.parts.database.read() as tx:
        atom_id, _ = atoms.find(tx, [NAME])[NAME]
        (one,) = copies.extents(tx, atom_id, copy)
    return next(
        (path, header) for path, header in packs_of(store) if path.stem == one.pack_key.hex()
    )


def test_what_many_are_built_on_lies_in_two_packs(popular, tmp_path, monkeypatch):
    store, files = popular
    assert len({path for path, _ in packs_of(store)}) == 2
    assert store.repack(again=True).copied_count == 0
    assert store.stats().copy_bytes > 0
    monkeypatch.setattr(collect, "SMALL_PACKS", 1)
    store.gc(grace_s=0)  # both packs are small: they are written anew, into two again
    assert len({path for path, _ in packs_of(store)}) == 2
    assert place_of(store, 0)[0] != place_of(store, 1)[0]
    check(store, tmp_path / "out", files, files)


def test_a_damaged_first_copy_is_mended_from_the_second(popular, tmp_path):
    store, files = popular
    path, header = place_of(store, 0)
    flip(path, header.offset + 1000)
    with hn.open(store.path) as other:
        report = other.verify()
        assert any(NAME.hex() in one.where for one in report.faults)
        with pytest.raises(IntegrityError):
            content_of(other, "base", tmp_path / "out")
        mended = other.verify(repair=True, files=True)
        assert mended.faults == ()
        assert [one for one in mended.mended if NAME.hex() in one]
        with other.parts.database.read() as tx:
            assert atoms.damaged_ids(tx) == set()
        check(other, tmp_path / "out", files, files)
        assert other.repack().copied_count == 1
        other.gc(grace_s=0)
        assert len({path for path, _ in packs_of(other)}) == 2
        check(other, tmp_path / "out", files, files)


def test_a_damaged_second_copy_is_told_and_made_anew(popular, tmp_path):
    store, files = popular
    path, header = place_of(store, 1)
    flip(path, header.offset + 1000)
    with hn.open(store.path) as other:
        report = other.verify()
        assert [one.where for one in report.faults] == [f"second copy of atom blake3:{NAME.hex()}"]
        assert other.verify(repair=True).sound
        assert other.repack().copied_count == 1
        check(other, tmp_path / "out", files, files)


def test_both_copies_damaged_cannot_be_mended(popular):
    store, _ = popular
    for copy in (0, 1):
        path, header = place_of(store, copy)
        flip(path, header.offset + 1000)
    with hn.open(store.path) as other:
        report = other.verify(repair=True)
        assert report.mended == ()
        assert any(one.where == f"atom blake3:{NAME.hex()}" for one in report.faults)


def test_a_rebuilt_catalog_takes_the_copy_that_is_whole(popular, tmp_path):
    store, files = popular
    path, header = place_of(store, 0)
    store.close()
    flip(path, header.offset + 1000)
    done = hn.repair(store.path)
    assert (done.damaged, done.lost) == ((), ())
    with hn.open(store.path) as again:
        check(again, tmp_path / "out", files, files)


def test_a_lost_pack_costs_nothing_where_there_is_a_second_copy(popular, tmp_path):
    store, files = popular
    path, _ = place_of(store, 0)
    store.close()
    path.unlink()
    hn.repair(store.path)
    with hn.open(store.path) as again:  # the base's own file lost its manifest with that pack
        for name in files.keys() - {"base"}:
            assert content_of(again, name, tmp_path / "out") == files[name]


def test_removed_with_all_that_needs_it_nothing_stays(popular):
    store, files = popular
    for name in files:
        store.rm(name)
    store.gc(trash_days=0, grace_s=0)
    assert store.stats().atom_count == 0
    assert packs_of(store) == []


# -- what the catalog says


def test_room_counts_what_lies_above(store, source):
    files, values = chain(3)
    with hn.open(store.path, settings={"max_depth": 2}) as deep:
        fill(deep, source, files, files)
        held = depths(deep)
        with deep.parts.database.read() as tx:
            for value in values:
                name = digest(value.tobytes())
                atom_id, _ = atoms.find(tx, [name])[name]
                limits = families.Limits(2, ("hot",))
                room, above = families.room(tx, atom_id, limits)
                assert held[name] <= room <= 2
                assert (room == 2) == (not above)


# -- the smallest

QUANTS = Path(__file__).parents[1] / "fixtures" / "quants"


@pytest.mark.parametrize("kind", ["Q4_K", "Q3_K"])
def test_smallest_runs_the_quantisers_own_search(store, tmp_path, kind):
    files = {
        name: (QUANTS / f"mini.{name}.gguf").read_bytes() for name in ("F32", kind)
    }  # fmt: skip
    for name in files:
        store.add(QUANTS / f"mini.{name}.gguf", name=name)
    store.repack()
    before = stored(store)
    assert store.repack(again=True).atom_count == 0  # never by default
    dry = store.repack(smallest=True, dry_run=True)
    done = store.repack(smallest=True)
    assert done.by_encoding == dry.by_encoding == {"derived > derived": done.atom_count}
    assert done.atom_count >= 1
    assert done.stored_bytes < 0.2 * done.former_bytes
    assert stored(store) == before - done.former_bytes + done.stored_bytes
    assert store.repack(smallest=True).examined_count == 0
    assert store.repack(again=True).atom_count == 0
    check(store, tmp_path / "out", files, files)
