"""PyTorch's checkpoints in a store: exact bytes back, and values in the order that PyTorch has."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch_writer
from safetensors.numpy import save_file

import hartonomous as hn
from hartonomous.core import array as core_array
from hartonomous.errors import LimitError, UsageError
from hartonomous.operations import read as reading
from hartonomous.packs import compared_tensors
from hartonomous.packs.tensor_names import find_tensor

FIXTURES = Path(__file__).parents[1] / "fixtures" / "torch"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A store of every fixture."""
    with hn.open(tmp_path_factory.mktemp("torch") / "store", create=True) as opened:
        for name in EXPECTED:
            opened.add(FIXTURES / name, name=name)
        yield opened


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_files_come_back_and_values_are_pytorchs(filled, tmp_path, name):
    filled.get(name, tmp_path / "out.pt")
    assert (tmp_path / "out.pt").read_bytes() == (FIXTURES / name).read_bytes()
    expected = {path: one for path, one in EXPECTED[name].items() if one is not None}
    loaded = hn.load_file(name, filled) if expected else {}
    for path, told in expected.items():
        read_only = filled.tensor(name, path)
        assert list(read_only.shape) == told["shape"]
        assert not read_only.flags.writeable
        for found in (read_only, loaded[path]):
            assert found.flags.c_contiguous
            assert hashlib.sha256(found.tobytes()).hexdigest() == told["sha256"]
        assert loaded[path].flags.writeable


def strided(content, name="w", shape=(300, 500)):
    """A checkpoint of a matrix, its transpose, a slice of columns and a broadcast row."""
    rows, columns = shape
    count = rows * columns

    def view(offset, shape, strides):
        return torch_writer.Tensor("0", "F32", count, offset, shape, strides)

    return torch_writer.archive(
        {
            name: view(0, shape, (columns, 1)),
            "turned": view(0, (columns, rows), (1, columns)),
            "columns": view(2, (rows, 7), (columns, 1)),
            "thin": view(0, (rows, columns // 2), (columns, 2)),
            "repeated": view(5, (4, 3), (0, 1)),
        },
        {"0": content.tobytes()},
    )


@pytest.fixture
def matrix():
    return np.random.default_rng(0).standard_normal((300, 500)).astype(np.float32)


@pytest.fixture
def views(store, tmp_path, matrix):
    """The views of ``strided`` as arrays; the store has them as ``m.pt``."""
    (tmp_path / "m.pt").write_bytes(strided(matrix))
    store.add([tmp_path / "m.pt"])
    return {
        "w": matrix,
        "turned": matrix.T,
        "columns": matrix[:, 2:9],
        "thin": matrix[:, ::2],
        "repeated": np.broadcast_to(matrix[0, 5:8], (4, 3)),
    }


def test_values_rows_npy_and_text_of_views(store, views):
    for name, array in views.items():
        assert np.array_equal(store.tensor("m.pt", name), array)
        for rows in ((0, 0), (1, 3), (len(array) - 1, len(array)), slice(None, -1)):
            part = array[rows if isinstance(rows, slice) else slice(*rows)]
            assert np.array_equal(store.tensor("m.pt", name, rows=rows), part)
        version, place = find_tensor(store.parts, store.files, "m.pt", name)
        written = b"".join(map(bytes, reading.npy_chunks(place)))
        assert np.array_equal(np.load(io.BytesIO(written)), array)
        text = reading.tensor_text(version, place)
        assert text.text == str(np.ascontiguousarray(array))
        assert text.logical_bytes == array.size * 4


def test_parts_of_views_are_read_like_numpys(store, views):
    with hn.safe_open("m.pt", store=store) as file:
        for name, array in views.items():
            part = file.get_slice(name)
            for index in (0, -1, slice(1, 4), slice(None, None, -2), (slice(0, 2), 1), ...):
                assert np.array_equal(part[index], array[index])


def test_bytes_of_a_view_are_those_of_the_file(store, views, tmp_path):
    content = (tmp_path / "m.pt").read_bytes()
    for name in views:
        _, place = find_tensor(store.parts, store.files, "m.pt", name)
        held = content[place.offset : place.offset + place.length]
        assert bytes(store.tensor_bytes("m.pt", name)) == held
        assert b"".join(reading.raw_chunks(place)) == held
    _, place = find_tensor(store.parts, store.files, "m.pt", "turned")
    with pytest.raises(UsageError, match="do not lie in order"):
        reading.raw_chunks(place, rows=(0, 1))


def test_storage_is_kept_once_with_other_files_of_the_same_tensor(store, views, matrix, tmp_path):
    save_file({"other": matrix}, tmp_path / "same.safetensors")
    before = sum(one.stat().st_size for one in (tmp_path / "store" / "packs").rglob("*"))
    store.add([tmp_path / "same.safetensors"])
    after = sum(one.stat().st_size for one in (tmp_path / "store" / "packs").rglob("*"))
    # "repeated" and "columns" cut the matrix inside: it is shared where no view does.
    (tmp_path / "plain.pt").write_bytes(
        torch_writer.archive(
            {"w": torch_writer.Tensor("0", "F32", 150_000, 0, (300, 500), (500, 1)),
             "turned": torch_writer.Tensor("0", "F32", 150_000, 0, (500, 300), (1, 500))},
            {"0": matrix.tobytes()},
        )
    )  # fmt: skip
    store.add([tmp_path / "plain.pt"])
    last = sum(one.stat().st_size for one in (tmp_path / "store" / "packs").rglob("*"))
    assert after - before > matrix.nbytes // 2
    assert last - after < 20_000


def statuses(found):
    return {one.name_a or one.name_b: one.status.value for one in found.tensors}


@pytest.mark.parametrize("on_disk", [True, False])
def test_views_equal_copies_of_them(store, views, tmp_path, on_disk):
    save_file(
        {name: np.ascontiguousarray(array) for name, array in views.items()},
        tmp_path / "copies.safetensors",
    )
    store.add(tmp_path / "copies.safetensors", name="copies")
    other = tmp_path / "m.pt" if on_disk else "m.pt"
    assert set(statuses(store.diff("copies", other)).values()) == {"same"}


def test_square_views_of_equal_bytes_are_no_equal_tensors(store, tmp_path):
    square = np.arange(10_000, dtype=np.float32).reshape(100, 100)
    for name, strides in (("a", (100, 1)), ("b", (1, 100))):
        view = torch_writer.Tensor("0", "F32", 10_000, 0, (100, 100), strides)
        content = torch_writer.archive({"w": view}, {"0": square.tobytes()})
        (tmp_path / f"{name}.pt").write_bytes(content)
        store.add(tmp_path / f"{name}.pt", name=name)
    found = store.diff("a", "b")
    assert statuses(found) == {"w": "transposed"}
    assert found.tensors[0].values is None  # each of them is in the other, elsewhere
    assert np.array_equal(store.tensor("b", "w"), square.T)


def test_large_views_are_compared_as_they_lie(store, views, tmp_path, monkeypatch):
    monkeypatch.setattr(compared_tensors, "ORDERED_LIMIT_BYTES", 1000)
    found = statuses(store.diff("m.pt", tmp_path / "m.pt"))
    assert set(found.values()) == {"same"}
    save_file({"turned": np.ascontiguousarray(views["turned"])}, tmp_path / "t.safetensors")
    found = store.diff("m.pt", tmp_path / "t.safetensors")
    (changed,) = [one for one in found.tensors if one.name_a == one.name_b == "turned"]
    assert (changed.status.value, changed.values) == ("changed", None)


def test_broadcast_views_are_not_spread_without_end(store, tmp_path, monkeypatch):
    view = torch_writer.Tensor("0", "F32", 1, 0, (2**40, 2**10), (0, 0))
    (tmp_path / "wide.pt").write_bytes(torch_writer.archive({"w": view}, {"0": bytes(4)}))
    store.add([tmp_path / "wide.pt"])
    with pytest.raises(LimitError, match="repeats 4 bytes"):
        store.tensor("wide.pt", "w")
    assert store.tensor("wide.pt", "w", rows=(0, 2)).shape == (2, 1024)
    assert statuses(store.diff("wide.pt", tmp_path / "wide.pt")) == {"w": "same"}
    monkeypatch.setattr(core_array, "REPEATED_LIMIT_BYTES", 2**12 - 1)
    with pytest.raises(LimitError, match="repeats"):
        store.tensor("wide.pt", "w", rows=(0, 1))


def test_training_run_as_a_model(filled):
    found = filled.show("checkpoint.pt")
    (file,) = found.files
    roles = {one.name: one.role for one in file.tensors}
    assert roles["optimizer.state.0.exp_avg"] == roles["optimizer.state.0.step"]
    assert roles["optimizer.state.0.exp_avg"] == "optimizer-state"
    assert found.model["formats"] == ["torch-zip"]
    assert found.model["training"]["has_optimizer_state"] is True
    assert file.notices[0].startswith("unknown-pickle: loading this file with pickle would call")
    # embed.weight and head.weight are tied: 28; layers 2 x 20; norm 8; nested 3 + 2 + 1 + 4; rng 64
    assert found.model["parameter_count"] == 28 + 40 + 8 + 10 + 64


def test_estimate_sees_the_tensors(store, views, tmp_path):
    found = store.estimate(tmp_path / "m.pt")
    assert (found.tensor_count, found.notes) == (5, ())
