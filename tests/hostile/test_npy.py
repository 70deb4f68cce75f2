"""Hostile .npy files: each costs its structure, within the limits, and nothing else."""

import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hartonomous.core.description import Description
from hartonomous.errors import StructureError
from hartonomous.formats.npy import HEADER_LIMIT_BYTES, NPY
from hartonomous.formats.reader import BytesReader
from hartonomous.formats.sandbox import ParserProcess

MAGIC = b"\x93NUMPY"


@pytest.fixture(scope="module")
def parser() -> Iterator[ParserProcess]:
    with ParserProcess() as process:
        yield process


def describe(parser: ParserProcess, content: bytes) -> Description:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return parser.describe(file.fileno(), "array.npy")


def container(header: str | bytes, data: bytes = b"", *, version: int = 2) -> bytes:
    text = header.encode("latin-1") if isinstance(header, str) else header
    length = len(text).to_bytes(2 if version == 1 else 4, "little")
    return MAGIC + bytes((version, 0)) + length + text + data


def fields(descr: str = "'<f4'", order: str = "False", shape: str = "(1,)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


def objects() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    return file.getvalue()


FOUR = b"abcd"
HOSTILE = {
    "empty": b"",
    "no magic": b"NUMPY" + b"\0" * 80,
    "magic alone": MAGIC,
    "version 0": container(fields(), FOUR, version=0),
    "version 4": container(fields(), FOUR, version=4),
    "minor version": MAGIC + b"\x01\x01" + container(fields(), FOUR, version=1)[8:],
    "length cut short": MAGIC + b"\x02\x00\x10",
    "length of 2^32 - 1": MAGIC + b"\x02\x00\xff\xff\xff\xff{}",
    "header cut short": container(fields())[:40],
    "header empty": container(""),
    "data missing": container(fields()),
    "data cut short": container(fields(), b"abc"),
    "data left over": container(fields(), b"abcde"),
    "two arrays": container(fields(), FOUR) * 2,
    "objects that are no pickle": container(fields("'|O'"), b"\xff" * 8),
    "objects without a pickle": container(fields("'|O'", shape="(0,)")),
    "objects in a field": container(fields("[('a', '|O')]", shape="(0,)")),
    "objects in a nested field": container(fields("[('a', [('b', 'O8', (2,))])]", shape="(0,)")),
    "huge claim": container(fields(shape="(1099511627776,)"), FOUR),
    "shape wraps": container(fields(shape="(4294967296, 4294967296)"), FOUR),
    "shape wraps to 1": container(fields(shape="(4611686018427387905, 4)"), FOUR),
    "shape wraps, then 0": container(fields(shape="(9223372036854775807, 4, 0)")),
    "integer of 20 digits": container(fields(shape="(18446744073709551617,)"), FOUR),
    "integer of 10,000 digits": container(fields(shape=f"({'9' * 10_000},)"), FOUR),
    "element wraps": container(
        fields("[('a', '<f4', (4611686018427387905, 4))]", shape="()"), FOUR
    ),
    "elements multiply": container(
        fields("[('a', " * 8 + "'<f4'" + ", (4294967296,))]" * 8, shape="()"), FOUR
    ),
    "negative shape": container(fields(shape="(-1,)"), FOUR),
    "float shape": container(fields(shape="(1.0,)"), FOUR),
    "boolean shape": container(fields(shape="(True,)"), FOUR),
    "text shape": container(fields(shape="('1',)"), FOUR),
    "list shape": container(fields(shape="[1]"), FOUR),
    "number shape": container(fields(shape="(1)"), FOUR),
    "nested shape": container(fields(shape="((1,),)"), FOUR),
    "order is a number": container(fields(order="0"), FOUR),
    "order is a text": container(fields(order="'False'"), FOUR),
    "unknown kind": container(fields("'<q4'"), FOUR),
    "unknown size": container(fields("'<f3'"), b"abc"),
    "unit on a float": container(fields("'<f4[ns]'"), FOUR),
    "dtype is a number": container(fields("4"), FOUR),
    "dtype is None": container(fields("None"), FOUR),
    "dtype is an empty list": container(fields("[]"), FOUR),
    "dtype is an empty tuple": container(fields("()"), FOUR),
    "field without type": container(fields("[('a',)]"), FOUR),
    "field is a text": container(fields("['<f4']"), FOUR),
    "expression": container(fields(shape="(1 + 0,)"), FOUR),
    "call": container(fields("__import__('os').getcwd()"), FOUR),
    "comment": container(fields() + "# more", FOUR),
    "two values": container(fields() + fields(), FOUR),
    "trailing colon": container(fields() + ":", FOUR),
    "open bracket": container(fields()[:-1], FOUR),
    "wrong bracket": container(fields()[:-1] + ")", FOUR),
    "open string": container("{'descr': '<f4", FOUR),
    "key twice": container(fields()[:-1] + "'shape': (1,), }", FOUR),
    "descr twice": container("{'descr': '<i4', " + fields()[1:], FOUR),
    "key more": container(fields()[:-1] + "'more': 1, }", FOUR),
    "key missing": container("{'descr': '<f4', 'shape': (1,)}", FOUR),
    "set": container("{'descr', 'fortran_order', 'shape'}", FOUR),
    "number as key": container(fields()[:-1] + "1: 1}", FOUR),
    "list as key": container("{[]: 1}", FOUR),
    "value missing": container("{'descr': , }", FOUR),
    "comma for colon": container(fields().replace(":", ","), FOUR),
    "not UTF-8": container(fields("[('\xff', '<f4')]"), FOUR, version=3),
}
LIMITS = {
    "header too long": container(fields() + " " * HEADER_LIMIT_BYTES, FOUR),
    "65 axes": container(fields(shape=f"({'1, ' * 65})"), FOUR),
    "deep lists": container("[" * 30_000 + "]" * 30_000),
    "deep tuples in descr": container(fields("(" * 30_000)),
    "deep dicts": container("{'a':" * 12_000),
}


@pytest.mark.parametrize("name", [*HOSTILE, *LIMITS])
def test_hostile_file_loses_its_structure(parser: ParserProcess, name: str) -> None:
    found = describe(parser, (HOSTILE | LIMITS)[name])
    assert (found.format, found.tensors, found.metadata) == ("file", (), {})
    # The parser said no; it was not stopped by the limits of its process.
    assert [notice.kind for notice in found.notices] == ["limit" if name in LIMITS else "structure"]
    assert found.notices[0].text.startswith("not taken as npy: ")
    assert len(found.notices[0].text) < 300


def test_objects_are_named_and_not_loaded(parser: ParserProcess, tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    class Calls:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {trace}",)

    file = io.BytesIO()
    np.save(file, np.array([Calls()], dtype=object), allow_pickle=True)
    for content in (objects(), file.getvalue(), file.getvalue()[:-1]):
        found = describe(parser, content)
        assert (found.format, found.tensors) == ("npy", ())
        assert found.metadata["objects"] == ["array"]
        dangerous = [one["name"] for one in found.metadata["globals"]
                     if one["verdict"] == "dangerous"]  # fmt: skip
        assert dangerous == ([] if content == objects() else ["posix.system"])
        assert ("unread" in found.metadata) == (content == file.getvalue()[:-1])
    assert not trace.exists()


def test_what_the_hostile_files_were_made_from(parser: ParserProcess) -> None:
    found = describe(parser, container(fields(), FOUR))
    assert (found.format, len(found.tensors), found.notices) == ("npy", 1, ())


def test_truncated_at_every_byte(parser: ParserProcess) -> None:
    content = container(fields("[('a', '<f4'), ('b', '<u2', (2,))]"), bytes(8), version=1)
    assert len(describe(parser, content).tensors) == 1
    for length in range(len(content)):
        found = describe(parser, content[:length])
        assert (found.format, len(found.notices)) == ("file", 1)


def test_header_is_not_evaluated(parser: ParserProcess, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for descr in (f"open({str(trace)!r}, 'w')", f"[].__class__.__base__({str(trace)!r})"):
        assert describe(parser, container(fields(descr), FOUR)).format == "file"
    assert not trace.exists()


@settings(deadline=None)
@given(st.integers(0, len(fields()) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_header_changed_at_random(at: int, piece: bytes, dropped: int) -> None:
    header = fields().encode()
    content = container(header[:at] + piece + header[at + dropped :], FOUR)
    try:
        found = NPY.parse(BytesReader(content))
    except StructureError:
        return
    (tensor,) = found.tensors
    assert (tensor.offset + tensor.length, tensor.length) == (len(content), 4)
