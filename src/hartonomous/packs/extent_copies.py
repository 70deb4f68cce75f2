"""Which copy of an atom serves, where packs hold more than one: the one that decodes to its digest.

An atom is there twice when two writers stored it at once, when damage was mended by adding the
bytes again, or when a compaction was cut short. A rebuilt catalog must not point to the bad one.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from hartonomous.core.digest import AtomHasher
from hartonomous.errors import HartonomousError
from hartonomous.packs.files import CHUNK_BYTES
from hartonomous.packs.frame_batch import FrameBatch, StoredRecord
from hartonomous.packs.pack_file import PackReader
from hartonomous.packs.parts import StoreParts, pack_object_key
from hartonomous.packs.survey import Place, Survey

_MOST_TRIES = 64
"""Combinations of extents that are decoded for one atom, so that no store can ask for too many."""
_MOST_COVERINGS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Extents that cover an atom without overlap. ``intact`` is False if no copy decodes to it."""

    places: tuple[Place, ...]
    intact: bool = True


class ExtentCopies:
    """Chooses among the extents of a survey; what was decoded once is remembered.

    Of two good copies the smaller one is taken.
    """

    def __init__(self, parts: StoreParts, found: Survey) -> None:
        self._parts = parts
        self._found = found
        self._chosen: dict[tuple[bytes, int], Copy | None] = {}

    def choose(self, name: bytes, size: int) -> Copy | None:
        """Return a copy of the atom ``name`` of ``size`` bytes; None if no extents cover it.

        A single copy is taken as it is. Of several, the first that decodes to the digest counts:
        those of one writer before mixtures, and a mixture only if it decodes. If none does, one
        writer's copy is returned as not intact. Holds 4 MiB, whatever the atom's size.
        """
        if (name, size) not in self._chosen:
            places = [one for one in self._found.extents.get(name, []) if one.header.total == size]
            self._chosen[name, size] = self._choose(name, places)
        return self._chosen[name, size]

    def _choose(self, name: bytes, places: list[Place]) -> Copy | None:
        if len({one.header.position for one in places}) == len(places):
            covering = next(_coverings(places), None)
            return None if covering is None else Copy(places=covering)
        by_writer: dict[bytes, list[Place]] = {}
        for place in places:
            by_writer.setdefault(place.writer, []).append(place)
        own = [first for group in by_writer.values() for first in _coverings(group, most=1)]
        own.sort(key=lambda copy: sum(one.header.stored for one in copy))
        damaged: set[tuple[int, int]] = set()
        tried: set[tuple[tuple[int, int], ...]] = set()
        for covering in itertools.chain(own, _coverings(places, most=_MOST_COVERINGS)):
            where = tuple((one.pack, one.at) for one in covering)
            if where in tried or not damaged.isdisjoint(where):
                continue
            if len(tried) == _MOST_TRIES:
                break
            tried.add(where)
            if self._decodes(name, covering, damaged):
                return Copy(places=covering)
        return Copy(places=own[0], intact=False) if own else None

    def _decodes(
        self, name: bytes, covering: Sequence[Place], damaged: set[tuple[int, int]]
    ) -> bool:
        """Say whether extents decode to the digest; ``damaged`` gathers those that cannot."""
        hasher = AtomHasher()
        for one in covering:
            try:
                self._hash(one, hasher)
            except HartonomousError:
                damaged.add((one.pack, one.at))
                return False
        return hasher.digest() == name

    def _hash(self, place: Place, hasher: AtomHasher) -> None:
        key = self._found.packs[place.pack].header.key
        reader = PackReader(self._parts.objects.open(pack_object_key(key)), key.hex())
        try:
            record = StoredRecord(place.header)
            batch = FrameBatch()
            buffer = memoryview(bytearray(min(CHUNK_BYTES, place.header.length)))
            for start in range(0, place.header.length, CHUNK_BYTES):
                piece = buffer[: min(CHUNK_BYTES, place.header.length - start)]
                batch.add(reader, record, start, piece)
                batch.decode()
                hasher.update(piece)
        finally:
            reader.close()


def _coverings(places: Iterable[Place], *, most: int = 1) -> Iterator[tuple[Place, ...]]:
    """Yield up to ``most`` ways to cover the atom with extents that follow one another."""
    starts: dict[int, list[Place]] = {}
    total = 0
    for place in places:
        starts.setdefault(place.header.position, []).append(place)
        total = place.header.total
    if total == 0:
        yield from ((one,) for one in starts.get(0, [])[:most])
        return
    # Only what leads to the end: else a store could make this walk through dead ends for ever.
    leads_on = {total}
    for position in sorted(starts, reverse=True):
        starts[position] = [
            one
            for one in starts[position]
            if one.header.length and position + one.header.length in leads_on
        ]
        if starts[position]:
            leads_on.add(position)
    yield from itertools.islice(_walk(starts, total), most)


def _walk(starts: dict[int, list[Place]], total: int) -> Iterator[tuple[Place, ...]]:
    """Yield every path from 0 to ``total``; without recursion, an atom may have many extents."""
    path: list[Place] = []
    waiting = [iter(starts.get(0, []))]
    while waiting:
        place = next(waiting[-1], None)
        if place is None:
            waiting.pop()
            if path:
                path.pop()
            continue
        path.append(place)
        end = place.header.position + place.header.length
        if end == total:
            yield tuple(path)
            path.pop()
        else:
            waiting.append(iter(starts[end]))
