"""Writes the files that are measured: safetensors of normally distributed weights, small files.

The same arguments give the same bytes on every machine. Weights are bf16 or f32 drawn from a normal
distribution: like trained ones they compress a little, and no two blocks are equal. Written in
pieces, so that a file may be larger than memory.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_PIECE_ELEMENTS = 8 * 1024 * 1024
_BYTES = {"BF16": 2, "F32": 4, "NOISE": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeTensor:
    """One tensor to write: its name, dtype and number of elements.

    BF16 or F32; NOISE is bytes that nothing can make smaller, written as U8.
    """

    name: str
    dtype: str
    elements: int

    @property
    def size_bytes(self) -> int:
        """Bytes in the file."""
        return self.elements * _BYTES[self.dtype]


def write_safetensors(path: Path, tensors: Sequence[MadeTensor], *, seed: int) -> Path:
    """Write the tensors in order; a file that is there already is kept. Return the path."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as out:
        out.write(_header(tensors))
        random = np.random.Generator(np.random.SFC64(seed))
        for dtype, count in _runs(tensors):
            for piece in _weights(random, dtype, count):
                out.write(memoryview(piece).cast("B"))
    part.rename(path)
    return path


def large_tensors(total_bytes: int) -> list[MadeTensor]:
    """Return three quarters of ``total_bytes`` in one bf16 tensor, the rest in 64 and 4 others."""
    eighth = total_bytes // 8
    one = MadeTensor(name="model.embed.weight", dtype="BF16", elements=6 * eighth // 2)
    blocks = [
        MadeTensor(name=f"model.layers.{i}.mlp.weight", dtype="BF16", elements=eighth // 64 // 2)
        for i in range(64)
    ]
    heads = [
        MadeTensor(name=f"model.heads.{i}.weight", dtype="F32", elements=eighth // 4 // 4)
        for i in range(4)
    ]
    return [one, *blocks, *heads]


def equal_tensors(total_bytes: int, count: int) -> list[MadeTensor]:
    """Return ``total_bytes`` of bf16 in ``count`` tensors; the data is the same for any count."""
    elements = total_bytes // count // 2
    return [
        MadeTensor(name=f"model.layers.{i // 10}.part.{i % 10}.weight", dtype="BF16",
                   elements=elements)
        for i in range(count)
    ]  # fmt: skip


def write_small_files(folder: Path, count: int, *, seed: int) -> list[Path]:
    """Write ``count`` files of 1 to 8 KiB, each different, in folders of 100; return them."""
    random = np.random.Generator(np.random.SFC64(seed))
    paths = []
    for index in range(count):
        path = folder / f"{index // 100:03d}" / f"note-{index:05d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Hex digits: text that compresses to half, as notes and configurations do.
        path.write_text(random.bytes(int(random.integers(512, 4096))).hex(), encoding="ascii")
        paths.append(path)
    return paths


def warm(paths: Sequence[Path]) -> None:
    """Read files once, so that each tool finds them in the page cache alike."""
    buffer = bytearray(8 * 1024 * 1024)
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                with file.open("rb", buffering=0) as source:
                    while source.readinto(buffer):
                        pass


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder (links are not followed)."""
    if not path.is_dir():
        return path.lstat().st_size if path.exists() else 0
    total = 0
    for folder, _, files in os.walk(path):
        total += sum((Path(folder) / name).lstat().st_size for name in files)
    return total


def _header(tensors: Sequence[MadeTensor]) -> bytes:
    entries = {}
    at = 0
    for one in tensors:
        end = at + one.size_bytes
        entries[one.name] = {
            "dtype": "U8" if one.dtype == "NOISE" else one.dtype,
            "shape": [one.elements],
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _runs(tensors: Sequence[MadeTensor]) -> Iterator[tuple[str, int]]:
    """Yield (dtype, elements) of neighbours of one dtype, whose bytes are made as one stream."""
    dtype, count = "", 0
    for one in tensors:
        if one.dtype != dtype:
            if count:
                yield dtype, count
            dtype, count = one.dtype, 0
        count += one.elements
    if count:
        yield dtype, count


def _weights(random: np.random.Generator, dtype: str, count: int) -> Iterator[np.ndarray]:
    for start in range(0, count, _PIECE_ELEMENTS):
        size = min(_PIECE_ELEMENTS, count - start)
        if dtype == "NOISE":
            yield np.frombuffer(random.bytes(size), np.uint8)
            continue
        piece = random.standard_normal(size, dtype=np.float32)
        piece *= np.float32(0.02)
        # The upper half of a little-endian f32 is its bf16, rounded towards zero.
        yield piece.view("<u2")[1::2].copy() if dtype == "BF16" else piece
