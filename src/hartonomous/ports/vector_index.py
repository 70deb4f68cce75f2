"""Port of vector indexes: derived structures that find the nearest vectors of one space.

Vectors have ids: positive numbers of 63 bits, unique in their space, ascending in the order in
which they were added, never given twice. The truth of vectors lies elsewhere; an index may be
deleted at any time.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hartonomous.core.space import Space

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]


class Found(NamedTuple):
    """Nearest vectors, the best first: ids and scores of shape [queries, k].

    A score is the cosine, the dot product, or the negative squared distance: more is nearer. Where
    there are fewer than k, the id is -1 and the score minus infinity.
    """

    ids: Ids
    scores: NDArray[np.float32]


class VectorTruth(Protocol):
    """The exact vectors of one space, as an index reads them. Safe for several threads."""

    @property
    def space(self) -> Space:
        """Whose vectors they are."""
        ...

    def ids(self) -> Ids:
        """Return the ids of all live vectors, ascending."""
        ...

    def vectors(self, ids: Ids) -> Vectors:
        """Return the vectors of some live ids, shape [n, dimension], in the order of ``ids``."""
        ...

    def scan(self, after_id: int = 0) -> Iterator[tuple[Ids, Vectors]]:
        """Yield (ids, vectors) beyond ``after_id``, ascending, in pieces of bounded size."""
        ...


class VectorIndex(Protocol):
    """Finds the nearest vectors of one space. Results are exact scores, rescored from the truth."""

    def search(self, queries: Vectors, k: int, *, allowed: Ids | None = None) -> Found:
        """Return the k nearest live vectors of each query, among ``allowed`` (ascending) if given.

        Raises UsageError for queries of another dimension, with NaN, or of no length.
        """
        ...

    def update(self) -> None:
        """Take in what was added to the truth since, and merge what became small or dead."""
        ...

    def close(self) -> None:
        """Let go of files and memory."""
        ...
