"""The object store on a real disk: the contract, syncs, full disks, kills and races."""

import errno
import mmap
import os
import resource
import stat
import subprocess
from pathlib import Path

import numpy as np
import pytest

from hartonomous.errors import (
    HartonomousError,
    IntegrityError,
    NoStoreError,
    NotFoundError,
    ObjectExistsError,
    StorageFullError,
)
from hartonomous.objects import linux, local
from hartonomous.objects.local import LocalObjects
from hartonomous.testing.object_store import ObjectStoreContract, content_of, expect, keys_of


class TestLocalContract(ObjectStoreContract):
    @pytest.fixture(autouse=True)
    def _root(self, tmp_path):
        self.root = tmp_path

    def make_store(self):
        return LocalObjects(self.root)


@pytest.fixture
def store(tmp_path):
    return LocalObjects(tmp_path)


@pytest.fixture
def no_links(monkeypatch):
    """A file system without hard links."""

    def link(source, target, **_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)


@pytest.mark.usefixtures("no_links")
class TestContractWithoutHardLinks(TestLocalContract):
    pass


def litter(store):
    folder = store.root / "tmp"
    return sorted(folder.iterdir()) if folder.exists() else []


# Durability


@pytest.fixture
def syncs(monkeypatch, tmp_path):
    """What was synced, in order, each with the files visible at that time."""
    seen = []
    real = os.fsync

    def fsync(descriptor):
        place = Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path)
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        visible = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.pack")}
        seen.append((str(place) if is_directory else "file", visible))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return seen


def test_a_commit_syncs_file_then_directories(store, syncs):
    store.put("packs/00/a.pack", b"abc")
    key = {"packs/00/a.pack"}
    assert syncs == [("file", set()), (".", set()), ("packs", set()), ("packs/00", key)]


def test_a_later_commit_costs_two_syncs(store, syncs):
    store.put("packs/00/a.pack", b"abc")
    syncs.clear()
    store.put("packs/00/b.pack", b"abc")
    assert [place for place, _ in syncs] == ["file", "packs/00"]
    syncs.clear()
    store.put("packs/01/c.pack", b"abc")
    assert [place for place, _ in syncs] == ["file", "packs", "packs/01"]


def test_directories_of_others_are_synced_once_by_each_process(store, syncs, tmp_path):
    store.put("packs/a.pack", b"abc")
    syncs.clear()
    other = LocalObjects(tmp_path)
    other.put("packs/b.pack", b"abc")
    assert [place for place, _ in syncs] == ["file", ".", "packs"]


def test_a_key_at_the_root_syncs_the_root(store, syncs):
    store.put("a.pack", b"abc")
    assert syncs == [("file", set()), (".", {"a.pack"})]


def test_deletion_is_synced(store, syncs):
    store.put("packs/a.pack", b"abc")
    syncs.clear()
    store.delete("packs/a.pack")
    store.delete("packs/a.pack")  # an earlier try may have failed before its sync
    store.delete("nothing/a.pack")
    assert syncs == [("packs", set()), ("packs", set())]


def test_a_directory_that_somebody_removed_is_made_again(store, syncs):
    store.put("packs/a.pack", b"abc")
    store.delete("packs/a.pack")
    (store.root / "packs").rmdir()
    syncs.clear()
    store.put("packs/a.pack", b"abc")
    assert [place for place, _ in syncs] == ["file", ".", "packs"]


def test_writeback_is_started_every_8_mib(store, monkeypatch):
    asked = []
    monkeypatch.setattr(
        linux, "start_writeback", lambda _, offset, length: asked.append((offset, length))
    )
    writer = store.create("a")
    for _ in range(5):
        writer.write(bytes(4 * 1024 * 1024))
    writer.commit()
    step = 8 * 1024 * 1024
    assert asked == [(0, step), (step, step)]


def test_the_kernel_takes_the_writeback_call(tmp_path):
    with (tmp_path / "a").open("wb") as file:
        file.write(bytes(10_000))
        file.flush()
        linux.start_writeback(file.fileno(), 0, 10_000)
        assert linux._sync_file_range(file.fileno(), 0, 10_000, 2) == 0


def test_objects_are_read_only_files(store):
    store.put("a", b"abc")
    assert (store.root / "a").stat().st_mode & 0o222 == 0
    assert litter(store) == []


# Failures


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB or, where we may not mount one, a file size limit of 1 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", place]
    try:
        mounted = subprocess.run(mount, stderr=subprocess.DEVNULL, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if mounted:
        yield place
        subprocess.run(["umount", "-l", place], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, hard))
    yield place
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk(small_disk):
    store = LocalObjects(small_disk)
    store.put("a", b"a" * 500_000)
    writer = store.create("b")
    writer.write(b"b" * 400_000)
    with pytest.raises(StorageFullError, match=r"1,400,000 bytes were wanted, [\d,]+ bytes are"):
        writer.write(b"b" * 1_000_000)
    with pytest.raises(ValueError, match="closed"):
        writer.commit()
    writer.abort()
    assert litter(store) == []
    assert keys_of(store) == ["a"]
    assert content_of(store, "a") == b"a" * 500_000
    store.put("c", b"c" * 400_000)  # the room of the failed object is free again


def test_a_file_size_limit(store):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageFullError, match="file size"):
            store.put("a", b"a" * 200_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert litter(store) == []
    assert keys_of(store) == []


def failing(code):
    def call(*_args, **_kwargs):
        raise OSError(code, os.strerror(code))

    return call


def test_a_sync_that_fails_leaves_nothing(store, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(errno.EIO))
        with pytest.raises(HartonomousError, match="Input/output error") as caught:
            store.put("a", b"abc")
    assert type(caught.value) is HartonomousError
    assert caught.value.hint
    assert litter(store) == []
    assert keys_of(store) == []


def test_a_quota_is_storage_full(store, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(errno.EDQUOT))
        with pytest.raises(StorageFullError, match="quota"):
            store.put("a", b"abc")
    assert litter(store) == []


def test_a_directory_sync_that_fails_is_reported(store, monkeypatch):
    store.put("packs/a", b"abc")
    real = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(HartonomousError, match="Input/output error"):
            store.put("packs/b", b"abc")
        with pytest.raises(HartonomousError, match="Input/output error"):
            store.delete("packs/a")
    assert litter(store) == []


def test_neither_links_nor_exclusive_renames(store, monkeypatch, no_links):
    monkeypatch.setattr(linux, "rename_without_overwriting", failing(errno.EINVAL))
    with pytest.raises(HartonomousError, match="knows neither hard links"):
        store.put("a", b"abc")
    assert litter(store) == []
    assert keys_of(store) == []


def test_other_link_errors_are_not_taken_for_missing_links(store, monkeypatch):
    monkeypatch.setattr(os, "link", failing(errno.ENOSPC))
    with pytest.raises(StorageFullError):
        store.put("a", b"abc")
    assert litter(store) == []


def test_a_c_library_without_the_call(monkeypatch, tmp_path):
    assert linux._function("no_such_call_as_this") is None
    monkeypatch.setattr(linux, "_renameat2", None)
    with pytest.raises(OSError, match="not implemented"):
        linux.rename_without_overwriting(tmp_path / "a", tmp_path / "b")


def test_a_root_that_is_not_there(tmp_path):
    with pytest.raises(NoStoreError):
        LocalObjects(tmp_path / "nothing")
    (tmp_path / "root").mkdir()
    store = LocalObjects(tmp_path / "root")
    (tmp_path / "root").rmdir()
    with pytest.raises(NoStoreError):
        list(store.list())
    with pytest.raises(HartonomousError):
        store.put("a", b"")


# Reading


def test_views_are_the_mapping_itself_and_outlive_the_reader(store):
    content = np.arange(100_000, dtype="<u4")
    store.put("a", content.tobytes())
    reader = store.open("a")
    array = np.frombuffer(reader.read(4096, 4096), "<u4")
    again = np.frombuffer(reader.read(4096, 4096), "<u4")
    assert np.shares_memory(array, again)
    reader.close()
    store.delete("a")
    assert array.tolist() == content[1024:2048].tolist()


def test_a_closed_reader_frees_its_descriptor(store):
    store.put("a", b"abc")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        content_of(store, "a")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_file_that_shrinks_is_an_error_not_a_crash(store):
    store.put("a", bytes(100_000))
    reader = store.open("a")
    path = store.root / "a"
    path.chmod(0o644)
    os.truncate(path, 5000)
    with pytest.raises(IntegrityError, match="shortened from 100000 to 5000"):
        reader.read(90_000, 10)
    reader.close()


def test_pages_that_cannot_be_read_are_an_error_not_a_crash(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(100_000))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
        os.truncate(path, 5000)
        local._populate(mapping, 100, 4000, "a")
        with pytest.raises(IntegrityError, match="cannot be read"):
            local._populate(mapping, 90_001, 10, "a")


def test_an_older_kernel_reads_without_the_check(store, monkeypatch):
    monkeypatch.setattr(linux, "MADV_POPULATE_READ", 9999)  # EINVAL, as before Linux 5.14
    store.put("a", bytes(range(256)))
    assert content_of(store, "a") == bytes(range(256))


def test_reads_larger_than_what_is_paged_in(store, monkeypatch):
    monkeypatch.setattr(local, "POPULATE_BYTES", 100)
    monkeypatch.setattr(linux, "MADV_POPULATE_READ", None)
    store.put("a", bytes(range(256)))
    assert content_of(store, "a") == bytes(range(256))


def test_strangers_are_tolerated(store, tmp_path):
    store.put("packs/a", b"abc")
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "x").write_bytes(b"x")
    (tmp_path / "packs" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "packs" / "two words").write_bytes(b"x")
    (tmp_path / os.fsdecode(b"\xff")).write_bytes(b"x")
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "link").symlink_to(outside / "x")
    (tmp_path / "folder").symlink_to(outside)
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    assert keys_of(store) == ["packs/a"]
    for key in ("link", "pipe", "empty", "loop"):
        expect(NotFoundError, store.open, key)
    expect(ObjectExistsError, store.put, "link", b"y")
    assert (outside / "x").read_bytes() == b"x"


def test_listing_reads_only_directories_that_matter(store, monkeypatch):
    for key in ("packs/00/a", "packs/01/a", "other/a"):
        store.put(key, b"")
    read = []
    real = os.scandir

    def scandir(path):
        read.append(str(Path(path).relative_to(store.root)))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert keys_of(store, "packs/01/") == ["packs/01/a"]
    assert read == [".", "packs", "packs/01"]


def test_what_vanishes_while_it_is_listed_is_left_out(store):
    for key in ("a/1", "a/2", "b/1", "c"):
        store.put(key, b"")
    listing = store.list()
    assert next(listing).key == "a/1"
    store.delete("a/2")
    store.delete("b/1")
    (store.root / "b").rmdir()
    assert [entry.key for entry in listing] == ["c"]


# Litter


def test_sweep_leaves_strangers_and_open_writers(store):
    assert store.sweep() == 0
    writer = store.create("a")
    writer.write(b"abc")
    (store.root / "tmp" / "folder").mkdir()
    (store.root / "tmp" / "link").symlink_to("nowhere")
    os.mkfifo(store.root / "tmp" / "pipe")
    (store.root / "tmp" / "litter").write_bytes(b"x")
    assert store.sweep() == 1
    writer.commit()
    assert content_of(store, "a") == b"abc"
    assert [path.name for path in litter(store)] == ["folder", "link", "pipe"]


def test_what_a_link_in_its_place_leads_to_is_not_swept(store, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_bytes(b"x")
    (store.root / "tmp").symlink_to(elsewhere)
    assert store.litter() == (0, 0)
    assert store.sweep() == 0
    assert (elsewhere / "file").exists()


def test_a_sweep_between_creation_and_lock_is_noticed(store, monkeypatch):
    real = local.fcntl.flock
    swept = []

    def flock(file, operation):
        if operation == local.fcntl.LOCK_EX and not swept:
            swept.append(None)
            assert store.sweep() == 1
        real(file, operation)

    monkeypatch.setattr(local.fcntl, "flock", flock)
    store.put("a", b"abc")
    assert swept
    assert content_of(store, "a") == b"abc"
    assert litter(store) == []


def test_a_file_system_without_locks_is_an_error(store, monkeypatch):
    monkeypatch.setattr(local.fcntl, "flock", failing(errno.ENOLCK))
    with pytest.raises(HartonomousError, match="locks"):
        store.create("a")
    assert litter(store) == []
