"""Sketches of stored tensors that have none, as after a repair; made again from their bytes."""

from collections.abc import Sequence
from math import prod

from hartonomous.catalog import sketches
from hartonomous.catalog.database import ROWS_PER_TRANSACTION
from hartonomous.core.dtype import DTYPES
from hartonomous.core.elements import types_with_values
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.base_search import can_be_sketched, sketch_atom
from hartonomous.packs.parts import StoreParts


class Resketching:
    """Makes missing sketches of atoms and writes them in small transactions."""

    def __init__(self, parts: StoreParts, reader: AtomReader) -> None:
        self._parts = parts
        self._reader = reader
        self._dtypes = types_with_values()
        self._missing: dict[int, sketches.UnsketchedTensor] = {}
        self._waiting: list[tuple[int, sketches.NewSketch]] = []

    def look(self, atom_ids: Sequence[int]) -> None:
        """Find out which of the atoms that come next have no sketch and could have one."""
        with self._parts.database.read() as tx:
            found = sketches.missing(tx, atom_ids, dtypes=self._dtypes)
        self._missing = {
            one.atom_id: one
            for one in found
            if can_be_sketched(one.dtype, one.shape)
            and DTYPES[one.dtype].byte_count(prod(one.shape)) == one.size_bytes
        }

    def take(self, atom_id: int) -> None:
        """Sketch an atom if it is missing; raises IntegrityError when it is damaged."""
        one = self._missing.get(atom_id)
        if one is None:
            return
        made = sketch_atom(self._reader, one.digest, one.dtype, one.shape)
        if len(self._waiting) + len(made) > ROWS_PER_TRANSACTION:
            self.write()
        self._waiting += [(atom_id, row) for row in made]

    def write(self) -> None:
        """Write what waits; an atom that was removed or sketched meanwhile is left out."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            with self._parts.database.write(durable=False) as tx:
                sketches.add_missing(tx, waiting)
