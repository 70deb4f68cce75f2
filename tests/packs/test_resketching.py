"""Sketches made again from stored bytes are those that were made when the tensors came."""

import json

import ml_dtypes
import numpy as np
import pytest
from sketched_tensors import BASES, QUANTS, add, base, name_of, normal
from sqlalchemy import text

import hartonomous as hn
from hartonomous.catalog import atoms, sketches
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.base_search import sketch_atom

pytestmark = pytest.mark.usefixtures("catalog_engine")


@pytest.fixture
def store(tmp_path):
    with hn.open(tmp_path / "store", create=True, settings={"workers": 1}) as opened:
        yield opened


def rows_of(store: hn.Store) -> set[tuple[object, ...]]:
    query_text = (
        "SELECT digest, first_element, element_count, columns, dtype, signs, content"
        " FROM sketch JOIN atom ON atom.id = atom_id"
    )
    with store.parts.database.read() as tx:
        return {tuple(row) for row in tx.execute(text(query_text))}


@pytest.fixture
def various(store, tmp_path) -> set[tuple[object, ...]]:
    large = normal((1200, 500))  # several frames
    add(store, tmp_path / "f", {**{name: base(name) for name in BASES}, "large": large})
    halves = {name: base(name).astype(ml_dtypes.bfloat16) for name in BASES}
    add(store, tmp_path / "f", {**halves, "constant": np.ones(9999, np.float32)}, "halves")
    store.add(QUANTS / "mini.Q4_K.gguf")
    return rows_of(store)


def test_a_stored_atom_gives_the_same_sketch(store, various):
    reader = AtomReader(store.parts)
    with store.parts.database.read() as tx:
        tensors = tx.execute(text("SELECT DISTINCT digest, dtype, shape FROM tensor")).all()
    made = {
        (name, one.first_element, one.element_count, one.columns, one.dtype, one.signs, one.content)
        for name, dtype, shape in tensors
        for one in sketch_atom(reader, name, dtype, tuple(json.loads(shape)))
    }
    reader.close()
    assert made == various
    assert len(made) > 20


def test_repack_makes_those_that_are_missing(store, various):
    with store.parts.database.write() as tx:
        tx.execute(text("DELETE FROM sketch WHERE id % 3 > 0"))
    store.repack(dry_run=True, again=True)
    assert rows_of(store) < various
    with store.parts.database.write() as tx:
        tx.execute(text("DELETE FROM sketch"))
    assert store.repack(again=True).notes == ()
    assert rows_of(store) == various
    store.repack(again=True)
    assert rows_of(store) == various


def test_a_repaired_store_gets_them_from_repack(store, various):
    place = store.path
    store.close()
    hn.repair(place)
    with hn.open(place) as repaired:
        assert rows_of(repaired) == set()
        assert repaired.repack().complete
        assert rows_of(repaired) == various


def test_a_missing_sketch_of_a_damaged_atom_is_left_out(store, various, tmp_path):
    with store.parts.database.write() as tx:
        tx.execute(text("DELETE FROM sketch"))
        tx.execute(text("UPDATE tensor SET shape = '[7, 1200]' WHERE name = 'square'"))
        tx.execute(text("UPDATE tensor SET shape = '[-96, -96]' WHERE name = 'wide'"))
    store.repack(again=True)
    gone = {name_of(base(name).astype(kind)) for name in ("square", "wide")
            for kind in (np.float32, ml_dtypes.bfloat16)}  # fmt: skip
    assert rows_of(store) == {row for row in various if row[0] not in gone}


def test_rows_of_sketches_go_into_small_transactions_once(store, tmp_path):
    add(store, tmp_path / "f", {"one": base("qkv")})
    with store.parts.database.read() as tx:
        ((atom_id, _),) = atoms.find(tx, [name_of(base("qkv"))]).values()
    reader = AtomReader(store.parts)
    again = sketch_atom(reader, name_of(base("qkv")), "F32", (192, 64))
    reader.close()
    before = rows_of(store)
    with store.parts.database.write() as tx:
        sketches.add_missing(tx, [(atom_id, one) for one in again])
        sketches.add_missing(tx, [(atom_id + 999, one) for one in again])
    assert rows_of(store) == before
