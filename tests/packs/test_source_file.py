"""Reading a file outside the store: ahead where ranges follow one another, exact elsewhere."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hartonomous.errors import SourceChangedError
from hartonomous.packs.source_file import BLOCK_BYTES, SourceFile


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "file"
    content = os.urandom(BLOCK_BYTES * 2 + 12_345)
    path.write_bytes(content)
    return path, content


@given(st.lists(st.tuples(st.integers(0, BLOCK_BYTES * 2), st.integers(0, 300_000)), max_size=12))
def test_read_ahead_gives_the_file_s_bytes(large, ranges):
    path, content = large
    with SourceFile(str(path)) as source:
        for offset, length in ranges:
            length = min(length, len(content) - offset)
            assert bytes(source.read_ahead(offset, length)) == content[offset : offset + length]


def test_ranges_in_file_order_are_read_in_blocks(large, monkeypatch):
    path, content = large
    reads = []
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda *a: reads.append(a[1]) or real(*a))
    with SourceFile(str(path)) as source:
        step = 10_000
        for offset in range(0, len(content), step):
            piece = source.read_ahead(offset, min(step, len(content) - offset))
            assert bytes(piece) == content[offset : offset + step]
    assert len(reads) <= 4
    reads.clear()
    with SourceFile(str(path)) as source:
        for offset in range(500_000, len(content) - 100, 500_000):
            source.read_ahead(offset, 100)
    assert set(reads) == {100}


def test_a_file_that_got_shorter_is_noticed(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"a" * 200_000)
    with SourceFile(str(path)) as source:
        source.read_ahead(100_000, 10)
        path.write_bytes(b"a" * 100)
        with pytest.raises(SourceChangedError):
            source.read_ahead(100_010, 10)
