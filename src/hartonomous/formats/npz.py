"""NumPy's ``.npz``: a zip file with one ``.npy`` in it for each array.

``numpy.savez`` stores the members, so an array is a range of the file; ``savez_compressed``
deflates them: such an array stays as it lies, has a coding, and is shared with nothing. Of a
deflated member only the first bytes are inflated here, for its header. Arrays are named as
``numpy.load`` names them, without ``.npy``. One in Fortran order has the strides that numpy would
give it. Arrays of Python objects are pickles: named in a notice, never loaded, and what loading
would name is listed. Members' CRCs are not checked.
"""

from typing import Any, Final

from hartonomous.core.coding import DEFLATE, Coding, check_coding
from hartonomous.core.description import Description, Notice, Tensor
from hartonomous.core.strides import c_order, is_c_order
from hartonomous.errors import StructureError
from hartonomous.formats.npy import (
    HEADER_LIMIT_BYTES,
    check_length,
    holds_objects,
    item_bytes,
    name_dtype,
    read_header,
)
from hartonomous.formats.npy_objects import ObjectNames
from hartonomous.formats.quoted import quoted_names
from hartonomous.formats.reader import BeginningReader, BytesReader, PartReader
from hartonomous.formats.zip_directory import (
    MAGIC,
    STORED,
    ZipEntry,
    read_beginning,
    read_directory,
)
from hartonomous.ports.format import Format, RangeReader

_ARRAY = ".npy"
_FIRST_INFLATED_BYTES = 1 << 10
_HEADER_BYTES = 12  # magic, version and length, before the header's text
_PICKLE_INFLATED_BYTES = 8 << 20
"""Of pickles that lie deflated so much is inflated in one file, to see what they name."""
_LISTED = 256


class _Npz:
    """The format's parser; see the module's text."""

    name = "npz"

    def matches(self, path: str, head: bytes) -> bool:
        """Say yes to zip files that begin with a ``.npy``, and to whatever is called ``*.npz``."""
        if path.lower().endswith(".npz"):
            return True
        first = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        return head.startswith(MAGIC) and first.endswith(_ARRAY.encode())

    def parse(self, reader: RangeReader) -> Description:
        """Return the arrays by offset; raises StructureError or LimitError."""
        found = _Arrays()
        for entry in read_directory(reader).values():
            if entry.name.endswith(_ARRAY):
                found.add(reader, entry)
            else:
                found.others.append(entry.name)
        return Description(
            format=self.name,
            tensors=tuple(found.tensors),
            metadata=found.metadata(),
            notices=found.notices(),
        )


NPZ: Final[Format] = _Npz()
"""The entry for the table of formats."""


class _Arrays:
    """What the members are, as they are looked at one after the other."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.objects: list[str] = []
        self.others: list[str] = []
        self.unknown: list[str] = []
        self.fortran_order: list[str] = []
        self._names = ObjectNames()
        self._inflated = 0

    def add(self, reader: RangeReader, entry: ZipEntry) -> None:
        """Take one ``.npy``."""
        name = entry.name.removesuffix(_ARRAY)
        header = read_header(_header_reader(reader, entry))
        if holds_objects(header.descr):
            self.objects.append(name)
            self._add_objects(reader, entry, name, header.length)
            return
        length = header.element_count * item_bytes(header.descr)
        try:
            check_length(header, length, entry.size)
        except StructureError as error:
            raise StructureError(f"{entry.name!a}: {error.message}") from error
        dtype, unknown = name_dtype(header.descr)
        if unknown:
            self.unknown.append(name)
        strides = None
        if header.fortran_order:
            self.fortran_order.append(name)
            turned = tuple(reversed(c_order(header.shape[::-1])))
            strides = None if is_c_order(header.shape, turned) else turned
        stored = entry.method == STORED
        coding = None
        if not stored:
            coding = Coding(method=DEFLATE, skip=header.length, length=length)
            check_coding(coding, entry.length)
        self.tensors.append(
            Tensor(
                name=name,
                dtype=dtype,
                shape=header.shape,
                offset=entry.offset + (header.length if stored else 0),
                length=length if stored else entry.length,
                strides=strides,
                coding=coding,
            )
        )

    def _add_objects(self, reader: RangeReader, entry: ZipEntry, name: str, start: int) -> None:
        if entry.method == STORED:
            self._names.add(name, PartReader(reader, entry.offset, entry.length), start)
            return
        granted = _PICKLE_INFLATED_BYTES - self._inflated
        if granted <= start:
            self._names.leave(name, "more pickles lie compressed than are looked at")
            return
        content = read_beginning(reader, entry, granted)
        self._inflated += len(content)
        self._names.add(name, BytesReader(content), start, cut=len(content) < entry.size)

    def metadata(self) -> dict[str, Any]:
        """Return the names that need a word, where there are any."""
        told = {
            "fortran_order": self.fortran_order,
            "objects": self.objects,
            "other_members": self.others,
        }
        return {
            **{key: names[:_LISTED] for key, names in told.items() if names},
            **self._names.metadata(),
        }

    def notices(self) -> tuple[Notice, ...]:
        """Return what is unusual about the arrays."""
        compressed = [one.name for one in self.tensors if one.coding is not None]
        told = (
            ("compressed", compressed,
             "arrays lie compressed, are kept as they lie and shared with nothing"),
            ("pickle", self.objects,
             "arrays hold Python objects: pickles, which are never loaded"),
            ("dtype", self.unknown,
             "arrays have an element type of numpy's own and are taken as bytes"),
            ("structure", self.others, "members are no arrays"),
        )  # fmt: skip
        counted = [
            Notice(kind=kind, text=f"{len(names)} {text}: {quoted_names(names)}")
            for kind, names, text in told
            if names
        ]
        return (*counted, *self._names.notices())


def _header_reader(reader: RangeReader, entry: ZipEntry) -> RangeReader:
    """Return what the header is read from: a part of the file, or a few inflated bytes."""
    if entry.method == STORED:
        return PartReader(reader, entry.offset, entry.length)
    content = read_beginning(reader, entry, _FIRST_INFLATED_BYTES)
    wide = content[6:7] != b"\x01"
    claimed = _HEADER_BYTES + int.from_bytes(content[8 : 12 if wide else 10], "little")
    if claimed > len(content) and len(content) == _FIRST_INFLATED_BYTES:
        content = read_beginning(reader, entry, min(claimed, HEADER_LIMIT_BYTES + _HEADER_BYTES))
    return BeginningReader(content, entry.size)
