"""Arrays of Python objects in ``.npy`` and ``.npz`` files: what loading their pickles would name.

numpy writes such an array as one pickle behind the header (numpy/lib/format.py, ``write_array``)
and loads it only with ``allow_pickle=True``. Here the opcodes are read by
``formats/inert_pickle.py``, and nothing is made of them.
"""

from typing import Any, Final

from hartonomous.core.description import Notice
from hartonomous.errors import StructureError
from hartonomous.formats.inert_pickle import read_names
from hartonomous.formats.pickle_values import Global
from hartonomous.formats.pickle_verdict import listed
from hartonomous.formats.torch_description import notices_of_names
from hartonomous.ports.format import RangeReader

_NAMES_LISTED: Final = 256


class ObjectNames:
    """What the pickles of one file name, as they are looked at one after the other."""

    def __init__(self) -> None:
        self._globals: dict[tuple[str, str], Global] = {}
        self._unread: str | None = None

    def add(self, name: str, reader: RangeReader, start: int, *, cut: bool = False) -> None:
        """Take the pickle of the array ``name``, which begins at ``start``.

        ``cut``: the reader has its beginning only. Raises StructureError where nothing of a pickle
        is there.
        """
        found = read_names(reader, start)
        if found.error is not None and not found.globals and not cut:
            raise StructureError(f"an object array whose values are no pickle: {found.error}")
        for one in found.globals:
            self._globals.setdefault((one.module, one.name), one)
        if found.error is not None:
            self.leave(name, "it is too long to be read whole" if cut else found.error)

    def leave(self, name: str, reason: str) -> None:
        """Take down that the pickle of an array was not read to its end."""
        self._unread = self._unread or f"{name[:80]!a}: {reason}"

    def metadata(self) -> dict[str, Any]:
        """Return names with verdicts, and what was not read, where there is any."""
        names = listed(self._globals.values())[:_NAMES_LISTED]
        told: dict[str, Any] = {"globals": names} if names else {}
        return told if self._unread is None else told | {"unread": self._unread}

    def notices(self) -> list[Notice]:
        """Return the notices about names that are dangerous or unknown."""
        return notices_of_names(listed(self._globals.values()))
