"""Port of file formats: a pure function from a range reader to a description."""

from typing import Protocol, runtime_checkable

from hartonomous.core.description import Description


@runtime_checkable
class RangeReader(Protocol):
    """Read-only bytes of one file, by range. Nothing else of the machine is visible to a parser."""

    @property
    def size(self) -> int:
        """Length of the file in bytes."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes at ``offset``.

        Raises StructureError when the range reaches outside the file, LimitError when ``length``
        is over what one read grants (16 MiB).
        """
        ...


class Format(Protocol):
    """One file format. Implementations are modules or objects without state."""

    @property
    def name(self) -> str:
        """The format's stable name, such as ``safetensors``."""
        ...

    def matches(self, path: str, head: bytes) -> bool:
        """Say whether a file of this name that begins with ``head`` (up to 4 KiB) looks like it."""
        ...

    def parse(self, reader: RangeReader) -> Description:
        """Return what the file holds.

        Raises StructureError (or LimitError) when the file breaks the format's rules. Never
        imports, opens or runs anything; bounds every count before it allocates; tensors lie
        inside the file and, unless the format allows it, do not overlap.
        """
        ...
