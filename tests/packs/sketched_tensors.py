"""Tensors of every shape that sketches know, and ways to store them and to ask for them."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import hartonomous as hn
from hartonomous.core.array import dtype_name
from hartonomous.core.digest import digest
from hartonomous.core.elements import ranges_of, values_of
from hartonomous.packs.base_search import TensorQuery

QUANTS = Path(__file__).parents[1] / "fixtures" / "quants"

BASES = {
    "square": (96, 96),
    "wide": (64, 160),
    "long": (3000, 24),
    "qkv": (192, 64),
    "gate_up": (480, 60),
    "norm": (4096,),
    "convolution": (32, 8, 3, 3),
}


def normal(shape, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32) * np.float32(0.02)


def base(name: str) -> np.ndarray:
    made = normal(BASES[name], sorted(BASES).index(name))
    return made + np.float32(1) if name == "norm" else made


def name_of(array: np.ndarray) -> bytes:
    return digest(np.ascontiguousarray(array).tobytes())


def query(array: np.ndarray, **how) -> TensorQuery:
    content = np.ascontiguousarray(array).tobytes()
    dtype = dtype_name(array.dtype)
    read = values_of(ranges_of(content), dtype)
    return TensorQuery(dtype=dtype, shape=array.shape, read=read, **how)


def add(store: hn.Store, folder: Path, tensors: dict[str, np.ndarray], name: str = "m") -> None:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / f"{name}.safetensors")
    (added,) = store.add(folder / f"{name}.safetensors").artifacts
    assert added.outcome == "added"
