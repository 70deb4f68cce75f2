"""Damage that verify found is mended by adding the same bytes again, whatever file they come in."""

import os

import numpy as np
import pytest
from disk import first_record, flip, noise, pack_with, records_of, rewrite
from safetensors.numpy import save_file

import hartonomous as hn
from hartonomous.core.record import RecordKind
from hartonomous.errors import IntegrityError


def damage(store):
    """Flip a byte in the payload of the oldest extent."""
    pack = pack_with(store, RecordKind.EXTENT)
    _, header = first_record(pack, RecordKind.EXTENT)
    content = bytearray(pack.read_bytes())
    content[header.offset + header.stored // 2] ^= 1
    rewrite(pack, bytes(content))


def test_an_export_writes_all_that_is_whole(tmp_path):
    place = tmp_path / "store"
    contents = {name: os.urandom(50_000) for name in ("damaged", "whole one", "whole two")}
    with hn.open(place, create=True) as store:
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)
            store.add(tmp_path / name)
            if name == "damaged":
                damage(place)
    with hn.open(place) as store:
        with pytest.raises(IntegrityError, match=r"1 of 3 artifacts .* damaged: "):
            store.export_all(tmp_path / "out")
        assert {one.name: one.read_bytes() for one in (tmp_path / "out").glob("w*")} == {
            name: content for name, content in contents.items() if name != "damaged"
        }
        assert not (tmp_path / "out" / "damaged").exists()


def test_the_same_file_again_mends_it(tmp_path):
    plain = tmp_path / "plain.bin"
    plain.write_bytes(noise(50_000))
    place = tmp_path / "store"
    with hn.open(place, create=True) as store:
        store.add(plain)
    damage(place)
    with hn.open(place) as store:
        assert store.add(plain).stored_bytes == 0  # nobody knows of the damage yet
        assert len(store.verify().faults) == 1
        again = store.add(plain)
        assert again.artifacts[0].outcome == "unchanged"
        assert 0 < again.stored_bytes < 50_000  # the one chunk that was damaged
        assert store.verify(files=True).sound
        store.get("plain.bin", tmp_path / "out.bin")
        assert (tmp_path / "out.bin").read_bytes() == plain.read_bytes()
        store.gc(trash_days=0, grace_s=0)
        assert store.verify(files=True).sound
    assert hn.repair(place).version_count == 1
    with hn.open(place) as store:
        store.get("plain.bin", tmp_path / "after.bin")
    assert (tmp_path / "after.bin").read_bytes() == plain.read_bytes()


def test_the_same_tensor_in_another_file_mends_it(tmp_path):
    weights = {"w": np.frombuffer(noise(80_000), "<f4").copy()}
    save_file(weights, tmp_path / "a.safetensors")
    save_file({"other": weights["w"]}, tmp_path / "b.safetensors")
    place = tmp_path / "store"
    with hn.open(place, create=True) as store:
        store.add(tmp_path / "a.safetensors")
    pack = pack_with(place, RecordKind.EXTENT)
    content = bytearray(pack.read_bytes())
    extents = [h for _, h in records_of(pack) if h.kind is RecordKind.EXTENT]
    largest = max(extents, key=lambda one: one.total)
    content[largest.offset + 10] ^= 1
    rewrite(pack, bytes(content))
    with hn.open(place) as store:
        assert not store.verify().sound
        store.add(tmp_path / "b.safetensors")
        assert store.verify(files=True).sound
        store.get("a.safetensors", tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").read_bytes() == (tmp_path / "a.safetensors").read_bytes()


@pytest.mark.parametrize("size", [0, 50_000, 9_000_000])
def test_a_damaged_manifest_is_mended_by_the_same_file(tmp_path, size):
    plain, other = tmp_path / "plain.bin", tmp_path / "other.bin"
    plain.write_bytes(noise(size))
    other.write_bytes(noise(5_000, 1))
    place = tmp_path / "store"
    with hn.open(place, create=True) as store:
        store.add(plain, labels=["first"])
    pack = pack_with(place, RecordKind.MANIFEST)
    _, header = first_record(pack, RecordKind.MANIFEST)
    flip(pack, header.offset + header.stored // 2)
    with hn.open(place) as store:
        with pytest.raises(IntegrityError):
            store.get("plain.bin", tmp_path / "out")
        assert not store.verify(files=True).sound
        report = store.add([plain, other])
        assert [one.outcome for one in report.artifacts] == ["unchanged", "added"]
        store.get("plain.bin@first", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == plain.read_bytes()
        assert store.verify(files=True).sound
        store.gc(trash_days=0, grace_s=0)
        assert store.verify(files=True).sound
    hn.repair(place)
    with hn.open(place) as store:
        store.get("plain.bin@first", tmp_path / "out", force=True)
        assert store.verify(files=True).sound


def test_a_damaged_record_header_costs_nothing_while_its_copy_is_sound(tmp_path):
    kept = {"a.bin": noise(400_000), "b.bin": noise(2_000), "c.bin": b""}
    with hn.open(tmp_path / "store", create=True) as store:
        for name, content in kept.items():
            (tmp_path / name).write_bytes(content)
            store.add(tmp_path / name)
    damaged = 0
    for path in (tmp_path / "store").glob("packs/*/*.pack"):
        content = bytearray(path.read_bytes())
        for at, _ in records_of(path):
            content[at + 20] ^= 16
            damaged += 1
        rewrite(path, bytes(content))
    assert damaged >= 3 * len(kept) - 1  # bytes, manifest, commit

    def check(faulty: bool) -> None:
        with hn.open(tmp_path / "store") as store:
            for name, content in kept.items():
                store.get(name, tmp_path / "out", force=True)
                assert (tmp_path / "out").read_bytes() == content
                assert store.add(tmp_path / name).artifacts[0].outcome == "unchanged"
            report = store.verify(files=True)
            assert {"header" in one.what for one in report.faults} == ({True} if faulty else set())

    check(faulty=True)
    hn.repair(tmp_path / "store")
    check(faulty=True)
