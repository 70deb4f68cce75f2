"""Frames of which a prediction is known: one door to the codecs of DELTA and DERIVED.

A prediction is what ``codecs.prediction.predict`` gives: the frame's bytes for a float target, the
float32 values of the blocks that lie whole in the frame for a quantised one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hartonomous.codecs.delta import DeltaCodec
from hartonomous.codecs.quantised import QuantisedCodec
from hartonomous.codecs.quantised_blocks import SHAPES
from hartonomous.codecs.quantised_rounding import grids
from hartonomous.codecs.rounding_reference import TYPES
from hartonomous.core.plan import FLOAT_TARGETS
from hartonomous.core.record import Encoding
from hartonomous.errors import UnsupportedStoreError

RECIPE = 1
ENOUGH = 64
"""A payload of so small a part of its frame is not compared with those of other layouts."""

Prediction = np.ndarray[tuple[int], np.dtype[Any]]

_DELTA = DeltaCodec()
_QUANTISED = QuantisedCodec()


def encoding_of(dtype: str) -> Encoding:
    """Return the encoding of a predicted tensor of this type."""
    return Encoding.DELTA if dtype in FLOAT_TARGETS else Encoding.DERIVED


def source_window(dtype: str, position: int, length: int) -> tuple[int, int]:
    """Return which elements ``[first, stop)`` predict a frame of a quantised tensor."""
    return _QUANTISED.window(dtype, position, length)


def encode_many(
    frames: Sequence[memoryview],
    predictions: Sequence[Prediction],
    dtype: str,
    *,
    positions: Sequence[int],
    shape: tuple[int, ...] = (),
    smallest: bool = False,
) -> list[bytes | None]:
    """Return each frame's payload, None where it would not be smaller than the frame.

    ``positions`` say where the frames begin in the tensor of ``dtype`` and of ``shape``, in bytes.
    ``smallest`` also tries the quantiser's own search, which is slow again when decoded.
    """
    if encoding_of(dtype) is Encoding.DELTA:
        return _DELTA.encode_many(frames, _bytes(predictions), dtype, positions=positions)
    if dtype not in TYPES:
        return _QUANTISED.encode_many(
            frames, predictions, dtype, positions=positions, smallest=smallest
        )
    return [
        _rounded(frame, prediction, dtype, position, shape)
        for frame, prediction, position in zip(frames, predictions, positions, strict=True)
    ]


def _rounded(
    frame: memoryview, prediction: Prediction, dtype: str, position: int, shape: tuple[int, ...]
) -> bytes | None:
    """Return the smallest payload of a frame of 8-bit codes, by any usual layout of scales."""
    best: bytes | None = None
    for grid in grids(shape):
        (made,) = _QUANTISED.encode_many(
            [frame], [prediction], dtype, positions=[position], grid=grid
        )
        if made is not None and (best is None or len(made) < len(best)):
            best = made
        if best is not None and ENOUGH * len(best) <= frame.nbytes:
            break
    return best


def decode_many(
    payloads: Sequence[memoryview],
    predictions: Sequence[Prediction],
    outs: Sequence[memoryview],
    dtype: str,
    *,
    positions: Sequence[int],
    recipe: int = RECIPE,
) -> None:
    """Fill each of ``outs``, one frame each; raises DecodeError for a damaged payload.

    Raises UnsupportedStoreError for a recipe that this program does not know.
    """
    encoding = _known(dtype, recipe)
    if encoding is Encoding.DELTA:
        _DELTA.decode_many(payloads, _bytes(predictions), outs)
    else:
        _QUANTISED.decode_many(payloads, predictions, outs, dtype, positions=positions)


def is_even(dtype: str) -> bool:
    """Say whether a frame takes the same wherever it lies: 8-bit codes share scales by rows."""
    return dtype in FLOAT_TARGETS or dtype in SHAPES


def can_decode_parts(dtype: str) -> bool:
    """Say whether a part of a frame costs less than the whole: blocks stand for themselves."""
    return dtype in SHAPES


def part_span(dtype: str, position: int, length: int, low: int, high: int) -> tuple[int, int]:
    """Return the tensor's bytes [start, stop) of the blocks under a frame's bytes [low, high)."""
    first, stop = _QUANTISED.part_blocks(dtype, position, length, low, high)
    size = SHAPES[dtype].byte_count
    begin = -(-position // size) * size
    return begin + first * size, begin + stop * size


def decode_part(  # noqa: PLR0917 - what is wanted of which frame
    payload: memoryview, prediction: Prediction, out: memoryview, dtype: str,
    position: int, length: int, low: int, *, recipe: int = RECIPE,
) -> None:  # fmt: skip
    """Fill ``out`` with a frame's bytes from ``low`` on, of a type that ``can_decode_parts``.

    ``prediction`` is that of ``part_span``. Raises DecodeError, UnsupportedStoreError.
    """
    _known(dtype, recipe)
    _QUANTISED.decode_part(payload, prediction, out, dtype, position, length, low)


def _known(dtype: str, recipe: int) -> Encoding:
    encoding = encoding_of(dtype)
    if recipe != RECIPE:
        raise UnsupportedStoreError(
            f"the encoding {encoding.name.lower()}, recipe {recipe} is unknown to this program",
            hint="read this store with a newer version of hartonomous",
        )
    return encoding


def _bytes(predictions: Sequence[Prediction]) -> list[memoryview]:
    return [one.data for one in predictions]
