"""Hartonomous itself, by its command line."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from made_files import size_of
from measure import Measured, run

from peers.peer import Peer, UnavailableError

_SOURCE = Path(__file__).resolve().parents[2] / "src"
_NAMES = """
import sys
import hartonomous as hn
with hn.open(sys.argv[1]) as store:
    # A folder that is no model holds artifacts of its own, named below it.
    for one in store.names(limit=1_000_000):
        if one in sys.argv[2:] or one.split("/")[0] in sys.argv[2:]:
            print(one)
"""
_TENSORS = """
import json, sys, time
import numpy as np
import hartonomous as hn
begun = time.process_time()
content = np.fromfile(sys.argv[2], np.uint8)
begin = 8 + int(content[:8].view("<u8")[0])
tensors = {}
for name, one in json.loads(bytes(content[8:begin])).items():
    if name != "__metadata__":
        first, end = (begin + at for at in one["data_offsets"])
        kind = one["dtype"].lower().replace("f", "<f").replace("i", "<i")
        kind = kind[:2] + str(int(kind[2:]) // 8)
        tensors[name] = content[first:end].view(kind).reshape(one["shape"])
print(time.process_time() - begun)
with hn.open(sys.argv[1], create=True) as store:
    store.add_tensors(tensors, "tensors", step=1)
"""
_ESTIMATE = """
import sys
import hartonomous as hn
with hn.open(sys.argv[1], create=True) as store:
    if not hasattr(store, "estimate"):
        sys.exit(3)
    print(store.estimate(sys.argv[2:]).estimated_bytes)
"""


def environment() -> dict[str, str]:
    """Return what makes the interpreter find this checkout, and keep its byte code.

    An installed package, as the other tools are, has its byte code beside it.
    """
    return {"PYTHONPATH": str(_SOURCE), "PYTHONDONTWRITEBYTECODE": ""}


class Hartonomous(Peer):
    """This program; every add and get is a command of its own."""

    name = "hartonomous"
    syncs = True

    def version(self) -> str:
        """Return the version of the checkout."""
        code = "import hartonomous; print(hartonomous.__version__)"
        return run([sys.executable, "-c", code], env=environment()).output.strip()

    @property
    def store(self) -> Path:
        """The store's directory."""
        return self.work / "store"

    def add(self, paths: Sequence[Path]) -> Measured:
        """Add with ``hart add``."""
        return self._hart("add", "--init", "--hidden", *map(str, paths))

    def add_tensors(self, path: Path) -> Measured:
        """Read a safetensors file of floats and integers, and add what is then in memory.

        The time of reading it is left out: what is trained lies in memory already.
        """
        command = [sys.executable, "-c", _TENSORS, str(self.store), str(path)]
        done = run(command, env=environment())
        return replace(done, cpu_s=done.cpu_s - float(done.output.split()[0])) if done.ok else done

    def get(self, out: Path, names: Sequence[str] | None = None) -> Measured:
        """Write with ``hart export``; whoever asks for artifacts knows their names."""
        if names is None:
            return self._hart("export", "--all", str(out))
        listing = [sys.executable, "-c", _NAMES, str(self.store), *names]
        found = subprocess.run(
            listing, env={**os.environ, **environment()}, capture_output=True, text=True, check=True
        )
        return self._hart("export", *found.stdout.splitlines(), str(out))

    def _hart(self, *words: str) -> Measured:
        command = [sys.executable, "-m", "hartonomous", "--store", str(self.store), *words]
        return run(command, env=environment())

    def stored_bytes(self) -> int:
        """Return everything in the store's directory."""
        return size_of(self.store)


def estimate(peer: Hartonomous, path: Path) -> int | None:
    """Return the bytes that the program says it would need; None where it cannot estimate."""
    done = run([sys.executable, "-c", _ESTIMATE, str(peer.store), str(path)], env=environment())
    if done.exit_code == 3:
        return None
    if not done.ok:
        raise UnavailableError(f"estimate failed: {done.output}")
    return int(done.output.split()[-1])
