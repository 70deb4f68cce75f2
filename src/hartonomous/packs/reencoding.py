"""Re-encoding: stored atoms are written anew where another encoding takes less.

An atom is read and checked against its digest, its frames are encoded like those of a new one
(and, as always, decoded again and compared), and only when the new pack is sealed do its rows point
there. The old records become dead and are freed by the collection. Cut short anywhere, an atom lies
in its old place or in its new one, both good.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hartonomous.catalog import atoms as rows
from hartonomous.codecs.choice import MIN_GAIN, best, measure
from hartonomous.core.digest import AtomHasher
from hartonomous.core.record import FRAME_BYTES, Encoding
from hartonomous.errors import IntegrityError
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.session import WriteSession
from hartonomous.packs.variants import Chosen

_BLOCK_BYTES = 16 * FRAME_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """What re-encoding an atom would give, judged by a sample of its frames."""

    encoding: Encoding
    stored_bytes: int


class StoredFrames(Sequence[memoryview]):
    """The frames of a stored atom, each read when it is asked for."""

    def __init__(self, reader: AtomReader, row: rows.StoredAtom) -> None:
        self._reader = reader
        self._row = row

    def __len__(self) -> int:
        return (self._row.size_bytes + FRAME_BYTES - 1) // FRAME_BYTES

    def __getitem__(self, index: int) -> memoryview:  # type: ignore[override]  # no slices
        start = index * FRAME_BYTES
        out = memoryview(bytearray(min(FRAME_BYTES, self._row.size_bytes - start)))
        self._reader.decode_into(self._row.digest, out, start)
        return out


def prospect(reader: AtomReader, row: rows.StoredAtom) -> Prospect | None:
    """Return what would save at least two percent of an atom's stored bytes, None for nothing.

    Raises IntegrityError when the frames of the sample are damaged.
    """
    sizes = measure(StoredFrames(reader, row), row.dtype)
    encoding = best(sizes)
    if encoding == row.encoding or not sizes[Encoding.RAW]:
        return None
    expected = row.size_bytes * sizes[encoding] // sizes[Encoding.RAW]
    if expected > (1 - MIN_GAIN) * row.stored_bytes:
        return None
    return Prospect(encoding=encoding, stored_bytes=expected)


def reencode(  # noqa: PLR0917 - what is written, and how
    session: WriteSession,
    reader: AtomReader,
    row: rows.StoredAtom,
    encoding: Encoding | None,
    on_stored: Callable[[int, Encoding], None],
    chosen: Chosen | None = None,
    *,
    larger: bool = False,
    smallest: bool = False,
) -> None:
    """Write an atom anew; its rows follow with the session's next flush.

    As ``chosen``, else in an ``encoding``. ``on_stored`` is told its stored bytes and its encoding
    once all is encoded. Where they turn out not to be fewer than before, which a sample cannot
    exclude, the rows stay as they are, unless it may be ``larger``.

    Raises IntegrityError, and leaves the atom as it was, when its bytes are not what they were.
    """
    session.put_atom(
        row.digest,
        row.size_bytes,
        _checked_frames(reader, row),
        encoding=encoding,
        dtype=row.dtype,
        on_stored=on_stored,
        replaces=True,
        larger=larger,
        smallest=smallest,
        plan=None if chosen is None else chosen.plan,
        bases=() if chosen is None else chosen.bases,
    )


def _checked_frames(reader: AtomReader, row: rows.StoredAtom) -> Iterator[memoryview]:
    """Yield an atom's frames; the last ones only if all of them have its digest."""
    hasher = AtomHasher()
    for start in range(0, row.size_bytes, _BLOCK_BYTES):
        block = memoryview(bytearray(min(_BLOCK_BYTES, row.size_bytes - start)))
        reader.decode_into(row.digest, block, start)
        hasher.update(block)
        if start + len(block) == row.size_bytes and hasher.digest() != row.digest:
            raise IntegrityError(
                f"the content of atom blake3:{row.digest.hex()} has another digest",
                hint="hart verify names the files that need it",
            )
        for at in range(0, len(block), FRAME_BYTES):
            yield block[at : at + FRAME_BYTES]
