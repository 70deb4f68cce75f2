"""Restore: CPU-seconds and wall time of ``get``, beside decoding the same frames in memory.

Decoding alone is the codec's own work, in one thread, from the mapped packs into one buffer: no
check, no hash, no file. Writing is the kernel's: the same number of bytes from one buffer to a new
file, with a sync. What ``get`` takes above both is checking, hashing and its own work.
Packs are in the page cache. ``python benchmarks/restore.py STORE NAME OUT`` restores one file and
prints what a profiler said of it.
"""

import cProfile
import os
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
import os, sys, time
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
    decoded = time.process_time() - begun
total, piece = sum(length for _, _, length in work), memoryview(bytes(2 << 20))
begun = time.process_time()
file = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
for at in range(0, total, len(piece)):
    os.pwrite(file, piece, at)
os.fsync(file)
os.close(file)
print(total, decoded, time.process_time() - begun)
"""
_GET = """
import os, sys, time
import hartonomous as hn
with hn.open(sys.argv[1]) as store:
    begun, cpu = time.perf_counter(), time.process_time()
    store.get(sys.argv[2], sys.argv[3])
    print(0, time.perf_counter() - begun, time.process_time() - cpu)
"""


def run(context: Context) -> Result:
    """Measure a file of one kind of tensor each, 1 GiB, 256 MiB when quick; and the bases' own."""
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
    for name in ("minilm", "llama"):
        path = context.family / "members" / name / "model.safetensors"
        if path.exists():
            row = _one(context, path)
            if not isinstance(row, str):
                rows.append([f"{name}, {path.stat().st_size >> 20} MiB", *row])
    head = [
        "tensor", "decode CPU s/GB", "write CPU s/GB", "get CPU s/GB", "get/decode",
        "get/(decode+write)", "get wall s/GB", "peak MB",
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
                done = _child(_DECODE, str(peer.store), str(out))
                decoded.append(_numbers(done))
                out.unlink(missing_ok=True)
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
    alone = min(one[1] for one in decoded) / gigabytes
    written = min(one[2] for one in decoded) / gigabytes
    wall = min(one[1] for one in got) / gigabytes
    whole = min(one[2] for one in got) / gigabytes
    return [alone, written, whole, whole / alone, whole / (alone + written), wall, peak / 1e6]


def _child(code: str, *arguments: str) -> Measured:
    return run_command([sys.executable, "-c", code, *arguments], env=environment())


def _numbers(done: Measured) -> list[float]:
    return list(map(float, done.output.split()[-3:])) if done.ok else [0.0, 0.0, 0.0]


def profile(store: str, name: str, out: str) -> None:
    """Print where the CPU time of a restore goes: the work of ``get``, in one thread."""
    sys.path.insert(0, environment()["PYTHONPATH"])
    import hartonomous as hn
    from hartonomous.core.digest import AtomHasher
    from hartonomous.packs.direct_file import DirectFile
    from hartonomous.packs.open_files import find_version
    from hartonomous.packs.write_out import PIECE_BYTES, piece_memory, write_piece

    with hn.open(store) as opened, Path(out).open("wb") as target:
        file = opened.files.open(find_version(opened.parts, name).single(None).row)
        buffer, hasher = piece_memory(), AtomHasher()
        destination = DirectFile(target.fileno())

        def restore() -> None:
            for at, length in file.pieces(size=PIECE_BYTES):
                hasher.update(write_piece(destination, file, at, length, buffer))
            os.fsync(target.fileno())

        profiler = cProfile.Profile(time.thread_time)
        profiler.runcall(restore)
        assert hasher.digest() == file.manifest.digest
        print(f"{name}: {file.size:,} bytes; seconds of CPU time")
    pstats.Stats(profiler).sort_stats("tottime").print_stats(12)


if __name__ == "__main__":
    profile(*sys.argv[1:4])
