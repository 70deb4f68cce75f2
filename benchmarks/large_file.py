"""A file larger than memory may hold at once, with a tensor larger than a pack.

Prints memory (RssAnon over all processes), time, CPU-seconds and stored bytes of add and get. The
goal is at most 512 MB for both.
"""

import shutil

from context import Context, Result
from made_files import large_tensors, write_safetensors
from side_by_side import as_figures, round_table, rounds

LIMIT_BYTES = 512_000_000


def run(context: Context) -> Result:
    """Measure all peers on 8 GiB, or 512 MiB when quick."""
    total = (512 << 20) if context.quick else (8 << 30)
    needed = 4 * total
    free = shutil.disk_usage(context.out).free
    if free < needed:
        text = f"large-file: not run: {needed:,} bytes of disk are needed, {free:,} are free\n"
        return Result(text=text, figures={"not_run": text})
    tensors = large_tensors(total)
    path = context.files / f"large-{total >> 20}.safetensors"
    write_safetensors(path, tensors, seed=1)
    try:
        done = rounds(context, [path], path.stat().st_size)
    finally:
        if not context.quick:
            path.unlink()
    largest = max(one.size_bytes for one in tensors)
    title = (
        f"large-file: one safetensors file of {total >> 20} MiB, its largest tensor "
        f"{largest >> 20} MiB (anonymous memory: limit {LIMIT_BYTES // 10**6} MB)"
    )
    return Result(text=round_table(title, done), figures={"rounds": as_figures(done)})
