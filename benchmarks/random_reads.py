"""Random reads of 64 KiB from stored tensors: encoded, raw, and built on others up to depth 2.

The cache of frames is emptied before each read; the packs are in the page cache. Reads begin
anywhere, so that most touch one frame of 256 KiB and some touch two. Into memory of the caller's
own (`TensorReader.decode_into`), by a reader that looked the tensor up once, beside a plain file at
the same places; the last column is one call that looks it up each time (`Store.tensor_bytes`).

Of the family, if it is built, members are added one after the other, and of each the largest
tensor of each type, depth and way of keeping is read.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from context import Context, Result
from made_files import MadeTensor, write_safetensors
from measure import Measured
from measure import run as run_command
from peers import Hartonomous
from peers.hartonomous_store import environment
from tables import table

import hartonomous as hn

READ_BYTES = 64 * 1024
_CHAINS = (
    ("minilm", "minilm-tuned-50", "minilm-tuned-100"),
    ("llama", "llama-decay-50", "llama-decay-100", "llama-decay-100-q4_k_m.gguf"),
    ("llama-bf16", "llama-half-50", "llama-half-100"),
    ("llama", "llama-decay-100", "llama-plain-100", "llama-average", "llama-average-bf16"),
)
_FAMILY_READS = 300
_READS = """
import json, os, random, sys, time
import hartonomous as hn
store_path, count, size = sys.argv[1], int(sys.argv[3]), int(sys.argv[4])
rng = random.Random(7)
out = bytearray(size)

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
    for name, member, tensor, path, length, offset in json.loads(sys.argv[2]):
        plain = os.open(path, os.O_RDONLY)
        reader = store.tensor_reader(name, tensor, member=member)
        def decode(at):
            reader.decode_into(out, (at, at + size))
            return out
        def once(at):
            return store.tensor_bytes(name, tensor, member=member, bytes_range=(at, at + size))
        def pread(at):
            return os.pread(plain, size, offset + at)
        ways = [quantiles(read, length, offset) for read in (decode, pread, once)]
        print(*ways[0], *ways[1], ways[2][0])
        os.close(plain)
"""
_TIMES = ["p50 µs", "p99 µs", "plain file p50 µs", "p99 µs", "looked up p50 µs"]
Wanted = list[object]
"""Of a tensor: artifact, member, name, path of the plain file, bytes, offset in the file."""


def run(context: Context) -> Result:
    """Measure 2,000 reads of each made tensor, 300 when quick, and 300 of each of the family's."""
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
    rows = _one(context, [path], count)
    built = []
    for names in _CHAINS:
        paths = [context.family / "members" / name for name in names]
        if isinstance(rows, list) and all(one.exists() for one in paths):
            found = _one(context, paths, _FAMILY_READS)
            rows, built = (found, []) if isinstance(found, str) else (rows, built + found)
    if isinstance(rows, str):
        return Result(text=f"random-reads: failed: {rows}\n", figures={"failed": rows})
    text = table(
        f"random-reads: {count:,} reads of {READ_BYTES >> 10} KiB anywhere in a tensor",
        ["tensor", *_TIMES], [[row[2], *row[5:]] for row in rows],
    )  # fmt: skip
    figures = {str(row[2]): row[5:] for row in rows}
    if built:
        head = ["member", "type", "depth", "kept as", *_TIMES]
        shown = [[row[0], row[1], row[3], row[4], *row[5:]] for row in built]
        text += "\n" + table(f"random-reads: {_FAMILY_READS} of the family's tensors", head, shown)
        text += "\ngoals: p50 1,000 µs; 2,000 at depth 2\n"
    return Result(text=text, figures={**figures, "family": built})


def _one(context: Context, paths: Sequence[Path], count: int) -> list[list[object]] | str:
    """Add, choose tensors and read them; what failed is returned in words."""
    peer = Hartonomous(context.work, context.tools)
    peer.prepare()
    try:
        done: Measured | None = None
        for path in paths:
            done = peer.add([path])
            if not done.ok:
                return done.output
        chosen = [one for path in paths for one in _chosen(peer.store, path)]
        wanted = json.dumps([one for _, one in chosen])
        command = [
            sys.executable, "-c", _READS, str(peer.store), wanted, str(count), str(READ_BYTES)
        ]  # fmt: skip
        done = run_command(command, env=environment())
    finally:
        peer.clean()
    if not done.ok:
        return done.output
    lines = done.output.strip().splitlines()
    return [
        [*about, *map(float, line.split())] for (about, _), line in zip(chosen, lines, strict=True)
    ]


def _chosen(place: Path, path: Path) -> list[tuple[list[object], Wanted]]:
    """Return artifact, type, name, depth and way of tensors, each with what is asked for it."""
    found: dict[tuple[object, ...], tuple[list[object], Wanted]] = {}
    with hn.open(place) as store:
        for file in store.show(path.name).files:
            plain = path / file.path if path.is_dir() else path
            for one in sorted(file.tensors, key=lambda tensor: -tensor.logical_bytes):
                if one.logical_bytes <= 2 * READ_BYTES:
                    break
                kept = store.explain(path.name, one.name, member=file.path).pieces[0]
                about = [path.name, one.dtype, one.name, kept.depth, kept.encoding]
                asked = [
                    path.name, file.path, one.name, str(plain), one.logical_bytes, one.offset
                ]  # fmt: skip
                found.setdefault((one.dtype, kept.depth, kept.encoding), (about, asked))
    return list(found.values())
