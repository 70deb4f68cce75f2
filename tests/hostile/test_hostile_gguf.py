"""GGUF files that lie: refused with StructureError, in bounded time and memory."""

import itertools
import struct
import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hartonomous.core.description import Description
from hartonomous.core.manifest import partition
from hartonomous.errors import StructureError
from hartonomous.formats.gguf import GGUF

UINT8, UINT32, STRING, ARRAY = 0, 4, 8, 9
F32, Q4_K = 0, 12
ALIGNMENT = b"general.alignment"


class Sparse:
    """A file of ``size`` bytes: ``content``, then zeros. Counts what is read of it."""

    def __init__(self, content: bytes, size: int | None = None) -> None:
        self.content = content
        self.size = len(content) if size is None else size
        self.bytes_read = 0

    def read(self, offset: int, length: int) -> bytes:
        assert offset >= 0 and 0 <= length <= 16 * 1024 * 1024
        if offset + length > self.size:
            raise StructureError("outside the file")
        self.bytes_read += length
        return self.content[offset : offset + length].ljust(length, b"\0")


def string(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text


def entry(key: bytes, kind: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + value


def tensor_info(name: bytes, extents: tuple[int, ...], kind: int, offset: int) -> bytes:
    return string(name) + struct.pack(f"<I{len(extents)}QIQ", len(extents), *extents, kind, offset)


def head(tensor_count: int, key_count: int, version: int = 3) -> bytes:
    return struct.pack("<4sIQQ", b"GGUF", version, tensor_count, key_count)


def with_keys(*entries: bytes) -> bytes:
    return head(0, len(entries)) + b"".join(entries)


def with_tensors(*infos: bytes, data: bytes = bytes(256), keys: tuple[bytes, ...] = ()) -> bytes:
    content = head(len(infos), len(keys)) + b"".join(keys) + b"".join(infos)
    return content + bytes(-len(content) % 32) + data


def refused(content: bytes, *, size: int | None = None, match: str) -> StructureError:
    reader = Sparse(content, size)
    with pytest.raises(StructureError, match=match) as caught:
        GGUF.parse(reader)
    return caught.value


def sample() -> bytes:
    """A small valid file with every kind of field, whose last tensor ends with the file."""
    array = struct.pack("<IQ", ARRAY, 1) + struct.pack("<IQ", STRING, 2) + string(b"a") * 2
    return with_tensors(
        tensor_info(b"one", (4, 2), F32, 0),
        tensor_info(b"two", (256,), Q4_K, 32),
        data=bytes(32 + 144),
        keys=(
            entry(ALIGNMENT, UINT32, struct.pack("<I", 32)),
            entry(b"name", STRING, string(b"mini")),
            entry(b"words", ARRAY, array),
            entry(b"bytes", ARRAY, struct.pack("<IQ", UINT8, 20) + bytes(20)),
        ),
    )


def test_the_sample_is_valid() -> None:
    assert [tensor.length for tensor in GGUF.parse(Sparse(sample())).tensors] == [32, 144]


def test_cut_off_anywhere() -> None:
    content = sample()
    for length in range(len(content)):
        refused(content[:length], match=".")


@pytest.mark.parametrize("version", [0, 1, 4, 0xFFFF])
def test_other_versions(version: int) -> None:
    refused(head(0, 0, version), match=f"version {version} is not read")


def test_big_endian() -> None:
    refused(struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), match="big-endian")


def test_84_bytes_that_claim_2_to_the_40_elements() -> None:
    for kind in (UINT8, STRING, ARRAY):
        content = with_keys(entry(b"tokens", ARRAY, struct.pack("<IQ", kind, 2**40))).ljust(84)
        assert len(content) == 84
        refused(content, match=r"1,099,511,627,776 elements")


@pytest.mark.parametrize("count", [11, 2**40, 2**63, 2**64 - 1])
def test_counts_that_the_file_cannot_hold(count: int) -> None:
    refused(head(count, 0) + bytes(100), match="the head claims")
    refused(head(0, count) + bytes(100), match="the head claims")


def test_counts_over_the_limits() -> None:
    assert refused(head(200_001, 0), size=2**40, match="200,000").kind == "limit"
    assert refused(head(0, 65_537), size=2**40, match="65,536").kind == "limit"


@pytest.mark.parametrize("length", [2**30, 2**63, 2**64 - 1])
def test_strings_longer_than_the_file(length: int) -> None:
    refused(head(0, 1) + string(b"key", length) + bytes(64), match="claims")
    refused(with_keys(entry(b"k", STRING, string(b"v", length))) + bytes(64), match="claims")
    array = struct.pack("<IQ", STRING, 20) + string(b"") * 19 + string(b"x", length)
    refused(with_keys(entry(b"k", ARRAY, array)) + bytes(64), match="the file has")
    refused(head(1, 0) + string(b"name", length) + bytes(64), match="claims")


def test_headers_over_64_mib_in_a_file_that_has_the_bytes() -> None:
    gib = 2**30
    for value in (
        entry(b"k", STRING, string(b"", gib)),
        entry(b"k", ARRAY, struct.pack("<IQ", UINT8, gib)),
        entry(b"k", ARRAY, struct.pack("<IQ", STRING, 1) + string(b"", gib)),
        entry(b"k", ARRAY, struct.pack("<IQ", STRING, gib)),
    ):
        assert refused(with_keys(value), size=2**40, match="67,108,864").kind == "limit"


def test_long_keys_and_names() -> None:
    assert refused(head(0, 1) + string(b"k" * 65_536) + bytes(64), match="key").kind == "limit"
    content = head(1, 0) + string(b"n" * 4_097) + bytes(64)
    assert refused(content, match="tensor's name").kind == "limit"


def test_a_description_that_would_be_large() -> None:
    values = [entry(b"%d" % index, STRING, string(b"x" * 4000)) for index in range(4500)]
    assert refused(with_keys(*values), match="16,777,216").kind == "limit"
    inner = struct.pack("<IQ", UINT8, 0) * 70_000
    content = with_keys(entry(b"k", ARRAY, struct.pack("<IQ", ARRAY, 70_000) + inner))
    assert refused(content, match="16,777,216").kind == "limit"


def test_arrays_nested_10000_deep() -> None:
    nest = struct.pack("<IQ", ARRAY, 1) * 10_000 + struct.pack("<IQ", UINT8, 0)
    assert refused(with_keys(entry(b"k", ARRAY, nest)), match="deeper than 8").kind == "limit"
    deepest = struct.pack("<IQ", ARRAY, 1) * 7 + struct.pack("<IQ", UINT8, 1) + b"\1"
    found = GGUF.parse(Sparse(with_keys(entry(b"k", ARRAY, deepest))))
    assert found.metadata["k"] == [[[[[[[[1]]]]]]]]


def test_duplicates() -> None:
    flag = entry(b"k", UINT8, b"\1")
    refused(with_keys(flag, flag), match="'k' twice")
    same = with_tensors(tensor_info(b"t", (1,), F32, 0), tensor_info(b"t", (1,), F32, 32))
    refused(same, match="two tensors are named 't'")


@pytest.mark.parametrize("alignment", [0, 3, 33, 2**32 - 1])
def test_alignment_that_is_no_power_of_two(alignment: int) -> None:
    key = entry(ALIGNMENT, UINT32, struct.pack("<I", alignment))
    refused(with_tensors(tensor_info(b"t", (1,), F32, 0), keys=(key,)), match="power of two")


def test_alignment_larger_than_the_file_and_of_another_type() -> None:
    key = entry(ALIGNMENT, UINT32, struct.pack("<I", 2**31))
    refused(with_tensors(tensor_info(b"t", (1,), F32, 0), keys=(key,)), match="2,147,483,652")
    refused(with_keys(entry(ALIGNMENT, STRING, string(b"32"))), match="must be a uint32")


@pytest.mark.parametrize("kind", [13, 255, 2**32 - 1])
def test_value_types_that_do_not_exist(kind: int) -> None:
    refused(with_keys(entry(b"k", kind, bytes(64))), match=f"value type {kind} is none")
    array = struct.pack("<IQ", kind, 1) + bytes(64)
    refused(with_keys(entry(b"k", ARRAY, array)), match=f"value type {kind} is none")


@pytest.mark.parametrize("kind", [1_024, 2**31, 2**32 - 1])
def test_element_types_that_do_not_exist(kind: int) -> None:
    refused(with_tensors(tensor_info(b"t", (32,), kind, 0)), match="no ggml type")


@pytest.mark.parametrize(
    "extents",
    [
        (2**63,),
        (2**64 - 1,),
        (2**32, 2**32),
        (2**21, 2**21, 2**21),
        (0, 2**62, 2**62),
        (2**16,) * 4,
    ],
)
def test_dimensions_that_overflow(extents: tuple[int, ...]) -> None:
    refused(with_tensors(tensor_info(b"t", extents, F32, 0)), match="more than")


@pytest.mark.parametrize("count", [9, 2**31, 2**32 - 1])
def test_too_many_dimensions(count: int) -> None:
    info = string(b"t") + struct.pack("<I", count) + bytes(256)
    refused(head(1, 0) + info, match="dimensions")


def test_large_tensors_in_small_files() -> None:
    for extents in [(2**40,), (65,), (2**62 - 1,)]:
        refused(with_tensors(tensor_info(b"t", extents, F32, 0)), match="the file has")


@pytest.mark.parametrize("offset", [1, 4, 31, 2**64 - 1])
def test_offsets_out_of_line(offset: int) -> None:
    refused(with_tensors(tensor_info(b"t", (1,), F32, offset)), match="no multiple")


@pytest.mark.parametrize("offset", [256, 2**40, 2**64 - 32])
def test_offsets_outside_the_file(offset: int) -> None:
    refused(with_tensors(tensor_info(b"t", (1,), F32, offset)), match="the file has")
    if offset > 256:
        refused(with_tensors(tensor_info(b"t", (0,), F32, offset)), match="the file has")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (((16,), F32, 0), ((1,), F32, 32)),
        (((1,), F32, 0), ((1,), F32, 0)),
        (((1,), F32, 32), ((32,), F32, 0)),
        (((1,), F32, 32), ((5,), 250, 32)),
        (((5,), 250, 32), ((5,), 250, 32)),
        (((32,), F32, 0), ((5,), 250, 64)),
    ],
)
def test_overlapping_tensors(
    first: tuple[tuple[int, ...], int, int], second: tuple[tuple[int, ...], int, int]
) -> None:
    refused(with_tensors(tensor_info(b"a", *first), tensor_info(b"b", *second)), match="overlap")


def test_an_unknown_type_with_no_bytes_left() -> None:
    refused(with_tensors(tensor_info(b"t", (5,), 250, 256)), match="no room before the file's end")


def test_rows_that_fill_no_whole_blocks() -> None:
    refused(with_tensors(tensor_info(b"t", (128, 2), Q4_K, 0)), match="no whole blocks")
    refused(with_tensors(tensor_info(b"t", (), Q4_K, 0)), match="no whole blocks")


def test_a_large_vocabulary_takes_little_memory_and_one_reading() -> None:
    words = b"".join(string(b"word %d" % index) for index in range(200_000))
    content = with_keys(
        entry(b"words", ARRAY, struct.pack("<IQ", STRING, 200_000) + words),
        entry(b"scores", ARRAY, struct.pack("<IQ", 12, 1_000_000) + bytes(8_000_000)),
    )
    reader = Sparse(content)
    tracemalloc.start()
    try:
        found = GGUF.parse(reader)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.metadata["words"]["count"] == 200_000
    assert peak < 4 * 1024 * 1024
    # The numbers are skipped unread, and little is read twice.
    assert reader.bytes_read < len(words) * 1.1 + 2 * 1024 * 1024


def check(content: bytes) -> None:
    try:
        found = GGUF.parse(Sparse(content))
    except StructureError:
        return
    pieces = partition(len(content), found.tensors)
    assert sum(piece.length for piece in pieces) == len(content)
    filled = sorted((tensor.offset, tensor.length) for tensor in found.tensors if tensor.length)
    assert all(
        start + length <= following
        for (start, length), (following, _) in itertools.pairwise(filled)
    )
    assert msgspec.json.decode(msgspec.json.encode(found), type=Description) == found


@given(st.binary(max_size=300), st.sampled_from([2, 3]), st.integers(0, 4), st.integers(0, 4))
def test_any_bytes_are_read_or_refused(
    content: bytes, version: int, tensor_count: int, key_count: int
) -> None:
    check(content)
    check(head(tensor_count, key_count, version) + content)


@given(st.data())
def test_damaged_files_are_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(sample())
    for _ in range(data.draw(st.integers(1, 4))):
        width = data.draw(st.sampled_from([1, 4, 8]))
        at = data.draw(st.integers(0, len(content) - width))
        content[at : at + width] = data.draw(st.binary(min_size=width, max_size=width))
    check(bytes(content))
