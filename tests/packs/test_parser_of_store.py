"""One parser process serves all adds of an open store, and ends with it."""

import os
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import hartonomous as hn
from hartonomous.formats.sandbox import ParserProcess
from hartonomous.packs import directory


def children():
    """Return this process's children; a thread that ends meanwhile leaves its own to another."""
    while True:
        try:
            told = [(one / "children").read_text() for one in Path("/proc/self/task").iterdir()]
        except FileNotFoundError:
            continue
        return {int(pid) for some in told for pid in some.split()}


def test_adds_share_a_parser_that_ends_with_the_store(tmp_path, monkeypatch):
    monkeypatch.setattr(directory, "ParserProcess", ParserProcess)  # whatever other tests put there
    before = children()
    with hn.open(tmp_path / "store", create=True) as store:
        assert children() == before
        seen = []
        for count in range(3):
            path = tmp_path / f"m{count}.safetensors"
            save_file({"w": np.full(100, count, np.float32)}, path)
            assert store.add(path).artifacts[0].tensor_count == 1
            seen.append(children() - before)
        assert seen[0] == seen[1] == seen[2]
        assert len(seen[0]) == 1
        pid = next(iter(seen[0]))
        os.kill(pid, 9)  # one that dies while it is idle is replaced
        while Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
            time.sleep(0.005)
        path = tmp_path / "again.safetensors"
        save_file({"w": np.full(100, 9, np.float32)}, path)
        assert store.add(path).artifacts[0].tensor_count == 1
    assert children() == before
