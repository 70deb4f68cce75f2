"""Recipes that combine models of equal shapes: average, task arithmetic; and a longer vocabulary.

Sums are done in float64 and rounded once, so numpy alone gives the same bytes everywhere.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from family.recipes import Making
from family.rewritten import copy_beside
from family.weights_file import DTYPES, MODEL_FILE, Tensor, made, read, write


def average(making: Making) -> None:
    """Write the mean of all sources (model soup, Wortsman et al. 2022), or with ``weights``."""
    weights = making.parameters.get("weights") or [1 / len(making.sources)] * len(making.sources)

    def mix(values: list[NDArray]) -> NDArray:
        return sum(
            weight * one.astype(np.float64) for weight, one in zip(weights, values, strict=True)
        )

    _combine(making, mix)


def task_arithmetic(making: Making) -> None:
    """Write the first source plus ``scale`` × what each other one differs (Ilharco et al. 2023)."""
    scale = making.parameters["scale"]

    def mix(values: list[NDArray]) -> NDArray:
        base = values[0].astype(np.float64)
        return base + scale * sum(one.astype(np.float64) - base for one in values[1:])

    _combine(making, mix)


def _combine(making: Making, mix: Callable[[list[NDArray]], NDArray]) -> None:
    first, *others = [read(source / MODEL_FILE) for source in making.sources]
    by_name = [{one.name: one for one in tensors} for tensors in others]

    def values(one: Tensor) -> NDArray:
        twins = [one, *(names[one.name] for names in by_name)]
        return mix([twin.read() for twin in twins]).astype(DTYPES[one.dtype])

    copy_beside(making.sources[0], making.target)
    mixed = [
        replace(one, read=partial(values, one)) if one.dtype in {"F32", "F16", "BF16"} else one
        for one in first
    ]
    write(making.target / MODEL_FILE, mixed)


def appended_vocabulary(making: Making) -> None:
    """Write a model with ``rows`` more rows in its ``tensors``: their mean and some noise."""
    rows, names = making.parameters["rows"], set(making.parameters["tensors"])
    random = np.random.Generator(np.random.PCG64(making.seed))
    tensors = []
    for one in read(making.sources[0] / MODEL_FILE):
        if one.name not in names:
            tensors.append(one)
            continue
        values = one.read()
        names.discard(one.name)
        mean = values.astype(np.float64).mean(axis=0)
        noise = random.standard_normal((rows, values.shape[1])) * 0.02
        more = (mean + noise).astype(values.dtype)
        tensors.append(made(one.name, np.concatenate([values, more])))
    if names:
        raise KeyError(f"{making.sources[0]} has no tensors {', '.join(sorted(names))}")
    copy_beside(making.sources[0], making.target)
    config = json.loads((making.target / "config.json").read_text(encoding="utf-8"))
    config["vocab_size"] += rows
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (making.target / "config.json").write_text(text, encoding="utf-8")
    write(making.target / MODEL_FILE, tensors)
