"""``load_file``, ``save_file`` and ``safe_open`` against the safetensors library itself."""

import sys
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

import hartonomous as hn
from hartonomous import locks
from hartonomous.errors import AmbiguousNameError, NotFoundError, UsageError
from hartonomous.tensors import file_pieces

QUANTS = Path(__file__).parents[1] / "fixtures" / "quants"
TYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int64, np.int32, np.int16,
         np.int8, np.uint64, np.uint32, np.uint16, np.uint8, np.bool_, np.complex64]  # fmt: skip


def _noise(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def sliced(tmp_path_factory):
    place = tmp_path_factory.mktemp("sliced") / "store"
    with hn.open(place, create=True) as opened:
        array = np.arange(44, dtype=np.float32).reshape(11, 4)
        hn.save_file({"w": array, "other": _noise(50)}, "m", store=opened)
        with hn.safe_open("m", store=opened) as file:
            yield file


arrays = st.builds(
    lambda kind, shape, seed: np.asarray(
        100 * np.random.default_rng(seed).standard_normal(shape)
    ).astype(kind),
    st.sampled_from(TYPES),
    st.lists(st.integers(0, 5), max_size=3).map(tuple),
    st.integers(0, 1 << 30),
)


@settings(deadline=None, max_examples=80)
@given(
    st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), arrays, max_size=4),
    st.one_of(st.none(), st.dictionaries(st.just("key"), st.text(max_size=5), min_size=1)),
)
@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_written_bytes_are_those_of_the_library(tensors, metadata):
    tensors.pop("__metadata__", None)
    assert b"".join(file_pieces(tensors, metadata)) == safetensors.numpy.save(tensors, metadata)


def test_every_type_is_kept_as_the_library_writes_it_and_comes_back(store):
    tensors = {np.dtype(kind).name: (50 * _noise((3, 4))).astype(np.int8).astype(kind)
               for kind in TYPES}  # fmt: skip
    tensors |= {"empty": np.zeros((0, 3), np.float32), "scalar": np.array(2.5), "": _noise(4)}
    hn.save_file(tensors, "m", {"key": "value"}, store=store)
    with store.file("m") as file:
        assert file.read() == safetensors.numpy.save(tensors, {"key": "value"})
    found = hn.load_file("m", store=store)
    assert set(found) == set(tensors)
    for name, array in tensors.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
        assert found[name].flags.writeable


def test_arrays_in_any_order_and_byte_order_are_saved_by_value(store):
    plain = _noise((4, 6))
    hn.save_file({"t": plain.T, "big": plain.astype(">f4"), "cut": plain[::2, ::3]}, "m",
                 store=store)  # fmt: skip
    found = hn.load_file("m", store)
    assert np.array_equal(found["t"], plain.T)
    assert np.array_equal(found["big"], plain)
    assert found["big"].dtype == np.dtype("<f4")
    assert np.array_equal(found["cut"], plain[::2, ::3])


def test_names_versions_and_the_file_inside(store, tmp_path):
    one, two = {"w": _noise(30)}, {"w": _noise(30, seed=1)}
    first = hn.save_file(one, "org/model", store=store)
    assert (first.outcome, first.name, first.number) == ("added", "org/model", 1)
    assert [file.path for file in store.show("org/model").files] == ["model.safetensors"]
    assert hn.save_file(one, "org/model", store=store).outcome == "unchanged"
    second = hn.save_file(two, "org/model", store=store)
    assert (second.outcome, second.number) == ("updated", 2)
    assert np.array_equal(hn.load_file("org/model", store)["w"], two["w"])
    assert np.array_equal(hn.load_file("org/model@1", store)["w"], one["w"])
    hn.save_file(one, "plain.safetensors", store=store)
    store.get("plain.safetensors", tmp_path)
    again = safetensors.numpy.load_file(tmp_path / "plain.safetensors")
    assert np.array_equal(again["w"], one["w"])


def test_without_a_store_the_one_that_is_found_is_used(store):
    array = _noise((5, 5))
    hn.save_file({"w": array}, "m")
    assert np.array_equal(hn.load_file("m")["w"], array)
    assert np.array_equal(hn.load_file("m", store.path)["w"], array)
    with hn.safe_open("m") as file:
        assert np.array_equal(file.get_tensor("w"), array)


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"w": [1, 2]}, None, "'w' is a list"),
        ({"w": np.array(["a"])}, None, "no element type for <U1"),
        ({"w": np.ma.masked_invalid([np.nan])}, None, "'w' is a masked array"),
        ({1: np.zeros(3)}, None, "name 1 is no text"),
        ({"__metadata__": np.zeros(3)}, None, "reserved"),
        ({"w": np.zeros(3)}, {"a": 1}, "1 in the metadata is no text"),
    ],
)
def test_what_cannot_be_saved(store, tensors, metadata, message):
    with pytest.raises(UsageError, match=message):
        hn.save_file(tensors, "m", metadata, store=store)
    assert store.ls() == []


def test_a_name_that_is_none(store):
    with pytest.raises(UsageError, match="is not a name"):
        hn.save_file({}, "a//b", store=store)


@pytest.fixture
def both(store, tmp_path):
    """The library's own file object beside ours, on the same bytes."""
    tensors = {
        "w": _noise((6, 5)),
        "a": np.arange(7, dtype=np.int64),
        "scalar": np.array(2.5, np.float64),
        "bf": _noise((3, 2)).astype(ml_dtypes.bfloat16),
        "big": _noise((500, 300)),
    }
    path = tmp_path / "m.safetensors"
    safetensors.numpy.save_file(tensors, path, metadata={"format": "np"})
    store.add(path)
    with (
        hn.safe_open("m.safetensors", "np", store=store) as ours,
        safetensors.safe_open(path, "np") as real,
    ):
        yield ours, real


def test_safe_open_says_what_the_library_says(both):
    ours, real = both
    assert ours.keys() == real.keys()
    assert ours.offset_keys() == real.offset_keys()
    assert ours.metadata() == real.metadata()
    for name in real.keys():  # noqa: SIM118 - it is no mapping
        assert ours.get_slice(name).get_shape() == real.get_slice(name).get_shape()
        assert ours.get_slice(name).get_dtype() == real.get_slice(name).get_dtype()
        _same(ours.get_tensor(name), real.get_tensor(name))
    with pytest.raises(NotFoundError, match="no tensor 'x'"):
        ours.get_tensor("x")


def _same(ours, real):
    assert isinstance(ours, np.ndarray)
    assert (ours.dtype, ours.shape) == (real.dtype, real.shape)
    assert ours.tobytes() == real.tobytes()
    assert ours.flags.writeable
    assert ours.flags.c_contiguous


@pytest.mark.parametrize("name", ["w", "big"])
@pytest.mark.parametrize(
    "index",
    [slice(0, 2), slice(1, None), slice(None), slice(0, 6, 2), slice(2, 3), 1, -1, (1, 2), ...,
     (..., 1), (slice(None), slice(1, 3)), (slice(2, 5), 0), (slice(1, 4), slice(0, 5, 2))],
)  # fmt: skip
def test_slices_are_the_librarys(both, name, index):
    ours, real = both
    _same(ours.get_slice(name)[index], real.get_slice(name)[index])


@settings(deadline=None, max_examples=60)
@given(
    st.one_of(
        st.slices(11), st.integers(-11, 10),
        st.tuples(st.slices(11), st.one_of(st.slices(4), st.integers(-4, 3))),
    )
)  # fmt: skip
def test_slices_are_numpys(sliced, index):
    array = np.arange(44, dtype=np.float32).reshape(11, 4)
    found = sliced.get_slice("w")[index]
    assert np.array_equal(found, array[index])
    assert found.shape == np.shape(array[index])


def test_slices_that_are_none(both):
    ours, _ = both
    for index in (6, (0, 0, 0), -7):
        with pytest.raises(IndexError):
            ours.get_slice("w")[index]
    for kind, index in (("list", [0, 1]), ("bool", True), ("bool", (slice(1), False))):
        with pytest.raises(UsageError, match=f"cannot be cut by {kind}"):
            ours.get_slice("w")[index]
    with pytest.raises(IndexError):
        ours.get_slice("scalar")[:]


def test_shards_are_one_model(store, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    parts = [{"b": _noise(20), "a": _noise((3, 3))}, {"c": _noise(30, seed=2)}]
    for name, tensors in zip(names, parts, strict=True):
        safetensors.numpy.save_file(tensors, folder / name, metadata={"format": "pt"})
    (folder / "config.json").write_text("{}")
    store.add(folder)
    found = hn.load_file("model", store)
    assert set(found) == {"a", "b", "c"}
    for tensors in parts:
        for name, array in tensors.items():
            assert np.array_equal(found[name], array)
    with hn.safe_open("model", store=store) as file:
        assert file.metadata() == {"format": "pt"}
        assert file.keys() == ["a", "b", "c"]
    assert set(hn.load_file("model", store, member=names[1])) == {"c"}


def test_an_ambiguous_name_is_refused_when_it_is_read(store, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    safetensors.numpy.save_file({"w": _noise(20), "x": _noise(9)}, folder / "a.safetensors")
    safetensors.numpy.save_file({"w": _noise(20, seed=1)}, folder / "b.safetensors")
    (folder / "config.json").write_text("{}")
    store.add(folder)
    with hn.safe_open("model", store=store) as file:
        assert file.keys() == ["w", "x"]
        assert np.array_equal(file.get_tensor("x"), _noise(9))
        with pytest.raises(AmbiguousNameError):
            file.get_tensor("w")


def test_gguf_and_npy(store, tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(_noise((4, 3))))
    store.add([QUANTS / "mini.F32.gguf", QUANTS / "mini.Q4_K.gguf", tmp_path / "a.npy"])
    assert np.array_equal(hn.load_file("a.npy", store)["array"], _noise((4, 3)))
    plain = hn.load_file("mini.F32.gguf", store)
    for name, array in plain.items():
        assert np.array_equal(array, store.tensor("mini.F32.gguf", name))
    with hn.safe_open("mini.Q4_K.gguf", store=store, dequantise=True) as file:
        assert file.metadata() is None
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            values = store.tensor("mini.Q4_K.gguf", name, dequantise=True)
            assert np.array_equal(file.get_tensor(name), values)
            assert np.array_equal(file.get_slice(name)[1:3], values[1:3])
    with hn.safe_open("mini.Q4_K.gguf", store=store) as file:
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            blocks = store.tensor("mini.Q4_K.gguf", name)
            assert np.array_equal(file.get_slice(name)[1:3], blocks[1:3])


def test_frameworks(store, monkeypatch):
    hn.save_file({"w": _noise(20)}, "m", store=store)
    with pytest.raises(UsageError, match="framework 'tf' is unknown"):
        hn.safe_open("m", "tf", store=store)
    with pytest.raises(UsageError, match="cannot be on device 'cuda'"):
        hn.safe_open("m", "np", "cuda", store=store)
    monkeypatch.setitem(sys.modules, "torch", None)  # how Python says that it cannot be imported
    with pytest.raises(UsageError, match="needs PyTorch, which is not installed") as caught:
        hn.safe_open("m", framework="pt", store=store)
    assert "pip install torch" in caught.value.hint


def test_names_that_are_missing(store):
    with pytest.raises(NotFoundError):
        hn.safe_open("nothing", store=store)
    with pytest.raises(NotFoundError):
        hn.load_file("nothing")


def test_arrays_that_lie_otherwise_are_copied_one_at_a_time():
    arrays = {f"w{number}": np.ones((512, 512), np.float32).T[::-1] for number in range(8)}
    size = arrays["w0"].nbytes
    tracemalloc.start()
    try:
        written = sum(len(piece) for piece in file_pieces(arrays, None))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert written > 8 * size
    assert peak < 4 * size


def test_a_store_that_was_opened_for_it_is_closed_whatever_fails(tmp_path, monkeypatch):
    place = tmp_path / "store"
    hn.open(place, create=True).close()
    (tmp_path / "m").touch()
    monkeypatch.chdir(tmp_path)

    def broken(*_, **__):
        raise OSError("no way")

    monkeypatch.setattr(hn.Store, "show", broken)
    with pytest.raises(OSError, match="no way"):
        hn.safe_open("m", store=place)
    lock = locks.try_lock(place / "locks" / "store.lock")
    assert lock is not None
    lock.release()
