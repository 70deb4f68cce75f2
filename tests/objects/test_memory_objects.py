"""The object store in memory: the contract, and what it reports beyond."""

import errno

import numpy as np
import pytest

from hartonomous.errors import HartonomousError, NotFoundError, StorageFullError
from hartonomous.objects.memory import MemoryObjects
from hartonomous.testing.object_store import ObjectStoreContract, content_of, keys_of


class TestMemoryContract(ObjectStoreContract):
    def make_store(self):
        return MemoryObjects()


class Fault:
    """Fails one operation of one key with one error number."""

    def __init__(self, operation, code, key="a"):
        self.wanted = (operation, key)
        self.code = code
        self.seen = []

    def __call__(self, operation, key):
        self.seen.append((operation, key))
        if (operation, key) == self.wanted:
            raise OSError(self.code, "injected")


def test_nothing_leaks_when_all_is_ended():
    store = MemoryObjects()
    store.put("a", b"abc")
    store.create("b").abort()
    content_of(store, "a")
    assert store.leaks() == ()


def test_leaks_are_named():
    store = MemoryObjects()
    store.put("a", b"abc")
    writer, reader = store.create("b"), store.open("a")
    assert [text.split(" ")[:3] for text in store.leaks()] == [
        ["writer", "of", "b"],
        ["reader", "of", "a"],
    ]
    writer.abort()
    reader.close()
    assert store.leaks() == ()


def test_views_are_dead_after_close():
    store = MemoryObjects()
    store.put("a", b"abc")
    reader = store.open("a")
    view = reader.read(0, 3)
    reader.close()
    with pytest.raises(ValueError, match="released"):
        bytes(view)
    assert store.leaks() == ()


@pytest.mark.parametrize("derive", [lambda view: view[1:], lambda view: np.frombuffer(view, "u1")])
def test_slices_and_arrays_that_outlive_their_reader_are_reported(derive):
    store = MemoryObjects()
    store.put("a", b"abc")
    reader = store.open("a")
    held = derive(reader.read(0, 3))
    reader.close()
    reader.close()
    assert held[-1] == ord("c")
    assert store.leaks() == ("a view of a was held when its reader was closed",)


def test_views_cannot_be_written_through():
    store = MemoryObjects()
    store.put("a", b"abc")
    reader = store.open("a")
    with pytest.raises(TypeError):
        reader.read(0, 3)[0] = 1
    reader.close()


@pytest.mark.parametrize("operation", ["create", "write", "commit"])
def test_a_full_disk_leaves_nothing(operation):
    store = MemoryObjects(fault=Fault(operation, errno.ENOSPC))
    with pytest.raises(StorageFullError, match="full"):
        store.put("a", b"abc")
    assert keys_of(store) == []
    assert store.leaks() == ()
    store.put("b", b"abc")


@pytest.mark.parametrize("operation", ["write", "commit", "sync"])
def test_a_failed_writer_has_ended(operation):
    store = MemoryObjects(fault=Fault(operation, errno.EIO))
    writer = store.create("a")
    with pytest.raises(HartonomousError):
        writer.write(b"abc")
        writer.commit()
    with pytest.raises(ValueError, match="ended"):
        writer.write(b"abc")
    assert store.leaks() == ()


def test_a_failed_last_sync_leaves_the_object():
    store = MemoryObjects(fault=Fault("sync", errno.EIO))
    with pytest.raises(HartonomousError):
        store.put("a", b"abc")
    assert content_of(store, "a") == b"abc"


@pytest.mark.parametrize("operation", ["open", "read", "delete"])
def test_other_faults_name_the_operation(operation):
    fault = Fault(operation, errno.EIO)
    store = MemoryObjects(fault=fault)
    store.put("a", b"abc")
    with pytest.raises(HartonomousError, match=operation):
        content_of(store, "a") if operation != "delete" else store.delete("a")
    assert keys_of(store) == ["a"]


def test_every_operation_passes_the_hook():
    fault = Fault("none", 0)
    store = MemoryObjects(fault=fault)
    store.put("a", b"abc")
    content_of(store, "a")
    keys_of(store, "x")
    store.delete("a")
    assert [operation for operation, _ in fault.seen] == [
        "create", "write", "commit", "sync", "open", "read", "list", "delete",
    ]  # fmt: skip
    with pytest.raises(NotFoundError):
        store.open("a")


def test_the_clock_is_passed_in():
    store = MemoryObjects(clock=lambda: 1_700_000_000.25)
    store.put("a", b"")
    assert [entry.modified_us for entry in store.list()] == [1_700_000_000_250_000]
