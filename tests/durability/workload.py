"""Files made from numbers, and the program that adds them until it is killed.

Run as a script it is a server: for each seed that it reads it forks a child, which works on the
store and writes one line before and after each operation. A line after an operation is the
acknowledgement: whatever happens later, what it speaks of must hold.
"""

import json
import os
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

import hartonomous as hn
from hartonomous.core.description import Description
from hartonomous.formats import detect
from hartonomous.formats.reader import FileReader
from hartonomous.packs import directory

KINDS = (*["raw", "text", "tensors", "tuned", "npy"] * 6, "empty", "big")
ENDINGS = {"raw": "bin", "text": "txt", "tensors": "safetensors", "npy": "npy", "empty": "dat",
           "tuned": "safetensors", "big": "safetensors"}  # fmt: skip
SETTINGS: dict[str, Any] = {"pack_bytes": 2 << 20, "workers": 2}


def content(kind: str, key: str) -> bytes:
    """Return the bytes of a file; equal for equal arguments."""
    chance = random.Random(f"{kind} {key}")
    numbers = np.random.default_rng(chance.getrandbits(64))
    if kind == "raw":
        return chance.randbytes(chance.randrange(1, 200_000))
    if kind == "big":  # one tensor that is larger than a pack
        return bytes(save({"wide": numbers.standard_normal((500, 1250), np.float32)}))
    if kind == "text":
        return f"line {chance.random()} of {key}\n".encode() * chance.randrange(1, 3000)
    if kind == "tensors":
        shared = np.random.default_rng(7).standard_normal(30_000, np.float32)
        own = numbers.standard_normal((chance.randrange(1, 60), 256), np.float32)
        return bytes(save({"shared": shared, "own": own, "small": own[0, :3]}))
    if kind == "tuned":  # one of many fine-tunes of the same weights: kept as what differs
        weights = np.random.default_rng(8).standard_normal((120, 256), np.float32)
        moved = numbers.standard_normal(weights.shape, np.float32) * np.float32(1e-3)
        return bytes(save({"weights": weights + moved, "half": weights.astype(np.float16)}))
    if kind == "npy":
        import io

        out = io.BytesIO()
        np.save(out, numbers.integers(0, 9, chance.randrange(1, 20_000)))
        return out.getvalue()
    return b""


def file_name(kind: str, key: str) -> str:
    """Return the name that a file is added under."""
    return f"{kind}-{key}.{ENDINGS[kind]}"


class DirectParser:
    """Parses in this process: starting a child for each of a thousand adds would take minutes."""

    def close(self) -> None:
        """Keep nothing."""

    def describe(self, fd: int, path: str) -> Description:
        return detect.describe(FileReader(fd), path)


def _say(*words: object) -> None:
    os.write(1, (json.dumps(words) + "\n").encode())  # one write: it is told whole or not at all


def work(store_path: Path, folder: Path, seed: int) -> None:
    """Add, label, remove, undo and collect for ever."""
    chance = random.Random(seed)
    with hn.open(store_path, settings=SETTINGS) as store:
        _say("ready", os.getpid())
        names = [one.name for one in store.ls()][-3:]
        if seed % 8 == 0:
            store.gc(trash_days=0, grace_s=0)
            _say("collected", "")
        for count in range(1_000_000):
            batch = [
                (chance.choice(KINDS), f"{seed}-{count}-{index}")
                for index in range(chance.choice((1, 2, 4, 8, 12)))
            ]
            for kind, key in batch:
                (folder / file_name(kind, key)).write_bytes(content(kind, key))
            report = store.add([folder / file_name(kind, key) for kind, key in batch])
            for (kind, key), one in zip(batch, report.artifacts, strict=True):
                assert one.outcome in {"added", "unchanged"}, one
                _say("added", one.name, kind, key)
                names.append(one.name)
            _change(store, chance, names, count)


def _change(store: Any, chance: random.Random, names: list[str], count: int) -> None:
    what = chance.randrange(7)
    name = chance.choice(names)
    if what == 0:
        label = f"label{count}"
        store.label(name, label)
        _say("labelled", name, label)
    elif what in (1, 2):
        _say("removing", name)
        done = store.rm(name)
        _say("removed", name)
        if what == 2:
            _say("restoring", name)
            store.undo(done.sequence)
            _say("restored", name)
        else:
            names.remove(name)
            names[:] = names or [store.add(__file__, name="never-empty").artifacts[0].name]


def main() -> None:
    """Serve seeds from standard input; a line with the child's end follows each."""
    store_path, base = Path(sys.argv[1]), Path(sys.argv[2])
    directory.ParserProcess = DirectParser  # type: ignore[misc, assignment]
    for line in sys.stdin:
        seed = int(line)
        folder = base / str(seed)
        folder.mkdir()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work(store_path, folder, seed)
            finally:
                if sys.exc_info()[0] is not None:
                    import traceback

                    traceback.print_exc()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        shutil.rmtree(folder)
        _say("ended", os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
