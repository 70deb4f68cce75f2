"""What "keep each tensor once, compress it with zipnn" would store: a yardstick, not a tool.

Files are cut as the store cuts them: tensors where a parser finds them, content-defined chunks of
64 KiB elsewhere. Each distinct piece counts once. Float tensors go through zipnn by their element
type, each one alone and read back; where zipnn does not take a type, and for everything that is no
tensor, zstd -3 is used. What a piece does not gain it keeps: it counts at most its own size. Names,
manifests and an index are not counted.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3
from context import Context
from measure import run as run_command
from peers import UnavailableError
from peers.peer import python_with
from peers.zipnn import TORCH

from hartonomous.codecs.zstd import ZstdCodec
from hartonomous.core.chunking import cut_lengths
from hartonomous.core.description import Tensor
from hartonomous.core.manifest import partition
from hartonomous.core.record import FRAME_BYTES
from hartonomous.formats import detect
from hartonomous.formats.reader import FileReader

ZIPNN_TYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_BLOCK_BYTES = 4 << 20
_READ_LIMIT_BYTES = 256 << 20
_ZIPNN = """
import json, sys
from zipnn import ZipNN
total = 0
for line in open(sys.argv[1]):
    path, offset, length, kind = json.loads(line)
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read(length)
    assert len(data) == length
    # zipnn works in place on what it is given.
    small = bytes(ZipNN(bytearray_dtype=kind, input_format="byte").compress(bytearray(data)))
    back = ZipNN(bytearray_dtype=kind, input_format="byte").decompress(small)
    assert bytes(back) == data, "zipnn gave other bytes back"
    total += min(len(small), length)
print(total)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Distinct bytes and what they take: by zipnn, other tensors, and what is no tensor."""

    zipnn_plain: int
    zipnn_stored: int
    other_plain: int
    other_stored: int
    rest_plain: int
    rest_stored: int

    @property
    def stored_bytes(self) -> int:
        """What the reference stores in all."""
        return self.zipnn_stored + self.other_stored + self.rest_stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A piece of a file; ``dtype`` is None where it is no tensor.

    ``names`` are those of all tensors that are exactly this range, ``shape`` that of the first.
    """

    path: Path
    offset: int
    length: int
    dtype: str | None
    names: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()

    def read(self) -> bytes:
        """Return its bytes."""
        return b"".join(_blocks(self.path, self.offset, self.length))


def references(context: Context, parts: Mapping[str, Sequence[Path]]) -> dict[str, Reference]:
    """Cut, keep each piece once and compress; raises UnavailableError where zipnn cannot be had.

    A piece that two parts hold counts for the first.
    """
    python = python_with("zipnn", context.tools, first=TORCH)
    seen: set[bytes] = set()
    return {
        part: _reference(context, python, list(distinct(paths, seen)))
        for part, paths in parts.items()
    }


def _reference(context: Context, python: Path, cuts: Sequence[Cut]) -> Reference:
    floats = [one for one in cuts if one.dtype in ZIPNN_TYPES]
    others = [one for one in cuts if one.dtype not in (None, *ZIPNN_TYPES)]
    rest = [one for one in cuts if one.dtype is None]
    return Reference(
        zipnn_plain=_length(floats), zipnn_stored=by_zipnn(context, python, floats),
        other_plain=_length(others), other_stored=sum(map(_by_zstd, others)),
        rest_plain=_length(rest), rest_stored=sum(map(_by_zstd, rest)),
    )  # fmt: skip


def distinct(paths: Sequence[Path], seen: set[bytes]) -> Iterator[Cut]:
    """Yield each piece of files and folders whose digest is not in ``seen``, and add that to it."""
    for path in paths:
        for cut in cuts(path):
            name = _digest(cut)
            if cut.length and name not in seen:
                seen.add(name)
                yield cut


def cuts(path: Path) -> Iterator[Cut]:
    """Yield the pieces of a file, or of all files of a folder, in order."""
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    for file in files:
        yield from _cuts(file)


def _cuts(path: Path) -> Iterator[Cut]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        reader = FileReader(descriptor, limit_bytes=_READ_LIMIT_BYTES)
        described = detect.describe(reader, path.name)
    finally:
        os.close(descriptor)
    ranges: dict[tuple[int, int], list[Tensor]] = {}
    for tensor in described.tensors:
        ranges.setdefault((tensor.offset, tensor.length), []).append(tensor)
    for piece in partition(path.stat().st_size, described.tensors):
        if piece.dtype is not None:
            there = ranges[piece.offset, piece.length]
            yield Cut(
                path=path, offset=piece.offset, length=piece.length, dtype=piece.dtype,
                names=tuple(one.name for one in there), shape=there[0].shape,
            )  # fmt: skip
            continue
        at = piece.offset
        for length in cut_lengths(_blocks(path, piece.offset, piece.length)):
            yield Cut(path=path, offset=at, length=length, dtype=None)
            at += length


def _blocks(path: Path, offset: int, length: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while length:
            block = file.read(min(length, _BLOCK_BYTES))
            if not block:
                raise OSError(f"{path} became shorter while it was read")
            length -= len(block)
            yield block


def _digest(cut: Cut) -> bytes:
    hasher = blake3()
    for block in _blocks(cut.path, cut.offset, cut.length):
        hasher.update(block)
    return hasher.digest()


def _by_zstd(cut: Cut) -> int:
    """Return what a piece takes in frames as the store writes them."""
    codec, stored = ZstdCodec(), 0
    for block in _blocks(cut.path, cut.offset, cut.length):
        view = memoryview(block)
        for start in range(0, len(view), FRAME_BYTES):
            frame = view[start : start + FRAME_BYTES]
            payload = codec.encode(frame, cut.dtype)
            stored += len(frame) if payload is None else len(payload)
    return stored


def by_zipnn(context: Context, python: Path, cuts: Sequence[Cut]) -> int:
    """Return what float tensors take through zipnn, each one alone and read back."""
    listing = context.work / "tensors.jsonl"
    rows = ([str(one.path), one.offset, one.length, ZIPNN_TYPES[one.dtype or ""]] for one in cuts)
    listing.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = run_command([str(python), "-c", _ZIPNN, str(listing)])
    listing.unlink()
    if not done.ok:
        raise UnavailableError(f"zipnn ended with {done.exit_code}: {done.output}")
    return int(done.output.split()[-1])


def _length(cuts: Sequence[Cut]) -> int:
    return sum(one.length for one in cuts)
