"""Quantised tensors of llama.cpp's making beside their float source, and any floats."""

from pathlib import Path

import numpy as np
from gguf import GGUFReader

QUANTS = Path(__file__).parents[1] / "fixtures" / "quants"


def tensors(name: str) -> list[np.ndarray]:
    """Return the flat tensors of a fixture: float32, or bytes of blocks."""
    found = [tensor.data for tensor in GGUFReader(QUANTS / f"mini.{name}.gguf").tensors]
    return [
        (one.astype(np.float32) if one.dtype != np.uint8 else np.array(one)).reshape(-1)
        for one in found
    ]


def fixture_names(dtype: str) -> list[str]:
    """Return the fixtures of a type: without and with importance matrix."""
    return [n for n in (dtype, f"{dtype}.imat") if (QUANTS / f"mini.{n}.gguf").exists()]


def formula(count: int) -> np.ndarray:
    """Return the source of docs/format-quantised.md's vectors."""
    i = np.arange(count)
    return (((7919 * i + 13) % 1021 - 510) * (1 + i // 16 % 5) / 4096).astype(np.float32)


def strange(count: int, seed: int) -> np.ndarray:
    """Return floats of any kind: weights, whole ranges of zeros, NaN, infinities, extremes."""
    random = np.random.default_rng(seed)
    x = (random.standard_normal(count) * 0.05).astype(np.float32)
    kinds = random.integers(0, 9, -(-count // 16)).repeat(16)[:count]
    x[kinds == 1] = 0.0
    x[kinds == 2] = -0.0
    bits = random.integers(0, 1 << 32, count, dtype=np.uint32)
    x[kinds == 3] = bits.view(np.float32)[kinds == 3]
    x[kinds == 4] = np.float32(0.5)
    x[kinds == 5] *= np.float32(1e-38)
    x[(kinds == 6) & (bits % 7 == 0)] = np.nan
    x[(kinds == 7) & (bits % 7 == 0)] = np.inf
    x[kinds == 8] = np.abs(x[kinds == 8])
    return x
