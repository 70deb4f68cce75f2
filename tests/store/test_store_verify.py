"""Verify: every kind of damage is found, and the files concerned are named."""

import errno
import os
from fractions import Fraction

import pytest
from disk import (
    first_record,
    flip,
    noise,
    open_pack,
    pack_paths,
    pack_with,
    records_of,
    rewrite,
    write_pack,
)  # fmt: skip
from sqlalchemy import func, select, text

import hartonomous as hn
from hartonomous.catalog import atoms, packs
from hartonomous.catalog.schema import manifest
from hartonomous.core.digest import digest
from hartonomous.core.record import FOOTER_BYTES, PACK_HEADER_BYTES, RecordKind
from hartonomous.operations import verify as verifying

CONTENT = noise(60_000, 1) + bytes(400_000)


@pytest.fixture
def filled(store, source):
    """A store with one file of raw and compressed atoms, a label, in two packs."""
    store.add(source("a.bin", CONTENT))
    store.label("a.bin", "prod")
    return store


def faults(store: hn.Store, **how: object) -> list[verifying.Fault]:
    report = store.verify(**how)
    assert report.sound == (not report.faults)
    return list(report.faults)


def test_a_whole_store_is_sound(filled):
    report = filled.verify(files=True)
    assert (report.faults, report.complete, report.level) == ((), True, "files")
    assert report.atom_count == filled.stats().atom_count
    assert report.read_bytes == 2 * len(CONTENT)
    assert report.manifest_count == 1
    assert report.record_count == sum(len(records_of(one)) for one in pack_paths(filled.path))


@pytest.mark.parametrize("kind", [RecordKind.EXTENT, RecordKind.MANIFEST, RecordKind.COMMIT,
                                  RecordKind.CHANGE])  # fmt: skip
@pytest.mark.parametrize("where", ["payload", "header", "frame table"])
def test_a_flipped_byte_of_a_record_is_found(filled, kind, where):
    pack = pack_with(filled.path, kind)
    at, header = first_record(pack, kind)
    places = {
        "payload": header.offset + header.stored // 2,
        "header": at + 60,
        "frame table": at + 101,
    }
    flip(pack, places[where])
    found = faults(filled)
    assert found
    if kind is not RecordKind.CHANGE:
        assert any(name.startswith("a.bin@1") for one in found for name in one.files)
    if where != "payload":
        assert faults(filled, quick=True)


@pytest.mark.parametrize("where", ["pack header", "table of contents", "footer", "last byte"])
def test_a_flipped_byte_of_the_frame_around_is_found(filled, where):
    pack = pack_with(filled.path, RecordKind.EXTENT)
    reader = open_pack(pack)
    footer = reader.footer()
    size = reader.size
    reader.close()
    places = {
        "pack header": 30,
        "table of contents": footer.toc_offset + footer.toc_bytes // 2,
        "footer": size - FOOTER_BYTES + 9,
        "last byte": size - 1,
    }
    flip(pack, places[where])
    (fault,) = faults(filled, quick=True)
    assert fault.where == f"pack {pack.stem}"
    assert fault.files == ("a.bin@1:a.bin",)


def test_every_byte_of_a_pack_counts(store, source):
    """Flip each byte of a small pack: all but the zeros between records are found."""
    store.add(source("a.bin", noise(200, 1)))
    (pack,) = pack_paths(store.path)
    whole = pack.read_bytes()
    records = records_of(pack)
    reader = open_pack(pack)
    end = reader.footer().toc_offset
    reader.close()
    counts = set(range(PACK_HEADER_BYTES)) | set(range(end, len(whole)))
    for at, header in records:
        counts |= set(range(header.offset, header.offset + header.stored))
        counts |= set(range(at, at + len(header.encode())))
    padding = sorted(set(range(len(whole))) - counts)
    assert all(whole[at] == 0 for at in padding)
    for at in sorted(counts)[::17]:
        flip(pack, at)
        assert faults(store), f"byte {at} of {len(whole)}"
        rewrite(pack, whole)
    assert faults(store, files=True) == []


@pytest.mark.parametrize("how", ["missing", "cut", "empty", "longer", "another"])
def test_a_pack_that_is_not_what_it_was_is_named_with_its_files(filled, source, how):
    pack = pack_with(filled.path, RecordKind.EXTENT)
    content = pack.read_bytes()
    if how == "missing":
        pack.unlink()
    elif how == "cut":
        rewrite(pack, content[:-100])
    elif how == "empty":
        rewrite(pack, b"")
    elif how == "longer":
        rewrite(pack, content + b"\0" * 8)
    else:
        rewrite(pack, pack_with(filled.path, RecordKind.CHANGE).read_bytes())
    found = faults(filled, quick=True)
    assert found[0].where == f"pack {pack.stem}"
    assert found[0].files == ("a.bin@1:a.bin",)
    kinds = {one.where.split()[0] for one in faults(filled, files=True)}
    if how in {"cut", "longer"}:  # all is still read by the catalog's places
        assert kinds == {"pack"}
    else:
        assert kinds >= {"pack", "atom", "file"}


@pytest.mark.parametrize("kind", [RecordKind.EXTENT, RecordKind.CHANGE])
def test_a_pack_that_the_disk_does_not_give_is_named_and_the_others_are_checked(
    filled, source, monkeypatch, kind
):
    filled.add(source("b.bin", noise(60_000, 2)))
    pack = pack_with(filled.path, kind)
    packs_of_files = [
        one for one in pack_paths(filled.path)
        if any(header.kind is RecordKind.EXTENT for _, header in records_of(one))
    ]  # fmt: skip
    other = next(one for one in packs_of_files if one != pack)
    at, _ = first_record(other, RecordKind.EXTENT)
    flip(other, at + 60)
    real = os.open

    def failing(path, *how, **more):
        if os.fspath(path) == str(pack):
            raise OSError(errno.EIO, "Input/output error")
        return real(path, *how, **more)

    monkeypatch.setattr(os, "open", failing)
    for how in ({"quick": True}, {"files": True}):
        found = {one.where: one for one in faults(filled, **how)}
        assert "Input/output error" in found[f"pack {pack.stem}"].what
        assert f"pack {other.stem}" in found


def test_planted_content_with_right_checksums_is_found(filled):
    """Checksums guard against rot; only the digest says what the bytes are."""
    with filled.parts.database.read() as tx:
        (atom_id, name, size), *_ = atoms.page(tx, after_id=0, limit=1)
    sealed, (at,) = write_pack(filled.parts, [(RecordKind.EXTENT, name, noise(size, 666))])
    with filled.parts.database.write() as tx:
        pack_id = packs.add(
            tx, key=sealed.key, writer_key=sealed.writer, size_bytes=sealed.size_bytes,
            record_count=1, created_us=sealed.created_us,
        )  # fmt: skip
        tx.execute(text("DELETE FROM extent WHERE atom_id = :id"), {"id": atom_id})
        tx.execute(
            text(
                "INSERT INTO extent (atom_id, pack_id, position, length, header_offset,"
                " stored_bytes) VALUES (:atom, :pack, 0, :size, :at, :size)"
            ),
            {"atom": atom_id, "pack": pack_id, "size": size, "at": at},
        )
    assert faults(filled, quick=True) == []
    (fault,) = faults(filled)
    assert fault.where == f"atom blake3:{name.hex()}"
    assert "digest" in fault.what
    assert fault.files == ("a.bin@1:a.bin",)
    with pytest.raises(hn.HartonomousError, match="wrong digest"):
        filled.get("a.bin", filled.path.parent / "out")
    assert not (filled.path.parent / "out").exists()


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE atom SET reference_count = 5", "counted 5 times"),
        ("UPDATE atom SET size_bytes = size_bytes + 1", "bytes in extents"),
        ("UPDATE extent SET header_offset = header_offset + 8", "lists no record at"),
        ("UPDATE extent SET length = length - 1", "bytes in extents"),
        ("DELETE FROM extent WHERE id = 1", "bytes in extents"),
        ("UPDATE manifest SET header_offset = 64", "lists no record at"),
        ("UPDATE manifest SET sha256 = digest", "SHA-256"),
        ("UPDATE manifest SET tensor_count = 9", "tensors"),
        ("UPDATE manifest SET size_bytes = 9", "another file"),
        ("UPDATE manifest_atom SET count = 9", "other atoms"),
        (
            "UPDATE version SET digest = (SELECT digest FROM manifest LIMIT 1)",
            "catalog says something else",
        ),
        ("UPDATE version SET number = 7", "catalog says something else"),
        ("UPDATE version SET header_offset = 64", "lists no record at"),
        ("UPDATE change SET sequence = 77", "catalog says something else"),
        ("UPDATE pack SET size_bytes = 9", "the catalog says 9"),
    ],
)
def test_a_wrong_row_of_the_catalog_is_found(filled, statement, says):
    filled.gc(grace_s=0)  # folds the counts
    with filled.parts.database.write() as tx:
        tx.execute(text(statement))
    found = faults(filled)
    assert any(says in one.what for one in found), found


def test_two_atoms_swapped_in_the_catalog_are_found(filled, source):
    filled.add(source("b.bin", noise(60_000, 9)))
    with filled.parts.database.write() as tx:
        (first, _, _), *_, (second, _, _) = atoms.page(tx, after_id=0, limit=100)
        tx.execute(
            text(
                "UPDATE extent SET atom_id = CASE atom_id WHEN :a THEN :b ELSE :a END"
                " WHERE atom_id IN (:a, :b)"
            ),
            {"a": first, "b": second},
        )
    found = faults(filled)
    assert {name for one in found for name in one.files} == {"a.bin@1:a.bin", "b.bin@1:b.bin"}


def test_damage_of_the_trash_names_the_removed_version(filled):
    filled.rm("a.bin")
    pack_with(filled.path, RecordKind.EXTENT).unlink()
    assert faults(filled, quick=True)[0].files == ("a.bin@1:a.bin",)


def test_dead_records_are_nobodys_damage(filled, source, monkeypatch):
    monkeypatch.setattr("hartonomous.operations.collect._compact_packs", lambda *_: None)
    filled.add(source("b.bin", noise(70_000, 4)))
    filled.rm("a.bin")
    filled.gc(trash_days=0, grace_s=0)
    for pack in pack_paths(filled.path):
        for _, header in records_of(pack):
            if header.kind is RecordKind.EXTENT and header.digest != digest(noise(70_000, 4)):
                with filled.parts.database.read() as tx:
                    alive = bool(atoms.find(tx, [header.digest]))
                if not alive:
                    flip(pack, header.offset)
    assert faults(filled, files=True) == []


def test_parts_cover_everything_once(store, source):
    store.add([source(f"{n}.bin", noise(500, n)) for n in range(60)])
    counts = []
    for turn in range(10):
        report = verifying.verify(store.parts, subset=Fraction(1, 10), turn=turn)
        assert report.complete
        counts.append(report.atom_count)
    assert sum(counts) == store.stats().atom_count == 60
    assert max(counts) < 30


def test_any_damage_is_found_in_one_of_the_parts(store, source):
    store.add([source(f"{n}.bin", noise(500, n)) for n in range(20)])
    (pack,) = pack_paths(store.path)
    _, header = [one for one in records_of(pack) if one[1].kind is RecordKind.EXTENT][7]
    flip(pack, header.offset + 3)
    found = [
        verifying.verify(store.parts, subset=Fraction(1, 5), turn=turn).faults for turn in range(5)
    ]
    assert sum(map(len, found)) == 1


@pytest.mark.parametrize("subset", [Fraction(0), Fraction(-1, 2), Fraction(3, 2)])
def test_a_senseless_part_is_refused(store, subset):
    with pytest.raises(hn.HartonomousError, match="not between 0 and 1"):
        store.verify(subset=subset)


def test_a_time_limit_ends_early_and_says_so(filled):
    report = filled.verify(max_duration_s=0)
    assert not report.complete
    assert report.atom_count == 0
    assert filled.verify(max_duration_s=600).complete


def test_verify_does_not_need_what_is_not_in_use(store):
    report = store.verify(files=True)
    assert (report.sound, report.complete, report.pack_count) == (True, True, 0)
    with store.parts.database.read() as tx:
        assert tx.scalar(select(func.count()).select_from(manifest)) == 0
