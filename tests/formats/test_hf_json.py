"""JSON side files of model folders: realistic ones, and ones that lie."""

import json
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hartonomous.core.description import Description
from hartonomous.errors import StructureError
from hartonomous.formats import hf_json
from hartonomous.formats.detect import FORMATS
from hartonomous.formats.hf_json import (
    HF_CONFIG,
    HF_SENTENCE_MODULES,
    HF_SHARD_INDEX,
    HF_TOKENIZER,
    HF_TOKENIZER_CONFIG,
    HF_TRAINER_STATE,
    JsonFormat,
    count_strings,
)
from hartonomous.ports.entry import load
from hartonomous.ports.format import Format

JSON_FORMATS = [load(entry) for entry in FORMATS if entry.startswith(f"{hf_json.__name__}:")]

CONFIG = {
    "_name_or_path": "nreimers/MiniLM-L6-H384-uncased",
    "architectures": ["BertModel"],
    "attention_probs_dropout_prob": 0.1,
    "gradient_checkpointing": False,
    "hidden_size": 384,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "pad_token_id": 0,
    "quantization_config": None,
    "rope_scaling": {"type": "yarn", "factor": 4.0, "long": [1, 2, {"deep": []}]},
}


class Bytes:
    """A range reader over bytes."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size = len(content)

    def read(self, offset: int, length: int) -> bytes:
        assert offset >= 0 and 0 <= length <= 16 * 1024 * 1024
        if offset + length > self.size:
            raise StructureError("outside the file")
        return self.content[offset : offset + length]


def parse(form: JsonFormat, content: bytes | dict[str, Any] | list[Any]) -> Description:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    found = form.parse(Bytes(text))
    assert found.format == form.name
    assert found.tensors == ()
    assert msgspec.json.decode(msgspec.json.encode(found), type=Description) == found
    return found


def refused(form: JsonFormat, content: bytes, *, match: str) -> StructureError:
    with pytest.raises(StructureError, match=match) as caught:
        form.parse(Bytes(content))
    return caught.value


def test_each_name_has_one_format_and_each_format_one_name() -> None:
    assert len({form.name for form in JSON_FORMATS}) == len(JSON_FORMATS)
    names = [name for form in JSON_FORMATS for name in form.names]
    assert len(set(names)) == len(names)
    for form in JSON_FORMATS:
        port: Format = form
        assert port.name in (hf_json.__doc__ or "")
        assert form in vars(hf_json).values()
        for name in form.names:
            assert name in (hf_json.__doc__ or "")
            path = f"some/folder/model{name}" if name.startswith(".") else f"some/folder/{name}"
            assert [other for other in JSON_FORMATS if other.matches(path, b"")] == [form]


@pytest.mark.parametrize("path", ["myconfig.json", "config.json/x", "config.JSON", "a.json", ""])
def test_other_names_are_left_alone(path: str) -> None:
    assert not any(form.matches(path, b"{}") for form in JSON_FORMATS)


def test_a_config_is_copied() -> None:
    found = parse(HF_CONFIG, CONFIG)
    assert found.metadata == CONFIG
    assert list(found.metadata) == list(CONFIG)
    assert found.notices == ()


def test_modules_are_described_under_a_key() -> None:
    modules = [{"idx": 0, "name": "0", "path": "", "type": "models.Transformer"}]
    assert parse(HF_SENTENCE_MODULES, modules).metadata == {"modules": modules}
    refused(HF_SENTENCE_MODULES, b"{}", match="an array was expected")


def test_what_is_cut_is_the_deep_and_the_late() -> None:
    deep: Any = "bottom"
    for _ in range(12):
        deep = [deep]
    labels = {str(index): "label" for index in range(3000)}
    found = parse(
        HF_CONFIG,
        {"labels": labels, "deep": deep, "text": "x" * 2000, "k" * 2000: 1, "last": True},
    )
    assert list(found.metadata) == ["labels", "deep", "text", "k" * 1024, "last"]
    assert found.metadata["last"] is True
    assert found.metadata["text"] == "x" * 1024
    assert 1900 < len(found.metadata["labels"]) < 2000
    assert [notice.kind for notice in found.notices] == ["metadata-cut"]
    assert "2 strings" in found.notices[0].text


def test_containers_below_the_last_level_become_null() -> None:
    deep: Any = ["bottom"]
    for _ in range(9):
        deep = {"a": deep}
    kept = parse(HF_CONFIG, deep).metadata
    depth = 0
    while kept is not None:
        kept, depth = kept["a"], depth + 1
    assert depth == 8


def test_numbers_that_json_readers_disagree_on_become_text() -> None:
    found = parse(
        HF_CONFIG,
        b'{"nan": NaN, "up": Infinity, "down": -Infinity, "over": 1e999, "inside": "NaN"}',
    )
    assert found.metadata == {
        "nan": "NaN",
        "up": "Infinity",
        "down": "-Infinity",
        "over": "Infinity",
        "inside": "NaN",
    }
    assert parse(HF_CONFIG, {"n": 2**64, "m": 2**64 - 1}).metadata == {
        "n": str(2**64),
        "m": 2**64 - 1,
    }


def test_the_last_of_equal_keys_counts() -> None:
    text = b'{"a": 1, "b": 2, "a": 3}'
    assert parse(HF_CONFIG, text).metadata == json.loads(text)


@pytest.mark.parametrize(
    "content",
    [b"", b" ", b"{", b"[]", b'"text"', b"1", b"null", b'{"a": 1} x', b"\0" * 9,
     b'{"a": NaN', b'{"a": NaN, "n": ' + b"9" * 5000 + b"}", b'\xef\xbb\xbf{"a": 1}'],
)  # fmt: skip
def test_what_is_no_json_object_is_refused(content: bytes) -> None:
    for form in JSON_FORMATS:
        if not (form is HF_SENTENCE_MODULES and content == b"[]"):
            refused(form, content, match="the JSON")


def test_text_that_is_no_utf8_is_refused() -> None:
    refused(HF_CONFIG, b'{"a": "\xff"}', match="utf-8")
    refused(HF_SHARD_INDEX, b'{"weight_map": {"\xff": "a"}}', match="utf-8")


@pytest.mark.parametrize("form", JSON_FORMATS, ids=lambda form: form.name)
@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"a":[', b'{"a":NaN,"b":['])
@pytest.mark.parametrize("beginning", [b"", b'{"model":{"vocab":', b'{"weight_map":'])
def test_100000_brackets_are_refused(form: JsonFormat, opening: bytes, beginning: bytes) -> None:
    refused(form, beginning + opening * 100_000, match="JSON")


def test_sizes_and_counts_are_bounded() -> None:
    assert refused(HF_CONFIG, b" " * (16 * 1024 * 1024 + 1), match="16,777,216").kind == "limit"
    values = b'{"a": [' + b"0," * 1_000_001 + b"0]}"
    assert refused(HF_CONFIG, values, match="1,000,000").kind == "limit"
    objects = b'{"model": {}, "added_tokens": [' + b"{}," * 1_000_001 + b"{}]}"
    assert refused(HF_TOKENIZER, objects, match="1,000,000").kind == "limit"


def tokenizer(model: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": "1.0",
        "truncation": {"max_length": 128},
        "added_tokens": [
            {"id": 0, "special": True, "content": "[PAD]", "lstrip": False},
            {"id": 1, "special": True, "content": '"id"{', "lstrip": False},
        ],
        "normalizer": {"type": "BertNormalizer"},
        "model": model,
    }


TOKENS = [
    "",
    '"',
    "\\",
    '\\"',
    '\\\\"',
    "a,b",
    "{",
    "[",
    ":",
    "é",
    "\U0001f600",
    "\n",
    "\x7f",
    "NaN",
]


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize(
    "model",
    [
        {"type": "BPE", "vocab": {t: i for i, t in enumerate(TOKENS)}, "merges": ["a b", "b c"]},
        {"type": "WordPiece", "unk_token": "[UNK]", "vocab": {t: i for i, t in enumerate(TOKENS)}},
        {"type": "Unigram", "unk_id": 0, "vocab": [[t, -1.5] for t in TOKENS]},
        {"vocab": {t: i for i, t in enumerate(TOKENS)}, "merges": [["a", "b"]]},
    ],
)
def test_a_tokenizer_is_counted(model: dict[str, Any], ascii_only: bool) -> None:
    text = json.dumps(tokenizer(model), ensure_ascii=ascii_only).encode()
    assert parse(HF_TOKENIZER, text).metadata == {
        "version": "1.0",
        "model_type": model.get("type"),
        "vocabulary_size": len(TOKENS),
        "added_token_count": 2,
    }


def test_a_large_tokenizer_makes_no_objects_of_its_vocabulary() -> None:
    vocabulary = {f"token {index}": index for index in range(150_000)}
    text = json.dumps(tokenizer({"type": "BPE", "vocab": vocabulary})).encode()
    tracemalloc.start()
    try:
        found = parse(HF_TOKENIZER, text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.metadata["vocabulary_size"] == 150_000
    assert peak < 3 * len(text) + 4 * 1024 * 1024


@pytest.mark.parametrize("vocabulary", [b"5", b'"a"', b"null"])
def test_a_vocabulary_of_another_kind_is_refused(vocabulary: bytes) -> None:
    refused(HF_TOKENIZER, b'{"model": {"vocab": ' + vocabulary + b"}}", match="vocabulary")


@given(st.lists(st.text(alphabet='a"\\,{é', max_size=6)), st.integers(0, 30))
def test_strings_are_counted_as_they_are_read(texts: list[str], padding: int) -> None:
    # The padding moves every kind of byte over the boundary of a step.
    text = json.dumps(["p" * (1024 * 1024 - padding), *texts]).encode()
    assert count_strings(memoryview(text)) == len(texts) + 1


def test_long_runs_of_backslashes() -> None:
    for length in (1024 * 1024, 1024 * 1024 + 1):
        text = json.dumps(["\\" * length, '"']).encode()
        assert count_strings(memoryview(text)) == 2


def test_a_shard_index_is_counted() -> None:
    index = {
        "metadata": {"total_size": 1234.0, "total_parameters": 617},
        "weight_map": {
            "b": "model-00002-of-00002.safetensors",
            "a": "model-00001-of-00002.safetensors",
            "c": "model-00002-of-00002.safetensors",
        },
    }
    found = parse(HF_SHARD_INDEX, index)
    assert found.metadata == {
        "shards": {"model-00001-of-00002.safetensors": 1, "model-00002-of-00002.safetensors": 2},
        "total_size": 1234,
        "tensor_count": 3,
    }
    assert list(found.metadata["shards"]) == sorted(found.metadata["shards"])
    assert type(found.metadata["total_size"]) is int
    assert parse(HF_SHARD_INDEX, {"weight_map": {}}).metadata["total_size"] is None


@pytest.mark.parametrize(
    "shard", ["../x", "/etc/passwd", "a/b", "a\\b", "", ".", "..", "a\0b", "x" * 256]
)
def test_shards_lie_beside_their_index(shard: str) -> None:
    index = json.dumps({"weight_map": {"t": shard}}).encode()
    refused(HF_SHARD_INDEX, index, match="no file name")


def test_a_shard_index_without_its_map_or_too_large() -> None:
    refused(HF_SHARD_INDEX, b'{"metadata": {}}', match="weight_map")
    refused(HF_SHARD_INDEX, b'{"weight_map": {"t": 5}}', match="weight_map")
    many = json.dumps({"weight_map": {str(index): "s" for index in range(200_001)}}).encode()
    assert refused(HF_SHARD_INDEX, many, match="200,000").kind == "limit"
    shards = json.dumps({"weight_map": {str(n): str(n) for n in range(10_001)}}).encode()
    assert refused(HF_SHARD_INDEX, shards, match="10,000").kind == "limit"


def test_a_trainer_state_without_its_log() -> None:
    state = {
        "best_metric": float("nan"),
        "best_model_checkpoint": None,
        "epoch": 2.5,
        "global_step": 1200,
        "log_history": [{"loss": float("nan"), "step": 1}] * 3,
        "is_world_process_zero": True,
    }
    assert parse(HF_TRAINER_STATE, state).metadata == {
        "best_metric": "NaN",
        "epoch": 2.5,
        "global_step": 1200,
    }


def test_a_chat_template_is_cut() -> None:
    found = parse(
        HF_TOKENIZER_CONFIG, {"chat_template": "{% x %}" * 1000, "model_max_length": 10**30}
    )
    assert len(found.metadata["chat_template"]) == 1024
    assert found.metadata["model_max_length"] == str(10**30)
    assert [notice.kind for notice in found.notices] == ["metadata-cut"]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=20,
)


@given(st.binary(max_size=100) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    for form in JSON_FORMATS:
        try:
            parse(form, content)
        except StructureError:
            continue
