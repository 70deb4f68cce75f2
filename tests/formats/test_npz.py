"""``.npz``: what numpy says of its files, and generated ones."""

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensor_bytes import values

from hartonomous.core.description import Description
from hartonomous.core.dtype import DTYPES
from hartonomous.core.manifest import partition
from hartonomous.formats import npz
from hartonomous.formats.detect import describe
from hartonomous.formats.npz import NPZ
from hartonomous.formats.reader import BytesReader

FIXTURES = Path(__file__).parents[1] / "fixtures" / "npz"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())


def found_in(content: bytes, name: str = "arrays.npz") -> Description:
    return describe(BytesReader(content), name)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_arrays_are_those_that_numpy_loads(name: str) -> None:
    content = (FIXTURES / name).read_bytes()
    found = found_in(content, name)
    assert found.format == "npz"
    tensors = {one.name: one for one in found.tensors}
    assert tensors.keys() == EXPECTED[name].keys()
    for key, told in EXPECTED[name].items():
        one = tensors[key]
        assert list(one.shape) == told["shape"]
        assert hashlib.sha256(values(content, one)).hexdigest() == told["sha256"]
        if one.dtype in DTYPES:
            assert np.dtype(told["dtype"]).itemsize == DTYPES[one.dtype].block_bytes
        else:
            assert one.dtype == told["dtype"]
    partition(len(content), found.tensors)
    coded = {one.name for one in found.tensors if one.coding is not None}
    whole = {"compressed.npz": set(tensors), "mixed.npz": {"part_1"}}
    assert coded == whole.get(name, set())
    assert ("compressed" in {one.kind for one in found.notices}) == bool(coded)


def test_stored_and_compressed_arrays_are_equal() -> None:
    stored, compressed = (
        {one.name: (one.dtype, one.shape, one.strides, values(content, one))
         for one in found_in(content).tensors}
        for content in map(Path.read_bytes, (FIXTURES / "stored.npz", FIXTURES / "compressed.npz"))
    )  # fmt: skip
    assert stored == compressed
    assert stored["fortran"][2] == (1, 4, 20)
    assert stored["fortran_long"][2] is None


def test_objects_are_named_and_not_loaded() -> None:
    found = found_in((FIXTURES / "objects.npz").read_bytes())
    assert [one.name for one in found.tensors] == ["plain"]
    assert found.metadata["objects"] == ["held"]
    assert {one["verdict"] for one in found.metadata["globals"]} == {"allowed"}
    assert [one.kind for one in found.notices] == ["pickle"]


class Calls:
    """What a file may hold that does harm when numpy loads it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("false",)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_pickles_in_it_would_call_is_told(save: Callable[..., None]) -> None:
    file = io.BytesIO()
    save(file, plain=np.arange(3), held=np.array([Calls()], dtype=object))
    found = found_in(file.getvalue())
    assert {"name": "posix.system", "verdict": "dangerous"} in found.metadata["globals"]
    assert [one.kind for one in found.notices][-1] == "dangerous-pickle"
    assert "unread" not in found.metadata


def test_a_long_compressed_pickle_is_read_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "_PICKLE_INFLATED_BYTES", 1000)
    file = io.BytesIO()
    texts = np.array([str(number) for number in range(1000)], dtype=object)
    np.savez_compressed(file, first=texts, second=texts)
    found = found_in(file.getvalue())
    assert found.metadata["unread"] == "'first': it is too long to be read whole"


def test_other_members_are_named() -> None:
    file = io.BytesIO((FIXTURES / "positional.npz").read_bytes())
    with zipfile.ZipFile(file, "a") as made:
        made.writestr("notes.txt", "hello")
    found = found_in(file.getvalue())
    assert [one.name for one in found.tensors] == ["arr_0", "arr_1"]
    assert found.metadata == {"other_members": ["notes.txt"]}
    assert [one.kind for one in found.notices] == ["structure"]


def test_recognised_without_its_ending() -> None:
    for name in EXPECTED:
        assert found_in((FIXTURES / name).read_bytes(), "blobs/sha256-01").format == "npz"
    found = found_in(b"no zip file", "text.npz")
    assert (found.format, len(found.notices)) == ("file", 1)
    assert found_in(b"no zip file", "text.txt").notices == ()


def test_only_beginnings_are_inflated() -> None:
    class Counting(BytesReader):
        read_bytes = 0

        def read(self, offset: int, length: int) -> bytes:
            self.read_bytes += length
            return super().read(offset, length)

    file = io.BytesIO()
    random = np.random.default_rng(0)
    np.savez_compressed(
        file, **{str(at): np.frombuffer(random.bytes(200_000), np.uint8) for at in range(20)}
    )
    reader = Counting(file.getvalue())
    assert len(NPZ.parse(reader).tensors) == 20
    assert reader.read_bytes < 120_000 < reader.size // 30


def test_long_headers_are_read_too() -> None:
    file = io.BytesIO()
    fields = [(f"{'x' * 40}{at}", "<f4") for at in range(200)]
    np.savez_compressed(file, a=np.zeros(3, fields))
    (one,) = found_in(file.getvalue()).tensors
    assert one.byte_count == 3 * 800


@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=5),
        hnp.arrays(
            st.sampled_from(["<f4", "<f8", "i1", "<u2", "<i8", "?"]),
            hnp.array_shapes(min_dims=0, min_side=0, max_side=5),
        ),
        max_size=5,
    ),
    st.booleans(),
    st.booleans(),
)
def test_generated_files(arrays: dict[str, np.ndarray], compressed: bool, turned: bool) -> None:
    if turned:
        arrays = {name: np.asfortranarray(array) for name, array in arrays.items()}
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(
        file, **{f"_{k}": v for k, v in arrays.items()}
    )
    content = file.getvalue()
    found = found_in(content)
    assert {one.name[1:] for one in found.tensors} == set(arrays)
    for one in found.tensors:
        array = arrays[one.name[1:]]
        assert one.shape == array.shape
        assert values(content, one) == array.tobytes()
