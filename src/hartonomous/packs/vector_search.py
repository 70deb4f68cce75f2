"""Searching spaces: an index for each, opened once, and places in the place of ids."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Set
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hartonomous.catalog.spaces import SpaceRow
from hartonomous.catalog.vector_table import drop_stray_tables
from hartonomous.core.nearness import EXACT_ROWS
from hartonomous.core.place import Place
from hartonomous.errors import NotFoundError
from hartonomous.packs.open_files import OpenFiles
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.table_index import table_index
from hartonomous.packs.vector_truth import KEPT_BYTES, KeptParts, SpaceTruth
from hartonomous.ports.vector_index import VectorIndex, Vectors
from hartonomous.vectors import generation, graph, segment
from hartonomous.vectors.opening import open_vectors

_FOLDER = "spaces"


class Near(NamedTuple):
    """What a query found: more ``score`` is nearer (see ``ports.vector_index.Found``)."""

    place: Place
    score: float


class OpenSpaces:
    """The spaces of one open store as they are searched; safe to use from several threads."""

    def __init__(self, parts: StoreParts, files: OpenFiles) -> None:
        self._parts = parts
        self._files = files
        self._guard = threading.Lock()
        self._open: dict[tuple[bytes, str], tuple[SpaceTruth, VectorIndex]] = {}
        self._kept = KeptParts(KEPT_BYTES)

    def nearest(
        self, row: SpaceRow, queries: Vectors, k: int, *, files: Set[bytes] | None = None
    ) -> list[list[Near]]:
        """Return the k nearest of each query [n, dimension], the best first.

        ``files`` are digests: only vectors about parts of these files count. Raises UsageError for
        queries of another dimension, with NaN, or of no length; NotFoundError for a space gone.
        """
        truth, index = self.index(row)
        allowed = None if files is None else truth.ids_in(frozenset(files))
        found = index.search(np.asarray(queries, np.float32), k, allowed=allowed)
        hits = []
        for ids, scores in zip(found.ids, found.scores, strict=True):
            there = ids >= 0
            hits.append(_placed(truth, ids[there].tolist(), scores[there].tolist()))
        return hits

    def index(self, row: SpaceRow) -> tuple[SpaceTruth, VectorIndex]:
        """Return the exact vectors of a space and its index, opened the first time."""
        with self._guard:
            truth = next((held[0] for key, held in self._open.items() if key[0] == row.uid), None)
            truth = truth or SpaceTruth(self._parts, self._files, row, self._kept)
            engine = _engine(row, truth)
            held = self._open.get((row.uid, engine))
            if held is None:
                held = (truth, self._opened(row, truth, engine))
                self._open[row.uid, engine] = held
            return held

    def _opened(self, row: SpaceRow, truth: SpaceTruth, engine: str) -> VectorIndex:
        """Return an index: by ``auto`` upon the catalog's server, where that has pgvector."""
        if engine == "auto":
            on_server = table_index(self._parts.database, truth, row.uid.hex())
            if on_server is not None:
                return on_server
        return open_vectors(index_folder(self._parts, row), truth, engine)

    def update(self, row: SpaceRow) -> None:
        """Bring a space's index up to its vectors."""
        self.index(row)[1].update()

    def close(self) -> None:
        """Close every index."""
        with self._guard:
            for _, index in self._open.values():
                index.close()
            self._open.clear()
            self._kept.clear()


def update_index(parts: StoreParts, row: SpaceRow, truth: SpaceTruth) -> None:
    """Bring the files of a space's index up to its vectors, for those who search later."""
    index = open_vectors(index_folder(parts, row), truth, _engine(row, truth))
    try:
        index.update()
    finally:
        index.close()


def _engine(row: SpaceRow, truth: SpaceTruth) -> str:
    return "exact" if row.engine == "auto" and len(truth.ids()) <= EXACT_ROWS else row.engine


def _placed(truth: SpaceTruth, ids: list[int], scores: list[float]) -> list[Near]:
    try:
        places = truth.places(np.asarray(ids, np.int64))
    except NotFoundError:  # some were removed since they were found
        places = None
    if places is not None:
        return [Near(place, score) for place, score in zip(places, scores, strict=True)]
    found = []
    for number, score in zip(ids, scores, strict=True):
        try:
            place = truth.places(np.asarray([number], np.int64))[0]
        except NotFoundError:
            continue
        found.append(Near(place, score))
    return found


def index_folder(parts: StoreParts, row: SpaceRow) -> Path:
    """Return the folder of the files of a space's index."""
    return parts.directory / "index" / _FOLDER / row.uid.hex()


def derived_files(parts: StoreParts) -> list[Path]:
    """Return the files of all indexes of vectors that end with a digest of themselves."""
    folder = parts.directory / "index" / _FOLDER
    if not folder.is_dir() or folder.is_symlink():
        return []
    return [
        path
        for space in sorted(folder.iterdir())
        if space.is_dir() and not space.is_symlink()
        for path in sorted(space.iterdir())
        if path.name in (generation.FILE, graph.FILE) or path.name.endswith(segment.SUFFIX)
    ]


def drop_stray_indexes(parts: StoreParts, rows: list[SpaceRow]) -> None:
    """Delete the folders and tables of indexes of spaces that are gone."""
    kept = {one.uid.hex() for one in rows}
    drop_stray_tables(parts.database, kept)
    folder = parts.directory / "index" / _FOLDER
    if not folder.is_dir() or folder.is_symlink():
        return
    for path in folder.iterdir():
        if path.name not in kept and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
