"""Repair: what comes back from packs alone, and what is said of the rest."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from disk import (
    first_record,
    flip,
    key_of,
    noise,
    open_pack,
    pack_paths,
    pack_with,
    records_of,
    rewrite,
    wreck_end,
    write_pack,
)  # fmt: skip
from safetensors.numpy import save

import hartonomous as hn
from hartonomous.catalog import extents, resolve
from hartonomous.core import manifest as manifest_format
from hartonomous.core.description import Description
from hartonomous.core.digest import digest
from hartonomous.core.manifest import Manifest, Segment
from hartonomous.core.record import FOOTER_BYTES, RecordKind
from hartonomous.errors import IntegrityError, LockedError, NoStoreError
from hartonomous.operations import collect
from hartonomous.packs import publication as publishing
from hartonomous.packs import rescue
from hartonomous.packs.publication import publication
from hartonomous.packs.session import WriteSession
from hartonomous.packs.survey import read_object


def repaired(path: Path):
    """Repair; return the report and the store, open."""
    report = hn.repair(path)
    return report, hn.open(path)


def listing(store: hn.Store) -> list[tuple[object, ...]]:
    return [(one.name, one.number, one.digest, one.labels) for one in store.ls(versions=True)]


@pytest.fixture
def filled(store, source):
    """Return a store with three artifacts, labels, tags, a trash and changes, and its listing."""
    a = source("a.bin", noise(200_000, 1))
    store.add(a, labels=["prod"], tags=["old"], metadata={"k": "v"})
    a.write_bytes(noise(200_000, 2))
    store.add(a, update=True)
    store.add(source("b.bin", noise(100_000, 3)))
    store.add(source("gone.bin", noise(90_000, 4)))
    store.label("a.bin@2", "test")
    store.mv("b.bin", "org/b")
    store.rm("gone.bin")
    return store


def check_whole(before: list, store: hn.Store, out: Path) -> None:
    assert listing(store) == before
    assert [one.name for one in store.ls(trash=True)] == ["gone.bin"]
    shown = store.show("a.bin@1")
    assert (shown.tags, shown.metadata, shown.labels) == (("old",), {"k": "v"}, ("prod",))
    for spec, seed, size in (("a.bin@1", 1, 200_000), ("a.bin@2", 2, 200_000),
                             ("org/b", 3, 100_000)):  # fmt: skip
        store.get(spec, out / spec)
        assert (out / spec).read_bytes() == noise(size, seed)
    store.undo()
    assert "gone.bin" in {one.name for one in store.ls()}
    store.undo()
    assert "b.bin" in {one.name for one in store.ls()}
    assert store.verify(files=True).sound


# What becomes of a catalog on a server is in tests/engines.
@pytest.mark.parametrize("catalog_engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("damage", ["deleted", "garbage", "truncated", "journal left"])
def test_the_catalog_is_not_needed(filled, tmp_path, damage):
    before = listing(filled)
    filled.close()
    catalog = filled.path / "catalog.sqlite3"
    if damage == "deleted":
        catalog.unlink()
    elif damage == "garbage":
        catalog.write_bytes(noise(50_000))
    elif damage == "truncated":
        os.truncate(catalog, catalog.stat().st_size // 2)
    else:
        catalog.unlink()
        (filled.path / "catalog.sqlite3-wal").write_bytes(noise(5000))
    if damage in {"deleted", "journal left"}:
        with pytest.raises(NoStoreError, match="no catalog") as error:
            hn.open(filled.path)
        assert "repair" in error.value.hint
    if damage == "garbage":
        with pytest.raises(IntegrityError, match="catalog is damaged") as error:
            hn.open(filled.path)
        assert "repair" in error.value.hint
    report, store = repaired(filled.path)
    with store:
        assert (report.lost, report.damaged, report.recovered) == ((), (), ())
        check_whole(before, store, tmp_path / "out")
    if damage not in {"deleted"}:
        kept = Path(report.former_catalog)
        assert kept.exists() != (damage == "journal left")


def test_repair_wants_the_store_alone(filled):
    with pytest.raises(LockedError, match="in use"):
        hn.repair(filled.path)


def test_packs_without_their_tables_are_salvaged(filled, tmp_path, monkeypatch):
    before = listing(filled)
    filled.close()
    packs = pack_paths(filled.path)
    for pack in packs:
        wreck_end(pack)
    report, store = repaired(filled.path)
    with store:
        assert report.mended == tuple(key_of(pack) for pack in packs)
        assert (report.damaged, report.lost, report.recovered) == ((), (), ())
        for spec in ("a.bin@1", "a.bin@2", "org/b"):
            store.get(spec, tmp_path / "out" / spec)
        assert listing(store) == before
        assert store.verify(files=True).sound
        monkeypatch.setattr(collect, "SMALL_PACKS", 1)
        store.gc(grace_s=0)
        assert store.verify(files=True).sound
        assert listing(store) == before


@pytest.mark.parametrize("cut", [-40, -FOOTER_BYTES, -FOOTER_BYTES - 30, 8])
def test_a_pack_of_another_length_gets_its_end_back(filled, cut):
    filled.close()
    whole = {pack: pack.read_bytes() for pack in pack_paths(filled.path)}
    for pack, content in whole.items():
        rewrite(pack, content[:cut] if cut < 0 else content + bytes(cut))
    assert len(hn.repair(filled.path, dry_run=True).mended) == len(whole)
    report, store = repaired(filled.path)
    with store:
        assert len(report.mended) == len(whole)
        assert {pack: pack.read_bytes() for pack in whole} == whole
        assert store.verify(files=True).sound


def test_a_pack_is_not_written_anew_without_one_of_its_records(filled):
    pack = pack_with(filled.path, RecordKind.EXTENT)
    at, _ = first_record(pack, RecordKind.EXTENT)
    filled.close()
    wreck_end(pack)
    flip(pack, at + 60)
    damaged = pack.read_bytes()
    report, store = repaired(filled.path)
    with store:
        assert report.mended == ()
        assert any("one by one" in one for one in report.damaged)
        assert pack.read_bytes() == damaged


def test_a_missing_pack_costs_what_lay_in_it(store, source):
    folder = source("m/config.json", noise(70_000, 1)).parent
    store.add(folder.parent / "m" / "config.json", name="alone")
    store.add(source("other.bin", noise(80_000, 2)))
    source("m/model.safetensors", noise(90_000, 3))
    store.add(folder, labels=["prod"])
    last = listing(store)
    store.close()
    packs = sorted(pack_paths(store.path), key=lambda one: one.stat().st_mtime_ns)
    packs[1].unlink()  # other.bin, and its commit
    report, again = repaired(store.path)
    with again:
        assert report.lost == ()  # nothing is left that names it
        assert listing(again) == [one for one in last if one[0] != "other.bin"]
    packs[0].unlink()  # the config's bytes
    report, again = repaired(store.path)
    with again:
        assert any("m@1: config.json" in one for one in report.lost)
        assert "recovered/m@1" in report.recovered
        (one,) = again.ls()
        assert (one.name, one.file_count, one.labels) == ("recovered/m@1", 1, ())
        again.get("recovered/m@1", store.path.parent / "out")
        out = store.path.parent / "out"
        found = [path for path in (out, *out.rglob("*")) if path.is_file()]
        assert [path.read_bytes() for path in found] == [noise(90_000, 3)]
        assert again.verify(files=True).sound


@pytest.mark.parametrize("undone", [False, True])
@pytest.mark.parametrize("catalog_engine", ["sqlite"], indirect=True)  # both read the packs alone
def test_repair_and_rescue_agree_where_a_renaming_is_lost(store, source, undone):
    path = source("x", noise(40_000, 1))
    store.add(path)
    if undone:
        store.rm("x")
        path.write_bytes(noise(40_000, 2))
        store.add(path)
        lost = set(pack_paths(store.path))
        store.mv("x", "y")
        lost = set(pack_paths(store.path)) - lost
        store.undo(2)
    else:
        lost = set(pack_paths(store.path))
        store.mv("x", "y")
        lost = set(pack_paths(store.path)) - lost
        path.write_bytes(noise(40_000, 2))
        store.add(path)
    store.close()
    for one in lost:
        one.unlink()
    command = [sys.executable, "-P", str(store.path / "rescue.py"), "list"]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    report, again = repaired(store.path)
    with again:
        names = [f"{one.name}@{one.number}" for one in again.ls()]
    assert sorted(line.split()[0] for line in told.splitlines()) == sorted(names)
    assert len(names) == 2
    assert report.recovered == tuple(one.rpartition("@")[0] for one in names if "recov" in one)


def test_what_was_recovered_can_be_renamed_labelled_and_removed_for_good(store, source):
    folder = source("m/config.json", noise(70_000, 1)).parent
    store.add(folder / "config.json", name="alone")
    source("m/model.safetensors", noise(90_000, 3))
    store.add(folder)
    store.close()
    sorted(pack_paths(store.path), key=lambda one: one.stat().st_mtime_ns)[0].unlink()
    _, again = repaired(store.path)
    again.mv("recovered/m@1", "mine")
    again.label("mine", "prod")
    again.close()
    _, again = repaired(store.path)
    assert [(one.name, one.labels) for one in again.ls()] == [("mine", ("prod",))]
    again.rm("mine")
    again.close()
    _, again = repaired(store.path)
    assert again.ls() == []
    again.gc(trash_days=0, grace_s=0)
    again.close()
    report, again = repaired(store.path)
    with again:
        assert (again.ls(), again.ls(trash=True)) == ([], [])
        assert (report.recovered, report.lost) == ((), ())


def test_removed_stays_removed_and_purged_stays_gone(filled, monkeypatch):
    def repair_and_look() -> tuple[list[str], list[str]]:
        nonlocal filled
        filled.close()
        report, filled = repaired(filled.path)
        assert (report.lost, report.recovered, report.damaged) == ((), (), ())
        live, trash = filled.ls(versions=True), filled.ls(trash=True)
        return [one.name for one in live], [one.name for one in trash]

    rest = ["a.bin", "a.bin", "org/b"]
    assert repair_and_look() == (rest, ["gone.bin"])
    with monkeypatch.context() as patch:
        patch.setattr(collect, "_compact_packs", lambda *_: None)
        patch.setattr(collect, "_drop_packs", lambda *_: None)
        filled.gc(trash_days=0, grace_s=0)
    assert (
        any(
            h.digest == digest(noise(90_000, 4))
            for pack in pack_paths(filled.path)
            for _, h in records_of(pack)
        )
        or len(pack_paths(filled.path)) > 1
    )  # the bytes are still there
    assert repair_and_look() == (rest, [])
    filled.gc(trash_days=0, grace_s=0)
    assert repair_and_look() == (rest, [])
    filled.close()


def test_a_number_is_not_given_twice_after_purge_and_repair(store, source):
    path = source("a.bin", b"1" * 100)
    store.add(path)
    for number in (2, 3):
        path.write_bytes(b"%d" % number * 100)
        store.add(path, update=True)
    store.rm("a.bin@3")
    store.gc(trash_days=0, grace_s=0)
    store.close()
    _, again = repaired(store.path)
    with again:
        path.write_bytes(b"4" * 100)
        (added,) = again.add(path, update=True).artifacts
        assert added.number == 4


def test_a_file_that_no_commit_names_is_recovered(store):
    """An orphan of a crash after the bytes and before the commit."""
    content = noise(1000, 7)
    manifest = manifest_format.encode(
        Manifest(
            size=1000, digest=digest(content), sha256=bytes(32),
            segments=(Segment(1000, digest(content), None),),
            description=Description(format="file"),
        )
    )  # fmt: skip
    write_pack(
        store.parts, [(RecordKind.EXTENT, b"", content), (RecordKind.MANIFEST, b"", manifest)]
    )
    store.close()
    for _ in range(2):  # and again the same, not a second one
        report, again = repaired(store.path)
        short = digest(content).hex()[:16]
        assert report.recovered == (f"recovered/{short}",)
        assert again.verify(files=True).faults == ()
        again.get(f"recovered/{short}", store.path.parent / "out", force=True)
        assert (store.path.parent / "out").read_bytes() == content
        again.close()


def test_a_number_that_was_given_again_counts_once(store, source):
    """A writer dies between the sealed pack and the transaction; the next one takes its number."""
    store.add(source("a.bin", b"a" * 100))
    store.add(source("b.bin", b"b" * 100))
    with WriteSession(store.parts) as session, publication(session) as work:
        uid = _uid(store, "a.bin")
        work.change("remove", version_uids=[uid], labels=[])
        session.flush()  # … and no finish: nobody is told
    store.label("b.bin", "prod")
    before = listing(store)
    assert rescued(store.path) == [one[:2] + one[3:] for one in before]
    store.close()
    report, again = repaired(store.path)
    with again:
        assert listing(again) == before
        assert again.ls(trash=True) == []
        assert report.damaged == ()
        again.undo()
        assert again.ls("b.bin")[0].labels == ()


def test_an_unacknowledged_commit_does_not_take_the_name_of_the_next(store, source, monkeypatch):
    path = source("a.bin", b"a" * 100)

    def die(*_: object) -> None:
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(publishing.Publication, "finish", die)
        with pytest.raises(InterruptedError):
            store.add(path)
    assert store.ls() == []
    (added,) = store.add(path).artifacts
    assert (added.name, added.number) == ("a.bin", 1)
    store.close()
    report, again = repaired(store.path)
    with again:
        assert [one.name for one in again.ls()] == ["a.bin", "recovered/a.bin@1"]
        assert report.recovered == ("recovered/a.bin@1",)
        assert again.verify(files=True).sound


def test_records_that_are_there_twice_count_once(filled, tmp_path, monkeypatch):
    """Compaction copied a pack and ended before the old one was deleted."""
    before = listing(filled)
    old = {pack: pack.read_bytes() for pack in pack_paths(filled.path)}
    monkeypatch.setattr(collect, "SMALL_PACKS", 1)
    filled.gc(grace_s=0)
    filled.close()
    for pack, content in old.items():
        assert not pack.exists()
        pack.parent.mkdir(exist_ok=True)
        pack.write_bytes(content)
    report, store = repaired(filled.path)
    with store:
        assert (report.lost, report.damaged, report.recovered) == ((), (), ())
        check_whole(before, store, tmp_path / "out")


def test_of_two_copies_of_a_manifest_the_intact_one_serves(store, source):
    store.add(source("a.bin", noise(5000, 1)))
    (pack,) = pack_paths(store.path)
    _, header = first_record(pack, RecordKind.MANIFEST)
    content = pack.read_bytes()
    store.gc(grace_s=0)  # leaves it alone: all of it is alive
    reader = open_pack(pack)
    manifest = read_object(reader, header)
    reader.close()
    for _ in range(6):  # copies in packs before and behind it in order of key
        write_pack(store.parts, [(RecordKind.MANIFEST, b"", manifest)])
    store.close()
    assert pack.read_bytes() == content
    flip(pack, header.offset + 5)
    report, again = repaired(store.path)
    with again:
        assert report.lost == ()
        assert again.ls()[0].name == "a.bin"
        again.get("a.bin", store.path.parent / "out")
        assert (store.path.parent / "out").read_bytes() == noise(5000, 1)


def test_of_two_sets_of_extents_one_is_taken_whole(store, source, tmp_path):
    """One atom cut in two ways; a mixture would overlap, and each lacks what the other has."""
    content = noise(3_000_000, 5)
    small = hn.open(tmp_path / "small", create=True, settings={"pack_bytes": 1 << 20})
    file = source("m.safetensors", save({"w": np.frombuffer(content, "u1")}))
    small.add(file)
    with small.parts.database.read() as tx:
        (places,) = extents.of_atoms(tx, [digest(content)]).values()
    assert len(places) > 2
    write_pack(small.parts, [(RecordKind.EXTENT, b"", content)])
    small.close()
    report, again = repaired(small.path)
    with again:
        assert report.lost == ()
        assert again.verify(files=True).sound
    for pack in pack_paths(small.path):  # one of the parts is lost, the other set serves
        if any(h.kind is RecordKind.EXTENT and h.position > 0 for _, h in records_of(pack)) and (
            not any(h.kind in (RecordKind.COMMIT, RecordKind.MANIFEST) for _, h in records_of(pack))
        ):
            pack.unlink()
            break
    report, again = repaired(small.path)
    with again:
        assert report.lost == ()
        again.get("m.safetensors", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    "entry",
    [
        b"no json",
        b'{"version": 1}',
        b'{"version": 1, "kind": "commit", "seq": 1, "time_us": 1}',
        b'{"version": 2, "kind": "change", "seq": 99, "time_us": 1, "action": "label"}',
        b'{"version": 1, "kind": "change", "seq": 99, "time_us": 1, "action": "label"}',
        b'{"version": 1, "kind": "change", "seq": 99, "time_us": 1, "action": "remove",'
        b' "version_uids": ["zz"], "labels": []}',
        b'{"version": 1, "kind": "change", "seq": "9", "time_us": 1, "action": "label"}',
    ],
)
def test_entries_of_wrong_shape_are_named_and_left_out(filled, entry):
    before = listing(filled)
    write_pack(filled.parts, [(RecordKind.CHANGE, b"", entry)])
    filled.close()
    report, store = repaired(filled.path)
    with store:
        assert len(report.damaged) == 1
        assert "change" in report.damaged[0]
        assert listing(store) == before


def test_an_unknown_action_changes_nothing(filled):
    before = listing(filled)
    entry = {"version": 1, "kind": "change", "seq": 99, "time_us": 1 << 60, "action": "new one"}
    write_pack(filled.parts, [(RecordKind.CHANGE, b"", json.dumps(entry).encode())])
    filled.close()
    report, store = repaired(filled.path)
    with store:
        assert (report.damaged, listing(store)) == ((), before)


def test_a_label_never_points_into_the_trash(store, source):
    """Undo a label whose former version was removed since; then take that one out again."""
    path = source("a.bin", b"1" * 100)
    store.add(path)
    path.write_bytes(b"2" * 100)
    store.add(path, update=True)
    store.label("a.bin@1", "prod")
    moved = store.label("a.bin@2", "prod")
    removed = store.rm("a.bin@1")
    store.undo(moved.sequence)
    store.undo(removed.sequence)
    before = listing(store)
    assert [one[3] for one in before] == [(), ()]
    assert rescued(store.path) == [one[:2] + one[3:] for one in before]
    store.close()
    _, again = repaired(store.path)
    with again:
        assert listing(again) == before


def rescued(path: Path) -> list[tuple[object, ...]]:
    """Return what rescue.py lists as in use: name, number, labels."""
    state = rescue.replay(rescue.read_store(path))
    return [
        (name, one["number"], tuple(sorted(
            label for (_, label), uid in state.labels.items() if uid == one["uid"]
        )))
        for name, one in state.selected("", True, False)
    ]  # fmt: skip


def _uid(store: hn.Store, name: str) -> str:
    with store.parts.database.read() as tx:
        return resolve.version(tx, name).uid.hex()
