"""Files of torch.distributed.checkpoint: what PyTorch itself says of them, and generated ones."""

import hashlib
import json
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch_writer import Called, Name, Tensor, archive, pickled

from hartonomous.core.coding import decoded
from hartonomous.core.description import Description
from hartonomous.core.description import Tensor as HeldTensor
from hartonomous.core.item_names import ItemNames, chunk_name, item_name, whole_name
from hartonomous.core.manifest import partition
from hartonomous.core.model import summarise
from hartonomous.errors import StructureError
from hartonomous.formats.detect import describe
from hartonomous.formats.reader import BytesReader, PartReader
from hartonomous.formats.torch_shards import TORCH_SHARDS
from hartonomous.formats.zip_directory import archive_start

FIXTURES = Path(__file__).parents[1] / "fixtures" / "checkpoints"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())
DTYPES = {"float32": "F32", "bfloat16": "BF16"}
WEIGHT = Tensor("0", "F32", 3, 0, (3,), (1,))


def held_tensor(name: str, shape: tuple[int, ...]) -> HeldTensor:
    return HeldTensor(name=name, dtype="F32", shape=shape, offset=64, length=24)


def described(folder: Path) -> Iterator[tuple[str, bytes, Description]]:
    names = ItemNames()
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        yield path.name, content, names.told(path.name, describe(BytesReader(content), path.name))


@pytest.mark.parametrize("step", sorted(EXPECTED))
def test_chunks_are_those_that_pytorch_wrote(step: str) -> None:
    found = {}
    for _, content, description in described(FIXTURES / "distributed" / step):
        assert description.notices == ()
        partition(len(content), description.tensors)
        for one in description.tensors:
            held = content[one.offset : one.offset + one.length]
            found[one.name] = (one.dtype, list(one.shape), hashlib.sha256(held).hexdigest())
    assert found == {
        name: (DTYPES[told["dtype"]], told["shape"], told["sha256"])
        for name, told in EXPECTED[step].items()
    }


@pytest.mark.parametrize(("folder", "norm"), [("hub", "[0]"), ("plain", "")])
def test_chunks_in_safetensors_files_are_those_that_pytorch_wrote(folder: str, norm: str) -> None:
    """Only an index says that a tensor which begins at 0 is a whole one."""
    found = {}
    for _, content, description in described(FIXTURES / "chunked" / folder):
        partition(len(content), description.tensors)
        for one in description.tensors:
            held = content[one.offset : one.offset + one.length]
            found[one.name] = (one.dtype, list(one.shape), hashlib.sha256(held).hexdigest())
    assert found == {
        name.removeprefix("model.") + (norm if told["dtype"] == "bfloat16" else ""): (
            DTYPES[told["dtype"]], told["shape"], told["sha256"]
        )
        for name, told in EXPECTED["step-10"].items()
        if name.startswith("model.")
    }  # fmt: skip


@pytest.mark.parametrize("folder", ["hub", "plain"])
def test_chunks_in_safetensors_files_are_one_model(folder: str) -> None:
    members = [(path, told) for path, _, told in described(FIXTURES / "chunked" / folder)]
    summary = summarise(members)
    assert summary is not None and summary.checkpoint is not None
    assert summary.parameter_count == 12 * 8 + 10 * 8 + 7
    assert (summary.checkpoint.kind, summary.checkpoint.file_count) == ("torch-distributed", 2)
    assert summary.checkpoint.tensor_count == 3


@pytest.mark.parametrize(
    "said",
    [
        '{"a": {"saved_offsets": [1]}}', '{"a": {"saved_offsets": [-1, 0]}}',
        '{"a": {"saved_offsets": [9223372036854775808, 0]}}', '{"a": {"saved_offsets": []}}',
        '{"a": {"saved_offsets": "x"}}', '{"a": [1, 2]}', '{"b": {"saved_offsets": [2, 0]}}',
        "[" * 100_000, "", "{", f'{{"a": {{"saved_offsets": [{"9" * 5000}]}}}}',
    ],
)  # fmt: skip
def test_offsets_that_pytorch_would_not_write_change_no_name(said: str) -> None:
    strings = {"DCP_SHARDING_INFO": said}
    one = held_tensor("a", (2, 3))
    given = Description(format="safetensors", tensors=(one,), metadata={"__metadata__": strings})
    assert ItemNames().told("__0_0.distcp", given).tensors == (one,)


def test_offsets_count_in_shards_alone_and_names_stay_different() -> None:
    strings = {"DCP_SHARDING_INFO": '{"a": {"saved_offsets": [2, 0]}}'}
    tensors = (held_tensor("a[2,0]", (2, 3)), held_tensor("a", (2, 3)))
    given = Description(format="safetensors", tensors=tensors, metadata={"__metadata__": strings})
    assert ItemNames().told("model.safetensors", given) == given
    told = ItemNames().told("shard-00002-model-00001-of-00001.safetensors", given)
    assert [one.name for one in told.tensors] == ["a[2,0]", "a[2,0]#2"]


def test_the_index_tells_whole_tensors_and_values_have_names() -> None:
    told = {name: one for name, _, one in described(FIXTURES / "distributed" / "step-20")}
    index = told[".metadata"].metadata
    assert index["tensors"]["model.layers.0.self_attn.q_proj.weight"] == {
        "dtype": "F32", "shape": [10, 8], "chunk_count": 2,
    }  # fmt: skip
    assert index["checkpoint_id"] == "run/step-20"
    assert {one["verdict"] for one in index["globals"]} == {"allowed"}
    values = {}
    for name, one in told.items():
        if name != ".metadata":
            values |= one.metadata["values"]
    assert values == {"step": 20, "note": "two ranks"}


def test_objects_with_tensors_inside_are_looked_into() -> None:
    told = {name: one for name, _, one in described(FIXTURES / "single")}
    shard = told["__0_0.distcp"]
    names = {one.name for one in shard.tensors}
    assert "model.embed_tokens.weight" in names
    assert shard.metadata["values"]["epoch"] == 3


def test_without_the_index_tensors_are_called_by_place() -> None:
    content = (FIXTURES / "distributed" / "step-10" / "__0_0.distcp").read_bytes()
    found = describe(BytesReader(content), "__0_0.distcp")
    assert found.tensors and all(one.name.startswith("item@") for one in found.tensors)
    assert found.tensors[0].name == "item@0"


def test_names_of_items() -> None:
    assert item_name(17) == "item@17"
    assert chunk_name("a.b", (5, 0)) == "a.b[5,0]"
    assert whole_name("a.b[5,0]") == whole_name("a.b") == "a.b"
    assert whole_name("a[x]") == "a[x]"


def test_archives_one_behind_the_other() -> None:
    part = archive([WEIGHT], {"0": bytes(12)})
    found = TORCH_SHARDS.parse(BytesReader(part * 3))
    assert [one.name for one in found.tensors] == [f"item@{at * len(part)}.0" for at in range(3)]
    first = found.tensors[0].offset
    assert [one.offset for one in found.tensors] == [first + at * len(part) for at in range(3)]
    assert archive_start(BytesReader(part * 3), 2 * len(part)) == len(part)


def test_a_deflated_item_is_read_as_it_was() -> None:
    told = struct.pack("<3f", 1, 2, 3)
    part = archive([WEIGHT], {"0": told}, compression=zipfile.ZIP_DEFLATED)
    content = part * 2
    for one in TORCH_SHARDS.parse(BytesReader(content)).tensors:
        assert one.coding is not None
        held = content[one.offset : one.offset + one.length]
        assert b"".join(decoded([held], one.coding, one.dtype)) == told


@pytest.mark.parametrize(
    "change",
    [
        lambda part: part + b"x",
        lambda part: b"x" + part,
        lambda part: part + b"x" + part,
        lambda part: part + part[:-1],
        lambda part: part[30:] + part,
        lambda part: part + part[-22:],
        lambda part: b"PK" + bytes(100),
        lambda part: part[:-22],
    ],
)
def test_what_is_not_all_archives_is_refused(change) -> None:
    content = change(archive([WEIGHT], {"0": bytes(12)}))
    with pytest.raises(StructureError):
        TORCH_SHARDS.parse(BytesReader(content))
    found = describe(BytesReader(content), "__0_0.distcp")
    assert found.tensors == ()


@pytest.mark.parametrize(
    "content",
    [
        pickled([1]),
        pickled(Called(Name("torch.distributed.checkpoint.metadata", "Metadata"))),
        pickled(Called(Name("os", "system"), ("id",), {"state_dict_metadata": {}})),
        pickled(
            Called(
                Name("torch.distributed.checkpoint.metadata", "Metadata"),
                (),
                {"state_dict_metadata": {"w": 3}},
            )
        ),
        pickled(
            Called(
                Name("torch.distributed.checkpoint.metadata", "Metadata"),
                (),
                {"state_dict_metadata": {}, "storage_data": [1]},
            )
        ),
    ],
)
def test_an_index_of_another_shape_is_none(content: bytes) -> None:
    found = describe(BytesReader(content), "run/.metadata")
    assert found.format in ("pickle", "file")
    assert found.notices[0].text.startswith("not taken as torch-distributed-index")


def test_an_index_that_names_nothing() -> None:
    metadata = Name("torch.distributed.checkpoint.metadata", "Metadata")
    content = pickled(Called(metadata, (), {"state_dict_metadata": {}, "version": "1.0.0"}))
    found = describe(BytesReader(content), ".metadata")
    assert found.format == "torch-distributed-index"
    assert (found.metadata["tensor_count"], found.metadata["items"]) == (0, {})


def test_names_that_come_twice_get_numbers() -> None:
    part = archive(WEIGHT, {"0": bytes(12)})
    names = ItemNames()
    items = {"__0_0.distcp": {"item@0": "w", f"item@{len(part)}": "w"}}
    index = Description(format="torch-distributed-index", metadata={"items": items})
    names.told("a/.metadata", index)
    shard = TORCH_SHARDS.parse(BytesReader(part * 2))
    assert [one.name for one in names.told("a/__0_0.distcp", shard).tensors] == ["w", "w#2"]
    assert names.told("b/__0_0.distcp", shard) == shard


def test_a_part_of_a_file_reads_like_a_file() -> None:
    part = PartReader(BytesReader(b"0123456789"), 3, 4)
    assert (part.size, part.read(0, 4), part.read(4, 0)) == (4, b"3456", b"")
    for offset, length in ((0, 5), (4, 1), (-1, 1)):
        with pytest.raises(StructureError):
            part.read(offset, length)
    with pytest.raises(StructureError):
        PartReader(BytesReader(b"0123456789"), 3, 8)


@given(
    st.sampled_from(["single/.metadata", "single/__0_0.distcp", "distributed/step-10/.metadata"]),
    st.lists(st.tuples(st.integers(0, 20_000), st.binary(min_size=1, max_size=4)), max_size=8),
    st.integers(0, 20_000),
)
def test_damaged_files_are_described_or_refused(
    path: str, changes: list[tuple[int, bytes]], cut: int
) -> None:
    content = bytearray((FIXTURES / path).read_bytes())
    for at, new in changes:
        content[at % len(content) : at % len(content) + len(new)] = new
    if cut % 3 == 0:
        del content[cut % len(content) :]
    name = path.rpartition("/")[2]
    names = ItemNames()
    found = names.told(name, describe(BytesReader(bytes(content)), name))
    partition(len(content), found.tensors)
    shard = (FIXTURES / "single" / "__0_0.distcp").read_bytes()
    told = names.told("__0_0.distcp", describe(BytesReader(shard), "__0_0.distcp"))
    assert len({one.name for one in told.tensors}) == len(told.tensors)
