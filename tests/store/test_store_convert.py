"""``hart get --as safetensors``: bits of tensors that are kept, and what cannot be is said."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch_writer
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from hartonomous.core.array import numpy_dtype
from hartonomous.errors import ConflictError, IntegrityError, UsageError
from hartonomous.packs.converted_file import LeftOut, told_together

FIXTURES = Path(__file__).parents[1] / "fixtures"
TORCH = json.loads((FIXTURES / "torch" / "expected.json").read_text())


def metadata_of(path):
    with safe_open(path, "np") as file:
        return file.metadata() or {}


@pytest.mark.parametrize("name", sorted(TORCH))
def test_checkpoints_of_pytorch_keep_their_bits(store, tmp_path, name):
    store.add(FIXTURES / "torch" / name, name="model")
    stored = store.tensors("model")
    if not stored:
        with pytest.raises(UsageError):
            store.convert("model", tmp_path / "out.safetensors")
        return
    target = tmp_path / "out.safetensors"
    report = store.convert("model", target, partial=True)
    left = {one.name for one in report.left_out if one.kind == "tensor"}
    with safe_open(target, "np") as file:
        assert set(file.keys()) == stored.keys() - left
    store.add(target, name="converted")
    for one in stored.keys() - left:
        a, b = store.tensor("model", one), store.tensor("converted", one)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), one
    for one in left:
        assert stored[one].dtype == "C128" or numpy_dtype(stored[one].dtype) is None, one
    assert report.files[0].digest == store.show("converted").files[0].digest


def view(offset, shape, strides, key="0"):
    return torch_writer.Tensor(key, "F32", 200 * 300, offset, shape, strides)


def checkpoint():
    """A checkpoint with a tied weight, a transpose, a slice, plain values."""
    values = np.random.default_rng(3).standard_normal((200, 300), dtype=np.float32)
    content = torch_writer.archive(
        {
            "w": view(0, (200, 300), (300, 1)),
            "tied": view(0, (200, 300), (300, 1)),
            "turned": view(0, (300, 200), (1, 300)),
            "sliced": view(10, (200, 50), (300, 1)),
            "epoch": 7,
            "name": "run",
        },
        {"0": values.tobytes()},
    )
    return values, content


def test_views_are_put_in_order_and_tied_weights_written_twice(store, source, tmp_path):
    values, content = checkpoint()
    store.add(source("model.pt", content), name="model")
    report = store.convert("model", tmp_path)
    assert [Path(one.path).name for one in report.files] == ["model.safetensors"]
    assert report.left_out == ()
    found = load_file(tmp_path / "model.safetensors")
    assert np.array_equal(found["w"], values)
    assert np.array_equal(found["tied"], values)
    assert np.array_equal(found["turned"], values.T)
    assert np.array_equal(found["sliced"], values[:, 10:60])
    assert metadata_of(tmp_path / "model.safetensors") == {
        "format": "pt", "epoch": "7", "name": "run",
    }  # fmt: skip


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(500, 300), (7,), (), (3, 0), (20, 30, 40)])
def test_arrays(store, tmp_path, order, shape):
    array = np.asarray(np.random.default_rng(1).standard_normal(shape), order=order)
    np.save(tmp_path / "array.npy", array)
    store.add(tmp_path / "array.npy", name="array")
    store.convert("array", tmp_path / "out.safetensors")
    assert np.array_equal(load_file(tmp_path / "out.safetensors")["array"], array)


@pytest.fixture
def mixed(store, tmp_path):
    """A GGUF of float tensors and a quantised one, with metadata."""
    path = tmp_path / "mixed.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("mixed")
    plain = np.random.default_rng(2).standard_normal((64, 96), dtype=np.float32)
    writer.add_tensor("f32", plain)
    writer.add_tensor("f16", plain.astype(np.float16))
    blocks = gguf.quants.quantize(plain, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("q8", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    store.add(path, name="mixed")
    return plain


def test_quantised_blocks_are_refused_and_nothing_is_written(store, mixed, tmp_path):
    target = tmp_path / "out.safetensors"
    with pytest.raises(UsageError, match="q8: safetensors has no element type Q8_0"):
        store.convert("mixed", target)
    assert not target.exists()
    report = store.convert("mixed", target, partial=True)
    assert [(one.kind, one.name) for one in report.left_out] == [("tensor", "q8")]
    found = load_file(target)
    assert found.keys() == {"f32", "f16"}
    assert np.array_equal(found["f32"], mixed)
    told = metadata_of(target)
    assert (told["general.name"], told["general.architecture"]) == ("mixed", "llama")


def test_values_that_are_kept_in_part_are_left_out_by_name(store, tmp_path):
    held = {
        "w": torch_writer.Tensor("0", "F32", 3, 0, (3,), (1,)),
        "epoch": 3, "short": [1, 2], "note": "text", "long": list(range(100)), "text": "x" * 5000,
        "large": 10**40, "made": torch_writer.Called(
            torch_writer.Name("_codecs", "encode"), ("\x01", "latin1")),
        "mixed": [1, torch_writer.Called(torch_writer.Name("_codecs", "encode"), ("a", "latin1"))],
    }  # fmt: skip
    source = tmp_path / "values.pt"
    source.write_bytes(torch_writer.archive(held, {"0": bytes(12)}))
    store.add(source)
    with pytest.raises(UsageError, match="kind and extent alone"):
        store.convert("values.pt", tmp_path / "out.safetensors")
    report = store.convert("values.pt", tmp_path / "out.safetensors", partial=True)
    names = sorted(one.name for one in report.left_out if one.kind == "value")
    assert names == ["large", "long", "made", "mixed", "text"]
    told = metadata_of(tmp_path / "out.safetensors")
    assert (told["epoch"], told["short"], told["note"]) == ("3", "[1,2]", "text")
    assert not told.keys() & set(names)


def test_long_lists_and_texts_of_a_gguf_are_left_out_by_name(store, tmp_path):
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list([f"token {number}" for number in range(100)])
    writer.add_token_types([1] * 100)
    writer.add_array("short", [1, 2, 3])
    writer.add_string("long", "x" * 5000)
    writer.add_tensor("a", np.arange(12, dtype=np.float32).reshape(3, 4))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    store.add(path)
    out = tmp_path / "out.safetensors"
    with pytest.raises(UsageError, match=r"tokenizer\.ggml\.tokens.*the beginning alone"):
        store.convert("m.gguf", out)
    assert not out.exists()
    done = store.convert("m.gguf", out, partial=True)
    left = {"tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "long"}
    assert {one.name for one in done.left_out} == left
    with safe_open(out, "np") as file:
        assert file.metadata() == {"general.architecture": "llama", "short": "[1,2,3]"}
        assert np.array_equal(file.get_tensor("a"), np.arange(12).reshape(3, 4))


def test_a_folder_keeps_its_other_files(store, tmp_path):
    _, content = checkpoint()
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "pytorch_model.bin").write_bytes(content)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    save_file({"x": np.ones(30)}, folder / "sub" / "extra.safetensors")
    store.add(folder, name="model")
    report = store.convert("model", tmp_path / "out")
    assert {one.source: one.converted for one in report.files} == {
        "config.json": False, "pytorch_model.bin": True, "sub/extra.safetensors": False,
    }  # fmt: skip
    for same in ("config.json", "sub/extra.safetensors"):
        assert (tmp_path / "out" / same).read_bytes() == (folder / same).read_bytes()
    assert "turned" in load_file(tmp_path / "out" / "pytorch_model.safetensors")
    again = store.convert("model", tmp_path / "out")
    assert all(one.kept for one in again.files)
    assert [one.digest for one in again.files] == [one.digest for one in report.files]


def test_what_is_in_the_way_is_kept(store, source, tmp_path):
    _, content = checkpoint()
    store.add(source("model.pt", content), name="model")
    target = tmp_path / "out.safetensors"
    target.write_bytes(b"mine")
    with pytest.raises(ConflictError, match="something else"):
        store.convert("model", target)
    assert target.read_bytes() == b"mine"
    foreseen = store.convert("model", target, force=True, dry_run=True)
    assert target.read_bytes() == b"mine"
    done = store.convert("model", target, force=True)
    assert done.files[0].logical_bytes == foreseen.files[0].logical_bytes == target.stat().st_size
    assert foreseen.files[0].digest is None
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_two_files_of_one_name_are_refused(store, tmp_path):
    folder = tmp_path / "two"
    folder.mkdir()
    np.save(folder / "a.npy", np.ones(3))
    (folder / "a.pt").write_bytes(checkpoint()[1])
    (folder / "config.json").write_text("{}")
    store.add(folder, name="two")
    with pytest.raises(ConflictError, match=r"a\.safetensors"):
        store.convert("two", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_has_nothing_to_convert_is_refused(store, source, tmp_path):
    store.add(source("notes.txt", b"words"), name="notes")
    store.add_tensors({"w": np.ones(3)}, "plain")
    for name in ("notes", "plain"):
        with pytest.raises(UsageError, match="no tensors that would be converted"):
            store.convert(name, tmp_path / "out")


def test_what_would_take_too_much_memory_is_left_out(store, source, tmp_path):
    tensors = {
        "w": view(0, (200, 300), (300, 1)),
        "repeated": view(0, (100_000, 300), (0, 1)),
    }
    content = torch_writer.archive(tensors, {"0": bytes(200 * 300 * 4)})
    store.add(source("model.v1.0", content), name="model")
    with pytest.raises(UsageError, match=r"repeated: .* too often"):
        store.convert("model", tmp_path)
    report = store.convert("model", tmp_path, partial=True)
    assert report.output.endswith("model.v1.0.safetensors")
    assert list(load_file(report.output)) == ["w"]


def test_damage_is_told_and_no_file_gets_its_name(store, source, tmp_path):
    _, content = checkpoint()
    store.add(source("model.pt", content), name="model")
    for pack in store.path.glob("packs/*/*.pack"):
        pack.chmod(0o600)
        changed = bytearray(pack.read_bytes())
        for at in range(4096, 60_000, 97):
            changed[at] ^= 0xFF
        pack.write_bytes(changed)
    with pytest.raises(IntegrityError):
        store.convert("model", tmp_path / "out.safetensors")
    assert [path for path in tmp_path.iterdir() if "safetensors" in path.name] == []


def test_reasons_that_are_the_same_are_told_once():
    left = [
        LeftOut(file="a.gguf", kind="tensor", name=name, reason="no type Q4_K") for name in "vwxyz"
    ]
    left.insert(2, LeftOut(file="a.gguf", kind="tensor", name="h", reason="no type Q6_K"))
    assert told_together(left) == [
        "a.gguf: v, w, x and 2 more: no type Q4_K",
        "a.gguf: h: no type Q6_K",
    ]
