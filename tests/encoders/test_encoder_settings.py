"""What the files of a folder say: prompts, lengths, pooling, pictures, whichever layout."""

import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from hartonomous.errors import UsageError
from hartonomous.inference import tokens
from hartonomous.inference.encoder_files import read_preprocessing, read_recipe
from hartonomous.inference.picture_encoder import fitted
from hartonomous.inference.pooling import MODES, normalised, pool
from hartonomous.inference.tokens import from_vocabulary

BERT = {
    "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 24, "vocab_size": 50, "max_position_embeddings": 20,
}  # fmt: skip


class _Held:
    def __init__(self, content):
        self.content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.size = len(self.content)

    def read(self, offset, length):
        return self.content[offset : offset + length]


def folder(**files):
    plain = {"config.json": BERT, "model.safetensors": b"", "tokenizer.json": {}}
    return {path: _Held(content) for path, content in {**plain, **files}.items()}


def said(path, **values):
    return folder(**{path: values})


def test_lengths():
    def most(**files):
        return read_recipe(folder(**files), "f32").text.max_tokens

    assert most() == 20
    assert most(**{"tokenizer_config.json": {"model_max_length": 12}}) == 12
    assert most(**{"tokenizer_config.json": {"model_max_length": 1e30}}) == 20
    own = {"sentence_bert_config.json": {"max_seq_length": 16}}
    assert most(**own, **{"tokenizer_config.json": {"model_max_length": 12}}) == 16
    assert most(**{"sentence_bert_config.json": {"max_seq_length": 9999}}) == 20
    assert most(**{"sentence_bert_config.json": {"max_seq_length": None}}) == 20


def test_prompts():
    def prompts(**told):
        text = read_recipe(said("config_sentence_transformers.json", **told), "f32").text
        return text.query_prompt, text.passage_prompt

    assert prompts() == ("", "")
    assert prompts(prompts={"query": "q: ", "document": "d: "}) == ("q: ", "d: ")
    assert prompts(prompts={"query": "q: ", "s": "s: "}, default_prompt_name="s") == ("q: ", "s: ")
    assert prompts(prompts={"corpus": "c: "}) == ("", "c: ")
    for wrong in ({"query": 3}, {"passage": "x" * 5000}):
        with pytest.raises(UsageError, match="no short text"):
            prompts(prompts=wrong)


def test_metrics():
    def metric(name):
        return read_recipe(
            said("config_sentence_transformers.json", similarity_fn_name=name), "f32"
        ).metric

    assert [metric(one) for one in (None, "cosine", "dot", "dot_product", "euclidean")] == [
        "cosine", "cosine", "dot", "dot", "euclidean",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="'manhattan'"):
        metric("manhattan")


def test_what_computes_is_chosen():
    assert read_recipe(folder(), "f32").weights == ("model.safetensors",)
    shards = {f"model-0000{n}-of-00002.safetensors": b"" for n in (2, 1)}
    both = folder(**shards, **{"pytorch_model.bin": b"", "optimizer.bin": b""})
    del both["model.safetensors"]
    assert read_recipe(both, "f32").weights == tuple(sorted(shards))
    other = folder(**{"config.json": {"model_type": "t5"}, "onnx/model.onnx": b"x"})
    assert read_recipe(other, "f32").text_graph == "onnx/model.onnx"
    with pytest.raises(UsageError, match="'t5'"):
        read_recipe(other, "int8")
    other["onnx/model_quantized.onnx"] = _Held(b"x")
    assert read_recipe(other, "int8").text_graph == "onnx/model_quantized.onnx"


def test_what_siglip_fills_texts_up_with():
    """The tokenizer says it first: models of this type have different ones."""
    graphs = {"onnx/text_model.onnx": b"x", "onnx/vision_model.onnx": b"x"}
    seen = {"preprocessor_config.json": {"size": {"height": 8, "width": 8}}}

    def padding(kind="siglip", inner=None, **files):
        told = {"config.json": {"model_type": kind, "text_config": inner or {}}}
        return read_recipe(folder(**graphs, **seen, **told, **files), "f32").text.padding_id

    added = {"tokenizer.json": {"added_tokens": [{"id": 0, "content": "<pad>"}, 3]}}
    named = {"tokenizer_config.json": {"pad_token": {"content": "<pad>"}}}
    assert padding() == 1
    assert padding(inner={"pad_token_id": 5}) == 5
    assert padding(inner={"pad_token_id": 5}, **added, **named) == 0
    assert padding(**{"tokenizer_config.json": {"pad_token": "</s>"}}, **added) == 1
    assert padding("clip") == 0


def test_a_model_in_a_folder_of_its_own():
    steps = [{"type": "a.b.Transformer", "path": "0_Transformer"}]
    files = {f"0_Transformer/{path}": held for path, held in folder().items()}
    recipe = read_recipe({**files, "modules.json": _Held(steps)}, "f32")
    assert recipe.weights == ("0_Transformer/model.safetensors",)
    assert recipe.tokenizer == "0_Transformer/tokenizer.json"


def test_a_vocabulary_without_its_special_tokens():
    with pytest.raises(UsageError, match=r"no token '\[UNK\]'"):
        from_vocabulary(b"a\nb\n", {})


# -- pooling


@pytest.mark.parametrize("mode", MODES)
def test_padding_does_not_count(mode):
    random = np.random.default_rng(1)
    tokens = random.standard_normal((2, 5, 3)).astype(np.float32)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int64)
    other = tokens.copy()
    other[0, 3:] = 1e6
    assert np.allclose(pool(tokens, mask, [mode]), pool(other, mask, [mode]))
    assert np.allclose(pool(tokens[:1, :3], mask[:1, :3], [mode]), pool(tokens, mask, [mode])[:1])


def test_a_vector_of_length_zero_stays():
    found = normalised(np.array([[0, 0], [3, 4]], np.float32))
    assert np.allclose(found, [[0, 0], [0.6, 0.8]])


# -- pictures

SQUARE = {
    "do_center_crop": True,
    "size": {"shortest_edge": 8},
    "crop_size": {"height": 8, "width": 8},
}


def test_old_and_new_words_for_sizes():
    new = read_preprocessing(SQUARE)
    old = read_preprocessing({"do_center_crop": True, "size": 8, "crop_size": 8})
    assert (new.height, new.width, new.shortest_edge, new.crop) == (8, 8, 8, True)
    assert old == new
    siglip = read_preprocessing({"size": {"height": 6, "width": 7}, "do_normalize": False})
    assert (siglip.height, siglip.width, siglip.shortest_edge, siglip.crop) == (6, 7, None, False)
    assert siglip.deviation == (1.0, 1.0, 1.0)


def test_pictures_are_fitted_as_pillow_does():
    picture = np.random.default_rng(2).integers(0, 256, (20, 40, 3)).astype(np.uint8)
    resized = Image.fromarray(picture).resize((16, 8), Image.Resampling.BICUBIC)
    assert (fitted(picture, read_preprocessing(SQUARE)) == np.asarray(resized)[:, 4:12]).all()
    stretched = read_preprocessing({"size": {"height": 6, "width": 7}, "resample": 2})
    wanted = Image.fromarray(picture).resize((7, 6), Image.Resampling.BILINEAR)
    assert (fitted(picture, stretched) == np.asarray(wanted)).all()


def test_factors_that_are_no_numbers_count_as_missing():
    for factor in (10**400, float("inf"), float("nan"), True, "1"):
        assert read_preprocessing({**SQUARE, "rescale_factor": factor}).scale == 1 / 255


def test_a_long_picture_is_not_blown_up_before_it_is_cropped():
    recipe = read_preprocessing({**SQUARE, "size": {"shortest_edge": 4096}})
    picture = np.zeros((2, 400, 3), np.uint8)
    picture[:, 199:201] = 255
    tracemalloc.start()
    try:
        middle = fitted(picture, recipe)
        assert tracemalloc.get_traced_memory()[1] < 256 << 20
    finally:
        tracemalloc.stop()
    assert middle.shape == (8, 8, 3)
    assert (middle == 255).all()


def test_all_that_a_crop_shows_is_kept():
    random = np.random.default_rng(3)
    picture = random.integers(0, 256, (30, 3000, 3)).astype(np.uint8)
    recipe = read_preprocessing(
        {"do_center_crop": True, "size": {"shortest_edge": 60}, "crop_size": 60}
    )
    resized = Image.fromarray(picture[:, 540:2460]).resize((3840, 60), Image.Resampling.BICUBIC)
    assert (fitted(picture, recipe) == np.asarray(resized)[:, 1890:1950]).all()


def test_a_vocabulary_is_read_as_it_stands_and_not_without_end(monkeypatch):
    special = b"[UNK]\r\n[SEP]\n[PAD]\n[CLS]\n[MASK]\n"
    held = json.loads(from_vocabulary(special + b'"a\\\xff\n\nb\nb', {}))["model"]["vocab"]
    assert held == {"[UNK]": 0, "[SEP]": 1, "[PAD]": 2, "[CLS]": 3, "[MASK]": 4, '"a\\\ufffd': 5,
                    "": 6, "b": 8}  # fmt: skip
    monkeypatch.setattr(tokens, "_WORDS_LIMIT", 7)
    with pytest.raises(UsageError, match="over 7 words"):
        from_vocabulary(special + b"a\n" * 3, {})
