"""Folders made to harm, or only wrong: refused by name, and the store goes on."""

import json
import os
import shutil
import struct
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hartonomous.core.space import Space
from hartonomous.errors import HartonomousError, UsageError
from hartonomous.inference.recipe import TextRecipe
from hartonomous.packs import encoded_parts
from hartonomous.packs.encoded_parts import EncodedParts
from hartonomous.packs.encoder_messages import Request, Setup
from hartonomous.packs.encoder_process import EncoderProcess
from hartonomous.packs.stored_encoder import StoredEncoder
from hartonomous.ports.encoder import EncoderEndedError
from hartonomous.ports.progress import NoProgress


@pytest.fixture
def folder(fixtures, tmp_path):
    """Copy a tiny encoder so that it can be changed."""

    def copy(name):
        return shutil.copytree(fixtures / name, tmp_path / "changed")

    return copy


def change(path, **values):
    told = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(told | values), encoding="utf-8")


def refused(store, place, match):
    with pytest.raises(HartonomousError, match=match) as found:
        store.encoders.add(place, name="changed")
    assert len(found.value.message) < 1000
    assert store.encoders.ls() == ()


@pytest.mark.parametrize(
    ("file", "values", "match"),
    [
        ("config.json", {"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ("config.json", {"hidden_size": -1}, "hidden_size"),
        ("config.json", {"num_attention_heads": 5}, "do not fit each other"),
        ("config.json", {"vocab_size": True}, "vocab_size"),
        ("config.json", {"vocab_size": 161}, "word_embeddings.weight has the shape"),
        ("config.json", {"num_hidden_layers": 3}, "layer.2.*is missing"),
        ("config.json", {"hidden_act": "x" * 10_000}, "activation"),
        ("config.json", {"model_type": ["bert"]}, "no graph is built for models of type"),
        ("config.json", {"position_embedding_type": "relative_key"}, "relative"),
        ("config.json", {"layer_norm_eps": "much"}, "layer_norm_eps"),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": False}, "names no mode"),
        ("1_Pooling/config.json", {"word_embedding_dimension": 7}, "7, and the model has 32"),
        ("1_Pooling/config.json", {"word_embedding_dimension": "x"}, "'x', and the model has 32"),
        ("tokenizer.json", {"model": {"type": "Unheard"}}, "tokenizer cannot be read"),
    ],
)
def test_settings_that_do_not_fit(store, folder, file, values, match):
    place = folder("bert")
    change(place / file, **values)
    refused(store, place, match)


@pytest.mark.parametrize(
    ("file", "content", "match"),
    [
        ("config.json", "{", "no JSON"),
        ("config.json", "[" * 100_000, "no JSON"),
        ("config.json", "[]", "no JSON object"),
        ("modules.json", "{}", "has no|no list of modules|tokenizer|model"),
        ("modules.json", "[1]", "no list of modules"),
        ("modules.json", '[{"type": "x.LSTM", "path": "2_LSTM"}]', "'LSTM', which is not known"),
        ("modules.json", '[{"type": "x.Dense", "path": "2_Dense"}]', "no file 2_Dense/config.json"),
        (
            "modules.json",
            '[{"type": "x.Normalize", "path": ""}, {"type": "x.Dense", "path": "2_Dense"}]',
            "Dense behind Normalize",
        ),
        ("modules.json", '[{"type": "x.Pooling", "path": "../../etc"}]', "no file ../../etc"),
        ("tokenizer.json", "{}", "tokenizer cannot be read"),
        (
            "modules.json",
            json.dumps([{"type": "Transformer", "path": "x" * 100_000}]),
            "no list of modules",
        ),
        (
            "config_sentence_transformers.json",
            '{"prompts": {"query": "\\ud800"}}',
            "no short text",
        ),
    ],
)
def test_files_that_are_something_else(store, folder, file, content, match):
    place = folder("bert")
    (place / file).write_text(content, encoding="utf-8")
    if file == "modules.json" and content == "{}":
        # Nothing is said: it is a plain folder of Hugging Face.
        assert store.encoders.add(place, name="changed").pooling == "mean"
        return
    refused(store, place, match)


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"in_features": 1 << 20, "out_features": 1 << 20}, "sizes that fit no layer"),
        ({"in_features": -32, "out_features": 48}, "sizes that fit no layer"),
        ({"in_features": "32"}, "sizes that fit no layer"),
        ({"in_features": "x" * 100_000}, "sizes that fit no layer"),
        ({"out_features": 47}, "sizes that fit no layer"),
        ({"activation_function": "os.system"}, "activation 'os.system'"),
        ({"module_input_name": "token_embeddings"}, "other inputs"),
        ({"in_features": 31}, r"no tensor linear.weight of shape \[48, 31\]"),
    ],
)
def test_dense_layers_that_do_not_fit(store, folder, fixtures, said, match):
    place = folder("bert")
    shutil.copytree(fixtures / "dense", place, dirs_exist_ok=True)
    change(place / "2_Dense/config.json", **said)
    refused(store, place, match)


def test_dense_layers_that_do_not_fit_the_model_or_each_other(store, folder, fixtures):
    place = folder("bert")
    shutil.copytree(fixtures / "dense", place, dirs_exist_ok=True)
    steps = json.loads((place / "modules.json").read_text())
    change(place / "1_Pooling/config.json", pooling_mode_max_tokens=True)
    refused(store, place, "takes vectors of 32 numbers, and the pooling gives 64")
    (place / "modules.json").write_text(json.dumps(steps[:2] + steps[3:]))
    refused(store, place, "takes vectors of 48 numbers, and the pooling gives 64")
    (place / "modules.json").write_text(json.dumps([*steps[:3], steps[2]]))
    refused(store, place, "sizes that fit no layer")
    (place / "3_Dense/model.safetensors").unlink()
    (place / "modules.json").write_text(json.dumps(steps))
    refused(store, place, "3_Dense has no file of weights")


def test_a_folder_without_a_model_stores_nothing(store, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(store, tmp_path / "empty", "has no model that computes")
    assert list(store.ls()) == []
    refused(store, tmp_path / "not-there", "not-there")


def test_weights_of_no_finite_number(store, folder):
    place = folder("bert")
    path = place / "model.safetensors"
    content = bytearray(path.read_bytes())
    start = 8 + struct.unpack("<Q", content[:8])[0]
    content[start:] = np.full((len(content) - start) // 4, np.nan, np.float32).tobytes()
    path.write_bytes(content)
    refused(store, place, "no finite numbers")


def test_weights_that_are_all_zero(store, folder):
    place = folder("bert")
    path = place / "model.safetensors"
    content = bytearray(path.read_bytes())
    start = 8 + struct.unpack("<Q", content[:8])[0]
    content[start:] = bytes(len(content) - start)
    path.write_bytes(content)
    refused(store, place, "length 0")


# -- graphs


def graph(path, nodes, *, inputs=None, outputs=None, weights=(), opsets=()):
    tokens = [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "t"])
              for name in ("input_ids", "attention_mask")]  # fmt: skip
    made = helper.make_graph(
        nodes, "g", tokens if inputs is None else inputs,
        outputs or [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT,
                                                  ["b", "t", 4])],
        list(weights),
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17), *opsets])
    model.ir_version = 8
    path.write_bytes(model.SerializeToString())


def cast_and_widen(*, width):
    """token ids as float, repeated ``width`` times behind each token."""
    return [
        helper.make_node("Cast", ["input_ids"], ["f"], to=1),
        helper.make_node("Unsqueeze", ["f", "axis"], ["u"]),
        helper.make_node("Expand", ["u", "shape"], ["last_hidden_state"]),
    ], [
        numpy_helper.from_array(np.array([2], np.int64), "axis"),
        numpy_helper.from_array(np.array([1, 1, width], np.int64), "shape"),
    ]  # fmt: skip


def test_weights_beside_the_graph_are_refused(store, folder):
    place = folder("graph")
    path = place / "onnx/model.onnx"
    model = onnx.load(path)
    for one in model.graph.initializer:
        one.data_location = TensorProto.EXTERNAL
        one.ClearField("raw_data")
        for key, value in {"location": "../../../../etc/passwd", "offset": "0"}.items():
            entry = one.external_data.add()
            entry.key, entry.value = key, value
    path.write_bytes(model.SerializeToString())
    refused(store, place, "weights in files beside it")


def test_operators_of_somebodys_own_are_refused(store, folder):
    place = folder("graph")
    graph(
        place / "onnx/model.onnx",
        [helper.make_node("Anything", ["input_ids"], ["last_hidden_state"], domain="evil.org")],
        opsets=[helper.make_opsetid("evil.org", 1)],
    )
    refused(store, place, "operators of 'evil.org'")


def test_a_graph_that_is_none(store, folder):
    place = folder("graph")
    (place / "onnx/model.onnx").write_bytes(b"\xff" * 1000)
    refused(store, place, "no ONNX model")


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.STRING])
def test_a_graph_whose_output_is_no_vector(store, folder, kind):
    place = folder("graph")
    held = helper.make_tensor("held", kind, [1, 1, 1], [b"x" if kind == TensorProto.STRING else 1])
    graph(
        place / "onnx/model.onnx",
        [helper.make_node("Identity", ["held"], ["vectors"])],
        outputs=[helper.make_tensor_value_info("vectors", kind, [1, 1, 1])],
        weights=[held],
    )
    refused(store, place, r"output vectors is tensor\((int64|string)\), and vectors")


def no_words(told):
    told["model"]["vocab"] = {}


def unknown_token(told):
    told["post_processor"] = {
        "type": "TemplateProcessing", "pair": [], "special_tokens": {},
        "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                   {"Sequence": {"id": "A", "type_id": 7}}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "words"), [(no_words, r"Missing \[UNK\]"), (unknown_token, "no entry|[Tt]emplate")]
)
def test_a_tokenizer_that_fails_is_told_as_one(store, folder, spoil, words):
    place = folder("bert")
    told = json.loads((place / "tokenizer.json").read_text(encoding="utf-8"))
    spoil(told)
    (place / "tokenizer.json").write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(HartonomousError, match=f"^the tokenizer .*{words}") as found:
        store.encoders.add(place, name="changed")
    assert "tokenizer.json" in found.value.hint


def test_a_graph_that_wants_other_inputs(store, folder):
    place = folder("graph")
    graph(
        place / "onnx/model.onnx",
        [helper.make_node("Identity", ["audio"], ["last_hidden_state"])],
        inputs=[helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["b", "t", 4])],
    )
    refused(store, place, "the graph takes audio")


def test_a_graph_of_huge_shapes_meets_the_limit_of_memory(store, folder):
    place = folder("graph")
    nodes, weights = cast_and_widen(width=1 << 34)
    graph(place / "onnx/model.onnx", nodes, weights=weights)
    refused(store, place, "does not run|memory|crashed")


def test_a_graph_that_gives_equal_vectors(store, folder):
    place = folder("graph")
    nodes, weights = cast_and_widen(width=4)
    nodes = [helper.make_node("Mul", ["input_ids", "zero"], ["z"]),
             helper.make_node("Add", ["z", "one"], ["ones"]),
             *[helper.make_node("Cast", ["ones"], ["f"], to=1), *nodes[1:]]]  # fmt: skip
    weights += [numpy_helper.from_array(np.array(number, np.int64), name)
                for number, name in ((0, "zero"), (1, "one"))]  # fmt: skip
    graph(place / "onnx/model.onnx", nodes, weights=weights)
    refused(store, place, "same vector for different texts")


def test_a_graph_that_computes_at_random(store, folder):
    """One number is drawn for a batch, so that equal texts in it get equal vectors."""
    place = folder("graph")
    path = place / "onnx/model.onnx"
    weights = {"two": np.array([2]), "scale": np.array([[[1, 2, 3, 5]]], np.float32)}
    graph(
        path,
        [
            helper.make_node("Cast", ["input_ids"], ["f"], to=1),
            helper.make_node("Unsqueeze", ["f", "two"], ["u"]),
            helper.make_node("Mul", ["u", "scale"], ["m"]),
            helper.make_node("Sin", ["m"], ["waves"]),
            helper.make_node("RandomNormal", [], ["chance"], shape=[1, 1, 4], dtype=1),
            helper.make_node("Add", ["waves", "chance"], ["last_hidden_state"]),
        ],
        weights=[numpy_helper.from_array(one, name) for name, one in weights.items()],
    )
    refused(store, place, "different vectors for the same texts")


def test_a_graph_that_does_not_end_meets_the_limit_of_time(fixtures, tmp_path):
    """A loop of 2^62 steps."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["still"]),
         helper.make_node("Mul", ["x", "x"], ["y"])],
        "body",
        [helper.make_tensor_value_info("n", TensorProto.INT64, []),
         helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("still", TensorProto.BOOL, []),
         helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )  # fmt: skip
    nodes, weights = cast_and_widen(width=4)
    nodes[-1].output[0] = "wide"
    nodes.append(helper.make_node("Loop", ["most", "", "wide"], ["last_hidden_state"], body=body))
    weights.append(numpy_helper.from_array(np.array(2**62, np.int64), "most"))
    path = tmp_path / "loop.onnx"
    graph(path, nodes, weights=weights)
    setup = Setup(
        graph_fd=-1, threads=1, memory_bytes=0, cpu_s=0, text=TextRecipe(max_tokens=8),
        tokenizer=(fixtures / "bert/tokenizer.json").read_bytes(),
    )  # fmt: skip
    process = EncoderProcess(setup, lambda: path.open("rb"), limit_s=10)
    try:
        with pytest.raises(HartonomousError, match=r"processor time|longer than 10 s"):
            process.encode(Request(texts=("a",)))
    finally:
        process.close()


def failing_graph(path, token, value):
    """Write a graph that gives ``value`` for texts with a token, and waves for others."""
    weights = {"two": np.array([2]), "scale": np.array([[[1, 2, 3, 5]]], np.float32),
               "token": np.array(token), "value": np.array(value, np.float32)}  # fmt: skip
    graph(
        path,
        [
            helper.make_node("Cast", ["input_ids"], ["f"], to=1),
            helper.make_node("Unsqueeze", ["f", "two"], ["u"]),
            helper.make_node("Mul", ["u", "scale"], ["m"]),
            helper.make_node("Sin", ["m"], ["waves"]),
            helper.make_node("Equal", ["input_ids", "token"], ["is"]),
            helper.make_node("Unsqueeze", ["is", "two"], ["there"]),
            helper.make_node("Where", ["there", "value", "waves"], ["last_hidden_state"]),
        ],
        weights=[numpy_helper.from_array(one, name) for name, one in weights.items()],
    )


class Notes(NoProgress):
    def __init__(self):
        self.told = []

    def note(self, text):
        self.told.append(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_a_text_that_a_model_fails_on_costs_itself_alone(store, folder, tmp_path, value):
    place = folder("graph")
    words = json.loads((place / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    failing_graph(place / "onnx/model.onnx", words["water"], value)
    store.encoders.add(place, name="odd")
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(40):
        word = "water" if number in (7, 8) else "pump"
        (texts / f"{number}.md").write_text(f"the {word} is on {'b ' * number}\n")
    store.add(texts)
    for expected in (38, 0):
        notes = Notes()
        assert store.embed(encoder="odd", progress=notes).added_count == expected
        assert sorted(one.partition(":")[0] for one in notes.told) == ["7.md", "8.md"]
        assert all("get no vector" in one for one in notes.told)
    assert store.verify().sound


def with_texts(store, tmp_path, words):
    texts = tmp_path / "texts"
    texts.mkdir()
    for number, word in enumerate(words):
        (texts / f"{number}.md").write_text(f"the {word} is on {'b ' * number}\n")
    store.add(texts)


def test_a_text_at_which_the_process_crashes_costs_itself_alone(store, folder, tmp_path):
    place = folder("graph")
    path = place / "tokenizer.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    wide = [("water", "\ue000" * 100_000), ("\ue000", "x" * 100_000)]  # 10 GB
    steps = [{"type": "Replace", "pattern": {"String": one}, "content": to} for one, to in wide]
    told["normalizer"] = {"type": "Sequence", "normalizers": [told["normalizer"], *steps]}
    path.write_text(json.dumps(told), encoding="utf-8")
    store.encoders.add(place, name="odd")
    with_texts(store, tmp_path, ["pump", "water", "pump", "pump"])
    notes = Notes()
    assert store.embed(encoder="odd", progress=notes).added_count == 3
    (told,) = notes.told
    assert told.startswith("1.md: its characters 0 to ") and "get no vector: the encoder" in told


def ending(self, texts, *, query=False):
    """Encode as if the process ended at every text with a word."""
    if any("water" in one for one in texts):
        raise EncoderEndedError("the encoder took longer than 900 s")
    return np.ones((len(texts), 32), np.float32) / 32**0.5


def test_embedding_ends_where_too_many_texts_end_the_process(
    store, fixtures, tmp_path, monkeypatch
):
    store.encoders.add(fixtures / "bert", name="odd")
    monkeypatch.setattr(StoredEncoder, "encode_texts", ending)
    monkeypatch.setattr(encoded_parts, "_SEARCHED_S", -1.0)  # which is not for these
    with_texts(store, tmp_path, ["pump", *["water"] * 9])
    notes = Notes()
    with pytest.raises(
        EncoderEndedError, match=r"encoder odd ended 8 times, last at 8\.md"
    ) as found:
        store.embed(encoder="odd", progress=notes)
    assert found.value.hint
    assert len(notes.told) == 8
    assert len(store.spaces.truth("odd").ids()) == 1  # what it had computed


def test_an_encoder_that_fails_on_everything_fails(store):
    space = Space(modality="text", encoder="e", encoder_digest="", recipe="r", pooling="mean",
                  quantisation="f32", dimension=4)  # fmt: skip

    def encode(texts):
        raise HartonomousError(f"{len(texts)} texts are too many")

    with pytest.raises(HartonomousError, match=r"^1 texts"):
        EncodedParts(space, encode, "known").encoded(["a", "b"])


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"size": {"shortest_edge": 10**9}}, "unusable number"),
        ({"size": {"height": 10**6, "width": 10**6}}, "unusable number: 1000000"),
        ({"size": {"height": 0, "width": 0}}, "unusable number: 0"),
        ({"size": "x"}, "unusable number: 'x'"),
        ({"size": {"height": 64, "width": 64}}, "and crops to 32 x 32"),
        ({"crop_size": {"height": 0, "width": 32}}, "unusable number"),
        ({"image_mean": [1, 2]}, "three numbers"),
        ({"resample": 99}, "unusable number"),
        ({"do_center_crop": False}, "short side"),
        ({"image_std": [10**400, 1, 1]}, "three numbers"),
        ({"image_mean": [float("nan"), 1, 1]}, "three numbers"),
        ({"image_std": [0, 1, 1]}, "divides the colours by 0"),
    ],
)
def test_preparations_of_pictures_that_do_not_fit(store, folder, values, match):
    place = folder("clip")
    change(place / "preprocessor_config.json", **values)
    refused(store, place, match)


def test_int8_needs_a_graph_that_is(store, folder):
    with pytest.raises(UsageError, match="no graphs in int8"):
        store.encoders.add(folder("clip"), quantisation="int8")
    with pytest.raises(UsageError, match="'int4' is no quantisation"):
        store.encoders.add("x", quantisation="int4")


def test_modules_are_found_by_relative_paths_too(store, folder, monkeypatch):
    monkeypatch.setattr(sys, "path", [os.path.relpath(one) for one in sys.path if one])
    assert store.encoders.add(folder("graph"), name="here").name == "here"
