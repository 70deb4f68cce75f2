"""Every way of reading gives the bytes of the file, whatever way they lie in packs."""

import subprocess
import sys
import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import stored_model as model
from disk import pack_paths, records_of
from hypothesis import given, settings
from hypothesis import strategies as st

import hartonomous as hn
from hartonomous.core.record import FRAME_BYTES, Encoding, RecordKind
from hartonomous.errors import IntegrityError, UsageError
from hartonomous.packs.write_out import PIECE_BYTES

CONTENT = model.model_bytes()
TENSORS = model.tensors()
LONG = [name for name, array in TENSORS.items() if array.nbytes > 1000]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The directory of a store with the model, in packs of 1 MiB."""
    folder = tmp_path_factory.mktemp("ways")
    (folder / model.NAME).write_bytes(CONTENT)
    with hn.open(folder / "store", create=True, settings={"pack_bytes": model.PACK_BYTES}) as store:
        store.add(folder / model.NAME)
    return folder / "store"


@pytest.fixture(scope="module")
def kept(place):
    with hn.open(place) as store:
        yield store


@pytest.fixture(scope="module")
def tight(place):
    """The same store with a cache that holds two frames."""
    with hn.open(place, settings={"frame_cache_bytes": 2 * FRAME_BYTES + 1000}) as store:
        yield store


def test_the_model_lies_in_every_way(place):
    seen: dict[bytes, list] = {}
    for pack in pack_paths(place):
        for _, header in records_of(pack):
            if header.kind is RecordKind.EXTENT:
                seen.setdefault(header.digest, []).append(header)
    assert max(len(one) for one in seen.values()) > 2  # atoms larger than a pack
    several = {one[0].encoding for one in seen.values() if len(one) > 1}
    assert several == {Encoding.RAW, Encoding.FIELDS}
    raw_inside = [
        header
        for one in seen.values()
        for header in one
        if header.encoding is Encoding.FIELDS and FRAME_BYTES in header.frames["stored"]
    ]
    assert raw_inside


def ranges(size: int) -> st.SearchStrategy[tuple[int, int]]:
    """Draw (start, stop), often near borders of frames."""
    borders = st.integers(0, size // FRAME_BYTES).flatmap(
        lambda n: st.integers(-2, 2).map(lambda by: min(max(n * FRAME_BYTES + by, 0), size))
    )
    point = st.integers(0, size) | borders
    return st.tuples(point, point).map(lambda pair: (min(pair), max(pair)))


@pytest.mark.parametrize("way", model.FILE_WAYS)
@settings(max_examples=15)
@given(data=st.data())
def test_ranges_of_the_file(kept, tight, way, data):
    start, stop = data.draw(ranges(len(CONTENT)))
    store = data.draw(st.sampled_from([kept, tight]))
    assert model.FILE_WAYS[way](store, start, stop) == CONTENT[start:stop]


@pytest.mark.parametrize("way", model.TENSOR_WAYS)
@settings(max_examples=15)
@given(data=st.data())
def test_ranges_of_tensors(kept, tight, way, data):
    name = data.draw(st.sampled_from(LONG))
    content = TENSORS[name].tobytes()
    start, stop = data.draw(ranges(len(content)))
    store = data.draw(st.sampled_from([kept, tight]))
    assert model.TENSOR_WAYS[way](store, name, start, stop) == content[start:stop]


@pytest.mark.parametrize("way", model.ROW_WAYS)
@settings(max_examples=15)
@given(data=st.data())
def test_rows_of_tensors(kept, tight, way, data):
    name = data.draw(st.sampled_from([one for one in TENSORS if TENSORS[one].ndim]))
    array = TENSORS[name]
    point = st.integers(0, len(array))
    start, stop = sorted(data.draw(st.tuples(point, point)))
    store = data.draw(st.sampled_from([kept, tight]))
    found = model.ROW_WAYS[way](store, name, start, stop)
    assert found.dtype == array.dtype
    assert np.array_equal(found, array[start:stop])


@pytest.mark.parametrize("way", model.WHOLE_WAYS)
def test_the_whole_file(kept, tight, tmp_path, way):
    assert model.WHOLE_WAYS[way](kept, tmp_path) == CONTENT
    (tmp_path / "more").mkdir()
    assert model.WHOLE_WAYS[way](tight, tmp_path / "more") == CONTENT


def test_the_command_line(kept, tmp_path, capfdbinary):
    from hartonomous.cli.main import main

    assert main(["cat", model.NAME, "--store", str(kept.path)]) == 0
    assert capfdbinary.readouterr().out == CONTENT
    for name in ("long.coded", "long.raw"):
        assert main(["cat", model.NAME, name, "--bytes", "100:900000",
                     "--store", str(kept.path)]) == 0  # fmt: skip
        assert capfdbinary.readouterr().out == TENSORS[name].tobytes()[100:900_000]


@settings(max_examples=30)
@given(span=ranges(len(CONTENT)), size=st.integers(5000, 2 * PIECE_BYTES))
def test_pieces_partition_a_range(kept, span, size):
    start, stop = span
    reached = start
    for at, length in model.file_reader(kept).pieces(start, stop - start, size):
        assert at == reached
        assert 0 < length <= size
        reached += length
    assert reached == stop


@pytest.mark.parametrize("workers", [1, 3])
def test_a_restore_is_continued_where_it_stopped(place, tmp_path, workers):
    """Pieces are written in any order: what lies behind a gap is not taken for written."""
    with hn.open(place, settings={"workers": workers}) as store:
        (row,) = store.show(model.NAME).files
        digest = row.digest.removeprefix("blake3:")[:16]
        part = tmp_path / f".out.{digest}.part"
        holed = bytearray(CONTENT[: 3 * PIECE_BYTES])
        holed[PIECE_BYTES : 2 * PIECE_BYTES] = bytes(PIECE_BYTES)
        part.write_bytes(holed)
        report = store.get(model.NAME, tmp_path / "out")
    assert 0 < report.files[0].resumed_bytes <= PIECE_BYTES
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_threads_read_at_once(place):
    failed = []

    def read(seed: int, store: hn.Store) -> None:
        random = np.random.default_rng(seed)
        file = model.file_reader(store)
        for _ in range(60):
            start = int(random.integers(0, len(CONTENT)))
            stop = min(len(CONTENT), start + int(random.integers(1, 500_000)))
            if file.read(start, stop - start) != CONTENT[start:stop]:
                failed.append((start, stop))

    with hn.open(place, settings={"frame_cache_bytes": 4 * FRAME_BYTES}) as store:
        threads = [threading.Thread(target=read, args=(seed, store)) for seed in range(6)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert store.parts.frames.held_bytes <= 4 * FRAME_BYTES
    assert not failed


# -- buffers that are read into


def test_arrays_of_any_type_are_read_into(kept):
    reader = kept.tensor_reader(model.NAME, "coded")
    wanted = TENSORS["coded"]
    assert (reader.name, reader.dtype, reader.shape) == ("coded", "U16", wanted.shape)
    assert (reader.member, reader.logical_bytes) == (model.NAME, wanted.nbytes)
    assert "coded" in repr(reader)
    for dtype in (np.uint16, ml_dtypes.bfloat16, np.int8):
        out = np.zeros(wanted.nbytes // np.dtype(dtype).itemsize, dtype).reshape(3, -1)
        assert reader.decode_into(out) == wanted.nbytes
        assert out.tobytes() == wanted.tobytes()
    assert kept.tensor_reader(model.NAME, "empty").decode_into(bytearray()) == 0
    assert kept.tensor_reader(model.NAME, "empty").decode_into(np.zeros((0, 4), "f4")) == 0
    scalar = np.zeros(())
    kept.tensor_reader(model.NAME, "scalar").decode_into(scalar)
    assert scalar == 2.5


@pytest.mark.parametrize(
    ("buffer", "bytes_range", "message"),
    [
        (bytearray(10), None, "10 bytes, and 600000 are to be read"),
        (bytearray(10), (0, 9), "10 bytes, and 9 are"),
        (bytes(10), (0, 10), "read-only"),
        (memoryview(bytearray(20))[::2], (0, 10), "gaps"),
        (np.zeros((10, 2), np.uint8).T, (0, 20), "not C-contiguous"),
        (bytearray(10), (600_000, 600_010), "outside the tensor's 600000"),
    ],
)
def test_buffers_that_do_not_fit(kept, buffer, bytes_range, message):
    with pytest.raises(UsageError, match=message):
        kept.tensor_reader(model.NAME, "coded").decode_into(buffer, bytes_range)


def test_nothing_is_read_once_the_store_is_closed(place):
    with hn.open(place) as store:
        reader = store.tensor_reader(model.NAME, "raw")
        part = hn.safe_open(model.NAME, store=store).get_slice("raw")
        file = model.file_reader(store)
        reader.bytes()
    out = bytearray(700_000)
    for read in (lambda: reader.decode_into(out), reader.array, reader.bytes, lambda: part[:3]):
        with pytest.raises(UsageError, match="closed"):
            read()
    assert file.manifest.size == len(CONTENT)  # what needs no pack is there


# -- damage


@pytest.fixture(scope="module", params=["coded", "raw", "mixed", "long.raw", "long.coded"])
def damaged(request, tmp_path_factory):
    """A store one byte of which is wrong, in the last frame of a tensor, and that tensor's name."""
    folder = tmp_path_factory.mktemp("damaged")
    (folder / model.NAME).write_bytes(CONTENT)
    with hn.open(folder / "store", create=True, settings={"pack_bytes": model.PACK_BYTES}) as store:
        store.add(folder / model.NAME)
        tensor = store.tensors(model.NAME)[request.param]
    name = bytes.fromhex(tensor.digest.removeprefix("blake3:"))
    for path in pack_paths(folder / "store"):
        for _, header in records_of(path):
            if header.digest == name and header.position + header.length == header.total:
                spoil(path, header.offset + header.stored - 5)
    return folder / "store", request.param


def test_a_damaged_frame_is_an_error_in_every_way(damaged, tmp_path):
    place, name = damaged
    array = TENSORS[name]
    at = CONTENT.index(array.tobytes())
    size = array.nbytes
    with hn.open(place) as store:
        for way, read in model.FILE_WAYS.items():
            for start, stop in ((at, at + size), (at + size - 9, at + size)):
                with pytest.raises(IntegrityError):
                    print(way, start, stop, len(read(store, start, stop)))
        for way, read in model.TENSOR_WAYS.items():
            for start in (0, size - 9, size - FRAME_BYTES):
                with pytest.raises(IntegrityError):
                    print(way, start, len(read(store, name, start, size)))
        for way, read in model.ROW_WAYS.items():
            for start in (0, len(array) - 1):
                with pytest.raises(IntegrityError):
                    print(way, start, read(store, name, start, len(array)))
        for way, read in model.WHOLE_WAYS.items():
            with pytest.raises(IntegrityError):
                print(way, len(read(store, tmp_path)))
    assert not [one for one in tmp_path.iterdir() if one.suffix != ".part"]


@pytest.mark.parametrize("name", ["coded", "raw"])
def test_verify_looks_at_the_disk_not_at_the_cache(tmp_path, name):
    (tmp_path / model.NAME).write_bytes(CONTENT)
    with hn.open(tmp_path / "store", create=True) as store:
        store.add(tmp_path / model.NAME)
        size = TENSORS[name].nbytes
        for start in range(0, size, 100_000):  # all its frames are in the cache now
            model.by_reader(store, name, start, min(start + 100_000, size))
        wanted = store.tensors(model.NAME)[name].digest
        for path in pack_paths(store.path):
            for _, header in records_of(path):
                if f"blake3:{header.digest.hex()}" == wanted:
                    spoil(path, header.offset + header.stored - 5)
        assert any(wanted in fault.where for fault in store.verify().faults)


def spoil(path: Path, at: int) -> None:
    """Change a byte where it lies, under the mappings that are open."""
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 4]))


# -- memory


_RESTORE = """
import os, sys, threading, time
import hartonomous as hn
def anon():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) * 1024
with hn.open(sys.argv[1], settings={"workers": 4}) as store:
    store.get("small", sys.argv[2] + "/small")  # what is loaded once is loaded
    before, seen, done = anon(), [0], threading.Event()
    def watch():
        while not done.wait(0.002):
            seen[0] = max(seen[0], anon())
    thread = threading.Thread(target=watch)
    thread.start()
    store.get("large", sys.argv[2] + "/large")
    done.set()
    thread.join()
    print(max(0, seen[0] - before))
"""


def test_a_restore_takes_memory_for_its_buffers_only(tmp_path):
    size = 128 << 20
    zeros = np.zeros(size // 4, np.float32)
    with hn.open(tmp_path / "store", create=True, settings={"workers": 2}) as store:
        hn.save_file({"w": zeros}, "large", store=store)
        hn.save_file({"w": zeros[:100]}, "small", store=store)
    done = subprocess.run(
        [sys.executable, "-c", _RESTORE, str(tmp_path / "store"), str(tmp_path)],
        capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(Path(hn.__file__).parents[1])},
    )  # fmt: skip
    assert int(done.stdout) < size // 2
    assert (tmp_path / "large").stat().st_size > size
