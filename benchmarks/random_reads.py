"""Random reads of 64 KiB from stored tensors, beside a plain file.

Each read is made by a store object of its own, opened for it, so that nothing decoded is kept from
the reads before; the packs are in the page cache. Two times are taken: of the *first* read after
opening, with the look-up of the name and the file's manifest, and of the *next* one, elsewhere in
the same tensor, for which only frames have to be decoded. The two lie ``APART_BYTES`` apart, so the
second never finds its frame decoded. Reads begin anywhere: most touch one frame of 256 KiB and some
touch two.

Beside tensors made for it (encoded, and raw), the largest tensor of some members of the family is
read, where that is built: a base, a fine-tune, a quantised file, each added after its relatives.
"""

import json
import sys
from pathlib import Path

from context import Context, Result
from family import build, definition
from made_files import MadeTensor, write_safetensors
from measure import run as run_command
from peers import Hartonomous
from peers.hartonomous_store import environment
from tables import table

READ_BYTES = 64 * 1024
APART_BYTES = 4 << 20
RELATIVES = ("llama", "llama-bf16", "llama-decay-100", "llama-f16.gguf", "llama-q4_k_m.gguf")
"""Members of the family that are added, in this order, and read."""

_READS = """
import json, os, random, sys, time
import hartonomous as hn
from hartonomous.formats import detect
from hartonomous.formats.reader import FileReader
store_path, spec, name, member, path, count, size, apart = json.loads(sys.argv[1])
rng = random.Random(7)
plain = os.open(path, os.O_RDONLY)
described = detect.describe(FileReader(plain, limit_bytes=1 << 28), path)
start, length = next((one.offset, one.length) for one in described.tensors if one.name == name)
size = min(size, length)

def timed(read, at):
    started = time.perf_counter_ns()
    got = read(start + at)
    taken = time.perf_counter_ns() - started
    assert bytes(got) == os.pread(plain, size, start + at)
    return taken

first, following, plainly = [], [], []
for _ in range(count):
    one = rng.randrange(length - size + 1)
    two = rng.randrange(length - size + 1)
    while abs(two - one) < min(apart, length // 4):
        two = rng.randrange(length - size + 1)
    with hn.open(store_path) as store:
        opened = None
        def read(at):
            global opened
            opened = opened or store.file(spec, member)
            opened.raw.seek(at)  # without the buffer around it, which would read ahead
            return opened.raw.read(size)
        first.append(timed(read, one))
        following.append(timed(read, two))
        opened.close()
    plainly.append(timed(lambda at: os.pread(plain, size, at), two))

def quantiles(taken):
    taken.sort()
    return [taken[min(len(taken) - 1, len(taken) * p // 100)] / 1e3 for p in (50, 90, 99)]

print(json.dumps([quantiles(first), quantiles(following), quantiles(plainly)]))
"""
_LARGEST = """
import json, sys
import hartonomous as hn
with hn.open(sys.argv[1]) as store:
    found = max(store.tensors(sys.argv[2]).values(), key=lambda one: one.logical_bytes)
    print(json.dumps([found.name, found.member]))
"""


def run(context: Context) -> Result:
    """Measure 1,000 pairs of reads of each tensor, 100 when quick."""
    count = 100 if context.quick else 1000
    elements = (64 << 20) if context.quick else (256 << 20)
    made = write_safetensors(
        context.files / f"reads-{elements >> 20}.safetensors",
        [
            MadeTensor(name="bf16 (encoded)", dtype="BF16", elements=elements // 2),
            MadeTensor(name="noise (raw)", dtype="NOISE", elements=elements),
        ],
        seed=6,
    )
    peer = Hartonomous(context.work, context.tools)
    rows: list[list[object]] = []
    failed: list[str] = []
    try:
        peer.prepare()
        for path in [made, *_relatives(context)]:
            added = peer.add([path])
            if not added.ok:
                failed.append(f"{path.name}: {added.output}")
        names = [("bf16 (encoded)", made.name), ("noise (raw)", made.name)]
        rows += [_row(peer, made, made.name, name, member, count) for name, member in names]
        for path in _relatives(context):
            name, member = _largest(peer, path.name)
            rows.append(_row(peer, path, path.name, name, member, count))
    except _ReadsError as error:
        failed.append(str(error))
    finally:
        peer.clean()
    head = ["tensor", "first p50 µs", "p90 µs", "p99 µs", "next p50 µs", "p90 µs", "p99 µs",
            "plain file p50 µs", "p90 µs", "p99 µs"]  # fmt: skip
    title = (
        f"random-reads: {count:,} pairs of reads of {READ_BYTES >> 10} KiB, each pair by a store "
        "opened for it"
    )
    text = "\n".join([table(title, head, rows), *failed, ""])
    return Result(
        text=text, figures={"rows": {str(row[0]): row[1:] for row in rows}, "failed": failed}
    )


class _ReadsError(Exception):
    """The reads could not be made; says what the program said."""


def _relatives(context: Context) -> list[Path]:
    members = {one.name: one for one in definition.load().members}
    paths = [build.path_of(context.family, members[name]) for name in RELATIVES]
    return [path for path in paths if path.exists()]


def _largest(peer: Hartonomous, spec: str) -> tuple[str, str]:
    done = run_command([sys.executable, "-c", _LARGEST, str(peer.store), spec], env=environment())
    if not done.ok:
        raise _ReadsError(f"{spec}: {done.output}")
    name, member = json.loads(done.output)
    return name, member


def _row(
    peer: Hartonomous, path: Path, spec: str, name: str, member: str, count: int
) -> list[object]:
    file = path / member if path.is_dir() else path
    asked = [str(peer.store), spec, name, member, str(file), count, READ_BYTES, APART_BYTES]
    done = run_command([sys.executable, "-c", _READS, json.dumps(asked)], env=environment())
    if not done.ok:
        raise _ReadsError(f"{spec} {name}: {done.output}")
    label = name if spec == file.name and "(" in name else f"{spec} {name}"
    return [label, *(value for three in json.loads(done.output) for value in three)]
