"""zipnn over each file alone, in an environment of its own with a torch that has no GPU.

It compresses arrays of one element type. The type is that of most bytes where the file's header
says it (safetensors), else the one that does best on a sample out of the middle. A piece that does
not get smaller is kept as it is. zipnn has no container for files, so lengths are kept beside.
"""

from collections.abc import Sequence
from pathlib import Path

from made_files import size_of
from measure import Measured, run

from peers.peer import Peer, link_into, package_version, python_with

TORCH = "torch==2.13.0"
"""Installed first, so that its build can be chosen (a pip setting): with a GPU it has 5 GB."""

_COMMON = """
import json, sys
from pathlib import Path
from zipnn import ZipNN
PIECE = 64 << 20
TYPES = ("float32", "bfloat16", "float16")
def files_of(names):
    for name in names:
        path = Path(name)
        yield from (sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path])
"""
_ADD = (
    _COMMON
    + """
def packed(data, kind):
    # zipnn works in place on what it is given.
    done = ZipNN(bytearray_dtype=kind, input_format="byte").compress(bytearray(data))
    return bytes(done)
def kind_of(path):
    size = path.stat().st_size
    with path.open("rb") as file:
        if path.suffix == ".safetensors":
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            sizes = {}
            for name, row in header.items():
                if name != "__metadata__":
                    low, high = row["data_offsets"]
                    sizes[row["dtype"]] = sizes.get(row["dtype"], 0) + high - low
            known = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
            if sizes:
                return known.get(max(sizes, key=sizes.get), "float32")
        file.seek(size // 2 // 64 * 64)
        sample = file.read(4 << 20)
    sample = sample[: len(sample) // 16 * 16]  # see below
    return min(TYPES, key=lambda kind: len(packed(sample, kind))) if len(sample) > 4096 else ""
target, *names = sys.argv[1:]
for path in files_of(names):
    place = Path(target) / path
    place.parent.mkdir(parents=True, exist_ok=True)
    kind = kind_of(path) if path.stat().st_size > 4096 else ""
    lengths = []
    with path.open("rb") as source, place.open("wb") as out:
        while data := source.read(PIECE):
            # It damages its heap with lengths that are no whole number of elements.
            whole = len(data) // 16 * 16
            small = packed(data[:whole], kind) if kind else data
            smaller = len(small) < whole
            out.write(small + data[whole:] if smaller else data)
            lengths.append([len(small) if smaller else len(data), smaller, len(data) - whole])
    place.with_name(place.name + ".pieces").write_text(json.dumps([kind, lengths]))
"""
)
_GET = (
    _COMMON
    + """
packed, target, *names = sys.argv[1:]
there = [n for name in names for n in ([name] if Path(name).exists() else [])]
for path in files_of(there):
    if path.name.endswith(".pieces"):
        continue
    place = Path(target) / path
    place.parent.mkdir(parents=True, exist_ok=True)
    kind, lengths = json.loads(path.with_name(path.name + ".pieces").read_text())
    with path.open("rb") as source, place.open("wb") as out:
        for length, smaller, tail in lengths:
            data = source.read(length)
            if smaller:
                data = ZipNN(bytearray_dtype=kind, input_format="byte").decompress(data)
                data = bytes(data) + source.read(tail)
            out.write(data)
"""
)


class ZipNN(Peer):
    """A folder of compressed files."""

    name = "zipnn"

    @property
    def _python(self) -> Path:
        return python_with("zipnn", self.tools, first=TORCH)

    def version(self) -> str:
        """Return the package's version."""
        return package_version(self._python, "zipnn")

    def prepare(self) -> None:
        """Make the folders."""
        super().prepare()
        (self.work / "tree").mkdir()
        (self.work / "packed").mkdir()

    def add(self, paths: Sequence[Path]) -> Measured:
        """Compress each file."""
        names = link_into(self.work / "tree", paths)
        command = [str(self._python), "-c", _ADD, "../packed", *names]
        return run(command, cwd=self.work / "tree")

    def get(self, out: Path, names: Sequence[str] | None = None) -> Measured:
        """Decompress files."""
        packed = self.work / "packed"
        if names is None:
            names = [one.name for one in packed.iterdir() if not one.name.endswith(".pieces")]
        out.mkdir(parents=True, exist_ok=True)
        command = [str(self._python), "-c", _GET, ".", str(out.resolve()), *names]
        return run(command, cwd=packed)

    def stored_bytes(self) -> int:
        """Return the compressed files and their lengths."""
        return size_of(self.work / "packed")
