"""What each target begins with: small files of real writers, and minimal ones made here.

The same inputs every time. Fixtures are those of ``tests/fixtures``, stores are built by hand as
the tests of rescue.py do, frames and plans are the test vectors of the documents.
"""

import functools
import io
import json
import pickle
import re
import struct
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fuzz import decoders, parsers
from fuzz.targets import FOUND, TARGETS
from hartonomous.codecs.delta import DeltaCodec
from hartonomous.codecs.fields import FieldsCodec
from hartonomous.codecs.quantised_blocks import SHAPES
from hartonomous.core.record import Encoding, RecordKind

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = ROOT / "tests" / "fixtures"
DOCS = ROOT / "docs"

_FILES = {
    "npz": ("npz/*.npz",),
    "torch-zip": ("torch/*.pt", "checkpoints/deepspeed/**/*.pt"),
    "torch-legacy": ("torch/*-legacy.pt",),
    "torch-index": ("checkpoints/**/.metadata",),
    "torch-shards": ("checkpoints/**/*.distcp",),
    "onnx": ("onnx/**/*.onnx",),
}
_VECTOR = r"^### \d+\. (.+?)\n" + r".*?```hex\n(.*?)```"
_PLAN = re.compile(r"^### .+?```json\n(.*?)```", re.M | re.S)

CARD = b"""---
license: apache-2.0
language: [en, de]
tags:
- text-generation
- "quoted \\u00e9"
base_model: 'org/base'
datasets: [a, "b"]
---
# A model

It answers.
"""
JINJA = b"{% for m in messages %}{{ m['role'] + ': ' + m.content | trim }}{% endfor %}"
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
    "auto_map": {"AutoModel": "modeling.Model"}, "rope_scaling": {"factor": 8.0},
    "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128},
    "chat_template": "{{ x }}", "added_tokens_decoder": {"0": {"content": "<s>"}},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]},
    "added_tokens": [{"id": 2, "content": "</s>"}],
    "metadata": {"total_size": 128}, "weight_map": {"w": "model-00001-of-00001.safetensors"},
    "log_history": [{"loss": 1.5, "step": 1}], "global_step": 1, "best_metric": None,
}  # fmt: skip
MODULES = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]


def safetensors_headers() -> Iterator[bytes]:
    """Yield headers of 64 bytes of data."""
    two = {
        "__metadata__": {"format": "pt"},
        "a.weight": {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]},
        "b": {"dtype": "BF16", "shape": [16], "data_offsets": [32, 64]},
    }
    four = {"x": {"dtype": "F4", "shape": [128], "data_offsets": [0, 64]}}
    empty = {"e": {"dtype": "I64", "shape": [0, 3], "data_offsets": [0, 0]}}
    yield from (json.dumps(one).encode() for one in (two, four, empty, {}))


def gguf() -> Iterator[bytes]:
    """Yield files of both versions with each kind of value, plain and quantised tensors."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    def pair(key: str, kind: int, value: bytes) -> bytes:
        return text(key) + struct.pack("<I", kind) + value

    strings = struct.pack("<IQ", 8, 2) + text("a") + text("bc")
    numbers = struct.pack("<IQ3I", 4, 3, 1, 2, 3)
    nested = struct.pack("<IQ", 9, 1) + numbers
    pairs = [
        pair("general.architecture", 8, text("llama")),
        pair("general.alignment", 4, struct.pack("<I", 32)),
        pair("f", 6, struct.pack("<f", 0.5)),
        pair("d", 12, struct.pack("<d", float("nan"))),
        pair("b", 7, b"\1"),
        pair("i", 11, struct.pack("<q", -1)),
        pair("tokens", 9, strings),
        pair("nested", 9, nested),
    ]
    infos = [
        text("a.weight") + struct.pack("<IQQIQ", 2, 4, 2, 0, 0),
        text("q") + struct.pack("<IQIQ", 1, 32, 8, 32),
        text("k") + struct.pack("<IQQIQ", 2, 256, 1, 12, 96),
    ]
    for version in (2, 3):
        head = struct.pack("<4sIQQ", b"GGUF", version, len(infos), len(pairs))
        head += b"".join((*pairs, *infos))
        yield head + bytes(-len(head) % 32) + bytes(32 + 64 + 144)


def npy() -> Iterator[bytes]:
    """Yield arrays as numpy writes them."""
    for array, version in (
        (np.arange(6, dtype="<f4").reshape(2, 3), (1, 0)),
        (np.asfortranarray(np.ones((3, 2), ">i2")), (2, 0)),
        (np.zeros(2, [("a", "<i4"), ("é", "<U2", (2,))]), (3, 0)),
        (np.array(True), (1, 0)),
    ):
        out = io.BytesIO()
        np.lib.format.write_array(out, array, version=version)
        yield out.getvalue()


def pickles() -> Iterator[bytes]:
    """Yield pickles of every protocol, and pickles of PyTorch and joblib."""
    value = {"a": [1, -5, 2**70, 0.5, "é", b"x", None, True], "b": (1, {2}, frozenset({3}))}
    for protocol in range(6):
        yield pickle.dumps(value, protocol)
    yield pickle.dumps(np.float64) + pickle.dumps({"second": 1})
    yield b"cos\nsystem\n(S'true'\ntR."
    yield b"(lp0\n(dp1\nS'a'\nI1\nsa(i__main__\nC\n."


def torch_pickles() -> Iterator[bytes]:
    """Yield the pickles of fixtures."""
    for path in sorted(FIXTURES.glob("torch/*.pt")):
        if zipfile.is_zipfile(path) and "without-crc" not in path.name:  # zipfile would refuse it
            with zipfile.ZipFile(path) as archive:
                name = next(one for one in archive.namelist() if one.endswith("/data.pkl"))
                yield archive.read(name)


def keras_configs() -> Iterator[bytes]:
    """Yield configurations with and without code."""
    inner = {"class_name": "Lambda", "config": {"name": "l", "function": ["4wE=", None, None]}}
    plain = {"class_name": "Dense", "module": "os", "registered_name": "x", "config": {}}
    for layers in ([], [inner], [plain, inner]):
        config = {"class_name": "Sequential", "config": {"layers": layers}}
        yield json.dumps(config).encode()


def hf_json() -> Iterator[bytes]:
    """Yield the same JSON for every file that lies beside weights."""
    for number in range(len(parsers.HF_JSON)):
        yield bytes([number]) + json.dumps(CONFIG).encode()
        yield bytes([number]) + json.dumps(MODULES).encode()


def stores() -> Iterator[tuple[bytes, list[bytes], list[bytes]]]:
    """Yield packs with their manifests, and with their commits and changes."""
    place = str(ROOT / "tests" / "rescue")
    if place not in sys.path:
        sys.path.append(place)
    from store_by_hand import PackByHand, StoreByHand

    weights = (np.arange(2000) % 61 / 64).astype("<f4").tobytes()
    for encoding in (Encoding.RAW, Encoding.ZSTD, Encoding.FIELDS):
        with tempfile.TemporaryDirectory() as folder:
            store = StoreByHand(Path(folder))
            pack = store.pack()
            store.commit(
                "a", 1, {"m/w.bin": [weights, b"inline"], "e": []},
                labels=("prod",), pack=pack, encoding=encoding, frame_bytes=2048,
            )  # fmt: skip
        texts = _contents(pack, encoding)
        yield pack.content(), *texts
    changes = PackByHand(key=b"k" * 16)
    uid, other = "00" * 16, "11" * 16
    held = {"artifact": other, "label": "x", "version_uid": uid}
    common = {"version": 1, "kind": "change", "time_us": 5}
    entries = [
        {"action": "label", "artifact": other, "label": "x", "version_uid": uid},
        {"action": "rename", "artifact": other, "name": "b", "previous_name": "a"},
        {"action": "remove", "version_uids": [uid], "labels": [held]},
        {"action": "undo", "of": 4},
        {"action": "undo", "of": 5},
        {"action": "purge", "version_uids": [uid], "manifests": ["ab"]},
    ]
    lines = [
        json.dumps({**common, "seq": 2 + at, **one}).encode() for at, one in enumerate(entries)
    ]
    for line in lines:
        changes.add(RecordKind.CHANGE, line)
    yield changes.content(), [], lines


def _contents(pack: object, encoding: Encoding) -> tuple[list[bytes], list[bytes]]:
    """Return the manifests and the commits of a pack, where they lie raw."""
    found: dict[int, list[bytes]] = {RecordKind.MANIFEST: [], RecordKind.COMMIT: []}
    whole = pack.content()  # type: ignore[attr-defined]
    for header in pack.headers if encoding is Encoding.RAW else ():  # type: ignore[attr-defined]
        if header.kind in found:
            found[header.kind].append(whole[header.offset : header.offset + header.stored])
    return found[RecordKind.MANIFEST], found[RecordKind.COMMIT]


def packs() -> Iterator[bytes]:
    """Yield packs, one of them without its end."""
    found = [pack for pack, _, _ in stores()]
    yield from found
    yield found[0][:-100]


def record_headers() -> Iterator[bytes]:
    """Yield the headers that lie in packs."""
    for pack in packs():
        yield from (pack[one.start() :][:512] for one in re.finditer(b"HREC", pack))


def manifests() -> Iterator[bytes]:
    """Yield manifests of stores, and one that describes a tensor."""
    for _, found, _ in stores():
        yield from found
        for content in found:
            described = json.loads(content)
            described["description"] = {
                "format": "npz",
                "tensors": [
                    {
                        "name": "a", "dtype": "F32", "shape": [2], "offset": 0, "length": 5,
                        "coding": {"method": "deflate", "length": 8},
                    }
                ],
            }  # fmt: skip
            yield json.dumps(described).encode()


def journals() -> Iterator[bytes]:
    """Yield commits and changes, one a line."""
    lines = [line for _, _, found in stores() for line in found]
    yield b"\n".join(lines)
    yield from lines


def read_hex(block: str) -> bytes:
    """Return the bytes of a block of a document; each line begins with their position."""
    return b"".join(bytes.fromhex(line.partition("  ")[2]) for line in block.splitlines())


def vectors(page: str, blocks: int) -> Iterator[tuple[str, *tuple[bytes, ...]]]:
    """Yield the title and the bytes of each test vector of a document."""
    pattern = re.compile(_VECTOR + r".*?```hex\n(.*?)```" * (blocks - 1), re.M | re.S)
    for title, *found in pattern.findall((DOCS / page).read_text(encoding="utf-8")):
        yield title, *map(read_hex, found)


def fields() -> Iterator[bytes]:
    """Yield the document's vectors, and frames of each size of element."""
    for _, payload, frame in vectors("format-fields.md", 2):
        yield struct.pack("<H", len(frame)) + payload
    for dtype, kind in (("F32", "<f4"), ("F16", "<f2"), ("I64", "<i8")):
        numbers = np.round(np.random.default_rng(1).standard_normal(400) * 2).astype(kind)
        payload = FieldsCodec().encode(numbers.view(np.uint8).data, dtype)
        if payload is None:
            raise ValueError(f"a frame of {dtype} did not get smaller")
        yield struct.pack("<H", numbers.nbytes) + payload


def deltas() -> Iterator[bytes]:
    """Yield the document's vectors, and frames near to the prediction."""
    for _, _, payload, frame in vectors("format-delta.md", 3):
        for number in range(len(decoders.DELTA_TYPES)):
            yield struct.pack("<BH", number, len(frame)) + payload
    for number, dtype in enumerate(decoders.DELTA_TYPES):
        base = decoders.prediction_of(2048)
        near = np.frombuffer(base, np.uint8).copy()
        near[::64] ^= 1
        (payload,) = DeltaCodec().encode_many([near.data], [memoryview(base)], dtype, positions=[0])
        if payload is None:
            raise ValueError(f"a frame of {dtype} did not get smaller")
        yield struct.pack("<BH", number, len(base)) + payload


def derived() -> Iterator[bytes]:
    """Yield the document's vectors, and frames that have no whole block."""
    for dtype, shape in SHAPES.items():
        for recipe in shape.recipes:
            place = struct.pack("<BHH", decoders.QUANTISED_TYPES.index(dtype), 0, 5)
            yield place + struct.pack("<BBHHI", recipe, shape.number, 0, 5, 0) + b"begin\0\0"
    for title, payload, frame in vectors("format-quantised.md", 2):
        number = decoders.QUANTISED_TYPES.index(re.split(r"\W", title)[0])
        yield struct.pack("<BHH", number, 0, len(frame)) + payload


def plans() -> Iterator[bytes]:
    """Yield the document's plans."""
    for text in _PLAN.findall((DOCS / "format-plans.md").read_text(encoding="utf-8")):
        yield text.strip().encode()


def plans_made() -> Iterator[bytes]:
    """Yield bytes that choose sound plans: the operands, the steps, the target."""
    matrix, target = [2, 2, 3, 2, 0, 0], [2, 2, 3, 2]
    yield bytes([1, *matrix, 0, *target])
    yield bytes([1, *matrix, 1, 0, 0, 0, 0, 2, 3, 2])  # cast
    yield bytes([1, *matrix, 1, 1, 2, 1, 0, 2, 2, 2, 3])  # transpose
    yield bytes([1, *matrix, 1, 3, 1, 3, 2, 2, 2, 2])  # rows
    yield bytes([1, *matrix, 1, 4, 1, 2, 2, 4, 2])  # append
    yield bytes([1, 2, 1, 8, 0, 0, 1, 2, 2, 0, 2, 1, 8])  # permute_heads
    yield bytes([2, *matrix, *matrix, 1, 6, 2, 2, 6, 2])  # concatenate
    yield bytes([2, *matrix, *matrix, 1, 7, 2, 200, 100, 2, 2, *target])  # linear
    yield bytes([2, *matrix, *matrix, 1, 8, 1, 200, 2, 2, *target])  # task_vectors
    yield bytes(
        [3, *matrix, 2, 2, 3, 1, 0, 0, 2, 2, 1, 2, 0, 0, 1, 9, 2, 2, 0, *target]
    )  # low_rank


def detected() -> Iterator[bytes]:
    """Yield what the parsers' targets begin with, under every name."""
    for at, path in enumerate(parsers.PATHS):
        for name in ("safetensors", "gguf", "npy", "pickle", "model-card", "jinja", "torch-zip"):
            found = min(seeds_of(name), key=len)
            if at % 3 == 0 or name in path:
                yield bytes([at]) + found


_MADE = {
    "safetensors": lambda: (
        struct.pack("<Q", len(one)) + one + bytes(64) for one in safetensors_headers()
    ),
    "safetensors-header": safetensors_headers,
    "gguf": gguf,
    "npy": npy,
    "npz-member": npy,
    "torch-pickle": torch_pickles,
    "pickle": pickles,
    "keras": keras_configs,
    "hdf5": lambda: iter([b'\x89HDF\r\n\x1a\n{"class_name": "Lambda", "config": {}}' * 2]),
    "jinja": lambda: iter([JINJA]),
    "model-card": lambda: iter([CARD]),
    "hf-json": hf_json,
    "detected": detected,
    "record": record_headers,
    "pack": packs,
    "rescued": packs,
    "manifest": manifests,
    "journal": journals,
    "plan": plans,
    "plan-made": plans_made,
    "fields": fields,
    "delta": deltas,
    "derived": derived,
}


@functools.cache
def seeds_of(name: str) -> tuple[bytes, ...]:
    """Return what a target begins with, no input over its limit and none twice."""
    made = [*(_MADE[name]() if name in _MADE else ())]
    for pattern in _FILES.get(name, ()):
        made += [path.read_bytes() for path in sorted(FIXTURES.glob(pattern))]
    return tuple(dict.fromkeys(one for one in made if len(one) <= TARGETS[name].max_bytes))


def found_before(name: str) -> list[Path]:
    """Return the inputs that once made a target fail."""
    return sorted((FOUND / name).glob("*"))
