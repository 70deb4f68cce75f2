"""The journal of commits and changes as packs hold it: which of them were never acknowledged."""

from collections.abc import Iterable, Mapping
from typing import Any


def unacknowledged_times(journal: Iterable[Mapping[str, Any]]) -> set[int]:
    """Return the ``time_us`` of publications that ended before they were acknowledged.

    A writer that dies after its records were sealed and before its transaction leaves their numbers
    to the next publication. So where two times have one number, the earlier was never acknowledged,
    and neither was anything else of that time: a publication is one transaction.
    """
    newest: dict[int, int] = {}
    numbered = [(int(one.get("seq", 0)), int(one.get("time_us", 0))) for one in journal]
    for number, time_us in numbered:
        newest[number] = max(time_us, newest.get(number, time_us))
    return {time_us for number, time_us in numbered if time_us < newest[number]}
