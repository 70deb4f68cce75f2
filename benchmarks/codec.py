"""The codec FIELDS beside zipnn on a real model's weights: ratio, and GB per CPU-second each way;
then, in deltas.py, the codec DELTA.

zipnn wants torch, so it is never installed here: make an environment with a CPU build of torch,
then zipnn, at ``benchmarks/out/tools/zipnn``. Both get the same bytes, in one thread, with memory
that is used again: zipnn in pieces of 4 MiB, where it was fastest, this codec in 16 frames a call.
Rounds alternate; the best round of each counts.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import deltas
import ml_dtypes
import numpy as np
from context import Context, Result
from tables import table

from hartonomous.codecs import kernel
from hartonomous.codecs.fields import FieldsCodec
from hartonomous.core.record import FRAME_BYTES
from hartonomous.errors import HartonomousError
from hartonomous.operations.demo_base import fetch_base

_CASTS = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32}
_ROUNDS = 4
_CALL_FRAMES = 16
_LEAST_TENSOR_BYTES = 1 << 20
_HEAD = ["type", "codec", "ratio", "encode GB/CPU-s", "decode GB/CPU-s"]
Figures = dict[str, float]


def run(context: Context) -> Result:
    """Measure each type; zipnn is left out where it is not installed."""
    folder = context.work / "codec"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        base = fetch_base(
            context.files / "family-base", cache=context.files, from_path=context.model
        )
    except HartonomousError as error:
        return Result(text=f"codec: not run: {error}\n", figures={"not_run": str(error)})
    numbers = _weights(base / "model.safetensors")[: (2 << 20) if context.quick else (8 << 20)]
    peer = context.tools / "zipnn" / "bin" / "python"
    figures: dict[str, dict[str, Figures]] = {}
    for dtype, kind in _CASTS.items():
        path = folder / f"{dtype}.bin"
        path.write_bytes(numbers.astype(kind).tobytes())
        figures[dtype] = _side_by_side(path, dtype, peer if peer.exists() else None)
    rows = [
        [dtype, name, one["ratio"], one["encode"], one["decode"]]
        for dtype, both in figures.items()
        for name, one in both.items()
    ]
    title = f"codec: {numbers.size:,} real weights, kernel {kernel.active().name}"
    text = table(title, _HEAD, rows)
    if not peer.exists():
        text += f"zipnn: not run: there is no {peer}\n"
    compared = list(deltas.rows(context, numbers))
    text += "\n" + table("codec: differences from a base", deltas.HEAD, compared)
    return Result(text=text, figures={**figures, "deltas": compared})


def _weights(path: Path) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    """Return the numbers of a safetensors file's larger F32 tensors, one after the other."""
    return np.concatenate(
        [one for _, one in deltas.tensors(path) if one.nbytes >= _LEAST_TENSOR_BYTES]
    )


def _side_by_side(path: Path, dtype: str, peer: Path | None) -> dict[str, Figures]:
    rounds: dict[str, list[Figures]] = {"hartonomous": [], "zipnn": []}
    for _ in range(_ROUNDS):
        rounds["hartonomous"].append(_ours(path.read_bytes(), dtype))
        if peer is not None:
            rounds["zipnn"].append(_zipnn(peer, path, dtype))
    return {
        name: {key: max(one[key] for one in some) for key in some[0]}
        for name, some in rounds.items()
        if some
    }


def _ours(content: bytes, dtype: str) -> Figures:
    view, codec = memoryview(content), FieldsCodec()
    cuts = [view[at : at + FRAME_BYTES] for at in range(0, len(view), FRAME_BYTES)]
    groups = [cuts[k : k + _CALL_FRAMES] for k in range(0, len(cuts), _CALL_FRAMES)]
    outs = [memoryview(bytearray(FRAME_BYTES)) for _ in range(_CALL_FRAMES)]
    stored, encode_s, decode_s = 0, 0.0, 0.0
    for group in groups:
        positions = [k * FRAME_BYTES for k in range(len(group))]
        took, coded = _timed(lambda g=group, p=positions: codec.encode_many(g, dtype, positions=p))
        encode_s += took
        pairs = [(memoryview(one), cut) for one, cut in zip(coded, group, strict=True) if one]
        stored += sum(
            len(cut) if one is None else len(one) for one, cut in zip(coded, group, strict=True)
        )
        targets = [out[: len(cut)] for out, (_, cut) in zip(outs, pairs, strict=False)]
        took, _ = _timed(lambda p=pairs, t=targets: codec.decode_many([one for one, _ in p], t))
        decode_s += took
        assert all(bytes(out) == cut for out, (_, cut) in zip(targets, pairs, strict=True))
    size = len(content)
    return {
        "ratio": size / stored, "encode": size / encode_s / 1e9, "decode": size / decode_s / 1e9
    }  # fmt: skip


def _timed(work: Callable[[], object]) -> tuple[float, object]:
    begun = time.process_time()
    result = work()
    return time.process_time() - begun, result


_ZIPNN = """
import json, sys, time, zipnn
content, name = open(sys.argv[1], "rb").read(), sys.argv[2]
codec = zipnn.ZipNN(input_format="byte", bytearray_dtype=name, threads=1)
stored, encode_s, decode_s = 0, 0.0, 0.0
for at in range(0, len(content), 4 << 20):
    piece = content[at : at + (4 << 20)]
    given = bytearray(piece)  # it changes what it is given
    begun = time.process_time()
    coded = codec.compress(given)
    encode_s += time.process_time() - begun
    coded = bytes(coded)
    stored += len(coded)
    begun = time.process_time()
    back = codec.decompress(coded)
    decode_s += time.process_time() - begun
    assert bytes(back) == piece
size = len(content)
figures = {"ratio": size / stored, "encode": size / encode_s / 1e9, "decode": size / decode_s / 1e9}
print(json.dumps(figures))
"""


def _zipnn(python: Path, path: Path, dtype: str) -> Figures:
    name = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}[dtype]
    done = subprocess.run(
        [str(python), "-c", _ZIPNN, str(path), name], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"zipnn failed: {done.stderr}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures
