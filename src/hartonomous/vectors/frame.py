"""What vectors are centred and scaled by before they are coded: frozen, and shared by segments."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hartonomous.core.digest import digest
from hartonomous.core.nearness import of_unit_length
from hartonomous.ports.vector_index import Vectors
from hartonomous.vectors.rotation import rotated

MOST_SHIFT = 0.2
"""Squared distance of means over the variance; measured, recall is the same up to here."""

MOST_SCALING = 1.25

MOST_COMMON = 0.65
"""Squared length of unit vectors' mean beyond which distances of codes err less than products.

With the codebook's errors, .108 a number and .82 of its square: where .108 = (1 - m)(.108 + .82/4).
"""


@dataclass(frozen=True, eq=False)
class Frame:
    """A centre [d], and the root of the mean variance a dimension around it, above 0."""

    centre: Vectors
    scale: float

    @cached_property
    def key(self) -> bytes:
        """What equal frames share."""
        return digest(self.centre.tobytes() + np.float64(self.scale).tobytes())[:8]

    def coordinates(self, rows: Vectors, metric: str) -> Vectors:
        """Return rows as they are coded: [n, d], of unit variance, rotated."""
        return rotated((prepared(rows, metric) - self.centre) / np.float32(self.scale))

    def by_distance(self, metric: str) -> bool:
        """Say whether codes are compared by squared distance; by dot product otherwise.

        For cosine where vectors have most in common: what all share would drown the differences.
        """
        common = float(np.sum(np.square(self.centre, dtype=np.float64)))
        return metric == "euclidean" or (metric == "cosine" and common > MOST_COMMON)

    def asked(self, queries: Vectors, metric: str) -> Vectors:
        """Return queries as codes are compared with them; those of cosine have unit length."""
        if self.by_distance(metric):
            return rotated((queries - self.centre) / np.float32(self.scale))
        return rotated(queries)

    def scores(self, said: Vectors, queries: Vectors, metric: str) -> Vectors:
        """Return what a scan said, [queries, n], as scores of the space."""
        if metric == "euclidean":
            return np.asarray(said * np.float32(-(self.scale**2)))
        if self.by_distance(metric):
            return np.asarray(1 - said * np.float32(self.scale**2 / 2))
        return np.asarray(said * np.float32(self.scale) + (queries @ self.centre)[:, None])

    def fits(self, other: "Frame") -> bool:
        """Say whether vectors, measured as ``other``, may be coded in this frame."""
        shift = float(np.sum(np.square(self.centre - other.centre, dtype=np.float64)))
        ratio = max(self.scale, other.scale) / min(self.scale, other.scale)
        variance = self.centre.size * self.scale**2
        return shift <= MOST_SHIFT * variance and ratio <= MOST_SCALING


def prepared(rows: Vectors, metric: str) -> Vectors:
    """Return rows as they are compared: of unit length for cosine."""
    return of_unit_length(rows) if metric == "cosine" else rows


def measured(pieces: Iterable[Vectors], metric: str, dimension: int) -> Frame:
    """Return the frame of some vectors."""
    total, squares, count = np.zeros(dimension), 0.0, 0
    for piece in pieces:
        wide = prepared(piece, metric).astype(np.float64)
        total += wide.sum(axis=0)
        squares += float(np.einsum("ij,ij->", wide, wide))
        count += len(piece)
    centre = total / max(1, count)
    variance = squares / max(1, count) - float(centre @ centre)
    length = float(np.sqrt(squares / max(1, count)))
    # Equal vectors have no variance; the scale stays a number that can be divided by.
    scale = max(np.sqrt(max(variance, 0.0) / dimension), 1e-6 * length, 1e-18)
    return Frame(centre.astype(np.float32), float(np.float32(scale)))
