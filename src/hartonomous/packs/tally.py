"""What a file cost and why, counted while its parts are written."""

from dataclasses import dataclass, field

import msgspec

from hartonomous.core.plan import Plan
from hartonomous.core.plan_words import kind_of
from hartonomous.core.record import Encoding

_ENCODING_NAMES = {encoding: encoding.name.lower() for encoding in Encoding}


@dataclass(slots=True)
class Tally:
    """What a file cost and why: {reason: [pieces, logical bytes, stored bytes]}."""

    reasons: dict[str, list[int]] = field(default_factory=dict)

    def add(self, reason: str, logical: int, stored: int = 0, pieces: int = 1) -> None:
        """Count pieces under a reason."""
        row = self.reasons.get(reason)
        if row is None:
            row = self.reasons[reason] = [0, 0, 0]
        row[0] += pieces
        row[1] += logical
        row[2] += stored

    def join(self, other: "Tally") -> None:
        """Count what another one counted."""
        for reason, (pieces, logical, stored) in other.reasons.items():
            self.add(reason, logical, stored, pieces)


class Counter(msgspec.Struct, frozen=True, gc=False):
    """Counts one new atom of ``size`` bytes once it is written."""

    what: str
    tally: Tally
    size: int
    plan: Plan | None = None

    def __call__(self, stored_bytes: int, encoding: Encoding) -> None:
        """Take what the atom takes in packs."""
        how = _ENCODING_NAMES[encoding]
        if self.plan is not None:
            how = kind_of(self.plan, exact=not stored_bytes)
        self.tally.add(f"{self.what} stored {how}", self.size, stored_bytes)
