"""Hostile safetensors files: each costs its structure, within the limits, and nothing else."""

import json
import struct
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hartonomous.core.description import Description
from hartonomous.errors import StructureError
from hartonomous.formats.reader import BytesReader
from hartonomous.formats.safetensors import (
    HEADER_LIMIT_BYTES,
    METADATA_ENTRY_LIMIT,
    SAFETENSORS,
    TENSOR_LIMIT,
)
from hartonomous.formats.sandbox import ParserProcess


@pytest.fixture(scope="module")
def parser() -> Iterator[ParserProcess]:
    with ParserProcess() as process:
        yield process


def describe(parser: ParserProcess, content: bytes) -> Description:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return parser.describe(file.fileno(), "model.safetensors")


def container(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def one(
    dtype: str = '"F32"', shape: str = "[1]", offsets: str = "[0,4]", name: str = '"a"'
) -> bytes:
    text = f'{name}:{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}'
    return text.encode()


def obj(*members: bytes) -> bytes:
    return b"{" + b",".join(members) + b"}"


FOUR = b"abcd"
PAIR = obj(one(), one(offsets="[4,8]", name='"b"'))
HOSTILE = {
    "length of 2^64 - 1": b"\xff" * 8 + b"{}",
    "length of 2^63": struct.pack("<Q", 2**63) + b"{}",
    "length past the end": struct.pack("<Q", 3) + b"{}",
    "header of zero bytes": container(b""),
    "no object": container(b"[]"),
    "null": container(b"null"),
    "trailing NUL": container(obj(one()) + b"\0", FOUR),
    "trailing comma": container(b"{" + one() + b",}", FOUR),
    "two documents": container(obj(one()) + b"{}", FOUR),
    "byte order mark": container(b"\xef\xbb\xbf" + obj(one()), FOUR),
    "not UTF-8 in a name": container(obj(one(name='"\x80"')).replace(b"\xc2\x80", b"\x80"), FOUR),
    "not UTF-8 in metadata": container(b'{"__metadata__":{"a":"\xff"}}'),
    "overlong UTF-8": container(obj(b'"\xc0\xaf"' + one()[3:]), FOUR),
    "lone surrogate": container(obj(one(name='"\\ud800"')), FOUR),
    "data missing": container(obj(one())),
    "data cut short": container(obj(one()), b"abc"),
    "data left over": container(obj(one()), b"abcde"),
    "gap at the beginning": container(obj(one(offsets="[1,5]")), b"abcde"),
    "gap between": container(obj(one(), one(offsets="[5,9]", name='"b"')), bytes(9)),
    "overlap": container(obj(one(), one(offsets="[2,6]", name='"b"')), bytes(6)),
    "same range twice": container(obj(one(), one(name='"b"')), FOUR),
    "end before begin": container(obj(one(offsets="[4,0]")), FOUR),
    "offsets past 2^63": container(obj(one(offsets="[0,9223372036854775808]")), FOUR),
    "offsets past 2^64": container(obj(one(offsets="[0,18446744073709551620]")), FOUR),
    "negative offset": container(obj(one(offsets="[-4,0]")), FOUR),
    "float offset": container(obj(one(offsets="[0,4.0]")), FOUR),
    "exponent offset": container(obj(one(offsets="[0,4e0]")), FOUR),
    "text offset": container(obj(one(offsets='["0","4"]')), FOUR),
    "boolean offset": container(obj(one('"U8"', "[1]", "[false,true]")), b"a"),
    "one offset": container(obj(one(offsets="[0]")), FOUR),
    "three offsets": container(obj(one(offsets="[0,4,4]")), FOUR),
    "offsets are null": container(obj(one(offsets="null")), FOUR),
    "huge claim": container(obj(one(shape="[1099511627776]", offsets="[0,4398046511104]")), FOUR),
    "huge shape, small range": container(obj(one(shape="[1099511627776]")), FOUR),
    "shape wraps to 1": container(obj(one(shape="[4294967296,4294967296,1]")), FOUR),
    "shape wraps, then 0": container(obj(one(shape="[9223372036854775807,4,0]", offsets="[0,0]"))),
    "bytes wrap": container(obj(one(shape="[4611686018427387905]")), FOUR),
    "negative shape": container(obj(one(shape="[-1]")), FOUR),
    "two negatives": container(obj(one(shape="[-1,-1]")), FOUR),
    "float shape": container(obj(one(shape="[1.0]")), FOUR),
    "nested shape": container(obj(one(shape="[[1]]")), FOUR),
    "shape is a number": container(obj(one(shape="1")), FOUR),
    "wrong size": container(obj(one(shape="[2]")), FOUR),
    "half a byte": container(obj(one('"F4"', "[3]", "[0,2]")), b"ab"),
    "65 axes": container(obj(one(shape=json.dumps([1] * 65))), FOUR),
    "dtype is a number": container(obj(one("0")), FOUR),
    "dtype is empty": container(obj(one('""')), FOUR),
    "dtype of a megabyte": container(obj(one(json.dumps("F" * 2**20))), FOUR),
    "entry is a list": container(b'{"a":["F32",[1],[0,4]]}', FOUR),
    "entry is null": container(b'{"a":null}'),
    "entry lacks its shape": container(b'{"a":{"dtype":"F32","data_offsets":[0,4]}}', FOUR),
    "metadata of numbers": container(b'{"__metadata__":{"a":1}}'),
    "metadata nested": container(b'{"__metadata__":{"a":{"b":"c"}}}'),
    "metadata a list": container(b'{"__metadata__":[]}'),
    "NaN": container(b'{"a":NaN}'),
    "number of many digits": container(b'{"a":' + b"9" * 2**20 + b"}"),
    "same tensor twice": container(obj(one(), one()), FOUR),
    "same tensor twice, escaped": container(obj(one(), one(name='"\\u0061"')), FOUR),
    "other tensor of the name": container(obj(one(), one(offsets="[4,8]")), bytes(8)),
    "dtype twice": container(b'{"a":{"dtype":"U8",' + one()[5:] + b"}", FOUR),
    "offsets twice": container(obj(one()[:-1] + b',"data_offsets":[0,4]}'), FOUR),
    "metadata twice": container(b'{"__metadata__":{},"__metadata__":{}}'),
    "metadata key twice": container(b'{"__metadata__":{"k":"1","k":"2"}}'),
    "metadata key twice, escaped": container(b'{"__metadata__":{"k\\n":"1","\\u006b\\n":"2"}}'),
    "key twice in an unknown field": container(obj(one()[:-1] + b',"x":{"y":1,"y":2}}'), FOUR),
    "duplicate hidden by a missing metadata": container(
        b'{"__metadata__":null,"__metadata__":null}'
    ),
    "a pointer of git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
}
EMPTY = b'"%x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
# Large ones are made when their turn comes.
LIMITS = {
    "100,000 brackets": lambda: container(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "100,000 braces": lambda: container(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "1,000,000 open brackets": lambda: container(b'{"a":' + b"[" * 1_000_000),
    "nested metadata": lambda: container(b'{"__metadata__":' + b"[" * 9_000 + b"]" * 9_000 + b"}"),
    "header too long": lambda: container(b"{" + b" " * HEADER_LIMIT_BYTES + b"}"),
    "too many tensors": lambda: container(
        obj(*(EMPTY % i for i in range(TENSOR_LIMIT + 1)))
    ),
    "too many strings": lambda: container(
        b'{"__metadata__":' + obj(*(b'"%x":""' % i for i in range(METADATA_ENTRY_LIMIT + 1))) + b"}"
    ),
    "millions of keys": lambda: container(b"{" + b'"":1,' * 3_000_000 + b'"":1}'),
}  # fmt: skip
BLOATED = {
    "millions of lists": lambda: container(b'{"a":{"x":[' + b"[]," * 5_000_000 + b"[]]}}"),
    "millions of numbers": lambda: container(
        one(shape="[" + "999," * 4_000_000 + "1]").join((b"{", b"}"))
    ),
    "millions of strings": lambda: container(b'{"a":{"x":[' + b'"",' * 5_000_000 + b'""]}}'),
    "millions of escaped quotes": lambda: container(b'{"' + b'\\"' * 8_000_000),
    "millions of open strings": lambda: container(b'{"a":' + b'"' * 16_000_000),
}


def check_refused(found: Description, kind: str) -> None:
    assert (found.format, found.tensors, found.metadata) == ("file", (), {})
    # The parser said no; it was not stopped by the limits of its process.
    assert [notice.kind for notice in found.notices] == [kind]
    assert found.notices[0].text.startswith("not taken as safetensors: ")
    assert len(found.notices[0].text) < 600


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_loses_its_structure(parser: ParserProcess, name: str) -> None:
    check_refused(describe(parser, HOSTILE[name]), "structure")


@pytest.mark.parametrize("name", BLOATED)
def test_bloated_header_loses_its_structure(parser: ParserProcess, name: str) -> None:
    check_refused(describe(parser, BLOATED[name]()), "structure")


@pytest.mark.parametrize("name", LIMITS)
def test_file_over_a_limit_loses_its_structure(parser: ParserProcess, name: str) -> None:
    check_refused(describe(parser, LIMITS[name]()), "limit")


def test_as_many_tensors_as_are_granted(parser: ParserProcess) -> None:
    found = describe(parser, container(obj(*(EMPTY % i for i in range(TENSOR_LIMIT)))))
    assert (found.format, len(found.tensors), found.notices) == ("safetensors", TENSOR_LIMIT, ())


def test_truncated_at_every_byte(parser: ParserProcess) -> None:
    content = container(PAIR, bytes(8))
    assert len(describe(parser, content).tensors) == 2
    for length in range(len(content)):
        found = describe(parser, content[:length])
        assert (found.format, len(found.notices)) == ("file", 1)


def test_names_cannot_write_into_messages(parser: ParserProcess) -> None:
    name = json.dumps("\n\x1b[31m\u202e" + "x" * 10_000)
    found = describe(parser, container(obj(one(shape="[2]", name=name)), FOUR))
    assert found.notices[0].text.isprintable()
    assert len(found.notices[0].text) < 300


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_random_headers(header: bytes) -> None:
    try:
        found = SAFETENSORS.parse(BytesReader(container(header)))
    except StructureError:
        return
    assert isinstance(json.loads(header), dict)
    assert found.tensors == ()


@settings(deadline=None)
@given(st.data())
def test_one_byte_changed(data: st.DataObject) -> None:
    content = bytearray(container(PAIR, bytes(8)))
    at = data.draw(st.integers(0, 7 + len(PAIR)))
    content[at] = data.draw(st.integers(0, 255))
    try:
        found = SAFETENSORS.parse(BytesReader(bytes(content)))
    except StructureError:
        return
    assert all(tensor.offset + tensor.length <= len(content) for tensor in found.tensors)
    assert sum(tensor.length for tensor in found.tensors) == 8
