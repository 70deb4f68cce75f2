"""Names that a file holds, as they may stand in a message: quoted, escaped, not long, not many."""

from collections.abc import Sequence

_SHOWN_CHARS = 80
_SHOWN_NAMES = 8


def quoted(name: str) -> str:
    """Return a name in quotes and ASCII, cut at 80 characters."""
    return ascii(name if len(name) <= _SHOWN_CHARS else f"{name[: _SHOWN_CHARS - 3]}...")


def quoted_names(names: Sequence[str]) -> str:
    """Return the first eight names, and how many more there are."""
    more = len(names) - _SHOWN_NAMES
    shown = ", ".join(map(quoted, names[:_SHOWN_NAMES]))
    return f"{shown} and {more} more" if more > 0 else shown
