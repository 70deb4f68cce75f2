"""Hypothesis strategies of whole files, sound and broken, for tests of anything that stores them.

Each strategy draws the bytes of one file. ``GeneratedFile.tensors`` is what a reader of the format
must find in it, or None where the file breaks a rule and has to be kept without structure.
"""

import json
import math
import struct
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from hypothesis import strategies as st

from hartonomous.core.dtype import DTYPES, GGML_TYPES

Tensors = dict[str, tuple[str, tuple[int, ...], int, int]]
"""(dtype, shape, offset, length) by name."""

_SAFETENSORS_DTYPES = ("F32", "BF16", "F16", "F64", "I8", "U8", "I64", "BOOL", "F8_E4M3")
_GGUF_TYPES = ("F32", "F16", "Q4_0", "Q8_0", "Q4_K", "BF16", "I8")

# Single precision: negative zero, NaNs with payloads, infinities, the smallest subnormal.
_ODD_FLOATS = struct.pack("<6I", 0x80000000, 0x7FC00001, 0xFFA12345, 0x7F800000, 0xFF800000, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedFile:
    """A file's bytes, a fitting name, and the tensors that a reader must find."""

    name: str
    content: bytes
    format: str
    tensors: Tensors | None = None


def payloads(size: int) -> st.SearchStrategy[bytes]:
    """Draw ``size`` bytes: zeros, odd floats, a repeated run, or noise of a drawn seed."""
    return st.one_of(
        st.just(bytes(size)),
        st.just(_repeat(_ODD_FLOATS, size)),
        st.binary(min_size=1, max_size=32).map(lambda run: _repeat(run, size)),
        st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).bytes(size)),
    )


def _repeat(run: bytes, size: int) -> bytes:
    return (run * (size // len(run) + 1))[:size]


def tensor_names() -> st.SearchStrategy[str]:
    """Draw names as checkpoints have them, and odd ones."""
    real = st.sampled_from(
        ("weight", "model.layers.0.self_attn.q_proj.weight", "blk.1.ffn_up.weight", "token_embd")
    )
    return real | st.text(st.characters(codec="utf-8"), max_size=20).filter(
        lambda text: text != "__metadata__"
    )


def shapes(limit: int = 4096) -> st.SearchStrategy[tuple[int, ...]]:
    """Draw shapes of at most ``limit`` elements, scalars and empty ones among them."""
    sides = st.lists(st.integers(0, 64), max_size=4).map(tuple)
    return sides.filter(lambda shape: math.prod(shape) <= limit)


# -- safetensors


@st.composite
def safetensors_files(draw: st.DrawFn) -> GeneratedFile:
    """Draw sound safetensors files: padded headers, empty tensors, metadata, any order of names."""
    names = draw(st.lists(tensor_names(), max_size=6, unique=True))
    header: dict[str, object] = {}
    tensors: Tensors = {}
    body = b""
    for name in names:
        dtype, shape = draw(st.sampled_from(_SAFETENSORS_DTYPES)), draw(shapes())
        size = DTYPES[dtype].byte_count(math.prod(shape)) or 0
        header[name] = _entry(dtype, shape, len(body), len(body) + size)
        tensors[name] = (dtype, shape, len(body), size)
        body += draw(payloads(size))
    order = draw(st.permutations(list(header)))
    entries = {name: header[name] for name in order}
    if draw(st.booleans()):
        entries["__metadata__"] = draw(
            st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3)
        )
    content, start = _safetensors(json.dumps(entries), body, padding=draw(st.integers(0, 16)))
    placed = {
        name: (dtype, shape, start + at, size) for name, (dtype, shape, at, size) in tensors.items()
    }
    return GeneratedFile(
        name="model.safetensors", content=content, format="safetensors", tensors=placed
    )


@st.composite
def broken_safetensors_files(draw: st.DrawFn) -> GeneratedFile:
    """Draw safetensors files with gaps, overlaps, wrong sizes, duplicate names, or cut short."""
    size = draw(st.integers(2, 200)) * 4
    body = draw(payloads(size))
    half = size // 8 * 4
    fault = draw(st.sampled_from(("gap", "overlap", "outside", "size", "twice", "cut", "json")))
    first, second = _entry("F32", (half // 4,), 0, half), _entry("U8", (size - half,), half, size)
    header = json.dumps({"a": first, "b": second})
    if fault == "gap":
        body += b"more"
    elif fault == "overlap":
        header = json.dumps({"a": first, "b": _entry("U8", (size,), 0, size)})
    elif fault == "outside":
        header = json.dumps({"a": first, "b": _entry("U8", (2**60,), half, half + 2**60)})
    elif fault == "size":
        header = json.dumps({"a": first, "b": _entry("F64", (size,), half, size)})
    elif fault == "twice":
        header = json.dumps({"a": first, "b": second})
        header = f'{header[:-1]}, "a": {json.dumps(first)}}}'
    elif fault == "json":
        header = header[:-1]
    content, _ = _safetensors(header, body, padding=0)
    if fault == "cut":
        content = content[: draw(st.integers(0, len(content) - 1))]
    return GeneratedFile(name="broken.safetensors", content=content, format="file")


@st.composite
def unknown_dtype_files(draw: st.DrawFn) -> GeneratedFile:
    """Draw safetensors files with an element type that nobody knows; the bytes must survive."""
    body = draw(payloads(draw(st.integers(0, 500))))
    header = json.dumps({"x": _entry("F7_NEW", (3, 5), 0, len(body))})
    content, _ = _safetensors(header, body, padding=0)
    return GeneratedFile(name="new.safetensors", content=content, format="any")


def _entry(dtype: str, shape: tuple[int, ...], start: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def _safetensors(header: str, body: bytes, *, padding: int) -> tuple[bytes, int]:
    head = header.encode() + b" " * padding
    return struct.pack("<Q", len(head)) + head + body, 8 + len(head)


# -- GGUF


@st.composite
def gguf_files(draw: st.DrawFn) -> GeneratedFile:
    """Draw GGUF v2 and v3 files: any alignment, offsets not in order, gaps between tensors."""
    alignment = draw(st.sampled_from((8, 32, 64, 256)))
    names = draw(st.lists(tensor_names(), max_size=5, unique=True))
    kinds = [draw(st.sampled_from(_GGUF_TYPES)) for _ in names]
    rows: list[tuple[str, str, tuple[int, ...], int]] = []  # name, type, shape, size
    for name, kind in zip(names, kinds, strict=True):
        block = DTYPES[kind]
        shape: tuple[int, ...] = (
            draw(st.integers(1, 4)),
            block.block_elements * draw(st.integers(1, 3)),
        )
        size = math.prod(shape) // block.block_elements * block.block_bytes
        rows.append((name, kind, shape, size))
    offsets, body = _laid_out(draw, rows, alignment)
    head = struct.pack("<4sIQQ", b"GGUF", draw(st.sampled_from((2, 3))), len(rows), 2)
    head += _text("general.architecture") + struct.pack("<I", 8) + _text("llama")
    head += _text("general.alignment") + struct.pack("<II", 4, alignment)
    numbers = {known: number for number, (known, _, _) in GGML_TYPES.items()}
    for name, kind, shape, _ in rows:
        head += _text(name) + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}Q", *reversed(shape))
        head += struct.pack("<IQ", numbers[kind], offsets[name])
    head += bytes(-len(head) % alignment)
    tensors = {
        name: (kind, shape, len(head) + offsets[name], size) for name, kind, shape, size in rows
    }
    return GeneratedFile(name="m.gguf", content=head + body, format="gguf", tensors=tensors)


def _laid_out(
    draw: st.DrawFn, rows: list[tuple[str, str, tuple[int, ...], int]], alignment: int
) -> tuple[dict[str, int], bytes]:
    offsets: dict[str, int] = {}
    body = b""
    for name, _, _, size in draw(st.permutations(rows)):
        offsets[name] = len(body)
        body += draw(payloads(size))
        body += bytes(-len(body) % alignment)
    return offsets, body


def _text(value: str) -> bytes:
    content = value.encode()
    return struct.pack("<Q", len(content)) + content


# -- npy and the rest


@st.composite
def npy_files(draw: st.DrawFn) -> GeneratedFile:
    """Draw .npy files of plain types, C and Fortran order, scalars and empty arrays too."""
    kind = draw(st.sampled_from(("<f4", "<f2", "<i8", "|u1", "|b1", "<c8")))
    shape = draw(shapes(1000))
    size = math.prod(shape) * np.dtype(kind).itemsize
    array = np.frombuffer(draw(payloads(size)), kind).reshape(shape)
    if draw(st.booleans()):
        array = np.asfortranarray(array)
    out = BytesIO()
    np.save(out, array)
    return GeneratedFile(name="array.npy", content=out.getvalue(), format="npy")


def small_files() -> st.SearchStrategy[GeneratedFile]:
    """Draw empty files and files around the size up to which bytes lie in the manifest."""
    return st.binary(max_size=66).map(
        lambda content: GeneratedFile(name="small.bin", content=content, format="any")
    )


@st.composite
def opaque_files(draw: st.DrawFn) -> GeneratedFile:
    """Draw files without structure, some of many chunks, some of which repeat."""
    parts = draw(st.lists(st.integers(0, 3), max_size=4))
    pool = [draw(payloads(size)) for size in (100, 20_000, 90_000, 300_000)]
    content = b"".join(pool[index] for index in parts)
    return GeneratedFile(name="data.bin", content=content, format="file")


def file_names() -> st.SearchStrategy[bytes]:
    """Draw names that a Linux folder takes: spaces, quotes, control characters, no UTF-8."""
    odd = st.sampled_from(
        (b"with space", "naïve".encode(), b"new\nline", b"not\xffutf8", b"back\\slash", b"a@2",
         b"-rf", b"'quoted\"", "\u202egnp".encode(), b"\\x41", b"x" * 255)
    )  # fmt: skip
    anything = st.binary(min_size=1, max_size=30).filter(
        lambda name: not {0, 47} & set(name) and not name.startswith(b".") and name[-1:] != b"~"
    )
    return odd | anything


def any_file() -> st.SearchStrategy[GeneratedFile]:
    """Draw any of the files above."""
    return st.one_of(
        safetensors_files(), broken_safetensors_files(), unknown_dtype_files(), gguf_files(),
        npy_files(), small_files(), opaque_files(),
    )  # fmt: skip
