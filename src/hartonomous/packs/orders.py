"""In which orders the elements of a tensor are compared with those of stored ones."""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

from hartonomous.core.elements import Indices
from hartonomous.core.sketch import heads_permuted, positions, transposed

STRAIGHT, TRANSPOSED, HEADS, HEADS_INVERSE = "straight", "transposed", "heads", "heads-inverse"


@dataclass(frozen=True, slots=True)
class Order:
    """``elements``: where a tensor has what a stored one has at ``positions`` of their size."""

    orientation: str
    heads: int
    elements: Indices


def matrix_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return a tensor as (rows, columns): its first axis, and all others."""
    return (shape[0], prod(shape[1:])) if shape else (1, 1)


@lru_cache(maxsize=256)
def orders(shape: tuple[int, ...], heads: tuple[int, ...]) -> tuple[Order, ...]:
    """Return a tensor's own order first, then the transpose, then rows permuted by heads."""
    rows, columns = matrix_of(shape)
    at = positions(prod(shape))
    found = [Order(STRAIGHT, 0, at)]
    if len(shape) == 2 and min(rows, columns) > 1:
        found.append(Order(TRANSPOSED, 0, transposed(at, rows, columns)))
    for number in dict.fromkeys(heads):
        if number < 1 or rows % (2 * number) or rows == 2 * number:
            continue  # rows are not halves of heads, or the permutation changes nothing
        for orientation, inverse in ((HEADS, False), (HEADS_INVERSE, True)):
            moved = heads_permuted(at, rows, columns, number, inverse=inverse)
            found.append(Order(orientation, number, moved))
    return tuple(found)
