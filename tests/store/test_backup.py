"""Backups: a snapshot gives back exactly what was there; damage is found before it is a store."""

import errno
import os
import re
import shutil

import pytest
from disk import flip, noise, pack_paths
from store_family import FAMILY, fill

import hartonomous as hn
from hartonomous.errors import (
    ConflictError,
    HartonomousError,
    IntegrityError,
    NotFoundError,
    StorageFullError,
    UsageError,
)
from hartonomous.opening import check_backups, list_backups, remove_backup
from hartonomous.operations import backup as backing_up
from hartonomous.packs import backup_folder


def told(store):
    return [
        (one.name, one.number, one.digest, one.labels, one.created_us, one.removed_us)
        for one in (*store.ls(versions=True), *store.ls(trash=True))
    ]


def contents(store, folder):
    store.export_all(folder)
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    shutil.rmtree(folder)
    return found


@pytest.fixture
def filled(store, source):
    fill(store, source, FAMILY)
    store.add(source("text.txt", b"words " * 5000), tags=["t"], metadata={"k": "v"})
    store.add(source("noise.bin", noise(300_000)))
    store.label("tuned", "prod")
    store.relate("tuned", "fine-tune-of", "base")
    store.rm("text.txt")
    return store


def test_a_first_backup_that_ended_while_it_wrote_its_card_is_begun_again(
    filled, tmp_path, monkeypatch
):
    place = tmp_path / "backup"

    def dies(path, content):
        (path.parent / f".{path.name}.4242-{8 * '9a'}.tmp").write_bytes(content[:9])
        raise OSError(errno.EIO, "gone")

    with monkeypatch.context() as patched:
        patched.setattr(backup_folder, "write_atomically", dies)
        with pytest.raises(hn.HartonomousError):
            filled.backup(place)
    assert filled.backup(place).faults == ()
    assert {one.name for one in place.iterdir()} == {
        "backup.json", "backup.lock", "packs", "snapshots", "tmp",
    }  # fmt: skip


def test_a_restored_store_is_what_was_backed_up(filled, tmp_path):
    (filled.path / "hartonomous.toml").write_text("trash_days = 7\n")
    done = filled.backup(tmp_path / "backup")
    assert done.copied_count == done.pack_count > 0
    restored = hn.restore(tmp_path / "backup", tmp_path / "again")
    assert restored.snapshot == done.snapshot
    with hn.open(tmp_path / "again") as again:
        assert told(again) == told(filled)
        assert contents(again, tmp_path / "out") == contents(filled, tmp_path / "out")
        assert again.relations() == filled.relations()
        assert again.verify(files=True).faults == ()
        assert again.settings.trash_days == 7
        assert again.id == restored.id != filled.id
        again.undo()
        again.add(tmp_path / "source" / "noise.bin", name="more")
        assert again.verify(files=True).faults == ()
    hn.repair(tmp_path / "again")
    with hn.open(tmp_path / "again") as again:
        assert {one.name for one in again.ls()} == {one.name for one in filled.ls()} | {
            "more", "text.txt"
        }  # fmt: skip


@pytest.mark.parametrize("is_there", [True, False])
def test_backups_on_a_medium_that_cannot_be_written_are_read(
    filled, tmp_path, monkeypatch, is_there
):
    done = filled.backup(tmp_path / "backup")
    lock = tmp_path / "backup" / "backup.lock"
    lock.touch()
    if not is_there:
        lock.unlink()
    before = os.open

    def open_read_only(path, flags, *more, **others):
        if path == lock and (flags & (os.O_WRONLY | os.O_RDWR) or not lock.exists()):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return before(path, flags, *more, **others)

    monkeypatch.setattr(os, "open", open_read_only)
    assert hn.restore(tmp_path / "backup", tmp_path / "again").snapshot == done.snapshot


def test_a_second_backup_copies_new_packs_alone(filled, source, tmp_path):
    first = filled.backup(tmp_path / "backup")
    assert filled.backup(tmp_path / "backup").copied_count == 0
    said = told(filled)
    filled.add(source("new", noise(50_000, 7)))
    filled.rm("base")
    third = filled.backup(tmp_path / "backup")
    assert 0 < third.copied_count < third.pack_count
    names = [one.name for one in list_backups(tmp_path / "backup")]
    assert len(names) == 3
    assert (names[0], names[2]) == (first.snapshot, third.snapshot)
    hn.restore(tmp_path / "backup", tmp_path / "old", snapshot=first.snapshot)
    hn.restore(tmp_path / "backup", tmp_path / "new")
    with hn.open(tmp_path / "old") as old, hn.open(tmp_path / "new") as new:
        assert told(old) == said
        assert told(new) == told(filled)


def test_old_snapshots_go_with_the_packs_that_no_other_needs(filled, source, tmp_path):
    filled.backup(tmp_path / "backup")
    filled.rm("noise.bin")
    filled.gc(trash_days=0, grace_s=0)
    done = filled.backup(tmp_path / "backup", keep=1)
    assert len(done.removed_snapshots) == 1
    assert done.freed_bytes > 0
    kept = {path.name for path in (tmp_path / "backup" / "packs").rglob("*.pack")}
    assert kept == {path.name for path in pack_paths(filled.path)}
    assert check_backups(tmp_path / "backup").faults == ()
    hn.restore(tmp_path / "backup", tmp_path / "again")
    gone = remove_backup(tmp_path / "backup", done.snapshot)
    assert gone.pack_count == len(kept)
    assert list_backups(tmp_path / "backup") == []


def test_a_pack_that_is_collected_meanwhile_makes_the_catalog_be_taken_anew(
    filled, tmp_path, monkeypatch
):
    rounds = []
    copy = backup_folder.copy_pack

    def collected(source, target, key, advance):
        if not rounds:
            rounds.append(key)
            filled.rm("noise.bin")
            filled.gc(trash_days=0, grace_s=0)
        return copy(source, target, key, advance)

    monkeypatch.setattr(backup_folder, "copy_pack", collected)
    done = filled.backup(tmp_path / "backup")
    assert done.faults == ()
    hn.restore(tmp_path / "backup", tmp_path / "again")
    with hn.open(tmp_path / "again") as again:
        assert told(again) == told(filled)
        assert again.verify(files=True).faults == ()


def test_damage_that_was_found_before_a_pack_was_collected_is_told(filled, tmp_path, monkeypatch):
    largest = max(pack_paths(filled.path), key=lambda path: path.stat().st_size)
    flip(largest, 2000)
    copy, rounds = backup_folder.copy_pack, []

    def lost_once(source, target, key, advance):
        if not key.endswith(largest.name) and not rounds:
            rounds.append(key)
            raise NotFoundError(f"there is no object {key}")
        return copy(source, target, key, advance)

    monkeypatch.setattr(backup_folder, "copy_pack", lost_once)
    done = filled.backup(tmp_path / "backup")
    assert rounds
    assert [fault for fault in done.faults if largest.name in fault]


def test_a_pack_that_is_lost_is_told_and_the_rest_is_copied(filled, tmp_path):
    largest = max(pack_paths(filled.path), key=lambda path: path.stat().st_size)
    largest.unlink()
    done = filled.backup(tmp_path / "backup")
    assert [fault for fault in done.faults if largest.name in fault]
    assert hn.restore(tmp_path / "backup", tmp_path / "again").faults == done.faults
    with hn.open(tmp_path / "again") as again:
        assert told(again) == told(filled)
        assert again.verify().faults != ()


def test_damage_in_the_store_is_told_and_copied_as_it_is(filled, tmp_path):
    largest = max(pack_paths(filled.path), key=lambda path: path.stat().st_size)
    before = filled.backup(tmp_path / "sound")
    flip(largest, 2000)
    assert [fault for fault in filled.backup(tmp_path / "late").faults if largest.name in fault]
    again = filled.backup(tmp_path / "sound")
    assert (again.copied_count, before.faults, again.faults) == (0, (), ())
    assert check_backups(tmp_path / "sound").faults == ()


def test_what_is_damaged_among_the_backups_is_found_and_never_becomes_a_store(filled, tmp_path):
    done = filled.backup(tmp_path / "backup")
    pack = max(pack_paths(tmp_path / "backup"), key=lambda path: path.stat().st_size)
    kept = pack.read_bytes()
    flip(pack, 2000)
    assert [fault for fault in check_backups(tmp_path / "backup").faults if pack.name in fault]
    with pytest.raises(IntegrityError, match=pack.stem):
        hn.restore(tmp_path / "backup", tmp_path / "again")
    assert not (tmp_path / "again" / "store.json").exists()
    pack.unlink()
    with pytest.raises(IntegrityError, match=pack.stem):
        hn.restore(tmp_path / "backup", tmp_path / "again")
    pack.write_bytes(kept)
    assert hn.restore(tmp_path / "backup", tmp_path / "again").resumed_bytes > 0
    catalog = tmp_path / "backup" / "snapshots" / done.snapshot / "catalog.sqlite3"
    catalog.write_bytes(catalog.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError, match=r"catalog\.sqlite3"):
        hn.restore(tmp_path / "backup", tmp_path / "other")
    assert check_backups(tmp_path / "backup").faults != ()
    pack.write_bytes(kept[:-1])
    assert filled.backup(tmp_path / "backup").copied_count == 1, "a cut copy is replaced"
    assert hn.restore(tmp_path / "backup", tmp_path / "other").faults == ()


def test_a_list_of_packs_cannot_lead_out_of_the_folder(filled, tmp_path):
    done = filled.backup(tmp_path / "backup")
    place = tmp_path / "backup" / "snapshots" / done.snapshot
    (place / "packs.b3").write_text(f"{'0' * 64}  packs/../../secret.pack\n")
    with pytest.raises(IntegrityError):
        hn.restore(tmp_path / "backup", tmp_path / "again")
    card = (place / "snapshot.json").read_text()
    (place / "snapshot.json").write_text(card.replace("catalog.sqlite3", "../../backup.json"))
    with pytest.raises(IntegrityError):
        hn.restore(tmp_path / "backup", tmp_path / "again")
    (place / "snapshot.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"snapshot\.json"):
        hn.restore(tmp_path / "backup", tmp_path / "again")
    assert not (tmp_path / "again" / "store.json").exists()


def test_places_that_hold_something_else_are_refused(filled, tmp_path):
    filled.backup(tmp_path / "backup")
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_text("mine")
    with pytest.raises(ConflictError, match="not empty"):
        filled.backup(other)
    with pytest.raises(ConflictError, match="not an empty folder"):
        hn.restore(tmp_path / "backup", other)
    with pytest.raises(ConflictError, match="there is a store"):
        hn.restore(tmp_path / "backup", filled.path)
    for place in (filled.path / "packs" / "b", filled.path, filled.path.parent):
        with pytest.raises(ConflictError, match="in each other"):
            filled.backup(place)
    (tmp_path / "link").symlink_to(tmp_path / "backup")
    before = sorted((tmp_path / "backup").rglob("*"))
    for place in (tmp_path / "backup" / "in", tmp_path / "link" / "far" / "in"):
        for dry_run in (True, False):
            with pytest.raises(ConflictError, match="in each other"):
                hn.restore(tmp_path / "backup", place, dry_run=dry_run)
    assert sorted((tmp_path / "backup").rglob("*")) == before
    with pytest.raises(NotFoundError, match="no backups"):
        hn.restore(other, tmp_path / "again")
    with pytest.raises(NotFoundError, match="has no snapshot"):
        hn.restore(tmp_path / "backup", tmp_path / "again", snapshot="20000101T000000.000000Z")
    with pytest.raises(UsageError):
        filled.backup(tmp_path / "backup", keep=0)
    assert [path.name for path in other.iterdir()] == ["file"]


def test_a_dry_run_changes_nothing(filled, tmp_path):
    done = filled.backup(tmp_path / "backup", dry_run=True)
    assert (done.snapshot, done.copied_count) == (None, done.pack_count)
    assert not (tmp_path / "backup").exists()
    filled.backup(tmp_path / "backup")
    assert filled.backup(tmp_path / "backup", dry_run=True).copied_count == 0
    assert hn.restore(tmp_path / "backup", tmp_path / "again", dry_run=True).id is None
    assert not (tmp_path / "again").exists()


def test_a_backup_that_was_cut_short_goes_on(filled, tmp_path, monkeypatch):
    copy, copied = backup_folder.copy_pack, []

    def cut_short(source, target, key, advance):
        if len(copied) == 3:
            raise KeyboardInterrupt
        copied.append(key)
        return copy(source, target, key, advance)

    monkeypatch.setattr(backup_folder, "copy_pack", cut_short)
    with pytest.raises(KeyboardInterrupt):
        filled.backup(tmp_path / "backup")
    assert list_backups(tmp_path / "backup") == []
    monkeypatch.setattr(backup_folder, "copy_pack", copy)
    done = filled.backup(tmp_path / "backup")
    assert done.copied_count == done.pack_count - 3
    assert check_backups(tmp_path / "backup").faults == ()
    assert backing_up.listing(tmp_path / "backup")[0].fault_count == 0


def test_an_older_catalog_in_a_snapshot_is_brought_to_the_new_schema(tmp_path):
    import tarfile
    from pathlib import Path

    from hartonomous.catalog import artifacts, snapshots, spaces

    archive = Path(__file__).parents[1] / "compat" / "v1.tar.gz"
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "v1", filter="data")
    [catalog] = (tmp_path / "v1").rglob("catalog.sqlite3")
    database = snapshots.open_snapshot(catalog)
    try:
        with database.read() as tx:
            assert artifacts.all_names(tx, limit=100)
            assert spaces.listed(tx) == []  # a table of the new schema
    finally:
        database.close()


def test_a_pack_that_a_check_found_damaged_is_copied_anew_by_the_next_backup(filled, tmp_path):
    folder = tmp_path / "backup"
    filled.backup(folder)
    pack = max(pack_paths(folder), key=lambda path: path.stat().st_size)
    sound = pack.read_bytes()
    flip(pack, 2000)
    assert [fault for fault in check_backups(folder).faults if pack.name in fault]
    done = filled.backup(folder)
    assert (done.copied_count, done.faults) == (1, ())
    assert pack.read_bytes() == sound
    assert check_backups(folder).faults == ()
    assert filled.backup(folder).copied_count == 0
    hn.restore(folder, tmp_path / "again")


def test_a_pack_that_is_damaged_in_both_places_stays_and_is_told(filled, tmp_path):
    folder = tmp_path / "backup"
    filled.backup(folder)
    pack = max(pack_paths(folder), key=lambda path: path.stat().st_size)
    flip(pack, 2000)
    kept = pack.read_bytes()
    flip(filled.path / pack.relative_to(folder), 3000)
    check_backups(folder)
    for _ in range(2):
        done = filled.backup(folder)
        assert [fault for fault in done.faults if pack.name in fault]
        assert pack.read_bytes() == kept


@pytest.mark.parametrize("name", ["snapshot.json", "packs.b3"])
@pytest.mark.parametrize("lines", [0, 1, None])
def test_a_damaged_snapshot_stands_in_the_way_of_none(filled, source, tmp_path, name, lines):
    folder = tmp_path / "backup"
    first = filled.backup(folder).snapshot
    filled.rm("noise.bin")
    filled.gc(trash_days=0, grace_s=0)
    filled.backup(folder)
    other = filled.backup(folder).snapshot
    place = folder / "snapshots" / first / name
    content = place.read_bytes()
    place.unlink()
    if lines is not None:
        place.write_bytes(b"".join(content.splitlines(keepends=True)[:lines]))
    packs = pack_paths(folder)
    done = filled.backup(folder, keep=4)
    assert done.damaged_snapshots == (first,)
    assert remove_backup(folder, other).pack_count == 0
    assert pack_paths(folder) == packs, "the list that is damaged may name any of them"
    [told_of] = [one for one in list_backups(folder) if one.name == first]
    assert (told_of.damage is None) == (name == "packs.b3")
    assert remove_backup(folder, first).pack_count > 0
    hn.restore(folder, tmp_path / "again")
    assert check_backups(folder).faults == ()


def test_what_is_no_snapshot_is_passed_over(filled, tmp_path):
    filled.backup(tmp_path / "backup")
    snapshots = tmp_path / "backup" / "snapshots"
    (snapshots / "20991340T999999.999999Z").mkdir()
    (snapshots / "20990101T000000.000000Z").write_text("a file")
    (snapshots / "20990102T000000.000000Z").symlink_to(tmp_path)
    done = filled.backup(tmp_path / "backup", keep=1)
    assert [one.name for one in list_backups(tmp_path / "backup")] == [done.snapshot]
    assert done.snapshot < "2099"
    assert hn.restore(tmp_path / "backup", tmp_path / "again").snapshot == done.snapshot


def test_no_snapshot_is_made_under_a_name_that_nobody_finds(filled, tmp_path):
    from dataclasses import replace

    year_10000 = 253_402_300_800_000_000
    with pytest.raises(HartonomousError, match="years"):
        backing_up.backup(replace(filled.parts, clock=lambda: year_10000), tmp_path / "backup")
    assert filled.backup(tmp_path / "backup").copied_count > 0


def test_a_backup_that_fails_leaves_no_unfinished_copy(filled, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(backup_folder, "copy_pack", full)
    with pytest.raises(StorageFullError):
        filled.backup(tmp_path / "backup")
    assert list((tmp_path / "backup" / "tmp").iterdir()) == []


def test_a_run_that_was_killed_while_it_wrote_its_mark_stands_in_no_way(filled, tmp_path):
    folder, target = tmp_path / "backup", tmp_path / "again"
    for place, name in [(folder, "backup.json"), (target, "restore.json")]:
        place.mkdir()
        (place / f".{name}.71-00112233aabbccdd.tmp").write_text("{")
    filled.backup(folder)
    hn.restore(folder, target)
    assert not [one for place in (folder, target) for one in place.glob(".*")]


@pytest.mark.parametrize("rubbish", [b"", b"{", b"\xff\xfe", b'{"format": "h\xa3"}'])
def test_a_damaged_mark_says_what_to_put_in_its_place(filled, tmp_path, rubbish):
    filled.backup(tmp_path / "backup")
    mark = tmp_path / "backup" / "backup.json"
    mark.write_bytes(rubbish)
    with pytest.raises(IntegrityError, match="is damaged") as caught:
        hn.restore(tmp_path / "backup", tmp_path / "again")
    mark.write_text(re.search(r"\{.*\}", caught.value.hint)[0])
    assert hn.restore(tmp_path / "backup", tmp_path / "again").faults == ()
    assert filled.backup(tmp_path / "backup").faults == ()
