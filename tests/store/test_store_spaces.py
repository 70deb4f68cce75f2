"""Spaces in a whole store: blocks and tail, embedding, switching, what is brought and refused."""

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from killed_child import run_and_kill

import hartonomous as hn
from hartonomous.catalog import spaces
from hartonomous.core.place import Place
from hartonomous.core.space import Space
from hartonomous.core.vector_block import place_table
from hartonomous.errors import ConflictError, NotFoundError, UsageError
from hartonomous.packs import space_writer
from hartonomous.packs.space_writer import ensure_space, find_space, writing
from hartonomous.packs.vector_blocks import NewBlock, find_blocks, write_block
from hartonomous.packs.vector_truth import SpaceTruth


def space_of(**fields):
    told = {
        "modality": "text", "encoder": "small", "encoder_digest": "ab" * 32, "recipe": "r-1",
        "quantisation": "f32", "pooling": "mean", "dimension": 24,
    }  # fmt: skip
    return Space(**{**told, **fields})


def places_of(count, *, first=0):
    return [
        Place(digest=bytes([at % 7]) * 32, kind="passage", page=at % 3, start=at, stop=at + 9)
        for at in range(first, first + count)
    ]


def vectors_of(count, *, seed=1, wide=24, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal((count, wide)).astype(dtype)


@pytest.fixture
def small_tail(monkeypatch):
    monkeypatch.setattr(space_writer, "TAIL_ROWS", 100)


def documents(source, count=4, *, words="leaking valve"):
    for number in range(count):
        text = f"# Part {number}\n\n" + f"{words} number{number} of the engine. " * 60
        path = source(f"notes/n{number}.md", text.encode())
    return path.parent


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_vectors_come_back_as_they_were(store, small_tail, dtype):
    import ml_dtypes

    kind = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}[dtype]
    vectors, places = vectors_of(450, dtype=kind), places_of(450)
    row = ensure_space(store.parts, space_of(dtype=dtype))
    with writing(store.parts, store.files, row) as writer:
        for first in range(0, 450, 90):
            writer.append(places[first : first + 90], vectors[first : first + 90], source="a test")
        truth = writer.truth
        ids = truth.ids()
        assert len(truth.blocks()) == 2
        assert (np.diff(ids) > 0).all()
        assert np.array_equal(truth.vectors(ids), vectors.astype(np.float32))
        assert np.array_equal(truth.vectors(ids[::-3]), vectors[::-3].astype(np.float32))
        assert truth.places(ids) == places
        scanned = list(truth.scan(int(ids[100])))
        assert np.array_equal(np.concatenate([one for one, _ in scanned]), ids[101:])
    again = SpaceTruth(store.parts, store.files, find_space(store.parts, store.files, "small"))
    assert np.array_equal(again.vectors(again.ids()), vectors.astype(np.float32))


def test_removed_vectors_are_gone_and_ids_are_not_given_again(store, small_tail):
    vectors, places = vectors_of(330), places_of(330)
    row = ensure_space(store.parts, space_of())
    with writing(store.parts, store.files, row) as writer:
        writer.append(places, vectors, source="a test")
        ids = writer.truth.ids()
        assert writer.bury(ids[50:300]) == 250
        kept = np.r_[0:50, 300:330]
        assert np.array_equal(writer.truth.ids(), ids[kept])
        assert writer.bury(ids[50:300]) == 0
        with pytest.raises(NotFoundError):
            writer.truth.vectors(ids[49:60])
        writer.flush()
        assert writer.merge() > 0
        assert all(live == block.row_count for block, live in writer.truth.blocks())
        assert np.array_equal(writer.truth.ids(), ids[kept])
        assert np.array_equal(writer.truth.vectors(ids[kept]), vectors[kept])
        assert writer.truth.places(ids[kept]) == [places[at] for at in kept]
        writer.append(places_of(5, first=900), vectors_of(5, seed=2), source="a test")
        assert writer.truth.ids()[-5:].min() > ids.max()
        assert writer.bury(writer.truth.ids()) == 85
        writer.merge()
        assert writer.truth.blocks() == []
    assert store.verify().faults == ()


def test_a_block_beside_one_without_live_vectors_stays(store):
    row = ensure_space(store.parts, space_of())
    with writing(store.parts, store.files, row) as writer:
        for first in (0, 40):
            writer.append(places_of(40, first=first), vectors_of(40, seed=first), source="a test")
            writer.flush()
        writer.bury(np.arange(1, 41))
        assert writer.merge() == 1
    truth = SpaceTruth(store.parts, store.files, row)
    assert truth.ids().tolist() == [*range(41, 81)]
    assert np.array_equal(truth.vectors(truth.ids()), vectors_of(40, seed=40))
    find_blocks(store.parts, store.files)
    assert len(truth.ids()) == 40


def test_a_space_is_found_again_in_a_catalog_made_anew(tmp_path):
    place = tmp_path / "s"
    vectors, places = vectors_of(500), places_of(500)
    with hn.open(place, create=True) as store:
        row = ensure_space(store.parts, space_of())
        with writing(store.parts, store.files, row) as writer:
            writer.append(places, vectors, source="a test")
            writer.flush()
        uid = row.uid
    hn.repair(place)
    with hn.open(place) as store:
        row = find_space(store.parts, store.files, "small")
        assert row.space == space_of()
        assert row.state == spaces.CURRENT
        assert row.uid != uid
        truth = SpaceTruth(store.parts, store.files, row)
        assert np.array_equal(truth.vectors(truth.ids()), vectors)
        assert truth.places(truth.ids()) == places


def test_blocks_of_another_store_count_on(tmp_path):
    with hn.open(tmp_path / "a", create=True) as one, hn.open(tmp_path / "b", create=True) as two:
        for store, seed in ((one, 1), (two, 2)):
            row = ensure_space(store.parts, space_of())
            with writing(store.parts, store.files, row) as writer:
                writer.append(
                    places_of(40, first=100 * seed), vectors_of(40, seed=seed), source="a test"
                )
                writer.flush()
        one.push(two)
        find_blocks(two.parts, two.files)
        truth = two.spaces.truth("small")
        ids = truth.ids()
        assert len(ids) == len(set(ids.tolist())) == 80
        expected = np.concatenate([vectors_of(40, seed=2), vectors_of(40, seed=1)])
        assert np.array_equal(truth.vectors(ids), expected)
        assert [one.start for one in truth.places(ids)][40] == 100


def test_blocks_are_left_out_unless_asked_for(store, source):
    store.add(source("a.txt", b"something"))
    row = ensure_space(store.parts, space_of())
    with writing(store.parts, store.files, row) as writer:
        writer.append(places_of(9), vectors_of(9), source="a test")
        writer.flush()
    assert [one.name for one in store.ls()] == ["a.txt"]
    blocks = store.ls(kind="vectors", versions=True)
    assert [one.kind for one in blocks] == ["vectors"]
    assert store.names() == ["a.txt"]
    assert store.stats().artifact_count == 1
    assert store.search_tensors("vectors").tensors == ()
    with pytest.raises(UsageError, match="those of vectors"):
        store.mv("a.txt", ".spaces/mine")
    store.rm("*")
    assert len(store.spaces.truth("small").ids()) == 9
    folder = store.path.parent / "out"
    store.get(blocks[0].name, folder)
    held = hn.safe_open(blocks[0].name, store=store)
    assert set(held.keys()) == {"vectors", "ids", "places", "digests"}


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda rows: rows.__setitem__((3, 4), np.nan), "vector 3 has a value"),
        (lambda rows: rows.__setitem__((5, 0), np.inf), "vector 5 has a value"),
        (lambda rows: rows.__setitem__(slice(2, 4), 0), r"vector 2 \(and 1 others\) has no length"),
        (lambda rows: rows.__setitem__(6, 1e-30), "vector 6 has no length"),
        (lambda rows: rows.__setitem__(7, 1e30), "vector 7 is too long"),
    ],
)
def test_what_is_no_vector_is_refused_by_its_row(store, spoil, why):
    vectors = vectors_of(9)
    spoil(vectors)
    row = ensure_space(store.parts, space_of())
    with (
        writing(store.parts, store.files, row) as writer,
        pytest.raises(UsageError, match=f"mine.npy: {why}"),
    ):
        writer.append(places_of(9), vectors, source="mine.npy")
    assert len(store.spaces.truth("small").ids()) == 0


def test_vectors_of_another_dimension_are_refused(store):
    row = ensure_space(store.parts, space_of())
    with (
        writing(store.parts, store.files, row) as writer,
        pytest.raises(UsageError, match="do not fit text small"),
    ):
        writer.append(places_of(3), vectors_of(3, wide=23), source="mine.npy")


def test_a_hostile_block_is_noted_and_left_out(tmp_path):
    """A store that is pulled from may hold anything under the name of a block."""
    with hn.open(tmp_path / "a", create=True) as theirs:
        row = ensure_space(theirs.parts, space_of())
        good = NewBlock(
            ids=np.arange(1, 9), vectors=vectors_of(8), places=place_table(places_of(8))
        )
        write_block(theirs.parts, row, good)
        strange = place_table(places_of(8))
        strange.rows[2, 0] = 99
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("hartonomous.packs.vector_blocks.check_arrays", lambda *_: None)
            bad = NewBlock(ids=np.arange(20, 28), vectors=vectors_of(8), places=strange)
            write_block(theirs.parts, row, bad)
        with hn.open(tmp_path / "b", create=True) as ours:
            theirs.push(ours)
            notes = find_blocks(ours.parts, ours.files)
            assert len(notes) == 1
            assert "lies in no file" in notes[0]
            assert len(ours.spaces.truth("small").ids()) == 8
            assert find_blocks(ours.parts, ours.files) == ()


def test_embedding_reads_adds_and_removes(store, source):
    store.add(documents(source))
    foreseen = store.embed(dry_run=True)
    assert store.spaces.list() == []
    done = store.embed()
    assert (done.added_count, done.removed_count) == (foreseen.added_count, 0)
    assert done.added_count > 0
    assert [one.name for one in store.spaces.list()] == ["ngrams"]
    assert store.embed().added_count == 0
    store.rm("notes/n1.md")
    store.gc(trash_days=0, grace_s=0)
    store.add(source("more.txt", b"An intake manifold is something else. " * 30))
    again = store.embed()
    assert again.added_count == 1
    truth = store.spaces.truth("ngrams")
    assert len(truth.ids()) == again.spaces[0].vector_count
    digests = {one.digest for one in truth.places(truth.ids())}
    assert len(digests) == 4


def test_the_nearest_is_the_passage_itself(store, source):
    store.add(documents(source))
    store.add(source("other.txt", b"Pelicans and herons nest by the river in spring. " * 20))
    store.embed()
    truth = store.spaces.truth("ngrams")
    ids = truth.ids()
    rows = truth.vectors(ids)
    hits = store.spaces.nearest("ngrams", rows, 1)
    assert all(one[0].score == pytest.approx(1, abs=1e-5) for one in hits)
    from hartonomous.core.hashed_ngrams import hashed_ngrams

    asked = hashed_ngrams(["pelican nesting near rivers"])
    found = store.spaces.nearest("ngrams", asked, 3)[0]
    other = found[0].place.digest
    assert f"blake3:{other.hex()}" == store.show("other.txt").files[0].digest
    assert store.spaces.nearest("ngrams", asked, 3, files=set())[0] == []
    only = store.spaces.nearest("ngrams", asked, 50, files={other})[0]
    assert {one.place.digest for one in only} == {other}


def test_a_second_space_is_built_beside_and_switched(store, source):
    store.add(documents(source))
    store.embed()
    row = ensure_space(store.parts, space_of(encoder="ngrams", recipe="deterministic/other"))
    assert (row.name, row.state) == ("ngrams-f32", "building")
    done = store.spaces.switch(row.name)
    assert (done.former, done.changed) == ("ngrams", True)
    assert not store.spaces.switch(row.name).changed
    states = {one.name: one.state for one in store.spaces.list()}
    assert states == {"ngrams": "retired", "ngrams-f32": "current"}
    with pytest.raises(ConflictError, match="another space"):
        store.embed(space="ngrams-f32")
    store.spaces.switch("ngrams", engine="exact")
    assert store.spaces.show("ngrams").summary.engine == "exact"
    assert store.spaces.rm("ngrams-f32").block_count == 0
    with pytest.raises(NotFoundError, match="there is no space"):
        store.spaces.show("ngrams-f32")
    with pytest.raises(NotFoundError, match="no encoder"):
        store.embed(encoder="nobody")


def test_removing_a_space_can_be_undone(store):
    row = ensure_space(store.parts, space_of())
    with writing(store.parts, store.files, row) as writer:
        writer.append(places_of(30), vectors_of(30), source="a test")
        writer.flush()
    assert store.spaces.rm("small", dry_run=True).vector_count == 30
    store.spaces.rm("small")
    assert store.spaces.list() == []
    store.undo()
    assert store.spaces.list()[0].vector_count == 30


def test_vectors_of_ones_own(store, source, tmp_path):
    for name in ("a.txt", "b:c.txt"):
        store.add(source(name, name.encode() * 9))
    vectors, names = tmp_path / "v.npy", tmp_path / "n.txt"
    np.save(vectors, vectors_of(2, wide=5, dtype=np.float16))
    names.write_text("a.txt\nb:c.txt@1:b:c.txt\n")
    brought = store.spaces.add_vectors("mine", vectors, names, encoder="X", dry_run=True)
    assert (brought.added_count, store.spaces.list()) == (2, [])
    store.spaces.add_vectors("mine", vectors, names, encoder="X")
    again = store.spaces.add_vectors("mine", vectors, names, encoder="X")
    assert (again.added_count, again.replaced_count) == (2, 2)
    shown = store.spaces.show("mine")
    assert (shown.summary.use, shown.summary.dtype, shown.file_count) == ("own", "f16", 2)
    store.add(source("c.txt", b"words"))
    assert store.embed().added_count > 2  # which leaves it alone
    assert store.spaces.show("mine").summary.vector_count == 2
    np.save(tmp_path / "one.npy", vectors_of(1, wide=5, dtype=np.float16)[0])
    found = store.search(like=tmp_path / "one.npy", space="mine")
    assert (len(found.hits), found.notes) == (2, ())
    with pytest.raises(ConflictError, match=r"the space mine is .* and the vectors of .*\.npy are"):
        store.spaces.add_vectors("mine", vectors, names, encoder="Y")


def test_vectors_of_ones_own_are_in_packs_at_once(tmp_path):
    place, array, names = tmp_path / "s", tmp_path / "v.npy", tmp_path / "n.txt"
    (tmp_path / "a.txt").write_text("a" * 9)
    (tmp_path / "b.txt").write_text("b" * 9)
    with hn.open(place, create=True) as store:
        store.add([tmp_path / "a.txt", tmp_path / "b.txt"])
        for seed, lines in ((1, "a.txt\nb.txt\n"), (2, "a.txt\n")):
            np.save(array, vectors_of(lines.count("\n"), seed=seed, wide=5))
            names.write_text(lines)
            store.spaces.add_vectors("mine", array, names, encoder="X")
        shown = store.spaces.show("mine").summary
        assert (shown.tail_count, shown.vector_count) == (0, 2)
        kept = store.spaces.truth("mine")
        before = kept.vectors(kept.ids())
    hn.repair(place)
    with hn.open(place) as store:
        truth = store.spaces.truth("mine")
        assert np.array_equal(truth.vectors(truth.ids()), before)


@pytest.mark.parametrize(
    ("array", "lines", "why"),
    [
        (np.ones((2, 3), np.float32), "a.txt\n", "1 lines for 2 vectors"),
        (np.ones((1, 3), np.float32), "a.txt\na.txt\n", "more lines than the 1 vectors"),
        (np.ones((2, 3), np.float32), "a.txt\nnobody\n", "line 2: no artifact is named"),
        (np.ones((2, 3), np.float64), "a.txt\na.txt\n", "holds float64"),
        (np.ones(3, np.float32), "a.txt\n", "holds float32"),
        (np.zeros((1, 3), np.float32), "a.txt\n", "vector 0 has no length"),
        (np.array([{}]), "a.txt\n", "cannot be read as an array"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(store, source, tmp_path, array, lines, why):
    store.add(source("a.txt", b"something"))
    vectors, names = tmp_path / "v.npy", tmp_path / "n.txt"
    np.save(vectors, array, allow_pickle=True)
    names.write_text(lines)
    with pytest.raises((UsageError, NotFoundError), match=why):
        store.spaces.add_vectors("mine", vectors, names, encoder="X")
    assert store.spaces.list() == []


def test_a_row_of_a_large_file_is_named(store, source, tmp_path):
    store.add(source("a.txt", b"something"))
    rows = np.ones((5000, 2), np.float32)
    rows[4500, 1] = np.nan
    np.save(tmp_path / "v.npy", rows)
    (tmp_path / "n.txt").write_text("a.txt\n" * 5000)
    with pytest.raises(UsageError, match=r"v\.npy: vector 4500 has a value"):
        store.spaces.add_vectors("mine", tmp_path / "v.npy", tmp_path / "n.txt", encoder="X")


EMBED = """
import sys
import hartonomous as hn
from hartonomous.packs import embedding, space_writer
space_writer.TAIL_ROWS = 12
embedding._HELD_TEXTS = 5
with hn.open(sys.argv[1]) as store:
    store.views.make()
    print("began", flush=True)
    store.embed()
"""


def test_killed_at_any_moment_nothing_is_lost_or_twice(tmp_path, source):
    place = tmp_path / "s"
    with hn.open(place, create=True) as store:
        store.add(documents(source, 30))
        store.views.make()
        wanted = store.embed(dry_run=True).added_count
    chance = random.Random(os.environ.get("PYTEST_XDIST_WORKER", "alone"))
    for attempt in range(3):
        run_and_kill(EMBED, place, chance, within_s=0.15 * (attempt + 1))
        with hn.open(place) as store:
            found = store.spaces.list()
            kept = found[0].vector_count if found else 0
            assert store.embed(dry_run=True).added_count == wanted - kept
            assert store.verify(quick=True).faults == ()
    with hn.open(place) as store:
        store.embed()
        truth = store.spaces.truth("ngrams")
        told = [(one.digest, one.page, one.start) for one in truth.places(truth.ids())]
        assert len(told) == len(set(told)) == wanted
    shutil.rmtree(place)


PICTURES = Path(__file__).parents[1] / "fixtures" / "pictures"


def pictures_in(store):
    truth = store.spaces.truth("layout")
    return {one.digest: (one.kind, one.page, one.start) for one in truth.places(truth.ids())}


def digest_of(store, name):
    return bytes.fromhex(store.show(name).files[0].digest.removeprefix("blake3:"))


def test_pictures_of_files_and_of_documents_have_vectors(store, source):
    for name in ("scene.jpg", "other.jpg", "report.docx"):
        store.add(source(name, (PICTURES / name).read_bytes()))
    foreseen = store.embed(modality="picture", dry_run=True)
    done = store.embed(modality="picture")
    assert (foreseen.added_count, done.added_count) == (3, 3)
    assert [(one.name, one.modality, one.use) for one in store.spaces.list()] == [
        ("layout", "picture", "likeness")
    ]
    assert pictures_in(store) == {
        digest_of(store, "scene.jpg"): ("picture", 0, 0),
        digest_of(store, "other.jpg"): ("picture", 0, 0),
        digest_of(store, "report.docx"): ("picture", 2, 1),
    }
    truth = store.spaces.truth("layout")
    ids, rows = truth.ids(), truth.vectors(truth.ids())
    by_file = {one.digest: row for one, row in zip(truth.places(ids), rows, strict=True)}
    # The document has the file's exact bytes, so the same vector.
    same = by_file[digest_of(store, "scene.jpg")]
    assert np.array_equal(same, by_file[digest_of(store, "report.docx")])
    near = store.spaces.nearest("layout", same[None], 3)[0]
    assert {one.place.digest for one in near[:2]} == {
        digest_of(store, "scene.jpg"),
        digest_of(store, "report.docx"),
    }
    assert [one.score for one in near[:2]] == pytest.approx([1, 1], abs=1e-5)
    assert near[2].score < 0.999


def test_vectors_of_a_purged_documents_pictures_go_with_it(store, source):
    for name in ("scene.jpg", "report.docx"):
        store.add(source(name, (PICTURES / name).read_bytes()))
    store.embed(modality="picture")
    found = store.search(like="scene.jpg", space="layout")
    assert [one.name for one in found.hits] == ["report.docx"]
    gone = digest_of(store, "report.docx")
    store.rm("report.docx")
    assert store.embed(modality="picture").removed_count == 0  # it may come back
    store.gc(trash_days=0, grace_s=0)
    store.embed(modality="picture")
    assert gone not in pictures_in(store)
    assert set(pictures_in(store)) == {digest_of(store, "scene.jpg")}
    assert store.search(like="scene.jpg", space="layout").hits == ()
