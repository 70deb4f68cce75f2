"""Written headers: equal to the safetensors library's bytes, readable by the gguf library."""

import json

import gguf
import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from hartonomous.core import gguf_writer
from hartonomous.core.gguf_writer import GGUFTensor, padding
from hartonomous.core.safetensors_writer import TensorEntry, header_bytes, in_file_order
from hartonomous.errors import UsageError

LIBRARY_NAMES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "F16": "float16",
    "BF16": "bfloat16", "U32": "uint32", "I32": "int32", "F32": "float32", "U64": "uint64",
    "I64": "int64", "F64": "float64", "C64": "complex64", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz", "F4": "float4_e2m1fn_x2",
}  # fmt: skip


def by_library(entries, content, metadata):
    buffer = np.frombuffer(content, np.uint8)
    specs = {}
    for entry in entries:
        # The library's names of packed types count pairs in the last axis.
        shape = list(entry.shape)
        if entry.dtype == "F4":
            shape[-1] //= 2
        specs[entry.name] = safetensors.TensorSpec(
            dtype=LIBRARY_NAMES[entry.dtype],
            shape=shape,
            data_ptr=buffer.ctypes.data,
            data_len=entry.byte_count,
        )
    return safetensors.serialize(specs, metadata)


entries = st.lists(
    st.builds(
        TensorEntry,
        name=st.text(st.characters(codec="utf-8"), max_size=8),
        dtype=st.sampled_from(sorted(LIBRARY_NAMES)),
        shape=st.lists(st.integers(0, 3), max_size=2).map(lambda shape: (*shape, 2)),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda entry: entry.name,
)


@settings(deadline=None, max_examples=60)
@given(entries, st.none() | st.dictionaries(st.just("format"), st.text(max_size=5), min_size=1))
def test_header_and_order_are_the_librarys(entries, metadata):
    content = bytes(range(1, 255)) * 8
    ours = header_bytes(in_file_order(entries), metadata)
    for entry in in_file_order(entries):
        ours += content[: entry.byte_count]
    assert ours == by_library(entries, content, metadata)


def test_a_file_equals_save_file(tmp_path):
    random = np.random.default_rng(0)
    tensors = {
        "b": random.standard_normal((3, 4)).astype(np.float32),
        "a": random.standard_normal((2, 2)).astype(ml_dtypes.bfloat16),
        "c": np.arange(5),
        "scalar": np.array(True),
        "none": np.zeros((0, 7), np.float16),
    }
    dtypes = {"b": "F32", "a": "BF16", "c": "I64", "scalar": "BOOL", "none": "F16"}
    path = tmp_path / "x.safetensors"
    safetensors.numpy.save_file(tensors, path, {"format": "np"})
    ordered = in_file_order(
        TensorEntry(name=name, dtype=dtypes[name], shape=tensors[name].shape) for name in tensors
    )
    ours = header_bytes(ordered, {"format": "np"})
    ours += b"".join(tensors[entry.name].tobytes() for entry in ordered)
    assert ours == path.read_bytes()


def test_metadata_is_sorted_so_that_files_repeat():
    entry = TensorEntry(name="x", dtype="F32", shape=(1,))
    one = header_bytes([entry], {"z": "1", "a": "2"})
    assert one == header_bytes([entry], {"a": "2", "z": "1"})
    assert list(json.loads(one[8:])["__metadata__"]) == ["a", "z"]
    assert header_bytes([]) == b"\x08" + bytes(7) + b"{}" + b" " * 6


@pytest.mark.parametrize(
    "entry",
    [
        TensorEntry(name="x", dtype="Q4_0", shape=(32,)),
        TensorEntry(name="x", dtype="F4", shape=(3,)),
        TensorEntry(name="__metadata__", dtype="F32", shape=(3,)),
        TensorEntry(name="\ud800", dtype="F32", shape=(3,)),
    ],
)
def test_what_the_format_cannot_hold_is_refused(entry):
    with pytest.raises(UsageError):
        header_bytes([entry])


def test_names_occur_once():
    entry = TensorEntry(name="x", dtype="F32", shape=(1,))
    with pytest.raises(UsageError, match="taken"):
        header_bytes([entry, entry])


def test_gguf_is_read_by_the_library(tmp_path):
    tensors = [
        GGUFTensor(name="one", dtype="F32", shape=(3,)),
        GGUFTensor(name="two", dtype="Q8_0", shape=(2, 64)),
        GGUFTensor(name="three", dtype="F16", shape=(2, 3, 5)),
    ]
    metadata = {
        "general.architecture": "bert",
        "count": 7,
        "negative": -7,
        "share": 0.5,
        "flag": False,
        "words": ["a", "", "é"],
        "numbers": [1, -2],
        "nothing": [],
    }
    contents = [
        np.random.default_rng(n).integers(0, 256, tensor.byte_count, dtype=np.uint8).tobytes()
        for n, tensor in enumerate(tensors)
    ]
    file = gguf_writer.header_bytes(metadata, tensors)
    for content in contents:
        file += content + padding(len(content))
    path = tmp_path / "x.gguf"
    path.write_bytes(file)
    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert {name: fields[name] for name in metadata if name != "nothing"} == {
        name: value for name, value in metadata.items() if name != "nothing"
    }
    read = [(t.name, t.tensor_type.name, tuple(map(int, t.shape[::-1]))) for t in reader.tensors]
    assert read == [(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors]
    assert [tensor.data.tobytes() for tensor in reader.tensors] == contents


@pytest.mark.parametrize(
    ("metadata", "tensors"),
    [
        ({"x": 2**32}, []),
        ({"x": [1, "mixed"]}, []),
        ({}, [GGUFTensor(name="x", dtype="Q8_0", shape=(33,))]),
        ({}, [GGUFTensor(name="x", dtype="F4", shape=(2,))]),
    ],
)
def test_what_gguf_cannot_hold_is_refused(metadata, tensors):
    with pytest.raises(UsageError):
        gguf_writer.header_bytes(metadata, tensors)
