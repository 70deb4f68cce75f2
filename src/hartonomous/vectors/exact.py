"""The exact scan: every live vector is compared. Right up to some 10,000 vectors, and everywhere.

It has no files. Up to 64 MiB of rows are held in memory between searches.
"""

import numpy as np

from hartonomous.core.nearness import (
    MARGIN,
    Best,
    checked_ids,
    checked_queries,
    is_among,
    quick_scores,
    rescored,
)
from hartonomous.errors import NotFoundError, UsageError
from hartonomous.ports.vector_index import Found, Ids, Vectors, VectorTruth
from hartonomous.vectors.held_rows import HELD_BYTES, HeldRows

MOST_HITS = 10_000
QUERIES_AT_ONCE = 512
ATTEMPTS = 4
"""So often a search begins again when vectors are removed while it reads them."""


def check_count(k: int) -> None:
    """Raise UsageError for a number of hits that cannot be asked for."""
    if not 1 <= k <= MOST_HITS:
        raise UsageError(f"{k} hits cannot be asked for: 1 to {MOST_HITS:,}")


class ExactIndex:
    """Compares each query with every live vector."""

    def __init__(self, truth: VectorTruth, *, held_bytes: int = HELD_BYTES) -> None:
        self._truth = truth
        self._rows = HeldRows(truth, limit_bytes=held_bytes)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found wrong, for people: nothing can be."""
        return ()

    def search(self, queries: Vectors, k: int, *, allowed: Ids | None = None) -> Found:
        """Return the k nearest; see ``ports.vector_index.VectorIndex``."""
        asked = checked_queries(queries, self._truth.space.dimension)
        check_count(k)
        kept = None if allowed is None else checked_ids(allowed)
        for left in reversed(range(ATTEMPTS)):
            ids = self._truth.ids()
            if kept is not None:
                ids = ids[is_among(ids, kept)]
            try:
                return nearest(asked, k, ids, self._truth, self._rows, keep=kept is None)
            except NotFoundError:  # removed since
                if not left:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def update(self) -> None:
        """Do nothing: there is nothing beside the truth."""

    def close(self) -> None:
        """Let go of the rows that are held."""
        self._rows.forget()


def nearest(
    queries: Vectors, k: int, ids: Ids, truth: VectorTruth, rows: HeldRows, *, keep: bool
) -> Found:
    """Return the k nearest among ``ids`` (live, ascending) by comparing all of them."""
    found_ids, found_scores = [], []
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        some = queries[start : start + QUERIES_AT_ONCE]
        best = candidates(some, k + MARGIN, ids, truth.space.metric, rows, keep=keep)
        got = rescored(some, best.ids, truth.vectors, truth.space.metric, k)
        found_ids.append(got[0])
        found_scores.append(got[1])
    if not found_ids:
        return Found(np.empty((0, k), dtype=np.int64), np.empty((0, k), dtype=np.float32))
    return Found(np.concatenate(found_ids), np.concatenate(found_scores))


def candidates(
    queries: Vectors, count: int, ids: Ids, metric: str, rows: HeldRows, *, keep: bool
) -> Best:
    """Return the ``count`` best of ``ids`` by float32 scores, scaled as ``quick_scores`` does."""
    best = Best(len(queries), count)
    if not ids.size:
        return best
    step = 4096
    for some, values in rows.pieces(ids, keep=keep):
        for start in range(0, some.size, step):
            part = slice(start, start + step)
            best.add(some[part], quick_scores(queries, values[part], metric))
    return best
