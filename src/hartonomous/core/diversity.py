"""An order in which hits do not repeat each other: maximal marginal relevance.

Carbonell and Goldstein, SIGIR 1998. Likeness is that of two sets of terms (Jaccard), which needs no
vectors and says the same on every machine.
"""

from collections.abc import Sequence

_RELEVANCE = 0.7


def diverse(hits: Sequence[set[str]]) -> list[int]:
    """Return the places of hits, given the best first by their terms, in an order that varies.

    What counts of a hit is its place, and how much of its terms the likest one before it has.
    """
    left = list(range(len(hits)))
    likest = [0.0] * len(hits)
    chosen: list[int] = []
    while left:
        best = max(left, key=lambda at: (_worth(at, len(hits), likest[at]), -at))
        left.remove(best)
        chosen.append(best)
        for at in left:
            likest[at] = max(likest[at], _jaccard(hits[at], hits[best]))
    return chosen


def _worth(at: int, count: int, likest: float) -> float:
    return _RELEVANCE * (1 - at / count) - (1 - _RELEVANCE) * likest


def _jaccard(a: set[str], b: set[str]) -> float:
    together = len(a | b)
    return len(a & b) / together if together else 0.0
