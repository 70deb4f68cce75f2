"""Which pieces of files outside the store are probably equal: to each other, to stored ones.

A few places of each are compared, the same for all things of one length. Equal places do not prove
equal bytes; they are told as "probably equal".
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from hartonomous.catalog import candidates
from hartonomous.catalog.manifests import ManifestRow
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.files import FileReader, load_manifest
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.sampling import (
    EQUAL,
    NEW,
    STORED,
    Fingerprint,
    Pieces,
    Sampler,
    fingerprint_bytes,
)

_SPOTS = (64, 32, 16)
_FILE_SPOT = 64
_CANDIDATES_EACH = 48
_MOST_COMPARISONS = 20_000


def mark_equal(sampler: Sampler, pieces: Pieces, *, share: int) -> bool:
    """Mark pieces that are probably equal to an earlier one; False if not all could be compared.

    Reads at most ``share`` bytes: smaller places first, then fewer pieces, the largest first.
    """
    lengths = pieces["length"]
    _, inverse, counts = np.unique(lengths, return_inverse=True, return_counts=True)
    which = np.flatnonzero((counts[inverse] > 1) & (pieces["state"] == NEW))
    spot = _SPOTS[-1]
    for spot in _SPOTS:
        if sum(fingerprint_bytes(int(length), spot) for length in lengths[which]) <= share:
            break
    kept = _within(lengths, which, spot, share)
    groups: dict[int, list[_Printed]] = {}
    for at in kept:
        piece = pieces[at]
        length = int(piece["length"])
        print_ = sampler.fingerprint(int(piece["file"]), int(piece["offset"]), length, spot)
        groups.setdefault(length, []).append((at, print_))
    for group in groups.values():
        for equal in _equal(group):
            pieces["state"][[at for at, _ in equal[1:]]] = EQUAL
    return len(kept) == len(which)


_Printed = tuple[int, Fingerprint]


def _equal(group: list[_Printed]) -> Iterator[list[_Printed]]:
    """Yield those of things of one length, two or more, that are the same at all places.

    One place of all is compared after the other, so that what differs is not read on.
    """
    waiting = [(0, group)]
    while waiting:
        place, alike = waiting.pop()
        if len(alike) < 2:
            continue
        if place == len(alike[0][1].places):
            yield alike
            continue
        parted: dict[bytes, list[_Printed]] = {}
        for one in alike:
            parted.setdefault(one[1].content(place), []).append(one)
        waiting += [(place + 1, some) for some in parted.values()]


def _within(lengths: "np.ndarray", which: "np.ndarray", spot: int, share: int) -> list[int]:
    """Return the largest of ``which`` whose fingerprints fit, in file order."""
    kept = []
    for at in sorted(which, key=lambda at: (-int(lengths[at]), int(at))):
        share -= fingerprint_bytes(int(lengths[at]), spot)
        if share < 0:
            break
        kept.append(int(at))
    return sorted(kept)


class StoredLikeness:
    """Compares with what one store holds; reads of the store do not count as reads of sources."""

    def __init__(self, parts: StoreParts) -> None:
        self._parts = parts
        self._reader = AtomReader(parts)
        self._left = _MOST_COMPARISONS

    @property
    def exhausted(self) -> bool:
        """Whether there was more to compare than is granted."""
        return self._left <= 0

    def close(self) -> None:
        """Close what was opened of the store."""
        self._reader.close()

    def mark_files(
        self, sampler: Sampler, pieces: Pieces, sizes: Sequence[int], *, share: int
    ) -> None:
        """Mark pieces that are whole files (of ``sizes`` by index) and probably stored already."""
        whole = [
            piece
            for piece in pieces
            if piece["state"] == NEW and int(piece["length"]) == sizes[int(piece["file"])]
        ]
        with self._parts.database.read() as tx:
            stored = candidates.files_of_sizes(
                tx, {int(piece["length"]) for piece in whole}, each=_CANDIDATES_EACH
            )
        for piece in whole:
            size = int(piece["length"])
            share -= fingerprint_bytes(size, _FILE_SPOT) if size in stored else 0
            if size not in stored or share < 0:
                continue
            wanted = sampler.fingerprint(int(piece["file"]), 0, size, _FILE_SPOT)
            if any(self._same_file(row, wanted) for row in stored[size]):
                piece["state"] = STORED

    def _same_file(self, row: ManifestRow, wanted: Fingerprint) -> bool:
        if self.exhausted:
            return False
        file = FileReader(self._reader, load_manifest(self._reader, row))
        return self._same(wanted, file.read)

    def mark_tensors(
        self, sampler: Sampler, pieces: Pieces, names: Sequence[str], *, share: int
    ) -> None:
        """Mark pieces that are probably stored already, by the tensors of their name and size,
        then by anything of their size."""
        which = [int(at) for at in np.flatnonzero(pieces["state"] == NEW)]
        lengths = {int(length) for length in pieces["length"][which]}
        with self._parts.database.read() as tx:
            named = candidates.tensors_of_names(
                tx, {names[at] for at in which if names[at]}, limit=_MOST_COMPARISONS
            )
            sized = candidates.atoms_of_sizes(tx, lengths, each=_CANDIDATES_EACH)
        for at in sorted(which, key=lambda at: (-int(pieces["length"][at]), at)):
            piece = pieces[at]
            length = int(piece["length"])
            likely = [*named.get((names[at], length), ()), *sized.get(length, ())]
            before = sampler.read_bytes
            if (not likely or fingerprint_bytes(length, _SPOTS[-1]) > share) or self.exhausted:
                continue
            wanted = sampler.fingerprint(
                int(piece["file"]), int(piece["offset"]), length, _SPOTS[-1]
            )
            if any(self._same_atom(digest, wanted) for digest in dict.fromkeys(likely)):
                piece["state"] = STORED
            share -= sampler.read_bytes - before

    def _same_atom(self, digest: bytes, wanted: Fingerprint) -> bool:
        def read(offset: int, size: int) -> bytes:
            out = bytearray(size)
            self._reader.decode_into(digest, memoryview(out), offset)
            return bytes(out)

        return not self.exhausted and self._same(wanted, read)

    def _same(self, wanted: Fingerprint, read: Callable[[int, int], bytes]) -> bool:
        """Compare place by place; most candidates differ in the first."""
        self._left -= 1
        return all(
            read(offset, size) == wanted.content(number)
            for number, (offset, size) in enumerate(wanted.places)
        )
