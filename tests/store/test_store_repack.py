"""Repack: fewer bytes, the same content, whatever happens beside it or cuts it short."""

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from disk import bytes_in_packs, flip, noise, pack_paths, records_of
from killed_child import run_and_kill
from safetensors.numpy import save

import hartonomous as hn
from hartonomous import locks
from hartonomous.catalog import atoms
from hartonomous.codecs import choice
from hartonomous.core.digest import digest
from hartonomous.core.record import Encoding, RecordKind
from hartonomous.errors import LockedError
from hartonomous.operations import repack
from hartonomous.packs import ingest, session
from hartonomous.packs.frames import encode_frames


def words(size: int, seed: int) -> bytes:
    """Return bytes that zstd makes smaller."""
    random = np.random.default_rng(seed)
    return bytes(random.integers(0, 16, size, "u1"))


SMALL, LARGE, NOISE = words(200_000, 1), words(3_000_000, 2), noise(400_000, 3)
TENSORS = save(
    {
        "wide": np.frombuffer(LARGE, "<f4").reshape(1000, 750),
        "narrow": np.frombuffer(SMALL, "<f4"),
        "noise": np.frombuffer(NOISE, "<i4"),
        "none": np.zeros((0, 3), "<f4"),
    }
)
FILES = {"model.safetensors": TENSORS, "words.bin": words(700_000, 4), "noise.bin": NOISE[::-1]}


@pytest.fixture
def old(store, source, monkeypatch) -> Iterator[hn.Store]:
    """Return a store whose writer knew no encoding but RAW."""
    with monkeypatch.context() as patch:
        patch.setattr(choice, "best", lambda _sizes: Encoding.RAW)
        patch.setattr(session, "encode_frames", _raw_frames)
        patch.setattr(ingest, "choose", lambda _frames, _dtype: Encoding.RAW)
        for name, content in FILES.items():
            store.add(source(name, content))
    with store.parts.database.read() as tx:
        assert {row.encoding for row in atoms.stored_page(tx, after_id=0, limit=999)} == {0}
    return store


def _raw_frames(work, *, check, **_bases):
    raw = [type(one)(one.frame, Encoding.RAW, one.dtype, one.expected) for one in work]
    return encode_frames(raw, check=check)


def check_content(store: hn.Store, out: Path) -> None:
    for name, content in FILES.items():
        store.get(name, out / name, force=True)
        got = out / name / name if (out / name).is_dir() else out / name
        assert got.read_bytes() == content


def encodings(store: hn.Store) -> dict[bytes, int]:
    with store.parts.database.read() as tx:
        return {row.digest: row.encoding for row in atoms.stored_page(tx, after_id=0, limit=999)}


def test_an_old_store_gets_smaller_and_gives_the_same(old, tmp_path):
    before = bytes_in_packs(old.path)
    done = old.repack()
    assert done.complete
    assert done.notes == ()
    assert done.stored_bytes < done.former_bytes <= done.logical_bytes
    assert sum(done.by_encoding.values()) == done.atom_count >= 3
    now = encodings(old)
    assert now[digest(LARGE)] != 0
    assert now[digest(SMALL)] != 0
    assert now[digest(NOISE)] == 0
    with old.parts.database.read() as tx:
        rows = {row.digest: row for row in atoms.stored_page(tx, after_id=0, limit=999)}
    assert rows[digest(LARGE)].stored_bytes < len(LARGE)
    assert old.verify(files=True).sound
    old.gc(grace_s=0)
    assert bytes_in_packs(old.path) < before - (done.former_bytes - done.stored_bytes) * 9 // 10
    assert old.verify(files=True).sound
    check_content(old, tmp_path / "out")


def test_a_second_run_has_nothing_to_do(old):
    first = old.repack()
    second = old.repack()
    assert second.examined_count == 0
    assert second.complete
    third = old.repack(again=True)
    assert third.examined_count == first.examined_count
    assert third.atom_count == 0


def test_a_new_rule_begins_anew(old, monkeypatch):
    first = old.repack()
    monkeypatch.setattr(repack, "RULE", choice.RULE + 1)
    assert old.repack().examined_count == first.examined_count


def test_what_came_after_a_run_is_looked_at_by_the_next(old, source):
    old.repack()
    old.add(source("later.bin", words(900_000, 9)))
    assert 0 < old.repack().examined_count < 30


def test_a_dry_run_measures_and_changes_nothing(old):
    before = {path: path.stat().st_mtime_ns for path in pack_paths(old.path)}
    rows = encodings(old)
    dry = old.repack(dry_run=True)
    assert dry.dry_run
    assert {path: path.stat().st_mtime_ns for path in pack_paths(old.path)} == before
    assert encodings(old) == rows
    real = old.repack()
    assert (dry.atom_count, dry.by_encoding) == (real.atom_count, real.by_encoding)
    assert dry.former_bytes == real.former_bytes
    assert dry.stored_bytes == pytest.approx(real.stored_bytes, rel=0.05)


def test_runs_without_time_look_at_nothing_and_runs_in_pieces_at_everything(old, monkeypatch):
    whole = old.repack(dry_run=True)
    assert old.repack(max_duration_s=0).examined_count == 0
    clock = iter(range(10_000))
    monkeypatch.setattr(repack.time, "monotonic", lambda: float(next(clock)))
    runs = []
    while not runs or not runs[-1].complete:
        runs.append(old.repack(max_duration_s=3))
        assert runs[-1].examined_count >= 1
    assert len(runs) > 1
    assert sum(run.examined_count for run in runs) == whole.examined_count
    assert sum(run.atom_count for run in runs) == whole.atom_count
    assert old.verify(files=True).sound


def test_damaged_atoms_are_left_and_noted(old):
    pack = next(
        path
        for path in pack_paths(old.path)
        if any(h.digest == digest(LARGE) for _, h in records_of(path))
    )
    header = next(h for _, h in records_of(pack) if h.digest == digest(LARGE))
    flip(pack, header.offset + 5)
    with hn.open(old.path) as fresh:
        done = fresh.repack()
        assert any(digest(LARGE).hex() in note for note in done.notes)
        assert encodings(fresh)[digest(LARGE)] == 0
        assert encodings(fresh)[digest(SMALL)] != 0


def test_wrong_content_under_right_checksums_is_not_taken_over(old, monkeypatch):
    decode_into = repack.AtomReader.decode_into

    def other(self, name, out, start=0):
        decode_into(self, name, out, start)
        if name == digest(LARGE) and start == 0:
            out[0] ^= 1

    monkeypatch.setattr(repack.AtomReader, "decode_into", other)
    done = old.repack()
    assert any(digest(LARGE).hex() in note for note in done.notes)
    monkeypatch.undo()
    assert encodings(old)[digest(LARGE)] == 0
    assert old.verify(files=True).sound


def test_one_at_a_time(old):
    lock = locks.try_lock(old.parts.lock_path("repack"))
    try:
        with pytest.raises(LockedError, match="another repack"):
            old.repack()
    finally:
        lock.release()
    assert old.repack().complete


def test_readers_go_on_beside_it(old, tmp_path):
    with hn.open(old.path) as other, other.file("model.safetensors") as file:
        assert file.read(1000) == TENSORS[:1000]
        old.repack()
        old.gc(grace_s=0)
        file.seek(0)
        assert file.read() == TENSORS
        check_content(other, tmp_path / "out")


def test_collections_beside_it_take_nothing_away(old, tmp_path):
    stop = threading.Event()

    def collect() -> None:
        with hn.open(old.path) as other:
            while not stop.is_set():
                other.gc(grace_s=0)

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        for _ in range(3):
            assert old.repack(again=True).complete
    finally:
        stop.set()
        thread.join()
    assert old.verify(files=True).sound
    check_content(old, tmp_path / "out")


def test_removed_while_it_runs(old, monkeypatch):
    reencode = repack.reencode
    gone = []

    def remove_first(*arguments, **how):
        if not gone:
            gone.append(True)
            with hn.open(old.path) as other:
                other.rm("words.bin")
                other.gc(trash_days=0, grace_s=0)
        reencode(*arguments, **how)

    monkeypatch.setattr(repack, "reencode", remove_first)
    old.repack()
    assert old.verify(files=True).sound
    assert [row.name for row in old.ls()] == ["model.safetensors", "noise.bin"]


def test_rebuilding_the_catalog_finds_both_copies_good(old, tmp_path):
    old.repack()
    path = old.path
    old.close()
    hn.repair(path)
    with hn.open(path) as again:
        assert again.verify(files=True).sound
        check_content(again, tmp_path / "out")


_KILLED = """
import sys
import hartonomous as hn
from hartonomous.operations import repack
repack._FLUSH_BYTES = 1
with hn.open(sys.argv[1]) as store:
    print("began", flush=True)
    store.repack(again=True)
"""


def test_killed_at_any_moment(old, tmp_path):
    path = old.path
    old.close()
    chance = random.Random(5)
    for _ in range(8):
        run_and_kill(_KILLED, path, chance, within_s=0.2)
        with hn.open(path) as store:
            assert store.verify(files=True).sound
    with hn.open(path) as store:
        assert store.repack(again=True).complete
        assert encodings(store)[digest(LARGE)] != 0
        store.gc(grace_s=0)
        assert store.verify(files=True).sound
        check_content(store, tmp_path / "out")


def test_records_name_the_encoding(old):
    old.repack()
    kinds = [
        header.encoding
        for path in pack_paths(old.path)
        for _, header in records_of(path)
        if header.kind is RecordKind.EXTENT and header.digest == digest(LARGE)
    ]
    assert len(kinds) == 2
    assert Encoding.RAW in kinds
