"""Base search: what a tensor was made from is found, and nothing else, whoever writes beside."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from gguf import GGUFReader
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from sketched_tensors import BASES, QUANTS, add, base, name_of, normal, query
from sqlalchemy import text

import hartonomous as hn
from hartonomous.catalog import atoms
from hartonomous.core.array import dtype_name
from hartonomous.core.digest import digest
from hartonomous.core.elements import ranges_of, values_of
from hartonomous.core.sketch import positions
from hartonomous.packs import sign_table
from hartonomous.packs.base_search import (
    BaseSearch,
    Candidate,
    SketchSamples,
    TensorQuery,
)
from hartonomous.packs.sign_table import SignTable

pytestmark = pytest.mark.usefixtures("catalog_engine")

SOURCE = str(Path(hn.__file__).parents[1])
HEADS = 4
SAMPLES = SketchSamples()


def count(store: hn.Store) -> int:
    with store.parts.database.read() as tx:
        return int(tx.scalar(text("SELECT count(*) FROM sketch")))


@pytest.fixture
def store(tmp_path):
    # Without variants: a collection takes away what is removed, whatever resembles it.
    settings = {"workers": 1, "variants": False}
    with hn.open(tmp_path / "store", create=True, settings=settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """Return a store of the bases among others of the same shapes."""
    folder = tmp_path_factory.mktemp("filled")
    with hn.open(folder / "store", create=True, settings={"workers": 1}) as opened:
        add(opened, folder, {name: base(name) for name in BASES})
        other = {f"{name}.{n}": normal(BASES[name], 50 + n) for name in BASES for n in range(9)}
        add(opened, folder, other, "others")
        yield opened


def permuted(array: np.ndarray, *, inverse: bool = False) -> np.ndarray:
    rows = array.shape[0]
    split = (HEADS, rows // HEADS // 2, 2) if inverse else (HEADS, 2, rows // HEADS // 2)
    return array.reshape(*split, -1).swapaxes(1, 2).reshape(array.shape)


# -- what is found


@st.composite
def relatives(draw):
    """Draw (base's name, an array made from it, how that is to be found)."""
    name = draw(st.sampled_from(sorted(BASES)))
    made = base(name)
    wanted = {"orientation": "straight", "shape": made.shape}
    moves = ["none"]
    if made.ndim == 2:
        moves += ["transposed", "heads", "heads-inverse"]
    move = draw(st.sampled_from(moves))
    if move == "transposed":
        made = made.T
        wanted["orientation"] = move
    elif move != "none":
        assume(made.shape[0] % (2 * HEADS) == 0)
        made = permuted(made, inverse=move == "heads-inverse")
        wanted |= {"orientation": move, "heads": HEADS}
    noise = draw(st.sampled_from([0, 0, 1e-4, 0.01, 0.1]))
    if noise:
        spread = np.float32(noise) * made.std()
        made = made + normal(made.shape, draw(st.integers(100, 999))) * spread * np.float32(50)
    kind = draw(st.sampled_from([np.float32, np.float16, ml_dtypes.bfloat16, np.float64]))
    made = made.astype(kind)
    if draw(st.booleans()):
        at = draw(st.lists(st.integers(0, made.size - 1), max_size=made.size // 50))
        made = np.ascontiguousarray(made)
        made.reshape(-1)[at] = draw(st.sampled_from([np.nan, np.inf, -np.inf, 0.0]))
    elif not noise:
        wanted["distance"] = 0
    return name, made, wanted


@given(relatives())
def test_what_it_was_made_from_is_found_first(filled, drawn):
    name, made, wanted = drawn
    found = BaseSearch(filled.parts.database).candidates(query(made, heads=(7, HEADS)))
    assert found
    assert found[0].digest == name_of(base(name))
    assert (found[0].first, found[0].target_first, found[0].dtype) == (0, 0, "F32")
    for key, value in wanted.items():
        assert getattr(found[0], key) == value
    at = SAMPLES.positions(made.size)
    assert (SAMPLES.values(found[0]) == base(name).reshape(-1)[at]).all()
    assert {one.digest for one in found} == {found[0].digest}


@given(st.sampled_from(sorted(BASES.values())), st.integers(1000, 1 << 32), st.booleans())
def test_what_is_unrelated_is_not_found(filled, shape, seed, positive):
    made = np.abs(normal(shape, seed)) if positive else normal(shape, seed)
    assert BaseSearch(filled.parts.database).candidates(query(made, heads=(HEADS, 2))) == []


@given(st.integers(-900, 900).filter(bool), st.sampled_from([np.float32, ml_dtypes.bfloat16]))
def test_a_vocabulary_that_grew_or_shrank_is_found(filled, more, kind):
    long = base("long")
    made = np.concatenate([long, normal((max(0, more), 24), 7)])[: len(long) + more].astype(kind)
    (found,) = BaseSearch(filled.parts.database).candidates(query(made))
    assert found.digest == name_of(long)
    assert found.shape == (min(len(long), len(made)), 24)
    assert (found.first, found.target_first, found.distance) == (0, 0, 0)
    assert SAMPLES.values(found) is None


def test_what_lies_in_a_fused_tensor_is_found(filled):
    search = BaseSearch(filled.parts.database)
    for name, several in (("qkv", 3), ("gate_up", 2)):
        whole = base(name)
        for index, piece in enumerate(np.split(whole, several)):
            (found,) = search.candidates(query(piece.astype(np.float16)))
            assert found.digest == name_of(whole)
            assert (found.first, found.shape) == (index * piece.size, piece.shape)
            assert (found.orientation, found.target_first) == ("straight", 0)
            assert (SAMPLES.values(found) == piece.reshape(-1)[positions(piece.size)]).all()
    (found,) = search.candidates(query(np.split(base("qkv"), 3)[1].T))
    assert (found.first, found.orientation) == (64 * 64, "transposed")


def test_the_pieces_of_a_fused_tensor_are_found_in_turn(store, tmp_path):
    pieces = [normal((64, 64), seed) for seed in range(3)]
    tuned = [piece + normal((64, 64), 9) * np.float32(0.01) for piece in pieces]
    tensors = {f"{kind}{n}": p for kind, some in (("b", pieces), ("t", tuned))
               for n, p in enumerate(some)}  # fmt: skip
    add(store, tmp_path / "f", tensors)
    fused = np.concatenate(pieces)
    found = BaseSearch(store.parts.database).candidates(query(fused))
    assert [one.target_first for one in found] == [0, 4096, 8192] * 2
    assert [one.digest for one in found[:3]] == [name_of(piece) for piece in pieces]
    assert {one.shape for one in found} == {(64, 64)}
    assert [one.distance for one in found[:3]] == [0, 0, 0]
    # Where the whole is there, too, nobody asks for its parts.
    add(store, tmp_path / "f", {"fused": fused + np.float32(1e-4)}, "fused")
    (only,) = BaseSearch(store.parts.database).candidates(query(fused))
    assert (only.shape, only.first) == ((192, 64), 0)


@pytest.mark.parametrize("kind", ["Q8_0", "Q6_K", "Q5_1", "Q4_K", "Q4_0", "Q3_K", "Q2_K", "IQ4_NL"])
def test_sources_of_what_llama_cpp_quantised_are_found(store, kind):
    for name in ("F32", "F16", kind):
        store.add(QUANTS / f"mini.{name}.gguf")
    search, seen = BaseSearch(store.parts.database), 0
    sources = {one.name: one for one in GGUFReader(QUANTS / "mini.F32.gguf").tensors}
    for tensor in GGUFReader(QUANTS / f"mini.{kind}.gguf").tensors:
        content = tensor.data.tobytes()
        dtype, own = tensor.tensor_type.name, digest(content)
        if own == digest(sources[tensor.name].data.tobytes()) or tensor.n_elements < 2048:
            continue  # norms stay as they are
        seen += 1
        shape = tuple(int(extent) for extent in reversed(tensor.shape))
        read = values_of(ranges_of(content), dtype)
        found = search.candidates(TensorQuery(dtype=dtype, shape=shape, read=read, digest=own))
        assert {one.dtype for one in found} == {"F32", "F16"}
        assert all(one.digest != own for one in found)
        again = search.candidates(TensorQuery(dtype=dtype, shape=shape, read=read))
        assert again[0].digest == own
        assert again[1:] == found
    assert seen


def test_floats_come_before_a_quantised_one_that_is_as_near(store):
    for name in ("F32", "Q8_0"):
        store.add(QUANTS / f"mini.{name}.gguf")
    for tensor in GGUFReader(QUANTS / "mini.F16.gguf").tensors:
        if tensor.n_elements >= 2048 and tensor.tensor_type.name == "F16":
            array = tensor.data.reshape([int(extent) for extent in reversed(tensor.shape)])
            found = BaseSearch(store.parts.database).candidates(query(array))
            assert [one.dtype for one in found] == ["F32", "Q8_0"]
            assert found[0].distance == 0


# -- what has no sketch


def test_small_and_constant_tensors_and_numbers_have_none(store, tmp_path):
    flat = {
        "small": normal((2047,)),
        "zeros": np.zeros(5000, np.float32),
        "ones": np.ones((70, 70), ml_dtypes.bfloat16),
        "ids": np.arange(5000),
        "mask": np.ones(5000, bool),
    }
    add(store, tmp_path / "f", flat)
    assert count(store) == 0
    search = BaseSearch(store.parts.database)
    for array in flat.values():
        if dtype_name(array.dtype) != "I64":
            assert search.candidates(query(array)) == []
    nan = np.full(5000, np.nan, np.float32)
    assert search.candidates(query(nan)) == []
    add(store, tmp_path / "f", {"nan": nan, "normal": normal(5000)}, "more")
    assert count(store) == 1


# -- what is held back


def test_depth_digest_and_declaration(store, tmp_path):
    bases = [normal((64, 64)) + normal((64, 64), n) * np.float32(0.001) for n in range(1, 13)]
    add(store, tmp_path / "f", {f"t{n}": one for n, one in enumerate(bases)})
    names = [name_of(one) for one in bases]
    with store.parts.database.read() as tx:
        ids = {key: names.index(name) for name, (key, _) in atoms.find(tx, names).items()}
    deep = {key: index % 3 for key, index in ids.items()}
    search = BaseSearch(store.parts.database, depths=lambda known: {k: deep[k] for k in known})
    found = search.candidates(query(bases[0]))
    assert len(found) == 8
    assert found[0].digest == names[0]
    assert [one.distance for one in found] == sorted(one.distance for one in found)
    assert [one.depth for one in found] == [deep[one.atom_id] for one in found]
    shallow = search.candidates(query(bases[0]), max_depth=0)
    assert len(shallow) == 4
    assert {one.depth for one in shallow} == {0}
    others = search.candidates(query(bases[0], digest=names[0]))
    assert names[0] not in {one.digest for one in others}
    last = found[-1].digest
    assert search.candidates(query(bases[0], declared=(last,), digest=names[0]))[0].digest == last


# -- while the store changes


def test_what_a_collection_removed_is_forgotten(store, tmp_path):
    tensors = {f"t{n}": normal((64, 64), n) for n in range(300)}
    add(store, tmp_path / "f", tensors, "many")
    add(store, tmp_path / "f", {"stays": tensors["t7"] + np.float32(1e-5)}, "stays")
    search = BaseSearch(store.parts.database)
    assert len(search.candidates(query(tensors["t7"]))) == 2
    assert len(search.candidates(query(tensors["t8"]))) == 1
    store.rm("many.safetensors")
    store.gc(trash_days=0, grace_s=0)
    assert count(store) == 1
    for _ in range(2):
        assert search.candidates(query(tensors["t8"])) == []
        (found,) = search.candidates(query(tensors["t7"]))
        assert found.distance > 0
    add(store, tmp_path / "f", tensors, "again")
    assert len(search.candidates(query(tensors["t7"]))) == 2
    assert [one.distance for one in search.candidates(query(tensors["t8"]))] == [0]


def test_a_damaged_atom_is_no_candidate_until_it_is_mended(store, tmp_path):
    one = normal((64, 64))
    add(store, tmp_path / "f", {"one": one})
    search = BaseSearch(store.parts.database)
    assert len(search.candidates(query(one))) == 1
    set_damaged = text("UPDATE atom SET damaged = :value")
    with store.parts.database.write() as tx:
        tx.execute(set_damaged, {"value": 1})
    assert search.candidates(query(one)) == []
    with store.parts.database.write() as tx:
        tx.execute(set_damaged, {"value": 0})
    assert len(search.candidates(query(one))) == 1


_OTHER_PROCESS = """
import sys
import hartonomous as hn
place, action, name = sys.argv[1:]
with hn.open(place) as store:
    if action == "add":
        assert store.add(name).artifacts[0].outcome == "added"
    else:
        store.rm(name)
        store.gc(trash_days=0, grace_s=0)
"""


def test_what_another_process_adds_and_removes_is_noticed(store, tmp_path):
    def other(action: str, name: str) -> None:
        subprocess.run(
            [sys.executable, "-c", _OTHER_PROCESS, str(store.path), action, name],
            check=True, env={**os.environ, "PYTHONPATH": SOURCE}, timeout=120,
        )  # fmt: skip

    first, second = normal((64, 64), 1), normal((64, 64), 2)
    add(store, tmp_path / "f", {"first": first})
    search = BaseSearch(store.parts.database)
    assert len(search.candidates(query(first))) == 1
    assert search.candidates(query(second)) == []
    save_file({"second": second}, tmp_path / "second.safetensors")
    other("add", str(tmp_path / "second.safetensors"))
    assert len(search.candidates(query(second))) == 1
    other("remove", "second.safetensors")
    assert search.candidates(query(second)) == []
    assert len(search.candidates(query(first))) == 1


def test_threads_search_while_others_add(store, tmp_path):
    tensors = {f"t{n}": normal((64, 64), n) for n in range(40)}
    add(store, tmp_path / "f", {"t0": tensors["t0"]}, "0")
    search = BaseSearch(store.parts.database, signs=SignTable(limit_bytes=2000))
    stop, faults = threading.Event(), []

    def look() -> None:
        wanted = name_of(tensors["t0"])
        while not stop.is_set():
            found = [one.digest for one in search.candidates(query(tensors["t0"]))]
            if found != [wanted]:
                faults.append(found)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for n in range(1, 40, 3):
            add(store, tmp_path / "f", {f"t{k}": tensors[f"t{k}"] for k in range(n, n + 3)}, str(n))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert faults == []
    for name, array in tensors.items():
        assert [one.digest for one in search.candidates(query(array))] == [name_of(array)], name


# -- the table of signs


def test_a_small_table_finds_the_same(store, tmp_path, monkeypatch):
    monkeypatch.setattr(sign_table, "_PAGE_ROWS", 16)
    shapes = ((64, 64), (5000,), (50, 90))
    tensors = {f"{n}-{k}": normal(shape, n)
               for n in range(60) for k, shape in enumerate(shapes)}  # fmt: skip
    add(store, tmp_path / "f", tensors)
    tables = [SignTable(limit_bytes=limit) for limit in (0, 700, 5000, 1 << 20)]
    searches = [BaseSearch(store.parts.database, signs=table) for table in tables]

    def check(some: dict[str, np.ndarray]) -> None:
        for array in some.values():
            for search, table in zip(searches, tables, strict=True):
                assert [one.digest for one in search.candidates(query(array))] == [name_of(array)]
                assert table.held_bytes <= table.limit_bytes

    check(tensors)
    more = {f"new-{n}": normal(shapes[0], 900 + n) for n in range(40)}
    add(store, tmp_path / "f", more, "more")
    check({**tensors, **more})
    assert tables[0].held_bytes == 0
    assert tables[-1].held_bytes > 0


def test_candidates_are_values(filled):
    (one,) = BaseSearch(filled.parts.database).candidates(query(base("wide")))
    assert isinstance(one, Candidate)
    assert one == BaseSearch(filled.parts.database).candidates(query(base("wide")))[0]


def test_in_passing_nothing_is_asked_where_nothing_is_near_for_64_looks(tmp_path) -> None:
    with hn.init(tmp_path / "store") as store:
        signs = SignTable()
        search = BaseSearch(store.parts.database, signs=signs)
        asked = query(base("square"))
        assert search.candidates(asked, in_passing=True) == []
        add(store, tmp_path / "m", {"w": base("square") + np.float32(1e-6)})
        for _ in range(64):
            assert search.candidates(query(base("square")), in_passing=True) == []
        assert search.candidates(query(base("square")), in_passing=True)
        # A whole one in a table that is told of news is found at once.
        other = base("wide")
        assert search.candidates(query(other), in_passing=True) == []
        add(store, tmp_path / "n", {"v": other + np.float32(1e-6)})
        signs.doubt()
        assert search.candidates(query(other), in_passing=True)
