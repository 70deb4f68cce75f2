"""A graph (HNSW, usearch) for large spaces that are read far more than written.

One file, written whole at each update: an added vector costs a search of the graph, and the file is
as large as all vectors in bfloat16. Built by one thread, so that it comes out the same each time.
Needs usearch (the extra ``graph``).
"""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hartonomous import locks
from hartonomous.core.nearness import EXACT_ROWS, NONE, is_among
from hartonomous.core.space import Space
from hartonomous.core.undecodable import UNDECODABLE
from hartonomous.errors import IntegrityError, UsageError
from hartonomous.ports.vector_index import Ids, Vectors, VectorTruth
from hartonomous.vectors.approximate import RESCORED, ApproximateIndex
from hartonomous.vectors.derived_file import TEMPORARY, open_derived, write_derived
from hartonomous.vectors.frame import Frame, measured, prepared

FILE = "graph"
LOCK = "lock"
MOST_DEAD = 0.2
"""A graph with a larger share of removed vectors is built anew."""

_MAGIC = b"HARTVGRA"
_MOST_HEADER = 4096
_PIECE_BYTES = 8 << 20
_FORMAT = 1


class GraphSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a space's graph is built and searched.

    ``degree``: neighbours a vector has. ``build_list``, ``search_list``: candidates that are looked
    at while building and searching; more are slower and find more.
    """

    degree: int = 16
    build_list: int = 128
    search_list: int = 128

    def __post_init__(self) -> None:
        if not (2 <= self.degree <= 256 and self.degree <= self.build_list <= 10_000):
            raise UsageError(
                "a graph has a degree of 2 to 256 and a build list of that to 10,000",
                hint=f"these are {self.degree} and {self.build_list}",
            )
        if not 1 <= self.search_list <= 10_000:
            raise UsageError(f"a search list has 1 to 10,000 candidates, not {self.search_list}")


class _Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is in the file, beside centre [d], ids [rows] and what usearch wrote."""

    format: int
    space: str
    rows: int
    degree: int
    build_list: int
    scale: float


class GraphIndex(ApproximateIndex):
    """A graph in a folder of its own. Several processes may search and update it."""

    def __init__(
        self,
        directory: Path,
        truth: VectorTruth,
        *,
        settings: GraphSettings | None = None,
        first_rows: int = EXACT_ROWS,
        rescore: int = RESCORED,
    ) -> None:
        source = _Graph(directory, truth, settings or GraphSettings(), first_rows)
        super().__init__(truth, source, rescore=rescore)


@dataclass(frozen=True, eq=False)
class _GraphView:
    """One file, mapped. ``graph`` is usearch's index upon ``content``, None where there is none."""

    ids: Ids
    graph: Any
    content: memoryview
    frame: Frame | None
    metric: str
    notes: tuple[str, ...] = ()

    def candidates(self, queries: Vectors, count: int) -> Ids:
        """Return the best that a walk finds; see ``approximate.CandidateView``."""
        if self.graph is None or self.frame is None or not len(queries):
            return np.full((len(queries), 0), NONE, dtype=np.int64)
        asked = _coordinates(queries, self.frame, self.metric)
        found = self.graph.search(asked, count, threads=1)
        keys = np.asarray(found.keys).reshape(len(queries), -1).astype(np.int64)
        if len(queries) > 1:
            places = np.arange(keys.shape[1])[None, :]
            keys = np.where(places < np.asarray(found.counts)[:, None], keys, NONE)
        return keys


def _coordinates(rows: Vectors, frame: Frame, metric: str) -> Vectors:
    """Return rows as the graph has them: near each other as in the space, and small enough."""
    moved = prepared(rows, metric)
    if metric != "dot":  # a product is not the same around another centre
        moved = moved - frame.centre
    return np.ascontiguousarray(moved / np.float32(frame.scale))


def _usearch() -> Any:
    try:
        from usearch import index
    except ImportError as error:
        raise UsageError(
            "a graph of vectors needs usearch, which is not installed here",
            hint="pip install 'hartonomous[graph]'",
        ) from error
    return index


class _Graph:
    """The file of a folder, as a source of candidates."""

    def __init__(
        self, directory: Path, truth: VectorTruth, settings: GraphSettings, first_rows: int
    ) -> None:
        self._directory = directory
        self._truth = truth
        self._settings = settings
        self._first_rows = max(1, first_rows)
        self._guard = threading.Lock()
        self._stamp = self._seen()
        self._view = self._read()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found wrong with the file."""
        return self.view().notes

    def view(self) -> _GraphView:
        """Return the graph of the present file."""
        with self._guard:
            seen = self._seen()
            if seen != self._stamp:
                self._stamp, self._view = seen, self._read()
            return self._view

    def update(self) -> None:
        """Add what is new; build anew where much was removed or the settings changed."""
        if not (self._directory / LOCK).exists():
            if self._truth.ids().size < self._first_rows:
                return
            self._directory.mkdir(parents=True, exist_ok=True)
        with locks.held(self._directory / LOCK, what="the update of an index of vectors"):
            for left_over in self._directory.glob(f"*{TEMPORARY}"):
                left_over.unlink(missing_ok=True)
            self._update(self.view())

    def close(self) -> None:
        """Let go of what is mapped."""
        with self._guard:
            self._stamp, self._view = None, self._none()

    def _update(self, now: _GraphView) -> None:
        live = self._truth.ids()
        if now.graph is None and live.size < self._first_rows:
            return
        is_dead = ~is_among(now.ids, live)
        is_usable = now.graph is not None and self._is_as_set(now.graph)
        if not is_usable or is_dead.mean() > MOST_DEAD:
            frame = measured(
                (self._truth.vectors(piece) for piece in self._pieces(live)),
                self._truth.space.metric, self._truth.space.dimension,
            )  # fmt: skip
            graph, ids, added = self._empty(), live, live
        else:
            assert now.frame is not None
            added = live[~is_among(live, now.ids)]
            if not added.size:
                return
            frame, graph = now.frame, self._empty()
            graph.load(now.content)
            ids = np.union1d(now.ids, added)
        for piece in self._pieces(added):
            rows = _coordinates(self._truth.vectors(piece), frame, self._truth.space.metric)
            graph.add(piece.astype(np.uint64), rows, threads=1)
        self._write(graph, ids, frame)

    def _pieces(self, ids: Ids) -> list[Ids]:
        step = max(1, _PIECE_BYTES // (4 * self._truth.space.dimension))
        return [ids[at : at + step] for at in range(0, ids.size, step)]

    def _empty(self) -> Any:
        found = self._settings
        return _usearch().Index(
            ndim=self._truth.space.dimension,
            metric="ip" if self._truth.space.metric == "dot" else "l2sq",
            dtype="bf16",
            connectivity=found.degree,
            expansion_add=found.build_list,
            expansion_search=found.search_list,
        )

    def _is_as_set(self, graph: Any) -> bool:
        return bool(graph.connectivity == self._settings.degree)

    def _write(self, graph: Any, ids: Ids, frame: Frame) -> None:
        header = msgspec.json.encode(
            _Header(
                format=_FORMAT, space=self._truth.space.key, rows=ids.size, scale=frame.scale,
                degree=self._settings.degree, build_list=self._settings.build_list,
            )
        )  # fmt: skip
        header += b" " * (-(len(_MAGIC) + 4 + len(header)) % 64)
        middle = frame.centre.astype("<f4").tobytes() + ids.astype("<i8").tobytes()
        pieces = (
            _MAGIC + len(header).to_bytes(4, "little") + header,
            middle + b"\0" * (-len(middle) % 64),
            graph.save(None),
        )
        write_derived(self._directory / FILE, pieces)

    def _seen(self) -> tuple[int, int, int] | None:
        try:
            found = (self._directory / FILE).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _none(self, *notes: str) -> _GraphView:
        nothing = np.empty(0, dtype=np.int64)
        metric = self._truth.space.metric
        return _GraphView(nothing, None, memoryview(b""), None, metric, notes)

    def _read(self) -> _GraphView:
        path = self._directory / FILE
        try:
            return self._opened(path, open_derived(path))
        except FileNotFoundError:
            return self._none()
        except (IntegrityError, OSError) as error:
            return self._none(f"the graph is left out: {error}")

    def _opened(self, path: Path, content: memoryview) -> _GraphView:
        space = self._truth.space
        header, start = _header(path, content, space)
        ids_at = start + 4 * space.dimension
        end = ids_at + 8 * header.rows
        end += -(end - start) % 64
        if end > len(content):
            raise IntegrityError(f"{path} has not the size that its header says")
        centre = np.frombuffer(content, dtype="<f4", count=space.dimension, offset=start)
        ids = np.frombuffer(content, dtype="<i8", count=header.rows, offset=ids_at)
        graph = self._empty()
        # The digest held: these are the bytes that usearch wrote.
        graph.view(content[end:])
        graph.expansion_search = self._settings.search_list
        if len(graph) != header.rows or graph.ndim != space.dimension:
            raise IntegrityError(f"{path} has not the rows that its header says")
        frame = Frame(centre, header.scale)
        return _GraphView(ids, graph, content[end:], frame, space.metric)


def _header(path: Path, content: memoryview, space: Space) -> tuple[_Header, int]:
    """Return the header and where it ends; raises IntegrityError for one of something else."""
    prefix = len(_MAGIC) + 4
    length = int.from_bytes(content[len(_MAGIC) : prefix], "little")
    if bytes(content[: len(_MAGIC)]) != _MAGIC or length > _MOST_HEADER:
        raise IntegrityError(f"{path} is no graph of vectors")
    try:
        header = msgspec.json.decode(content[prefix : prefix + length], type=_Header)
    except UNDECODABLE as error:
        raise IntegrityError(f"the header of {path} cannot be read: {error}") from error
    if header.format != _FORMAT or header.space != space.key:
        raise IntegrityError(f"{path} is of another space or version")
    if not (0 < header.rows <= len(content) // 8 and 0 < header.scale < float("inf")):
        raise IntegrityError(f"{path} has rows or a scale that cannot be")
    return header, prefix + length
