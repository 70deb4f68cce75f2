"""Make the store of a released format that the tests keep for ever.

``python tests/compat/make_store.py`` writes ``v1.tar.gz`` (the store's directory) and ``v1.json``
(what is in it) beside itself. Once a version is released its archive is never made again: a change
of format gets a new name.
"""

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save

import hartonomous as hn
from hartonomous.core.gguf_writer import GGUFTensor, header_bytes, padding

HERE = Path(__file__).parent
NAME = "v1"
LIMIT_BYTES = 300_000
SCRATCH = Path(tempfile.gettempdir()) / "hartonomous-compat"


def noise(size: int, seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def tensors(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "model.embed_tokens.weight": random.standard_normal((64, 32), "f4"),
        "model.layers.0.self_attn.q_proj.weight": random.standard_normal((32, 32), "f4"),
        "model.layers.0.mlp.up_proj.weight": random.standard_normal((64, 32), "f4").astype(
            ml_dtypes.bfloat16
        ),
        "model.norm.weight": np.zeros(500, "f2"),
        "nothing": np.zeros((0, 3), "f4"),
    }


def gguf() -> bytes:
    rows = [
        GGUFTensor(name="blk.0.attn_q.weight", dtype="F32", shape=(32, 32)),
        GGUFTensor(name="blk.0.ffn_up.weight", dtype="Q8_0", shape=(32, 32)),
    ]
    metadata = {"general.architecture": "llama", "llama.block_count": 1}
    body = b""
    for row, size in zip(rows, (32 * 32 * 4, 32 * 34), strict=True):
        body += noise(size, len(row.name)) + padding(size)
    return header_bytes(metadata, rows) + body


def write(path: str | bytes, content: bytes, mode: int = 0o644) -> Path:
    target = Path(os.fsdecode(os.fsencode(SCRATCH / "source") + b"/" + os.fsencode(path)))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    target.chmod(mode)
    seconds = 1_700_000_000 + len(content)
    os.utime(target, (seconds, seconds))
    return target


def fill(store: hn.Store) -> None:
    whole = tensors(1)
    weights = write("bert/model.safetensors", save(whole, {"format": "pt"}))
    store.add(weights, labels=["prod"], tags=["base"], metadata={"licence": "apache-2.0"})
    changed = {**whole, "model.norm.weight": np.ones(500, "f2")}
    write("bert/model.safetensors", save(changed, {"format": "pt"}))
    store.add(weights, update=True, labels=["test"])
    store.add(write("llama.gguf", gguf()))
    out = io.BytesIO()
    np.save(out, np.arange(600, dtype="<i8").reshape(20, 30).T)
    store.add(write("array.npy", out.getvalue(), 0o600))
    names = list(whole)
    config = write("sharded/config.json", b'{"model_type": "bert", "hidden_size": 32}', 0o664)
    index = {"metadata": {}, "weight_map": {}}
    for number, part in enumerate((names[:2], names[2:]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        write(f"sharded/{file}", save({name: whole[name] for name in part}))
        index["weight_map"].update(dict.fromkeys(part, file))
    write("sharded/model.safetensors.index.json", json.dumps(index).encode())
    write(b"sharded/notes-\xff.txt", b"a name that is no UTF-8")
    write("sharded/README.md", b"---\nlicense: mit\n---\n# A model\n")
    store.add(config.parent)
    store.add(write("data.bin", noise(30_000, 5) + bytes(90_000) + noise(3000, 6)))
    store.add(write("empty", b""))
    store.add(write("na\u00efve @ 7.txt", b"short"))
    store.add(write("removed.bin", noise(2000, 7)), labels=["old"])
    store.add(write("purged.bin", noise(2000, 8)))
    store.rm("purged.bin")
    store.gc(trash_days=0, grace_s=0)
    store.mv("data.bin", "org/data")
    store.label("org/data", "wrong")
    store.undo()
    store.rm("removed.bin")
    store.rm("model.safetensors@2")
    store.undo()


def listing(store: hn.Store) -> dict[str, object]:
    """Return everything that must be so for ever."""
    versions = []
    for one in store.ls(versions=True):
        shown = store.show(f"{one.name}@{one.number}")
        files = [
            {
                "path": file.path, "sha256": file.sha256, "size": file.logical_bytes,
                "mode": file.mode, "modified_us": file.modified_us, "format": file.format,
                "tensors": [[t.name, t.dtype, list(t.shape), t.digest] for t in file.tensors],
            }
            for file in shown.files
        ]  # fmt: skip
        versions.append(
            {
                "name": one.name, "number": one.number, "digest": one.digest, "kind": one.kind,
                "labels": list(one.labels), "tags": list(shown.tags), "metadata": shown.metadata,
                "parameter_count": one.parameter_count, "source": one.source, "files": files,
            }
        )  # fmt: skip
    trash = [[one.name, one.number, one.digest] for one in store.ls(trash=True)]
    return {"versions": versions, "trash": trash}


def pack_up(store: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path in sorted(store.rglob("*")):
            inside = path.relative_to(store)
            if path.is_file() and inside.parts[0] not in {"locks", "tmp", "cache", "index"}:
                entry = archive.gettarinfo(path, str(inside))
                entry.uid = entry.gid = entry.mtime = 0
                entry.uname = entry.gname = ""
                with path.open("rb") as content:
                    archive.addfile(entry, content)
    return gzip.compress(out.getvalue(), 9, mtime=0)


def main() -> None:
    shutil.rmtree(SCRATCH, ignore_errors=True)
    path = SCRATCH / "store"
    with hn.open(path, create=True, settings={"host": "example"}) as store:
        fill(store)
        expected = listing(store)
        report = store.verify(files=True)
        if not report.sound:
            raise SystemExit(f"the new store is damaged: {report.faults}")
    content = pack_up(path)
    if len(content) > LIMIT_BYTES:
        raise SystemExit(f"the archive has {len(content)} bytes, more than {LIMIT_BYTES}")
    (HERE / f"{NAME}.tar.gz").write_bytes(content)
    text = json.dumps(expected, indent=1, ensure_ascii=False) + "\n"
    (HERE / f"{NAME}.json").write_text(text, encoding="utf-8")
    print(f"{NAME}.tar.gz: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")
    shutil.rmtree(SCRATCH)


if __name__ == "__main__":
    main()
