"""Which copy of an atom serves, where packs hold more than one: the one that decodes to its digest.

An atom is there twice when two writers stored it at once, when damage was mended by adding the
bytes again, or when a compaction was cut short. A rebuilt catalog must not point to the bad one.
A copy that is predicted from other atoms serves only if those are there.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hartonomous.core.digest import AtomHasher
from hartonomous.core.record import RecordHeader
from hartonomous.errors import HartonomousError, IntegrityError
from hartonomous.packs.bounded_cache import FrameCache
from hartonomous.packs.chain import MAX_CHAIN, NOBODY, Chain
from hartonomous.packs.files import CHUNK_BYTES
from hartonomous.packs.frame_batch import FrameBatch, StoredRecord
from hartonomous.packs.operands import Operands
from hartonomous.packs.pack_file import PackReader
from hartonomous.packs.parts import StoreParts, pack_object_key
from hartonomous.packs.predictions import BaseGoneError, refuse_chain
from hartonomous.packs.survey import Place, Survey

_MOST_TRIES = 64
"""Combinations of extents that are decoded for one atom, so that no store can ask for too many."""
_MOST_COVERINGS = 10_000
_CACHE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Extents that cover an atom without overlap. ``intact`` is False if no copy decodes to it."""

    places: tuple[Place, ...]
    intact: bool = True

    @property
    def bases(self) -> tuple[bytes, ...]:
        """Digests of the atoms that it is predicted from, each once."""
        return tuple(dict.fromkeys(base for one in self.places for base in one.header.bases))


class ExtentCopies:
    """Chooses among the extents of a survey; what was decoded once is remembered.

    Of two good copies the smaller one is taken, but one that is predicted only where the atom has
    none that needs fewer bases below it: so no choice of copies makes a circle or a long chain.
    """

    def __init__(self, parts: StoreParts, found: Survey) -> None:
        self._parts = parts
        self._found = found
        self._chosen: dict[tuple[bytes, int], Copy | None] = {}
        self._ranks = _ranks(found)
        self._frames = FrameCache(_CACHE_BYTES)
        self.operands = Operands(parts.operands.limit_bytes)

    def choose(self, name: bytes, size: int) -> Copy | None:
        """Return a copy of the atom ``name`` of ``size`` bytes; None if no extents cover it.

        A single copy is taken as it is. Of several, the first that decodes to the digest counts:
        those of one writer before mixtures, and a mixture only if it decodes. If none does, one
        writer's copy is returned as not intact. Holds 4 MiB, whatever the atom's size.
        """
        if (name, size) not in self._chosen:
            places = [
                one
                for one in self._found.extents.get(name, [])
                if one.header.total == size and self._usable(one, name)
            ]
            self._chosen[name, size] = self._choose(name, places)
        return self._chosen[name, size]

    def base(self, name: bytes) -> tuple[int, Copy] | None:
        """Return (size, copy) of an atom that others are predicted from; None if it is not there.

        Records do not say how long their bases are. Where packs disagree, which only a forgery
        makes them, the size whose copy decodes counts.
        """
        sizes = sorted({one.header.total for one in self._found.extents.get(name, [])})
        found = [(size, copy) for size in sizes if (copy := self.choose(name, size)) is not None]
        return next((one for one in found if one[1].intact), found[0] if found else None)

    def rank(self, name: bytes) -> int | None:
        """Return how many bases lie below each other under an atom; None if it lacks one."""
        return self._ranks.get(name)

    def _usable(self, place: Place, name: bytes) -> bool:
        """Say whether the bases of a record are there and need fewer bases than its atom."""
        rank = self._ranks.get(name, 0)
        return all(self._ranks.get(base, rank) < rank for base in place.header.bases)

    def read_base(self, name: bytes, out: memoryview, start: int, chain: Chain) -> None:
        """Fill ``out`` with the bytes of an atom from ``start``, by the copy that was chosen."""
        refuse_chain(name, chain)
        found = self.base(name)
        if found is None:
            error = IntegrityError(f"atom blake3:{name.hex()}, a base, is in none of the packs")
            raise BaseGoneError(error)
        stop = start + len(out)
        if stop > found[0]:
            raise IntegrityError(f"atom blake3:{name.hex()} has no bytes at {found[0]}")
        for one in found[1].places:
            low = max(start, one.header.position)
            high = min(stop, one.header.position + one.header.length)
            if low < high:
                self._read(one, low - one.header.position, out[low - start : high - start], chain)

    def moved(self, _header: RecordHeader, _start: int, /) -> bool:
        """Say no: nothing moves while packs are surveyed."""
        return False

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
        buffer = memoryview(bytearray(min(CHUNK_BYTES, place.header.length)))
        for start in range(0, place.header.length, CHUNK_BYTES):
            piece = buffer[: min(CHUNK_BYTES, place.header.length - start)]
            self._read(place, start, piece, NOBODY)
            hasher.update(piece)

    def _read(self, place: Place, start: int, out: memoryview, chain: Chain) -> None:
        """Fill ``out`` with a record's decoded bytes; ``start`` counts from its own first."""
        key = self._found.packs[place.pack].header.key
        reader = PackReader(self._parts.objects.open(pack_object_key(key)), key.hex())
        try:
            # Bases are read by the copy that was chosen; of the atom itself copies are compared.
            batch = FrameBatch(self._frames if chain else None, self, chain)
            batch.add(reader, StoredRecord(place.header), start, out)
            batch.decode()
        finally:
            reader.close()


def _ranks(found: Survey) -> dict[bytes, int]:
    """Return each atom's rank: 0 if extents without bases cover it, else one over its bases'.

    An atom that nothing covers, or only in a circle or over too many bases, has none.
    """
    ranks: dict[bytes, int] = {}
    waiting = dict(found.extents)
    for rank in range(MAX_CHAIN + 1):
        ready = [name for name, places in waiting.items() if _covered(places, ranks)]
        if not ready:
            break
        ranks.update(dict.fromkeys(ready, rank))
        for name in ready:
            del waiting[name]
    return ranks


def _covered(places: Sequence[Place], ranks: Mapping[bytes, int]) -> bool:
    usable: dict[int, list[Place]] = {}
    for place in places:
        if all(base in ranks for base in place.header.bases):
            usable.setdefault(place.header.total, []).append(place)
    return any(next(_coverings(group), None) is not None for group in usable.values())


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
