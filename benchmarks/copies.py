"""Copies: what a push of a fine-tune sends whose base is there, and what backups cost beside cp.

A base and a fine-tune of it (each weight moved by about a thousandth) of 200 MB each, in F32. rsync
between two folders that have the base has to send the fine-tune's file whole: no block of it is in
the other. ``cp`` copies the store's directory and syncs it; a backup compares every byte besides,
and the second one copies nothing but the catalog. Times are wall and processor seconds.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from context import Context, Result
from safetensors.numpy import save_file
from tables import megabytes, table

import hartonomous as hn


def run(context: Context) -> Result:
    """Measure in one process, on stores of its own."""
    folder = context.work / "copies"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        base, tuned = _models(folder, tensors=2 if context.quick else 12)
        with (
            hn.open(folder / "a", create=True) as first,
            hn.open(folder / "b", create=True) as second,
        ):
            first.add(base, name="base")
            rows = [_sent("push of the base", base, lambda: first.push(second))]
            first.add(tuned, name="tuned")
            rows.append(_sent("push of the fine-tune", tuned, lambda: first.push(second)))
            rows.append(_sent("push again", tuned, lambda: first.push(second)))
            copies = _backups(folder, first)
    finally:
        shutil.rmtree(folder)
    head = ("what", "file MB", "sent MB", "share %", "wall s", "cpu s")
    text = table("copies: a push beside a copy of the file", head, rows)
    text += "\n" + table(
        "copies: a backup beside cp -r and sync",
        ("what", "copied MB", "wall s", "cpu s", "MB/s"), copies,
    )  # fmt: skip
    return Result(text=text, figures={"pushes": rows, "backups": copies})


def _models(folder: Path, *, tensors: int) -> tuple[Path, Path]:
    random = np.random.default_rng(1)
    base = {
        f"layer.{i}.weight": random.standard_normal((2048, 2048), np.float32) * np.float32(0.02)
        for i in range(tensors)
    }
    moved = {
        name: one + random.standard_normal(one.shape, np.float32) * np.float32(2e-5)
        for name, one in base.items()
    }
    for name, content in (("base", base), ("tuned", moved)):
        save_file(content, folder / f"{name}.safetensors")
    return folder / "base.safetensors", folder / "tuned.safetensors"


def _measured(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return (result, wall seconds, processor seconds, children included)."""
    before, started = os.times(), time.perf_counter()
    done = work()
    wall, after = time.perf_counter() - started, os.times()
    return done, wall, sum(after[:4]) - sum(before[:4])


def _sent(what: str, file: Path, push: Callable[[], Any]) -> list[Any]:
    done, wall, cpu = _measured(push)
    size = file.stat().st_size
    return [
        what, megabytes(size), megabytes(done.sent_bytes), 100 * done.sent_bytes / size, wall, cpu
    ]  # fmt: skip


def _backups(folder: Path, store: hn.Store) -> list[list[Any]]:
    size = sum(path.stat().st_size for path in store.path.rglob("*") if path.is_file())

    def plain() -> None:
        subprocess.run(["cp", "-r", store.path, folder / "plain"], check=True)
        subprocess.run(["sync", "-f", folder / "plain"], check=True)

    _, wall, cpu = _measured(plain)
    rows = [["cp -r, sync", megabytes(size), wall, cpu, megabytes(size) / wall]]
    for what in ("first backup", "second backup"):
        done, wall, cpu = _measured(lambda: store.backup(folder / "backup"))
        copied = done.copied_bytes + done.catalog_bytes
        rows.append([what, megabytes(copied), wall, cpu, megabytes(copied) / wall])
    _, wall, cpu = _measured(lambda: hn.restore(folder / "backup", folder / "again"))
    rows.append(["restore", megabytes(size), wall, cpu, megabytes(size) / wall])
    return rows
