"""Writing to a space: vectors into its tail, the tail into blocks, removed ones out of both.

Each step is one transaction or one publication: killed anywhere, a space has every vector that was
acknowledged, once. One writer at a time has a space.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hartonomous import locks
from hartonomous.catalog import spaces
from hartonomous.catalog.spaces import BlockRow, SpaceRow
from hartonomous.core.place import Place
from hartonomous.core.space import Space
from hartonomous.core.vector_block import checked_vectors, joined, place_table
from hartonomous.errors import ConflictError, NotFoundError
from hartonomous.packs.open_files import OpenFiles
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.vector_blocks import NewBlock, drop_blocks, find_blocks, write_block
from hartonomous.packs.vector_truth import SpaceTruth

if TYPE_CHECKING:
    from numpy.typing import NDArray

TAIL_ROWS = 4096
"""Vectors that wait as rows; so many become a block, or fewer where they are long."""
BLOCK_ROWS = 65_536
"""Neighbouring blocks are merged up to this size,"""
BLOCK_BYTES = 64 << 20
"""and this one."""
_LEAST_LIVE = 0.75
_SMALL_BLOCKS = 8
_ROWS_AT_ONCE = 480
_TAIL_BYTES = 32 << 20


def ensure_space(
    parts: StoreParts, space: Space, *, name: str | None = None, use: str | None = None
) -> SpaceRow:
    """Return the store's space of this identity, made if it is not there.

    The first of its modality and use is searched at once, another one when it is switched to.
    Raises ConflictError for a name that another space has.
    """
    with parts.database.read() as tx:
        row = spaces.by_key(tx, space.key)
    if row is not None:
        return row

    def make(tx: Any) -> SpaceRow:
        row = spaces.by_key(tx, space.key)
        if row is not None:
            return row
        if name is not None and spaces.by_name(tx, name) is not None:
            raise ConflictError(
                f"there is another space {name!r}", hint="give another name, or hart spaces rm"
            )
        wanted = use or spaces.use_of(space)
        return spaces.add(
            tx, space, name=name or spaces.free_name(tx, space), use=wanted,
            state=first_state(tx, space, wanted), now_us=parts.clock(),
        )  # fmt: skip

    return parts.database.run(make)


def first_state(tx: Any, space: Space, use: str) -> str:
    """Return the state of a space that is made now: searched at once where nothing else is."""
    first = spaces.current(tx, space.modality, use) is None
    return spaces.CURRENT if first else spaces.BUILDING


def find_space(parts: StoreParts, files: OpenFiles, name: str) -> SpaceRow:
    """Return a space by name or the beginning of its key; raises NotFoundError."""
    find_blocks(parts, files)
    with parts.database.read() as tx:
        rows = spaces.listed(tx)
    found = [one for one in rows if one.name == name]
    found = found or [one for one in rows if len(name) >= 8 and one.space.key.startswith(name)]
    if len(found) != 1:
        told = ", ".join(one.name for one in rows[:8]) or "none"
        raise NotFoundError(f"there is no space {name!r}", hint=f"this store has {told}")
    return found[0]


class SpaceWriter:
    """Writes to one space; get one from ``writing``."""

    def __init__(self, parts: StoreParts, truth: SpaceTruth) -> None:
        self.parts = parts
        self.truth = truth
        self.row = truth.row
        with parts.database.read() as tx:
            self._tail_count = spaces.tail_count(tx, self.row.id)

    def append(self, places: Sequence[Place], vectors: NDArray[Any], *, source: str) -> None:
        """Add vectors [n, d] with their places; raises UsageError naming row and ``source``."""
        rows = checked_vectors(self.row.space, vectors, file=source)
        assert len(rows) == len(places), "a vector has a place"
        longest = min(TAIL_ROWS, max(_ROWS_AT_ONCE, _TAIL_BYTES // self.row.space.vector_bytes))
        for at in range(0, len(rows), _ROWS_AT_ONCE):
            piece = [
                (place, row.tobytes())
                for place, row in zip(
                    places[at : at + _ROWS_AT_ONCE], rows[at : at + _ROWS_AT_ONCE], strict=True
                )
            ]
            self.parts.database.run(partial(spaces.add_tail, space_id=self.row.id, rows=piece))
            self._tail_count += len(piece)
            if self._tail_count >= longest:
                self.flush()

    def flush(self) -> int:
        """Make blocks of the tail; return how many vectors that were."""
        with self.parts.database.read() as tx:
            tail = spaces.tail(tx, self.row)
            blocks = spaces.blocks(tx, self.row.id)
        for run in _runs(tail, blocks):
            kind = self.truth.dtype
            flat = np.frombuffer(b"".join(one.vector for one in run), kind)
            ids = [one.id for one in run]
            new = NewBlock(
                ids=np.asarray(ids, np.int64),
                vectors=flat.reshape(len(run), self.row.space.dimension),
                places=place_table([one.place for one in run]),
            )
            write_block(
                self.parts, self.row, new,
                beside=partial(spaces.drop_tail, space_id=self.row.id, ids=ids),
            )  # fmt: skip
        self._tail_count = 0
        return len(tail)

    def bury(self, ids: NDArray[np.int64]) -> int:
        """Let vectors no longer count; return how many there were."""
        wanted = np.intersect1d(ids, self.truth.ids())
        if not len(wanted):
            return 0
        with self.parts.database.read() as tx:
            tail = np.asarray(spaces.tail_ids(tx, self.row.id), np.int64)
        of_tail = np.intersect1d(wanted, tail)
        of_blocks = np.setdiff1d(wanted, tail)

        for at in range(0, len(of_tail), _ROWS_AT_ONCE):
            ids_of_tail = of_tail[at : at + _ROWS_AT_ONCE].tolist()
            self.parts.database.run(
                partial(spaces.drop_tail, space_id=self.row.id, ids=ids_of_tail)
            )
            self._tail_count -= len(ids_of_tail)
        for at in range(0, len(of_blocks), _ROWS_AT_ONCE):
            piece = of_blocks[at : at + _ROWS_AT_ONCE].tolist()
            self.parts.database.run(partial(spaces.add_dead, space_id=self.row.id, ids=piece))
        return len(wanted)

    def merge(self, *, least_live: float = _LEAST_LIVE) -> int:
        """Write blocks anew that are mostly dead or small; return how many were replaced.

        Mostly dead is one of whose vectors less than the share ``least_live`` count. Only
        neighbours are joined, so that a block's ids are between those of its neighbours.
        """
        count = 0
        for group in self._groups(least_live):
            held = [(one, self.truth.block(one)) for one in group]
            empty = [row for row, (ids, *_) in held if not len(ids)]
            if empty:
                self._drop(empty)
            rest = [one for one in held if len(one[1][0])]
            count += len(empty)
            # One that is whole would be written as it is, and removed as what it replaces.
            if len(rest) > 1 or any(len(ids) < row.row_count for row, (ids, *_) in rest):
                new = NewBlock(
                    ids=np.concatenate([part[0] for _, part in rest]),
                    vectors=np.concatenate([part[1] for _, part in rest]),
                    places=joined([part[2] for _, part in rest]),
                )
                write_block(self.parts, self.row, new, replaced=[row for row, _ in rest])
                count += len(rest)
        return count

    def _drop(self, group: Sequence[BlockRow]) -> None:
        drop_blocks(self.parts, self.row, group)

    def _groups(self, least_live: float) -> list[list[BlockRow]]:
        """Return runs of neighbouring blocks that are to become one."""
        most = max(1, min(BLOCK_ROWS, BLOCK_BYTES // (4 * self.row.space.dimension)))
        groups: list[list[BlockRow]] = []
        run: list[BlockRow] = []
        live_rows, wasteful = 0, False

        def end() -> None:
            if run and (wasteful or len(run) >= _SMALL_BLOCKS):
                groups.append(list(run))

        for block, live in self.truth.blocks():
            sparse = live < least_live * block.row_count
            if live_rows + live > most or (not sparse and live > most // 2):
                end()
                run, live_rows, wasteful = [], 0, False
            if sparse or live <= most // 2:
                run.append(block)
                live_rows, wasteful = live_rows + live, wasteful or sparse
        end()
        return groups


@contextmanager
def writing(parts: StoreParts, files: OpenFiles, row: SpaceRow) -> Iterator[SpaceWriter]:
    """Have a space for writing, alone; raises LockedError where another process keeps it."""
    path = parts.lock_path(f"space-{row.space.key}")
    with locks.held(path, what=f"the lock of the space {row.name}"):
        find_blocks(parts, files)
        yield SpaceWriter(parts, SpaceTruth(parts, files, row))


def _runs(tail: Sequence[Any], blocks: Sequence[BlockRow]) -> list[list[Any]]:
    """Return the tail cut where a block lies between two of its ids."""
    runs: list[list[Any]] = []
    borders = np.asarray([one.first_id for one in blocks], np.int64)
    last = -1
    for one in tail:
        behind = int(np.searchsorted(borders, one.id))
        if not runs or behind != last:
            runs.append([])
        runs[-1].append(one)
        last = behind
    return runs
