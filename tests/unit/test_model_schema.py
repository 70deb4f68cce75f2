"""The schema of summaries: whatever descriptions say, their summary fits; a broken one does not."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from hartonomous.core.declared import NUMBERS
from hartonomous.core.description import Description, Tensor
from hartonomous.core.dtype import DTYPES
from hartonomous.core.model import ModelSummary, summarise
from hartonomous.core.model_schema import SCHEMA, validate_summary
from hartonomous.core.schema_subset import fits
from hartonomous.errors import IntegrityError

Member = tuple[str, Description]
ONE = Tensor(name="a.weight", dtype="F32", shape=(2, 2), offset=0, length=16)


def as_json(summary: ModelSummary | None) -> Any:
    assert summary is not None
    return json.loads(msgspec.json.encode(summary))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
KEYS = sorted(
    {
        *(key for keys, _ in NUMBERS.values() for key in keys), "architectures", "model_type",
        "text_config", "quantization_config", "general.architecture", "general.name",
        "general.file_type", "llama.block_count", "tokenizer.ggml.tokens", "tokenizer.ggml.model",
        "general.base_model.count", "general.base_model.0.name", "general.tags", "license",
        "base_model", "tags", "peft_type", "r",
        "lora_alpha", "global_step", "shards", "model", "vocabulary_size", "title", "summary",
        "quant_method", "bits", "general.license", "adapter.type",
    }
)  # fmt: skip
OBJECTS = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=8)
PATHS = st.sampled_from(
    [
        "config.json", "README.md", "adapter_config.json", "tokenizer.json", "trainer_state.json",
        "model_index.json", "model.safetensors.index.json", "m.gguf", "model.safetensors",
        "unet/config.json", "unet/x-00001-of-00002.safetensors", "optimizer.safetensors", "a.npy",
        "quantize_config.json", "/", "", "..//x", "\ud800",
    ]
)  # fmt: skip
TENSORS = st.builds(
    Tensor,
    name=st.sampled_from(["a.weight", "layers.0.mlp.up_proj.qweight", "x.lora_A.weight", "\udfff"])
    | st.text(max_size=12),
    dtype=st.sampled_from([*DTYPES, "?", ""]),
    shape=st.lists(st.integers(-2, 2**70), max_size=4).map(tuple),
    offset=st.just(0),
    length=st.integers(-1, 2**70),
)
MEMBERS = st.lists(
    st.tuples(
        PATHS,
        st.builds(
            Description,
            format=st.sampled_from(["gguf", "safetensors", "npy", "file", ""]),
            tensors=st.lists(TENSORS, max_size=4).map(tuple),
            metadata=OBJECTS,
        ),
    ),
    max_size=6,
    unique_by=lambda member: member[0],
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(MEMBERS)
def test_any_descriptions_give_a_valid_summary(members: list[Member]) -> None:
    summary = summarise(members)
    if summary is None:
        assert not any(description.tensors for _, description in members)
        return
    assert fits(as_json(summary), SCHEMA)
    validate_summary(as_json(summary))
    assert summary == summarise(members[::-1])
    assert msgspec.json.decode(msgspec.json.encode(summary), type=ModelSummary) == summary
    assert sum(layer.tensor_count for layer in summary.layers) == summary.tensor_count
    assert sum(share.tensors for share in summary.roles.values()) == summary.tensor_count


def test_the_schema_and_the_summary_know_the_same_fields() -> None:
    assert set(SCHEMA["properties"]) == set(ModelSummary.__struct_fields__)
    required = {field.name for field in msgspec.structs.fields(ModelSummary) if field.required}
    assert set(SCHEMA["required"]) == required
    assert SCHEMA["additionalProperties"] is False


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"parameter_count": -1}, "parameter_count"),
        ({"parameter_count": 1.5}, "parameter_count"),
        ({"tensor_count": True}, "tensor_count"),
        ({"unknown": 1}, "(the whole)"),
        ({"layers": [{"name": "x"}]}, "layers/0"),
        ({"dtypes": {"F32": {"tensors": "1", "parameters": 1, "bytes": 1}}}, "dtypes/F32/tensors"),
        ({"roles": {"no-role": {"tensors": 1, "parameters": 1, "bytes": 1}}}, "roles"),
        ({"title": "x" * 1025}, "title"),
        ({"tags": [""]}, "tags/0"),
    ],
)
def test_a_broken_summary_is_refused_with_its_place(change: dict[str, Any], place: str) -> None:
    good = as_json(
        summarise([("m.safetensors", Description(format="safetensors", tensors=(ONE,)))])
    )
    with pytest.raises(IntegrityError) as caught:
        validate_summary(good | change)
    assert f"wrong at {place}:" in str(caught.value)
    with pytest.raises(IntegrityError):
        validate_summary({key: value for key, value in good.items() if key != "layers"})
    with pytest.raises(IntegrityError):
        validate_summary([good])


ODD = st.sampled_from(
    [None, True, 0, -1, 1.0, 1.5, float("nan"), 2**63, 2**53 + 1, 1e300, "", "x", "x" * 5000, [],
     {}, [1], [""], ["x"] * 5000, {"a": 1}, {"x" * 99: {}}, {str(n): {} for n in range(99)}]
)  # fmt: skip


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the ways to everything in a JSON value."""
    if not isinstance(value, dict | list):
        return [way]
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    return [way, *(found for name, one in inner for found in places(one, (*way, name)))]


def changed(value: Any, way: tuple[Any, ...], odd: Any) -> Any:
    if not way:
        return odd
    copy = value.copy()
    copy[way[0]] = changed(value[way[0]], way[1:], odd) if way[1:] else odd
    return copy


@given(data=st.data(), odd=ODD)
def test_what_fits_is_valid_to_jsonschema_too(data: st.DataObject, odd: Any) -> None:
    whole = as_json(
        summarise([("m.safetensors", Description(format="safetensors", tensors=(ONE,)))])
    ) | {
        "quantisation": {"method": "m", "bits": 4, "config": {"a": 1, "b": [1], "c": "d"}},
        "training": {"has_optimizer_state": True, "files": ["f"], "step": 3},
        "findings": [{"severity": "danger", "kind": "k", "file": "f", "text": "t"}],
        "bits_per_weight": 4.5, "adapter": {"kind": "lora", "alpha": 2.0, "rank": 4},
    }  # fmt: skip
    way = data.draw(st.sampled_from(places(whole)))
    value = changed(whole, way, odd)
    if way and data.draw(st.booleans()):
        value = changed(whole, (*way[:-1], "unknown") if isinstance(way[-1], str) else way, odd)
    if fits(value, SCHEMA):
        assert Draft202012Validator(SCHEMA).is_valid(value)


def test_a_word_that_is_not_known_is_not_passed_over() -> None:
    with pytest.raises(KeyError):
        fits("x", {"type": "string", "pattern": "^y"})
