"""Pickles that are no checkpoint: ``.pkl``, ``.joblib``, scikit-learn's models and the like.

Only what loading would name is told: the opcodes are read by ``formats/inert_pickle.py``, nothing
is made of them. One pickle may follow another. joblib lays the bytes of an array behind the object
that describes it (joblib/numpy_pickle.py), or a pickle where the array holds objects; both are
passed as its loader would. What is compressed, or cannot be read to its end, is told by
``metadata["unread"]``, because the rest may name anything.
"""

import math
import re
from typing import Any, Final

from hartonomous.core.description import Description
from hartonomous.errors import StructureError
from hartonomous.formats.inert_pickle import Names, read_names
from hartonomous.formats.pickle_values import Call, Global, Mapping
from hartonomous.formats.pickle_verdict import listed
from hartonomous.formats.torch_description import notices_of_names
from hartonomous.formats.torch_values import extents_of, is_count, is_tuple, items_of
from hartonomous.ports.format import Format, RangeReader

ENDINGS = (".pkl", ".pickle", ".joblib", ".dill", ".sav")
PICKLE_COUNT_LIMIT = 10_000
"""Pickles one after the other, those of joblib's arrays included."""
NESTING_LIMIT = 32
"""Arrays of objects, as joblib writes them, of which each lies in the one before."""

_CHECKPOINT_ENDINGS = (".pt", ".pth", ".ckpt", ".bin", ".metadata")
_GLOBALS_LISTED = 256
# A protocol and what the picklers of Python write next, or an old pickle's first name or call.
_BEGINS = re.compile(
    rb"\x80[\x02-\x05][\x95\x8c\x8d\x8a\x8b\x8f}\](c)NKMJGXUCB]|\(*c[\w.]+\n[\w.]+\n"
    rb"|\([dli]|\(i[\w.]+\n[\w.]+\n|[\]})](?:q.|\x94)",
    re.DOTALL,
)
_COMPRESSED = {
    b"\x78\x9c": "zlib", b"\x78\x01": "zlib", b"\x78\xda": "zlib", b"\x78\x5e": "zlib",
    b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x5d\x00\x00": "lzma",
    b"\x04\x22\x4d\x18": "lz4", b"\x28\xb5\x2f\xfd": "zstd",
}  # fmt: skip
_WRAPPERS = frozenset({"joblib.numpy_pickle.NumpyArrayWrapper"})
_DTYPE = re.compile(r"[<>|=]?([a-zA-Z])(\d{1,9})")


class _PickleFile:
    """The format's parser; see the module's text."""

    name = "pickle"

    def matches(self, path: str, head: bytes) -> bool:
        """Say yes to pickles' endings, and to what begins as pickles of today do."""
        lower = path.lower()
        if lower.endswith(ENDINGS):
            return bool(head)
        found = _BEGINS.match(head)
        telling = head[:1] == b"\x80" and head[2:3] == b"\x95"
        return found is not None and (telling or lower.endswith(_CHECKPOINT_ENDINGS))

    def parse(self, reader: RangeReader) -> Description:
        """Return what is named; raises StructureError where nothing of a pickle is there."""
        packed = _compression(reader)
        found = _Stream(reader)
        if packed is None:
            found.run()
        names = listed(found.globals.values())
        metadata: dict[str, Any] = {
            "protocol": found.protocol, "pickle_count": found.count,
            "globals": names[:_GLOBALS_LISTED],
        }  # fmt: skip
        unread = f"it is compressed by {packed}" if packed else found.unread
        metadata |= {} if unread is None else {"unread": unread}
        return Description(
            format=self.name, metadata=metadata, notices=tuple(notices_of_names(names))
        )


PICKLE: Final[Format] = _PickleFile()
"""The entry for the table of formats."""


def _compression(reader: RangeReader) -> str | None:
    head = reader.read(0, min(reader.size, 8))
    return next((name for mark, name in _COMPRESSED.items() if head.startswith(mark)), None)


class _Stream:
    """Reads the pickles of one file in turn."""

    def __init__(self, reader: RangeReader) -> None:
        self._reader = reader
        self._depth = 0
        self.globals: dict[tuple[str, str], Global] = {}
        self.count = 0
        self.protocol = 0
        self.unread: str | None = None

    def run(self) -> None:
        """Read to the end of the file, or to what is no pickle."""
        at = 0
        while at < self._reader.size and self.unread is None:
            at = self._read(at).end

    def _read(self, at: int) -> Names:
        first = self.count == 0
        self.count += 1
        if self.count > PICKLE_COUNT_LIMIT:
            self.unread = f"it holds more than {PICKLE_COUNT_LIMIT} pickles"
            return Names(globals=(), protocol=0, end=at, error=None)
        found = read_names(self._reader, at, after_build=self._behind)
        for name in found.globals:
            self.globals.setdefault((name.module, name.name), name)
        self.protocol = max(self.protocol, found.protocol)
        if found.error is not None:
            if first and not self.globals:
                raise StructureError(f"it is no pickle: {found.error}")
            self.count -= 1
            self.unread = self.unread or f"at {found.end}: {found.error}"
        return found

    def _behind(self, machine: Any, target: Call) -> None:
        """Pass what joblib lays behind an array's description; see the module."""
        if target.path not in _WRAPPERS or not isinstance(target.state, Mapping):
            return
        held = dict(items_of(target.state.items))
        shape, kind = extents_of(held.get("shape")), _kind_of(held.get("dtype"))
        if shape is None or kind is None:
            raise StructureError("an array of joblib has no shape or no type that is known")
        code, width = kind
        if code == "O":
            self._depth += 1
            if self._depth > NESTING_LIMIT:
                raise StructureError(f"arrays of objects lie {NESTING_LIMIT} deep in one another")
            inner = self._read(machine.position)
            self._depth -= 1
            if inner.error is not None:
                raise StructureError(inner.error)
            machine.skip(inner.end - machine.position)
            return
        if is_count(held.get("numpy_array_alignment_bytes")):
            machine.skip(int(machine.take(1)[0]))
        machine.skip(math.prod(shape) * (4 * width if code == "U" else width))


def _kind_of(value: Any) -> tuple[str, int] | None:
    """Return letter and number of a ``numpy.dtype``, such as ``("f", 8)``."""
    if (
        not isinstance(value, Call)
        or value.path != "numpy.dtype"
        or not is_tuple(value.arguments, 1)
    ):
        return None
    found = _DTYPE.fullmatch(value.arguments[0]) if isinstance(value.arguments[0], str) else None
    return (found[1], int(found[2])) if found is not None else None
