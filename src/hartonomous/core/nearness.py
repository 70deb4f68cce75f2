"""Exact nearness of vectors: what may be compared, scores, and the best of many.

A score is the cosine, the dot product, or the negative squared distance: more is nearer. Candidates
are chosen by float32 matrix products and scored again in float64, so that every index gives the
same score to the same pair.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hartonomous.errors import UsageError

Ids = NDArray[np.int64]
Rows = NDArray[np.float32]

LEAST_LENGTH, MOST_LENGTH = 1e-15, 1e15
"""Lengths that a vector may have: squares and products of them are numbers."""

NONE = -1
"""Stands for an id where there is none."""

EXACT_ROWS = 10_000
"""Up to so many vectors an exact scan is as quick as any index, on one core (384 numbers each)."""

MARGIN = 32
"""So many candidates beyond k are scored in float64."""


def check_vectors(
    vectors: NDArray[np.floating], dimension: int, name: Callable[[int], str] = str
) -> None:
    """Raise UsageError, naming the row by ``name``, for vectors that cannot be compared.

    Those of another dimension, with NaN or infinity, or of no length (or one beyond 1e±15).
    """
    if vectors.ndim != 2 or vectors.shape[1] != dimension:
        has = f"{vectors.shape[1]} dimensions" if vectors.ndim == 2 else f"shape {vectors.shape}"
        raise UsageError(f"vectors of {dimension} dimensions are wanted, {name(0)} has {has}")
    for start in range(0, len(vectors), 4096):
        wide = vectors[start : start + 4096].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
            bad = np.flatnonzero(~((lengths >= LEAST_LENGTH) & (lengths <= MOST_LENGTH)))
        if bad.size:
            row = int(bad[0])
            finite = bool(np.isfinite(wide[row]).all())
            what = f"has the length {lengths[row]:.3g}" if finite else "holds NaN or infinity"
            raise UsageError(
                f"the vector {name(start + row)} {what}",
                hint="vectors have finite numbers and a length between 1e-15 and 1e15",
            )


def checked_queries(queries: NDArray[np.floating], dimension: int) -> Rows:
    """Return queries as contiguous float32 [n, dimension]; raises as ``check_vectors`` does."""
    found = np.asarray(queries)
    check_vectors(found, dimension, lambda row: f"of query {row}")
    return np.ascontiguousarray(found, dtype=np.float32)


def checked_ids(allowed: Ids) -> Ids:
    """Return ids as int64; raises UsageError unless they ascend."""
    found = np.asarray(allowed, dtype=np.int64)
    if found.ndim != 1 or (found.size > 1 and not bool((found[1:] > found[:-1]).all())):
        raise UsageError("the ids that a search is kept to are one ascending list")
    return found


def is_among(ids: Ids, ascending: Ids) -> NDArray[np.bool_]:
    """Say of each id whether it is among ``ascending``."""
    if not ascending.size:
        return np.zeros(ids.shape, dtype=bool)
    at = np.searchsorted(ascending, ids)
    np.minimum(at, ascending.size - 1, out=at)
    return np.asarray(ascending[at] == ids)


def of_unit_length(rows: Rows) -> Rows:
    """Return rows divided by their lengths."""
    wide = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    return np.asarray(rows / wide[:, None], dtype=np.float32)


def quick_scores(queries: Rows, rows: Rows, metric: str) -> NDArray[np.float32]:
    """Return scores in float32, shape [queries, rows]; of cosine, up to a factor a query."""
    if metric == "euclidean":
        # Near the first query differences keep their digits however far the origin is.
        origin = queries[:1]
        near, around = rows - origin, queries - origin
        squares = np.einsum("ij,ij->i", near, near)
        return np.asarray(2 * (around @ near.T) - squares[None, :], dtype=np.float32)
    products = queries @ rows.T
    if metric == "cosine":
        products /= np.sqrt(np.einsum("ij,ij->i", rows, rows))[None, :]
    return np.asarray(products, dtype=np.float32)


def exact_scores(query: Rows, rows: Rows, metric: str) -> NDArray[np.float32]:
    """Return the scores of rows [n, d] for one query [d], computed in float64."""
    wide, asked = rows.astype(np.float64), query.astype(np.float64)
    if metric == "euclidean":
        wide -= asked
        return np.asarray(-np.einsum("ij,ij->i", wide, wide), dtype=np.float32)
    products = wide @ asked
    if metric == "cosine":
        lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        products /= lengths * np.sqrt(asked @ asked)
    return np.asarray(products, dtype=np.float32)


class Best:
    """The best candidates of several queries, fed piece by piece."""

    def __init__(self, queries: int, count: int) -> None:
        self._count = count
        self.ids: Ids = np.full((queries, 0), NONE, dtype=np.int64)
        self.scores: NDArray[np.float32] = np.full((queries, 0), -np.inf, dtype=np.float32)

    def add(self, ids: Ids, scores: NDArray[np.float32]) -> None:
        """Take ids [n] or [queries, n] with scores [queries, n]; -1 is no id."""
        ids = np.broadcast_to(ids, scores.shape)
        if scores.shape[1] > self._count:
            kept = np.argpartition(-scores, self._count - 1, axis=1)[:, : self._count]
            ids = np.take_along_axis(ids, kept, axis=1)
            scores = np.take_along_axis(scores, kept, axis=1)
        ids = np.concatenate([self.ids, ids], axis=1)
        scores = np.concatenate([self.scores, scores], axis=1)
        if scores.shape[1] > self._count:
            kept = np.argpartition(-scores, self._count - 1, axis=1)[:, : self._count]
            ids = np.take_along_axis(ids, kept, axis=1)
            scores = np.take_along_axis(scores, kept, axis=1)
        self.ids, self.scores = ids, scores


def rescored(
    queries: Rows, candidates: Ids, vectors: Callable[[Ids], Rows], metric: str, k: int
) -> tuple[Ids, NDArray[np.float32]]:
    """Return the k best of each query's candidates [queries, n] (-1 is none), exactly scored.

    Rows come from ``vectors``, which is asked for ascending ids. Equal scores: the lower id first.
    """
    ids = np.full((len(queries), k), NONE, dtype=np.int64)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    together = max(1, 4096 // max(1, candidates.shape[1]))
    for start in range(0, len(queries), together):
        group = candidates[start : start + together]
        wanted = np.unique(group)
        wanted = wanted[wanted != NONE]
        if not wanted.size:
            continue
        rows = vectors(wanted)
        for at, mine in enumerate(group):
            own = np.unique(mine[mine != NONE]) if len(group) > 1 else wanted
            held = rows if own.size == wanted.size else rows[np.searchsorted(wanted, own)]
            found = exact_scores(queries[start + at], held, metric)
            order = np.argsort(-found, kind="stable")[:k]
            ids[start + at, : order.size] = own[order]
            scores[start + at, : order.size] = found[order]
    return ids, scores
