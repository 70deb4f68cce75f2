"""A model whose tensors lie in every way that packs know, and every way of reading it."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import save

import hartonomous as hn
from hartonomous.core.record import FRAME_BYTES
from hartonomous.operations import read as reading
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.files import FileReader, load_manifest
from hartonomous.packs.open_files import find_version
from hartonomous.packs.tensor_names import find_tensor

NAME = "model.safetensors"
PACK_BYTES = 1 << 20
"""The smallest pack there is, so that the long tensors lie in several."""


def _noise(size: int, seed: int) -> np.ndarray:
    return np.frombuffer(np.random.default_rng(seed).bytes(size), np.uint8)


def _weights(size: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(size // 2).astype("<f4") * 0.02
    return (values.view("<u4") >> 16).astype("<u2")


def tensors() -> dict[str, np.ndarray]:
    zeros = np.zeros(FRAME_BYTES, np.uint8)
    noise = [_noise(FRAME_BYTES, seed) for seed in (4, 5)]
    return {
        "coded": _weights(600_000, 1).reshape(300, 1000),
        "empty": np.zeros((0, 4), np.float32),
        "long.coded": _weights(3_000_000, 2).reshape(1500, 1000),
        "long.raw": _noise(3_300_000, 3).reshape(3300, 1000),
        # Every other frame lies raw in a record that is encoded.
        "mixed": np.concatenate([zeros, noise[0], zeros, noise[1], zeros]),
        "raw": _noise(700_000, 6).reshape(700, 1000),
        "scalar": np.array(2.5),
        "small": np.arange(50, dtype=np.int64),
    }  # fmt: skip


def model_bytes() -> bytes:
    return save(tensors(), {"made": "by hand"})


def file_reader(store: hn.Store) -> FileReader:
    (one,) = find_version(store.parts, NAME).files
    atoms = AtomReader(store.parts)
    return FileReader(atoms, load_manifest(atoms, one.row))


def by_file(store: hn.Store, start: int, stop: int) -> bytes:
    with store.file(NAME) as file:
        file.seek(start)
        return file.read(stop - start)


def by_small_reads(store: hn.Store, start: int, stop: int) -> bytes:
    found = bytearray()
    with store.file(NAME) as file:
        file.raw.seek(start)
        while len(found) < stop - start:
            found += file.raw.read(min(40_000, stop - start - len(found)))
    return bytes(found)


def by_readinto(store: hn.Store, start: int, stop: int) -> bytes:
    out = bytearray(stop - start)
    with store.file(NAME) as file:
        file.seek(start)
        assert file.readinto(out) == len(out)
    return bytes(out)


def by_decode_into(store: hn.Store, start: int, stop: int) -> bytes:
    out = bytearray(stop - start)
    file_reader(store).decode_into(memoryview(out), start)
    return bytes(out)


def by_joined(read: str) -> Callable[[hn.Store, int, int], bytes]:
    def joined(store: hn.Store, start: int, stop: int) -> bytes:
        file = file_reader(store)
        if read == "chunks":
            return b"".join(file.chunks(start, stop - start, 300_000))
        return bytes(getattr(file, read)(start, stop - start))

    return joined


FILE_WAYS: dict[str, Callable[[hn.Store, int, int], bytes]] = {
    "file": by_file,
    "small reads": by_small_reads,
    "readinto": by_readinto,
    "decode_into": by_decode_into,
    "read": by_joined("read"),
    "view": by_joined("view"),
    "chunks": by_joined("chunks"),
}
"""Ways to read a range of the file."""


def by_tensor_bytes(store: hn.Store, name: str, start: int, stop: int) -> bytes:
    return bytes(store.tensor_bytes(NAME, name, bytes_range=(start, stop)))


def by_reader(store: hn.Store, name: str, start: int, stop: int) -> bytes:
    out = np.full(stop - start, 0xA5, np.uint8)
    assert store.tensor_reader(NAME, name).decode_into(out, slice(start, stop)) == stop - start
    return out.tobytes()


def by_raw_chunks(store: hn.Store, name: str, start: int, stop: int) -> bytes:
    _, place = find_tensor(store.parts, store.files, NAME, name)
    return b"".join(reading.raw_chunks(place, bytes_range=(start, stop)))


def by_atom(store: hn.Store, name: str, start: int, stop: int) -> bytes:
    _, place = find_tensor(store.parts, store.files, NAME, name)
    out = bytearray(stop - start)
    store.files.atoms.decode_into(place.digest, memoryview(out), start)
    return bytes(out)


TENSOR_WAYS: dict[str, Callable[[hn.Store, str, int, int], bytes]] = {
    "tensor_bytes": by_tensor_bytes,
    "tensor_reader": by_reader,
    "raw_chunks": by_raw_chunks,
    "atom": by_atom,
}
"""Ways to read a range of a tensor's bytes."""


def by_safe_open(store: hn.Store, name: str, start: int, stop: int) -> np.ndarray:
    with hn.safe_open(NAME, store=store) as file:
        return file.get_slice(name)[start:stop]


def by_npy(store: hn.Store, name: str, start: int, stop: int) -> np.ndarray:
    _, place = find_tensor(store.parts, store.files, NAME, name)
    return np.load(io.BytesIO(b"".join(reading.npy_chunks(place, rows=(start, stop)))))


ROW_WAYS: dict[str, Callable[[hn.Store, str, int, int], np.ndarray]] = {
    "tensor": lambda store, name, a, b: store.tensor(NAME, name, rows=(a, b)),
    "reader array": lambda store, name, a, b: store.tensor_reader(NAME, name).array(rows=(a, b)),
    "safe_open": by_safe_open,
    "npy": by_npy,
}
"""Ways to read rows of a tensor."""


def by_get(store: hn.Store, out: Path) -> bytes:
    store.get(NAME, out / "got")
    return (out / "got").read_bytes()


def by_path(store: hn.Store, out: Path) -> bytes:
    return Path(store.plain(NAME)).read_bytes()


def by_load_file(store: hn.Store, out: Path) -> bytes:
    return save(hn.load_file(NAME, store), {"made": "by hand"})


WHOLE_WAYS: dict[str, Callable[[hn.Store, Path], bytes]] = {
    "get": by_get,
    "path": by_path,
    "load_file": by_load_file,
}
"""Ways to read all of the file."""
