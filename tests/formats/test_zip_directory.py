"""Zip directories: the same members as Python's own reader, and none where two readers differ."""

import io
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch_writer import zipped

from hartonomous.errors import LimitError, StructureError
from hartonomous.formats import zip_directory
from hartonomous.formats.reader import BytesReader
from hartonomous.formats.zip_directory import read_directory, read_member

NAMES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="/\\\0"), min_size=1, max_size=5)
    .filter(lambda part: part not in (".", ".."))
    # zipfile cannot write such a name as it is
    .filter(lambda part: part.isprintable()),
    min_size=1, max_size=3,
).map("/".join)  # fmt: skip


@given(
    st.dictionaries(
        NAMES, st.tuples(st.binary(max_size=50), st.booleans()), min_size=1, max_size=5
    ),
    st.binary(max_size=20).filter(lambda comment: b"PK" not in comment),
)
def test_members_are_those_of_zipfile(members: Any, comment: bytes) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, (content, small) in members.items():
            method = zipfile.ZIP_DEFLATED if small else zipfile.ZIP_STORED
            made.writestr(zipfile.ZipInfo(name), content, method)
        made.comment = comment
    reader = BytesReader(file.getvalue())
    found = read_directory(reader)
    assert list(found) == list(members)
    for name, (content, small) in members.items():
        assert read_member(reader, found[name], limit_bytes=100) == content
        if not small:
            entry = found[name]
            assert reader.read(entry.offset, entry.length) == content


def test_zip64_members() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made, made.open("a", "w", force_zip64=True) as member:
        member.write(b"content")
    found = read_directory(BytesReader(file.getvalue()))
    assert (found["a"].size, found["a"].length) == (7, 7)


MEMBERS = {"a/data.pkl": b"first content", "a/data/0": b"second content"}


def changed(change: Callable[[bytearray], None]) -> bytes:
    content = bytearray(zipped(MEMBERS))
    change(content)
    return bytes(content)


def at_central(field: int, value: bytes, which: int = 0) -> bytes:
    """The file with a field of an entry of its directory replaced."""

    def change(content: bytearray) -> None:
        at = -1
        for _ in range(which + 1):
            at = content.index(b"PK\x01\x02", at + 1)
        content[at + field : at + field + len(value)] = value

    return changed(change)


def at_local(field: int, value: bytes) -> bytes:
    def change(content: bytearray) -> None:
        content[field : field + len(value)] = value

    return changed(change)


def at_end(field: int, value: bytes) -> bytes:
    def change(content: bytearray) -> None:
        at = content.index(b"PK\x05\x06")
        content[at + field : at + field + len(value)] = value

    return changed(change)


def same_name_twice() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("a/data.pkl", b"one")
        with pytest.warns(UserWarning, match="Duplicate"):
            made.writestr("a/data.pkl", b"two")
    return file.getvalue()


def two_ends() -> bytes:
    inner = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0, 0, 0, 0, 1) + b"x"
    content = zipped(MEMBERS)
    return content[:-2] + struct.pack("<H", len(inner)) + inner


def end_in_comment() -> bytes:
    """Readers that look from the back see an archive without members."""
    inner = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0, 0, 0, 0, 0)
    return zipped(MEMBERS)[:-2] + struct.pack("<H", len(inner)) + inner


def with_zip64_extra(extra: bytes) -> bytes:
    """The first member's sizes are said to be in this zip64 field."""
    content = bytearray(zipped({"a": b"content"}))
    at = content.index(b"PK\x01\x02")
    content[at + 20 : at + 28] = b"\xff" * 8
    content[at + 30 : at + 32] = struct.pack("<H", len(extra))
    end = content.index(b"PK\x05\x06")
    name_end = at + 46 + 1
    content[name_end:name_end] = extra
    end += len(extra)
    content[end + 12 : end + 16] = struct.pack("<L", end - at)
    return bytes(content)


def wide(*numbers: int) -> bytes:
    return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers)


SECOND_PLUS_ONE = struct.pack("<L", zipped(MEMBERS).index(b"PK\x03\x04", 1) + 1)

REFUSED = {
    "nothing": (b"", "end record is missing"),
    "cut at the end": (zipped(MEMBERS)[:-1], "end record is missing"),
    "cut in front": (zipped(MEMBERS)[1:], "cut or shifted"),
    "something in front": (b"#!/bin/sh\n" + zipped(MEMBERS), "cut or shifted"),
    "something behind": (zipped(MEMBERS) + b"x", "end record is missing"),
    "two end records": (two_ends(), "two end records"),
    "end record in a comment": (end_in_comment(), "cut or shifted"),
    "encrypted": (at_central(8, b"\x01\x00"), "encrypted"),
    "strong encryption": (at_central(8, b"\x41\x00"), "encrypted"),
    "masked": (at_central(8, b"\x00\x20"), "encrypted"),
    "unknown method": (at_central(10, b"\x63\x00"), "method 99"),
    "method differs": (at_local(8, b"\x08\x00"), "contradicts the directory"),
    "CRC differs": (at_local(14, b"1234"), "contradicts the directory"),
    "size differs": (at_local(18, b"\x01\0\0\0\x01\0\0\0"), "contradicts the directory"),
    "local name differs": (at_local(30, b"b"), "names another"),
    "no local header": (at_local(0, b"PK\x07\x08"), "does not begin with a member"),
    "second is no header": (at_central(42, SECOND_PLUS_ONE, 1), "not there or names another"),
    "overlap": (at_central(20, b"\xe0\0\0\0\xe0\0\0\0"), "overlaps what comes next"),
    "two lengths": (at_central(20, b"\x01\0\0\0"), "two lengths"),
    "both at 0": (at_central(42, b"\0\0\0\0", 1), "overlaps what comes next"),
    "first not at 0": (at_central(42, b"\x01\0\0\0"), "before its first member"),
    "other disk": (at_central(34, b"\x01\0"), "several disks"),
    "name twice": (same_name_twice(), "two members"),
    "more entries": (at_end(8, b"\x03\0\x03\0"), "too short"),
    "fewer entries": (at_end(8, b"\x01\0\x01\0"), "longer than its members"),
    "counts differ": (at_end(8, b"\x01\0"), "several disks"),
    "disk 1": (at_end(4, b"\x01\0"), "several disks"),
    "directory elsewhere": (at_end(16, b"\x01\0\0\0"), "cut or shifted"),
    "directory huge": (at_end(12, b"\xfe\xff\xff\xff"), "cut or shifted"),
    "zip64 without its record": (at_end(16, b"\xff\xff\xff\xff"), "lacks the zip64 record"),
    "zip64 field missing": (with_zip64_extra(b""), "zip64 field is missing"),
    "zip64 field short": (with_zip64_extra(wide(7)), "zip64 field is missing"),
    "zip64 field long": (with_zip64_extra(wide(7, 7, 0)), "zip64 field is missing"),
    "zip64 field twice": (with_zip64_extra(wide(7, 7) * 2), "extra field twice"),
    "zip64 field wrong": (with_zip64_extra(wide(2**63, 2**63)), "overlaps what comes next"),
    "extra cut": (with_zip64_extra(b"\x01\0\xff\xff1234"), "extra fields are cut"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_contradictions_are_refused(name: str) -> None:
    content, text = REFUSED[name]
    with pytest.raises(StructureError, match=text) as caught:
        read_directory(BytesReader(content))
    assert len(caught.value.message) < 300


def test_right_zip64_field_is_read() -> None:
    found = read_directory(BytesReader(with_zip64_extra(wide(7, 7))))
    assert found["a"].length == 7


@pytest.mark.parametrize(
    "name", ["../a", "a/../../b", "/etc/passwd", "a//b", "./a", "a\\b", "..", "a/."]
)
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    content = zipped({"x" * len(name): b"content"}).replace(b"x" * len(name), name.encode())
    with pytest.raises(StructureError, match="is no relative path"):
        read_directory(BytesReader(content))


def test_wrong_crc_is_refused_and_none_is_not() -> None:
    content = zipped({"a": b"content"})
    for crc, refused in ((b"1234", True), (b"\0\0\0\0", False)):
        edited = bytearray(content)
        edited[14:18] = crc
        at = edited.index(b"PK\x01\x02")
        edited[at + 16 : at + 20] = crc
        reader = BytesReader(bytes(edited))
        entry = read_directory(reader)["a"]
        if refused:
            with pytest.raises(StructureError, match="the CRC of 'a' is wrong"):
                read_member(reader, entry, limit_bytes=100)
        else:
            assert read_member(reader, entry, limit_bytes=100) == b"content"


def test_zip_bombs_are_not_inflated() -> None:
    content = zipped({"a": bytes(10_000_000)}, zipfile.ZIP_DEFLATED)
    reader = BytesReader(content)
    with pytest.raises(LimitError, match="has 10000000 bytes, 1000000 are granted"):
        read_member(reader, read_directory(reader)["a"], limit_bytes=1_000_000)
    lying = bytearray(content)  # claims a small size
    at = lying.index(b"PK\x01\x02")
    lying[at + 24 : at + 28] = lying[22:26] = struct.pack("<L", 500_000)
    reader = BytesReader(bytes(lying))
    with pytest.raises(StructureError, match="does not inflate to 500000 bytes"):
        read_member(reader, read_directory(reader)["a"], limit_bytes=1_000_000)


def test_limits_of_the_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    content = zipped({str(at): b"" for at in range(20)})
    monkeypatch.setattr(zip_directory, "ENTRY_LIMIT", 10)
    with pytest.raises(LimitError, match="has 20 members"):
        read_directory(BytesReader(content))
    monkeypatch.setattr(zip_directory, "ENTRY_LIMIT", 100)
    monkeypatch.setattr(zip_directory, "DIRECTORY_LIMIT_BYTES", 100)
    with pytest.raises(LimitError, match="directory has"):
        read_directory(BytesReader(content))


@given(st.data())
def test_changed_files_are_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(zipped(MEMBERS))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    reader = BytesReader(bytes(content))
    try:
        found = read_directory(reader)
    except StructureError:
        return
    ends = 0
    for entry in found.values():
        assert ends <= entry.offset <= entry.offset + entry.length <= reader.size
        ends = entry.offset + entry.length
