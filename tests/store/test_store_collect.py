"""Collection: what is needed stays readable, what is not is gone from the disk, nobody is hurt."""

import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from disk import (
    bytes_in_packs,
    first_record,
    flip,
    noise,
    pack_paths,
    pack_with,
    wreck_end,
    write_pack,
)

import hartonomous as hn
from hartonomous import locks
from hartonomous.catalog import atoms, manifests
from hartonomous.core.digest import digest
from hartonomous.core.record import Encoding, RecordKind
from hartonomous.errors import LockedError, NotFoundError, UsageError
from hartonomous.operations import collect
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.files import FileReader, load_manifest
from hartonomous.packs.session import WriteSession

A, B, C = noise(300_000, 1), noise(200_000, 2), noise(150_000, 3)


@pytest.fixture
def filled(store, source):
    store.add(source("a.bin", A))
    store.add(source("b.bin", B))
    store.add(source("c.bin", C))
    return store


def content(store: hn.Store, spec: str, out: Path) -> bytes:
    store.get(spec, out / "got", force=True)
    return (out / "got").read_bytes()


def everything_below(path: Path) -> dict[str, bytes]:
    kept = {"-wal", "-shm"}
    return {
        str(one.relative_to(path)): one.read_bytes()
        for one in path.rglob("*")
        if one.is_file() and one.name[-4:] not in kept and "lock" not in one.name
    }


def test_what_is_needed_is_readable_through_a_reader_opened_before(filled, tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "SMALL_PACKS", 1)
    with hn.open(filled.path) as other:
        with other.parts.database.read() as tx:
            rows = {name: manifests.by_file_digest(tx, digest(name)) for name in (A, C)}
        reader = AtomReader(other.parts)
        manifest = load_manifest(reader, rows[A])
        file = FileReader(reader, manifest)
        assert file.read(0, 1000) == A[:1000]
        view = file.view(5, 1000)
        reader.locate(one.digest for one in manifest.segments)  # all places are cached
        before = pack_paths(filled.path)
        filled.rm("b.bin")
        filled.gc(trash_days=0, grace_s=0)
        assert not set(before) & set(pack_paths(filled.path))
        assert file.read(0, len(A)) == A
        assert bytes(view) == A[5:1005]
        # A manifest whose place was read before the packs moved is found again.
        late = FileReader(reader, load_manifest(AtomReader(other.parts), rows[C]))
        assert late.read(0, len(C)) == C
        reader.close()
        assert content(other, "a.bin", tmp_path) == A
    assert filled.verify(files=True).sound


def test_a_reader_between_locating_and_reading_looks_again(filled, tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "SMALL_PACKS", 1)
    with filled.parts.database.read() as tx:
        row = manifests.by_file_digest(tx, digest(A))
    reader = AtomReader(filled.parts)
    manifest = load_manifest(AtomReader(filled.parts), row)
    reader.locate(one.digest for one in manifest.segments)  # cached, and no pack opened
    filled.gc(grace_s=0)
    assert FileReader(reader, manifest).read(0, len(A)) == A
    reader.close()


def test_freed_bytes_are_freed_on_disk(filled):
    before = bytes_in_packs(filled.path)
    filled.rm("a.bin")
    removed = bytes_in_packs(filled.path)
    assert removed > before  # the change's own record
    done = filled.gc(trash_days=0, grace_s=0)
    after = bytes_in_packs(filled.path)
    assert done.purged_versions == ("a.bin@1",)
    assert len(A) < done.freed_bytes <= removed - after + 2000  # the purge's own record
    assert removed - after > len(A)
    assert after < len(B) + len(C) + 8000
    with filled.parts.database.read() as tx:
        assert manifests.by_file_digest(tx, digest(A)) is None
    stats = filled.stats()
    assert stats.dead_bytes < 8000  # headers, tables, commits and changes
    assert stats.trash_version_count == 0


def test_what_others_share_is_kept(store, source, tmp_path):
    store.add(source("one.bin", A + B))
    store.add(source("two.bin", A + C), labels=["prod"])
    store.rm("one.bin")
    store.gc(trash_days=0, grace_s=0)
    assert content(store, "two.bin@prod", tmp_path) == A + C
    assert store.verify(files=True).sound


def test_a_dry_run_changes_nothing_and_foresees(filled):
    filled.rm("a.bin")
    before = everything_below(filled.path)
    done = filled.gc(trash_days=0, grace_s=0, dry_run=True)
    assert done.dry_run
    assert done.purged_versions == ("a.bin@1",)
    after = everything_below(filled.path)
    assert before == after
    assert [one.name for one in filled.ls(trash=True)] == ["a.bin"]


@pytest.mark.parametrize("small_packs", [2, 3, 50])
@pytest.mark.parametrize("removed", [(), ("a.bin",), ("a.bin", "b.bin", "c.bin")])
def test_a_dry_run_foresees_what_the_run_does(filled, source, monkeypatch, removed, small_packs):
    monkeypatch.setattr(collect, "SMALL_PACKS", small_packs)
    for number in range(3):
        filled.add(source(f"small{number}.txt", b"%d line\n" % number * 400))
    filled.label("small1.txt", "prod")
    for name in removed:
        filled.rm(name)
    if removed:
        filled.undo()
        filled.rm(removed[-1])
    (filled.path / "tmp" / "left-behind.tmp").write_bytes(b"half")
    before = everything_below(filled.path)
    dry = filled.gc(trash_days=0, grace_s=0, dry_run=True)
    assert everything_below(filled.path) == before
    done = filled.gc(trash_days=0, grace_s=0)
    assert sorted(dry.purged_versions) == sorted(f"{name}@1" for name in removed)
    exact = ("purged_versions", "manifest_count", "atom_count", "pack_count",
             "compacted_count", "litter_count", "notes")  # fmt: skip
    assert {name: getattr(dry, name) for name in exact} == {
        name: getattr(done, name) for name in exact
    }
    # The record of a purge is not written in a dry run; its size is a guess.
    assert abs(dry.freed_bytes - done.freed_bytes) <= (1000 if removed else 0)
    assert filled.verify().sound
    assert filled.gc(trash_days=0, grace_s=0, dry_run=True).pack_count == 0


def test_the_trash_keeps_what_is_young(filled, tmp_path):
    filled.rm("a.bin")
    assert filled.gc(trash_days=30, grace_s=0).purged_versions == ()
    filled.undo()
    assert content(filled, "a.bin", tmp_path) == A


def test_a_second_run_has_nothing_to_do(filled, monkeypatch):
    monkeypatch.setattr(collect, "SMALL_PACKS", 3)
    filled.rm("a.bin")
    filled.gc(trash_days=0, grace_s=0)
    packs = pack_paths(filled.path)
    again = filled.gc(trash_days=0, grace_s=0)
    assert pack_paths(filled.path) == packs
    assert (again.freed_bytes, again.compacted_count, again.atom_count) == (0, 0, 0)


def test_one_collection_at_a_time(store):
    lock = locks.try_lock(store.parts.lock_path("collect"))
    with pytest.raises(LockedError, match="another gc"):
        store.gc()
    lock.release()
    store.gc()


# -- what dead and living writers left

WRITER = """
import sys
from pathlib import Path
import hartonomous as hn
from hartonomous.core.digest import digest
from hartonomous.core.record import Encoding
from hartonomous.packs.session import WriteSession

store = hn.open(Path(sys.argv[1]))
session = WriteSession(store.parts)
how = sys.argv[2]
content = b"new " * 20_000
if how == "pins":
    found = session.known_atoms([bytes.fromhex(sys.argv[3])])
    assert found
else:
    session.put_atom(
        digest(content), len(content), [content], encoding=Encoding.RAW,
        dtype=None, on_stored=lambda *_: None,
    )
    if how == "sealed":
        session.flush()
    elif how == "open":
        session._drain()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def writer(filled) -> Iterator[object]:
    """Start a process that holds a writing session open."""
    started: list[subprocess.Popen[bytes]] = []

    def start(how: str, *words: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(filled.path), how, *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        started.append(process)
        assert process.stdout.readline() == b"ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def litter(store: hn.Store) -> list[str]:
    found = [*(store.path / "tmp").iterdir(), *(store.path / "locks").glob("writer-*")]
    return sorted(one.name for one in found)


@pytest.mark.parametrize("how", ["sealed", "open"])
def test_a_living_writers_work_is_left_alone_and_a_dead_ones_removed(filled, writer, how):
    before = set(pack_paths(filled.path))
    process = writer(how)
    made = set(pack_paths(filled.path)) - before
    assert len(made) == (how == "sealed")
    lying = litter(filled)
    assert lying
    done = filled.gc(trash_days=0, grace_s=0)
    assert made <= set(pack_paths(filled.path))
    assert (done.pack_count, done.litter_count, done.atom_count) == (0, 0, 0)
    assert litter(filled) == lying
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = filled.gc(trash_days=0, grace_s=0)
    assert done.pack_count + done.litter_count == 1
    assert done.atom_count == (how == "sealed")
    assert not made & set(pack_paths(filled.path))
    assert litter(filled) == []
    assert filled.verify(files=True).sound


def test_an_atom_that_a_writer_found_is_not_taken_from_it(filled, writer):
    with filled.parts.database.read() as tx:
        row = manifests.by_file_digest(tx, digest(A))
    names = [one.digest for one in load_manifest(AtomReader(filled.parts), row).segments]
    process = writer("pins", names[0].hex())
    filled.rm("a.bin")
    filled.gc(trash_days=0, grace_s=0)
    with filled.parts.database.read() as tx:
        assert set(atoms.find(tx, names)) == {names[0]}
    process.send_signal(signal.SIGKILL)
    process.wait()
    filled.gc(trash_days=0, grace_s=0)
    with filled.parts.database.read() as tx:
        assert atoms.find(tx, names) == {}


def test_a_writer_that_found_an_atom_publishes_after_a_collection(filled, source, tmp_path):
    """The file is known, then its only version is purged, then the writer publishes."""
    target = source("again.bin", A)
    real = WriteSession.known_manifest
    purged: list[object] = []

    def known(session: WriteSession, name: bytes):
        found = real(session, name)
        if found is not None and not purged:
            purged.append(found)
            filled.rm("a.bin")
            filled.gc(trash_days=0, grace_s=0)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WriteSession, "known_manifest", known)
        with hn.open(filled.path) as other:
            other.add(target)
    assert purged
    assert content(filled, "again.bin", tmp_path) == A
    filled.gc(trash_days=0, grace_s=0)
    assert filled.verify(files=True).sound
    filled.close()
    report = hn.repair(filled.path)
    assert (report.lost, report.damaged) == ((), ())
    with hn.open(filled.path) as again:
        assert {one.name for one in again.ls()} == {"again.bin", "b.bin", "c.bin"}


def test_packs_of_nobody_go_after_the_grace_and_strangers_stay(filled):
    sealed, _ = write_pack(filled.parts, [(RecordKind.EXTENT, b"", b"x" * 100)])
    path = filled.path / "packs" / sealed.key.hex()[:2] / f"{sealed.key.hex()}.pack"
    stranger = filled.path / "packs" / "no-pack.pack"
    stranger.write_bytes(b"not a pack")
    filled.gc(grace_s=3600)
    assert path.exists()
    done = filled.gc(grace_s=0)
    assert not path.exists()
    assert done.litter_count == 1
    assert stranger.exists()
    assert any("no-pack.pack" in note for note in done.notes)


def test_a_damaged_pack_is_not_compacted_away(filled, monkeypatch):
    monkeypatch.setattr(collect, "SMALL_PACKS", 1)
    pack = pack_with(filled.path, RecordKind.EXTENT)
    at, header = first_record(pack, RecordKind.EXTENT)
    flip(pack, header.offset)
    done = filled.gc(grace_s=0)
    assert pack.exists()
    assert any(pack.stem in note for note in done.notes)
    flip(pack, at)
    wreck_end(pack)  # else the header is read from its copy there
    foreseen = filled.gc(grace_s=0, dry_run=True)
    assert any(pack.stem in note for note in foreseen.notes)


def test_an_aborted_collection_is_carried_on(filled, monkeypatch, tmp_path):
    filled.rm("a.bin")
    for step in ("_forget_dead_writers", "_drop_manifests", "_drop_atoms", "_drop_packs"):
        with monkeypatch.context() as patch:

            def die(*_: object) -> None:
                raise InterruptedError

            patch.setattr(collect, step, die)
            with pytest.raises(InterruptedError):
                filled.gc(trash_days=0, grace_s=0)
        assert filled.ls(trash=True) == []
        assert {one.name for one in filled.ls()} == {"b.bin", "c.bin"}
        assert filled.verify(files=True).sound
    filled.gc(trash_days=0, grace_s=0)
    assert bytes_in_packs(filled.path) < len(B) + len(C) + 10_000
    assert content(filled, "b.bin", tmp_path) == B


def test_a_raw_encoding_stays_raw_when_compacted(store, source, monkeypatch):
    monkeypatch.setattr(collect, "SMALL_PACKS", 1)
    store.add(source("a.bin", A))
    before = {one.kind: one for one in store.stats().held}
    store.gc(grace_s=0)
    assert {one.kind: one for one in store.stats().held} == before
    assert Encoding.RAW.name.lower() in before


@pytest.mark.parametrize("days", [1e9, 1e300, math.inf])
def test_a_trash_of_any_number_of_days_keeps_what_it_has(store, tmp_path, days):
    (tmp_path / "a.bin").write_bytes(b"a")
    store.add(tmp_path / "a.bin")
    store.rm("a.bin")
    assert store.gc(trash_days=days, dry_run=True).purged_versions == ()
    assert store.gc(trash_days=days).purged_versions == ()
    assert store.undo()


@pytest.mark.parametrize("name", ["trash_days", "event_days", "job_days", "grace_s"])
def test_what_is_no_time_is_refused(store, name):
    for value in (math.nan, -1, *((math.inf,) if name == "grace_s" else ())):
        with pytest.raises(UsageError, match=f"{name} is {value}, which is no time"):
            collect.collect(store.parts, **{name: value})


@pytest.mark.parametrize("number", [2**63, -(2**70), 10**30])
def test_no_change_has_a_number_that_no_column_holds(store, number):
    with pytest.raises(NotFoundError, match=f"has number {number}"):
        store.undo(number)


def test_only_small_packs_of_about_the_same_size_are_merged(store, source):
    for number in range(collect.SMALL_PACKS):
        store.add(source(f"large{number}", noise(300_000, 10 + number)))
    large = set(pack_paths(store.path))
    store.gc(grace_s=0)
    (merged,) = pack_paths(store.path)
    assert merged not in large
    for number in range(collect.SMALL_PACKS - 1):
        store.add(source(f"small{number}", noise(3000, 20 + number)))
    before = set(pack_paths(store.path))
    assert store.gc(grace_s=0).compacted_count == 0
    assert set(pack_paths(store.path)) == before
    store.add(source("small", noise(3000, 40)))
    assert store.gc(grace_s=0).compacted_count == collect.SMALL_PACKS
    assert merged in pack_paths(store.path)
    assert len(pack_paths(store.path)) == 2
    assert store.verify().sound


def test_a_little_that_is_dead_is_not_worth_a_copy(store, source):
    tree = source("tree/a.bin", A).parent
    source("tree/note.txt", noise(200, 9) * 2)
    store.add(tree)
    (pack,) = pack_paths(store.path)
    store.rm("tree/note.txt")
    done = store.gc(trash_days=0, grace_s=0)
    assert done.manifest_count == 1
    assert done.compacted_count == 0
    assert pack in pack_paths(store.path)


def test_what_a_compaction_writes_is_not_compacted_by_the_next(store, source):
    for number in range(collect.SMALL_PACKS - 1):
        store.add(source(f"small{number}", noise(3000, 20 + number)))
    tree = source("tree/kept.bin", noise(2000, 40)).parent
    source("tree/gone.bin", noise(9000, 41))
    store.add(tree)
    store.rm("tree/gone.bin")
    dry = store.gc(trash_days=0, grace_s=0, dry_run=True)
    done = store.gc(trash_days=0, grace_s=0)
    assert done.compacted_count == dry.compacted_count > 0
    again = store.gc(trash_days=0, grace_s=0)
    assert (again.compacted_count, again.pack_count, again.freed_bytes) == (0, 0, 0)
    assert store.verify(files=True).sound


def test_packs_that_are_full_are_not_small(tmp_path, source):
    with hn.open(tmp_path / "full", create=True, settings={"pack_bytes": 1 << 20}) as store:
        store.add(source("large", noise((collect.SMALL_PACKS + 1) << 20, 7)))
        full = pack_paths(store.path)
        assert len(full) > collect.SMALL_PACKS
        assert store.gc(grace_s=0).compacted_count == 0
        assert pack_paths(store.path) == full


@pytest.mark.parametrize("how", ["removed", "unlabelled"])
def test_a_label_does_not_come_back_to_the_version_it_was_taken_from(store, source, how):
    for at, value in enumerate((A, B)):
        store.add(source(f"{at}.bin", value), name="m", labels=["prod"])
    if how == "unlabelled":
        store.unlabel("m", "prod")
    store.rm("m@2")
    store.mv("m", "n")
    store.gc(trash_days=0, grace_s=0)
    assert [one.labels for one in store.ls(versions=True)] == [()]
    assert store.verify(files=True).sound
    assert [one.action for one in store.log(only_undoable=True)] == ["rename"]
    assert store.undo().name == "m"
    with pytest.raises(NotFoundError, match="nothing to undo"):
        store.undo()
    store.close()
    hn.repair(store.path)
    with hn.open(store.path) as again:
        assert [(one.name, one.labels) for one in again.ls(versions=True)] == [("m", ())]
        assert again.verify(files=True).sound
        # Once a version bears it, and when nothing is left of the name, nothing is remembered.
        again.label("m@1", "prod")
        again.gc(trash_days=0, grace_s=0)
        assert again.verify(files=True).sound
        kept = {one.action for one in again.log()}
        assert not kept & {"remove", "unlabel"}


def test_a_trash_that_is_emptied_by_an_undo_meanwhile_is_not_purged(filled, monkeypatch):
    sound = collect.publication

    def taken_out(session):
        monkeypatch.setattr(collect, "publication", sound)
        filled.undo()
        return sound(session)

    filled.rm("b.bin")
    monkeypatch.setattr(collect, "publication", taken_out)
    assert filled.gc(trash_days=0, grace_s=0).purged_versions == ()
    assert filled.log()[0].action == "undo"
    assert len(filled.ls()) == 3
