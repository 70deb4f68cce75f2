"""The compressed scan: codes of a quarter of a byte a dimension, all compared, the best rescored.

Needs faiss (the extra ``search``).
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hartonomous import locks
from hartonomous.core.nearness import EXACT_ROWS, NONE, Best, of_unit_length
from hartonomous.ports.vector_index import Ids, Vectors, VectorTruth
from hartonomous.vectors.approximate import RESCORED, ApproximateIndex
from hartonomous.vectors.codebook import BLOCK, Codes, code_bytes, scan_of
from hartonomous.vectors.frame import Frame
from hartonomous.vectors.generation import LOCK, Generation, publish, read_generation, stamp
from hartonomous.vectors.merging import Merging, Tiers

_DIMENSIONS = 256
"""Codes of fewer dimensions say less: so many more candidates, each of them shorter."""

_GROUP_BYTES = 64 << 20
_LOADED_BYTES = 256 << 20


class ScanIndex(ApproximateIndex):
    """Segments of codes in a folder of its own. Several processes may search and update it."""

    def __init__(
        self,
        directory: Path,
        truth: VectorTruth,
        *,
        tiers: Tiers | None = None,
        first_rows: int = EXACT_ROWS,
        rescore: int = RESCORED,
    ) -> None:
        self._segments = _Segments(directory, truth, tiers or Tiers(), first_rows)
        widened = max(1.0, _DIMENSIONS / truth.space.dimension)
        super().__init__(truth, self._segments, rescore=rescore, widened=widened)

    @property
    def segment_rows(self) -> tuple[int, ...]:
        """How many vectors each segment has."""
        return tuple(one.rows for one in self._segments.view().generation.segments)


class _Group:
    """Segments of one frame that are scanned as one: ids [n], codes of each."""

    def __init__(self, ids: Ids, codes: tuple[Codes, ...], frame: Frame) -> None:
        self.ids = ids
        self.codes = codes
        self.frame = frame

    @property
    def size(self) -> int:
        """Bytes of codes."""
        return sum(one.size for one in self.codes)


@dataclass(frozen=True, eq=False)
class _SegmentsView:
    """One generation; ``ids`` of all its segments, ascending."""

    generation: Generation
    groups: tuple[_Group, ...]
    ids: Ids
    loaded: "_LoadedScans"

    def candidates(self, queries: Vectors, count: int) -> Ids:
        """Return the best by codes; see ``approximate.CandidateView``."""
        metric = self.loaded.metric
        if metric == "cosine":
            queries = of_unit_length(queries)
        best = Best(len(queries), count)
        for group in self.groups:
            asked = group.frame.asked(queries, metric)
            said, at = self.loaded.scan(group).search(asked, min(group.ids.size, count))
            found = np.where(at < 0, NONE, group.ids[at])
            if len(self.groups) == 1:
                return found
            scores = group.frame.scores(said, queries, metric)
            scores[at < 0] = -np.inf
            best.add(found, scores)
        order = np.argsort(-best.scores, axis=1, kind="stable")
        return np.take_along_axis(best.ids, order, axis=1)


class _LoadedScans:
    """Groups as faiss has them in memory: those asked for last, of bounded size."""

    def __init__(self, dimension: int, metric: str) -> None:
        self.metric = metric
        self._dimension = dimension
        self._guard = threading.Lock()
        self._made: OrderedDict[_Group, Any] = OrderedDict()

    def scan(self, group: _Group) -> Any:
        """Return the faiss index of a group."""
        with self._guard:
            made = self._made.get(group)
            if made is None:
                dimension = self._dimension + self._dimension % 2
                by_distance = group.frame.by_distance(self.metric)
                made = scan_of(np.concatenate(group.codes), dimension, by_distance=by_distance)
                self._made[group] = made
            self._made.move_to_end(group)
            while len(self._made) > 1 and sum(one.size for one in self._made) > _LOADED_BYTES:
                self._made.popitem(last=False)
            return made

    def keep(self, groups: tuple[_Group, ...]) -> None:
        """Let go of all others."""
        with self._guard:
            for group in [one for one in self._made if one not in groups]:
                del self._made[group]


class _Segments:
    """The segments of a folder, as a source of candidates."""

    def __init__(self, directory: Path, truth: VectorTruth, tiers: Tiers, first_rows: int) -> None:
        self._directory = directory
        self._truth = truth
        self._tiers = tiers
        self._first_rows = max(first_rows, BLOCK)
        self._guard = threading.Lock()
        self._loaded = _LoadedScans(truth.space.dimension, truth.space.metric)
        self._stamp = stamp(directory)
        self._view = self._viewed(read_generation(directory, truth.space))

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found wrong with files."""
        return self.view().generation.notes

    def view(self) -> _SegmentsView:
        """Return the present generation."""
        with self._guard:
            seen = stamp(self._directory)
            if seen != self._stamp:
                found = read_generation(self._directory, self._truth.space, self._view.generation)
                self._stamp, self._view = seen, self._viewed(found)
                self._loaded.keep(self._view.groups)
            return self._view

    def update(self) -> None:
        """Code what was added, merge what became small or dead, and remove what is unused."""
        if not (self._directory / LOCK).exists():
            if self._truth.ids().size < self._first_rows:
                return
            self._directory.mkdir(parents=True, exist_ok=True)
        with locks.held(self._directory / LOCK, what="the update of an index of vectors"):
            space = self._truth.space
            now = read_generation(self._directory, space, self.view().generation)
            segments = list(now.segments)
            if segments or self._truth.ids().size >= self._first_rows:
                segments = Merging(self._directory, self._truth, self._tiers).run(now.segments)
            names = [one.name for one in segments]
            if now.notes or names != [one.name for one in now.segments]:
                publish(self._directory, space, now.number + 1, names)

    def close(self) -> None:
        """Let go of what is mapped and in memory."""
        with self._guard:
            self._stamp, self._view = None, self._viewed(Generation(0, ()))
            self._loaded.keep(())

    def _viewed(self, generation: Generation) -> _SegmentsView:
        groups = _grouped(generation, self._truth.space.dimension)
        ids = [group.ids for group in groups] or [np.empty(0, dtype=np.int64)]
        return _SegmentsView(generation, groups, np.sort(np.concatenate(ids)), self._loaded)


def _grouped(generation: Generation, dimension: int) -> tuple[_Group, ...]:
    """Return groups of segments that share a frame, of bounded size: one scan for each."""
    groups: list[_Group] = []
    waiting: dict[bytes, list[Any]] = {}
    most = _GROUP_BYTES // code_bytes(dimension)

    def end(members: list[Any]) -> None:
        ids = np.concatenate([one.ids for one in members])
        groups.append(_Group(ids, tuple(one.codes for one in members), members[0].frame))

    for segment in generation.segments:
        members = waiting.setdefault(segment.frame.key, [])
        if members and sum(one.rows for one in members) + segment.rows > most:
            end(members)
            members.clear()
        members.append(segment)
    for members in waiting.values():
        end(members)
    return tuple(groups)
