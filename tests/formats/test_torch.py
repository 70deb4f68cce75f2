"""PyTorch's checkpoints: what PyTorch itself says of its files, and generated ones."""

import hashlib
import json
import math
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch_writer
from hypothesis import given
from hypothesis import strategies as st
from tensor_bytes import values

from hartonomous.core.array import as_strided_array
from hartonomous.core.coding import Coding, decoded
from hartonomous.core.description import Description
from hartonomous.core.manifest import partition
from hartonomous.core.strides import c_order, span
from hartonomous.errors import LimitError, StructureError
from hartonomous.formats import torch_tree
from hartonomous.formats.detect import describe
from hartonomous.formats.reader import BytesReader
from hartonomous.formats.torch_legacy import TORCH_LEGACY
from hartonomous.formats.torch_zip import TORCH_ZIP

FIXTURES = Path(__file__).parents[1] / "fixtures" / "torch"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())


def found_in(content: bytes, name: str = "model.pt") -> Description:
    return describe(BytesReader(content), name)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_tensors_are_those_that_pytorch_reports(name: str) -> None:
    content = (FIXTURES / name).read_bytes()
    found = found_in(content, name)
    assert found.format == ("torch-legacy" if "legacy" in name else "torch-zip")
    tensors = {one.name: one for one in found.tensors}
    expected = {path: one for path, one in EXPECTED[name].items() if one is not None}
    assert {name for name in tensors if not name.startswith(("sparse.", "csr."))} == set(expected)
    for path, told in expected.items():
        tensor = tensors[path]
        assert (tensor.dtype, list(tensor.shape)) == (told["dtype"], told["shape"])
        assert tensor.strides == (None if told["contiguous"] else tuple(told["strides"]))
        assert hashlib.sha256(values(content, tensor)).hexdigest() == told["sha256"]
    partition(len(content), found.tensors)


@pytest.mark.parametrize("name", ["views.pt", "views-legacy.pt"])
def test_views_of_one_storage_lie_at_their_offsets(name: str) -> None:
    tensors = {one.name: one for one in found_in((FIXTURES / name).read_bytes(), name).tensors}
    told = EXPECTED[name]
    for first, others in {
        "base": ("base_again", "transposed", "columns", "every_second", "row", "column"),
        "part": ("overlap_a", "overlap_b"),
        "square": ("square_transposed",),
    }.items():
        for other in others:
            width = {"F32": 4, "I16": 2, "F64": 8}[told[first]["dtype"]]
            apart = told[other]["storage_offset"] - told[first]["storage_offset"]
            assert tensors[other].offset - tensors[first].offset == apart * width


@pytest.mark.parametrize(
    ("layout", "first"),
    [(f"{kind}{axis}", f"{name}_indices") for kind in ("cs", "bs")
     for axis, name in (("r", "crow"), ("c", "ccol"))],
)  # fmt: skip
def test_parts_of_sparse_tensors_have_names(layout: str, first: str) -> None:
    name = torch_writer.Name("torch.serialization", "_get_layout")
    made = torch_writer.Called(name, (f"torch.sparse_{layout}",))
    parts = tuple(torch_writer.Tensor(str(key), "F32", 3, 0, (3,), (1,)) for key in range(3))
    name = torch_writer.Name("torch._utils", "_rebuild_sparse_tensor")
    call = torch_writer.Called(name, (made, (*parts, (3, 3), False)))
    storages = {str(key): bytes(12) for key in range(3)}
    found = found_in(torch_writer.archive({"a": call}, storages))
    assert [one.name for one in found.tensors] == [f"a.{first}", "a.indices", "a.values"]


def test_types_that_are_left_out_are_named() -> None:
    found = found_in((FIXTURES / "unusual.pt").read_bytes())
    text = " ".join(one.text for one in found.notices)
    assert "conjugated or negated view: 'conjugated', 'negated'" in text
    assert "on the meta device, which has no values: 'meta'" in text
    names = {one.name for one in found.tensors}
    assert names >= {"sparse.indices", "sparse.values", "csr.crow_indices", "csr.indices"}
    found = found_in((FIXTURES / "quantised.pt").read_bytes())
    assert [one.name for one in found.tensors] == ["plain"]
    assert "quantised by PyTorch" in found.notices[0].text


@pytest.mark.parametrize(
    "name", ["checkpoint.pt", "checkpoint-legacy.pt", "checkpoint-protocol4.pt"]
)
def test_plain_values_of_a_training_run(name: str) -> None:
    found = found_in((FIXTURES / name).read_bytes())
    held = found.metadata["values"]
    assert (held["epoch"], held["global_step"], held["best_loss"]) == (3, 1200, 0.125)
    assert held["optimizer.param_groups.0.lr"] == 0.01
    assert held["optimizer.param_groups.0.params"] == list(range(7))
    assert (held["dtype"], held["device"], held["size"]) == ("torch.bfloat16", "cpu", [2, 3])
    assert (held["args.name"], held["notes.text"], held["notes.none"]) == ("run", "größer", None)
    assert found.metadata["globals"][0] == {"name": "argparse.Namespace", "verdict": "unknown"}
    verdicts = {one["verdict"] for one in found.metadata["globals"][1:]}
    assert verdicts == {"allowed"}
    assert [one.kind for one in found.notices] == ["unknown-pickle"]


def test_numpy_values() -> None:
    held = found_in((FIXTURES / "arrays.pt").read_bytes()).metadata["values"]
    assert (held["best"], held["count"]) == (0.5, 7)
    assert held["array"] == {"type": "numpy.ndarray", "shape": [2, 3]}


# -- generated checkpoints

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="."), min_size=1, max_size=6)
PLAIN = (
    st.none() | st.booleans() | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)  # fmt: skip


@st.composite
def checkpoints(draw: st.DrawFn) -> tuple[Any, dict[str, tuple[str, bytes]]]:
    """A nested value with views over a few storages, and those."""
    storages: dict[str, tuple[str, bytes]] = {}
    for key in map(str, range(draw(st.integers(1, 4)))):
        dtype = draw(st.sampled_from(sorted(torch_writer.STORAGES)))
        count = draw(st.integers(0, 24))
        width = torch_writer.STORAGES[dtype][1]
        storages[key] = (dtype, draw(st.binary(min_size=count * width, max_size=count * width)))

    def tensor() -> st.SearchStrategy[torch_writer.Tensor]:
        return st.sampled_from(sorted(storages)).flatmap(one_view)

    @st.composite
    def one_view(draw: st.DrawFn, key: str) -> torch_writer.Tensor:
        dtype, content = storages[key]
        count = len(content) // torch_writer.STORAGES[dtype][1]
        shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
        strides = tuple(draw(st.integers(0, 6)) for _ in shape)
        if draw(st.booleans()):
            strides = c_order(shape)
        if span(shape, strides) > count:
            shape, strides = (count,), (1,)
        offset = draw(st.integers(0, count - span(shape, strides)))
        return torch_writer.Tensor(key, dtype, count, offset, shape, strides)

    nested = st.recursive(
        tensor() | PLAIN,
        lambda inner: (
            st.dictionaries(NAMES, inner, max_size=4)
            | st.lists(inner, max_size=3)
            | st.tuples(inner, inner)
        ),
        max_leaves=12,
    )
    value = draw(st.dictionaries(NAMES, nested, max_size=5))
    value["one"] = draw(tensor())
    return value, storages


def tensors_below(value: Any, path: str = "") -> dict[str, torch_writer.Tensor]:
    if isinstance(value, torch_writer.Tensor):
        return {path: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    if not isinstance(value, dict | list | tuple):
        return {}
    found = {}
    for key, inner in items:
        if isinstance(inner, dict | list | tuple | torch_writer.Tensor):
            found |= tensors_below(inner, f"{path}.{key}" if path else str(key))
    return found


def check_described(
    content: bytes, found: Description, value: Any, storages: dict[str, tuple[str, bytes]]
) -> None:
    expected = tensors_below(value)
    assert {one.name for one in found.tensors} == set(expected)
    for one in found.tensors:
        told = expected[one.name]
        assert (one.dtype, one.shape) == (told.dtype, told.shape)
        width = torch_writer.STORAGES[told.dtype][1]
        start = told.offset * width
        length = span(told.shape, told.strides) * width
        held = storages[told.key][1][start : start + length]
        assert content[one.offset : one.offset + one.length] == held
        whole = as_strided_array(held, told.dtype, told.shape, told.strides).tobytes()
        assert values(content, one) == whole
    pieces = partition(len(content), found.tensors)
    assert sum(piece.length for piece in pieces) == len(content)


@given(checkpoints())
def test_generated_zip_comes_back_as_described(made: Any) -> None:
    value, storages = made
    content = torch_writer.archive(value, {key: held for key, (_, held) in storages.items()})
    found = TORCH_ZIP.parse(BytesReader(content))
    check_described(content, found, value, storages)


@given(checkpoints())
def test_generated_legacy_file_comes_back_as_described(made: Any) -> None:
    value, storages = made
    used = {one.key for one in tensors_below(value).values()}
    storages = {key: held for key, held in storages.items() if key in used}
    content = torch_writer.legacy(value, storages)
    found = TORCH_LEGACY.parse(BytesReader(content))
    check_described(content, found, value, storages)


def simple(dtype: str = "F32", count: int = 3) -> torch_writer.Tensor:
    return torch_writer.Tensor("0", dtype, count, 0, (count,), (1,))


def test_big_endian_elements_are_named_as_numpy_names_them() -> None:
    content = torch_writer.archive(
        {"a": simple(), "b": torch_writer.Tensor("1", "U8", 3, 0, (3,), (1,))},
        {"0": struct.pack(">3f", 1, 2, 3), "1": b"abc"},
        byteorder="big",
    )
    found = found_in(content)
    assert {one.name: one.dtype for one in found.tensors} == {"a": ">f4", "b": "U8"}
    assert found.notices[0].text == "elements of type '>f4' are taken as bytes"


def test_without_a_byteorder_it_is_little_endian() -> None:
    content = torch_writer.archive({"a": simple()}, {"0": bytes(12)}, byteorder=None)
    assert found_in(content).tensors[0].dtype == "F32"


def test_compressed_storages_stay_as_they_lie_and_can_be_decoded() -> None:
    held = struct.pack("<30f", *range(30))
    other = torch_writer.Tensor("0", "F32", 30, 4, (2, 3), (1, 2))
    value = {"a": simple(count=30), "part": other, "b": 1}
    content = torch_writer.archive(value, {"0": held}, compression=zipfile.ZIP_DEFLATED)
    found = found_in(content)
    assert (found.format, found.metadata["values"]) == ("torch-zip", {"b": 1})
    assert [one.kind for one in found.notices] == ["compressed"]
    whole, part = found.tensors
    assert (whole.name, whole.dtype, whole.shape, whole.byte_count) == ("a", "F32", (30,), 120)
    assert whole.coding == Coding(method="deflate", length=120)
    assert (part.shape, part.strides, part.offset) == ((2, 3), (1, 2), whole.offset)
    assert part.coding == Coding(method="deflate", skip=16, length=24)
    for one in found.tensors:
        coded = content[one.offset : one.offset + one.length]
        assert one.coding is not None
        plain = b"".join(decoded([coded], one.coding, one.dtype))
        assert plain == held[one.coding.skip :][: one.coding.length]
    assert len(partition(len(content), found.tensors)) == 1


def test_compressed_storages_are_not_inflated_without_end() -> None:
    value = {str(at): torch_writer.Tensor("0", "F32", 30, 20, (10,), (1,)) for at in range(40)}
    content = torch_writer.archive(value, {"0": bytes(120)}, compression=zipfile.ZIP_DEFLATED)
    found = found_in(content)
    assert [one.name for one in found.tensors] == [str(at) for at in range(16)]
    assert len(found.metadata["compressed"]) == 24
    assert found.metadata["compressed"][0] == {"name": "16", "dtype": "F32", "shape": [10]}
    assert [one.kind for one in found.notices] == ["compressed", "limit"]


def test_names_that_dots_make_equal_get_a_number() -> None:
    value = {"a": {"b": simple()}, "a.b": simple()}
    found = found_in(torch_writer.archive(value, {"0": bytes(12)}))
    assert [one.name for one in found.tensors] == ["a.b", "a.b#2"]
    assert found.notices[0].kind == "name"


def test_a_value_that_holds_itself_is_cut() -> None:
    # memo entry 0 is a dict that has itself and a tensor as items
    code = b"}q\x00(" + torch_writer.opcodes("me") + b"h\x00" + torch_writer.opcodes("w")
    code += torch_writer.opcodes(simple()) + b"u"
    found = found_in(torch_writer.archive(torch_writer.Raw(code), {"0": bytes(12)}))
    assert [one.name for one in found.tensors] == ["w"]


def test_long_lists_are_summarised() -> None:
    value = {"list": list(range(1000)), "nan": math.nan, "big": 2**80, "raw": "x" * 5000}
    held = found_in(torch_writer.archive(value, {})).metadata["values"]
    assert held["list"] == {"type": "array", "count": 1000, "head": list(range(16))}
    assert (held["nan"], held["big"], len(held["raw"])) == ("nan", "a number of 81 bits", 4096)


def test_description_stays_bounded() -> None:
    value = {str(key): "x" * 4000 for key in range(1000)}
    found = found_in(torch_writer.archive(value, {}))
    assert len(json.dumps(found.metadata)) < 2 * torch_tree.VALUE_LIMIT_CHARS
    assert found.notices[0].text.endswith("left out of the description: it is full")


def test_more_tensors_than_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_tree, "TENSOR_LIMIT", 3)
    with pytest.raises(LimitError, match="more than 3 tensors"):
        TORCH_ZIP.parse(
            BytesReader(torch_writer.archive([simple() for _ in range(4)], {"0": bytes(12)}))
        )


def test_only_headers_are_read() -> None:
    class Counting(BytesReader):
        read_bytes = 0

        def read(self, offset: int, length: int) -> bytes:
            self.read_bytes += length
            return super().read(offset, length)

    value = {str(key): torch_writer.Tensor(str(key), "U8", 50_000, 0, (50_000,), (1,))
             for key in range(100)}  # fmt: skip
    content = torch_writer.archive(value, dict.fromkeys(value, bytes(50_000)))
    reader = Counting(content)
    assert len(TORCH_ZIP.parse(reader).tensors) == 100
    assert reader.read_bytes < 150_000 < len(content) // 30


def test_other_zip_files_are_not_asked_for() -> None:
    content = torch_writer.zipped({"word/document.xml": b"<x/>"})
    found = found_in(content, "text.docx")
    assert (found.format, found.notices) == ("file", ())
    assert found_in(content, "text.pt").notices[0].text.endswith("members */data.pkl, not one")


def test_recognised_without_its_ending() -> None:
    for name in ("tensor.pt", "views-legacy.pt"):
        content = (FIXTURES / name).read_bytes()
        assert found_in(content, "blobs/sha256-01").format.startswith("torch-")
        assert found_in(content, "pytorch_model.bin").format.startswith("torch-")


def test_bytes_behind_a_legacy_file() -> None:
    content = torch_writer.legacy({"a": simple()}, {"0": ("F32", bytes(12))})
    found = found_in(content + b"more")
    assert (found.format, found.notices[0].text) == (
        "torch-legacy",
        "4 bytes follow the last storage",
    )
    with pytest.raises(StructureError):
        TORCH_LEGACY.parse(BytesReader(content[:-1]))
