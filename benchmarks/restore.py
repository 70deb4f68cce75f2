"""Restore: CPU-seconds and wall time of ``get``, beside decoding the same frames in memory.

Decoding alone is the codec's own work, in one thread, from the mapped packs into one buffer: no
check, no hash, no file. What ``get`` takes above it is checking, hashing, writing and syncing.
Packs are in the page cache. ``python benchmarks/restore.py STORE NAME OUT`` restores in one process
and prints what a profiler said of it.
"""

import cProfile
import pstats
import sys
import time
from pathlib import Path

from context import Context, Result
from made_files import MadeTensor, write_safetensors
from measure import Measured
from measure import run as run_command
from peers import Hartonomous
from peers.hartonomous_store import environment
from tables import table

_ROUNDS = 3
_DECODE = """
import sys, time
import hartonomous as hn
from hartonomous.codecs.choice import codec_for
from hartonomous.core.record import Encoding, RecordKind
from hartonomous.packs.pack_file import PackReader
with hn.open(sys.argv[1]) as store:
    work = []
    for entry in store.parts.objects.list("packs/"):
        pack = PackReader(store.parts.objects.open(entry.key), entry.key)
        for _, header in pack.records():
            if header.kind is RecordKind.EXTENT:
                at = 0
                for index in range(len(header.frames)):
                    payload = pack.frame(header, index, at)
                    at += len(payload)
                    work.append((header, payload, header.frame_length(index)))
    out = memoryview(bytearray(max(length for _, _, length in work)))
    begun = time.process_time()
    for header, payload, length in work:
        if len(payload) == length:
            out[:length] = payload
        else:
            codec_for(header.encoding).decode_into(payload, out[:length], header.params)
    print(sum(length for _, _, length in work), time.process_time() - begun)
"""
_GET = """
import os, sys, time
import hartonomous as hn
with hn.open(sys.argv[1]) as store:
    begun, cpu = time.perf_counter(), time.process_time()
    store.get(sys.argv[2], sys.argv[3])
    print(time.perf_counter() - begun, time.process_time() - cpu)
"""


def run(context: Context) -> Result:
    """Measure a file of one kind of tensor each; 1 GiB, 256 MiB when quick."""
    size = (256 << 20) if context.quick else (1 << 30)
    rows = []
    for kind, dtype, width in (("bf16", "BF16", 2), ("f32", "F32", 4), ("noise (raw)", "NOISE", 1)):
        path = write_safetensors(
            context.files / f"restore-{dtype.lower()}-{size >> 20}.safetensors",
            [MadeTensor(name="w", dtype=dtype, elements=size // width)],
            seed=8,
        )
        row = _one(context, path)
        if isinstance(row, str):
            return Result(text=f"restore: failed: {row}\n", figures={"failed": row})
        rows.append([kind, *row])
    head = [
        "tensor", "decode CPU s/GB", "get CPU s/GB", "ratio", "get wall s/GB", "peak MB",
    ]  # fmt: skip
    title = f"restore: get of {size >> 20} MiB beside decoding its frames, best of {_ROUNDS}"
    return Result(text=table(title, head, rows), figures={str(row[0]): row[1:] for row in rows})


def _one(context: Context, path: Path) -> list[object] | str:
    peer = Hartonomous(context.work, context.tools)
    peer.prepare()
    out = context.work / "out.safetensors"
    try:
        done = peer.add([path])
        decoded, got = [], []
        peak = 0
        for _ in range(_ROUNDS):
            if done.ok:
                done = _child(_DECODE, str(peer.store))
                decoded.append(_numbers(done))
            if done.ok:
                done = _child(_GET, str(peer.store), path.name, str(out))
                got.append(_numbers(done))
                peak = max(peak, done.peak_anon_bytes)
                out.unlink(missing_ok=True)
        if not done.ok:
            return done.output
    finally:
        out.unlink(missing_ok=True)
        peer.clean()
    gigabytes = decoded[0][0] / 1e9
    alone = min(cpu for _, cpu in decoded) / gigabytes
    whole = min(cpu for _, cpu in got) / gigabytes
    return [alone, whole, whole / alone, min(wall for wall, _ in got) / gigabytes, peak / 1e6]


def _child(code: str, *arguments: str) -> Measured:
    return run_command([sys.executable, "-c", code, *arguments], env=environment())


def _numbers(done: Measured) -> tuple[float, float]:
    first, second = map(float, done.output.split()[-2:]) if done.ok else (0.0, 0.0)
    return first, second


def profile(store: str, name: str, out: str) -> None:
    """Print what a restore spends its time on; one worker, run where it is asked for."""
    sys.path.insert(0, environment()["PYTHONPATH"])
    import hartonomous as hn

    with hn.open(store, settings={"workers": 1}) as opened:
        profiler = cProfile.Profile()
        begun, cpu = time.perf_counter(), time.process_time()
        profiler.runcall(opened.get, name, out)
        print(f"wall {time.perf_counter() - begun:.2f} s, CPU {time.process_time() - cpu:.2f} s")
    pstats.Stats(profiler).sort_stats("tottime").print_stats(18)


if __name__ == "__main__":
    profile(*sys.argv[1:4])
