"""A store that somebody made to harm the one that receives from it."""

import os
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
from disk import flip, pack_paths, write_pack
from safetensors.numpy import save

import hartonomous as hn
from hartonomous.catalog import atoms, packs
from hartonomous.core import manifest as manifests
from hartonomous.core.description import Description
from hartonomous.core.digest import ContentHasher, digest
from hartonomous.core.manifest import Manifest, Segment
from hartonomous.core.record import RecordKind
from hartonomous.errors import HartonomousError, IntegrityError
from hartonomous.packs.stored_peer import StoredPeer
from hartonomous.ports.peer import PeerRecord

GOOD, BAD = b"good bytes" * 1200, b"evil bytes" * 1200


@pytest.fixture
def theirs(tmp_path):
    with hn.open(tmp_path / "theirs", create=True) as store:
        (tmp_path / "good").write_bytes(GOOD)
        store.add(tmp_path / "good", name="good", labels=["prod"])
        yield store


@pytest.fixture
def mine(tmp_path):
    with hn.open(tmp_path / "mine", create=True) as store:
        (tmp_path / "own").write_bytes(os.urandom(50_000))
        store.add(tmp_path / "own", name="own")
        yield store


def sql(store, text, *values):
    with sqlite3.connect(store.path / "catalog.sqlite3") as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute(text, values)
    connection.close()


def check_whole(mine, names=("own",)):
    assert [one.name for one in mine.ls()] == sorted(names)
    assert mine.verify(files=True).faults == ()
    mine.gc(trash_days=0, grace_s=0)
    assert mine.verify(files=True).faults == ()
    assert sorted(one.name for one in mine.ls()) == sorted(names)


def sha256(content):
    hasher = ContentHasher()
    hasher.update(content)
    return hasher.sha256()


def plant(store, content: bytes, said: bytes, *, atom: bytes | None = None, size: int = 0) -> None:
    """Give the store's one file another manifest and atom: what it says and what lies there."""
    name = atom or digest(content)
    manifest = Manifest(
        size=size or len(content), digest=said, sha256=sha256(content),
        segments=(Segment(size or len(content), name, None),),
        description=Description(format="file"),
    )  # fmt: skip
    encoded = manifests.encode(manifest)
    objects = [(RecordKind.EXTENT, name, content), (RecordKind.MANIFEST, b"", encoded)]
    sealed, places = write_pack(store.parts, objects)
    with store.parts.database.write() as tx:
        pack_id = packs.add(
            tx, key=sealed.key, writer_key=sealed.writer, size_bytes=sealed.size_bytes,
            record_count=sealed.record_count, created_us=sealed.created_us,
        )  # fmt: skip
        extent = atoms.NewExtent(
            pack_id=pack_id, position=0, length=len(content), header_offset=places[0],
            stored_bytes=len(content),
        )  # fmt: skip
        new = atoms.NewAtom(
            digest=name, size_bytes=len(content), encoding=0, extents=(extent,)
        )  # fmt: skip
        atoms.add(tx, [new], now_us=1)
    sql(
        store, "UPDATE manifest SET digest=?, file_digest=?, pack_id=?, header_offset=?,"
        " size_bytes=?", digest(encoded), said, pack_id, places[1], size or len(content),
    )  # fmt: skip


def test_an_atom_that_is_not_what_its_digest_says_is_refused(theirs, mine):
    sealed, places = write_pack(theirs.parts, [(RecordKind.EXTENT, digest(GOOD), BAD)])
    with theirs.parts.database.write() as tx:
        pack_id = packs.add(
            tx, key=sealed.key, writer_key=sealed.writer, size_bytes=sealed.size_bytes,
            record_count=sealed.record_count, created_us=sealed.created_us,
        )  # fmt: skip
    sql(theirs, "DELETE FROM extent WHERE id > (SELECT min(id) FROM extent)")
    with theirs.parts.database.read() as tx:
        [name] = tx.exec_driver_sql("SELECT digest FROM atom").scalars()
    assert name == digest(GOOD)
    sql(
        theirs, "UPDATE extent SET pack_id=?, header_offset=?, stored_bytes=?", pack_id, places[0],
        len(BAD),
    )  # fmt: skip
    done = mine.pull(theirs)
    assert done.version_count == 0
    assert "another digest" in done.failed[0]
    with mine.parts.database.read() as tx:
        assert atoms.find(tx, [digest(GOOD)]) == {}
    check_whole(mine)


def test_a_file_that_is_not_what_its_digest_says_is_refused(theirs, mine, tmp_path):
    """Else the real file of that digest, added later, would be taken for the wrong one."""
    plant(theirs, BAD, digest(GOOD))
    done = mine.pull(theirs)
    assert "another digest" in done.failed[0]
    mine.add(tmp_path / "good", name="good")
    mine.get("good", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == GOOD
    check_whole(mine, ("good", "own"))


def test_what_is_damaged_there_does_not_come_and_the_rest_does(theirs, mine, tmp_path):
    other = os.urandom(200_000)
    (tmp_path / "second").write_bytes(other)
    theirs.add(tmp_path / "second", name="second")
    pack = max(pack_paths(theirs.path), key=lambda path: path.stat().st_size)
    flip(pack, 5000)
    done = mine.pull(theirs)
    assert (done.version_count, len(done.failed)) == (1, 1)
    assert done.failed[0].startswith("second@1")
    check_whole(mine, ("good", "own"))


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a//b", "..", "", "a\x00b"])
def test_a_path_as_a_name_is_refused(theirs, mine, name):
    sql(theirs, "UPDATE artifact SET name=?", name)
    with pytest.raises(IntegrityError, match="no name"):
        mine.pull(theirs)
    check_whole(mine)


@pytest.mark.parametrize("path", ["../../x", "/etc/x", "a/../b", ".", ""])
def test_a_member_that_leads_out_is_refused(theirs, mine, path):
    sql(theirs, "UPDATE member SET path=?", path)
    assert mine.pull(theirs).failed
    check_whole(mine)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE label SET name='1'",
        "UPDATE version SET number=-4",
        "UPDATE version SET model='{\"x\": 1}'",
        "UPDATE version SET model='['",
        "UPDATE version SET kind='other'",
        "UPDATE member SET mode=99999",
        "UPDATE member SET modified_us=9223372036854775807",
        "UPDATE version SET created_us=9223372036854775807",
        "UPDATE manifest SET size_bytes=5",
        "UPDATE extent SET length=3",
        "UPDATE extent SET header_offset=8",
        "DELETE FROM extent",
        "UPDATE atom SET digest=zeroblob(32)",
        "UPDATE manifest SET header_offset=64",
        "INSERT INTO version_tag SELECT id, 'a b' FROM version",
    ],
)
def test_planted_rows_bring_nothing_that_is_not_proved(theirs, mine, change):
    sql(theirs, change)
    try:
        done = mine.pull(theirs)
    except HartonomousError:
        check_whole(mine)
        return
    # What another store says of times and extents is bounded or not relied on here.
    names = ("own",) if done.failed else ("good", "own")
    check_whole(mine, names)
    if not done.failed:
        assert mine.show("good").created_us <= mine.parts.clock()


def test_a_statement_of_the_far_future_does_not_hold_for_ever(theirs, mine):
    mine.pull(theirs)
    theirs.unlabel("good", "prod")
    sql(theirs, "UPDATE change SET content=replace(content, '\"kind\"', '\"origin_us\":"
        " 4611686018427387904, \"kind\"')")  # fmt: skip
    mine.pull(theirs)
    mine.label("good", "prod")
    mine.pull(theirs)
    assert mine.show("good").labels == ("prod",)


def test_bases_in_a_circle_are_refused(theirs, mine, tmp_path, monkeypatch):
    base = np.random.default_rng(1).standard_normal((256, 512)).astype(np.float32)
    for name, factor in (("base", 1), ("tuned", np.float32(1.0003))):
        (tmp_path / f"{name}.safetensors").write_bytes(save({"w": base * factor}))
        theirs.add(tmp_path / f"{name}.safetensors", name=name)
    real = StoredPeer.atoms

    def in_a_circle(self, digests):
        found = real(self, digests)
        for name, records in found.items():
            found[name] = [
                PeerRecord(header=replace(one.header, bases=(name,)), place=one.place)
                for one in records
            ]
        return found

    monkeypatch.setattr(StoredPeer, "atoms", in_a_circle)
    done = mine.pull(theirs)
    assert done.version_count == 0
    assert any("on itself" in text for text in done.failed)
    check_whole(mine)


def test_a_store_that_is_cut_while_it_is_read_costs_its_own_versions_alone(
    theirs, mine, monkeypatch
):
    real = StoredPeer.payload

    def cut(self, record):
        for path in pack_paths(theirs.path):
            path.chmod(0o644)
            os.truncate(path, 100)
        return real(self, record)

    monkeypatch.setattr(StoredPeer, "payload", cut)
    done = mine.pull(theirs)
    assert done.version_count == 0
    assert done.failed
    check_whole(mine)
