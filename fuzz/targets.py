"""The table of targets: a name, the function that takes any bytes, and the longest input.

A target returns, whatever the bytes are. An exception that leaves it is a fault of ours, and so is
memory or time out of proportion.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fuzz import decoders, parsers, records

FOUND = Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "fuzz"
"""Inputs that once made a target fail, in a folder for each; `tests/fuzzing` feeds them again."""


_JSON = (
    "{", "}", "[", "]", ",", ":", "null", "true", "-1", "0", "1.5", "1e999", "9223372036854775807",
    "18446744073709551616", '""', '"\\ud800"', '"\\u0000"', "[]", "{}", "[[[[",
)  # fmt: skip
_HEADER = (
    *_JSON, '"dtype":"F32"', '"dtype":"F4"', '"dtype":"BF16"', '"shape":[2,4]', '"shape":[0]',
    '"data_offsets":[0,32]', '"data_offsets":[32,64]', '"__metadata__":{}',
)  # fmt: skip
_MANIFEST = (
    *_JSON, '"version":1', '"size":', '"segments":[', '"tensors":[', '"coding":{', '"method"',
    '"deflate"', '"varint"', '"strides":[1]', '"shape":[2]', '"offset":', '"length":', '"skip":',
)  # fmt: skip
_JOURNAL = (
    *_JSON, '"kind":"commit"', '"kind":"change"', '"version":1', '"seq":', '"of":', '"time_us":',
    *(f'"action":"{one}"' for one in ("label", "unlabel", "rename", "remove", "undo", "purge")),
    '"action":"drop-members"', '"action":"relate"', '"members":[', '"labels":[', '"number":',
    '"version_uids":[', '"previous_uid"', "\n",
)  # fmt: skip
_PLAN = (
    *_JSON, '"dtype":"F32"', '"dtype":"Q4_0"', '"shape":[2]', '"operands":[', '"steps":[',
    '"first":', *(f'"step":"{one}"' for one in ("cast", "transpose", "rows", "append", "linear")),
    *(f'"step":"{one}"' for one in ("permute_heads", "dequantise", "concatenate", "low_rank")),
    '"step":"task_vectors"', '"weights":[1,2]', '"axes":[0,1]', '"heads":2', '"stop":1',
    '"scale":1', '"product":"F32"', '"rows":1', '"nan":"kept"', '"inverse":true',
)  # fmt: skip
_CONFIG = (
    *_JSON, '"class_name":"Lambda"', '"auto_map":{', '"quantization_config":{', '"rope_scaling":{',
    '"weight_map":{', '"chat_template":', '"vocab":{', '"merges":[', '"log_history":[',
)  # fmt: skip
_CARD = (
    "---\n", "- ", ": ", "'", '"', "|\n", "[", "]", "# ", "license", "\\u00e9", "&a", "*a"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """One function to be fuzzed; inputs have up to ``max_bytes``, and often one of ``words``."""

    name: str
    run: Callable[[bytes], None]
    max_bytes: int = 4096
    words: tuple[str, ...] = ()


_ALL = (
    Target("safetensors", parsers.parser("safetensors:SAFETENSORS")),
    Target("safetensors-header", parsers.safetensors_header, words=_HEADER),
    Target("gguf", parsers.parser("gguf:GGUF")),
    Target("npy", parsers.parser("npy:NPY")),
    Target("npz", parsers.archive("npz:NPZ"), 16384),
    Target("npz-member", parsers.npz_member),
    Target("torch-zip", parsers.archive("torch_zip:TORCH_ZIP"), 16384),
    Target("torch-pickle", parsers.torch_pickle),
    Target("torch-legacy", parsers.parser("torch_legacy:TORCH_LEGACY")),
    Target("torch-index", parsers.parser("torch_index:TORCH_INDEX")),
    Target("torch-shards", parsers.parser("torch_shards:TORCH_SHARDS"), 16384),
    Target("onnx", parsers.parser("onnx:ONNX"), 8192),
    Target("pickle", parsers.parser("pickle_file:PICKLE")),
    Target("keras", parsers.keras_config, words=_CONFIG),
    Target("hdf5", parsers.parser("keras:HDF5")),
    Target("jinja", parsers.parser("jinja:JINJA")),
    Target("model-card", parsers.parser("model_card:MODEL_CARD"), words=_CARD),
    Target("hf-json", parsers.hf_json, words=_CONFIG),
    Target("detected", parsers.detected, 16384),
    Target("record", records.record),
    Target("pack", records.pack, 16384),
    Target("rescued", records.rescued, 16384),
    Target("manifest", records.manifests, words=_MANIFEST),
    Target("journal", records.journal, 8192, words=_JOURNAL),
    Target("plan", decoders.plan, words=_PLAN),
    Target("plan-made", decoders.plan_made, 256),
    Target("fields", decoders.fields),
    Target("delta", decoders.delta),
    Target("derived", decoders.derived),
)

TARGETS = {one.name: one for one in _ALL}
