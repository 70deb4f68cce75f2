"""``Store.add_tensors``: safetensors files of what lies in memory, without a file between."""

import threading

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, load_file, save

import hartonomous as hn
from hartonomous.core.given_tensor import is_tensor
from hartonomous.core.state_tree import decode_state, encode_state
from hartonomous.errors import SourceChangedError, StructureError, UsageError
from hartonomous.objects import durable
from hartonomous.packs.files import CHUNK_BYTES

TYPES = [
    np.float32, np.float64, np.float16, np.int8, np.uint8, np.int64, np.bool_, np.complex64,
    ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2,
]  # fmt: skip


def arrays(seed=1, rows=300):
    """Tensors of every type, of sizes below and above a frame, empty ones and a scalar."""
    random = np.random.default_rng(seed)
    found = {
        f"t.{np.dtype(dtype).name}": (random.standard_normal((rows, 40)) * 3).astype(dtype)
        for dtype in TYPES
    }
    return found | {
        "large": random.standard_normal((700, 1000), dtype=np.float32),
        "empty": np.zeros((0, 7), np.float32),
        "scalar": np.array(5, np.int64),
    }


def content(store, spec, tmp_path):
    target = tmp_path / f"out-{spec.replace('@', '-')}"
    store.get(spec, target, force=True)
    return target / "model.safetensors" if target.is_dir() else target


def test_the_file_is_the_librarys(store, tmp_path):
    given_arrays = arrays()
    added = store.add_tensors(given_arrays, "run")
    assert (added.outcome, added.number, added.kind) == ("added", 1, "model")
    (file,) = store.show("run").files
    assert (file.path, file.format) == ("model.safetensors", "safetensors")
    assert content(store, "run", tmp_path).read_bytes() == save(given_arrays)
    assert store.verify(files=True).sound


def test_nothing_of_a_file_is_written_but_packs(store, monkeypatch):
    monkeypatch.setattr("hartonomous.operations.add.new_temporary", None)
    monkeypatch.setattr("os.open", refusing_new_files(store.path))
    assert store.add_tensors(arrays(), "run").outcome == "added"
    assert store.tensor("run", "scalar") == 5


def refusing_new_files(root):
    """Stand in for ``os.open``: new files may lie below the store's own folders alone."""
    import os

    real = os.open

    def checked(path, flags, *more, **named):
        if flags & os.O_CREAT:
            assert str(path).startswith(str(root)), path
            assert "safetensors" not in str(path)
        return real(path, flags, *more, **named)

    return checked


def test_an_iterator_gives_the_same_file_holding_one_tensor_at_a_time(store, tmp_path):
    whole = arrays()
    alive = 0
    most = 0

    class Counted(np.ndarray):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def one_at_a_time():
        nonlocal alive, most
        for name, array in reversed(whole.items()):
            alive += 1
            most = max(most, alive)
            yield name, array.copy().view(Counted)

    added = store.add_tensors(one_at_a_time(), "run")
    assert content(store, "run", tmp_path).read_bytes() == save(whole)
    assert most <= 3  # the one at hand, and what the caller and the loop have not let go of
    reasons = {one.reason for one in added.reasons}
    assert any(reason.startswith("tensor stored") for reason in reasons)
    assert "tensor already stored" not in reasons
    assert added.stored_bytes > 1_000_000
    again = store.add_tensors(whole, "other")
    assert [one.reason for one in again.reasons] == ["file already stored"]
    assert store.verify(files=True).sound


def test_strange_layouts_are_written_in_order(store, tmp_path):
    plain = np.arange(600_000, dtype=np.float32).reshape(600, 1000)
    given_arrays = {
        "turned": plain.T, "sliced": plain[::2, 5:900], "swapped": plain.astype(">f4"),
        "columns": np.asfortranarray(plain), "repeated": np.broadcast_to(plain[0], (50, 1000)),
    }  # fmt: skip
    store.add_tensors(given_arrays, "dictionary")
    store.add_tensors(iter(given_arrays.items()), "iterator")
    for name in ("dictionary", "iterator"):
        found = load(content(store, name, tmp_path).read_bytes())
        for key, array in given_arrays.items():
            assert np.array_equal(found[key], array), key
    assert store.show("dictionary").digest == store.show("iterator").digest


def test_nested_names_steps_and_labels(store):
    nested = {"encoder": {0: {"weight": np.ones(30, np.float32)}}, "head": np.zeros(3)}
    added = store.add_tensors(
        nested, "run", step=100, labels=["best"], tags=["a"], metadata={"lr": "1e-3"}
    )
    assert added.labels == ("step-100", "best")
    shown = store.show("run@step-100")
    assert shown.metadata == {"training.step": "100", "lr": "1e-3"}
    assert shown.model["training"] == {"has_optimizer_state": False, "step": 100}
    assert sorted(store.tensors("run")) == ["encoder.0.weight", "head"]
    assert store.add_tensors(nested, "run", step=100).outcome == "unchanged"
    assert store.add_tensors(nested, "run", step=200).number == 2


def test_an_optimizer_is_a_member_of_its_own(store, tmp_path):
    state = {
        "state": {0: {"step": np.float32(7), "exp_avg": np.full((40, 40), 0.5, np.float32)}},
        "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0], "name": None}],
    }
    store.add_tensors({"w": np.ones((40, 40), np.float32)}, "run", optimizer=state, step=7)
    shown = store.show("run")
    assert [file.path for file in shown.files] == ["model.safetensors", "optimizer.safetensors"]
    assert shown.model["parameter_count"] == 1600
    assert shown.model["training"]["has_optimizer_state"] is True
    store.get("run", tmp_path / "out")
    assert list(load_file(tmp_path / "out" / "optimizer.safetensors")) == [
        "state.0.exp_avg", "state.0.step",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("tensors", "options", "said"),
    [
        ({"a": "text"}, {}, "not a tensor"),
        ({"a": np.array(["x"])}, {}, "no element type"),
        ({"a": np.ones(2, np.complex128)}, {}, "no element type 'C128'"),
        ({"a": {"b": np.ones(2)}, "a.b": np.ones(2)}, {}, "come to the name"),
        ({"__metadata__": np.ones(2)}, {}, "reserved"),
        ({"\ud800": np.ones(2)}, {}, "not valid text"),
        (5, {}, "neither a dictionary"),
        ({"a": np.ones(2)}, {"step": -1}, "step -1"),
        ({"a": np.ones(2)}, {"step": True}, "step True"),
        ({"a": np.ones(2)}, {"optimizer": {"f": print}}, "cannot be kept exactly"),
        ({"a": np.ones(2)}, {"optimizer": {(1, 2): 3}}, "a key"),
        ({"a": {"param_groups": [1]}}, {}, "optimizer="),
        ([("a", np.ones(20)), ("a", np.ones(20))], {}, "comes twice"),
        ([("a", object())], {}, "is a object"),
        ([(1, np.ones(3))], {}, "no text"),
        ({"a": np.ma.masked_invalid([1.0, np.nan])}, {}, "'a' is a masked array"),
        ([("a", np.ma.masked_invalid([1.0, np.nan]))], {}, "'a' is a masked array"),
        ({"a": np.ones(2)}, {"optimizer": {"m": np.ma.masked_invalid([1.0])}}, "masked array"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(store, tensors, options, said):
    with pytest.raises(UsageError, match=said):
        given = iter(tensors) if isinstance(tensors, list) else tensors
        store.add_tensors(given, "run", **options)
    assert store.ls() == []
    assert store.verify().sound


def test_a_header_that_no_reader_takes_is_refused(store):
    with pytest.raises(UsageError, match="can be read"):
        store.add_tensors({"a": np.ones(2)}, "run", optimizer={"text": "x" * (17 << 20)})


def test_an_error_of_the_iterator_is_the_callers(store):
    def broken():
        yield "a", np.ones((700, 1000))
        raise RuntimeError("out of data")

    with pytest.raises(RuntimeError, match="out of data"):
        store.add_tensors(broken(), "run")
    assert store.ls() == []
    assert store.verify().sound


def test_a_tensor_that_is_written_to_meanwhile_is_refused(store, monkeypatch):
    """The first pass hashes, the second stores: what changed in between is told by the digest."""
    array = np.zeros((3 * CHUNK_BYTES // 4,), np.float32)
    from hartonomous.packs import ingest

    real = ingest.FileIngest._known

    def meanwhile(self, member, hashed):
        array[-1] += 1
        return real(self, member, hashed)

    monkeypatch.setattr(ingest.FileIngest, "_known", meanwhile)
    with pytest.raises(SourceChangedError):
        store.add_tensors({"a": array}, "run")
    assert store.ls() == []
    assert store.verify().sound


def test_saving_from_several_threads(store):
    failed = []

    def save_one(number):
        try:
            for step in range(3):
                store.add_tensors(arrays(number, rows=20), f"run{number}", step=step)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=save_one, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(store.ls(versions=True)) == 9


class Exported:
    """What gives its memory through DLPack and in no other way."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


def test_what_exports_dlpack_is_read(store):
    array = np.arange(100, dtype=np.float32).reshape(10, 10)
    store.add_tensors({"a": Exported(array)}, "run")
    assert np.array_equal(store.tensor("run", "a"), array)


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
)
KEYS = st.text(max_size=5) | st.integers(-3, 3) | st.sampled_from(["$tensor", "$", "state"])
STATES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=20,
)


@given(STATES)
def test_state_comes_back_exactly(state):
    text, held = encode_state(state, is_tensor)
    found = decode_state(text, held.__getitem__)
    assert repr(found) == repr(state)


def test_tensors_and_strange_floats_in_state_come_back():
    state = {0: [np.ones(3), (np.float32(2),)], "x": [float("inf"), float("nan")], "0": None}
    text, held = encode_state(state, is_tensor)
    found = decode_state(text, lambda name: np.asarray(held[name]))
    assert np.array_equal(found[0][0], np.ones(3))
    assert isinstance(found[0][1][0], np.float32)
    assert repr(found["x"]) == "[inf, nan]"


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"$what": 1}', '{"$tuple": 5}', '{"$dict": [1]}', '{"$tensor": "no"}',
     '{"$float": "x"}', '{"$dict": [[[], 1]]}', "[" * 100_000],
)  # fmt: skip
def test_a_text_that_is_no_state_is_refused(text):
    with pytest.raises(StructureError):
        decode_state(text, {}.__getitem__)


def test_a_full_disk_is_told_and_leaves_the_store_whole(store, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable.os, "write", full)
        with pytest.raises(hn.HartonomousError) as caught:
            store.add_tensors(arrays(), "run")
    assert caught.value.kind == "storage-full"
    assert store.ls() == []
    store.add_tensors(arrays(), "run")
    assert store.verify().sound
