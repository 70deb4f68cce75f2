"""Small files: acknowledged adds a second, one by one and all as one tree.

"One by one" keeps one process open where the tool has a programming interface (hartonomous, hf-xet)
and starts a command for each file where it has none (git-lfs, dvc, cp): that is how each is used.
The slower tools get fewer files, and the rate is what counts. Only hartonomous syncs before it
acknowledges; a file system's sync is what its rate is made of.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from context import Context, Result
from made_files import write_small_files
from measure import run as run_command
from peers import Hartonomous, Peer, UnavailableError
from peers.hartonomous_store import environment
from side_by_side import available
from tables import table

_ONE_BY_ONE = """
import sys, time
import hartonomous as hn
with hn.open(sys.argv[1], create=True) as store:
    paths = open(sys.argv[2]).read().split()
    started = time.perf_counter()
    for path in paths:
        report = store.add(path)
        assert report.failed_count == 0 and len(report.artifacts) == 1
    print(time.perf_counter() - started)
"""
_XET_ONE_BY_ONE = """
import sys, time
import hf_xet
paths = open(sys.argv[2]).read().split()
started = time.perf_counter()
for path in paths:
    hf_xet.upload_files([path], "local://" + sys.argv[1], None, None, None, "model")
print(time.perf_counter() - started)
"""
_COUNTS = {"hartonomous": 2000, "hf-xet": 200, "git-lfs": 50, "dvc": 5, "cp": 500}


def run(context: Context) -> Result:
    """Measure 2,000 files, 200 when quick."""
    count = 200 if context.quick else 2000
    folder = context.files / f"small-{count}"
    shutil.rmtree(folder, ignore_errors=True)
    paths = write_small_files(folder, count, seed=4)
    rows: list[list[object]] = []
    for kind, peer, text in available(context):
        if peer is None:
            rows.append([kind.name, None, None, None, None, f"not run: {text}"])
            continue
        try:
            rows.append(_row(context, peer, folder, paths[: _COUNTS[kind.name]]))
        except UnavailableError as error:
            rows.append([kind.name, None, None, None, None, str(error)])
        finally:
            peer.clean()
    head = ["tool", "files", "one by one: files/s", "as one tree: files/s", "stored bytes a file",
            "syncs itself"]  # fmt: skip
    title = f"small-objects: files of 1 to 8 KiB; the tree has {count:,}"
    figures = {str(row[0]): dict(zip(head[1:], row[1:], strict=True)) for row in rows}
    return Result(text=table(title, head, rows), figures=figures)


def _row(context: Context, peer: Peer, folder: Path, few: Sequence[Path]) -> list[object]:
    peer.prepare()
    taken_s = _one_by_one(context, peer, few)
    peer.prepare()
    tree = peer.add([folder])
    if not tree.ok:
        raise UnavailableError(f"exit code {tree.exit_code}: {tree.output}")
    count = sum(path.is_file() for path in folder.rglob("*"))
    stored = peer.stored_bytes() / count
    return [
        peer.name, len(few), len(few) / taken_s, count / tree.wall_s, round(stored),
        "yes" if peer.syncs else "no",
    ]  # fmt: skip


def _one_by_one(context: Context, peer: Peer, paths: Sequence[Path]) -> float:
    """Return the seconds that adding one after the other takes, the start of programs left out."""
    listing = context.work / "paths.txt"
    listing.write_text("\n".join(str(path.resolve()) for path in paths), encoding="utf-8")
    store = peer.work / "store"
    if isinstance(peer, Hartonomous):
        command = [sys.executable, "-c", _ONE_BY_ONE, str(store), str(listing)]
    elif peer.name == "hf-xet":
        python = context.tools / "hf-xet" / "bin" / "python"
        command = [str(python), "-c", _XET_ONE_BY_ONE, str(store), str(listing)]
    else:
        taken_s = 0.0
        for path in paths:
            done = peer.add([path])
            if not done.ok:
                raise UnavailableError(f"exit code {done.exit_code}: {done.output}")
            taken_s += done.wall_s
        return taken_s
    done = run_command(command, env={**environment(), "HF_XET_CACHE": str(peer.work / "cache")})
    if not done.ok:
        raise UnavailableError(f"exit code {done.exit_code}: {done.output}")
    return float(done.output.split()[-1])
