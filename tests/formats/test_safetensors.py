"""The safetensors parser against the safetensors library."""

import json
import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from hartonomous.core.dtype import DTYPES
from hartonomous.core.manifest import partition
from hartonomous.errors import StructureError
from hartonomous.formats.reader import BytesReader
from hartonomous.formats.safetensors import METADATA_LIMIT_CHARS, SAFETENSORS

# Every element type that the library's numpy writer takes, with its name in the file.
LIBRARY_TYPES = [
    (np.bool_, "BOOL"), (np.uint8, "U8"), (np.int8, "I8"), (np.uint16, "U16"), (np.int16, "I16"),
    (np.uint32, "U32"), (np.int32, "I32"), (np.uint64, "U64"), (np.int64, "I64"),
    (np.float16, "F16"), (ml_dtypes.bfloat16, "BF16"), (np.float32, "F32"), (np.float64, "F64"),
    (np.complex64, "C64"), (ml_dtypes.float8_e4m3fn, "F8_E4M3"),
    (ml_dtypes.float8_e5m2, "F8_E5M2"), (ml_dtypes.float8_e8m0fnu, "F8_E8M0"),
]  # fmt: skip

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(
    lambda name: name != "__metadata__"
)
shapes = st.lists(st.integers(0, 4), max_size=4)


def container(header: object, data: bytes = b"") -> bytes:
    """A file of this header: bytes as they are, anything else as JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def raw_header(content: bytes) -> tuple[dict, int]:
    length = struct.unpack_from("<Q", content)[0]
    return json.loads(content[8 : 8 + length]), 8 + length


def check_against_library(content: bytes) -> None:
    """All that the library and the raw header say of a file equals the description."""
    found = SAFETENSORS.parse(BytesReader(content))
    header, start = raw_header(content)
    metadata = header.pop("__metadata__", None)
    assert found.metadata == ({} if metadata is None else {"__metadata__": metadata})
    library = dict(safetensors.deserialize(content))
    assert {tensor.name for tensor in found.tensors} == set(library) == set(header)
    assert len(found.tensors) == len(library)
    for tensor in found.tensors:
        begin, end = header[tensor.name]["data_offsets"]
        assert (tensor.offset, tensor.length) == (start + begin, end - begin)
        assert tensor.dtype == library[tensor.name]["dtype"]
        assert list(tensor.shape) == library[tensor.name]["shape"]
        piece = content[tensor.offset : tensor.offset + tensor.length]
        assert piece == bytes(library[tensor.name]["data"])
    ranges = [(tensor.offset, tensor.length) for tensor in found.tensors]
    assert ranges == sorted(ranges)
    assert sum(piece.length for piece in partition(len(content), found.tensors)) == len(content)


def test_file_of_the_numpy_writer(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    arrays = {
        "embed.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
        "half": np.ones((2, 2), np.float16),
        "scalar": np.array(7, np.int64),
        "empty": np.zeros((0, 5), np.float64),
        "mask": np.array([True, False]),
    }
    safetensors.numpy.save_file(arrays, path, metadata={"format": "np", "licence": "mit"})
    content = path.read_bytes()
    check_against_library(content)
    found = {tensor.name: tensor for tensor in SAFETENSORS.parse(BytesReader(content)).tensors}
    with safetensors.safe_open(path, framework="np") as library:
        assert set(library.keys()) == set(found)
        assert library.metadata() == {"format": "np", "licence": "mit"}
        for name, tensor in found.items():
            view = library.get_slice(name)
            assert (view.get_dtype(), tuple(view.get_shape())) == (tensor.dtype, tensor.shape)
            piece = content[tensor.offset : tensor.offset + tensor.length]
            assert piece == arrays[name].tobytes()


@pytest.mark.parametrize(("dtype", "name"), LIBRARY_TYPES)
def test_every_type_the_library_writes(dtype: type, name: str) -> None:
    content = safetensors.numpy.save({"t": np.ones((2, 4), dtype)})
    check_against_library(content)
    found = SAFETENSORS.parse(BytesReader(content))
    assert [tensor.dtype for tensor in found.tensors] == [name]
    assert name in DTYPES
    assert found.notices == ()


@settings(deadline=None)
@given(
    tensors=st.dictionaries(names, st.tuples(st.sampled_from(LIBRARY_TYPES), shapes)),
    metadata=st.none() | st.dictionaries(names, st.text(st.characters(exclude_categories=["Cs"]))),
)
def test_generated_files_of_the_library(
    tensors: dict[str, tuple[tuple[type, str], list[int]]], metadata: dict[str, str] | None
) -> None:
    arrays = {name: np.ones(shape, dtype) for name, ((dtype, _), shape) in tensors.items()}
    # Of metadata without any tensor, safetensors 0.8 writes no valid JSON and cannot read it back.
    check_against_library(safetensors.numpy.save(arrays, metadata if arrays else None))


@st.composite
def nearly_valid(draw: st.DrawFn) -> bytes:
    """A file whose tensors lie one after the other, then some numbers are changed."""
    header: dict[str, object] = {}
    cursor = 0
    for name in draw(st.lists(st.sampled_from("abcd"), unique=True)):
        dtype = draw(st.sampled_from(["F32", "U8", "F4", "F6_E2M3", "BF16", "Q9"]))
        shape = draw(shapes)
        bits = {"F32": 32, "U8": 8, "F4": 4, "F6_E2M3": 6, "BF16": 16, "Q9": 8}[dtype]
        size = int(np.prod(shape, dtype=np.int64)) * bits // 8
        off = draw(st.sampled_from([0] * 12 + [1, -1]))
        end = cursor + size + draw(st.sampled_from([0] * 12 + [1, -1]))
        header[name] = entry(dtype, shape, cursor + off, end)
        if draw(st.integers(0, 15)) == 0:
            header[name]["extra"] = {"deep": [1, {"er": None}]}
        cursor = end
    if draw(st.booleans()):
        value = draw(st.sampled_from([None, {}, {"a": "b"}, {"a": 1}, "text"]))
        header["__metadata__"] = value
    data = bytes(max(0, cursor + draw(st.sampled_from([0] * 12 + [1, -1]))))
    padding = draw(st.sampled_from([b"", b" ", b"   \n", b"\0"]))
    return container(json.dumps(header).encode() + padding, data)


@settings(deadline=None)
@given(nearly_valid())
def test_accepts_what_the_library_accepts(content: bytes) -> None:
    try:
        safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        if "unknown variant `Q9`" in str(error):
            return  # kept by us with a notice, see below
        with pytest.raises(StructureError):
            SAFETENSORS.parse(BytesReader(content))
    else:
        check_against_library(content)


def test_unknown_dtype_is_kept_with_a_notice() -> None:
    header = {"a": entry("F8_NEW", [3], 0, 5), "b": entry("U8", [1], 5, 6)}
    found = SAFETENSORS.parse(BytesReader(container(header, bytes(6))))
    assert [(t.name, t.dtype, t.shape, t.length) for t in found.tensors] == [
        ("a", "F8_NEW", (3,), 5),
        ("b", "U8", (1,), 1),
    ]
    assert [notice.kind for notice in found.notices] == ["dtype"]
    assert "'F8_NEW' of 1 tensors" in found.notices[0].text


def test_equal_keys_in_different_objects_are_no_duplicates() -> None:
    header = {"__metadata__": {"dtype": "x", "a": "y"}, "a": entry("U8", [1], 0, 1)}
    header["a"]["extra"] = {"dtype": 1, "a": {"a": 1}, 'q"\\': '\\":{'}
    found = SAFETENSORS.parse(BytesReader(container(header, b"x")))
    assert [tensor.name for tensor in found.tensors] == ["a"]


def test_empty_tensors_share_an_offset_in_header_order() -> None:
    header = {
        "full": entry("U8", [2], 0, 2),
        "z": entry("F32", [0], 0, 0),
        "a": entry("F32", [0, 3], 0, 0),
        "last": entry("F32", [0], 2, 2),
    }
    found = SAFETENSORS.parse(BytesReader(container(header, b"xy")))
    assert [tensor.name for tensor in found.tensors] == ["z", "a", "full", "last"]


def test_long_metadata_is_left_out_with_a_notice() -> None:
    header = {"__metadata__": {"a": "x" * METADATA_LIMIT_CHARS, "b": "kept"}}
    found = SAFETENSORS.parse(BytesReader(container(header)))
    assert found.metadata == {"__metadata__": {"b": "kept"}}
    assert [notice.kind for notice in found.notices] == ["limit"]


@pytest.mark.parametrize(
    ("path", "head", "expected"),
    [
        ("a/Model.safetensors", b"", True),
        ("blobs/0123abcd", container({"a": entry("U8", [0], 0, 0)}), True),
        ("blobs/0123abcd", container(b"{}"), True),
        ("model.safetensors.index.json", b'{"metadata": {}}', False),
        ("blobs/0123abcd", b"\x93NUMPY\x01\x00v\x00{'descr'", False),
        ("empty", b"", False),
    ],
)
def test_matches(path: str, head: bytes, expected: bool) -> None:
    assert SAFETENSORS.matches(path, head) is expected
