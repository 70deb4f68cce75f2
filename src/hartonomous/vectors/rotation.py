"""A fixed rotation for each dimension, which spreads what a vector says over all its numbers.

Three rounds of fixed signs and Hadamard transforms of the first and the last 2^n numbers. It needs
no file: signs come from SHAKE-128 of the dimension. Used as a matrix up to 1,024 dimensions, step
by step beyond.
"""

import functools
import hashlib

import numpy as np
from numpy.typing import NDArray

from hartonomous.ports.vector_index import Vectors

NUMBER = 1
"""Which rotation; stands in every segment."""

_ROUNDS = 3
_MOST_AS_MATRIX = 1024


def rotated(rows: Vectors) -> Vectors:
    """Return rows [n, d] rotated, with a zero added to an odd dimension: [n, d or d + 1]."""
    wide = rows.shape[1] + rows.shape[1] % 2
    if wide != rows.shape[1]:
        rows = np.concatenate([rows, np.zeros((len(rows), 1), dtype=np.float32)], axis=1)
    if wide > _MOST_AS_MATRIX:
        return _stepwise(rows)
    return np.asarray(rows @ _matrix(wide), dtype=np.float32)


@functools.lru_cache(maxsize=8)
def _matrix(wide: int) -> Vectors:
    made = _stepwise(np.eye(wide, dtype=np.float32))
    made.flags.writeable = False
    return made


@functools.lru_cache(maxsize=8)
def _signs(wide: int) -> NDArray[np.float32]:
    name = f"hartonomous rotation {NUMBER} {wide}".encode()
    bits = hashlib.shake_128(name).digest(-(-_ROUNDS * wide // 8))
    drawn = np.unpackbits(np.frombuffer(bits, dtype=np.uint8))[: _ROUNDS * wide]
    return (1.0 - 2.0 * drawn.reshape(_ROUNDS, wide)).astype(np.float32)


def _stepwise(rows: Vectors) -> Vectors:
    wide = rows.shape[1]
    part = 1 << (wide.bit_length() - 1)
    for signs in _signs(wide):
        rows = rows * signs
        rows[:, :part] = _hadamard(rows[:, :part])
        if part != wide:
            rows[:, wide - part :] = _hadamard(rows[:, wide - part :])
    return rows


def _hadamard(rows: Vectors) -> Vectors:
    count, wide = rows.shape
    step = 1
    while step < wide:
        pairs = rows.reshape(count, wide // (2 * step), 2, step)
        first, second = pairs[:, :, 0], pairs[:, :, 1]
        rows = np.stack([first + second, first - second], axis=2).reshape(count, wide)
        step *= 2
    return np.asarray(rows * np.float32(wide**-0.5))
