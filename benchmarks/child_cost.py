"""What it costs that parsers run in a child process: describing there beside describing right here.

Every file of the family's members is described in both ways, in turns, by one reused child; medians
of the runs count. CPU-seconds are those of this process and of the child together, its start
included; what the family's ingest takes is one add of all members by the program. Then the same for
1,000 small files, half of them safetensors and half JSON.
"""

import json
import os
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from context import Context, Result
from made_files import warm
from peers import Hartonomous
from tables import table

from hartonomous.formats import detect
from hartonomous.formats.detect import FORMATS
from hartonomous.formats.reader import FileReader
from hartonomous.formats.sandbox import ParserProcess

SMALL_FILES = 1000
FAMILY_GOAL = 0.05
SMALL_GOAL_MS = 2.0
_RUNS = 5


@dataclass(frozen=True, slots=True)
class _Taken:
    cpu_s: float
    wall_s: float


def run(context: Context) -> Result:
    """Measure both sets; what the child costs is the difference to describing in this process."""
    members = context.family / "members"
    small = _small_files(context.files / "child-cost")
    rows, figures = [], {}
    for name, paths in (("family", _files_below(members)), ("small", small)):
        if not paths:
            continue
        warm(paths)
        taken = _interleaved(paths, runs=1 if context.quick else _RUNS)
        here, child, start = (taken[way] for way in ("here", "child", "start"))
        each_ms = 1000 / len(paths)
        figures[name] = {
            "files": len(paths), "here_cpu_s": here.cpu_s, "child_cpu_s": child.cpu_s,
            "here_wall_s": here.wall_s, "child_wall_s": child.wall_s,
            "start_cpu_s": start.cpu_s, "start_wall_s": start.wall_s,
            "cost_cpu_s": child.cpu_s - here.cpu_s,
            "each_ms": (child.wall_s - start.wall_s) * each_ms,
        }  # fmt: skip
        rows.append(
            [name, len(paths), here.cpu_s, child.cpu_s, start.cpu_s, here.wall_s, child.wall_s,
             start.wall_s, (child.cpu_s - start.cpu_s) * each_ms,
             (child.wall_s - start.wall_s) * each_ms]
        )  # fmt: skip
    head = ["files of", "files", "here CPU-s", "child CPU-s", "of it start", "here s", "child s",
            "of it start s", "CPU ms a file", "ms a file"]  # fmt: skip
    title = f"child: parsers in a process of their own (goal: {SMALL_GOAL_MS:g} ms a small file)"
    text = table(title, head, rows)
    if "family" in figures:
        ingest = _ingest_cpu_s(context, members)
        share = figures["family"]["cost_cpu_s"] / ingest
        figures["family"] |= {"ingest_cpu_s": ingest, "share_of_ingest": share}
        text += (
            f"\nof the family's ingest ({ingest:.1f} CPU-s) the child costs {100 * share:.2f} %"
            f" (goal: {100 * FAMILY_GOAL:g} %)\n"
        )
    else:
        text += f"\nno family at {members}: make_family.py writes it\n"
    return Result(text=text, figures=figures)


def _interleaved(paths: Sequence[Path], *, runs: int) -> dict[str, _Taken]:
    ways: dict[str, Callable[[], None]] = {
        "start": lambda: _in_a_child(paths[:1]),
        "here": lambda: _here(paths),
        "child": lambda: _in_a_child(paths),
    }
    for entry in FORMATS:
        detect.load(entry)  # importing them belongs to the child's start, not to describing here
    found: dict[str, list[_Taken]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, work in ways.items():
            cpu, wall = _cpu_s(), time.perf_counter()
            work()
            found[name].append(_Taken(_cpu_s() - cpu, time.perf_counter() - wall))
    return {
        name: _Taken(
            statistics.median(one.cpu_s for one in some),
            statistics.median(one.wall_s for one in some),
        )
        for name, some in found.items()
    }


def _here(paths: Sequence[Path]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            detect.describe(FileReader(descriptor), path.name, formats=FORMATS)
        finally:
            os.close(descriptor)


def _in_a_child(paths: Sequence[Path]) -> None:
    with ParserProcess() as parser:
        for path in paths:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                parser.describe(descriptor, path.name)
            finally:
                os.close(descriptor)


def _cpu_s() -> float:
    """Return what this process and the children that it waited for have used."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def _files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _small_files(folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(SMALL_FILES // 2):
        values = number.to_bytes(4, "little") * 256
        about = {"w": {"dtype": "F32", "shape": [16, 16], "data_offsets": [0, len(values)]}}
        header = json.dumps(about).encode()
        content = {
            f"{number:04}.safetensors": len(header).to_bytes(8, "little") + header + values,
            f"{number:04}-config.json": json.dumps({"model_type": "t", "layers": number}).encode(),
        }
        for name, written in content.items():
            (folder / name).write_bytes(written)
            paths.append(folder / name)
    return paths


def _ingest_cpu_s(context: Context, members: Path) -> float:
    peer = Hartonomous(context.work, context.tools)
    peer.prepare()
    done = peer.add([members])
    peer.clean()
    if not done.ok:
        raise RuntimeError(f"the family was not added: {done.output}")
    return done.cpu_s
