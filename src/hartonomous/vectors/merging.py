"""What becomes of segments: new ones of what was added, merged ones of what became small or dead.

As Lucene's tiers: eight segments of one size make one of the next. Codes are copied, not computed
again, where segments share a frame.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hartonomous.core.nearness import is_among
from hartonomous.ports.vector_index import Ids, VectorTruth
from hartonomous.vectors.codebook import BLOCK, Codes, code_bytes, encoded, packed, unpacked
from hartonomous.vectors.frame import Frame, measured
from hartonomous.vectors.segment import SUFFIX, Segment, most_rows, open_segment, write_segment

MOST_DEAD = 0.2
"""A segment with a larger share of removed vectors is written anew."""

MOST_FAR = 4.0
"""Mean square of coordinates beyond which a vector stays in the tail; that of its frame is 1."""

_SAMPLE = 16_384
_PIECE_BYTES = 8 << 20


@dataclass(frozen=True)
class Tiers:
    """``least``: vectors that make a segment. ``factor``: segments of a tier that are merged."""

    least: int = 4096
    factor: int = 8

    def tier(self, rows: int) -> int:
        """Return which tier a segment of so many rows belongs to."""
        found, most = 0, self.least * self.factor
        while rows >= most:
            found, most = found + 1, most * self.factor
        return found


class Merging:
    """One update of one index; writes files that nobody reads before they are published."""

    def __init__(self, directory: Path, truth: VectorTruth, tiers: Tiers) -> None:
        self._directory = directory
        self._truth = truth
        self._tiers = tiers
        self._space = truth.space
        self._live = truth.ids()

    def run(self, segments: tuple[Segment, ...]) -> list[Segment]:
        """Return the segments that there shall be."""
        kept = [one for one in segments if self._alive(one).any()]
        covered = _all_ids(kept)
        tail = self._live[~is_among(self._live, covered)]
        if tail.size >= self._tiers.least:
            kept += self._coded(tail, self._newest_frame(kept))
        while (chosen := self._to_merge(kept)) is not None:
            merged = self._merged(chosen)
            kept = [one for one in kept if one not in chosen] + merged
        return sorted(kept, key=lambda one: (-one.rows, one.name))

    def _alive(self, segment: Segment) -> np.ndarray:
        return is_among(segment.ids, self._live)

    @staticmethod
    def _newest_frame(segments: list[Segment]) -> Frame | None:
        return max(segments, key=lambda one: int(one.ids[-1])).frame if segments else None

    def _to_merge(self, segments: list[Segment]) -> list[Segment] | None:
        """Return the next ones to be written as one: of a full tier, or one with many dead."""
        tiers: dict[int, list[Segment]] = {}
        for segment in segments:
            if segment.rows <= most_rows(self._space.dimension) // 2:
                tiers.setdefault(self._tiers.tier(segment.rows), []).append(segment)
        for _, members in sorted(tiers.items()):
            if len(members) >= self._tiers.factor:
                return self._within_limit(sorted(members, key=lambda one: one.rows))
        for segment in segments:
            if 1 - self._alive(segment).mean() > MOST_DEAD:
                return [segment]
        return None

    def _within_limit(self, members: list[Segment]) -> list[Segment]:
        chosen: list[Segment] = []
        rows = 0
        for one in members:
            if len(chosen) >= 2 and rows + one.rows > most_rows(self._space.dimension):
                break
            chosen.append(one)
            rows += one.rows
        return chosen

    def _merged(self, segments: list[Segment]) -> list[Segment]:
        """Write segments as one, without the dead; up to 31 vectors go back to the tail."""
        ids = np.concatenate([one.ids[self._alive(one)] for one in segments])
        order = np.argsort(ids, kind="stable")
        order = order[: order.size // BLOCK * BLOCK]
        if not order.size:
            return []
        if len({one.frame.key for one in segments}) > 1:
            # The frames are too far apart to be one of them: measured anew, over all.
            return self._coded(ids[order], None)
        wide = code_bytes(self._space.dimension)
        codes = np.empty((ids.size, wide), dtype=np.uint8)
        at = 0
        for one in segments:
            alive = self._alive(one)
            for start in range(0, len(one.codes), 1024):
                rows = slice(start * BLOCK, (start + 1024) * BLOCK)
                some = unpacked(one.codes[start : start + 1024])[alive[rows]]
                codes[at : at + len(some)] = some
                at += len(some)
        return [self._written(ids[order], self._packed(codes, order), segments[0].frame)]

    def _coded(self, ids: Ids, frame: Frame | None) -> list[Segment]:
        """Code vectors of the truth, in a frame that exists if they fit.

        31 at most are left, and those that lie so far out that their codes would say little.
        """
        made: list[Segment] = []
        most = most_rows(self._space.dimension)
        for start in range(0, ids.size, most):
            some = ids[start : start + most]
            sample = some[:: max(1, some.size // _SAMPLE)]
            own = measured(
                (self._truth.vectors(one) for one in self._split(sample)),
                self._space.metric, self._space.dimension,
            )  # fmt: skip
            frame = frame if frame is not None and frame.fits(own) else own
            codes = np.empty((some.size, code_bytes(self._space.dimension)), dtype=np.uint8)
            is_near = np.empty(some.size, dtype=bool)
            at = 0
            for piece in self._split(some):
                rows = frame.coordinates(self._truth.vectors(piece), self._space.metric)
                codes[at : at + piece.size] = encoded(rows)
                far = np.einsum("ij,ij->i", rows, rows) > MOST_FAR * rows.shape[1]
                is_near[at : at + piece.size] = ~far
                at += piece.size
            chosen = np.flatnonzero(is_near)
            chosen = chosen[: chosen.size // BLOCK * BLOCK]
            if chosen.size:
                made.append(self._written(some[chosen], self._packed(codes, chosen), frame))
        return made

    def _packed(self, codes: Codes, chosen: np.ndarray) -> Codes:
        """Return the codes of some rows, packed."""
        blocks = np.empty((chosen.size // BLOCK, codes.shape[1], BLOCK), dtype=np.uint8)
        for start in range(0, len(blocks), 1024):
            rows = chosen[start * BLOCK : (start + 1024) * BLOCK]
            blocks[start : start + 1024] = packed(codes[rows])
        return blocks

    def _split(self, ids: Ids) -> Iterator[Ids]:
        step = max(1, _PIECE_BYTES // (4 * self._space.dimension))
        for start in range(0, ids.size, step):
            yield ids[start : start + step]

    def _written(self, ids: Ids, codes: Codes, frame: Frame) -> Segment:
        path = self._directory / f"{secrets.token_hex(8)}{SUFFIX}"
        write_segment(path, self._space, ids, codes, frame)
        return open_segment(path, self._space)


def _all_ids(segments: list[Segment]) -> Ids:
    if not segments:
        return np.empty(0, dtype=np.int64)
    return np.sort(np.concatenate([one.ids for one in segments]))
