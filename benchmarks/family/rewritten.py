"""Recipes that only rewrite: casts, other names, another order, shards, a single array.

They need numpy alone and give the same bytes everywhere.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from family.recipes import Making
from family.weights_file import (
    DTYPES,
    MODEL_FILE,
    Tensor,
    library_order,
    read,
    write,
)

_CONFIG_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def cast(making: Making) -> None:
    """Write a model folder with F32 tensors in another type (``dtype``: BF16 or F16)."""
    wanted = making.parameters["dtype"]
    tensors = [_cast(one, wanted) for one in read(making.sources[0] / MODEL_FILE)]
    copy_beside(making.sources[0], making.target)
    write(making.target / MODEL_FILE, library_order(tensors))
    _say_dtype(making.target / "config.json", _CONFIG_NAMES[wanted])


def _cast(one: Tensor, wanted: str) -> Tensor:
    if one.dtype != "F32":
        return one
    return replace(one, dtype=wanted, read=lambda: one.read().astype(DTYPES[wanted]))


def _say_dtype(path: Path, name: str) -> None:
    """Say the new type where the configuration says one, as ``save_pretrained`` does."""
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for key in {"dtype", "torch_dtype"} & set(config):
        config[key] = name
    if config:
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def renamed(making: Making) -> None:
    """Write a model folder whose tensors have a prefix (``prefix``) more or less (``without``)."""
    prefix = making.parameters.get("prefix", "")
    without = making.parameters.get("without", "")
    tensors = [
        replace(one, name=prefix + one.name.removeprefix(without))
        for one in read(making.sources[0] / MODEL_FILE)
    ]
    copy_beside(making.sources[0], making.target)
    write(making.target / MODEL_FILE, library_order(tensors))


def reordered(making: Making) -> None:
    """Write a model folder whose tensors lie in an order drawn by the seed."""
    tensors = read(making.sources[0] / MODEL_FILE)
    order = np.random.Generator(np.random.PCG64(making.seed)).permutation(len(tensors))
    copy_beside(making.sources[0], making.target)
    write(making.target / MODEL_FILE, [tensors[index] for index in order])


def sharded(making: Making) -> None:
    """Write a model folder as ``shards`` files of about equal size, with their index."""
    tensors, count = read(making.sources[0] / MODEL_FILE), making.parameters["shards"]
    total = sum(one.size_bytes for one in tensors)
    runs: list[list[Tensor]] = [[] for _ in range(count)]
    at = 0
    for one in tensors:
        runs[min(at * count // total, count - 1)].append(one)
        at += one.size_bytes
    copy_beside(making.sources[0], making.target)
    weight_map = {}
    for number, run in enumerate(runs, 1):
        name = f"model-{number:05d}-of-{count:05d}.safetensors"
        write(making.target / name, run)
        weight_map |= {one.name: name for one in run}
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    text = json.dumps(index, indent=2) + "\n"
    (making.target / f"{MODEL_FILE}.index.json").write_text(text, encoding="utf-8")


def one_array(making: Making) -> None:
    """Write one tensor (``tensor``) of a model as a NumPy file."""
    wanted = making.parameters["tensor"]
    found = [one for one in read(making.sources[0] / MODEL_FILE) if one.name == wanted]
    if not found:
        raise KeyError(f"{making.sources[0]} has no tensor {wanted}")
    with making.target.open("xb") as out:
        np.save(out, found[0].read(), allow_pickle=False)


def taken(making: Making) -> None:
    """Take one thing (``path``) out of a step that makes several, by hard links."""
    source = making.sources[0] / making.parameters["path"]
    if source.is_dir():
        shutil.copytree(source, making.target, copy_function=_link)
    else:
        making.target.hardlink_to(source)


def _link(source: str, target: str) -> str:
    Path(target).hardlink_to(source)
    return target


def copy_beside(source: Path, target: Path) -> None:
    """Make ``target`` with the plain files of a model folder, all but its weights."""
    target.mkdir(parents=True)
    for path in sorted(source.rglob("*")):
        if path.is_file() and path.suffix not in {".safetensors", ".bin", ".pt"}:
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
