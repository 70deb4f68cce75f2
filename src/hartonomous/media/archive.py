"""Zip archives of XML (Office, OpenDocument, EPUB): members read whole, within limits.

The archive is read by ranges. Names only choose members; nothing is written. XML with a document
type is refused: these formats have none, and entities are defined there.
"""

import io
import re
import zipfile
import zlib
from collections.abc import Mapping
from posixpath import join, normpath
from xml.etree.ElementTree import Element, ParseError, fromstring

from hartonomous.errors import LimitError, StructureError
from hartonomous.media.damage import Damage
from hartonomous.ports.format import RangeReader

MAGIC = b"PK\x03\x04"
MEMBER_LIMIT_BYTES = 48 << 20
ARCHIVE_LIMIT_BYTES = 160 << 20
"""What all members that are read may have together."""
MEMBERS_LIMIT = 65_536

_READ_BYTES = 1 << 20
_DEPTH_LIMIT = 256
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_RELATIONSHIPS = "{http://schemas.openxmlformats.org/package/2006/relationships}Relationship"


class RangeFile(io.RawIOBase):
    """A range reader as a file object, for libraries that want one; read-only, seekable."""

    def __init__(self, reader: RangeReader) -> None:
        super().__init__()
        self._reader = reader
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, never before the beginning; return the position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._reader.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def readinto(self, buffer: object) -> int:
        """Fill a buffer as far as the file goes and one read grants."""
        out = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        length = max(0, min(len(out), self._reader.size - self._at, _READ_BYTES))
        out[:length] = self._reader.read(self._at, length)
        self._at += length
        return length


class Archive:
    """An archive's members; raises StructureError where it is none.

    ``damage`` collects those that could not be read, where others count without them.
    """

    def __init__(self, reader: RangeReader) -> None:
        self.damage = Damage()
        self._granted = ARCHIVE_LIMIT_BYTES
        try:
            self._zip = zipfile.ZipFile(io.BufferedReader(RangeFile(reader), _READ_BYTES))
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
            raise StructureError(f"no zip file: {error}") from error
        names = self._zip.namelist()
        if len(names) > MEMBERS_LIMIT:
            raise LimitError(f"the archive has {len(names):,} members")
        self.names = frozenset(names)

    def read(self, name: str) -> bytes:
        """Return a member's content; raises StructureError, LimitError."""
        limit = min(MEMBER_LIMIT_BYTES, self._granted)
        try:
            # These formats know no other methods, of which some claim gigabytes to unpack.
            if self._zip.getinfo(name).compress_type not in _METHODS:
                raise StructureError(f"its member {name!a} is packed in a way that it may not be")
            with self._zip.open(name) as member:
                content = member.read(limit + 1)
        except KeyError as error:
            raise StructureError(f"it lacks {name!a}") from error
        except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError,
                OSError, ValueError) as error:  # fmt: skip
            # What is unpacked for nothing counts too: many parts may name one such member.
            self._granted -= max(0, min(limit, self._zip.getinfo(name).file_size))
            raise StructureError(f"its member {name!a} cannot be read: {error}") from error
        if len(content) > limit:
            raise LimitError(f"its member {name!a} is larger than {limit:,} bytes")
        self._granted -= len(content)
        return content

    def xml(self, name: str) -> Element:
        """Return a member's root element; raises StructureError, LimitError."""
        content = self.read(name)
        if b"<!DOCTYPE" in content[:4096] or b"<!ENTITY" in content:
            raise StructureError(f"its member {name!a} declares a document type")
        try:
            return fromstring(content)  # noqa: S314 - no document type, and in a limited process
        except (ParseError, ValueError, LookupError) as error:  # the latter of its encoding
            raise StructureError(f"its member {name!a} is no XML: {error}") from error

    def xml_beside(self, name: str, what: str = "a part beside the text") -> Element | None:
        """Return a member that stands beside the text, which counts without it too.

        None where it is not there or cannot be read, which is noted as that of ``what``.
        """
        try:
            return self.xml(name) if name in self.names else None
        except StructureError as error:
            self.damage.note(what, error)
            return None

    def relations(self, name: str) -> Mapping[str, tuple[str, str]]:
        """Return {id: (last part of the type, member)} of an Office part's relationships."""
        folder, _, file = name.rpartition("/")
        place = f"{folder}/_rels/{file}.rels" if folder else f"_rels/{file}.rels"
        if place not in self.names:
            return {}
        found = {}
        for one in self.xml(place).iter(_RELATIONSHIPS):
            if one.get("TargetMode") != "External":
                target = one.get("Target", "")
                path = target[1:] if target.startswith("/") else normpath(join(folder, target))
                found[one.get("Id", "")] = (one.get("Type", "").rpartition("/")[2], path)
        return found

    def relations_beside(self, name: str, what: str) -> Mapping[str, tuple[str, str]]:
        """Return a part's relationships; none, and a note of ``what``, where they are damaged."""
        try:
            return self.relations(name)
        except LimitError:
            raise
        except StructureError as error:
            self.damage.note(what, error)
            return {}


def whole_number(text: str | None) -> int | None:
    """Return a whole number that a document says, None for anything else."""
    found = _WHOLE.fullmatch(text or "")
    return int(found.group()) if found else None


def walk(root: Element, stops: frozenset[str]) -> list[Element]:
    """Return the elements of these tags in order, none inside another of them."""
    found = []
    waiting = [(root, 0)]
    while waiting:
        one, depth = waiting.pop()
        if one.tag in stops:
            found.append(one)
        elif depth < _DEPTH_LIMIT:
            waiting.extend((child, depth + 1) for child in reversed(one))
    return found
