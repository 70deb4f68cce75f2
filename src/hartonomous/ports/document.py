"""Port of documents: a pure function from a range reader to a file's text."""

from typing import Protocol

from hartonomous.core.document import Document
from hartonomous.ports.format import RangeReader


class DocumentReader(Protocol):
    """Reads the text of one kind of file. Implementations are objects without state."""

    @property
    def name(self) -> str:
        """The kind's stable name, such as ``pdf``."""
        ...

    @property
    def recipe(self) -> str:
        """Changes whenever another text would come out of the same file."""
        ...

    @property
    def extra(self) -> str:
        """The package's extra that has to be installed for it, empty for none."""
        ...

    def matches(self, path: str, head: bytes) -> bool:
        """Say whether a file of this name that begins with ``head`` (up to 4 KiB) looks like it."""
        ...

    def read(self, reader: RangeReader) -> Document:
        """Return the text; raises StructureError, or LimitError where it would take too much.

        Runs in a limited process. Never opens, imports on the file's word, or runs anything.
        """
        ...
