"""Conformance suite of the object-store port: what every adapter must do.

Derive a class whose name begins with ``Test``, implement ``make_store``, and let pytest collect
it; the suite itself needs nothing but the port.
"""

# ruff: noqa: D102 - the name of a test says what it holds

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec

from hartonomous.core.digest import Bytes
from hartonomous.errors import IntegrityError, NotFoundError, ObjectExistsError, UsageError
from hartonomous.ports.objects import ObjectStore

Arguments = ParamSpec("Arguments")

BAD_KEYS = (
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/./b",
    ".hidden",
    "a/.hidden",
    "a b",
    "a\\b",
    "a\n",
    "a\0b",
    "ä",
    "٣",
    "tmp",
    "tmp/a",
    "a" * 256,
    "/".join(["a"] * 600),
)
"""Strings that no store may take for a key."""


def expect(
    kind: type[Exception],
    call: Callable[Arguments, object],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Exception:
    """Return the error of ``kind`` that the call must raise."""
    try:
        call(*args, **kwargs)
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was expected, nothing was raised")


def content_of(store: ObjectStore, key: str) -> bytes:
    """Return a copy of a whole object."""
    reader = store.open(key)
    try:
        return bytes(reader.read(0, reader.size))
    finally:
        reader.close()


def keys_of(store: ObjectStore, prefix: str = "") -> list[str]:
    """Return the keys of a listing."""
    return [entry.key for entry in store.list(prefix)]


class ObjectStoreContract:
    """Every promise of the port, as one test each."""

    def make_store(self) -> ObjectStore:
        """Return an empty store."""
        raise NotImplementedError("return an empty store of the adapter under test")

    def test_put_then_read_gives_the_same_bytes(self) -> None:
        store = self.make_store()
        for size in (0, 1, 4095, 4096, 4097, 300_001):
            content = bytes(range(251)) * (size // 251 + 1)
            store.put(f"packs/size-{size}", content[:size])
            assert content_of(store, f"packs/size-{size}") == content[:size]

    def test_every_kind_of_buffer_is_accepted(self) -> None:
        store = self.make_store()
        words = memoryview(bytes(range(8))).cast("I")
        kinds: list[Bytes] = [b"abc", bytearray(b"abc"), memoryview(b"abc"), words]
        for number, content in enumerate(kinds):
            store.put(f"k{number}", content)
            assert content_of(store, f"k{number}") == bytes(content)

    def test_ranges(self) -> None:
        store = self.make_store()
        content = bytes(range(256)) * 64
        store.put("a/b", content)
        reader = store.open("a/b")
        assert reader.size == len(content)
        for offset, length in ((0, 0), (0, 1), (5, 4096), (4095, 2), (16384, 0), (16383, 1)):
            assert reader.read(offset, length) == content[offset : offset + length]
        reader.close()

    def test_ranges_outside_are_refused(self) -> None:
        store = self.make_store()
        for key, size in (("full", 10), ("empty", 0)):
            store.put(key, b"x" * size)
            reader = store.open(key)
            for offset, length in ((0, size + 1), (size, 1), (size + 1, 0), (-1, 1), (1, -1)):
                expect(IntegrityError, reader.read, offset, length)
            reader.close()

    def test_views_are_read_only(self) -> None:
        store = self.make_store()
        store.put("a", b"abc")
        reader = store.open("a")
        view = reader.read(0, 3)
        assert view.readonly
        assert view.format == "B"
        reader.close()

    def test_a_closed_reader_is_refused(self) -> None:
        store = self.make_store()
        store.put("a", b"abc")
        reader = store.open("a")
        reader.close()
        reader.close()
        expect(ValueError, reader.read, 0, 1)

    def test_absent_objects(self) -> None:
        store = self.make_store()
        store.put("a/b", b"")
        for key in ("nothing", "a", "a/nothing", "a/b/c"):
            expect(NotFoundError, store.open, key)
            store.delete(key)
        assert keys_of(store) == ["a/b"]

    def test_keys_are_checked_everywhere(self) -> None:
        store = self.make_store()
        for key in BAD_KEYS:
            expect(UsageError, store.create, key)
            expect(UsageError, store.put, key, b"x")
            expect(UsageError, store.open, key)
            expect(UsageError, store.delete, key)
            expect(UsageError, store.evict, key)
        assert keys_of(store) == []

    def test_objects_are_never_overwritten(self) -> None:
        store = self.make_store()
        store.put("a/b", b"first")
        expect(ObjectExistsError, store.put, "a/b", b"second")
        writer = store.create("a/b")
        writer.write(b"third")
        expect(ObjectExistsError, writer.commit)
        writer.abort()
        assert content_of(store, "a/b") == b"first"

    def test_a_key_is_an_object_or_leads_to_objects(self) -> None:
        store = self.make_store()
        store.put("a/b/c", b"")
        for key in ("a", "a/b", "a/b/c/d", "a/b/c/d/e"):
            expect(ObjectExistsError, store.put, key, b"x")
        assert keys_of(store) == ["a/b/c"]

    def test_nobody_sees_an_object_before_commit(self) -> None:
        store = self.make_store()
        writer = store.create("a")
        writer.write(b"abc")
        assert keys_of(store) == []
        expect(NotFoundError, store.open, "a")
        writer.commit()
        assert keys_of(store) == ["a"]

    def test_streamed_pieces_are_joined_in_order(self) -> None:
        store = self.make_store()
        writer = store.create("a")
        buffer = bytearray(b"0")
        for number in range(10):
            buffer[:] = b"%d" % number
            writer.write(buffer)  # the caller may use its buffer again
        writer.write(b"")
        writer.commit()
        assert content_of(store, "a") == b"0123456789"

    def test_an_ended_writer_is_refused(self) -> None:
        store = self.make_store()
        committed, aborted = store.create("a"), store.create("b")
        committed.commit()
        aborted.abort()
        for writer in (committed, aborted):
            expect(ValueError, writer.write, b"x")
            expect(ValueError, writer.commit)
        assert content_of(store, "a") == b""

    def test_abort_drops_and_is_harmless_afterwards(self) -> None:
        store = self.make_store()
        writer = store.create("a")
        writer.write(b"abc")
        writer.abort()
        writer.abort()
        assert keys_of(store) == []
        writer = store.create("a")
        writer.write(b"abc")
        writer.commit()
        writer.abort()
        assert content_of(store, "a") == b"abc"

    def test_of_two_writers_the_first_to_commit_wins(self) -> None:
        store = self.make_store()
        early, late = store.create("a"), store.create("a")
        early.write(b"early")
        late.write(b"late")
        late.commit()
        expect(ObjectExistsError, early.commit)
        assert content_of(store, "a") == b"late"

    def test_of_many_threads_one_wins(self) -> None:
        store = self.make_store()
        count = 4
        ready = threading.Barrier(count)

        def put(number: int) -> bool:
            ready.wait()
            try:
                store.put("race/key", bytes([number]) * 1000)
            except ObjectExistsError:
                return False
            return True

        with ThreadPoolExecutor(count) as pool:
            won = list(pool.map(put, range(count)))
        assert sum(won) == 1
        assert content_of(store, "race/key") == bytes([won.index(True)]) * 1000

    def test_what_is_evicted_is_read_as_before(self) -> None:
        store = self.make_store()
        store.evict("a")  # is not there
        store.put("a", b"content")
        reader = store.open("a")
        store.evict("a")
        assert bytes(reader.read(0, 7)) == b"content"
        reader.close()
        assert content_of(store, "a") == b"content"

    def test_an_open_object_outlives_its_deletion(self) -> None:
        store = self.make_store()
        store.put("a", b"abc" * 5000)
        reader = store.open("a")
        store.delete("a")
        store.delete("a")
        assert keys_of(store) == []
        expect(NotFoundError, store.open, "a")
        assert reader.read(0, 15000) == b"abc" * 5000
        reader.close()
        store.put("a", b"new")
        assert content_of(store, "a") == b"new"

    def test_listing_is_sorted_and_filtered(self) -> None:
        store = self.make_store()
        keys = ["b", "a/b/c", "a-b", "a.b", "a/b-c", "a/b.c", "a0", "B", "a/c", "aa/x", "a_/y"]
        for number, key in enumerate(keys):
            store.put(key, b"x" * number)
        assert {entry.key: entry.size for entry in store.list()} == {
            key: number for number, key in enumerate(keys)
        }
        assert all(entry.modified_us > 1_500_000_000_000_000 for entry in store.list())
        for prefix in ("", "a", "a/", "a/b", "a/b/", "a/b/c", "a-", "x", "../", "/", "a//", "b/"):
            wanted = sorted(key for key in keys if key.startswith(prefix))
            assert keys_of(store, prefix) == wanted, prefix

    def test_sweep_leaves_objects_and_living_writers_alone(self) -> None:
        store = self.make_store()
        store.put("packs/done", b"done")
        writer = store.create("packs/open")
        writer.write(b"half")
        assert store.sweep() == 0
        writer.write(b" and half")
        writer.commit()
        assert store.sweep() == 0
        assert content_of(store, "packs/done") == b"done"
        assert content_of(store, "packs/open") == b"half and half"
