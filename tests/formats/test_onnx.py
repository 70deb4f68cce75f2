"""ONNX: what the onnx library says of its own files, and generated ones."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_writer as ow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hartonomous.core.coding import decoded
from hartonomous.core.description import Description, Tensor
from hartonomous.core.external_data import describe_data, listed_files
from hartonomous.core.finding import find_code
from hartonomous.core.manifest import partition
from hartonomous.errors import LimitError
from hartonomous.formats import onnx_graph
from hartonomous.formats.detect import describe
from hartonomous.formats.onnx import ONNX
from hartonomous.formats.reader import BytesReader, FileReader

FIXTURES = Path(__file__).parents[1] / "fixtures" / "onnx"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())
ODD = {"FLOAT4E2M1": "F4", "FLOAT6E2M3": "F6_E2M3", "FLOAT6E3M2": "F6_E3M2"}


def found_in(content: bytes, name: str = "model.onnx") -> Description:
    return describe(BytesReader(content), name)


def values(content: bytes, tensor: Tensor) -> bytes:
    held = content[tensor.offset : tensor.offset + tensor.length]
    return held if tensor.coding is None else b"".join(decoded([held], tensor.coding, tensor.dtype))


@pytest.mark.parametrize("name", sorted(name for name in EXPECTED if "/" not in name))
def test_tensors_are_those_that_onnx_reports(name: str) -> None:
    content = (FIXTURES / name).read_bytes()
    found = found_in(content, name)
    assert found.format == "onnx"
    others = {one["name"]: one for one in found.metadata.get("other_tensors", ())}
    tensors = {one.name: one for one in found.tensors}
    assert len(tensors) == len(found.tensors)
    assert tensors.keys() | others.keys() == EXPECTED[name].keys()
    for path, told in EXPECTED[name].items():
        if path in others:
            assert told["dtype"] == "STRING" or told["dtype"].startswith("F6")
            assert (others[path]["shape"], others[path]["reason"][:3]) == (told["shape"],
                    "str" if told["dtype"] == "STRING" else "its")  # fmt: skip
            continue
        one = tensors[path]
        assert (ODD.get(one.dtype, one.dtype), list(one.shape)) == (told["dtype"], told["shape"])
        assert hashlib.sha256(values(content, one)).hexdigest() == told["sha256"]
    partition(len(content), found.tensors)


def test_typed_data_equal_raw_data() -> None:
    contents = [(FIXTURES / f"types-{kind}.onnx").read_bytes() for kind in ("raw", "typed")]
    raw, typed = ({one.name: values(content, one) for one in found_in(content).tensors}
                  for content in contents)  # fmt: skip
    assert len(typed) == 50
    assert {name: raw[name] for name in typed} == typed
    coded = [one for one in found_in(contents[1]).tensors if one.coding is not None]
    assert len(coded) == 42


def test_metadata_of_a_model() -> None:
    found = found_in((FIXTURES / "subgraphs.onnx").read_bytes())
    held = found.metadata
    assert (held["ir_version"], held["producer_name"], held["graph_name"]) == (
        10, "fixture", "graph")  # fmt: skip
    assert held["opset_imports"] == [
        {"domain": "", "version": 21},
        {"domain": "com.example", "version": 3},
        {"domain": "local", "version": 1},
    ]
    assert held["inputs"] == [{"name": "x", "dtype": "F32", "shape": ["batch", 8]}]
    assert held["outputs"] == [{"name": "y", "dtype": "F32", "shape": None}]
    assert held["metadata_props"] == {"task": "größer", "step": "7"}
    assert held["doc_string"] == "A model of everything."
    assert held["custom_operators"] == {"com.example": {"Special": 1}}
    assert [one.kind for one in find_code([("model.onnx", found)])] == ["operator"]
    assert held["functions"] == ["local::Twice"]
    assert held["operators"]["If"] == 2
    # top 8x8, in_scan 6, in_loop 5, four times "shared" 4x2
    assert (held["initializer_count"], held["parameter_count"]) == (7, 64 + 6 + 5 + 32)
    assert "external" not in held


def test_quantised_weights_have_their_scales_and_zero_points() -> None:
    held = found_in((FIXTURES / "network-int8.onnx").read_bytes()).metadata
    assert held["quantised"] == [
        {
            "tensor": f"{name}.weight_quantized",
            "operator": "MatMulInteger",
            "scale": f"{name}.weight_scale",
            "zero_point": f"{name}.weight_zero_point",
        }
        for name in ("first", "second")
    ]


def test_external_data_is_described_by_its_model() -> None:
    folder = FIXTURES / "external"
    found = found_in((folder / "model.onnx").read_bytes())
    assert found.tensors == ()
    assert [one.kind for one in found.notices] == ["external-data"]
    content = (folder / "model.onnx.data").read_bytes()
    files = listed_files("deep/model.onnx", found)
    assert set(files) == {"deep/model.onnx.data"}
    data = describe_data(len(content), [("deep/model.onnx", files["deep/model.onnx.data"])])
    assert (data.format, data.metadata) == ("onnx-data", {"described_by": ["deep/model.onnx"]})
    told = EXPECTED["external/model.onnx"]
    assert {one.name for one in data.tensors} == set(told)
    for one in data.tensors:
        assert (one.dtype, list(one.shape)) == (told[one.name]["dtype"], told[one.name]["shape"])
        assert hashlib.sha256(values(content, one)).hexdigest() == told[one.name]["sha256"]
    short = describe_data(len(content) - 1, [("model.onnx", files["deep/model.onnx.data"])])
    assert len(short.tensors) == len(data.tensors) - 1
    assert [one.kind for one in short.notices] == ["structure"]


def test_recognised_without_its_ending() -> None:
    for name in EXPECTED:
        content = (FIXTURES / name).read_bytes()
        assert found_in(content, "blobs/sha256-01").format == "onnx"
    for content in (
        b"\x08\x07text",
        b"\x08\x07\x12\x05py\0ch\x3a",
        b"\x08\x07\x12\x03abc",
        b"\x08",
    ):
        assert found_in(content, "blob") == Description(format="file")


def test_only_headers_are_read() -> None:
    class Counting(BytesReader):
        read_bytes = 0

        def read(self, offset: int, length: int) -> bytes:
            self.read_bytes += length
            return super().read(offset, length)

    content = ow.model(
        ow.graph(*(ow.tensor(str(at), ow.UINT8, (100_000,), raw=bytes(100_000))
                   for at in range(100)))
    )  # fmt: skip
    reader = Counting(content)
    assert len(ONNX.parse(reader).tensors) == 100
    assert reader.read_bytes < 1_000_000 < len(content) // 10


def test_a_tensor_beyond_4_gib(tmp_path: Path) -> None:
    size = 5 << 30
    head = ow.number(1, size) + ow.number(2, ow.UINT8) + ow.held(8, "large")
    large = head + ow.varint(9 << 3 | 2) + ow.varint(size)
    front = ow.held(2, "graph") + ow.varint(5 << 3 | 2) + ow.varint(len(large) + size) + large
    behind = ow.held(5, ow.tensor("small"))
    whole = ow.varint(7 << 3 | 2) + ow.varint(len(front) + size + len(behind)) + front
    with (tmp_path / "large.onnx").open("w+b") as file:  # with a hole: it takes no room
        file.write(whole)
        file.seek(size, 1)
        file.write(behind)
        file.flush()
        reader = FileReader(file.fileno())
        found = {one.name: one for one in ONNX.parse(reader).tensors}
    assert (found["large"].offset, found["large"].length) == (len(whole), size)
    assert found["small"].offset + 12 == len(whole) + size + len(behind)
    assert reader.read_bytes < 50_000


def test_names_that_come_twice_get_a_number() -> None:
    found = found_in(ow.model(ow.graph(ow.tensor("w"), ow.tensor("w"), ow.tensor("w#2"))))
    assert [one.name for one in found.tensors] == ["w", "w#2", "w#2#2"]
    names = ["w" + "#2" * count for count in range(1200)]
    found = found_in(ow.model(ow.graph(*map(ow.tensor, [*names, "w"]))))
    assert len({one.name for one in found.tensors}) == 1201
    assert any(one.text.startswith("1 tensors have") for one in found.notices)
    assert [one.kind for one in found.notices] == ["name"]


def test_lists_that_are_not_packed_stay_as_they_lie() -> None:
    numbers = b"".join(ow.number(5, value) for value in (1, 2, 3))
    split = ow.packed(5, (1, 2)) + ow.packed(5, (3,))
    found = found_in(
        ow.model(
            ow.graph(
                ow.tensor("a", ow.INT32, raw=None, more=numbers),
                ow.tensor("b", ow.INT32, raw=None, more=split),
                ow.tensor("c", raw=None),
                ow.tensor("d", dims=(0, 5), raw=None),
                ow.tensor("e", 99),
                ow.tensor("f", more=ow.held(3, ow.number(1, 0))),
            )
        )
    )
    assert {one["name"]: one["reason"] for one in found.metadata["other_tensors"]} == {
        "a": "its numbers are not packed",
        "b": "its numbers are not packed",
        "c": "it has no data",
        "e": "its element type 99 is unknown",
        "f": "it is a segment of a larger tensor",
    }
    assert [(one.name, one.length) for one in found.tensors] == [("d", 0)]


def test_more_tensors_than_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "TENSOR_LIMIT", 3)
    content = ow.model(ow.graph(*(ow.tensor(str(at)) for at in range(4))))
    with pytest.raises(LimitError, match="more than 3 tensors"):
        ONNX.parse(BytesReader(content))


def test_more_names_than_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "NAMES_LIMIT_CHARS", 100)
    long = "x" * 99
    inputs = ow.held(1, long) + ow.held(1, "y")
    for content in (
        ow.graph(ow.tensor("x" * 51)),
        ow.graph(ow.external("w", long)),
        ow.graph(nodes=[ow.node(long), ow.node("Add")]),
        ow.graph(nodes=[ow.node("Add", more=ow.held(7, long))]),
        ow.graph(nodes=[ow.node("DequantizeLinear", more=inputs)]),
    ):
        with pytest.raises(LimitError, match="names have more than 100"):
            ONNX.parse(BytesReader(ow.model(content)))
    assert len(ONNX.parse(BytesReader(ow.model(ow.graph(ow.tensor("x" * 50))))).tensors) == 1


def test_more_parts_than_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "RANGES_LIMIT", 3)
    constant = ow.attribute("value", 5, ow.tensor("w"))
    assert ONNX.parse(BytesReader(ow.model(ow.graph(nodes=[ow.node("Add", *[constant] * 3)]))))
    prop = ow.held(14, ow.entry("k", "v"))
    for content in (
        ow.model(ow.graph(nodes=[ow.node("Add", *[constant] * 4)])),
        ow.model(ow.graph(), more=prop * 4),
        ow.model(ow.graph(), more=ow.held(25, ow.held(7, ow.node("Add")) * 4)),
    ):
        with pytest.raises(LimitError, match="more than 3 parts"):
            ONNX.parse(BytesReader(content))


def test_long_properties_are_left_out() -> None:
    props = b"".join(ow.held(14, ow.entry(f"k{at}", "x" * 60_000)) for at in range(20))
    found = found_in(ow.model(ow.graph(), more=props + ow.held(14, ow.entry("k", "y" * 70_000))))
    assert len(found.metadata["metadata_props"]) == 17
    assert [one.text[:2] for one in found.notices if one.kind == "limit"] == ["4 "]


# -- generated models

TYPES: list[tuple[int, str, str]] = [
    (1, "F32", "<f4"), (2, "U8", "u1"), (3, "I8", "i1"), (4, "U16", "<u2"), (5, "I16", "<i2"),
    (6, "I32", "<i4"), (7, "I64", "<i8"), (9, "BOOL", "?"), (10, "F16", "<f2"), (11, "F64", "<f8"),
    (12, "U32", "<u4"), (13, "U64", "<u8"),
]  # fmt: skip


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, str, np.ndarray, bytes]:
    """A name, a type, its array, and a TensorProto that holds it raw or typed."""
    number, dtype, kind = draw(st.sampled_from(TYPES))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    count = int(np.prod(shape))
    size = count * np.dtype(kind).itemsize
    raw = draw(st.binary(min_size=size, max_size=size))
    if kind == "?":
        raw = bytes(byte & 1 for byte in raw)
    array = np.frombuffer(raw, kind).reshape(shape)
    name = draw(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8))
    if draw(st.booleans()) or not count:
        return name, dtype, array, ow.tensor(name, number, shape, raw=raw)
    if number in (1, 11):
        more = ow.held(4 if number == 1 else 10, raw)
    else:
        plain = array.view("<u2") if kind == "<f2" else array
        more = ow.packed({7: 7, 12: 11, 13: 11}.get(number, 5), map(int, plain.flatten()))
    return name, dtype, array, ow.tensor(name, number, shape, raw=None, more=more)


@given(st.lists(tensors(), max_size=6, unique_by=lambda one: one[0]), st.data())
def test_generated_models_come_back_as_described(made: list[Any], data: st.DataObject) -> None:
    inner = data.draw(st.integers(0, len(made)))
    below = ow.graph(*(one[3] for one in made[:inner]))
    branch = ow.node("If", ow.attribute("then_branch", 6, below))
    content = ow.model(ow.graph(*(one[3] for one in made[inner:]), nodes=[branch]))
    found = found_in(content)
    assert {one.name for one in found.tensors} == {one[0] for one in made}
    told = {one[0]: one for one in made}
    for one in found.tensors:
        _, dtype, array, _ = told[one.name]
        assert (one.dtype, one.shape) == (dtype, array.shape)
        assert values(content, one) == array.tobytes()
    assert sum(piece.length for piece in partition(len(content), found.tensors)) == len(content)
