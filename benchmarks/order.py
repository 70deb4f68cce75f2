"""The family in two orders of arrival: how much more the reverse takes, before and after a repack.

Members are added one after the other, in the order of ``family.toml`` and backwards, each part in a
store of its own. *added* is what atoms take in packs then, *repacked* after ``hart repack``, which
goes on until a pass changes nothing (three at most); *disk* is the whole directory after ``hart
gc`` as well. At the end every atom is decoded and compared (``verify``).
"""

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from context import Context, Result
from family import build, definition
from made_files import size_of
from tables import megabytes, table

import hartonomous as hn

_MOST_PASSES = 3
_GOALS = {"added": 1.15, "repacked": 1.02}
_HEAD = [
    "part", "order", "added MB", "repacked MB", "disk MB", "add CPU-s", "repack CPU-s", "sound"
]  # fmt: skip


def run(context: Context) -> Result:
    """Measure both parts that are built, or ``--part``; when quick, without its optimizers."""
    family = definition.load()
    parts: dict[str, list[Path]] = {}
    for one in family.members:
        path = build.path_of(context.family, one)
        if path.exists() and not (context.quick and one.kind in ("optimizer", "merge")):
            parts.setdefault(family.part_of(one.name), []).append(path)
    rows: list[list[object]] = []
    ratios: list[list[object]] = []
    for part, paths in parts.items():
        if context.part not in (None, part):
            continue
        forward = _one(context.work / "order", part, "forward", paths)
        reverse = _one(context.work / "order", part, "reverse", paths[::-1])
        rows += [[part, "forward", *forward], [part, "reverse", *reverse]]
        for at, (name, goal) in enumerate(_GOALS.items()):
            ratios.append([part, name, float(reverse[at]) / float(forward[at]), goal])
    if not rows:
        text = f"order: not run: nothing is built in {context.family}; make family\n"
        return Result(text=text, figures={"not_run": text})
    text = table("order: the family in its order and backwards", _HEAD, rows)
    text += "\n" + table("order: reverse over forward", ["part", "", "ratio", "goal"], ratios)
    return Result(text=text, figures={"rows": rows, "ratios": ratios})


def _one(place: Path, part: str, order: str, paths: Sequence[Path]) -> list[float | str]:
    """Return the figures of one store."""
    shutil.rmtree(place, ignore_errors=True)
    began = time.process_time()
    with hn.open(place, create=True) as store:
        for path in paths:
            print(f"order: {part} {order}, {path.name}", file=sys.stderr, flush=True)
            store.add(path, hidden=True)
        added, add_s = store.stats().stored_bytes, time.process_time() - began
        began = time.process_time()
        for turn in range(_MOST_PASSES):
            if not store.repack(again=turn > 0).atom_count:
                break
        repacked, repack_s = store.stats().stored_bytes, time.process_time() - began
        store.gc(trash_days=0, grace_s=0)
        sound = "yes" if store.verify().sound else "NO"
    disk = size_of(place)
    shutil.rmtree(place)
    return [megabytes(added), megabytes(repacked), megabytes(disk), add_s, repack_s, sound]
