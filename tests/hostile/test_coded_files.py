"""Hostile ``.npz`` and ONNX: each costs its structure or a tensor, and is kept byte for byte."""

import io
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_writer as ow
import pytest
import torch_writer
from hypothesis import given, settings
from hypothesis import strategies as st

import hartonomous as hn
from hartonomous.core.coding import DEFLATE, VARINT, Coding, check_coding, decoded
from hartonomous.core.description import Description
from hartonomous.core.external_data import inner_path
from hartonomous.errors import HartonomousError, StructureError
from hartonomous.formats import protobuf
from hartonomous.formats.npz import NPZ
from hartonomous.formats.onnx import ONNX
from hartonomous.formats.reader import BytesReader
from hartonomous.formats.sandbox import ParserProcess

HERE = str(Path(__file__).parent)
HUGE = 2**62


@pytest.fixture(scope="module")
def parser() -> Iterator[ParserProcess]:
    """The parsers under an audit hook, in their limited process."""
    formats = ("audited:NPZ", "audited:ONNX")
    with ParserProcess(formats=formats, search_path=(HERE,), wall_s=60, cpu_s=60) as process:
        yield process


def described(parser: ParserProcess, content: bytes, name: str) -> Description:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return parser.describe(file.fileno(), name)


# -- ONNX


def nested(levels: int) -> bytes:
    """A graph with If in If in If."""
    content = ow.graph(ow.tensor("w"))
    for _ in range(levels):
        content = ow.graph(nodes=[ow.node("If", ow.attribute("then_branch", 6, content))])
    return ow.model(content)


def with_tensor(content: bytes) -> bytes:
    return ow.model(ow.graph(content))


def typed(field: int, content: bytes, dtype: int = ow.INT32, dims: tuple[int, ...] = (3,)) -> bytes:
    return with_tensor(ow.tensor("w", dtype, dims, raw=None, more=ow.held(field, content)))


GOOD_ONNX = ow.model(
    ow.graph(
        ow.tensor("w"),
        nodes=[ow.node("Constant", ow.attribute("value", 5, ow.tensor("c")))],
    ),
    more=ow.held(14, ow.entry("key", "value")),
)
LONG_VARINT = b"\xff" * 10 + b"\x01"
ONNX_FILES = {
    "empty": b"",
    "text": b"no model\n" * 10,
    "zeros": bytes(100),
    "no graph": ow.number(1, 10) + ow.held(2, "test"),
    "two graphs": GOOD_ONNX + ow.held(7, ow.graph()),
    "bytes behind": GOOD_ONNX + b"\0",
    "graph longer than the file": ow.number(1, 10) + b"\x3a\xff\xff\xff\xff\x0f",
    "graph of 2^63 bytes": b"\x3a" + ow.varint(2**63) + bytes(20),
    "graph of 2^64 bytes": b"\x3a" + b"\xff" * 9 + b"\x02",
    "varint without an end": b"\x08" + b"\xff" * 9,
    "varint of eleven bytes": b"\x08" + LONG_VARINT,
    "varint of 65 bits": b"\x08" + b"\xff" * 9 + b"\x02",
    "key of eleven bytes": LONG_VARINT,
    "group": ow.number(1, 10) + b"\x1b\x1c",
    "wire type 7": ow.number(1, 10) + b"\x1f",
    "field 0": b"\x00\x01" + GOOD_ONNX,
    "field 2^29": ow.varint(2**32) + b"\x00" + GOOD_ONNX,
    "fixed64 cut": GOOD_ONNX + b"\x99\x06abc",
    "node longer than its graph": ow.model(b"\x0a\x20" + bytes(4)),
    "tensor longer than its graph": ow.model(b"\x2a\x7f" + ow.tensor("w")),
    "raw data longer than the tensor": with_tensor(ow.tensor("w", raw=None) + b"\x4a\x7fabc"),
    "raw data short": with_tensor(ow.tensor("w", raw=bytes(11))),
    "raw data long": with_tensor(ow.tensor("w", raw=bytes(13))),
    "raw data twice": with_tensor(ow.tensor("w", more=ow.held(9, bytes(12)))),
    "raw and typed": with_tensor(ow.tensor("w", more=ow.held(4, bytes(12)))),
    "raw and external": with_tensor(ow.tensor("w", more=ow.number(14, 1))),
    "typed of two types": with_tensor(
        ow.tensor("w", raw=None, more=ow.held(4, bytes(12)) + ow.packed(5, (1, 2, 3)))
    ),
    "typed of another type": typed(7, b"\x01\x02\x03"),
    "floats short": typed(4, bytes(11), ow.FLOAT),
    "varints too few": typed(5, b"\x01\x02"),
    "varints too many": typed(5, bytes(31)),
    "name twice": with_tensor(ow.tensor("w", more=ow.held(8, "v"))),
    "type twice": with_tensor(ow.tensor("w", more=ow.number(2, 2))),
    "negative extent": with_tensor(ow.tensor("w", dims=(-3,))),
    "shape wraps": with_tensor(ow.tensor("w", dims=(2**32, 2**32))),
    "shape wraps to few": with_tensor(ow.tensor("w", dims=(2**62, 4, 3))),
    "shape wraps, then 0": with_tensor(ow.tensor("w", dims=(2**62, 4, 0), raw=b"")),
    "bytes wrap": with_tensor(ow.tensor("w", dims=(2**61,), raw=b"")),
    "external length": with_tensor(ow.external("w", "data", length="13")),
    "external length negative": with_tensor(ow.external("w", "data", length="-12")),
    "external offset is a text": with_tensor(ow.external("w", "data", offset="x")),
    "external offset of 20 digits": with_tensor(ow.external("w", "data", offset="9" * 20)),
    "external offset at the end": with_tensor(ow.external("w", "d", offset=str(2**63 - 1))),
    "external location twice": with_tensor(
        ow.external("w", "a") + ow.held(13, ow.entry("location", "b"))
    ),
}
ONNX_LIMITS = {
    "graphs in graphs": nested(33),
    "graphs in graphs, a thousand": nested(1000),
    "65 axes": with_tensor(ow.tensor("w", dims=(1,) * 65, raw=bytes(4))),
    "65 axes, packed": with_tensor(
        ow.held(1, b"\x01" * 65) + ow.number(2, 1) + ow.held(9, bytes(4))
    ),
    "long name": with_tensor(ow.tensor("x" * 5000)),
    "long node name": ow.model(ow.graph(nodes=[ow.node("Add", output="x" * 5000)])),
    "many external entries": with_tensor(
        ow.external("w", "data", **{f"k{at}": "v" for at in range(20)})
    ),
    "fields": ow.model(ow.graph(more=ow.number(99, 0) * (protobuf.FIELD_LIMIT + 1))),
}

# -- npz


def npy(descr: str = "'<f4'", shape: str = "(3,)", data: bytes = bytes(12)) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def npz(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    return torch_writer.zipped(members, compression)


def changed(content: bytes, old: bytes, new: bytes) -> bytes:
    assert old in content
    return content.replace(old, new)


def twice(first: bytes, second: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for part in (first, second):
            made.NameToInfo.pop("w.npy", None)
            made.writestr(zipfile.ZipInfo("w.npy"), part)
    return file.getvalue()


def patched(content: bytes, at: int, value: bytes) -> bytes:
    """Change the same field of the local header and the directory of a file's only member."""
    central = content.index(b"PK\x01\x02") + 2
    for base in (0, central):
        place = base + at
        content = content[:place] + value + content[place + len(value) :]
    return content


def overlapping() -> bytes:
    """Two members whose directory entries point to the same bytes."""
    content = npz({"a.npy": npy(), "b.npy": npy()}, zipfile.ZIP_STORED)
    second = content.index(b"PK\x03\x04", 4)
    at = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4) + 42
    assert content[at : at + 4] == struct.pack("<L", second)
    return content[:at] + bytes(4) + content[at + 4 :]


GOOD_NPZ = npz({"w.npy": npy()}, zipfile.ZIP_STORED)
GOOD_DEFLATED = npz({"w.npy": npy(data=bytes(range(12)))})
BOMB = npz({"w.npy": npy("'|u1'", "(33554432,)", bytes(32 << 20))})
NPZ_FILES = {
    "empty": b"",
    "text": b"no arrays\n" * 10,
    "cut": GOOD_NPZ[:-1],
    "cut in the middle": GOOD_DEFLATED[: len(GOOD_DEFLATED) // 2],
    "something in front": b"x" + GOOD_NPZ,
    "another behind": GOOD_NPZ + GOOD_NPZ,
    "name twice": twice(npy(), npy(data=b"a" * 12)),
    "members overlap": overlapping(),
    "path that leads out": changed(npz({"x/w.npy": npy()}), b"x/w.npy", b"../.npy"),
    "absolute path": changed(npz({"x/w.npy": npy()}), b"x/w.npy", b"/xw.npy"),
    "encrypted": patched(GOOD_NPZ, 6, b"\x01\x00"),
    "unknown compression": patched(GOOD_NPZ, 8, b"\x0c\x00"),
    "stored under another method": patched(GOOD_NPZ, 8, b"\x08\x00"),
    "deflate is rubbish": changed(
        GOOD_DEFLATED, zlib.compress(npy(data=bytes(range(12))))[2:6], b"\xff" * 4
    ),
    "deflate too small for its size": patched(
        npz({"w.npy": npy(shape="(268435456,)")}), 22, struct.pack("<L", len(npy()) + 2**30)
    ),
    "array is text": npz({"w.npy": b"hello"}),
    "array is empty": npz({"w.npy": b""}),
    "array short": npz({"w.npy": npy(data=bytes(11))}),
    "array long": npz({"w.npy": npy(data=bytes(13))}),
    "array of another version": npz({"w.npy": npy().replace(b"NUMPY\x01", b"NUMPY\x09")}),
    "shape wraps": npz({"w.npy": npy(shape="(4611686018427387904, 4)")}),
    "element wraps": npz({"w.npy": npy("[('a', '<f4', (4611686018427387905, 4))]", "()")}),
    "header cut": npz({"w.npy": npy()[:30]}),
    "header longer than the member": npz({"w.npy": b"\x93NUMPY\x02\x00\xff\xff\x00\x00{}"}),
}
NPZ_LIMITS = {
    "header too long": npz({"w.npy": b"\x93NUMPY\x02\x00\0\0\x02\0" + b" " * (2 << 16) + npy()}),
    "65 axes": npz({"w.npy": npy(shape=f"({'1, ' * 65})", data=bytes(4))}),
    "deep header": npz({"w.npy": npy("(" * 20_000)}),
}
FILES = {f"{name}.onnx": content for name, content in (ONNX_FILES | ONNX_LIMITS).items()}
FILES |= {f"{name}.npz": content for name, content in (NPZ_FILES | NPZ_LIMITS).items()}
LIMITS = {f"{name}.onnx" for name in ONNX_LIMITS} | {f"{name}.npz" for name in NPZ_LIMITS}


@pytest.mark.parametrize("name", FILES)
def test_broken_files_cost_the_structure(parser: ParserProcess, name: str) -> None:
    found = described(parser, FILES[name], name)
    assert (found.format, found.tensors) == ("file", ())
    assert found.metadata == {"events": []}
    # The parser said no; it was not stopped by the limits of its process.
    assert [one.kind for one in found.notices] == ["limit" if name in LIMITS else "structure"]
    assert len(found.notices[0].text) < 300


def test_what_the_hostile_files_were_made_from(parser: ParserProcess) -> None:
    found = described(parser, GOOD_ONNX, "model.onnx")
    assert (found.format, [one.name for one in found.tensors]) == ("onnx", ["y", "w"])
    assert (found.notices, found.metadata["events"]) == ((), [])
    assert described(parser, nested(32), "model.onnx").format == "onnx"
    for content in (GOOD_NPZ, GOOD_DEFLATED, BOMB):
        found = described(parser, content, "arrays.npz")
        assert (found.format, [one.name for one in found.tensors]) == ("npz", ["w"])
        assert found.metadata["events"] == []


@pytest.mark.parametrize(
    ("content", "name"),
    [(GOOD_ONNX, "m.onnx"), (GOOD_NPZ, "a.npz"), (GOOD_DEFLATED, "a.npz")],
    ids=["onnx", "stored", "deflated"],
)
def test_truncated_at_every_byte(parser: ParserProcess, content: bytes, name: str) -> None:
    # A protobuf has no end mark: cut between the fields behind its graph, a model is whole.
    whole = {len(GOOD_ONNX) - len(ow.held(14, ow.entry("key", "value"))),
             len(GOOD_ONNX) - len(ow.held(14, ow.entry("key", "value"))) - 4}  # fmt: skip
    for length in range(len(content)):
        if name == "m.onnx" and length in whole:
            continue
        found = described(parser, content[:length], name)
        assert (found.format, len(found.notices)) == ("file", 1)


@settings(deadline=None)
@given(st.sampled_from([GOOD_ONNX, GOOD_NPZ, GOOD_DEFLATED]), st.data())
def test_changed_at_random(good: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(good) - 1))
    piece = data.draw(st.binary(max_size=4))
    content = good[:at] + piece + good[at + data.draw(st.integers(0, 4)) :]
    try:
        found = (ONNX if good is GOOD_ONNX else NPZ).parse(BytesReader(content))
    except StructureError:
        return
    for one in found.tensors:
        assert 0 <= one.offset <= one.offset + one.length <= len(content)
        if one.coding is not None:
            check_coding(one.coding, one.length)


# -- external data

OUTSIDE = [
    "/etc/passwd",
    "../data",
    "a/../../data",
    "a//b",
    "a\\..\\b",
    "C:/data",
    "a\0b",
    ".",
    "a/",
]


@pytest.mark.parametrize("location", OUTSIDE)
def test_locations_outside_of_the_folder_are_not_followed(
    parser: ParserProcess, location: str
) -> None:
    assert inner_path(location) is None
    content = ow.model(ow.graph(ow.external("w", location), ow.tensor("v")))
    found = described(parser, content, "model.onnx")
    assert (found.format, [one.name for one in found.tensors]) == ("onnx", ["v"])
    assert "external" not in found.metadata
    assert found.metadata["events"] == []
    assert [one.kind for one in found.notices] == ["path"]


def test_external_data_are_taken_from_the_artifact_only(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 120)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "link.bin").symlink_to(secret)
    (folder / "short.bin").write_bytes(bytes(50))
    os.link(secret, folder / "model.safetensors")
    names = ["../secret", str(secret), "link.bin", "short.bin", "missing.bin", "model.safetensors"]
    external = (ow.external(str(at), name, dims=(25,)) for at, name in enumerate(names))
    (folder / "model.onnx").write_bytes(ow.model(ow.graph(*external)))
    with hn.open(tmp_path / "store", create=True) as store:
        (added,) = store.add(folder, name="m").artifacts
        assert added.error is None
        files = {one.path: one for one in store.show("m").files}
        assert set(files) == {"config.json", "model.onnx", "model.safetensors", "short.bin"}
        assert [(one.name, one.member) for one in store.tensors("m").values()] == [
            ("5", "model.safetensors")
        ]
        # What refused the file, and what was said of it, are both told.
        assert files["model.safetensors"].notices[0].startswith("structure: not taken as safeten")
        assert files["short.bin"].notices[0].startswith("structure: 1 tensors should lie here")
        store.get("m", tmp_path / "out")
    for path in files:
        assert (tmp_path / "out" / path).read_bytes() == (folder / path).read_bytes()


# -- codings that lie


@pytest.mark.parametrize(
    ("coding", "size"),
    [
        (Coding(method="other", length=1), 10),
        (Coding(method=DEFLATE, length=10_321), 10),
        (Coding(method=DEFLATE, length=1, skip=10_320), 10),
        (Coding(method=DEFLATE, length=HUGE, skip=HUGE), 10),
        (Coding(method=DEFLATE, length=-1), 10),
        (Coding(method=DEFLATE, length=2, skip=-1), 10),
        (Coding(method=VARINT, length=81), 10),
        (Coding(method=VARINT, length=1), 0),
    ],
)
def test_lengths_that_cannot_be_are_refused(coding: Coding, size: int) -> None:
    with pytest.raises(StructureError):
        check_coding(coding, size)


DEFLATED = zlib.compress(bytes(1000), wbits=-15)


@pytest.mark.parametrize(
    ("chunks", "coding", "dtype"),
    [
        ([DEFLATED], Coding(method=DEFLATE, length=1001), "U8"),
        ([DEFLATED], Coding(method=DEFLATE, length=1, skip=1000), "U8"),
        ([DEFLATED[:-3]], Coding(method=DEFLATE, length=1000), "U8"),
        ([b"\xff" * 20], Coding(method=DEFLATE, length=10), "U8"),
        ([], Coding(method=DEFLATE, length=1), "U8"),
        ([b"\x01\x02"], Coding(method=VARINT, length=12), "I32"),
        ([b"\x01\x02\x03\x04"], Coding(method=VARINT, length=12), "I32"),
        ([b"\x01\x02\x83"], Coding(method=VARINT, length=12), "I32"),
        ([LONG_VARINT], Coding(method=VARINT, length=4), "I32"),
        ([b"\xff" * 9 + b"\x02"], Coding(method=VARINT, length=4), "I32"),
        ([b"\xff" * 5, b"\xff" * 5, b"\x01"], Coding(method=VARINT, length=4), "I32"),
        ([b"\x01"], Coding(method=VARINT, length=4), "Q4_K"),
    ],
)
def test_what_does_not_decode_is_refused(chunks: list[bytes], coding: Coding, dtype: str) -> None:
    with pytest.raises(StructureError):
        b"".join(decoded(chunks, coding, dtype))


def test_bombs_are_not_inflated_beyond_their_shape() -> None:
    bomb = zlib.compress(bytes(64 << 20), wbits=-15)
    pieces = list(decoded([bomb], Coding(method=DEFLATE, length=100, skip=5), "U8"))
    assert pieces == [bytes(100)]
    sizes = [len(one) for one in decoded([bomb], Coding(method=DEFLATE, length=5 << 20), "U8")]
    assert (sum(sizes), max(sizes)) == (5 << 20, 1 << 20)


def test_reading_a_tensor_that_lies_is_an_error_and_nothing_more(tmp_path: Path) -> None:
    members = {"good.npy": npy(data=bytes(range(12))), "w.npy": npy("'<i8'", "(500,)", bytes(4000))}
    content = npz(members)
    at = content.index(b"w.npy") + 5
    end = content.index(b"PK\x01\x02")
    (tmp_path / "lies.npz").write_bytes(content[: end - 8] + b"\xff" * 8 + content[end:])
    assert at < end - 8
    lies = with_tensor(ow.tensor("w", ow.INT32, (2,), raw=None, more=ow.held(5, b"\x01\x82\x83")))
    (tmp_path / "lies.onnx").write_bytes(lies)
    with hn.open(tmp_path / "store", create=True) as store:
        for name in ("lies.npz", "lies.onnx"):
            store.add(tmp_path / name, name=name)
            with pytest.raises(HartonomousError):
                store.tensor(name, "w")
            found = store.diff(name, tmp_path / name)
            assert {one.status.value for one in found.tensors} == {"same"}
        assert store.tensor("lies.npz", "good").tobytes() == bytes(range(12))


def test_every_hostile_file_is_kept_byte_for_byte(tmp_path: Path) -> None:
    folder = tmp_path / "hostile"
    folder.mkdir()
    contents = {f"{at}{Path(name).suffix}": content
                for at, (name, content) in enumerate(FILES.items())}  # fmt: skip
    contents |= {"bomb.npz": BOMB, "good.onnx": GOOD_ONNX}
    contents |= {f"out{at}.onnx": with_tensor(ow.external("w", location))
                 for at, location in enumerate(OUTSIDE)}  # fmt: skip
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    with hn.open(tmp_path / "store", create=True) as store:
        report = store.add(folder)
        assert [one.error for one in report.artifacts] == [None] * len(contents)
        for one in report.artifacts:
            store.get(one.name, tmp_path / "out" / one.name)
    kept = {path.name: path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    for name, content in contents.items():
        assert kept[name].read_bytes() == content


def test_numpy_reads_what_the_files_were_made_from() -> None:
    with np.load(io.BytesIO(GOOD_DEFLATED)) as loaded:
        assert loaded["w"].tobytes() == bytes(range(12))
