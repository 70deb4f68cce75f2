"""Pooling: one vector a text from the vectors of its tokens.

The modes and their order side by side are those of sentence-transformers (Reimers and Gurevych,
"Sentence-BERT", 2019), whose results they equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODES = ("cls", "max", "mean", "mean-sqrt", "weighted-mean", "last")
_LEAST = 1e-9


def pool(
    tokens: NDArray[np.float32], mask: NDArray[np.int64], modes: Sequence[str]
) -> NDArray[np.float32]:
    """Return [texts, modes × hidden] of ``tokens`` [texts, tokens, hidden] where ``mask`` is 1."""
    return np.concatenate([_pool(tokens, mask, mode) for mode in modes], axis=1)


def _pool(tokens: NDArray[np.float32], mask: NDArray[np.int64], mode: str) -> NDArray[np.float32]:
    weights = mask.astype(np.float32)
    rows = np.arange(len(tokens))
    if mode == "cls":
        return np.asarray(tokens[rows, mask.argmax(axis=1)])
    if mode == "last":
        return np.asarray(tokens[rows, mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)])
    if mode == "max":
        kept = np.where(mask[:, :, None] > 0, tokens, np.float32(-1e9))
        return np.asarray(kept.max(axis=1), np.float32)
    if mode == "weighted-mean":
        weights = weights * np.arange(1, mask.shape[1] + 1, dtype=np.float32)
    sums = np.einsum("nth,nt->nh", tokens, weights)
    total = np.maximum(weights.sum(axis=1, keepdims=True), _LEAST)
    return np.asarray(sums / (np.sqrt(total) if mode == "mean-sqrt" else total), np.float32)


def normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows of length 1; one of length 0 stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)
