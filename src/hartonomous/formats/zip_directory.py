"""The central directory of a zip file, read with bounds and held against the local headers.

Layout and names are those of PKWARE's APPNOTE.TXT 6.3.10. Python's ``zipfile`` is not used: it
takes files with something in front of them, names given twice, members that overlap and local
headers that contradict the directory, and reads a directory of any size at once. Here all of these
are refused, as are encryption, several disks and names that lead out of a folder, because two
readers of such a file see two different files.
"""

import struct
import zlib
from typing import Final, NoReturn

import msgspec

from hartonomous.errors import LimitError, StructureError
from hartonomous.ports.format import RangeReader

ENTRY_LIMIT = 100_000
DIRECTORY_LIMIT_BYTES = 32 << 20
NAME_LIMIT_BYTES = 1_024
MAGIC: Final = b"PK\x03\x04"

STORED: Final = 0
DEFLATED: Final = 8

_READ_BYTES = 8 << 20
_BEGINNING_READ_BYTES = 4 << 10
_COMMENT_LIMIT_BYTES = 0xFFFF
_END = struct.Struct("<4s4H2LH")
_END_MAGIC = b"PK\x05\x06"
_LOCATOR = struct.Struct("<4sLQL")
_LOCATOR_MAGIC = b"PK\x06\x07"
_END64 = struct.Struct("<4sQ2H2L4Q")
_END64_MAGIC = b"PK\x06\x06"
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_CENTRAL_MAGIC = b"PK\x01\x02"
_LOCAL = struct.Struct("<4s5H3L2H")
_ZIP64_EXTRA = 1
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_ENCRYPTED, _SIZES_BEHIND, _STRONG, _MASKED, _UTF8 = 1, 1 << 3, 1 << 6, 1 << 13, 1 << 11


class ZipEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A member: its name, how it is compressed, and the range of the file that its bytes take.

    ``size`` is the length of its content, ``length`` that of the range; equal if it is stored.
    """

    name: str
    method: int
    crc: int
    size: int
    offset: int
    length: int


class _Listed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the directory says of a member, before its local header is read."""

    name: bytes
    flags: int
    method: int
    crc: int
    size: int
    length: int
    header: int


def read_directory(reader: RangeReader) -> dict[str, ZipEntry]:
    """Return the members by name, in the order of the file; raises StructureError, LimitError."""
    start, end, count = _find_directory(reader)
    if reader.read(0, min(4, reader.size)) != MAGIC:
        _refuse("it does not begin with a member: something lies before the archive")
    listed = _listed(_read_all(reader, start, end), count)
    found: dict[str, ZipEntry] = {}
    ordered = sorted(listed, key=lambda one: one.header)
    if ordered and ordered[0].header != 0:
        _refuse("something lies before its first member")
    borders = [*(one.header for one in ordered[1:]), start]
    for one, border in zip(ordered, borders, strict=True):
        entry = _placed(reader, one, border)
        if entry.name in found:
            _refuse(f"it has two members {entry.name!a}")
        found[entry.name] = entry
    return found


def archive_start(reader: RangeReader, end: int) -> int:
    """Return where the archive begins that ends at ``end``, of several one behind the other.

    Its end record must be the last thing in it, without a comment; that its members and directory
    are sound is for ``read_directory`` to say, over that part alone. Raises StructureError.
    """
    at = end - _END.size
    if at < 0 or reader.read(at, len(_END_MAGIC)) != _END_MAGIC:
        _refuse(f"no archive ends at {end}")
    fields = _END.unpack(reader.read(at, _END.size))
    length, start, comment_bytes = fields[5:8]
    border = at
    locator_at = at - _LOCATOR.size
    locator = reader.read(locator_at, _LOCATOR.size) if locator_at >= 0 else b""
    if locator[:4] == _LOCATOR_MAGIC and locator_at >= _END64.size:
        border = locator_at - _END64.size
        length, start = _END64.unpack(reader.read(border, _END64.size))[8:10]
    begin: int = border - length - start
    if comment_bytes or begin < 0:
        _refuse(f"the archive that ends at {end} does not say where it begins")
    return begin


def read_member(reader: RangeReader, entry: ZipEntry, *, limit_bytes: int) -> bytes:
    """Return a member's content; raises StructureError if its CRC is wrong, LimitError past limits.

    A CRC of 0 counts as not given: PyTorch leaves it out when it is told to.
    """
    if max(entry.size, entry.length) > limit_bytes:
        raise LimitError(f"{entry.name!a} has {entry.size} bytes, {limit_bytes} are granted")
    content = _read_all(reader, entry.offset, entry.offset + entry.length)
    if entry.method == DEFLATED:
        content = _inflate(entry, content)
    if entry.crc and zlib.crc32(content) != entry.crc:
        _refuse(f"the CRC of {entry.name!a} is wrong")
    return content


def read_beginning(reader: RangeReader, entry: ZipEntry, length: int) -> bytes:
    """Return the first ``length`` bytes of a member's content, fewer if it has fewer.

    Its CRC is not checked. Raises StructureError if it cannot be inflated so far.
    """
    if entry.method == STORED:
        return _read_all(reader, entry.offset, entry.offset + min(length, entry.length))
    machine = zlib.decompressobj(-zlib.MAX_WBITS)
    found = b""
    end = entry.offset + entry.length
    for at in range(entry.offset, end, _BEGINNING_READ_BYTES):
        content = reader.read(at, min(_BEGINNING_READ_BYTES, end - at))
        try:
            found += machine.decompress(content, length - len(found))
        except zlib.error as error:
            raise StructureError(f"{entry.name!a} in the zip file cannot be inflated") from error
        if len(found) >= length or machine.eof:
            break
    return found


def _inflate(entry: ZipEntry, content: bytes) -> bytes:
    machine = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        found = machine.decompress(content, entry.size + 1)
    except zlib.error as error:
        raise StructureError(f"{entry.name!a} in the zip file cannot be inflated") from error
    if len(found) != entry.size or not machine.eof:
        _refuse(f"{entry.name!a} does not inflate to {entry.size} bytes")
    return found


def _refuse(reason: str) -> NoReturn:
    raise StructureError(f"the zip file is not well-formed: {reason}")


def _read_all(reader: RangeReader, start: int, end: int) -> bytes:
    parts = [reader.read(at, min(_READ_BYTES, end - at)) for at in range(start, end, _READ_BYTES)]
    return b"".join(parts)


# -- where the directory is


def _find_directory(reader: RangeReader) -> tuple[int, int, int]:
    """Return start, end and number of entries of the central directory."""
    tail_bytes = min(reader.size, _END.size)
    tail = reader.read(reader.size - tail_bytes, tail_bytes)
    if not tail.startswith(_END_MAGIC) or tail[-2:] != b"\0\0":
        tail_bytes = min(reader.size, _END.size + _COMMENT_LIMIT_BYTES)
        tail = reader.read(reader.size - tail_bytes, tail_bytes)
    at = _end_in(tail)
    end_at = reader.size - tail_bytes + at
    (_, disk, first_disk, here, count, length, start, _) = _END.unpack_from(tail, at)
    border = end_at
    locator_at = end_at - _LOCATOR.size
    locator = reader.read(locator_at, _LOCATOR.size) if locator_at >= 0 else b""
    if locator[:4] == _LOCATOR_MAGIC:
        narrow = (disk, first_disk, here, count, length, start)
        wide, border = _end64(reader, locator, locator_at)
        for small, large, full in zip(narrow, wide, [_FULL16] * 4 + [_FULL32] * 2, strict=True):
            if small not in (large, full):
                _refuse("its two end records contradict each other")
        disk, first_disk, here, count, length, start = wide
    elif _FULL32 in (length, start):
        _refuse("it lacks the zip64 record that it needs")
    if disk or first_disk or here != count:
        _refuse("it is spread over several disks")
    if start + length != border:
        _refuse("its directory does not end where its end record begins: it is cut or shifted")
    if count > ENTRY_LIMIT:
        raise LimitError(f"the zip file has {count} members, {ENTRY_LIMIT} are granted")
    if length > DIRECTORY_LIMIT_BYTES:
        raise LimitError(f"the zip file's directory has {length} bytes")
    return start, border, count


def _end_in(tail: bytes) -> int:
    """Return where the end record lies in the file's last bytes; it must be the only one."""
    found = []
    at = tail.find(_END_MAGIC)
    while at >= 0:
        if at + _END.size <= len(tail):
            comment_bytes = int.from_bytes(tail[at + _END.size - 2 : at + _END.size], "little")
            if at + _END.size + comment_bytes == len(tail):
                found.append(at)
        at = tail.find(_END_MAGIC, at + 1)
    if not found:
        _refuse("its end record is missing: it is cut, or no zip file")
    if len(found) > 1:
        _refuse("it has two end records")
    return found[0]


def _end64(
    reader: RangeReader, locator: bytes, locator_at: int
) -> tuple[tuple[int, int, int, int, int, int], int]:
    """Return what the zip64 end record says, and where it lies."""
    _, disk, at, disks = _LOCATOR.unpack(locator)
    if disk or disks > 1 or at + _END64.size != locator_at:
        _refuse("its zip64 end record is not where it should be")
    magic, length, _, _, this, first, here, count, size, start = _END64.unpack(
        reader.read(at, _END64.size)
    )
    if magic != _END64_MAGIC or length != _END64.size - 12:
        _refuse("its zip64 end record is not one")
    return (this, first, here, count, size, start), at


# -- what it lists


def _listed(directory: bytes, count: int) -> list[_Listed]:
    found = []
    at = 0
    for _ in range(count):
        if at + _CENTRAL.size > len(directory):
            _refuse("its directory is too short")
        fields = _CENTRAL.unpack_from(directory, at)
        magic, name_bytes, extra_bytes, comment_bytes = fields[0], *fields[10:13]
        at += _CENTRAL.size
        end = at + name_bytes + extra_bytes + comment_bytes
        if magic != _CENTRAL_MAGIC or end > len(directory):
            _refuse("its directory is not what its end record says")
        name = directory[at : at + name_bytes]
        extra = directory[at + name_bytes : at + name_bytes + extra_bytes]
        found.append(_entry_of(fields, name, extra))
        at = end
    if at != len(directory):
        _refuse("its directory is longer than its members")
    return found


def _entry_of(fields: tuple[int, ...], name: bytes, extra: bytes) -> _Listed:
    flags, method, crc, length, size = fields[3], fields[4], *fields[7:10]
    disk, header = fields[13], fields[16]
    wide = _zip64(extra, {"size": size, "length": length, "header": header, "disk": disk})
    if wide["disk"]:
        _refuse("it is spread over several disks")
    return _Listed(
        name=name,
        flags=flags,
        method=method,
        crc=crc,
        size=wide["size"],
        length=wide["length"],
        header=wide["header"],
    )


def _zip64(extra: bytes, narrow: dict[str, int]) -> dict[str, int]:
    """Return the fields with those that are full replaced by what the zip64 extra field says."""
    full = [
        key for key, value in narrow.items() if value == (_FULL16 if key == "disk" else _FULL32)
    ]
    held = _extra_field(extra, _ZIP64_EXTRA)
    needed = sum(4 if key == "disk" else 8 for key in full)
    if full and (held is None or len(held) != needed):
        _refuse("a member's zip64 field is missing or has another length than it needs")
    wide = dict(narrow)
    at = 0
    for key in full:
        width = 4 if key == "disk" else 8
        wide[key] = int.from_bytes((held or b"")[at : at + width], "little")
        at += width
    return wide


def _extra_field(extra: bytes, wanted: int) -> bytes | None:
    found: bytes | None = None
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        at += 4
        if at + length > len(extra):
            _refuse("a member's extra fields are cut")
        if kind == wanted:
            if found is not None:
                _refuse("a member has an extra field twice")
            found = extra[at : at + length]
        at += length
    return found


# -- the members themselves


def _placed(reader: RangeReader, one: _Listed, border: int) -> ZipEntry:
    """Return where a member's bytes lie, once its local header agrees; ``border`` is the next."""
    name = _checked_name(one)
    start = one.header + _LOCAL.size + len(one.name)
    if start > border:
        _refuse(f"{name!a} overlaps what comes next")
    local = reader.read(one.header, start - one.header)
    magic, _, flags, method, _, _, crc, length, size, name_bytes, extra_bytes = _LOCAL.unpack_from(
        local
    )
    if magic != MAGIC or name_bytes != len(one.name) or local[_LOCAL.size :] != one.name:
        _refuse(f"the local header of {name!a} is not there or names another")
    if (flags ^ one.flags) & ~_UTF8 or method != one.method:
        _refuse(f"the local header of {name!a} contradicts the directory")
    start += extra_bytes
    if start + one.length > border:
        _refuse(f"{name!a} overlaps what comes next")
    if not flags & _SIZES_BEHIND or (crc, length, size) != (0, 0, 0):
        extra = reader.read(start - extra_bytes, extra_bytes)
        wide = _zip64(extra, {"size": size, "length": length})
        if (crc, wide["length"], wide["size"]) != (one.crc, one.length, one.size):
            _refuse(f"the local header of {name!a} contradicts the directory")
    return ZipEntry(
        name=name,
        method=one.method,
        crc=one.crc,
        size=one.size,
        offset=start,
        length=one.length,
    )


def _checked_name(one: _Listed) -> str:
    if len(one.name) > NAME_LIMIT_BYTES:
        raise LimitError(f"a member of the zip file has a name of {len(one.name)} bytes")
    try:
        name = one.name.decode("utf-8" if one.flags & _UTF8 else "latin-1")
    except UnicodeDecodeError as error:
        raise StructureError("a member of the zip file has a name that is not UTF-8") from error
    parts = name.removesuffix("/").split("/")
    if "\0" in name or "\\" in name or any(part in ("", ".", "..") for part in parts):
        _refuse(f"the name {name!a} is no relative path")
    if one.flags & (_ENCRYPTED | _STRONG | _MASKED):
        _refuse(f"{name!a} is encrypted")
    if one.method not in (STORED, DEFLATED):
        _refuse(f"{name!a} is compressed by method {one.method}, which is not read")
    if one.method == STORED and one.size != one.length:
        _refuse(f"{name!a} is stored and has two lengths")
    return name
