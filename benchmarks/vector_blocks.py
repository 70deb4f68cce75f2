"""Bytes of stored vectors, without loss: blocks of a space beside the raw numbers and zstd.

The vectors are `glosses.npy` in the folder of made files, real embeddings of 384 numbers that
`gloss_encoding.py` makes; where it is not there, made ones of about the same statistics, and the
title says so. f16 and bf16 are what an encoder of that type would give: rounded once.
"""

import shutil
import sys
import time
from pathlib import Path
from typing import Any

from context import Context, Result
from tables import table

_COUNT = 100_000
_WIDE = 384
_GOALS = {"f32": 0.87, "f16": 0.86, "bf16": 0.73}


def run(context: Context) -> Result:
    """Store 100,000 vectors, 10,000 when quick, in each type, and read them back."""
    import ml_dtypes
    import numpy as np

    vectors, made = _vectors(context)
    types: dict[str, Any] = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}
    rows: list[list[object]] = []
    figures: dict[str, Any] = {"count": len(vectors), "real": not made}
    for name, kind in types.items():
        typed = vectors.astype(kind)
        found = _stored(context.work / "vector-blocks", name, typed)
        found["zstd"] = _zstd(typed) / typed.nbytes
        rows.append([name, found["share"], _GOALS[name], found["zstd"], found["add_s"],
                     found["read_s"]])  # fmt: skip
        figures[name] = found
    head = ["type", "of raw", "goal", "zstd -3", "added: CPU s", "read back: CPU s"]
    what = "made" if made else "real"
    title = f"vector-blocks: {len(vectors):,} {what} vectors of {_WIDE}, everything in the packs"
    return Result(text=table(title, head, rows), figures=figures)


def _vectors(context: Context) -> tuple[Any, bool]:
    import numpy as np

    count = _COUNT // 10 if context.quick else _COUNT
    path = context.files / "glosses.npy"
    if path.exists():
        return np.load(path, mmap_mode="r")[:count], False
    chance = np.random.default_rng(7)
    rows = chance.standard_normal((count, _WIDE), dtype=np.float32)
    rows = rows * chance.uniform(0.5, 1.5, _WIDE).astype(np.float32)
    rows += 0.3 * chance.standard_normal(_WIDE, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), True


def _stored(folder: Path, dtype: str, vectors: Any) -> dict[str, float]:
    """Return the share of raw bytes that the packs take, places and ids in them, and times."""
    import numpy as np

    import hartonomous as hn
    from hartonomous.core.place import Place
    from hartonomous.core.space import Space
    from hartonomous.packs.space_writer import ensure_space, writing

    space = Space(
        modality="text", encoder="benchmark", encoder_digest="00", recipe="", pooling="mean",
        quantisation=dtype, dimension=vectors.shape[1], dtype=dtype,  # type: ignore[arg-type]
    )  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with hn.open(folder, create=True) as store:
            row = ensure_space(store.parts, space)
            places = [
                Place(digest=(at // 40).to_bytes(32, "little"), kind="passage",
                      start=at % 40 * 600, stop=at % 40 * 600 + 599)
                for at in range(len(vectors))
            ]  # fmt: skip
            began = time.process_time()
            with writing(store.parts, store.files, row) as writer:
                writer.append(places, vectors, source="benchmark")
                writer.flush()
            added = time.process_time() - began
            began = time.process_time()
            at = 0
            for ids, read in store.spaces.truth(row.name).scan():
                assert np.array_equal(read, vectors[at : at + len(ids)].astype(np.float32))
                at += len(ids)
            read_s = time.process_time() - began
            assert at == len(vectors)
            packs = store.stats().stored_bytes
        return {"share": packs / vectors.nbytes, "add_s": added, "read_s": read_s}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _zstd(vectors: Any) -> int:
    from backports import zstd

    return len(zstd.compress(vectors.tobytes(), level=3))


if __name__ == "__main__":
    sys.exit("run it with: python benchmarks/run.py --only vector-blocks")
