"""What a parser says about a file: its format, its tensors and its metadata.

A description is serialisable (it crosses a pipe from the parser's child process) and says nothing
about storage. ``offset`` and ``length`` are byte positions in the file itself.
"""

from typing import Any

import msgspec

from hartonomous.core.coding import Coding


class Tensor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A named, typed, shaped use of the bytes ``[offset, offset + length)`` of a file.

    ``shape`` is row-major (slowest axis first, as numpy prints it), whatever order the format
    writes. ``dtype`` is a name of ``core.dtype`` or, if unknown there, what the file says.
    ``strides`` are the steps along each axis, in elements; None where elements lie in C order. With
    strides, the range goes from the first to the last element and may hold others in between.
    Ranges of one file may be equal or overlap where several tensors share a storage.
    With a ``coding`` the range is not the elements but decodes to them (and ``strides`` are then of
    what it decodes to): its bytes stay as they lie and are shared with no other tensor.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int
    strides: tuple[int, ...] | None = None
    coding: Coding | None = None

    @property
    def byte_count(self) -> int:
        """Bytes of the elements, decoded where they lie coded."""
        return self.length if self.coding is None else self.coding.length

    @property
    def element_count(self) -> int:
        """Product of the shape; 1 for a scalar."""
        count = 1
        for extent in self.shape:
            count *= extent
        return count


class Notice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A warning that stays with the file: what was refused or looks wrong, and why."""

    kind: str
    text: str


class Description(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything a parser found in one file.

    ``metadata`` holds JSON values only; keys are the format's own. ``format`` is ``"file"`` for
    bytes without a structure that we read.
    """

    format: str
    tensors: tuple[Tensor, ...] = ()
    metadata: dict[str, Any] = {}
    notices: tuple[Notice, ...] = ()
