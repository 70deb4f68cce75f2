"""Search by candidates: a source names the likely ones, the truth decides.

What every source has in common: vectors that it does not hold are compared exactly, removed ones
are left out, filters are met, and scores are exact.
"""

import threading
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hartonomous.core.nearness import (
    MARGIN,
    NONE,
    checked_ids,
    checked_queries,
    is_among,
    rescored,
)
from hartonomous.errors import NotFoundError, UsageError
from hartonomous.ports.vector_index import Found, Ids, Vectors, VectorTruth
from hartonomous.vectors.exact import ATTEMPTS, candidates, check_count, nearest
from hartonomous.vectors.held_rows import HeldRows

RESCORED = 100
"""Candidates that are scored exactly; four times as many as hits where that is more."""

FEW_ALLOWED = 0.05
"""Up to this share of vectors is gathered and compared exactly."""

_FEW_ROWS = 2_000
_MORE_FILTERED = 60
_QUERIES_AT_ONCE = 64


class CandidateView(Protocol):
    """What a source holds at one moment. Several threads may ask."""

    @property
    def ids(self) -> Ids:
        """The ids that it holds, ascending; some may have been removed since."""
        ...

    def candidates(self, queries: Vectors, count: int) -> Ids:
        """Return some ``count`` ids a query, the likeliest first; -1 is none."""
        ...


class CandidateSource(Protocol):
    """Names likely neighbours. ``notes`` are for people: what was found wrong, and left out."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found wrong."""
        ...

    def view(self) -> CandidateView:
        """Return what it holds now; the same object while nothing changed."""
        ...

    def update(self) -> None:
        """Take in what was added to the truth, and give up what was removed."""
        ...

    def close(self) -> None:
        """Let go of files and memory."""
        ...


@dataclass(frozen=True, eq=False)
class _Moment:
    """How a view stands to the live vectors."""

    view: CandidateView
    live: Ids
    tail: Ids
    dead_share: float


class ApproximateIndex:
    """An index of vectors (``ports.vector_index.VectorIndex``) on a source of candidates.

    ``rescore``: candidates that are scored exactly. ``widened``: how many times as many a source
    needs whose order is rough.
    """

    def __init__(
        self,
        truth: VectorTruth,
        source: CandidateSource,
        *,
        rescore: int = RESCORED,
        widened: float = 1.0,
    ) -> None:
        self._truth = truth
        self._source = source
        self._rescore = rescore
        self._widened = widened
        self._rows = HeldRows(truth)
        self._guard = threading.Lock()
        self._last: _Moment | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found wrong, for people; an update mends it."""
        return self._source.notes

    @property
    def tail_rows(self) -> int:
        """How many live vectors the source does not hold; they are compared exactly."""
        return int(self._moment().tail.size)

    def search(self, queries: Vectors, k: int, *, allowed: Ids | None = None) -> Found:
        """Return the k nearest; see ``ports.vector_index.VectorIndex``."""
        asked = checked_queries(queries, self._truth.space.dimension)
        check_count(k)
        kept = None if allowed is None else checked_ids(allowed)
        for left in reversed(range(ATTEMPTS)):
            try:
                return self._search(asked, k, kept)
            except (NotFoundError, UsageError):  # of the truth: vectors were removed since
                if not left:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def update(self) -> None:
        """Take in what was added, and give up what was removed."""
        for left in reversed(range(ATTEMPTS)):
            try:
                self._source.update()
                break
            except (NotFoundError, UsageError):  # of the truth, as above
                if not left:
                    raise

    def close(self) -> None:
        """Let go of what is mapped and held."""
        self._last = None
        self._rows.forget()
        self._source.close()

    def _moment(self) -> _Moment:
        with self._guard:
            view, live, last = self._source.view(), self._truth.ids(), self._last
            if (
                last is not None
                and last.view is view
                and (last.live is live or np.array_equal(last.live, live))
            ):
                return last
            alive = is_among(view.ids, live)
            share = 1 - float(alive.mean()) if alive.size else 0.0
            tail = live[~is_among(live, view.ids)]
            self._last = _Moment(view, live, tail, share)
            return self._last

    def _search(self, queries: Vectors, k: int, allowed: Ids | None) -> Found:
        now = self._moment()
        live = now.live
        kept = live if allowed is None else allowed[is_among(allowed, live)]
        few = max(FEW_ALLOWED * live.size, _FEW_ROWS)
        if not now.view.ids.size or (allowed is not None and kept.size <= few):
            keep = allowed is None
            return nearest(queries, k, kept, self._truth, self._rows, keep=keep)
        ids = np.empty((len(queries), k), dtype=np.int64)
        scores = np.empty((len(queries), k), dtype=np.float32)
        metric = self._truth.space.metric
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            some = slice(start, start + _QUERIES_AT_ONCE)
            likely = self._likely(now, queries[some], k, None if allowed is None else kept)
            ids[some], scores[some] = rescored(
                queries[some], likely, self._truth.vectors, metric, k
            )
        short = np.flatnonzero((ids != NONE).sum(axis=1) < min(k, kept.size))
        if short.size:  # what is allowed lies far from these queries
            again = nearest(queries[short], k, kept, self._truth, self._rows, keep=False)
            ids[short], scores[short] = again
        return Found(ids, scores)

    def _likely(self, now: _Moment, queries: Vectors, k: int, kept: Ids | None) -> Ids:
        """Return the candidates of each query: live, and among ``kept`` if given."""
        wanted = int(self._widened * max(self._rescore, 4 * k))
        share = 1.0 if kept is None else kept.size / now.live.size
        more = 0.0 if kept is None else _MORE_FILTERED
        alive = max(1 - now.dead_share, 1e-3)
        fetched = min(now.view.ids.size, int((wanted + more) / (share * alive)) + 1)
        found = now.view.candidates(queries, fetched)
        if now.dead_share or kept is not None:
            is_good = is_among(found, now.live if kept is None else kept)
            found = _first(np.where(is_good, found, NONE), wanted)
        tail = now.tail if kept is None else now.tail[is_among(now.tail, kept)]
        if not tail.size:
            return found
        metric = self._truth.space.metric
        near = candidates(queries, k + MARGIN, tail, metric, self._rows, keep=kept is None)
        return np.concatenate([found, near.ids], axis=1)


def _first(ids: Ids, count: int) -> Ids:
    """Return the first ``count`` ids of each row that are some."""
    order = np.argsort(ids == NONE, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(ids, order, axis=1)
