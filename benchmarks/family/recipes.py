"""The table of recipes, as strings, so that naming one loads nothing."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECIPES: dict[str, str] = {
    # fetched and built
    "published-model": "family.fetched:published_model",
    "llama-cpp": "family.fetched:llama_cpp",
    # numpy alone
    "cast": "family.rewritten:cast",
    "renamed": "family.rewritten:renamed",
    "reordered": "family.rewritten:reordered",
    "sharded": "family.rewritten:sharded",
    "one-array": "family.rewritten:one_array",
    "average": "family.merged:average",
    "task-arithmetic": "family.merged:task_arithmetic",
    "appended-vocabulary": "family.merged:appended_vocabulary",
    # torch
    "vocabulary": "family.text:vocabulary",
    "torch-checkpoint": "family.torch_files:checkpoint",
    "train-llama": "family.language_model:train",
    "train-sentences": "family.sentence_model:train",
    "train-adapter": "family.adapter:train",
    "merged-adapter": "family.adapter:merged",
    "taken": "family.rewritten:taken",
    # llama.cpp
    "gguf-converted": "family.gguf_files:converted",
    "gguf-quantised": "family.gguf_files:quantised",
    "importance": "family.gguf_files:importance",
    # onnx
    "onnx-export": "family.onnx_files:exported",
    "onnx-int8": "family.onnx_files:int8",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """What a recipe receives; it writes a file or a folder at ``target``, which is not there yet.

    ``sources`` are the paths of what it is made from, ``downloads`` is kept between runs.
    """

    target: Path
    sources: tuple[Path, ...]
    seed: int
    parameters: Mapping[str, Any]
    downloads: Path


def recipe(name: str) -> Callable[[Making], None]:
    """Load and return a recipe."""
    module, _, function = RECIPES[name].partition(":")
    return getattr(importlib.import_module(module), function)
