"""The signs of stored sketches in memory, by element count: what a base search scans.

Brought up to date by id at each use, so that what other processes add is found by the next search.
What they remove stays until a search meets it and calls ``forget``. Bounded: the sizes that were
used longest ago make room, and what does not fit is read from the catalog at each search.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hartonomous.catalog import sketches
from hartonomous.codecs import kernel
from hartonomous.core.sketch import SIGN_BYTES, furthest

LIMIT_BYTES = 64 << 20
_WORDS = SIGN_BYTES // 8
_ROW_BYTES = 8 + SIGN_BYTES
_LEAST_ROWS = 64
_PAGE_ROWS = 65_536
_LOOKS = 64


@dataclass(frozen=True, slots=True)
class Block:
    """Sketches of one size: ``ids`` int64 (n,), ``words`` uint64 (4, n), the signs of each."""

    ids: NDArray[np.int64]
    words: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Near:
    """Sketches near to one: ``ids`` int64 (n,) and Hamming ``distances`` int64 (n,), unordered."""

    ids: NDArray[np.int64]
    distances: NDArray[np.int64]


class _Group:
    """What is held of one element count; rows are added behind the last one only."""

    def __init__(self) -> None:
        self.ids = np.empty(0, np.int64)
        self.words = np.empty((_WORDS, 0), np.uint64)
        self.size = 0
        self.last_id = 0  # of the last row that was read
        self.checked_id = 0  # there is nothing more up to this id
        self.full = False  # the limit keeps out what comes behind ``last_id``
        self.looks = 0  # that may still go without asking the catalog for more

    @property
    def held_bytes(self) -> int:
        return len(self.ids) * _ROW_BYTES

    def grown_bytes(self, more: int) -> int:
        """Return what this takes once so many rows are added."""
        return self._room_for(more) * _ROW_BYTES

    def _room_for(self, more: int) -> int:
        need = self.size + more
        return len(self.ids) if need <= len(self.ids) else max(_LEAST_ROWS, need + need // 4)

    def add(self, block: Block) -> None:
        room, need = self._room_for(len(block.ids)), self.size + len(block.ids)
        if room != len(self.ids):  # who scans the former arrays goes on with them
            ids, words = np.empty(room, np.int64), np.empty((_WORDS, room), np.uint64)
            ids[: self.size], words[:, : self.size] = self._held()
            self.ids, self.words = ids, words
        self.ids[self.size : need] = block.ids
        self.words[:, self.size : need] = block.words
        self.size = need

    def _held(self) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        return self.ids[: self.size], self.words[:, : self.size]

    def block(self) -> Block:
        return Block(*self._held())

    def drop(self, gone: Sequence[int]) -> None:
        ids, words = self._held()
        stay = ~np.isin(ids, np.array(gone, np.int64))
        self.ids, self.words = ids[stay], np.ascontiguousarray(words[:, stay])
        self.size = len(self.ids)


class SignTable:
    """Signs of one catalog's sketches; safe to use from several threads.

    Ids must become visible in ascending order, as they do where one transaction writes at a time. A
    row that came late would be missed until its size is read anew, which costs a saving and
    nothing else.
    """

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._guard = threading.Lock()
        self._groups: OrderedDict[int, _Group] = OrderedDict()

    @property
    def held_bytes(self) -> int:
        """Bytes of all arrays."""
        with self._guard:
            return sum(group.held_bytes for group in self._groups.values())

    def near(self, tx: Any, element_count: int, signs: Sequence[bytes]) -> list[Near]:
        """Return, for each of several sketches, the stored ones that are near beyond chance.

        ``tx`` is a transaction for reading. All are compared in one pass.
        """
        wanted = [_Wanted(one) for one in signs]
        found: list[list[tuple[NDArray[np.int64], NDArray[np.int64]]]] = [[] for _ in signs]
        for block in self._blocks(tx, element_count):
            for one, hits in zip(wanted, found, strict=True):
                hits.extend(one.scan(block))
        return [
            Near(
                ids=np.concatenate([hit[0] for hit in hits] or [np.empty(0, np.int64)]),
                distances=np.concatenate([hit[1] for hit in hits] or [np.empty(0, np.int64)]),
            )
            for hits in found
        ]

    def has_none(self, element_count: int, signs: Sequence[bytes]) -> bool:
        """Say that nothing is near to several sketches, from memory alone; False if in doubt.

        It is in doubt behind 64 looks, so that little is missed of what is stored meanwhile.
        """
        with self._guard:
            group = self._groups.get(element_count)
            if group is None or group.full or not group.looks:
                return False
            group.looks -= 1
            block = group.block()
        return not any(True for one in signs for _ in _Wanted(one).scan(block))

    def any_near(self, element_count: int, words: NDArray[np.uint64]) -> NDArray[np.bool_] | None:
        """Return for each of many sketches whether anything is near, from memory alone.

        ``words`` are their signs, shape (m, 4), the result is (m,). None if it is in doubt, as
        ``has_none`` is; each sketch is a look.
        """
        with self._guard:
            group = self._groups.get(element_count)
            if group is None or group.full or not group.looks:
                return None
            group.looks = max(0, group.looks - len(words))
            block = group.block()
        ones = np.bitwise_count(words).sum(axis=1).tolist()
        limits = np.stack([furthest(one) for one in ones])
        return kernel.active().any_near(block.words, words, limits)

    def look_up(self, tx: Any, element_count: int) -> None:
        """Read what the catalog has of newer sketches; then there is no doubt for a while."""
        next(self._blocks(tx, element_count))

    def doubt(self) -> None:
        """Have the catalog asked at the next look: something was stored."""
        with self._guard:
            for group in self._groups.values():
                group.looks = 0

    def forget(self, element_count: int, gone: Sequence[int]) -> None:
        """Drop sketches that the catalog has no longer."""
        with self._guard:
            group = self._groups.get(element_count)
            if group is not None and gone:
                group.drop(gone)

    def _blocks(self, tx: Any, element_count: int) -> Iterator[Block]:
        newest = sketches.newest(tx)
        with self._guard:
            group = self._groups.setdefault(element_count, _Group())
            self._groups.move_to_end(element_count)
            if group.checked_id < newest and not group.full:
                self._read_on(tx, element_count, group)
                group.checked_id = newest
            group.looks = _LOOKS
            block, after, full = group.block(), group.last_id, group.full
        yield block
        while full:
            page = _page(tx, element_count, after)
            if page is None:
                return
            yield page
            after = int(page.ids[-1])

    def _read_on(self, tx: Any, element_count: int, group: _Group) -> None:
        while (page := _page(tx, element_count, group.last_id)) is not None:
            others = sum(one.held_bytes for one in self._groups.values() if one is not group)
            need = group.grown_bytes(len(page.ids))
            while others + need > self.limit_bytes and len(self._groups) > 1:
                _, oldest = self._groups.popitem(last=False)  # never this one: it is the newest
                others -= oldest.held_bytes
            if need > self.limit_bytes:
                group.full = True
                return
            group.add(page)
            group.last_id = int(page.ids[-1])


def _page(tx: Any, element_count: int, after_id: int) -> Block | None:
    rows = sketches.signs_after(tx, element_count, after_id=after_id, limit=_PAGE_ROWS)
    if not rows:
        return None
    ids = np.array([row[0] for row in rows], np.int64)
    words = np.frombuffer(b"".join([row[1] for row in rows]), "<u8").reshape(-1, _WORDS)
    return Block(ids=ids, words=np.ascontiguousarray(words.T.astype(np.uint64, copy=False)))


class _Wanted:
    """One sketch's signs, and how far away related ones may be."""

    def __init__(self, signs: bytes) -> None:
        self._words = np.frombuffer(signs, "<u8").astype(np.uint64)
        self._limits = furthest(int(np.bitwise_count(self._words).sum()))
        self._most = int(self._limits.max())

    def scan(self, block: Block) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield (ids, distances) of what is near."""
        if self._most < 0:
            return
        columns, apart = kernel.active().near_signs(block.words, self._words, self._limits)
        if len(columns):
            yield block.ids[columns], apart
