"""What became of every tensor between two versions: statuses, and values against plain numpy."""

import json
from pathlib import Path

import gguf
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import hartonomous as hn
from hartonomous.errors import NotFoundError, UsageError

pytestmark = pytest.mark.usefixtures("catalog_engine")

QUANTS = Path(__file__).parents[1] / "fixtures" / "quants"


def _noise(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _by_name(found):
    return {one.name_a or one.name_b: one for one in found.tensors}


@pytest.fixture
def pair(store):
    """Two models with one tensor of each fate."""
    same, moved = _noise((40, 30), 1), _noise((50, 20), 2)
    old = {
        "same": same, "old.name": moved, "reshaped": _noise((20, 30), 3),
        "cast": _noise((30, 30), 4), "changed": _noise((300, 1000), 5),
        "resized": _noise((10, 10), 6), "removed": _noise((7, 70), 7),
    }  # fmt: skip
    changed = old["changed"].copy()
    changed[3] += 0.5
    changed[5, 7] = np.nan
    new = {
        "same": same, "new.name": moved, "reshaped": old["reshaped"].reshape(600),
        "cast": old["cast"].astype(ml_dtypes.bfloat16), "changed": changed,
        "resized": _noise((10, 11), 8), "added": _noise((5, 90), 9),
    }  # fmt: skip
    hn.save_file(old, "a", {"step": "1", "kept": "x"}, store=store)
    hn.save_file(new, "b", {"step": "2", "kept": "x"}, store=store)
    return old, new


def test_every_status(store, pair):
    found = store.diff("a", "b")
    statuses = {name: one.status.value for name, one in _by_name(found).items()}
    assert statuses == {
        "same": "same", "old.name": "renamed", "reshaped": "reshaped", "cast": "cast",
        "changed": "changed", "resized": "resized", "removed": "removed", "added": "added",
    }  # fmt: skip
    assert {
        word: count for word, count in found.summary.statuses.items() if count
    } == dict.fromkeys(statuses.values(), 1)
    assert _by_name(found)["old.name"].name_b == "new.name"
    assert not found.identical
    assert found.values_compared
    told = {one.path: (one.a, one.b) for one in found.metadata.differences}
    assert told["file.__metadata__.step"] == ("1", "2")
    assert not any("kept" in path for path in told)
    assert [one.status for one in found.files] == ["changed"]


def test_values_are_those_of_a_plain_computation(store, pair):
    old, new = pair
    values = _by_name(store.diff("a", "b"))["changed"].values
    a, b = old["changed"].astype(np.float64), new["changed"].astype(np.float64)
    fine = np.isfinite(b)
    step = np.abs(old["changed"].view(np.int32).astype(np.int64)[fine]
                  - new["changed"].view(np.int32).astype(np.int64)[fine])  # fmt: skip
    same_sign = np.signbit(a[fine]) == np.signbit(b[fine])
    assert values.changed_count == 1001
    assert values.changed_share == pytest.approx(1001 / 300_000)
    assert values.nan_count_b == 1
    norm = np.linalg.norm((b - a)[fine])
    assert values.l2_norm == pytest.approx(norm)
    assert values.relative_norm == pytest.approx(norm / np.linalg.norm(a[fine]))
    assert values.cosine == pytest.approx(
        a[fine] @ b[fine] / np.linalg.norm(a[fine]) / np.linalg.norm(b[fine])
    )
    assert values.largest_absolute == pytest.approx(np.abs((b - a)[fine]).max())
    assert values.largest_ulp >= step[same_sign].max()


def test_a_cast_is_told_to_be_one(store, pair):
    values = _by_name(store.diff("a", "b"))["cast"].values
    assert (values.cast_exact, values.cast_from, values.largest_ulp) == (True, "a", 0)


def test_without_values_no_tensor_is_read(store, pair):
    found = store.diff("a", "b", values=False)
    assert not found.values_compared
    assert all(one.values is None for one in found.tensors)
    assert found.summary == store.diff("a", "b").summary


def test_equal_versions_are_identical_whatever_they_are_called(store, pair, tmp_path):
    assert store.diff("a", "a@1").identical
    store.get("a", tmp_path / "copy.safetensors")
    store.add(tmp_path / "copy.safetensors")
    found = store.diff("a", "copy.safetensors")
    assert found.identical
    assert found.summary.identical
    assert [one.status for one in found.files] == ["renamed"]


def test_the_same_tensors_in_other_bytes_are_not_identical(store):
    tensors = {"w": _noise((30, 30))}
    hn.save_file(tensors, "a", store=store)
    hn.save_file(tensors, "b", {"note": "x"}, store=store)
    found = store.diff("a", "b")
    assert found.summary.statuses["same"] == 1
    assert (found.identical, found.summary.metadata_difference_count) == (False, 1)


def _folder(place, config, **files):
    place.mkdir()
    (place / "config.json").write_text(json.dumps(config))
    (place / "tokenizer.txt").write_text("a b c")
    for name, tensors in files.items():
        save_file(tensors, place / f"{name}.safetensors")
    return place


def test_files_beside_the_tensors_are_compared_by_digest(store, tmp_path):
    one, two = {"w": _noise((30, 30))}, {"x": _noise((9, 9))}
    store.add(_folder(tmp_path / "old", {"hidden_size": 1}, model=one | two))
    new = _folder(tmp_path / "new", {"hidden_size": 2}, part1=one, part2=two)
    (new / "tokenizer.txt").rename(new / "words.txt")
    store.add(new)
    found = store.diff("old", "new")
    assert {(one.status, one.path_a, one.path_b) for one in found.files} == {
        ("changed", "config.json", "config.json"),
        ("renamed", "tokenizer.txt", "words.txt"),
        ("removed", "model.safetensors", None),
        ("added", None, "part1.safetensors"),
        ("added", None, "part2.safetensors"),
    }
    assert found.summary.statuses["same"] == 2
    assert any(one.path == "config.json.hidden_size" for one in found.metadata.differences)
    assert not found.identical


def test_a_version_against_a_place_on_disk(store, pair, tmp_path, monkeypatch):
    store.get("b", tmp_path / "b.safetensors")
    monkeypatch.chdir(tmp_path)
    stored = store.diff("a", "b")
    for place in (tmp_path / "b.safetensors", "./b.safetensors", "b.safetensors"):
        found = store.diff("a", place)
        assert found.b.number is None
        assert (found.b.digest, found.summary) == (stored.b.digest, stored.summary)
        assert found.tensors == stored.tensors
        assert found.metadata == stored.metadata
    assert store.diff(tmp_path / "b.safetensors", "b").identical


def test_a_name_in_the_store_comes_before_a_path(store, tmp_path, monkeypatch):
    hn.save_file({"w": _noise((9, 9))}, "m.safetensors", store=store)
    save_file({"w": _noise((9, 9), 1)}, tmp_path / "m.safetensors")
    monkeypatch.chdir(tmp_path)
    assert store.diff("m.safetensors", "m.safetensors").identical
    assert not store.diff("m.safetensors", "./m.safetensors").identical


def test_what_cannot_be_compared(store, pair, tmp_path):
    with pytest.raises(NotFoundError, match="no artifact is named 'nothing', and no file"):
        store.diff("a", "nothing")
    (tmp_path / "tree").mkdir()
    for name in ("one", "two"):
        _folder(tmp_path / "tree" / name, {}, model={"w": _noise(9)})
    with pytest.raises(UsageError, match="one can be compared"):
        store.diff("a", tmp_path / "tree")


def test_quantised_copies_have_values(store):
    store.add([QUANTS / "mini.F16.gguf", QUANTS / "mini.Q8_0.gguf", QUANTS / "mini.Q4_K.gguf"])
    near = store.diff("mini.F16.gguf", "mini.Q8_0.gguf")
    far = store.diff("mini.F16.gguf", "mini.Q4_K.gguf")
    for found, kind in ((near, "Q8_0"), (far, "Q4_K")):
        casts = [one for one in found.tensors if one.dtype_b == kind]
        assert casts
        for one in casts:
            assert one.status == "cast"
            name = f"mini.{kind}.gguf"
            a = store.tensor("mini.F16.gguf", one.name_a).astype(np.float64).ravel()
            b = store.tensor(name, one.name_b, dequantise=True).astype(np.float64).ravel()
            assert one.values.relative_norm == pytest.approx(
                np.linalg.norm(b - a) / np.linalg.norm(a)
            )
            assert 0.9 < one.values.cosine <= 1


def test_arrays_in_different_orders_are_not_compared_element_by_element(store, tmp_path):
    array = _noise((40, 50))
    np.save(tmp_path / "c.npy", array)
    np.save(tmp_path / "f.npy", np.asfortranarray(array))
    store.add([tmp_path / "c.npy", tmp_path / "f.npy"])
    found = store.diff("c.npy", "f.npy")
    assert not found.identical
    assert found.tensors[0].values is None
    assert [one.path for one in found.metadata.differences] == ["file.fortran_order"]


def test_a_matrix_that_was_turned_is_told(store):
    wide, square = _noise((40, 30), 1), _noise((32, 32), 2)
    almost = wide.T.copy()
    almost[3, 4] += 1
    hn.save_file({"wide": wide, "square": square, "almost": wide + 0}, "a", store=store)
    new = {
        "wide": np.ascontiguousarray(wide.T),
        "square": np.ascontiguousarray(square.T),
        "almost": almost,
    }
    hn.save_file(new, "b", store=store)
    found = store.diff("a", "b")
    assert {name: one.status.value for name, one in _by_name(found).items()} == {
        "wide": "transposed", "square": "transposed", "almost": "resized",
    }  # fmt: skip
    assert found.summary.statuses["transposed"] == 2
    assert store.diff("a", "b", values=False).summary.statuses["transposed"] == 0


def test_rows_in_another_order_are_told(store):
    """Rows permuted within heads, as llama.cpp's converters do, and what is only near to that."""
    names = ("weight", "bias", "half", "other", "doubled")
    old = {name: _noise((64, 48), at) for at, name in enumerate(names)}
    old["bias"] = old["bias"][:, 0].copy()
    old["half"] = old["half"].astype(np.float16)
    new = {
        name: np.ascontiguousarray(
            held.reshape(4, 2, 8, *held.shape[1:]).swapaxes(1, 2).reshape(held.shape)
        )
        for name, held in old.items()
    }
    new["other"][5, 7] += 1
    new["doubled"][5] = new["doubled"][6]
    hn.save_file(old, "a", store=store)
    hn.save_file(new, "b", store=store)
    found = store.diff("a", "b")
    assert {name: one.status.value for name, one in _by_name(found).items()} == {
        "weight": "permuted", "bias": "permuted", "half": "permuted",
        "other": "changed", "doubled": "changed",
    }  # fmt: skip
    assert found.summary.statuses["permuted"] == 3
    assert store.diff("a", "b", values=False).summary.statuses["permuted"] == 0


def test_a_gguf_has_the_rows_of_its_safetensors_in_another_order(store, tmp_path):
    weight = _noise((64, 48))
    save_file({"model.layers.0.self_attn.q_proj.weight": weight}, tmp_path / "m.safetensors")
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    halves = weight.reshape(4, 2, 8, 48)
    rows = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(64, 48))
    writer.add_tensor("blk.0.attn_q.weight", rows)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (found,) = store.diff(tmp_path / "m.safetensors", tmp_path / "m.gguf").tensors
    assert found.status.value == "permuted"
