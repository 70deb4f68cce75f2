"""The compressed scan: codes of a quarter of a byte a dimension, all compared, the best rescored.

Vectors that are in no segment yet are compared exactly. Needs faiss (the extra ``search``).
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hartonomous import locks
from hartonomous.core.nearness import (
    NONE,
    checked_ids,
    checked_queries,
    is_among,
    of_unit_length,
    rescored,
)
from hartonomous.errors import NotFoundError, UsageError
from hartonomous.ports.vector_index import Found, Ids, Vectors, VectorTruth
from hartonomous.vectors.codebook import Codes, code_bytes, scan_of
from hartonomous.vectors.exact import ATTEMPTS, candidates, check_count, nearest
from hartonomous.vectors.frame import Frame
from hartonomous.vectors.generation import LOCK, Generation, publish, read_generation, stamp
from hartonomous.vectors.held_rows import HeldRows
from hartonomous.vectors.merging import Merging, Tiers

RESCORED = 100
"""Candidates that are scored exactly; four times as many as hits where that is more."""

FIRST_ROWS = 10_000
"""An exact scan of fewer vectors is as quick."""

FEW_ALLOWED = 0.05
"""Up to this share of vectors is gathered and compared exactly."""

_FEW_ROWS = 2_000
_DIMENSIONS = 256
_MORE_FILTERED = 60
_GROUP_BYTES = 64 << 20
_LOADED_BYTES = 256 << 20
_QUERIES_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class _Group:
    """Segments of one frame that are scanned as one."""

    ids: Ids
    codes: tuple[Codes, ...]
    frame: Frame


@dataclass(frozen=True, eq=False)
class _View:
    """What a search works on: segments, and how they stand to the live vectors."""

    generation: Generation
    groups: tuple[_Group, ...]
    live: Ids
    tail: Ids
    dead_shares: tuple[float, ...]


class ScanIndex:
    """Segments of codes in a folder of its own. Several processes may search and update it."""

    def __init__(
        self,
        directory: Path,
        truth: VectorTruth,
        *,
        tiers: Tiers | None = None,
        first_rows: int = FIRST_ROWS,
        rescore: int = RESCORED,
    ) -> None:
        self._directory = directory
        self._truth = truth
        self._tiers = tiers or Tiers()
        self._first_rows = first_rows
        # Codes of few dimensions say less: so many more candidates, each of them shorter.
        self._widened = max(1.0, _DIMENSIONS / truth.space.dimension)
        self._rescore = rescore
        self._rows = HeldRows(truth)
        self._guard = threading.Lock()
        self._stamp = stamp(directory)
        self._view = self._viewed(read_generation(directory, truth.space), None, truth.ids())
        self._loaded: OrderedDict[_Group, Any] = OrderedDict()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found wrong with files, for people; an update codes their vectors anew."""
        return self._view.generation.notes

    @property
    def segment_rows(self) -> tuple[int, ...]:
        """How many vectors each segment has."""
        return tuple(one.rows for one in self._view.generation.segments)

    @property
    def tail_rows(self) -> int:
        """How many live vectors are in no segment, and compared exactly."""
        return int(self._current().tail.size)

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
        """Code what was added, merge what became small or dead, and remove what is unused."""
        if not (self._directory / LOCK).exists():
            if self._truth.ids().size < max(self._first_rows, 32):
                return
            self._directory.mkdir(parents=True, exist_ok=True)
        with locks.held(self._directory / LOCK, what="the update of an index of vectors"):
            for left in reversed(range(ATTEMPTS)):
                try:
                    self._update()
                    break
                except (NotFoundError, UsageError):
                    if not left:
                        raise
        self._current()

    def close(self) -> None:
        """Let go of what is mapped and held."""
        self._rows.forget()
        with self._guard:
            self._loaded.clear()
            none = np.empty(0, dtype=np.int64)
            self._stamp, self._view = None, _View(Generation(0, ()), (), none, none, ())

    def _update(self) -> None:
        space = self._truth.space
        now = read_generation(self._directory, space, self._view.generation)
        if not now.segments and self._truth.ids().size < max(self._first_rows, 32):
            segments = []
        else:
            segments = Merging(self._directory, self._truth, self._tiers).run(now.segments)
        names = [one.name for one in segments]
        if now.notes or names != [one.name for one in now.segments]:
            publish(self._directory, space, now.number + 1, names)

    def _current(self) -> _View:
        """Return the view of the present generation and the present live vectors."""
        with self._guard:
            view, seen = self._view, stamp(self._directory)
            live = self._truth.ids()
            if seen != self._stamp:
                found = read_generation(self._directory, self._truth.space, view.generation)
                self._stamp, self._view = seen, self._viewed(found, None, live)
                for group in [one for one in self._loaded if one not in self._view.groups]:
                    del self._loaded[group]
            elif live is not view.live:
                if np.array_equal(live, view.live):
                    return view
                self._view = self._viewed(view.generation, view.groups, live)
            return self._view

    def _viewed(
        self, generation: Generation, groups: tuple[_Group, ...] | None, live: Ids
    ) -> _View:
        if groups is None:
            groups = _grouped(generation, self._truth.space.dimension)
        shares, covered = [], []
        for group in groups:
            alive = is_among(group.ids, live)
            shares.append(1 - float(alive.mean()))
            covered.append(group.ids[alive])
        among = np.sort(np.concatenate(covered)) if covered else np.empty(0, dtype=np.int64)
        return _View(generation, groups, live, live[~is_among(live, among)], tuple(shares))

    def _search(self, queries: Vectors, k: int, allowed: Ids | None) -> Found:
        view = self._current()
        kept = view.live if allowed is None else allowed[is_among(allowed, view.live)]
        share = kept.size / max(1, view.live.size)
        few = max(FEW_ALLOWED * view.live.size, _FEW_ROWS)
        if not view.groups or (allowed is not None and kept.size <= few):
            keep = allowed is None
            return nearest(queries, k, kept, self._truth, self._rows, keep=keep)
        ids = np.empty((len(queries), k), dtype=np.int64)
        scores = np.empty((len(queries), k), dtype=np.float32)
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            some = slice(start, start + _QUERIES_AT_ONCE)
            best = self._candidates(
                view, queries[some], k, None if allowed is None else kept, share
            )
            found = rescored(queries[some], best, self._truth.vectors, self._truth.space.metric, k)
            ids[some], scores[some] = found
        short = np.flatnonzero((ids != NONE).sum(axis=1) < min(k, kept.size))
        if short.size:  # what is allowed lies far from these queries
            again = nearest(queries[short], k, kept, self._truth, self._rows, keep=False)
            ids[short], scores[short] = again
        return Found(ids, scores)

    def _candidates(
        self, view: _View, queries: Vectors, k: int, kept: Ids | None, share: float
    ) -> Ids:
        """Return candidates [queries, n], live and among ``kept``, a share of all."""
        metric = self._truth.space.metric
        if metric == "cosine":
            queries = of_unit_length(queries)
        wanted = int(self._widened * max(self._rescore, 4 * k))
        tail = view.tail if kept is None else view.tail[is_among(view.tail, kept)]
        best = candidates(queries, wanted, tail, metric, self._rows, keep=kept is None)
        more = 0.0 if kept is None else _MORE_FILTERED / share
        for group, dead in zip(view.groups, view.dead_shares, strict=True):
            fetched = min(group.ids.size, int((wanted + more) / (share * (1 - dead) or 1.0)) + 1)
            asked = group.frame.asked(queries, metric)
            said, at = self._scan(group).search(asked, fetched)
            scores = group.frame.scores(said, queries, metric)
            found = np.where(at < 0, NONE, group.ids[at])
            if dead or kept is not None:
                found[~is_among(found, view.live if kept is None else kept)] = NONE
            scores[found == NONE] = -np.inf
            best.add(found, scores)
        return np.where(np.isneginf(best.scores), NONE, best.ids)

    def _scan(self, group: _Group) -> Any:
        """Return the faiss index of a group; the groups asked for last are kept in memory."""
        with self._guard:
            made = self._loaded.get(group)
            if made is None:
                dimension = self._truth.space.dimension
                made = scan_of(
                    np.concatenate(group.codes),
                    dimension + dimension % 2,
                    by_distance=group.frame.by_distance(self._truth.space.metric),
                )
                self._loaded[group] = made
            self._loaded.move_to_end(group)
            wide = code_bytes(self._truth.space.dimension)
            while len(self._loaded) > 1 and _size(self._loaded, wide) > _LOADED_BYTES:
                self._loaded.popitem(last=False)
            return made


def _size(loaded: "OrderedDict[_Group, Any]", wide: int) -> int:
    return sum(one.ids.size * wide for one in loaded)


def _grouped(generation: Generation, dimension: int) -> tuple[_Group, ...]:
    """Return groups of segments that share a frame, of bounded size: one scan for each."""
    groups: list[_Group] = []
    open_groups: dict[bytes, list[Any]] = {}
    most = _GROUP_BYTES // code_bytes(dimension)

    def ended(members: list[Any]) -> _Group:
        ids = np.concatenate([one.ids for one in members])
        return _Group(ids, tuple(one.codes for one in members), members[0].frame)

    for segment in generation.segments:
        members = open_groups.setdefault(segment.frame.key, [])
        if members and sum(one.rows for one in members) + segment.rows > most:
            groups.append(ended(members))
            members.clear()
        members.append(segment)
    groups += [ended(members) for members in open_groups.values()]
    return tuple(groups)
