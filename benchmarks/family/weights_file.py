"""Reads and writes safetensors files by their specification, in any order of tensors.

The library always writes in its own order; a reordered file needs another. Reading trusts the file:
these are files that the benchmark made or whose digest it checked.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

MODEL_FILE = "model.safetensors"
DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16), "I64": np.dtype("<i8"), "I32": np.dtype("<i4"),
    "U8": np.dtype("u1"), "I8": np.dtype("i1"), "BOOL": np.dtype("?"),
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor of a file: ``dtype`` is the format's name; ``read`` gives its values."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], NDArray]

    @property
    def size_bytes(self) -> int:
        """Bytes in the file."""
        return int(np.prod(self.shape, dtype=np.int64)) * DTYPES[self.dtype].itemsize


def made(name: str, values: NDArray) -> Tensor:
    """Return a tensor of values in memory."""
    return Tensor(
        name=name, dtype=NAMES[values.dtype], shape=values.shape, read=lambda: values
    )  # fmt: skip


def read(path: Path) -> list[Tensor]:
    """Return a file's tensors in the order of their bytes."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    rows = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    return [_tensor(path, 8 + length, name, row) for name, row in rows]


def _tensor(path: Path, start: int, name: str, row: dict) -> Tensor:
    dtype, shape = DTYPES[row["dtype"]], tuple(row["shape"])
    at = start + row["data_offsets"][0]

    def values() -> NDArray:
        count = int(np.prod(shape, dtype=np.int64))
        return np.fromfile(path, dtype=dtype, count=count, offset=at).reshape(shape)

    return Tensor(name=name, dtype=row["dtype"], shape=shape, read=values)


def write(path: Path, tensors: Sequence[Tensor]) -> None:
    """Write tensors in the given order, with the metadata that Hugging Face's libraries write."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for one in tensors:
        end = at + one.size_bytes
        header[one.name] = {
            "dtype": one.dtype, "shape": list(one.shape), "data_offsets": [at, end]
        }  # fmt: skip
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("xb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for one in tensors:
            out.write(np.ascontiguousarray(one.read()).tobytes())


def library_order(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Sort as the safetensors library does: widest element type first, then by name."""
    return sorted(tensors, key=lambda one: (-DTYPES[one.dtype].itemsize, one.name))
