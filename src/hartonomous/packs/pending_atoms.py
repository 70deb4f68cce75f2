"""Atoms on their way into a store: what is known of them until their rows are in the catalog."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from hartonomous.catalog import atoms
from hartonomous.catalog.database import ROWS_PER_TRANSACTION
from hartonomous.catalog.sketches import NewSketch
from hartonomous.core.record import Encoding
from hartonomous.packs.predictions import Variant


# One for each tensor: 50,000 are no work for the collector of cycles (gc=False).
class Extent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a record was written, and what of its object it holds."""

    pack_key: bytes
    position: int
    length: int
    header_offset: int
    stored_bytes: int


class PendingAtom(msgspec.Struct, kw_only=True, gc=False):
    """An atom on its way into packs; ``on_stored`` is told its stored bytes when all is written."""

    digest: bytes
    size: int
    wanted: Encoding | None  # None: one frame, which gets the smallest
    dtype: str | None
    verify: bool  # one frame, whose digest is not known to be the atom's
    on_stored: Callable[[int, Encoding], None]
    encoding: Encoding = Encoding.RAW  # known once the first frame is written
    replaces: bool = False  # stored already: the new extents take the place of the old ones
    larger: bool = False  # and do so even where they take more
    smallest: bool = False  # by slower recipes, where there are some
    variant: Variant | None = None
    sketches: tuple[NewSketch, ...] = ()
    extents: tuple[Extent, ...] = ()
    gathered: int = 0  # bytes whose frames have come
    written: int = 0
    given_up: bool = False  # not all of its frames came, or they were other bytes


def new_atom(atom: PendingAtom, pack_ids: Mapping[bytes, int]) -> atoms.NewAtom:
    """Return the rows of an atom all of whose packs are registered."""
    return atoms.NewAtom(
        digest=atom.digest,
        size_bytes=atom.size,
        encoding=int(atom.encoding),
        bases=() if atom.variant is None else atom.variant.bases,
        sketches=atom.sketches,
        larger=atom.larger,
        extents=tuple(
            atoms.NewExtent(
                pack_id=pack_ids[one.pack_key],
                position=one.position,
                length=one.length,
                header_offset=one.header_offset,
                stored_bytes=one.stored_bytes,
            )
            for one in atom.extents
        ),
    )


def batches_by_rows(pending: Sequence[PendingAtom]) -> Iterable[list[PendingAtom]]:
    """Cut so that atoms and all rows below them stay within the rows of one transaction."""
    piece: list[PendingAtom] = []
    rows = 0
    for atom in pending:
        need = 2 + len(atom.extents) + len(atom.sketches)
        need += 0 if atom.variant is None else len(atom.variant.bases)
        if piece and rows + need > ROWS_PER_TRANSACTION:
            yield piece
            piece, rows = [], 0
        piece.append(atom)
        rows += need
    if piece:
        yield piece
