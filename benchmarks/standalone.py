"""The family's tensors each on its own, by element type, beside what compresses without a store.

Every distinct tensor counts once, in frames as the store writes them, raw where the gain is under
two percent. Floats stand beside zipnn, which gets each tensor whole; fp8, integers and quantised
types beside zstd -19, which does too, and beside zstd -3. FP8, which the family lacks, is made of
the bases' weights, each row divided by its largest value and rounded. Every frame is decoded and
compared. CPU-seconds are of this process, in one thread; rates of zipnn are those of ``codec``.
"""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from context import Context, Result
from family import build, definition
from peers import UnavailableError
from peers.peer import python_with
from peers.zipnn import TORCH
from tables import megabytes, table
from tensor_reference import ZIPNN_TYPES, Cut, by_zipnn, distinct

from hartonomous.codecs.choice import choose, codec_for
from hartonomous.core.record import FRAME_BYTES, Encoding
from hartonomous.ports.codec import Codec

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_CALL_FRAMES = 16
_LEAST_BYTES = 4096
_QUICK_BYTES = 8 << 20
_FP8 = {"F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2}
_FP8_LARGEST = 448.0
_HEAD = [
    "type", "tensors", "MB", "ratio", "zipnn", "over zipnn", "zstd -19", "zstd -3",
    "encode GB/CPU-s", "decode GB/CPU-s",
]  # fmt: skip


@dataclass(slots=True)
class Taken:
    """Tensors of one type: what they take in each way, and CPU-seconds of this codec."""

    count: int = 0
    plain_bytes: int = 0
    stored_bytes: int = 0
    zstd19_bytes: int = 0
    zstd3_bytes: int = 0
    encode_s: float = 0.0
    decode_s: float = 0.0


def run(context: Context) -> Result:
    """Measure every type that the family has; 8 MiB of each when quick."""
    cuts = _cuts(context)
    if not cuts:
        text = f"standalone: not run: nothing is built in {context.family}; make family\n"
        return Result(text=text, figures={"not_run": text})
    by_type: dict[str, list[Cut]] = {}
    for one in cuts:
        by_type.setdefault(one.dtype or "", []).append(one)
    rows: list[list[object]] = []
    note = ""
    for dtype in sorted(by_type, key=lambda name: (name not in ZIPNN_TYPES, name)):
        some = _quick(by_type[dtype]) if context.quick else by_type[dtype]
        print(f"standalone: {dtype}", file=sys.stderr, flush=True)
        taken = _taken((one.read() for one in some), dtype)
        peer = None
        if dtype in ZIPNN_TYPES:
            try:
                peer = by_zipnn(context, python_with("zipnn", context.tools, first=TORCH), some)
            except UnavailableError as error:
                note = f"zipnn: not run: {error}\n"
        rows.append(_row(dtype, taken, peer))
    floats = [one for one in by_type.get("F32", []) if len(one.shape) == 2][:40]
    for dtype, kind in _FP8.items():
        rows.append(_row(f"{dtype} (made)", _taken(_rounded(floats, kind), dtype), None))
    title = "standalone: each distinct tensor of the family on its own, goal 0.999 of zipnn"
    return Result(text=table(title, _HEAD, rows) + note, figures={str(row[0]): row for row in rows})


def _cuts(context: Context) -> list[Cut]:
    members = [build.path_of(context.family, one) for one in definition.load().members]
    found = distinct([path for path in members if path.exists()], set())
    return [one for one in found if one.dtype is not None and one.length >= _LEAST_BYTES]


def _quick(cuts: Sequence[Cut]) -> list[Cut]:
    some, size = [], 0
    for one in cuts:
        if not some or size + one.length <= _QUICK_BYTES:
            some.append(one)
            size += one.length
    return some


def _rounded(cuts: Sequence[Cut], kind: Any) -> Iterator[bytes]:
    """Yield matrices as FP8, each row with a scale of its own, which is not counted."""
    for one in cuts:
        values = np.frombuffer(one.read(), np.float32).reshape(one.shape)
        largest = np.abs(values).max(axis=1, keepdims=True)
        scales = np.where(largest > 0, largest, 1) / np.float32(_FP8_LARGEST)
        yield (values / scales).astype(kind).tobytes()


def _taken(contents: Iterable[bytes], dtype: str) -> Taken:
    taken = Taken()
    for content in contents:
        view = memoryview(content)
        frames = [view[at : at + FRAME_BYTES] for at in range(0, len(view), FRAME_BYTES)]
        encoding = choose(frames, dtype)
        taken.count += 1
        taken.plain_bytes += len(content)
        if encoding is Encoding.RAW:
            taken.stored_bytes += len(content)
        else:
            for first in range(0, len(frames), _CALL_FRAMES):
                _add_frames(taken, codec_for(encoding), frames, first, dtype)
        if dtype not in ZIPNN_TYPES:
            taken.zstd19_bytes += min(len(content), len(zstd.compress(content, 19)))
            taken.zstd3_bytes += min(len(content), len(zstd.compress(content, 3)))
    return taken


def _add_frames(
    taken: Taken, codec: Codec, frames: Sequence[memoryview], first: int, dtype: str
) -> None:
    """Encode some frames, decode and compare them, and count."""
    some = frames[first : first + _CALL_FRAMES]
    positions = [(first + index) * FRAME_BYTES for index in range(len(some))]
    began = time.process_time()
    coded = codec.encode_many(some, dtype, positions=positions)
    taken.encode_s += time.process_time() - began
    pairs = [(memoryview(one), cut) for one, cut in zip(coded, some, strict=True) if one]
    outs = [memoryview(bytearray(len(cut))) for _, cut in pairs]
    began = time.process_time()
    codec.decode_many([one for one, _ in pairs], outs)
    taken.decode_s += time.process_time() - began
    if any(out != cut for out, (_, cut) in zip(outs, pairs, strict=True)):
        raise ValueError(f"a frame of {dtype} came back changed")
    taken.stored_bytes += sum(
        len(one) if one else len(cut) for one, cut in zip(coded, some, strict=True)
    )


def _row(dtype: str, taken: Taken, peer: int | None) -> list[object]:
    plain = taken.plain_bytes

    def ratio(stored: int | None) -> float | None:
        return plain / stored if stored else None

    return [
        dtype, taken.count, megabytes(plain), ratio(taken.stored_bytes), ratio(peer),
        peer / taken.stored_bytes if peer else None,
        ratio(taken.zstd19_bytes), ratio(taken.zstd3_bytes),
        plain / taken.encode_s / 1e9 if taken.encode_s else None,
        plain / taken.decode_s / 1e9 if taken.decode_s else None,
    ]  # fmt: skip
