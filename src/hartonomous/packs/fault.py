"""Damage that a verification found, and how the change feed tells of it."""

from collections.abc import Sequence
from typing import Any

import msgspec

from hartonomous.core.event import MAX_NAMED, short


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong: in what, what, and which files need it."""

    where: str
    what: str
    files: tuple[str, ...] = ()


def damage_told(level: str, faults: Sequence[Fault], mended: Sequence[str]) -> dict[str, Any]:
    """Return the data of the event ``store.verified``: how much was found, and the first of it."""
    return {
        "level": level,
        "fault_count": len(faults),
        "mended_count": len(mended),
        "faults": [
            {
                "where": short(one.where),
                "what": short(one.what),
                "files": [short(name) for name in one.files[:4]],
            }
            for one in faults[:MAX_NAMED]
        ],
        "mended": [short(one) for one in mended[:MAX_NAMED]],
    }
