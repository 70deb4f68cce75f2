"""Random reads of 64 KiB from a stored tensor: one encoded, one raw, beside a plain file.

The store is opened anew before each tensor, so that nothing is decoded yet; the packs are in the
page cache. Reads begin anywhere, so that most touch one frame of 256 KiB and some touch two.
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
from hartonomous.catalog import manifests, resolve, versions
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.files import FileReader, load_manifest
store_path, name, path, count, size = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
rng = random.Random(7)

def quantiles(read, low, high, check):
    taken = []
    for _ in range(count):
        at = rng.randrange(low, high - size)
        started = time.perf_counter_ns()
        got = read(at)
        taken.append(time.perf_counter_ns() - started)
        assert got == check(at)
    taken.sort()
    return taken[len(taken) // 2] / 1e3, taken[len(taken) * 99 // 100] / 1e3

plain = os.open(path, os.O_RDONLY)
def pread(at):
    return os.pread(plain, size, at)

with hn.open(store_path) as store:
    with store.parts.database.read() as tx:
        member = versions.members_of(tx, resolve.version(tx, name).id)[0]
        row = manifests.by_ids(tx, [member.manifest_id])[member.manifest_id]
    atoms = AtomReader(store.parts)
    description = load_manifest(atoms, row).description
    atoms.close()
    for tensor in description.tensors:
        atoms = AtomReader(store.parts)
        file = FileReader(atoms, load_manifest(atoms, row))
        low, high = tensor.offset, tensor.offset + tensor.length
        ours = quantiles(lambda at: file.read(at, size), low, high, pread)
        theirs = quantiles(pread, low, high, pread)
        print(tensor.name, *ours, *theirs)
        atoms.close()
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
    head = ["tensor", "p50 µs", "p99 µs", "plain file p50 µs", "p99 µs"]
    title = f"random-reads: {count:,} reads of {READ_BYTES >> 10} KiB anywhere in a tensor"
    return Result(text=table(title, head, rows), figures={str(row[0]): row[1:] for row in rows})


def _row(line: str) -> list[object]:
    name, *numbers = line.rsplit(maxsplit=4)
    return [name, *map(float, numbers)]
