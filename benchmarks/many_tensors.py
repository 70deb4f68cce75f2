"""The same 2 GB in 50 tensors and in 50,000: the goal is at most twice the time.

Adds are interleaved, three of each, every one into a fresh store; the medians are compared. The
peers see the two files once each.
"""

import statistics

from context import Context, Result
from made_files import equal_tensors, warm, write_safetensors
from peers import Hartonomous
from side_by_side import as_figures, round_table, rounds
from tables import table


def run(context: Context) -> Result:
    """Measure both files, 200 MB in 5 and 5,000 tensors when quick."""
    total, few, many = (200_000_000, 5, 5_000) if context.quick else (2_000_000_000, 50, 50_000)
    paths = {
        count: write_safetensors(
            context.files / f"tensors-{total // 10**6}-{count}.safetensors",
            equal_tensors(total, count),
            seed=2,
        )
        for count in (few, many)
    }
    peer = Hartonomous(context.work, context.tools)
    runs = {count: [] for count in paths}
    for _ in range(3):
        for count, path in paths.items():
            peer.prepare()
            warm([path])
            runs[count].append(peer.add([path]))
            peer.clean()
    rows = []
    for what in ("wall_s", "synced_s", "cpu_s"):
        medians = [statistics.median(getattr(one, what) for one in runs[n]) for n in (few, many)]
        rows.append([what, *medians, medians[1] / medians[0]])
    peak = [max(one.peak_anon_bytes for one in runs[n]) / 1e6 for n in (few, many)]
    rows.append(["peak anon MB", *peak, peak[1] / peak[0]])
    title = f"many-tensors: {total // 10**6} MB added, medians of 3 interleaved (limit 2 × wall_s)"
    texts = [table(title, ["", f"{few:,} tensors", f"{many:,} tensors", "ratio"], rows)]
    figures = {
        "rows": {row[0]: row[1:] for row in rows},
        "failed": sum(not one.ok for many_runs in runs.values() for one in many_runs),
    }
    for count, path in paths.items():
        done = rounds(context, [path], path.stat().st_size)
        texts.append(round_table(f"many-tensors: {total // 10**6} MB in {count:,} tensors", done))
        figures[str(count)] = as_figures(done)
    return Result(text="\n".join(texts), figures=figures)
