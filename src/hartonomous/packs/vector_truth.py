"""The exact vectors of a space, from its blocks and its tail, by id."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np

from hartonomous.catalog import spaces
from hartonomous.catalog.spaces import BlockRow, SpaceRow
from hartonomous.core.array import numpy_dtype
from hartonomous.core.place import Place
from hartonomous.core.space import Space
from hartonomous.core.vector_block import KINDS, TYPES, PlaceTable, joined, place_table, taken
from hartonomous.errors import NotFoundError
from hartonomous.packs.bounded_cache import BoundedCache
from hartonomous.packs.open_files import OpenFiles
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.vector_blocks import BlockFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hartonomous.ports.vector_index import Ids, Vectors

KEPT_BYTES = 256 << 20
"""Decoded parts of blocks that are kept, those wanted last; of all spaces of an open store."""
_PART_BYTES = 256 << 10
_MOST_PARTS = 512
"""So many parts of one block at once are read, and not kept."""
_SCANNED_BYTES = 16 << 20


PartKey = tuple[str, object]
"""A part of a file: (kind of place, (file digest, page, first character))."""


KeptParts = BoundedCache[tuple[bytes, int], "NDArray[Any]"]
"""Decoded parts of blocks: by the block's file and the part's first row."""


class _Block:
    """A block with what was read of it."""

    def __init__(self, row: BlockRow, file: BlockFile, dead: NDArray[np.int64]) -> None:
        self.row = row
        self.file = file
        self.ids = file.ids() + np.int64(row.id_offset)
        self.is_live = ~np.isin(self.ids, dead)
        self._places: PlaceTable | None = None

    @property
    def places(self) -> PlaceTable:
        if self._places is None:
            self._places = self.file.places()
        return self._places


class _Moment:
    """What a space held at one moment."""

    def __init__(self, epoch: int, blocks: Sequence[_Block], tail: Sequence[Any], row: SpaceRow):
        kind = numpy_dtype(TYPES[row.space.dtype])
        self.epoch = epoch
        self.blocks = tuple(sorted(blocks, key=lambda one: one.row.first_id))
        self.firsts = np.asarray([one.row.first_id for one in self.blocks], np.int64)
        self.tail_ids = np.asarray([one.id for one in tail], np.int64)
        wide = row.space.dimension
        flat = np.frombuffer(b"".join(one.vector for one in tail), kind)
        self.tail_vectors: NDArray[Any] = flat.reshape(len(tail), wide)
        self.tail_places = place_table([one.place for one in tail])
        live = [one.ids[one.is_live] for one in self.blocks]
        self.ids = np.sort(np.concatenate([*live, self.tail_ids]))
        self.ids.flags.writeable = False


class SpaceTruth:
    """The vectors of one space as they are now; safe to use from several threads.

    ``ids``, ``scan`` and ``places`` see what was committed before they were called.
    """

    def __init__(
        self, parts: StoreParts, files: OpenFiles, row: SpaceRow, kept: KeptParts | None = None
    ) -> None:
        """Read nothing yet. ``kept`` is shared by spaces that are searched side by side."""
        self._parts = parts
        self._files = files
        self.row = row
        self._guard = threading.RLock()
        self._moment: _Moment | None = None
        self._kept = KeptParts(KEPT_BYTES) if kept is None else kept

    @property
    def space(self) -> Space:
        """Whose vectors they are."""
        return self.row.space

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type that the vectors have in blocks."""
        found = numpy_dtype(TYPES[self.space.dtype])
        assert found is not None
        return found

    def epoch(self) -> int:
        """Return a number that grows with each change; raises NotFoundError for a space gone."""
        return self._now().epoch

    def ids(self) -> Ids:
        """Return the ids of all live vectors, ascending."""
        return self._now().ids

    def vectors(self, ids: Ids) -> Vectors:
        """Return vectors, shape [n, dimension], in the order of ``ids``; raises NotFoundError."""
        moment = self._moment or self._now()
        wanted = np.asarray(ids, np.int64)
        out = np.empty((len(wanted), self.space.dimension), np.float32)
        for where, rows, block in self._located(moment, wanted):
            if block is None:
                out[where] = moment.tail_vectors[rows]
            else:
                out[where] = self._rows(block, rows)
        return out

    def scan(self, after_id: int = 0) -> Iterator[tuple[Ids, Vectors]]:
        """Yield (ids, vectors) beyond ``after_id``, ascending, at most 16 MB at a time."""
        moment = self._now()
        step = max(1, _SCANNED_BYTES // (4 * self.space.dimension))
        ids = moment.ids[np.searchsorted(moment.ids, after_id, side="right") :]
        for at in range(0, len(ids), step):
            piece = ids[at : at + step]
            out = np.empty((len(piece), self.space.dimension), np.float32)
            for where, rows, block in self._located(moment, piece):
                if block is None:
                    out[where] = moment.tail_vectors[rows]
                    continue
                # In order, and once: what is kept for searches stays.
                first, last = int(rows[0]), int(rows[-1])
                out[where] = block.file.vectors((first, last + 1))[rows - first]
            yield piece, out

    def places(self, ids: Ids) -> list[Place]:
        """Return what vectors are about, in the order of ``ids``."""
        moment = self._moment or self._now()
        found: list[Place | None] = [None] * len(ids)
        for where, rows, block in self._located(moment, np.asarray(ids, np.int64)):
            table = moment.tail_places if block is None else block.places
            for at, row in zip(where.tolist(), rows.tolist(), strict=True):
                found[at] = table.place(row)
        return [one for one in found if one is not None]

    def every_place(self) -> tuple[Ids, PlaceTable]:
        """Return the ids of all live vectors with their places."""
        moment = self._now()
        ids = [one.ids[one.is_live] for one in moment.blocks] + [moment.tail_ids]
        tables = [taken(one.places, np.flatnonzero(one.is_live)) for one in moment.blocks]
        return np.concatenate(ids), joined([*tables, moment.tail_places])

    def files(self) -> frozenset[bytes]:
        """Return the digests of the files that vectors are about, removed vectors' among them."""
        moment = self._now()
        tables = [*(one.places for one in moment.blocks), moment.tail_places]
        return frozenset(digest for table in tables for digest in table.files())

    def ids_in(self, digests: frozenset[bytes] | set[bytes]) -> Ids:
        """Return the ids of live vectors about parts of these files, ascending."""
        moment = self._now()
        found = [one.ids[one.is_live & _in_files(one.places, digests)] for one in moment.blocks]
        found.append(moment.tail_ids[_in_files(moment.tail_places, digests)])
        ids: Ids = np.sort(np.concatenate(found))
        return ids

    def ids_at(self, parts: Set[PartKey]) -> dict[PartKey, int]:
        """Return {part: id of its live vector} of those parts of files that have one."""
        digests = {key[1][0] for key in parts if isinstance(key[1], tuple)}
        moment = self._now()
        found: dict[PartKey, int] = {}
        held = [(one.ids[one.is_live], taken(one.places, np.flatnonzero(one.is_live)))
                for one in moment.blocks]  # fmt: skip
        for ids, table in [*held, (moment.tail_ids, moment.tail_places)]:
            files = table.files()
            chosen = np.flatnonzero(_in_files(table, digests))
            for number, (file, kind, page, start, *_) in zip(
                ids[chosen].tolist(), table.rows[chosen].tolist(), strict=True
            ):
                key = (KINDS[kind], (files[file], page, start))
                if key in parts:
                    found.setdefault(key, number)
        return found

    def blocks(self) -> list[tuple[BlockRow, int]]:
        """Return (block, live vectors in it), in order of id."""
        return [(one.row, int(one.is_live.sum())) for one in self._now().blocks]

    def block(self, row: BlockRow) -> tuple[Ids, NDArray[Any], PlaceTable]:
        """Return the ids, vectors (in the space's type) and places that are live in a block."""
        held = next(one for one in self._now().blocks if one.row.version_uid == row.version_uid)
        chosen = np.flatnonzero(held.is_live)
        return held.ids[chosen], held.file.vectors()[chosen], taken(held.places, chosen)

    # -- what is read when

    def _now(self) -> _Moment:
        with self._guard:
            with self._parts.database.read() as tx:
                epoch = spaces.epoch(tx, self.row.id)
                if epoch is None:
                    raise NotFoundError(f"the space {self.row.name} is gone")
                if self._moment is not None and self._moment.epoch == epoch:
                    return self._moment
                rows = spaces.blocks(tx, self.row.id)
                tail = spaces.tail(tx, self.row)
                dead = np.asarray(spaces.dead(tx, self.row.id), np.int64)
            blocks = [self._block(row, dead) for row in rows]
            self._moment = _Moment(epoch, blocks, tail, self.row)
            return self._moment

    def _block(self, row: BlockRow, dead: NDArray[np.int64]) -> _Block:
        inside = dead[np.searchsorted(dead, row.first_id) :]
        inside = inside[: np.searchsorted(inside, row.last_id, side="right")]
        return _Block(row, BlockFile(self._parts, self._files, row.file_digest), inside)

    def _located(
        self, moment: _Moment, ids: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], _Block | None]]:
        """Yield (places in ``ids``, rows, block), the block None for the tail."""
        if not len(ids):
            return
        owner = np.searchsorted(moment.firsts, ids, side="right") - 1
        lasts = np.asarray([one.row.last_id for one in moment.blocks], np.int64)
        if len(lasts):
            owner = np.where((owner >= 0) & (ids <= lasts[owner]), owner, -1)
        order = np.argsort(owner, kind="stable")
        bounds = np.flatnonzero(np.diff(owner[order], prepend=-2))
        for start, stop in zip(bounds, [*bounds[1:], len(order)], strict=True):
            where = order[start:stop]
            at = int(owner[where[0]])
            block = None if at < 0 else moment.blocks[at]
            known = moment.tail_ids if block is None else block.ids
            rows = np.searchsorted(known, ids[where])
            inside = rows < len(known)
            there = bool(inside.all()) and bool((known[rows] == ids[where]).all())
            if not there or (block is not None and not block.is_live[rows].all()):
                raise NotFoundError(f"the space {self.row.name} has no vector of such an id")
            yield where, rows, block

    def _rows(self, block: _Block, rows: NDArray[np.int64]) -> NDArray[Any]:
        step = max(1, _PART_BYTES // self.space.vector_bytes)
        keep = True
        if len(np.unique(rows // step)) > _MOST_PARTS:
            # So many are no search: in large pieces, and what searches need stays kept.
            step, keep = max(1, _SCANNED_BYTES // self.space.vector_bytes), False
        order = np.argsort(rows, kind="stable")
        part, inside = np.divmod(rows[order], step)
        starts = np.flatnonzero(np.diff(part, prepend=-1)).tolist()
        ascending = np.empty((len(rows), self.space.dimension), self.dtype)
        for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
            first = int(part[start]) * step
            last = min(first + step, block.file.row_count)
            held = self._part(block, first, last) if keep else block.file.vectors((first, last))
            # Nothing is clipped, every row is there; by this mode nothing is copied twice.
            held.take(inside[start:stop], axis=0, out=ascending[start:stop], mode="clip")
        if (order[1:] > order[:-1]).all():
            return ascending
        out = np.empty_like(ascending)
        out[order] = ascending
        return out

    def _part(self, block: _Block, first: int, last: int) -> NDArray[Any]:
        """Return rows ``[first, last)`` of a block, kept if they were wanted lately."""
        # By its digest: of a block that is gone nothing is asked for, so it goes first.
        key = (block.row.file_digest, first)
        kept = self._kept.get(key)
        if kept is None:
            kept = block.file.vectors((first, last))
            self._kept.put(key, kept, kept.nbytes)
        return kept


def _in_files(table: PlaceTable, digests: frozenset[bytes] | set[bytes]) -> NDArray[np.bool_]:
    wanted = np.asarray([one in digests for one in table.files()], np.bool_)
    inside: NDArray[np.bool_] = (
        wanted[table.rows[:, 0]] if len(wanted) else np.zeros(len(table), np.bool_)
    )
    return inside
