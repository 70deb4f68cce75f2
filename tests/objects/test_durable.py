"""Replacing a small file, and what the disk's errors become."""

import errno
import os
import re
import stat
from pathlib import Path

import pytest

from hartonomous.errors import HartonomousError, StorageFullError
from hartonomous.objects.durable import storage_error, write_atomically


@pytest.fixture
def syncs(monkeypatch):
    """What was synced: ``file`` or the name of a directory, with the names there at that time."""
    seen = []
    real = os.fsync

    def fsync(descriptor):
        place = Path(f"/proc/self/fd/{descriptor}").readlink()
        seen.append(place.name if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return seen


def test_new_and_replaced(tmp_path):
    path = tmp_path / "store.json"
    for content in (b"one", b"", bytearray(b"three" * 1000)):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["store.json"]


def test_file_then_directory_are_synced(tmp_path, syncs):
    write_atomically(tmp_path / "store.json", b"{}")
    assert syncs == ["file", tmp_path.name]


def test_readers_see_the_old_file_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "store.json"
    path.write_bytes(b"old")
    seen = []
    real = os.fsync

    def fsync(descriptor):
        seen.append(path.read_bytes())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(path, b"new")
    assert seen == [b"old", b"new"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_leaves_the_old_file(tmp_path, monkeypatch, code):
    path = tmp_path / "store.json"
    path.write_bytes(b"old")

    def fsync(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageFullError, match=r"1,234 bytes were wanted, [\d,]+ bytes are free"):
        write_atomically(path, b"x" * 1234)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["store.json"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(HartonomousError, match="No such file"):
        write_atomically(tmp_path / "nothing" / "store.json", b"x")


def test_errors_say_what_to_do(tmp_path):
    full = storage_error(OSError(errno.ENOSPC, ""), "write a", tmp_path, wanted_bytes=5_000)
    assert isinstance(full, StorageFullError)
    assert f"cannot write a at {tmp_path}: the disk is full; 5,000 bytes" in full.message
    for code in (errno.EIO, errno.EACCES, errno.EROFS):
        error = storage_error(OSError(code, os.strerror(code)), "write a", tmp_path)
        assert type(error) is HartonomousError
        assert os.strerror(code) in error.message
        assert error.hint


def test_free_space_of_a_file_that_is_not_there_yet(tmp_path):
    error = storage_error(OSError(errno.ENOSPC, ""), "write a", tmp_path / "nothing" / "a")
    assert re.search(r"disk is full, [\d,]+ bytes are free$", error.message)


def test_free_space_that_cannot_be_told(tmp_path, monkeypatch):
    def statvfs(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "statvfs", statvfs)
    error = storage_error(OSError(errno.ENOSPC, ""), "write a", tmp_path)
    assert error.message.endswith("free space unknown (Input/output error)")
