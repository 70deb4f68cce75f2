"""Weights that lie packed in integers: how many there are, as the shapes beside them tell.

GPTQ packs the rows of a weight [in, out] into 32-bit integers (``qweight`` [in * bits / 32, out]),
AWQ its columns ([in, out * bits / 32]); ``scales`` [groups, out] and ``qzeros``
[groups, out * bits / 32] lie beside either. MXFP4 of Hugging Face and the 4-bit types of
bitsandbytes put two weights into a byte. What no such rule knows stays counted as it is stored.
"""

import re
from collections.abc import Mapping, Sequence

from msgspec import structs

from hartonomous.core.weight import MAX_COUNT, Weight, bounded_count

_WORD_BITS = 32
_WHOLE = "qweight"
_BLOCKS = "_blocks"
_PACKED = re.compile(rf"(?:{_WHOLE}|weight_packed|{_BLOCKS})$")
_FOUR_BITS = ("nf4", "fp4")


def count_packed(weights: Sequence[Weight]) -> list[Weight]:
    """Return the weights of one set; packed ones count what they hold where that can be told."""
    by_name = {weight.name: weight for weight in weights}
    return [
        weight
        if not weight.parameter_count or (count := _held(weight, by_name)) is None
        else structs.replace(weight, parameter_count=count)
        for weight in weights
    ]


def is_packed(weights: Sequence[Weight]) -> bool:
    """Say whether there are packed weights that are counted as stored: fewer than the model has."""
    names = {weight.name for weight in weights}
    return any(
        (_PACKED.search(one.name) or f"{one.name}.absmax" in names)
        and one.parameter_count == bounded_count(one.tensor.shape)
        for one in weights
    )


def _held(weight: Weight, by_name: Mapping[str, Weight]) -> int | None:
    """Return the weights that a packed tensor holds, at most ``MAX_COUNT``; None if unknown."""
    name, shape = weight.name, tuple(weight.tensor.shape)
    if name.endswith(_WHOLE):
        stem = name.removesuffix(_WHOLE)
        return _in_words(shape, _shape(by_name, f"{stem}scales"), _shape(by_name, f"{stem}qzeros"))
    if weight.tensor.dtype != "U8":
        return None
    if name.endswith(_BLOCKS):
        scales = _shape(by_name, f"{name.removesuffix(_BLOCKS)}_scales")
        halves = scales is not None and shape[:-1] == scales
    else:
        halves = any(f"{name}.quant_state.bitsandbytes__{one}" in by_name for one in _FOUR_BITS)
    return min(MAX_COUNT, 2 * bounded_count(shape)) if halves else None


def _in_words(
    shape: tuple[int, ...], scales: tuple[int, ...] | None, zeros: tuple[int, ...] | None
) -> int | None:
    """Return the weights in ``qweight`` of GPTQ or AWQ; the zero points tell the bits of one."""
    if not (len(shape) == 2 and scales and zeros and len(scales) == len(zeros) == 2):
        return None
    (rows, columns), (_, out), (_, words) = shape, scales, zeros
    if min(rows, columns, out, words) <= 0 or words * _WORD_BITS % out:
        return None
    bits = words * _WORD_BITS // out
    if columns == words and bits < _WORD_BITS:
        return bounded_count((rows, out))
    if columns == out and bits < _WORD_BITS and rows * _WORD_BITS % bits == 0:
        return bounded_count((rows * _WORD_BITS // bits, out))
    return None


def _shape(by_name: Mapping[str, Weight], name: str) -> tuple[int, ...] | None:
    found = by_name.get(name)
    return None if found is None else tuple(found.tensor.shape)
