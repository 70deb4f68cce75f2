"""Rows of an array on disk, beside what numpy reads of it; files that are cut meanwhile."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hartonomous.packs.npy_rows import NpyRows


@given(
    rows=st.integers(0, 40), width=st.integers(1, 9), first=st.integers(0, 45),
    count=st.integers(0, 45), kind=st.sampled_from(["<f4", ">f4", "<f2", "<i8", "|u1"]),
    columns_first=st.booleans(),
)  # fmt: skip
def test_any_rows_are_those_of_numpy(
    tmp_path_factory: pytest.TempPathFactory, rows: int, width: int, first: int, count: int,
    kind: str, columns_first: bool,
) -> None:  # fmt: skip
    """Both orders of elements and of bytes; beyond the end there is nothing."""
    path = tmp_path_factory.mktemp("npy") / "a.npy"
    array = np.arange(rows * width).reshape(rows, width).astype(kind)
    np.save(path, np.asfortranarray(array) if columns_first else array)
    with NpyRows(path) as found:
        assert (found.shape, found.dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(found.rows(first, count), array[first : first + count])


def test_a_single_vector_is_one_row(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(5, dtype=np.float32))
    with NpyRows(tmp_path / "a.npy") as found:
        np.testing.assert_array_equal(found.rows(0, 10), [[0, 1, 2, 3, 4]])


def test_a_file_that_is_cut_meanwhile_is_told(tmp_path: Path) -> None:
    """A mapping would end the process here."""
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((5000, 8), np.float32))
    with NpyRows(path) as found:
        os.truncate(path, 5000)
        with pytest.raises(EOFError, match="shorter"):
            found.rows(0, 5000)


def _with_header(path: Path, header: str) -> Path:
    text = header.encode() + b" " * 20 + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(64))
    return path


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 2)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (17,)}",
        "{'descr': '|V0', 'fortran_order': False, 'shape': (9, 9)}",
        "__import__('os').system('false')",
        "(" * 200,
        "-" * 9_000 + "1",
        "'''",
        "\t x\n y",
        "{[]: 1}",
        "{1: 1, 'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 1: 2}",
        "{'descr': 'V99999999999', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': 'f4,f4', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}",
        "{'descr': 'f12', 'fortran_order': False, 'shape': (" + "9" * 4_000 + ",)}",
    ],
)
def test_headers_that_cannot_be(tmp_path: Path, header: str) -> None:
    """They are refused before anything is read, in few words."""
    with pytest.raises(ValueError, match=r".") as refused:
        NpyRows(_with_header(tmp_path / "a.npy", header))
    assert type(refused.value) is ValueError and len(str(refused.value)) < 300


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(ValueError, match="regular file"):
        NpyRows(tmp_path / "a.npy")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY\x09\x00", b"\x93NUMPY\x01"])
def test_what_is_no_array(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises((ValueError, EOFError)):
        NpyRows(tmp_path / "a.npy")
