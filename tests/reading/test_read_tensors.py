"""Tensors and files out of a store, against numpy and what the writing libraries report."""

import io
import json
from pathlib import Path

import gguf
import ml_dtypes
import numpy as np
import pytest
from gguf.quants import dequantize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save, save_file

import hartonomous as hn
from hartonomous.errors import AmbiguousNameError, NotFoundError, UsageError
from hartonomous.operations import read as reading
from hartonomous.packs.tensor_names import find_tensor

QUANTS = Path(__file__).parents[1] / "fixtures" / "quants"
TYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn,
         ml_dtypes.float8_e5m2, np.int64, np.int32, np.int16, np.int8, np.uint64, np.uint32,
         np.uint16, np.uint8, np.bool_]  # fmt: skip


def _noise(shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One store for the properties; equal content is a no-op."""
    with hn.open(tmp_path_factory.mktemp("shared") / "store", create=True) as opened:
        yield opened


@settings(
    deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_every_tensor_and_every_row_range_is_what_was_saved(shared, data):
    dtype = np.dtype(data.draw(st.sampled_from(TYPES)))
    shape = tuple(data.draw(st.lists(st.integers(0, 9), max_size=3)))
    seed = data.draw(st.integers(0, 1 << 30))
    size = int(np.prod(shape)) * dtype.itemsize
    content = np.random.default_rng(seed).bytes(size)
    if dtype == np.bool_:
        content = bytes(byte & 1 for byte in content)
    array = np.frombuffer(content, dtype).reshape(shape)
    added = hn.save_file({"w": array, "other": _noise(40)}, "m", store=shared)
    spec = f"m@{added.number}"
    found = shared.tensor(spec, "w")
    assert (found.dtype, found.shape) == (dtype, shape)
    assert found.tobytes() == content
    assert found.flags.c_contiguous
    assert not found.flags.writeable
    assert bytes(shared.tensor_bytes(spec, "w")) == content
    if shape:
        start = data.draw(st.integers(0, shape[0]))
        stop = data.draw(st.integers(start, shape[0]))
        assert shared.tensor(spec, "w", rows=(start, stop)).tobytes() == (
            array[start:stop].tobytes()
        )
        assert shared.tensor(spec, "w", rows=slice(start, None)).shape[0] == shape[0] - start
    first = data.draw(st.integers(0, size))
    last = data.draw(st.integers(first, size))
    assert bytes(shared.tensor_bytes(spec, "w", bytes_range=(first, last))) == content[first:last]


def test_raw_bytes_come_as_a_view_of_the_pack_and_encoded_ones_as_a_copy(store):
    raw = np.random.default_rng(0).integers(0, 256, (700, 1000), np.uint8)
    hn.save_file({"raw": raw, "coded": np.zeros((700, 1000), np.uint8)}, "m", store=store)
    one, two = store.tensor("m", "raw"), store.tensor("m", "raw")
    assert np.shares_memory(one, two)
    assert np.shares_memory(one, store.tensor("m", "raw", rows=slice(10, 20)))
    assert not np.shares_memory(store.tensor("m", "coded"), store.tensor("m", "coded"))
    for array in (one, store.tensor("m", "coded")):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1
    assert np.array_equal(one, raw)


def test_a_view_outlives_other_reads_and_packs(store):
    raw = np.random.default_rng(0).integers(0, 256, 300_000, np.uint8)
    hn.save_file({"w": raw}, "m", store=store)
    view = store.tensor("m", "w")
    for number in range(5):
        hn.save_file({"w": _noise(1000, seed=number)}, f"other{number}", store=store)
        store.tensor(f"other{number}", "w")
    assert np.array_equal(view, raw)


@pytest.mark.parametrize(
    ("rows", "message"),
    [((0, 5), "outside the tensor's 4"), ((3, 2), "outside"), (slice(-5, None), "outside"),
     (slice(0, 4, 2), "step 2")],
)  # fmt: skip
def test_rows_that_are_not_there(store, rows, message):
    hn.save_file({"w": _noise((4, 3))}, "m", store=store)
    with pytest.raises(UsageError, match=message):
        store.tensor("m", "w", rows=rows)


def test_rows_of_a_scalar_and_bytes_that_are_not_there(store):
    hn.save_file({"s": np.array(1.5)}, "m", store=store)
    assert store.tensor("m", "s") == 1.5
    with pytest.raises(UsageError, match="a scalar has no rows"):
        store.tensor("m", "s", rows=(0, 1))
    with pytest.raises(UsageError, match="bytes 0:9 are outside the tensor's 8"):
        store.tensor_bytes("m", "s", bytes_range=(0, 9))


@pytest.mark.parametrize("name", ["mini.F16.gguf", "mini.Q4_K.gguf", "mini.Q8_0.gguf"])
def test_gguf_tensors_are_what_the_library_reads(store, name):
    store.add(QUANTS / name)
    listed = store.tensors(name)
    reader = gguf.GGUFReader(QUANTS / name)
    assert set(listed) == {one.name for one in reader.tensors}
    for one in reader.tensors:
        found = store.tensor(name, one.name)
        assert found.tobytes() == one.data.tobytes()
        assert found.shape == one.data.shape
        assert listed[one.name].shape == tuple(int(extent) for extent in reversed(one.shape))
        values = store.tensor(name, one.name, dequantise=True)
        expected = dequantize(one.data, one.tensor_type).reshape(listed[one.name].shape)
        assert np.array_equal(values.astype(np.float32), expected)
        assert not values.flags.writeable
        rows = store.tensor(name, one.name, rows=slice(0, 1), dequantise=True)
        assert np.array_equal(rows.astype(np.float32), expected[:1])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (5,), (), (0, 3)])
def test_npy_in_either_order(store, tmp_path, order, shape):
    array = np.asarray(_noise(shape), order=order)
    np.save(tmp_path / "a.npy", array)
    store.add(tmp_path / "a.npy")
    found = store.tensor("a.npy", "array")
    assert np.array_equal(found, np.load(tmp_path / "a.npy"))
    assert found.flags.c_contiguous
    assert not found.flags.writeable
    if shape and shape[0]:
        assert np.array_equal(store.tensor("a.npy", "array", rows=slice(1, None)), array[1:])


def test_names_that_are_missing_name_near_ones(store):
    hn.save_file({"layers.0.weight": _noise(20), "layers.1.weight": _noise(21)}, "m", store=store)
    with pytest.raises(NotFoundError, match=r"m@1 has no tensor 'layers.0.wight'") as caught:
        store.tensor("m", "layers.0.wight")
    assert "layers.0.weight" in caught.value.hint
    with pytest.raises(NotFoundError) as caught:
        store.tensor("m", "zzzzzzzz")
    assert "hart show" in caught.value.hint
    with pytest.raises(NotFoundError, match="no file 'x'"):
        store.tensor("m", "layers.0.weight", member="x")


def _folder(tmp_path, **files):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    for name, tensors in files.items():
        save_file(tensors, folder / f"{name}.safetensors")
    return folder


def test_a_name_in_several_files_is_ambiguous_unless_the_tensors_are_equal(store, tmp_path):
    same = _noise((30, 4))
    store.add(_folder(tmp_path, a={"w": _noise(20), "same": same},
                      b={"w": _noise(20, seed=1), "same": same}))  # fmt: skip
    assert np.array_equal(store.tensor("model", "same"), same)
    with pytest.raises(AmbiguousNameError, match=r"a\.safetensors, b\.safetensors"):
        store.tensor("model", "w")
    with pytest.raises(AmbiguousNameError):
        store.tensors("model")
    assert np.array_equal(store.tensor("model", "w", member="b.safetensors"), _noise(20, seed=1))
    assert set(store.tensors("model", member="a.safetensors")) == {"w", "same"}


def test_a_version_without_tensors(store, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    store.add(tmp_path / "notes.txt")
    assert store.tensors("notes.txt") == {}
    with pytest.raises(NotFoundError, match="no tensors"):
        store.tensor("notes.txt", "w")


def test_files_read_as_files_on_disk_do(store, tmp_path):
    content = save({"w": _noise((300, 300)), "b": np.zeros(100_000, np.float32)})
    (tmp_path / "m.safetensors").write_bytes(content)
    store.add(tmp_path / "m.safetensors")
    with store.file("m.safetensors") as file, io.BytesIO(content) as real:
        for step in (lambda f: f.read(10), lambda f: f.seek(-100, io.SEEK_END),
                     lambda f: f.read(), lambda f: f.read(), lambda f: f.seek(300_000),
                     lambda f: f.read(200_000), lambda f: f.seek(-7, io.SEEK_CUR),
                     lambda f: f.tell(), lambda f: f.read(1), lambda f: f.seek(10**9),
                     lambda f: f.read(5), lambda f: f.seek(0), lambda f: f.read()):  # fmt: skip
            assert step(file) == step(real)
        assert file.readable()
        assert file.seekable()
        assert not file.writable()
        with pytest.raises(ValueError, match="seek"):
            file.seek(-1)
    with pytest.raises(ValueError, match="closed"):
        file.read()


def test_files_of_a_folder_are_named(store, tmp_path):
    store.add(_folder(tmp_path, a={"w": _noise(20)}))
    assert json.load(store.file("model", "config.json")) == {"model_type": "bert"}
    with pytest.raises(AmbiguousNameError, match="2 files"):
        store.file("model")


def test_a_closed_store_gives_nothing_more(tmp_path):
    with hn.open(tmp_path / "store", create=True) as store:
        hn.save_file({"w": _noise((300, 300))}, "m", store=store)
        file = store.file("m")
        file.read(8)
    with pytest.raises(UsageError, match="closed"):
        file.read(1_000_000)
    with pytest.raises(UsageError, match="closed"):
        store.tensor("m", "w")


@pytest.mark.parametrize("shape", [(2000,), (7, 500), (6, 500), (30, 40), (2, 3), (), (9, 2, 400)])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.int64])
def test_text_is_what_numpy_prints(store, shape, dtype):
    array = (100 * _noise(shape)).astype(dtype)
    hn.save_file({"w": array}, "m", store=store)
    place = find_tensor(store.parts, store.files, "m", "w")
    assert reading.tensor_text(*place).text == str(array)
    if shape:
        found = reading.tensor_text(*place, rows=slice(1, None))
        assert found.text == str(array[1:])
        assert found.array_shape == array[1:].shape
        assert found.logical_bytes == array[1:].nbytes


def test_text_of_quantised_tensors(store):
    store.add(QUANTS / "mini.Q4_K.gguf")
    name = "mini.Q4_K.gguf"
    tensor = next(one for one in store.tensors(name).values() if one.dtype == "Q4_K")
    place = find_tensor(store.parts, store.files, name, tensor.name)
    for dequantise in (False, True):
        found = reading.tensor_text(*place, dequantise=dequantise)
        array = store.tensor(name, tensor.name, dequantise=dequantise)
        assert found.text == str(array)
        assert (found.array_dtype, found.array_shape) == (array.dtype.name, array.shape)
