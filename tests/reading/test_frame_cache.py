"""The cache of frames: bounded, shared, not washed out by whole reads; frames decoded together."""

import threading
from collections import OrderedDict

import numpy as np
import pytest
import stored_model as model
from hypothesis import given
from hypothesis import strategies as st

import hartonomous as hn
from hartonomous.codecs.choice import codec_for
from hartonomous.core.record import FRAME_BYTES, Encoding
from hartonomous.errors import DecodeError
from hartonomous.packs import frame_batch
from hartonomous.packs.bounded_cache import ENTRY_BYTES, BoundedCache

CONTENT = model.model_bytes()
TENSORS = model.tensors()


@pytest.fixture
def filled(tmp_path):
    (tmp_path / model.NAME).write_bytes(CONTENT)
    with hn.open(tmp_path / "store", create=True) as store:
        store.add(tmp_path / model.NAME)
        store.parts.frames.clear()
        yield store


@given(
    limit=st.integers(0, 20 * ENTRY_BYTES),
    calls=st.lists(st.tuples(st.booleans(), st.integers(0, 12), st.integers(0, 5 * ENTRY_BYTES))),
)
def test_it_is_a_dictionary_that_forgets_what_was_used_longest_ago(limit, calls):
    cache: BoundedCache[int, int] = BoundedCache(limit)
    expected: OrderedDict[int, int] = OrderedDict()
    for put, key, size in calls:
        if put:
            cache.put(key, size, size)
            if size + ENTRY_BYTES <= limit:
                expected.pop(key, None)
                expected[key] = size
                while sum(expected.values()) + ENTRY_BYTES * len(expected) > limit:
                    expected.popitem(last=False)
        else:
            assert cache.get(key) == expected.get(key)
            if key in expected:
                expected.move_to_end(key)
        assert len(cache) == len(expected)
        assert cache.held_bytes == sum(expected.values()) + ENTRY_BYTES * len(expected) <= limit
    cache.clear()
    assert (len(cache), cache.held_bytes) == (0, 0)


def test_threads_may_share_it():
    cache: BoundedCache[int, int] = BoundedCache(50 * (ENTRY_BYTES + 100))
    wrong = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for key in random.integers(0, 100, 3000).tolist():
            cache.put(key, key, 100)
            found = cache.get(int(random.integers(0, 100)))
            if cache.held_bytes > cache.limit_bytes + 100 or (found is not None and found > 99):
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not wrong
    assert len(cache) == 50


def test_a_part_of_a_frame_is_decoded_once(filled, monkeypatch):
    decoded = []
    real = frame_batch.codec_for

    def counting(*given):
        decoded.append(given)
        return real(*given)

    monkeypatch.setattr(frame_batch, "codec_for", counting)
    wanted = TENSORS["coded"].tobytes()
    reader = filled.tensor_reader(model.NAME, "coded")
    filled.parts.frames.clear()
    decoded.clear()
    for start in range(0, FRAME_BYTES, 4096):
        assert bytes(reader.bytes((start, start + 4096))) == wanted[start : start + 4096]
    assert len(decoded) == 1
    # Whoever reads it, and by whatever name: the cache belongs to the store.
    assert model.by_tensor_bytes(filled, "coded", 5, 99) == wanted[5:99]
    assert np.array_equal(model.by_safe_open(filled, "coded", 3, 9), TENSORS["coded"][3:9])
    at = CONTENT.index(wanted)
    assert model.by_file(filled, at + 7, at + 900) == wanted[7:900]
    assert len(decoded) == 1


def test_whole_reads_leave_the_cache_as_it_is(filled, tmp_path):
    frames = filled.parts.frames
    hot = filled.tensor_reader(model.NAME, "coded")
    hot.bytes((0, 10))
    before = (len(frames), frames.held_bytes)
    assert before == (1, FRAME_BYTES + ENTRY_BYTES)
    assert np.array_equal(filled.tensor(model.NAME, "long.coded"), TENSORS["long.coded"])
    for read in model.WHOLE_WAYS.values():
        assert read(filled, tmp_path) == CONTENT
    assert b"".join(model.file_reader(filled).chunks()) == CONTENT
    assert (len(frames), frames.held_bytes) == before


@pytest.mark.parametrize("limit", [0, 1000, FRAME_BYTES, 2 * FRAME_BYTES, 6 * FRAME_BYTES])
def test_it_is_bounded_whatever_is_read(tmp_path, limit):
    (tmp_path / model.NAME).write_bytes(CONTENT)
    with hn.open(tmp_path / "store", create=True, settings={"frame_cache_bytes": limit}) as store:
        store.add(tmp_path / model.NAME)
        assert store.parts.frames.limit_bytes == limit
        for start in range(0, len(CONTENT), 70_000):
            stop = min(start + 70_000, len(CONTENT))
            assert model.by_file(store, start, stop) == CONTENT[start:stop]
            assert store.parts.frames.held_bytes <= limit
        if limit in (0, 2 * FRAME_BYTES):
            assert bool(len(store.parts.frames)) == bool(limit)


def test_it_is_a_part_of_the_memory_that_is_granted(tmp_path):
    with hn.open(tmp_path / "store", create=True) as store:
        assert store.parts.frames.limit_bytes == 64 << 20
    given = {"memory_limit_bytes": "64MiB", "frame_cache_bytes": "1GiB"}
    with hn.open(tmp_path / "store", settings=given) as store:
        assert store.parts.frames.limit_bytes == 16 << 20


# -- frames decoded together


class Counting:
    """The codec of an encoding, which notes how many frames each call decodes."""

    def __init__(self, batches: list[int], encoding: Encoding, recipe: int) -> None:
        self.batches = batches
        self._codec = codec_for(encoding, recipe)

    def decode_into(self, payload, out, params):
        raise AssertionError("frames were decoded one by one")

    def decode_many(self, payloads, outs, params=b""):
        self.batches.append(len(payloads))
        self._codec.decode_many(payloads, outs, params)


def test_a_codec_gets_the_frames_of_a_range_in_one_call(filled, monkeypatch):
    batches: list[int] = []
    monkeypatch.setattr(frame_batch, "codec_for", lambda *which: Counting(batches, *which))
    array = TENSORS["long.coded"]
    assert np.array_equal(filled.tensor(model.NAME, "long.coded"), array)
    assert max(batches) > 8
    assert max(batches) <= frame_batch.BATCH_FRAMES
    assert sum(batches) < 3 + -(-array.nbytes // FRAME_BYTES)  # and manifests
    batches.clear()
    border = 3 * FRAME_BYTES
    found = filled.tensor_bytes(model.NAME, "long.coded", bytes_range=(border - 100, border + 100))
    assert found == array.tobytes()[border - 100 : border + 100]
    assert batches == [2]


def test_what_a_codec_refuses_is_an_error(filled, monkeypatch):
    class Refusing(Counting):
        def decode_many(self, payloads, outs, params=b""):
            raise DecodeError("no")

    model.by_reader(filled, "coded", 0, 10)  # the manifest is read
    monkeypatch.setattr(frame_batch, "codec_for", lambda *which: Refusing([], *which))
    with pytest.raises(DecodeError):
        filled.tensor(model.NAME, "long.coded")
    with pytest.raises(DecodeError):
        filled.tensor_bytes(model.NAME, "long.coded", bytes_range=(5, 10))
    monkeypatch.undo()
    assert np.array_equal(filled.tensor(model.NAME, "long.coded"), TENSORS["long.coded"])
