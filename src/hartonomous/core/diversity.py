"""An order in which hits do not repeat each other: maximal marginal relevance.

Carbonell and Goldstein, SIGIR 1998. Two hits that have vectors of one space are as like as the
cosine of these; others as their terms, which say the same on every machine (Jaccard).
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

_RELEVANCE = 0.7


class VariedHit(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared of a hit: its terms, and its vector [dimension] in a space, if it has one.

    Vectors of different spaces are never compared.
    """

    terms: frozenset[str]
    space: str = ""
    vector: NDArray[Any] | None = None


def diverse(hits: Sequence[VariedHit]) -> list[int]:
    """Return the places of hits, given the best first, in an order that varies.

    What counts of a hit is its place, and how like it the likest one before it is.
    """
    units = [_unit(one) for one in hits]
    left = list(range(len(hits)))
    likest = [0.0] * len(hits)
    chosen: list[int] = []
    while left:
        best = max(left, key=lambda at: (_worth(at, len(hits), likest[at]), -at))
        left.remove(best)
        chosen.append(best)
        for at in left:
            a, b = units[at], units[best]
            if a is not None and b is not None and hits[at].space == hits[best].space:
                like = max(0.0, float(a @ b))
            else:
                like = _jaccard(hits[at].terms, hits[best].terms)
            likest[at] = max(likest[at], like)
    return chosen


def _unit(hit: VariedHit) -> NDArray[np.float64] | None:
    if hit.vector is None:
        return None
    vector = np.asarray(hit.vector, np.float64)
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else None


def _worth(at: int, count: int, likest: float) -> float:
    return _RELEVANCE * (1 - at / count) - (1 - _RELEVANCE) * likest


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    together = len(a | b)
    return len(a & b) / together if together else 0.0
