"""The same tensors in every format: MB a CPU-second that adding takes, and what is stored.

A real model's weights (the demo's) as safetensors, PyTorch's zip and legacy file, a file of
torch.distributed.checkpoint, ONNX, ``.npz`` stored and deflated, each written here without the
format's own library; and as a checkpoint from memory (``Store.add_tensors``, without the time that
reading its source takes). Adds are interleaved, each into a fresh store; medians of three count,
one when quick. A second figure adds each file to a store that has the safetensors file: where
tensors are ranges of the file, it costs its header alone.
"""

import io
import json
import statistics
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from context import Context, Result
from made_files import warm
from peers import Hartonomous
from tables import table

from hartonomous.errors import HartonomousError
from hartonomous.operations.demo_base import fetch_base

Tensors = dict[str, np.ndarray]
_NUMBERS = {"F32": ("<f4", 1, "FloatStorage"), "I64": ("<i8", 7, "LongStorage")}
"""By type: numpy's name, ONNX's number, PyTorch's storage."""


def run(context: Context) -> Result:
    """Measure each format; the goal is four fifths of the rate of safetensors."""
    try:
        base = fetch_base(
            context.files / "family-base", cache=context.files, from_path=context.model
        )
    except HartonomousError as error:
        return Result(text=f"formats: not run: {error}\n", figures={"not_run": str(error)})
    tensors = _read(base / "model.safetensors")
    folder = context.files / "formats"
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"safetensors": base / "model.safetensors"}
    for name, write in _WRITERS.items():
        paths[name] = folder / f"model{_ENDINGS[name]}"
        write(paths[name], tensors)
    peer = Hartonomous(context.work, context.tools)
    runs = {name: [] for name in (*paths, _MEMORY)}
    stored = {}
    for _ in range(1 if context.quick else 3):
        for name, path in paths.items():
            peer.prepare()
            warm([path])
            runs[name].append(peer.add([path]))
            stored[name] = peer.stored_bytes()
            peer.clean()
        peer.prepare()
        runs[_MEMORY].append(peer.add_tensors(paths["safetensors"]))
        stored[_MEMORY] = peer.stored_bytes()
        peer.clean()
    beside = _beside(peer, paths)
    size = {name: path.stat().st_size for name, path in paths.items()}
    size[_MEMORY] = size["safetensors"]
    rate = {name: size[name] / 1e6 / statistics.median(one.cpu_s for one in some)
            for name, some in runs.items()}  # fmt: skip
    rows = [
        [name, size[name] / 1e6, rate[name], rate[name] / rate["safetensors"], stored[name] / 1e6,
         beside[name] / 1e6 if name in beside else None,
         "yes" if all(one.ok for one in runs[name]) else "failed"]
        for name in runs
    ]  # fmt: skip
    head = ["format", "MB", "MB/CPU-s", "of safetensors", "stored MB", "beside safetensors MB",
            "added"]  # fmt: skip
    title = f"formats: {len(tensors)} tensors of a real model (goal: 0.8 of safetensors)"
    figures = {str(row[0]): dict(zip(head[1:], row[1:], strict=True)) for row in rows}
    return Result(text=table(title, head, rows), figures=figures)


def _beside(peer: Hartonomous, paths: dict[str, Path]) -> dict[str, int]:
    """Return by how much a store that has the safetensors file grows with each other one."""
    found = {}
    for name, path in paths.items():
        if name == "safetensors":
            continue
        peer.prepare()
        peer.add([paths["safetensors"]])
        before = peer.stored_bytes()
        peer.add([path])
        found[name] = peer.stored_bytes() - before
        peer.clean()
    return found


def _read(path: Path) -> Tensors:
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    listed = json.loads(content[8 : 8 + length])
    found = {}
    for name, one in listed.items():
        if name == "__metadata__":
            continue
        start, end = (8 + length + at for at in one["data_offsets"])
        kind = _NUMBERS[one["dtype"]][0]
        found[name] = np.frombuffer(content[start:end], kind).reshape(one["shape"])
    return found


# -- writers


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def write_onnx(path: Path, tensors: Tensors) -> None:
    """Write the tensors as the initialisers of an empty graph."""
    parts = []
    for name, array in tensors.items():
        number = next(one for kind, one, _ in _NUMBERS.values() if np.dtype(kind) == array.dtype)
        dims = b"".join(_number(1, extent) for extent in array.shape)
        head = dims + _number(2, number) + _field(8, name.encode())
        parts.append(_field(5, head + _field(9, array.tobytes())))
    graph = _field(2, b"graph") + b"".join(parts)
    opset = _field(8, _number(2, 17))
    path.write_bytes(_number(1, 8) + _field(2, b"benchmark") + _field(7, graph) + opset)


def write_torch(path: Path, tensors: Tensors) -> None:
    """Write a checkpoint of a dict of contiguous tensors, one storage each."""
    path.write_bytes(_archive(_pickled_dict(tensors), list(tensors.values())))


def _write_legacy(path: Path, tensors: Tensors) -> None:
    """Write it as PyTorch did before 1.6: pickles, then each storage behind its length."""
    magic = b"\x80\x02\x8a\x0a" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little") + b"."
    keys = b"\x80\x02](" + b"".join(_text(str(key)) for key in range(len(tensors))) + b"e."
    with path.open("wb") as made:
        made.write(magic + b"\x80\x02" + _integer(1001) + b"." + b"\x80\x02}.")
        made.write(_pickled_dict(tensors, b"N") + keys)
        for array in tensors.values():
            made.write(struct.pack("<q", array.size) + array.tobytes())


def _write_distributed(path: Path, tensors: Tensors) -> None:
    """Write an archive for each tensor, one behind the other."""
    with path.open("wb") as made:
        for array in tensors.values():
            made.write(_archive(b"\x80\x02" + _pickled("0", array) + b".", [array]))


def _archive(code: bytes, arrays: list[np.ndarray]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        made.writestr("archive/data.pkl", code)
        made.writestr("archive/version", b"3")
        made.writestr("archive/byteorder", b"little")
        for key, array in enumerate(arrays):
            made.writestr(f"archive/data/{key}", array.tobytes())
    return content.getvalue()


def _pickled_dict(tensors: Tensors, behind: bytes = b"") -> bytes:
    items = enumerate(tensors.items())
    parts = (_text(name) + _pickled(str(key), array, behind) for key, (name, array) in items)
    return b"\x80\x02}(" + b"".join(parts) + b"u."


def _pickled(key: str, array: np.ndarray, behind: bytes = b"") -> bytes:
    """Return the call that makes a tensor; ``behind`` ends its storage's id in the legacy form."""
    kind = next(one for it, _, one in _NUMBERS.values() if np.dtype(it) == array.dtype)
    strides = [stride // array.itemsize for stride in array.strides]
    storage = _text("storage") + f"ctorch\n{kind}\n".encode() + _text(key) + _text("cpu")
    code = b"ctorch._utils\n_rebuild_tensor_v2\n(("
    code += storage + _integer(array.size) + behind + b"tQ" + _integer(0)
    code += b"(" + b"".join(map(_integer, array.shape)) + b"t"
    code += b"(" + b"".join(map(_integer, strides)) + b"t"
    return code + b"\x89ccollections\nOrderedDict\n)RtR"


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def _integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _write_npz(path: Path, tensors: Tensors) -> None:
    np.savez(path, **tensors)


def _write_deflated(path: Path, tensors: Tensors) -> None:
    if not path.exists():
        np.savez_compressed(path, **tensors)


_WRITERS: dict[str, Callable[[Path, Tensors], None]] = {
    "torch-zip": write_torch,
    "torch-legacy": _write_legacy,
    "torch-distributed": _write_distributed,
    "onnx": write_onnx,
    "npz": _write_npz,
    "npz, deflated": _write_deflated,
}
_ENDINGS = {
    "torch-zip": ".pt", "torch-legacy": "-legacy.pt", "torch-distributed": ".distcp",
    "onnx": ".onnx", "npz": ".npz", "npz, deflated": "-deflated.npz",
}  # fmt: skip
_MEMORY = "checkpoint, from memory"
