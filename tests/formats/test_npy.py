"""The .npy parser against numpy."""

import ast
import io

import ml_dtypes
import numpy as np
import numpy.lib.format as numpy_format
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hartonomous.core.description import Description
from hartonomous.core.dtype import DTYPES
from hartonomous.errors import StructureError
from hartonomous.formats.npy import NPY, parse_literal
from hartonomous.formats.reader import BytesReader

PLAIN = {
    "?": "BOOL", "i1": "I8", "u1": "U8", "<i2": "I16", "<u2": "U16", "<i4": "I32", "<u4": "U32",
    "<i8": "I64", "<u8": "U64", "<f2": "F16", "<f4": "F32", "<f8": "F64", "<c8": "C64",
    "<c16": "C128",
}  # fmt: skip
OTHER = [
    ">f4", ">i8", "<U10", "|S5", "<U0", "|S0", "<M8[ns]", "<m8[25s]", "<M8", "|V12", ">U3", "<c32",
    [("x", "<i4"), ("y", "<f8")],
    [("x", "<i4"), ("pad", "|V4"), ("y", "<f8", (2, 3))],
    [("outer", [("a", "i1"), ("b", [("c", ">u2", (0,))])], (4,))],
    {"names": ["a", "b"], "formats": ["<u1", "<f8"], "offsets": [0, 8], "itemsize": 24},
    [(("title", "name"), "<f4")],
    [("größe", "<f4")],
]  # fmt: skip


def saved(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    numpy_format.write_array(file, array, version, allow_pickle=False)
    return file.getvalue()


def check_against_numpy(content: bytes) -> Description:
    """What numpy reads of a file equals the description."""
    file = io.BytesIO(content)
    version = numpy_format.read_magic(file)
    file.seek(0)
    array = numpy_format.read_array(file, allow_pickle=False)
    assert file.tell() == len(content)
    dtype = array.dtype
    found = NPY.parse(BytesReader(content))
    (tensor,) = found.tensors
    assert found.metadata == {
        "version": f"{version[0]}.{version[1]}",
        "fortran_order": array.flags.f_contiguous and not array.flags.c_contiguous,
    }
    assert (tensor.shape, tensor.length) == (array.shape, array.nbytes)
    assert content[tensor.offset :] == array.tobytes("A")
    assert tensor.offset + tensor.length == len(content)
    if dtype.str in PLAIN or dtype.str[1:] in PLAIN or dtype.kind == "b":
        assert tensor.dtype == PLAIN["?" if dtype.kind == "b" else dtype.str.lstrip("|")]
        assert DTYPES[tensor.dtype].block_bytes == dtype.itemsize
        assert found.notices == ()
    else:
        written = dtype.str if dtype.names is None else repr(dtype.descr)
        assert tensor.dtype == written
        assert tensor.dtype not in DTYPES
        assert [notice.kind for notice in found.notices] == ["dtype"]
    return found


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", PLAIN)
@pytest.mark.filterwarnings("ignore:Stored array in format")
def test_plain_types(dtype: str, version: tuple[int, int]) -> None:
    array = np.ones((2, 3, 4), dtype)
    check_against_numpy(saved(array, version))
    assert check_against_numpy(saved(array.T, version)).tensors[0].shape == (4, 3, 2)


@pytest.mark.parametrize("dtype", OTHER, ids=str)
@pytest.mark.filterwarnings("ignore:Stored array in format")
def test_other_types_keep_numpy_s_text(dtype: object) -> None:
    check_against_numpy(saved(np.zeros((2, 5), np.dtype(dtype))))


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_types_that_numpy_does_not_have(dtype: type) -> None:
    found = NPY.parse(BytesReader(saved(np.ones((3, 2), dtype))))
    (tensor,) = found.tensors
    assert tensor.length == 6 * np.dtype(dtype).itemsize
    assert tensor.dtype not in DTYPES
    assert [notice.kind for notice in found.notices] == ["dtype"]


def test_fortran_order_is_told() -> None:
    array = np.arange(6, dtype="<i4").reshape(2, 3)
    content = saved(np.asfortranarray(array))
    found = check_against_numpy(content)
    (tensor,) = found.tensors
    assert found.metadata["fortran_order"] is True
    held = np.frombuffer(content, "<i4", offset=tensor.offset)
    assert np.array_equal(held.reshape(tensor.shape, order="F"), array)


@settings(deadline=None)
@given(
    hnp.arrays(
        hnp.scalar_dtypes() | hnp.byte_string_dtypes() | hnp.unicode_string_dtypes(),
        hnp.array_shapes(min_dims=0, min_side=0, max_side=4),
        fill=st.nothing(),
        elements=None,
    )
)
def test_generated_arrays(array: np.ndarray) -> None:
    check_against_numpy(saved(array))


literals = st.recursive(
    st.integers(0, 2**60) | st.booleans() | st.none() | st.text('abc é"', max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(literals)
def test_literals_read_as_python_reads_them(value: object) -> None:
    text = repr(value)
    assert parse_literal(text) == value
    assert parse_literal(f" {text}\n") == value


@settings(deadline=None)
@given(st.text("[](){},:'a0 ", max_size=12))
def test_accepts_no_literal_that_python_refuses(text: str) -> None:
    try:
        value = parse_literal(text)
    except StructureError:
        return
    assert value == ast.literal_eval(text.strip())


def test_long_integers_of_python_2() -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (3L,), }"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(12)
    assert NPY.parse(BytesReader(content)).tensors[0].shape == (3,)


def test_matches() -> None:
    assert NPY.matches("weights.NPY", b"")
    assert NPY.matches("blobs/0123", saved(np.zeros(3))[:4096])
    assert not NPY.matches("weights.npz", b"PK\x03\x04")
