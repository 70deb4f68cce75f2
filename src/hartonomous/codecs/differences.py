"""Differences between floats and a prediction of them, in numpy: values, symbols, raw bits.

docs/format-delta.md specifies each of these; native/differences.h does the same in C. Floats are
unsigned integers of 16 or 32 bits here.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_ELEMENTS = 128
ROWS = 32
STEPS = 64
"""How many values the first bits of a mantissa have that say a step."""

Words = NDArray[Any]
"""Elements of a frame, uint16 or uint32."""
_Wide = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of floats: its number in payloads, bytes of an element, bits of its mantissa."""

    number: int
    width: int
    mantissa: int

    @property
    def most_symbols(self) -> int:
        """Symbols that differences of this width can have."""
        return 8 * (8 * self.width - 2)

    def read(self, content: memoryview) -> Words:
        """Return the elements of some bytes."""
        return np.frombuffer(content, f"<u{self.width}")


KINDS = {"BF16": Kind(0, 2, 7), "F16": Kind(1, 2, 10), "F32": Kind(2, 4, 23)}


def differences(kind: Kind, prediction: Words, elements: Words) -> Words:
    """Return by how much elements differ from their prediction, small for a small change."""
    change = _order(kind, elements) - _order(kind, prediction)
    change = _turned(kind, prediction, change)
    folded: Words = change << 1 ^ _sign(kind, change)
    return folded


def restored(kind: Kind, prediction: Words, difference: Words) -> Words:
    """Return the elements that differ from the prediction by this; undoes ``differences``."""
    one = difference.dtype.type(1)
    change = difference >> one ^ -(difference & one)
    ordered = _order(kind, prediction) + _turned(kind, prediction, change)
    top = ordered.dtype.type(1 << (8 * kind.width - 1))
    elements: Words = ordered ^ (~_sign(kind, ordered) | top)
    return elements


def _sign(kind: Kind, words: Words) -> Words:
    """Return all bits set where the highest one is."""
    return (words.view(f"<i{kind.width}") >> (8 * kind.width - 1)).view(words.dtype)


def _order(kind: Kind, words: Words) -> Words:
    """Return unsigned integers in the order of the floats' values."""
    ordered: Words = words ^ (_sign(kind, words) | words.dtype.type(1 << (8 * kind.width - 1)))
    return ordered


def _turned(kind: Kind, prediction: Words, change: Words) -> Words:
    """Return changes negated where the prediction is negative."""
    sign = _sign(kind, prediction)
    turned: Words = (change ^ sign) - sign
    return turned


def symbols_of(difference: Words) -> NDArray[np.uint8]:
    """Return the symbols of differences: themselves below 16, else bit length and three bits."""
    wide = difference.astype(np.int64)
    length = np.frexp(difference.astype(np.float64))[1].astype(np.int64)
    shift = np.maximum(length - 4, 0)
    symbols: NDArray[np.uint8] = np.where(
        wide < 16, wide, 8 * (shift + 1) + (wide >> shift) - 8
    ).astype(np.uint8)
    return symbols


def raw_widths(symbols: NDArray[np.uint8]) -> _Wide:
    """Return how many raw bits follow each symbol."""
    widths: _Wide = np.maximum((symbols >> 3).astype(np.int64) - 1, 0)
    return widths


def pack_raw_bits(difference: Words, widths: _Wide) -> bytes:
    """Return the lowest ``widths`` bits of each difference, the first ones lowest."""
    order = np.arange(int(widths.sum()))
    begins = np.cumsum(widths) - widths
    owner = np.repeat(np.arange(len(widths)), widths)
    bits = difference[owner].astype(np.int64) >> (order - begins[owner]) & 1
    return np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()


def expanded(
    kind: Kind, symbols: NDArray[np.uint8], widths: _Wide, raw: NDArray[np.uint8]
) -> Words:
    """Return the differences of symbols and their raw bits; undoes the two above."""
    padded = np.concatenate([raw, np.zeros(8, np.uint8)]).astype(np.int64)
    begins = np.cumsum(widths) - widths
    word = sum((padded[(begins >> 3) + k] << 8 * k for k in range(5)), np.zeros_like(begins))
    low = word >> (begins & 7) & ((1 << widths) - 1)
    lead = np.where(symbols < 8, symbols, symbols & 7 | 8).astype(np.int64)
    found: Words = (lead << widths | low).astype(f"<u{kind.width}")
    return found


def keys_of(kind: Kind, prediction: Words) -> _Wide:
    """Return exponent and first bit of the mantissa of each prediction."""
    magnitude = prediction & prediction.dtype.type((1 << (8 * kind.width - 1)) - 1)
    keys: _Wide = (magnitude >> (kind.mantissa - 1)).astype(np.int64)
    return keys


def rows_of(kind: Kind, prediction: Words, top: int) -> NDArray[np.uint8]:
    """Return by how many halves of a binade each prediction is below ``top``, at most 31."""
    rows: NDArray[np.uint8] = np.clip(top - keys_of(kind, prediction), 0, ROWS - 1).astype(np.uint8)
    return rows


def scaled(kind: Kind, prediction: Words, factor: np.float32) -> Words:
    """Return predictions times a factor, rounded once to the nearest even of their type.

    Where a factor or the product is not a normal number, or is of the least exponent, the
    prediction stays as it is; so neither NaNs nor flushing to zero matter.
    """
    if kind.width == 4:
        product = _products(prediction, factor)
        return np.where(_fits(prediction >> 23 & 255, product, 2, 254, 254), product, prediction)
    wide = prediction.astype(np.uint32)
    if kind.mantissa == 7:
        product = _products(wide << 16, factor)
        rounded = product + 0x7FFF + (product >> 16 & 1) >> 16
        fits = _fits(wide >> 7 & 255, product, 2, 254, 254)
    else:
        sign, magnitude = (wide & 0x8000) << 16, wide & 0x7FFF
        product = _products(sign | (magnitude << 13) + np.uint32(112 << 23), factor)
        low = (product & 0x7FFFFFFF) - np.uint32(112 << 23)
        rounded = (product >> 16 & 0x8000) | (low + 0xFFF + (low >> 13 & 1) >> 13)
        fits = _fits(wide >> 10 & 31, product, 113, 142, 30)
    return np.where(fits, rounded, wide).astype(np.uint16)


def cells_of(prediction: Words) -> _Wide:
    """Return the first six bits of the mantissa of each prediction of F32."""
    cells: _Wide = (prediction >> 17 & (STEPS - 1)).astype(np.int64)
    return cells


def stepped(prediction: Words, steps: NDArray[np.int16]) -> Words:
    """Return predictions of F32 moved towards zero by the step of their mantissa's first bits.

    ``steps`` are 64, in units of the last place. Numbers that are not normal stay as they are.
    """
    exponents = prediction >> 23 & 255
    moved = prediction - steps[cells_of(prediction)].astype(np.int32).view(np.uint32)
    return np.where((exponents >= 1) & (exponents <= 254), moved, prediction)


def _products(words: Words, factor: np.float32) -> NDArray[np.uint32]:
    with np.errstate(all="ignore"):
        return (words.astype(np.uint32).view(np.float32) * factor).view(np.uint32)


def _fits(
    exponents: Words, product: NDArray[np.uint32], least: int, most: int, most_before: int
) -> NDArray[np.bool_]:
    after = product >> 23 & 255
    return (exponents >= 1) & (exponents <= most_before) & (after >= least) & (after <= most)
