"""Exact plans: what is predicted to the last byte is no base of its own, its bases are.

A plan that would stand on such an atom is rewritten onto the atoms below it where the two make one
plan (``core.plan_composition``), so a chain is no longer than the differences in it.
"""

from hartonomous.core.plan_composition import compose
from hartonomous.errors import HartonomousError
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.chain import MAX_CHAIN
from hartonomous.packs.predictions import Variant, variant_of


class ExactPlans:
    """Reads in one store which atoms are exactly predicted, from their records."""

    def __init__(self, reader: AtomReader) -> None:
        self._reader = reader

    def composed(self, variant: Variant) -> Variant:
        """Return a variant on the atoms below its exactly predicted bases, as far as that goes.

        A base whose record cannot be read stays what it is.
        """
        for _ in range(MAX_CHAIN):
            below = [self.plan_of(name) for name in variant.bases]
            found = compose(variant.plan, [None if one is None else one.plan for one in below])
            if found is None:
                break
            names = []
            for base, operand in found.sources:
                inner = below[base]
                own = inner is None or operand is None
                names.append(variant.bases[base] if own else inner.bases[operand])  # type: ignore[union-attr,index]
            variant = Variant(found.plan, tuple(names))
        return variant

    def plan_of(self, name: bytes) -> Variant | None:
        """Return the plan that predicts a stored atom exactly; None for any other atom."""
        try:
            places = self._reader.locate([name]).get(name, [])
            if len(places) != 1 or places[0].stored_bytes:
                return None
            _, header = self._reader.record(places[0].pack_key, places[0].header_offset)
            if not header.bases or header.length != header.total or header.frames["stored"].any():
                return None
            return variant_of(header)
        except HartonomousError:
            return None
