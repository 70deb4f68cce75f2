"""By what untouched floats have shrunk, found from samples: a factor, or steps; for DELTA.

Weight decay multiplies every weight, also those that no gradient reached, so a base times one
factor predicts them. It is a median of ratios in blocks that agree. Where the decay of one step of
training is a few units of the last place, rounding makes it as many whole units as the mantissa
says, at each step; then steps of the mantissa's first bits predict better. native/delta.c does the
same.
"""

import numpy as np
from numpy.typing import NDArray

from hartonomous.codecs.differences import BLOCK_ELEMENTS, STEPS, Kind, Words, cells_of

_BLOCKS, _AGREEING, _ELEMENTS = 64, 4, 8
_STEP_SAMPLES = 63
_SPREADS = {23: 2.0**-18, 10: 2.0**-9, 7: 2.0**-6}


def find_factor(kind: Kind, prediction: Words, elements: Words) -> np.float32 | None:
    """Return the factor, or None where there is none, or it is 1 or no normal number."""
    blocks = len(prediction) // BLOCK_ELEMENTS
    if blocks < _AGREEING:
        return None
    firsts = np.arange(_BLOCKS) * blocks // _BLOCKS * BLOCK_ELEMENTS
    places = firsts[:, None] + 16 * np.arange(_ELEMENTS) + 5
    before, after = _values(kind, prediction[places]), _values(kind, elements[places])
    known = (before != 0) & (after != 0)
    ratios = np.sort(np.where(known, after / np.where(known, before, 1), 1), axis=1)
    agree = (ratios[:, 6] - ratios[:, 1] < _SPREADS[kind.mantissa]) & (ratios[:, 3] != 1)
    medians = np.sort(ratios[agree, 3])
    if len(medians) < _AGREEING:
        return None
    with np.errstate(over="ignore"):
        factor = np.float32(medians[len(medians) // 2])
    exponent = int(factor.view(np.uint32)) >> 23 & 255
    return None if factor == 1 or exponent in (0, 255) else factor


def find_steps(prediction: Words, elements: Words) -> NDArray[np.int16]:
    """Return by how many units F32 went towards zero, by the first bits of the mantissa.

    Medians of the first 63 normal elements of each that kept their sign; 0 where there is none, or
    it is not of 16 bits.
    """
    exponents = prediction >> 23 & 255
    known = ((prediction ^ elements) >> 31 == 0) & (exponents >= 1) & (exponents <= 254)
    before, after = prediction[known], elements[known]
    cells = cells_of(before)
    down = (before & 0x7FFFFFFF).astype(np.int64) - (after & 0x7FFFFFFF).astype(np.int64)
    steps = np.zeros(STEPS, np.int64)
    for cell in range(STEPS):
        samples = np.sort(down[cells == cell][:_STEP_SAMPLES])
        if len(samples):
            steps[cell] = samples[len(samples) // 2]
    return np.where(steps == steps.astype(np.int16), steps, 0).astype(np.int16)


def _values(kind: Kind, words: Words) -> NDArray[np.float64]:
    """Return the values of normal numbers, 0 for every other."""
    wide: Words = words.astype(np.uint32)
    if kind.mantissa == 7:
        wide = wide << 16
    elif kind.mantissa == 10:
        exponent = wide & 0x7C00
        normal = (exponent > 0) & (exponent < 0x7C00)
        turned = (wide & 0x8000) << 16 | ((wide & 0x7FFF) + np.uint32(112 << 10)) << 13
        wide = np.where(normal, turned, 0).astype(np.uint32)
    exponent = wide >> 23 & 255
    normal = (exponent > 0) & (exponent < 255)
    return np.where(normal, wide, 0).astype(np.uint32).view(np.float32).astype(np.float64)
