"""Tensors that lie deflated or as varints in their files, read, printed and compared by name."""

import io
import json
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import onnx_writer as ow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

import hartonomous as hn
from hartonomous.cli.main import main
from hartonomous.core.coding import DEFLATE, PIECE_BYTES, VARINT, Coding, decoded
from hartonomous.errors import UsageError
from hartonomous.operations import read as reading
from hartonomous.packs.coded_bytes import CodedBytes
from hartonomous.packs.tensor_names import find_tensor

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    return {
        "weight": random.standard_normal((300, 50)).astype(np.float32),
        "turned": np.asfortranarray(np.arange(6000, dtype=np.int16).reshape(60, 100)),
        "scalar": np.array(2.5),
        "empty": np.empty((0, 3), np.float32),
    }


@pytest.fixture
def filled(store, tmp_path, arrays):
    """The store has the arrays deflated (``c.npz``) and stored (``s.npz``)."""
    np.savez_compressed(tmp_path / "c.npz", **arrays)
    np.savez(tmp_path / "s.npz", **arrays)
    store.add([tmp_path / "c.npz", tmp_path / "s.npz"])
    return store


@pytest.mark.parametrize("name", ["c.npz", "s.npz"])
def test_values_rows_npy_bytes_and_text(filled, arrays, name):
    assert set(filled.tensors(name)) == set(arrays)
    for key, array in arrays.items():
        read = filled.tensor(name, key)
        assert np.array_equal(read, array)
        assert (read.dtype, read.shape) == (array.dtype, array.shape)
        assert not read.flags.writeable
        version, place = find_tensor(filled.parts, filled.files, name, key)
        written = b"".join(map(bytes, reading.npy_chunks(place)))
        assert np.array_equal(np.load(io.BytesIO(written)), array)
        assert reading.tensor_text(version, place).text == str(np.array(array, order="C"))
        raw = array.tobytes("F" if key == "turned" else "C")
        assert bytes(filled.tensor_bytes(name, key)) == raw
        assert b"".join(map(bytes, reading.raw_chunks(place))) == raw
        reader = filled.tensor_reader(name, key)
        assert reader.logical_bytes == array.nbytes
        out = np.empty(array.nbytes, np.uint8)
        assert reader.decode_into(out) == array.nbytes
        assert out.tobytes() == raw
        if array.ndim and len(array):
            for rows in ((0, 0), (1, 3), slice(-2, None)):
                part = array[rows if isinstance(rows, slice) else slice(*rows)]
                assert np.array_equal(filled.tensor(name, key, rows=rows), part)
        if array.nbytes > 40:
            assert bytes(filled.tensor_bytes(name, key, bytes_range=(13, 40))) == raw[13:40]
    with pytest.raises(UsageError, match="outside"):
        filled.tensor_bytes(name, "weight", bytes_range=(0, 60_001))


def test_loaded_arrays_may_be_changed(filled, arrays):
    loaded = hn.load_file("c.npz", filled)
    for key, array in arrays.items():
        assert np.array_equal(loaded[key], array)
        assert loaded[key].flags.writeable


def statuses(found):
    return {one.name_a or one.name_b: one.status.value for one in found.tensors}


@pytest.mark.parametrize("on_disk", [True, False])
def test_deflated_tensors_equal_plain_ones(filled, tmp_path, arrays, on_disk):
    other = tmp_path / "s.npz" if on_disk else "s.npz"
    assert set(statuses(filled.diff("c.npz", other)).values()) == {"same"}
    changed = arrays | {"weight": arrays["weight"] + np.float32(1)}
    save_file(
        {key: np.array(array, order="C") for key, array in changed.items()},
        tmp_path / "plain.safetensors",
    )
    found = filled.diff("c.npz", tmp_path / "plain.safetensors")
    assert statuses(found) == dict.fromkeys(arrays, "same") | {"weight": "changed"}
    (weight,) = [one for one in found.tensors if one.name_a == "weight"]
    assert weight.values.largest_absolute == pytest.approx(1, abs=1e-5)


def test_stored_arrays_are_shared_with_other_formats(store, tmp_path, arrays):
    plain = {"weight": arrays["weight"]}
    save_file(plain, tmp_path / "m.safetensors")
    np.savez(tmp_path / "m.npz", **plain)
    content = ow.model(ow.graph(ow.tensor("w", 1, (300, 50), raw=plain["weight"].tobytes())))
    (tmp_path / "m.onnx").write_bytes(content)
    store.add(tmp_path / "m.safetensors")
    for name, key in (("m.npz", "weight"), ("m.onnx", "w")):
        store.add(tmp_path / name)
        explained = store.explain(name, key)
        assert explained.use_count > 1
        assert explained.digest == store.tensors("m.safetensors")["weight"].digest


def test_files_come_back_and_models_are_summed_up(filled, tmp_path, arrays):
    for name in ("c.npz", "s.npz"):
        filled.get(name, tmp_path / "out" / name)
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / name).read_bytes()
        model = filled.show(name).model
        assert model["parameter_count"] == sum(array.size for array in arrays.values())
        assert model["tensor_bytes"] == sum(array.nbytes for array in arrays.values())
    notices = filled.show("c.npz").files[0].notices
    assert notices[0].startswith("compressed: 4 arrays lie compressed")


def test_every_fixture_of_onnx_is_read(store, tmp_path):
    expected = json.loads((FIXTURES / "onnx" / "expected.json").read_text())
    kinds = {"F32": np.float32, "I64": np.int64, "I8": np.int8, "U16": np.uint16, "BOOL": np.bool_}
    read = 0
    for name, told in expected.items():
        if "/" in name:
            continue
        store.add(FIXTURES / "onnx" / name, name=name)
        store.get(name, tmp_path / "out.onnx", force=True)
        assert (tmp_path / "out.onnx").read_bytes() == (FIXTURES / "onnx" / name).read_bytes()
        for key, one in store.tensors(name).items():
            array = store.tensor(name, key)
            if one.dtype in kinds:
                read += 1
                assert (array.dtype, array.shape) == (kinds[one.dtype], tuple(told[key]["shape"]))
    assert read > 30
    same = store.diff("types-raw.onnx", "types-typed.onnx")
    raw, typed = set(store.tensors("types-raw.onnx")), set(store.tensors("types-typed.onnx"))
    assert {one.name_a for one in same.tensors if one.status.value == "same"} == raw & typed


def test_hart_reads_them(filled, tmp_path, capsys):
    def hart(*words):
        code = main(["--store", str(tmp_path / "store"), *words])
        return code, capsys.readouterr().out

    for name in ("c.npz", "s.npz"):
        assert "2.5" in hart("cat", name, "scalar")[1]
    assert hart("cat", "c.npz", "weight") == hart("cat", "s.npz", "weight")
    assert "turned" in hart("show", "--tensors", "c.npz")[1]
    assert hart("diff", "--exit-code", "c.npz", "s.npz")[0] in (0, 5)
    assert hart("explain", "c.npz", "weight")[0] == 0


# -- an ONNX model with its weights beside it


@pytest.mark.parametrize("as_folder", [True, False])
def test_external_data_are_tensors_of_the_model(store, tmp_path, as_folder):
    expected = json.loads((FIXTURES / "onnx" / "expected.json").read_text())["external/model.onnx"]
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("model.onnx", "model.onnx.data"):
        (folder / name).write_bytes((FIXTURES / "onnx" / "external" / name).read_bytes())
    if as_folder:
        (folder / "config.json").write_text("{}")
    (added,) = store.add(folder if as_folder else folder / "model.onnx").artifacts
    found = store.tensors(added.name)
    assert {key: (one.dtype, list(one.shape), one.member) for key, one in found.items()} == {
        key: (one["dtype"], one["shape"], "model.onnx.data") for key, one in expected.items()
    }
    assert store.show(added.name).model["parameter_count"] == 8 * 32 + 32 * 16 + 16
    assert store.show(added.name).model["formats"] == ["onnx"]
    place = folder if as_folder else folder / "model.onnx"
    assert set(statuses(store.diff(added.name, place)).values()) == {"same"}
    store.add(FIXTURES / "onnx" / "network.onnx", name="inside")
    compared = store.diff(added.name, "inside")
    assert set(statuses(compared).values()) == {"same"}
    store.get(added.name, tmp_path / "out")
    for name in (one.name for one in folder.iterdir()):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()


# -- decoding by range


class Coded:
    """The middle of a file as varints, read through ``CodedBytes``; counts what is read."""

    def __init__(self, values):
        self.content = b"before" + b"".join(map(ow.varint, values)) + b"behind"
        self.plain = np.array(values, np.int64).tobytes()
        self.read_bytes = 0
        coding = Coding(method=VARINT, length=len(self.plain))
        length = len(self.content) - 12
        self.reader = CodedBytes(self.view, 6, length, coding=coding, dtype="I64")

    def view(self, offset, length):
        self.read_bytes += length
        return self.content[offset : offset + length]


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40),
    st.lists(st.tuples(st.integers(0, 320), st.integers(0, 320)), max_size=8),
)
def test_any_range_in_any_order(values, ranges):
    coded = Coded(values)
    for first, second in ranges:
        start, stop = sorted((min(first, len(coded.plain)), min(second, len(coded.plain))))
        assert coded.reader.read(start, stop - start) == coded.plain[start:stop]


def test_ranges_that_follow_one_another_decode_once():
    coded = Coded(range(-200_000, 200_000))
    step = 4096
    parts = [
        bytes(coded.reader.read(at, min(step, len(coded.plain) - at)))
        for at in range(0, len(coded.plain), step)
    ]
    assert b"".join(parts) == coded.plain
    assert coded.read_bytes == len(coded.content) - 12
    coded.reader.read(0, 8)
    assert coded.read_bytes > len(coded.content)


@pytest.mark.parametrize("step", [1 << 20, 1])
def test_what_is_inflated_last_comes_though_no_input_is_left(step):
    for extra in range(0, 1600, 7):
        length = PIECE_BYTES + extra
        machine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        coded = machine.compress(bytes(length)) + machine.flush()
        chunks = [coded[at : at + step] for at in range(0, len(coded), step)]
        pieces = list(decoded(chunks, Coding(method=DEFLATE, length=length), "U8"))
        assert sum(map(len, pieces)) == length
        assert max(map(len, pieces)) <= PIECE_BYTES


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1), st.integers(1, 7))
def test_varints_cut_anywhere(values, step):
    content = b"".join(map(ow.varint, values))
    chunks = [content[at : at + step] for at in range(0, len(content), step)]
    for dtype, width in (("U64", 8), ("I32", 4), ("F16", 2), ("I8", 1), ("U4", 1)):
        coding = Coding(method=VARINT, length=width * len(values))
        held = b"".join(decoded(chunks, coding, dtype))
        mask = (1 << 8 * width) - 1
        assert held == b"".join((value & mask).to_bytes(width, "little") for value in values)
    held = b"".join(decoded(chunks, Coding(method=VARINT, length=len(values)), "BOOL"))
    assert held == bytes(value != 0 for value in values)


def test_decoding_takes_little_memory():
    values = ow.varint(2**40) * 1_000_000
    coding = Coding(method=VARINT, length=8_000_000)
    sum(map(len, decoded([values[:6000]], Coding(method=VARINT, length=8 * 1000), "I64")), 0)
    tracemalloc.start()
    try:
        total = sum(len(one) for one in decoded([values], coding, "I64"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 8_000_000
    assert peak < 16 << 20
