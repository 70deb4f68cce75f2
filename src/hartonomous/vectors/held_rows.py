"""Rows of some vectors, held in memory while they fit, else read from the truth piece by piece."""

from collections.abc import Iterator

import numpy as np

from hartonomous.core.nearness import is_among
from hartonomous.ports.vector_index import Ids, Vectors, VectorTruth

HELD_BYTES = 64 << 20
"""Most bytes of rows that are held; more are read anew at each search."""

_PIECE_BYTES = 8 << 20


class HeldRows:
    """Gives rows by ids, in the truth's own values. Several threads may ask."""

    def __init__(self, truth: VectorTruth, *, limit_bytes: int = HELD_BYTES) -> None:
        self._truth = truth
        self._limit = limit_bytes
        self._width = 4 * truth.space.dimension
        self._held: tuple[Ids, Vectors] | None = None

    def pieces(self, ids: Ids, *, keep: bool = True) -> Iterator[tuple[Ids, Vectors]]:
        """Yield (ids, rows) of all ``ids``, which ascend; ``keep`` holds them for the next time."""
        if keep and ids.size * self._width <= self._limit:
            yield self._refreshed(ids)
            return
        step = max(1, _PIECE_BYTES // self._width)
        for start in range(0, ids.size, step):
            some = ids[start : start + step]
            yield some, self._truth.vectors(some)

    def _refreshed(self, ids: Ids) -> tuple[Ids, Vectors]:
        held = self._held
        if held is not None and (held[0] is ids or np.array_equal(held[0], ids)):
            return held
        rows = np.empty((ids.size, self._truth.space.dimension), dtype=np.float32)
        missing = np.ones(ids.size, dtype=bool)
        if held is not None and held[0].size:
            known = is_among(ids, held[0])
            rows[known] = held[1][np.searchsorted(held[0], ids[known])]
            missing = ~known
        wanted = ids[missing]
        if wanted.size:
            rows[missing] = self._truth.vectors(wanted)
        self._held = (ids, rows)
        return self._held

    def forget(self) -> None:
        """Let go of what is held."""
        self._held = None
