"""The codec DELTA beside XOR, byte planes and zstd -3, on the same pairs, in the same process.

Pairs are a base and its fine-tune of the family, where that is built; else real weights and the
same moved as Adam moves them (a step of about one size for every weight, a tenth of the rows
untouched but for weight decay), which needs no training. Both codecs work in frames of 256 KiB;
rounds alternate, the best of each counts.
"""

import json
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from context import Context
from numpy.typing import NDArray

from hartonomous.codecs.delta import DeltaCodec
from hartonomous.core.record import FRAME_BYTES

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_CASTS: dict[str, Any] = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32}
_PAIRS = (("minilm", "minilm-tuned-100"), ("llama", "llama-decay-100"), ("llama", "llama-half-100"))
_ROUNDS = 3
_CALL_FRAMES = 16
_STEP, _DECAY = 2e-5, 1e-5
Floats = NDArray[np.float32]
Row = list[str | float]
HEAD = ["pair", "type", "codec", "ratio", "encode GB/CPU-s", "decode GB/CPU-s"]


def rows(context: Context, weights: Floats) -> Iterator[Row]:
    """Yield a row of figures for each pair, type and codec."""
    most = (2 << 20) if context.quick else (8 << 20)
    for name, base, tuned in _pairs(context.family / "members", weights):
        for dtype, kind in _CASTS.items():
            before, after = (one[:most].astype(kind).tobytes() for one in (base, tuned))
            rounds = [
                (_deltas(before, after, dtype), _planes(before, after, np.dtype(kind).itemsize))
                for _ in range(_ROUNDS)
            ]
            for codec, some in zip(
                ("hartonomous", "xor, planes, zstd -3"), zip(*rounds, strict=True), strict=True
            ):
                yield [name, dtype, codec, *(max(figures) for figures in zip(*some, strict=True))]


def _pairs(members: Path, weights: Floats) -> Iterator[tuple[str, Floats, Floats]]:
    found = False
    for base, tuned in _PAIRS:
        paths = [members / one / "model.safetensors" for one in (base, tuned)]
        if all(path.exists() for path in paths):
            found = True
            before, after = (dict(tensors(path)) for path in paths)
            names = [name for name in before if name in after]
            yield (
                tuned,
                *(np.concatenate([side[name] for name in names]) for side in (before, after)),
            )
    if not found:
        random = np.random.default_rng(1)
        moved = weights + (random.standard_normal(weights.size) * _STEP).astype(np.float32)
        rows_ = (weights * np.float32(1 - _DECAY)).reshape(-1, 256)
        tuned_rows = moved.reshape(-1, 256)
        untouched = random.random(len(rows_)) < 0.1
        yield "moved at random", weights, np.where(untouched[:, None], rows_, tuned_rows).ravel()


def tensors(path: Path) -> Iterator[tuple[str, Floats]]:
    """Yield (name, numbers) of a safetensors file's tensors of F32 and BF16."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    for name, one in json.loads(content[8 : 8 + length]).items():
        kind = {"F32": np.dtype("<f4"), "BF16": np.dtype(ml_dtypes.bfloat16)}.get(
            one.get("dtype", "")
        )
        if kind is not None:
            start, end = one["data_offsets"]
            numbers = np.frombuffer(
                content, kind, (end - start) // kind.itemsize, 8 + length + start
            )
            yield name, numbers.astype(np.float32)


def _cuts(content: bytes) -> list[memoryview]:
    view = memoryview(content)
    return [view[at : at + FRAME_BYTES] for at in range(0, len(view), FRAME_BYTES)]


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.process_time()
    result = work()
    return time.process_time() - begun, result


def _deltas(before: bytes, after: bytes, dtype: str) -> tuple[float, float, float]:
    """Return ratio, GB encoded and decoded a CPU-second."""
    codec, stored, encode_s, decode_s = DeltaCodec(), 0, 0.0, 0.0
    frames, predictions = _cuts(after), _cuts(before)
    outs = [memoryview(bytearray(FRAME_BYTES)) for _ in range(_CALL_FRAMES)]
    for first in range(0, len(frames), _CALL_FRAMES):
        these, expected = (some[first : first + _CALL_FRAMES] for some in (frames, predictions))
        positions = [k * FRAME_BYTES for k in range(first, first + len(these))]
        took, coded = _timed(
            lambda f=these, p=expected, at=positions: codec.encode_many(f, p, dtype, positions=at)
        )
        encode_s += took
        stored += sum(
            len(cut) if one is None else len(one) for one, cut in zip(coded, these, strict=True)
        )
        kept = [k for k, one in enumerate(coded) if one is not None]
        payloads = [memoryview(coded[k]) for k in kept]
        targets = [outs[k][: len(these[k])] for k in kept]
        took, _ = _timed(
            lambda p=payloads, e=[expected[k] for k in kept], t=targets: codec.decode_many(p, e, t)
        )
        decode_s += took
        assert all(out == these[k] for out, k in zip(targets, kept, strict=True))
    return _figures(len(after), stored, encode_s, decode_s)


def _planes(before: bytes, after: bytes, width: int) -> tuple[float, float, float]:
    stored, encode_s, decode_s = 0, 0.0, 0.0
    for frame, prediction in zip(_cuts(after), _cuts(before), strict=True):
        took, coded = _timed(lambda f=frame, p=prediction: _encode_planes(f, p, width))
        encode_s += took
        stored += len(coded)
        took, back = _timed(lambda c=coded, p=prediction: _decode_planes(c, p, width))
        decode_s += took
        assert back == frame
    return _figures(len(after), stored, encode_s, decode_s)


def _encode_planes(frame: memoryview, prediction: memoryview, width: int) -> bytes:
    changed = np.frombuffer(frame, np.uint8) ^ np.frombuffer(prediction, np.uint8)
    return zstd.compress(np.ascontiguousarray(changed.reshape(-1, width).T), 3)


def _decode_planes(coded: bytes, prediction: memoryview, width: int) -> bytes:
    changed = np.frombuffer(zstd.decompress(coded), np.uint8).reshape(width, -1).T
    return (changed.reshape(-1) ^ np.frombuffer(prediction, np.uint8)).tobytes()


def _figures(
    size: int, stored: int, encode_s: float, decode_s: float
) -> tuple[float, float, float]:
    return size / stored, size / encode_s / 1e9, size / decode_s / 1e9
