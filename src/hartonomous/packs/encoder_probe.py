"""What an encoder has to compute before it is trusted: fixed texts and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hartonomous.errors import UsageError
from hartonomous.packs.stored_encoder import StoredEncoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

KNOWN_TEXT = "A dog runs across the field."
_TEXTS = (
    KNOWN_TEXT,
    "The quarterly report shows that revenue grew by 12 %.",
    "Ein Ventil ist undicht.",
    " ".join(f"word{number}" for number in range(600)),
    KNOWN_TEXT,
)
_NUMBERS_KEPT = 6
_EQUAL = 1e-4
_LENGTH_TOLERANCE = 1e-3

Numbers = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The first ``numbers`` of vectors of fixed texts, then of fixed pictures.

    Up to ``SAME`` two machines are said to compute the same: their processors add in another order.
    """

    SAME: ClassVar[float] = 1e-3
    numbers: Numbers


def probe(encoder: StoredEncoder) -> Probe:
    """Have an encoder compute; raises UsageError unless its vectors are such as vectors have to be.

    They are finite (its process refuses others), not zero, equal for equal texts and different for
    different ones, of length 1 where its files say so, and the same when they are computed again.
    """
    kept: list[NDArray[np.float32]] = []
    for modality in encoder.modalities:
        if modality == "text":
            vectors, again = encoder.encode_texts(_TEXTS), encoder.encode_texts(_TEXTS)
            text = encoder.recipe.text
            normalised = text is not None and text.normalise
        else:
            pictures = known_pictures()
            vectors = encoder.encode_pictures(pictures)
            again = encoder.encode_pictures(pictures)
            picture = encoder.recipe.picture
            normalised = picture is not None and picture.normalise
        _check(encoder.name, modality, vectors, normalised=normalised)
        _check_again(encoder.name, modality, vectors, again)
        kept += list(vectors[:3, :_NUMBERS_KEPT])
    if len(set(encoder.dimensions.values())) != 1:
        raise UsageError(
            f"{encoder.name} gives vectors of different dimensions: {encoder.dimensions}"
        )
    return Probe(numbers=tuple(tuple(round(float(x), 5) for x in row) for row in kept))


def difference(first: Numbers, second: Numbers) -> float:
    """Return the largest difference; infinity where they are not of one kind."""
    if [len(row) for row in first] != [len(row) for row in second]:
        return float("inf")
    pairs = zip(first, second, strict=True)
    return max((abs(a - b) for x, y in pairs for a, b in zip(x, y, strict=True)), default=0.0)


def _check(name: str, modality: str, vectors: NDArray[np.float32], *, normalised: bool) -> None:
    lengths = np.linalg.norm(vectors, axis=1)
    if not (lengths > 0).all():
        raise UsageError(f"{name} gives a vector of length 0 for a {modality}")
    unit = vectors / lengths[:, None]
    if np.abs(unit[0] - unit[-1]).max() > _EQUAL:
        raise UsageError(f"{name} gives different vectors for equal {modality}s")
    if any(np.abs(unit[0] - other).max() <= _EQUAL / 10 for other in unit[1:-1]):
        raise UsageError(f"{name} gives the same vector for different {modality}s")
    if normalised and np.abs(lengths - 1).max() > _LENGTH_TOLERANCE:
        raise UsageError(f"{name} gives vectors that are not of length 1")


def _check_again(
    name: str, modality: str, first: NDArray[np.float32], again: NDArray[np.float32]
) -> None:
    """Raise UsageError where the same batch got other vectors the second time.

    Chance that is drawn once for a batch is the same for equal texts in it.
    """
    lengths = np.linalg.norm(first, axis=1, keepdims=True)
    if np.abs(first - again).max() > _EQUAL * lengths.max():
        raise UsageError(
            f"{name} gives different vectors for the same {modality}s when it computes them again",
            hint="its graph computes at random: export it for inference, without dropout or noise",
        )


def known_pictures() -> Sequence[NDArray[np.uint8]]:
    """Return a slope, stripes and a disc, and the slope again."""
    rows, columns = np.mgrid[0:96, 0:128]
    slope = np.stack([2 * rows, columns, 255 - columns], axis=2)
    stripes = np.stack([(columns // 8 % 2) * 255, (rows // 8 % 2) * 255, rows], axis=2)
    disc = ((rows - 48) ** 2 + (columns - 64) ** 2 < 900)[:, :, None] * np.array([240, 30, 30])
    return [one.astype(np.uint8) for one in (slope, stripes, disc, slope)]
