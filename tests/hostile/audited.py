"""Parsers under an audit hook: what the interpreter did while a file was parsed.

For a parser process: ``audited:NAME`` for each NAME of the table of formats. The description's
metadata get ``events``, the names of the audit events that Python raised between the start and the
end of the parser, and a refusal becomes a notice here.
"""

import sys
from typing import Any

import msgspec

from hartonomous.core.description import Description, Notice
from hartonomous.errors import StructureError
from hartonomous.formats.detect import FORMATS
from hartonomous.ports.entry import load
from hartonomous.ports.format import Format, RangeReader

_events: list[str] | None = None
_installed = False


def _note(event: str, _arguments: tuple[Any, ...]) -> None:
    if _events is not None and event != "builtins.id":  # which the parser calls itself
        _events.append(event)


class _Audited:
    def __init__(self, inner: Format) -> None:
        self.inner = inner
        self.name = inner.name

    def matches(self, path: str, head: bytes) -> bool:
        return self.inner.matches(path, head)

    def parse(self, reader: RangeReader) -> Description:
        global _events, _installed
        if not _installed:
            sys.addaudithook(_note)
            _installed = True
        _events = seen = []
        try:
            found = self.inner.parse(reader)
        except StructureError as error:
            found = Description(format="file", notices=(Notice(kind=error.kind, text=str(error)),))
        finally:
            _events = None
        return msgspec.structs.replace(found, metadata={**found.metadata, "events": seen})


class _Loading:
    """Loads the pickle at the front of a file with Python's own unpickler: the hook must see it."""

    name = "loading"

    def matches(self, path: str, head: bytes) -> bool:
        return path == "loading"

    def parse(self, reader: RangeReader) -> Description:
        import pickle

        class Loader:
            name = "loader"

            def matches(self, path: str, head: bytes) -> bool:
                return True

            def parse(self, reader: RangeReader) -> Description:
                pickle.loads(reader.read(0, reader.size))
                return Description(format="loaded")

        return _Audited(Loader()).parse(reader)


LOADING = _Loading()
globals().update({entry.rpartition(":")[2]: _Audited(load(entry)) for entry in FORMATS})
