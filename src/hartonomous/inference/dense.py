"""Dense layers behind the pooling: sentence-transformers' module of that name, in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from hartonomous.errors import UsageError
from hartonomous.inference.recipe import DenseRecipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

ACTIVATIONS: dict[str, Callable[[NDArray[np.float32]], NDArray[Any]]] = {
    "Tanh": np.tanh,
    "Identity": lambda rows: rows,
    "ReLU": lambda rows: np.maximum(rows, np.float32(0)),
}
"""What PyTorch calls the functions behind a layer that are known here."""


class DenseWeights(msgspec.Struct, frozen=True, kw_only=True):
    """One layer's numbers, little-endian f32: ``weight`` [outputs, inputs], ``bias`` [outputs].

    ``bias`` is empty for none.
    """

    weight: bytes
    bias: bytes = b""


def dense(
    rows: NDArray[np.float32], recipes: Sequence[DenseRecipe], weights: Sequence[DenseWeights]
) -> NDArray[np.float32]:
    """Return [n, outputs of the last layer] of ``rows`` [n, inputs of the first].

    Each layer is activation(rows · weightᵀ + bias). Raises UsageError for rows of another length.
    """
    for recipe, one in zip(recipes, weights, strict=True):
        if rows.shape[1] != recipe.inputs:
            raise UsageError(
                f"{recipe.weights} takes vectors of {recipe.inputs} numbers, and the pooling gives"
                f" {rows.shape[1]}",
                hint="the module and the model are of different encoders",
            )
        matrix = np.frombuffer(one.weight, "<f4").reshape(recipe.outputs, recipe.inputs)
        rows = rows @ matrix.T
        if one.bias:
            rows = rows + np.frombuffer(one.bias, "<f4")
        rows = np.asarray(ACTIVATIONS[recipe.activation](rows), np.float32)
    return rows
