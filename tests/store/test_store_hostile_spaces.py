"""Spaces that somebody else made, or took away meanwhile: refused in words, and searches go on."""

import dataclasses

import numpy as np
import pytest

import hartonomous as hn
from hartonomous.catalog import spaces
from hartonomous.core.place import Place
from hartonomous.core.space import Space
from hartonomous.core.vector_block import MOST_BYTES, PlaceTable, block_tensors
from hartonomous.errors import HartonomousError, NotFoundError
from hartonomous.operations import spaces as operation
from hartonomous.operations.search import SearchFilter
from hartonomous.packs import space_writer
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.ingest import FileIngest
from hartonomous.packs.proposal import Proposal
from hartonomous.packs.publication import publish
from hartonomous.packs.session import WriteSession
from hartonomous.packs.space_writer import ensure_space, find_space, writing
from hartonomous.packs.tensor_file import TensorFile
from hartonomous.packs.vector_blocks import FILE_NAME, find_blocks
from hartonomous.packs.vector_truth import SpaceTruth
from hartonomous.ports.progress import NoProgress
from hartonomous.ports.source import MemberSource


def space_of(**fields):
    told = {
        "modality": "text", "encoder": "small", "encoder_digest": "ab" * 32, "recipe": "r-1",
        "quantisation": "f32", "pooling": "mean", "dimension": 24,
    }  # fmt: skip
    return Space(**{**told, **fields})


def places_of(count):
    return [Place(digest=bytes([7]) * 32, kind="passage", start=at, stop=at + 9)
            for at in range(count)]  # fmt: skip


def vectors_of(count, wide=24):
    return np.random.default_rng(1).standard_normal((count, wide)).astype(np.float32)


def filled(store, space, count=9):
    row = ensure_space(store.parts, space)
    with writing(store.parts, store.files, row) as writer:
        writer.append(places_of(count), vectors_of(count, space.dimension), source="a test")
        writer.flush()
    return row


def brought(store, space, *, rows, files=1, ids=None, number=1, name=None):
    """Publish a block that no writer of ours makes, as another program might send it."""
    ids = np.arange(1, rows + 1) if ids is None else np.asarray(ids, np.int64)
    table = PlaceTable(rows=np.zeros((rows, 10), np.int64), digests=np.ones((files, 32), np.uint8))
    vectors = np.broadcast_to(np.float32(1), (rows, space.dimension))
    made = TensorFile(".spaces/x", *block_tensors(space, ids, vectors, table))
    source = MemberSource(
        path=FILE_NAME, location=".spaces/x", size=made.size, mode=0o644, modified_us=1, made=made
    )
    parts = dataclasses.replace(store.parts, variants=False)
    with WriteSession(parts) as session:
        reader = AtomReader(parts)
        ingest = FileIngest(session, parts.parser, reader, NoProgress())
        try:
            file = ingest.take(source)
        finally:
            ingest.close()
            reader.close()
        proposal = Proposal(
            kind=spaces.KIND, names=(f".spaces/{space.key}/{number}",), files=(file,),
            source_place="a test", tensor_count=4, next_version=True,
            metadata={} if name is None else {spaces.NAME_KEY: name},
        )  # fmt: skip
        publish(session, [proposal])


def test_a_search_by_words_goes_on_where_a_space_lacks_its_encoder(tmp_path, store, source):
    store.add(source("a.txt", b"the main valve leaks"))
    with hn.open(tmp_path / "other", create=True) as other:
        filled(other, space_of())
        other.push(store)
    assert [one.state for one in store.spaces.list()] == ["current"]
    found = store.search("valve")
    assert [one.member for one in found.hits] == ["a.txt"]
    assert any("small is not searched" in one for one in found.notes)
    with pytest.raises(NotFoundError):
        store.search("valve", space="small")
    with pytest.raises(NotFoundError):
        store.search("", like="a.txt")


@pytest.mark.parametrize("field", ["modality", "metric"])
def test_a_block_of_an_unknown_kind_of_space_is_refused(store, field):
    brought(store, space_of(**{field: "strange"}), rows=9)
    notes = find_blocks(store.parts, store.files)
    assert "not known" in notes[0]
    assert store.spaces.list() == []


@pytest.mark.parametrize("name", ["a\x1b[2Jb", "a\nb", "x" * 201, " ", ""])
def test_a_block_gives_its_space_no_name_that_nobody_may_give(tmp_path, store, name):
    brought(store, space_of(encoder=name), rows=2, name=name)
    assert find_blocks(store.parts, store.files) == ()
    assert [one.name for one in store.spaces.list()] == ["text"]
    store.close()
    hn.repair(tmp_path / "store")
    with hn.open(tmp_path / "store") as opened:
        assert [one.name for one in opened.spaces.list()] == ["text"]


def test_a_block_larger_than_any_is_refused_before_it_is_read(store):
    wide = 16_384
    brought(store, space_of(dimension=wide), rows=MOST_BYTES // (4 * wide) + 1)
    notes = find_blocks(store.parts, store.files)
    assert "larger than any" in notes[0]
    assert store.spaces.list() == []


def test_a_block_with_more_files_than_vectors_is_refused(store):
    brought(store, space_of(), rows=9, files=10)
    assert "larger than any" in find_blocks(store.parts, store.files)[0]


@pytest.mark.parametrize("ids", [(2**62 - 1,), (2**63 - 1,), (1, 5), (2**61, 2**61 + 2**39)])
def test_a_block_of_large_ids_leaves_room_for_others(tmp_path, store, ids):
    brought(store, space_of(), rows=len(ids), ids=ids)
    brought(store, space_of(), rows=3, number=2)
    filled(store, space_of(), count=9)
    assert [one.vector_count for one in store.spaces.list()] == [len(ids) + 3 + 9]
    found = store.spaces.nearest("small", vectors_of(9)[4:5], 1)[0]
    assert [one[0].start for one in found] == [4]
    assert store.verify(files=True).faults == ()
    store.close()
    hn.repair(tmp_path / "store")
    with hn.open(tmp_path / "store") as opened:
        assert [one.vector_count for one in opened.spaces.list()] == [len(ids) + 3 + 9]


def test_a_block_whose_ids_reach_too_far_is_refused(store):
    brought(store, space_of(), rows=2, ids=(1, 2**62))
    assert "reach from 1 to" in find_blocks(store.parts, store.files)[0]
    filled(store, space_of(), count=9)
    assert [one.vector_count for one in store.spaces.list()] == [9]


def test_a_block_too_large_to_be_kept_is_read_in_parts(store, monkeypatch):
    monkeypatch.setattr("hartonomous.packs.vector_truth.KEPT_BYTES", 100)
    monkeypatch.setattr("hartonomous.packs.vector_truth._SCANNED_BYTES", 24 * 4 * 7)
    row = filled(store, space_of(), count=50)
    truth = SpaceTruth(store.parts, store.files, row)
    ids = truth.ids()
    chosen = np.r_[49, 3, 21, 20, 0]
    assert np.array_equal(truth.vectors(ids[chosen]), vectors_of(50)[chosen])


def test_long_vectors_wait_in_a_shorter_tail(store, monkeypatch):
    monkeypatch.setattr(space_writer, "_TAIL_BYTES", 1)
    monkeypatch.setattr(space_writer, "_ROWS_AT_ONCE", 10)
    row = ensure_space(store.parts, space_of())
    with writing(store.parts, store.files, row) as writer:
        writer.append(places_of(25), vectors_of(25), source="a test")
        assert [live for _, live in writer.truth.blocks()] == [10, 10]
        ids = writer.truth.ids()
        assert np.array_equal(writer.truth.vectors(ids), vectors_of(25))


def test_a_space_removed_under_its_writer(store):
    row = ensure_space(store.parts, space_of())
    with writing(store.parts, store.files, row) as writer:
        writer.append(places_of(9), vectors_of(9), source="a test")
        store.spaces.rm("small")
        with pytest.raises(NotFoundError):
            writer.append(places_of(9), vectors_of(9), source="a test")
    assert store.spaces.list() == []


def test_a_space_removed_while_its_tail_becomes_a_block(store, monkeypatch):
    row = ensure_space(store.parts, space_of())
    write = space_writer.write_block

    def late(*given, **named):
        store.spaces.rm("small")
        write(*given, **named)

    with writing(store.parts, store.files, row) as writer:
        writer.append(places_of(9), vectors_of(9), source="a test")
        monkeypatch.setattr(space_writer, "write_block", late)
        with pytest.raises(NotFoundError):
            writer.flush()
    assert store.spaces.list() == []
    store.gc(trash_days=0, grace_s=0)
    assert store.verify(files=True).faults == ()


def test_a_block_written_while_its_space_is_removed_does_not_bring_it_back(store, monkeypatch):
    filled(store, space_of())
    drop = operation.drop_blocks
    added = []

    def late(*given):
        if not added:
            added.append(True)
            filled(store, space_of())
        drop(*given)

    monkeypatch.setattr(operation, "drop_blocks", late)
    store.spaces.rm("small")
    assert store.spaces.list() == []


def test_a_space_removed_while_it_is_switched_to_leaves_the_current_one(store):
    filled(store, space_of())
    row = ensure_space(store.parts, space_of(encoder="other"), name="other")
    store.spaces.rm("other")
    with pytest.raises(NotFoundError):
        store.parts.database.run(lambda tx: spaces.switch(tx, row, now_us=1))
    assert find_space(store.parts, store.files, "small").state == spaces.CURRENT


def test_what_something_is_like_may_have_any_name(store):
    filled(store, space_of())
    with pytest.raises(HartonomousError):
        store.search("", like="x" * 5_000, space="small")


def test_any_number_is_a_time(store, source):
    store.add(source("a.txt", b"the main valve leaks"))
    assert len(store.search("valve", where=SearchFilter(as_of_us=2**70)).hits) == 1
    assert store.search("valve", where=SearchFilter(as_of_us=-(2**70))).hits == ()
