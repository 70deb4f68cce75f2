"""GGUF: what gguf-py reports of real files equals what is described."""

import hashlib
import json
import math
import struct
from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter

from hartonomous.core.description import Description
from hartonomous.core.dtype import DTYPES
from hartonomous.errors import StructureError
from hartonomous.formats.gguf import GGUF
from hartonomous.ports.format import Format, RangeReader

QUANTS = Path(__file__).parent.parent / "fixtures" / "quants"
FIXTURES = sorted(path.name for path in QUANTS.glob("*.gguf"))
# Numbers and types as the format's specification gives them.
UINT8, UINT32, FLOAT32, BOOL, STRING, ARRAY, FLOAT64 = 0, 4, 6, 7, 8, 9, 12
# gguf-py 0.19 counts 40 bytes for a block of Q8_1, ggml-common.h has 36; no file stores this type.
WRITABLE = [kind for kind in GGMLQuantizationType if kind.name != "Q8_1"]


class Bytes:
    """A range reader over bytes."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size = len(content)

    def read(self, offset: int, length: int) -> bytes:
        assert offset >= 0 and 0 <= length <= 16 * 1024 * 1024
        if offset + length > self.size:
            raise StructureError("outside the file")
        return self.content[offset : offset + length]


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def entry(key: bytes, kind: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + value


def tensor_info(name: bytes, extents: tuple[int, ...], kind: int, offset: int) -> bytes:
    return string(name) + struct.pack(f"<I{len(extents)}QIQ", len(extents), *extents, kind, offset)


def build(
    *,
    version: int = 3,
    entries: tuple[bytes, ...] = (),
    tensors: tuple[bytes, ...] = (),
    data: bytes = b"",
    alignment: int = 32,
) -> bytes:
    head = struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(entries))
    head += b"".join(entries) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + data


def parse(content: bytes) -> Description:
    found = GGUF.parse(Bytes(content))
    # What crosses the pipe of the parser's process is the same on the other side.
    assert msgspec.json.decode(msgspec.json.encode(found), type=Description) == found
    return found


def assert_like_gguf_py(path: Path) -> Description:
    found, oracle = parse(path.read_bytes()), GGUFReader(path)
    assert [
        (tensor.name, tensor.dtype, tensor.shape, tensor.offset, tensor.length)
        for tensor in found.tensors
    ] == [
        (
            tensor.name,
            tensor.tensor_type.name,
            tuple(tensor.shape.tolist())[::-1],
            tensor.data_offset,
            tensor.n_bytes,
        )
        for tensor in oracle.tensors
    ]
    expected = {key: field.contents() for key, field in oracle.fields.items() if key[:5] != "GGUF."}
    version = oracle.fields["GGUF.version"].contents()
    reserved = {"_version": version, "_alignment": oracle.alignment}
    assert {key: unsummarised(value) for key, value in found.metadata.items()} == {
        key: as_kept(value) for key, value in (expected | reserved).items()
    }
    assert found.notices == ()
    return found


def as_kept(value: Any) -> Any:
    """What is kept of a value that gguf-py read whole."""
    if isinstance(value, list) and (
        len(value) > 16 or any(isinstance(item, str) and len(item) > 1024 for item in value)
    ):
        heads = [item[:1024] if isinstance(item, str) else item for item in value[:8]]
        return {"type": "array", "count": len(value), "head": heads}
    if isinstance(value, str) and len(value) > 4096:
        return {"type": "string", "bytes": len(value), "head": value[:4096]}
    return value


def unsummarised(value: Any) -> Any:
    if isinstance(value, dict) and value["type"] == "array":
        return {key: item for key, item in value.items() if key != "element_type"}
    return value


def test_ports_are_kept() -> None:
    form: Format = GGUF
    assert form.name == "gguf"
    assert isinstance(Bytes(b""), RangeReader)


def test_matches_by_magic_only() -> None:
    assert GGUF.matches("sha256-0123", b"GGUF\3\0\0\0")
    assert not GGUF.matches("model.gguf", b"GGML")
    assert not GGUF.matches("model.gguf", b"")


def test_fixtures_are_what_their_manifest_says() -> None:
    listed = json.loads((QUANTS / "MANIFEST.json").read_text())["files"]
    assert sorted(listed) == FIXTURES
    for name, entry_ in listed.items():
        content = (QUANTS / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (
            entry_["size"],
            entry_["sha256"],
        )


@pytest.mark.parametrize("name", FIXTURES)
def test_fixture_equals_gguf_py(name: str) -> None:
    found = assert_like_gguf_py(QUANTS / name)
    assert [tensor.name for tensor in found.tensors] == [
        "blk.0.ffn_down.weight",
        "blk.3.ffn_down.weight",
    ]
    for tensor in found.tensors:
        assert DTYPES[tensor.dtype].byte_count(tensor.element_count) == tensor.length


@pytest.mark.parametrize("alignment", [8, 32, 64, 4096])
def test_every_value_type_and_alignment(tmp_path: Path, alignment: int) -> None:
    writer = GGUFWriter(tmp_path / "all.gguf", "llama")
    writer.add_custom_alignment(alignment)
    writer.add_uint8("a.u8", 255)
    writer.add_int8("a.i8", -128)
    writer.add_uint16("a.u16", 65535)
    writer.add_int16("a.i16", -32768)
    writer.add_uint32("a.u32", 2**32 - 1)
    writer.add_int32("a.i32", -(2**31))
    writer.add_float32("a.f32", 1e-5)
    writer.add_bool("a.true", True)
    writer.add_bool("a.false", False)
    writer.add_string("a.string", "Grüße 世界 \U0001f600\n\0")
    writer.add_uint64("a.u64", 2**64 - 1)
    writer.add_int64("a.i64", -(2**63))
    writer.add_float64("a.f64", -0.1)
    writer.add_string("a.template", "{% for m in messages %}" * 1000)
    writer.add_array("b.short", [1, -2, 3])
    writer.add_array("b.sixteen", list(range(16)))
    writer.add_array("b.seventeen", list(range(17)))
    writer.add_array("b.floats", [0.5, -0.25] * 50)
    writer.add_array("b.bools", [True, False])
    writer.add_array("b.tokens", [f"token {index}" for index in range(3000)])
    writer.add_array("b.long_texts", ["short", "x" * 1025])
    writer.add_key_value("b.u64", [2**63, 1], GGUFValueType.ARRAY, GGUFValueType.UINT64)
    writer.add_tensor("one", np.arange(6, dtype=np.float32).reshape(2, 3))
    writer.add_tensor("two", np.arange(5, dtype=np.int8))
    writer.add_tensor("three", np.zeros((2, 3, 4, 5), dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = assert_like_gguf_py(tmp_path / "all.gguf")
    assert found.metadata["_alignment"] == alignment
    assert found.metadata["b.tokens"]["element_type"] == "string"
    assert found.tensors[0].shape == (2, 3)


@pytest.mark.parametrize("kind", WRITABLE, ids=lambda kind: kind.name)
def test_every_element_type(tmp_path: Path, kind: GGMLQuantizationType) -> None:
    block_elements, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    content = np.arange(6 * block_bytes, dtype=np.uint8).reshape(3, 2 * block_bytes)
    writer = GGUFWriter(tmp_path / "kind.gguf", "llama")
    writer.add_tensor("t", content, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (tensor,) = assert_like_gguf_py(tmp_path / "kind.gguf").tensors
    assert tensor.shape == (3, 2 * block_elements)
    whole = (tmp_path / "kind.gguf").read_bytes()
    assert whole[tensor.offset :][: tensor.length] == content.tobytes()


def test_version_2_unsorted_offsets_gaps_and_empty_tensors(tmp_path: Path) -> None:
    path = tmp_path / "two.gguf"
    infos = (
        tensor_info(b"last", (4, 2), 0, 128),
        tensor_info(b"empty", (0, 7), 0, 64),
        tensor_info(b"first", (3,), 0, 0),
        tensor_info(b"scalar", (), 0, 64),
    )
    path.write_bytes(
        build(
            version=2,
            entries=(entry(b"general.architecture", STRING, string(b"bert")),),
            tensors=infos,
            data=bytes(range(160)),
        )
    )
    found = assert_like_gguf_py(path)
    assert [tensor.shape for tensor in found.tensors] == [(2, 4), (7, 0), (3,), ()]
    assert [tensor.length for tensor in found.tensors] == [32, 0, 12, 4]
    assert found.metadata["_version"] == 2


def test_a_header_alone_is_a_file() -> None:
    assert parse(build(alignment=1)).tensors == ()


def test_non_finite_floats_become_text() -> None:
    floats = struct.pack("<4f", math.nan, math.inf, -math.inf, -0.0)
    found = parse(
        build(
            entries=(
                entry(b"list", ARRAY, struct.pack("<IQ", FLOAT32, 4) + floats),
                entry(b"nan", FLOAT64, struct.pack("<d", math.nan)),
            )
        )
    )
    assert found.metadata["list"][:3] == ["NaN", "Infinity", "-Infinity"]
    assert math.copysign(1, found.metadata["list"][3]) == -1
    assert found.metadata["nan"] == "NaN"


def test_bytes_that_are_no_utf8_are_escaped() -> None:
    found = parse(
        build(
            entries=(entry(b"\xff", STRING, string(b"a\xc3")),),
            tensors=(tensor_info(b"\xed\xa0\x80", (0,), 0, 0),),
        )
    )
    assert found.metadata["\\xff"] == "a\\xc3"
    assert found.tensors[0].name == "\\xed\\xa0\\x80"


def test_a_cut_leaves_out_a_torn_character() -> None:
    text = b"x" * 4095 + "é".encode() + b"y" * 10
    found = parse(build(entries=(entry(b"t", STRING, string(text)),)))
    assert found.metadata["t"] == {"type": "string", "bytes": 4107, "head": "x" * 4095}


def test_nested_arrays() -> None:
    def array(kind: int, *items: bytes) -> bytes:
        return struct.pack("<IQ", kind, len(items)) + b"".join(items)

    pair = array(UINT8, b"\1", b"\2")
    words = array(STRING, string(b"a"), string(b"b"))
    found = parse(
        build(
            entries=(
                entry(b"short", ARRAY, array(ARRAY, pair, words, array(ARRAY), array(ARRAY, pair))),
                entry(b"long", ARRAY, array(ARRAY, *[pair] * 40)),
                entry(b"after", UINT32, struct.pack("<I", 7)),
            )
        )
    )
    assert found.metadata["short"] == [[1, 2], ["a", "b"], [], [[1, 2]]]
    assert found.metadata["long"] == {
        "type": "array",
        "element_type": "array",
        "count": 40,
        "head": [[1, 2]] * 8,
    }
    assert found.metadata["after"] == 7


def test_long_arrays_do_not_disturb_what_follows() -> None:
    # Longer than every read of the window, in fixed sizes and in strings of all lengths.
    texts = b"".join(string(b"t" * (index % 3000)) for index in range(3000))
    found = parse(
        build(
            entries=(
                entry(b"fixed", ARRAY, struct.pack("<IQ", FLOAT64, 300_000) + bytes(2_400_000)),
                entry(b"texts", ARRAY, struct.pack("<IQ", STRING, 3000) + texts),
                entry(b"one", ARRAY, struct.pack("<IQ", STRING, 1) + string(b"u" * 3_000_000)),
                entry(b"flag", BOOL, b"\1"),
            )
        )
    )
    assert found.metadata["fixed"]["count"] == 300_000
    assert found.metadata["texts"]["head"] == ["t" * index for index in range(8)]
    assert found.metadata["one"]["head"] == ["u" * 1024]
    assert found.metadata["flag"] is True


def test_types_of_unknown_size_reach_to_the_next_tensor() -> None:
    found = parse(
        build(
            tensors=(
                tensor_info(b"new", (5,), 250, 64),
                tensor_info(b"plain", (4,), 0, 0),
                tensor_info(b"empty", (0,), 36, 96),
                tensor_info(b"fork", (5,), 36, 128),
            ),
            data=bytes(200),
        )
    )
    assert [(tensor.dtype, tensor.length) for tensor in found.tensors] == [
        ("GGML_250", 64),
        ("F32", 16),
        ("GGML_36", 0),
        ("GGML_36", 72),
    ]
    assert [notice.kind for notice in found.notices] == ["unknown-dtype"]


def test_removed_interleaved_types_have_their_size() -> None:
    found = parse(build(tensors=(tensor_info(b"t", (64, 2), 31, 0),), data=bytes(72)))
    assert (found.tensors[0].dtype, found.tensors[0].length) == ("Q4_0_4_4", 72)
    assert [notice.kind for notice in found.notices] == ["removed-dtype"]


def test_reserved_keys_say_what_the_head_says() -> None:
    found = parse(build(entries=(entry(b"_version", UINT32, struct.pack("<I", 99)),)))
    assert found.metadata["_version"] == 3
    assert [notice.kind for notice in found.notices] == ["reserved-key"]
