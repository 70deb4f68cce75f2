"""The demo's family, made from a tiny base: every file is read by the format's own library."""

import hashlib
import json

import gguf
import ml_dtypes
import numpy as np
import pytest
import safetensors
from gguf.quants import dequantize, quantize
from safetensors.numpy import load_file, save_file
from tiny_base import HIDDEN, LAYERS, WORDS, write_base

from hartonomous.core.canonical_name import canonical_name
from hartonomous.errors import ConflictError, NotFoundError, StructureError
from hartonomous.operations.demo_family import GGUF_FILE, SHARD_COUNT, make_family

TRAINED = {f"encoder.layer.{LAYERS - 1}.output.dense.{kind}" for kind in ("weight", "bias")}


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo")
    base = write_base(root / "source")
    entries = make_family(base, root / "family")
    return {entry.path.name: entry for entry in entries}


@pytest.fixture(scope="module")
def base(family):
    return load_file(family["base"].path / "model.safetensors")


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_members_are_told_and_exist(family):
    assert list(family) == ["base", "bf16", "f16", "renamed", "sharded", GGUF_FILE, "tuned"]
    assert all(entry.path.exists() and entry.what and entry.why for entry in family.values())


def test_base_is_an_exact_copy(family):
    folder = family["base"].path
    assert contents(folder) == contents(folder.parent.parent / "source")


@pytest.mark.parametrize(
    ("name", "kind", "torch_name"),
    [("bf16", ml_dtypes.bfloat16, "bfloat16"), ("f16", np.float16, "float16")],
)
def test_casts_are_roundings_of_the_base(family, base, name, kind, torch_name):
    folder = family[name].path
    cast = load_file(folder / "model.safetensors")
    assert cast.keys() == base.keys()
    for key, values in base.items():
        expected = values.astype(kind) if values.dtype == np.float32 else values
        assert cast[key].dtype == expected.dtype
        assert cast[key].tobytes() == expected.tobytes()
    config = json.loads((folder / "config.json").read_text())
    assert config["torch_dtype"] == torch_name
    assert config["hidden_size"] == HIDDEN
    assert (folder / "1_Pooling" / "config.json").is_file()


def test_files_equal_those_of_the_library(family, tmp_path):
    for name in ("bf16", "renamed", "tuned"):
        path = family[name].path / "model.safetensors"
        save_file(load_file(path), tmp_path / name, {"format": "pt"})
        assert path.read_bytes() == (tmp_path / name).read_bytes()


def test_renamed_holds_the_same_bytes(family, base):
    renamed = load_file(family["renamed"].path / "model.safetensors")
    assert renamed.keys() == {f"bert.{name}" for name in base}
    for name, values in base.items():
        assert renamed[f"bert.{name}"].tobytes() == values.tobytes()


def test_shards_and_their_index(family, base):
    folder = family["sharded"].path
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    shards = sorted(path.name for path in folder.glob("*.safetensors"))
    assert shards == [f"model-0000{n}-of-00003.safetensors" for n in range(1, SHARD_COUNT + 1)]
    assert index["weight_map"].keys() == base.keys()
    assert index["metadata"]["total_size"] == sum(values.nbytes for values in base.values())
    found = {}
    for shard in shards:
        with safetensors.safe_open(folder / shard, framework="np") as opened:
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                assert index["weight_map"][name] == shard
                found[name] = opened.get_tensor(name)
    assert {name: values.tobytes() for name, values in found.items()} == {
        name: values.tobytes() for name, values in base.items()
    }


def test_only_the_trained_layer_changed_and_a_little(family, base):
    tuned = load_file(family["tuned"].path / "model.safetensors")
    changed = {name for name in base if tuned[name].tobytes() != base[name].tobytes()}
    assert changed == TRAINED
    for name in TRAINED:
        step = np.abs(tuned[name] - base[name])
        assert (step > 0).mean() > 0.95
        assert step.max() < 2e-3


def test_gguf_is_a_quantised_copy(family, base):
    reader = gguf.GGUFReader(family[GGUF_FILE].path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    expected = {
        canonical_name(name): values
        for name, values in base.items()
        if "position_ids" not in name and not name.startswith("pooler.")
    }
    assert tensors.keys() == expected.keys()
    kinds = {tensor.tensor_type.name for tensor in reader.tensors}
    assert kinds == {"Q8_0", "F32"}
    for name, values in expected.items():
        tensor = tensors[name]
        assert tuple(map(int, tensor.shape[::-1])) == values.shape
        quantised = values.ndim == 2 and name not in ("position_embd.weight", "token_types.weight")
        assert (tensor.tensor_type.name == "Q8_0") == quantised
        if quantised:
            theirs = quantize(values, gguf.GGMLQuantizationType.Q8_0)
            assert tensor.data.tobytes() == theirs.tobytes()
            back = dequantize(tensor.data, tensor.tensor_type)
            assert np.abs(back - values).max() <= np.abs(values).max() / 127
        else:
            assert tensor.data.tobytes() == values.tobytes()


def test_gguf_metadata_is_that_of_a_bert(family):
    reader = gguf.GGUFReader(family[GGUF_FILE].path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.architecture"] == "bert"
    assert fields["bert.block_count"] == LAYERS
    assert fields["bert.attention.head_count"] == 4
    assert fields["bert.attention.causal"] is False
    assert fields["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0
    assert fields["bert.pooling_type"] == gguf.PoolingType.MEAN
    tokens = fields[gguf.Keys.Tokenizer.LIST]
    assert len(tokens) == WORDS
    assert tokens[4:8] == ["[MASK]", "ing", "\u2581été", "\u2581w0"]
    assert fields[gguf.Keys.Tokenizer.TOKEN_TYPE][3:6] == [
        gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, gguf.TokenType.NORMAL,
    ]  # fmt: skip
    assert fields[gguf.Keys.Tokenizer.SEP_ID] == 3
    assert fields[gguf.Keys.Tokenizer.BOS_ID] == 2


def test_the_same_seed_gives_the_same_files(family, tmp_path):
    source = family["base"].path
    make_family(source, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(source.parent)
    make_family(source, tmp_path / "other", seed=1)
    different = {
        name
        for name, content in contents(tmp_path / "other").items()
        if content != (source.parent / name).read_bytes()
    }
    assert different == {"tuned/model.safetensors"}


def test_nothing_is_overwritten(family):
    with pytest.raises(ConflictError, match="already has base"):
        make_family(family["base"].path, family["base"].path.parent)


def test_a_base_that_is_none_is_refused(family, tmp_path):
    with pytest.raises(NotFoundError, match="missing"):
        make_family(tmp_path, tmp_path / "out")
    (tmp_path / "config.json").write_text("{}")
    weights = tmp_path / "model.safetensors"
    content = (family["base"].path / "model.safetensors").read_bytes()
    for broken in (content[:-1], b"", content[:100], b"\xff" * 16, b"\x02" + bytes(7) + b"[]"):
        weights.write_bytes(broken)
        with pytest.raises(StructureError):
            make_family(tmp_path, tmp_path / "out")
    weights.write_bytes(content)
    with pytest.raises(StructureError, match="num_hidden_layers"):
        make_family(tmp_path, tmp_path / "out")


def test_training_brings_the_layer_nearer_to_its_teacher():
    from hartonomous.core import training

    random = np.random.default_rng(0)
    weight = (random.standard_normal((32, 64)) * 0.05).astype(np.float32)
    bias = np.zeros(32, np.float32)
    plan = training.TrainingPlan(steps=200, learning_rate=1e-4)
    teacher, _ = training._teacher(
        weight.astype(np.float64), bias.astype(np.float64), plan, np.random.default_rng(plan.seed)
    )
    tuned, _ = training.tune_linear(weight, bias, plan)
    assert np.linalg.norm(tuned - teacher) < 0.9 * np.linalg.norm(weight - teacher)


def test_digest_of_the_base_is_kept(family):
    source = family["base"].path.parent.parent / "source" / "model.safetensors"
    copy = family["base"].path / "model.safetensors"
    assert (
        hashlib.sha256(source.read_bytes()).digest() == hashlib.sha256(copy.read_bytes()).digest()
    )
