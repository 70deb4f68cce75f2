"""Bits that flip in what is derived for search: verify finds them, and has it made anew."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest

import hartonomous as hn
from hartonomous.core.place import Place
from hartonomous.core.space import Space
from hartonomous.errors import IntegrityError
from hartonomous.packs.space_writer import ensure_space, find_space, writing
from hartonomous.vectors.derived_file import write_derived

pytestmark = pytest.mark.parametrize("catalog_engine", ["sqlite"], indirect=True)
WORDS = "index/words.sqlite"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[hn.Store]:
    files = tmp_path / "files"
    files.mkdir()
    for number in range(12):
        text = f"# Pump {number}\n\nThe valve number {number} leaks água, seal {number % 3}.\n"
        (files / f"notes-{number}.md").write_text(text * 5)
    with hn.open(tmp_path / "store", create=True) as opened:
        opened.add(files)
        assert opened.search("valve").hits
        yield opened


def test_a_sound_index_is_sound_after_changes(store: hn.Store, tmp_path: Path) -> None:
    (tmp_path / "more.md").write_text("# More\n\nWords that come later, and two more valves.\n")
    store.add(tmp_path / "more.md")
    assert store.search("later").hits
    store.rm("more.md")
    store.gc(trash_days=0, grace_s=0)
    store.search("valve")
    assert store.verify().faults == ()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE passage SET body = replace(body, 'leaks', 'leans') WHERE id = 1",
        "UPDATE passage SET page = page + 1 WHERE id = 1",
        "DELETE FROM passage WHERE id = 1",
        "UPDATE source SET title = title || '!' WHERE id = 1",
        "UPDATE said SET terms = 'other' WHERE id = 1",
        "UPDATE term SET passages = passages + 1 WHERE term = 'valve'",
        "UPDATE spelling SET key = key + 1 WHERE term = 'valve'",
        "INSERT INTO words (rowid, heading, body) VALUES (900, 'more', 'words')",
        "INSERT INTO said_words (rowid, terms) VALUES (900, 'more')",
        "UPDATE words_docsize SET sz = x'0101' WHERE id = 1",
        "UPDATE words_data SET block = x'010203' WHERE id = 1",
    ],
)
def test_whatever_differs_in_the_index_of_words_is_found_and_made_anew(
    store: hn.Store, change: str
) -> None:
    place = store.path
    sound = [(hit.name, hit.score) for hit in store.search("leaking valve").hits]
    store.close()
    with closing(sqlite3.connect(place / WORDS)) as index:
        assert index.execute(change).rowcount > 0
        index.commit()
    with hn.open(place) as again:
        (fault,) = again.verify().faults
        assert fault.where == "index of words" and "is damaged" in fault.what
        report = again.verify(repair=True)
        assert report.sound
        assert report.mended == ("index of words (removed; the next search makes it anew)",)
        assert [(hit.name, hit.score) for hit in again.search("leaking valve").hits] == sound
        assert again.verify().sound


def test_vectors_that_rot_are_found_and_removed(store: hn.Store) -> None:
    folder = store.path / "index" / "spaces" / bytes(16).hex()
    content = np.random.default_rng(1).bytes(5_000)
    write_derived(folder / "generation", [content])
    assert store.verify().sound
    chance = random.Random(7)
    rotten = bytearray((folder / "generation").read_bytes())
    rotten[chance.randrange(len(rotten))] ^= 1 << chance.randrange(8)
    (folder / "generation").write_bytes(rotten)
    (fault,) = store.verify().faults
    assert fault.where == f"index of vectors index/spaces/{bytes(16).hex()}/generation"
    assert store.verify(repair=True).mended
    assert not (folder / "generation").exists() and store.verify().sound


def _with_vectors(store: hn.Store, recipe: str) -> None:
    """Make a space with two blocks, two vectors that were removed, and three in the tail."""
    space = Space(
        modality="text", encoder="small", encoder_digest="ab" * 32, recipe=recipe,
        quantisation="f32", pooling="mean", dimension=8,
    )  # fmt: skip
    row = ensure_space(store.parts, space)
    with writing(store.parts, store.files, row) as writer:
        for count in (20, 20, 3):
            vectors = np.random.default_rng(count).standard_normal((count, 8), np.float32)
            places = [Place(digest=bytes(32), kind="passage", start=at) for at in range(count)]
            writer.flush()
            writer.append(places, vectors, source="a test")
        writer.bury(writer.truth.ids()[4:6])
    assert store.spaces.list()


def _change(place: Path, statement: str) -> None:
    with closing(sqlite3.connect(place / "catalog.sqlite3")) as catalog:
        assert catalog.execute(statement).rowcount > 0
        catalog.commit()


_TAIL = [
    "UPDATE space_tail SET vector = CAST(x'00' || substr(vector, 2) AS BLOB) WHERE id = 42",
    "UPDATE space_tail SET vector = substr(vector, 1, 28) WHERE id = 42",
    "UPDATE space_tail SET place = CAST(substr(place, 1, 20) || x'07' || substr(place, 22) AS BLOB)"
    " WHERE id = 42",
    "UPDATE space_tail SET place = x'c1' WHERE id = 42",
    # One bit of "passage": no UTF-8 any more, of which msgspec tells by an error that is not its.
    "UPDATE space_tail SET place = CAST(replace(place, CAST('passage' AS BLOB), x'f0617373616765')"
    " AS BLOB) WHERE id = 42",
]
# Of a wrong type, or a number that no row has.
_NO_VECTOR = [
    ("UPDATE space_tail SET id = -1 WHERE id = 42", "-1"),
    ("UPDATE space_tail SET id = 0 WHERE id = 42", "0"),
    ("UPDATE space_tail SET id = 9223372036854775807 WHERE id = 42", "9223372036854775807"),
    ("UPDATE space_tail SET id = 'forty' WHERE id = 42", "'forty'"),
    ("UPDATE space_tail SET id = x'ff' WHERE id = 42", r"b'\xff'"),
    ("UPDATE space_tail SET id = 1.5 WHERE id = 42", "1.5"),
    ("UPDATE space_tail SET vector = '[]' WHERE id = 42", "42"),
    ("UPDATE space_tail SET vector = 7 WHERE id = 42", "42"),
    ("UPDATE space_tail SET vector = CAST(x'ff' AS TEXT) WHERE id = 42", "42"),
    ("UPDATE space_tail SET place = 'here' WHERE id = 42", "42"),
]


@pytest.mark.parametrize("change", _TAIL)
def test_a_vector_that_rots_in_the_catalog_is_found_and_computed_anew(
    store: hn.Store, change: str
) -> None:
    _with_vectors(store, "r-1")
    place = store.path
    assert store.verify().sound
    store.close()
    _change(place, change)
    with hn.open(place) as again:
        (fault,) = again.verify().faults
        assert fault.where == "space small" and "vectors 42 are not" in fault.what
        with pytest.raises(IntegrityError, match="damaged"):
            again.spaces.nearest("small", np.ones((1, 8), np.float32))
        row = find_space(again.parts, again.files, "small")
        with (
            writing(again.parts, again.files, row) as writer,
            pytest.raises(IntegrityError, match="damaged"),
        ):
            writer.flush()  # else a block would keep it for good
        report = again.verify(repair=True)
        told = "vectors 42 of the space small (removed; hart embed makes them anew)"
        assert report.mended == (told,) and again.verify().sound
        assert 42 not in again.spaces.truth("small").ids()
        assert len(again.spaces.truth("small").ids()) == 40


@pytest.mark.parametrize(("change", "number"), _NO_VECTOR)
def test_a_row_that_is_no_vector_is_named_and_removed(
    store: hn.Store, change: str, number: str
) -> None:
    _with_vectors(store, "r-1")
    place = store.path
    store.close()
    _change(place, change)
    with hn.open(place) as again:
        (fault,) = again.verify().faults
        assert fault.where == "space small" and f"vectors {number} are not" in fault.what
        with pytest.raises(IntegrityError, match="of the space small is not") as found:
            again.spaces.nearest("small", np.ones((1, 8), np.float32))
        assert "hart verify --repair" in str(found.value.hint)
        (told,) = again.verify(repair=True).mended
        assert f"vectors {number} of the space small (removed" in told
        assert again.verify().sound and len(again.spaces.truth("small").ids()) == 40


def test_a_row_of_somebody_that_is_no_vector_is_told_and_not_removed(store: hn.Store) -> None:
    _with_vectors(store, "imported/mine")
    place = store.path
    store.close()
    _change(place, _NO_VECTOR[0][0])
    with hn.open(place) as again:
        report = again.verify(repair=True)
        assert report.mended == () and "vectors -1 are not" in report.faults[0].what


def test_a_vector_of_somebody_that_rots_is_told_and_not_removed(store: hn.Store) -> None:
    _with_vectors(store, "imported/mine")
    place = store.path
    store.close()
    _change(place, _TAIL[0])
    with hn.open(place) as again:
        report = again.verify(repair=True)
        assert report.mended == () and "hart spaces import" in report.faults[0].what


def test_a_vector_that_an_older_version_wrote_has_no_sum(store: hn.Store) -> None:
    _with_vectors(store, "r-1")
    place = store.path
    hits = store.spaces.nearest("small", np.ones((1, 8), np.float32), 43)
    store.close()
    with closing(sqlite3.connect(place / "catalog.sqlite3")) as catalog:
        older = msgspec.msgpack.encode(Place(digest=bytes(32), kind="passage", start=1))
        assert catalog.execute("UPDATE space_tail SET place = ? WHERE id = 42", (older,)).rowcount
        catalog.commit()
    with hn.open(place) as again:
        assert again.verify().sound
        assert again.spaces.nearest("small", np.ones((1, 8), np.float32), 43) == hits


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("UPDATE space SET next_id = 40", "its next number is 40, and 43 is taken"),
        ("UPDATE space SET engine = 'exakt'", "something else of it"),
        ("UPDATE space SET use = 'own'", "something else of it"),
        ("UPDATE space_block SET row_count = 19 WHERE first_id = 1", "of a block"),
        ("UPDATE space_block SET last_id = 21 WHERE first_id = 1", "of a block"),
        ("UPDATE space_block SET id_offset = 1 WHERE first_id = 1", "of a block"),
        ("UPDATE space_block SET file_digest = zeroblob(32) WHERE first_id = 1", "is not there"),
        ("UPDATE space_dead SET id = 99 WHERE id = 5", "vectors out that it does not have"),
        ("UPDATE space SET modality = 'image'", "is not what its key says"),
        ("UPDATE space_tail SET vector = 'text' WHERE id = 42", "vectors 42 are not"),
    ],
)
def test_whatever_the_catalog_says_wrongly_of_vectors_is_found(
    store: hn.Store, change: str, what: str
) -> None:
    _with_vectors(store, "r-1")
    place = store.path
    store.close()
    _change(place, change)
    with hn.open(place) as again:
        faults = again.verify().faults
        assert any(what in one.what for one in faults), faults
    hn.repair(place)
    with hn.open(place) as again:
        assert again.verify().sound


def test_an_index_with_a_table_whose_name_is_no_text_is_made_anew(store: hn.Store) -> None:
    path = store.path / WORDS
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE more (x)")
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(
            "UPDATE sqlite_master SET name = CAST(x'ff' AS TEXT) WHERE name = 'more'"
        )
        connection.commit()
    with hn.open(store.path) as again:
        assert again.search("valve").hits
