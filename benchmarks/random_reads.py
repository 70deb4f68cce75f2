"""Random reads of 64 KiB from a stored tensor: one encoded, one raw, beside a plain file.

The cache of frames is emptied before each read; the packs are in the page cache. Reads begin
anywhere, so that most touch one frame of 256 KiB and some touch two. Into memory of the caller's
own (`TensorReader.decode_into`), by a reader that looked the tensor up once; the last column is one
call that looks it up each time (`Store.tensor_bytes`).
"""

import sys

from context import Context, Result
from made_files import MadeTensor, write_safetensors
from measure import run as run_command
from peers import Hartonomous
from peers.hartonomous_store import environment
from tables import table

READ_BYTES = 64 * 1024
_READS = """
import os, random, sys, time
import hartonomous as hn
store_path, name, path, count, size = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
rng = random.Random(7)
out = bytearray(size)
plain = os.open(path, os.O_RDONLY)

def quantiles(read, length, base):
    taken = []
    for _ in range(count):
        at = rng.randrange(length - size)
        store.parts.frames.clear()
        started = time.perf_counter_ns()
        got = read(at)
        taken.append(time.perf_counter_ns() - started)
        assert got == os.pread(plain, size, base + at)
    taken.sort()
    return taken[len(taken) // 2] / 1e3, taken[len(taken) * 99 // 100] / 1e3

with hn.open(store_path) as store:
    for tensor in store.show(name).files[0].tensors:
        reader = store.tensor_reader(name, tensor.name)
        def decode(at):
            reader.decode_into(out, (at, at + size))
            return out
        def once(at):
            return store.tensor_bytes(name, tensor.name, bytes_range=(at, at + size))
        def pread(at):
            return os.pread(plain, size, tensor.offset + at)
        ways = [quantiles(read, tensor.logical_bytes, tensor.offset)
                for read in (decode, pread, once)]
        print(tensor.name, *ways[0], *ways[1], ways[2][0])
"""


def run(context: Context) -> Result:
    """Measure 2,000 reads of each tensor, 300 when quick."""
    count = 300 if context.quick else 2000
    elements = (64 << 20) if context.quick else (256 << 20)
    path = write_safetensors(
        context.files / f"reads-{elements >> 20}.safetensors",
        [
            MadeTensor(name="bf16 (encoded)", dtype="BF16", elements=elements // 2),
            MadeTensor(name="noise (raw)", dtype="NOISE", elements=elements),
        ],
        seed=6,
    )
    peer = Hartonomous(context.work, context.tools)
    peer.prepare()
    try:
        added = peer.add([path])
        command = [
            sys.executable, "-c", _READS, str(peer.store), path.name, str(path), str(count),
            str(READ_BYTES),
        ]  # fmt: skip
        done = run_command(command, env=environment()) if added.ok else added
    finally:
        peer.clean()
    if not done.ok:
        return Result(
            text=f"random-reads: failed: {done.output}\n", figures={"failed": done.output}
        )
    rows = [_row(line) for line in done.output.strip().splitlines()]
    head = ["tensor", "p50 µs", "p99 µs", "plain file p50 µs", "p99 µs", "looked up p50 µs"]
    title = f"random-reads: {count:,} reads of {READ_BYTES >> 10} KiB anywhere in a tensor"
    return Result(text=table(title, head, rows), figures={str(row[0]): row[1:] for row in rows})


def _row(line: str) -> list[object]:
    name, *numbers = line.rsplit(maxsplit=5)
    return [name, *map(float, numbers)]
