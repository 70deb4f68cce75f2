"""Targets of the parsers: bytes that are a file, or the inner part of one that is made of them.

Each takes any bytes. A file is refused by one of our errors, or the description of it is sound: see
``check_description``.
"""

import contextlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from math import prod
from typing import Final

import msgspec

from hartonomous.core.coding import check_coding
from hartonomous.core.description import Description
from hartonomous.core.dtype import DTYPES
from hartonomous.core.manifest import MAX_NUMBER, Manifest, Segment, decode, encode, partition
from hartonomous.core.strides import span
from hartonomous.errors import HartonomousError
from hartonomous.formats import detect
from hartonomous.formats.inert_pickle import read_pickle
from hartonomous.formats.reader import BytesReader
from hartonomous.formats.torch_tree import read_tree, storage_bytes
from hartonomous.ports.entry import load
from hartonomous.ports.format import Format

HF_JSON: Final = tuple(map(load, (one for one in detect.FORMATS if ".hf_json:" in one)))
"""The parsers of JSON beside weights; the first byte of an input says which is meant."""

STORAGE_BYTES = 1 << 16

PATHS: Final = (
    "model.safetensors", "model.gguf", "weights.npy", "weights.npz", "model.pt", "model.bin",
    "__0_0.distcp", ".metadata", "model.onnx", "model.pkl", "model.keras", "model.h5",
    "chat_template.jinja", "README.md", "config.json", "tokenizer.json", "model",
)  # fmt: skip
"""Names of files; the first byte of an input of ``detected`` says which is meant."""


def check_description(found: Description, size: int) -> None:
    """Assert what everything behind the parsers relies on.

    Ranges lie inside the file and have their elements' bytes, numbers fit the catalog, metadata is
    JSON, and the description comes back from the parser process and from a manifest as it was.
    """
    for tensor in found.tensors:
        assert 0 <= tensor.offset <= tensor.offset + tensor.length <= size, tensor
        assert all(0 <= extent <= MAX_NUMBER for extent in tensor.shape), tensor
        if tensor.coding is not None:
            check_coding(tensor.coding, tensor.length)
        known = DTYPES.get(tensor.dtype)
        if known is None:
            continue
        count = prod(tensor.shape)
        if tensor.strides is not None:
            assert len(tensor.strides) == len(tensor.shape), tensor
            count = span(tensor.shape, tensor.strides)
        if tensor.length or tensor.coding is not None:
            assert known.byte_count(count) == tensor.byte_count, tensor
    partition(size, found.tensors)
    json.dumps(msgspec.to_builtins(found), allow_nan=False)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=Description) == found
    segments = (Segment(size, digest=bytes(32)),) if size else ()
    kept = Manifest(
        size=size, digest=bytes(32), sha256=bytes(32), segments=segments, description=found
    )
    content = encode(kept)
    assert encode(decode(content)) == content


def parse(one: Format, content: bytes) -> None:
    """Parse a file whose name is right for the format."""
    try:
        found = one.parse(BytesReader(content))
    except HartonomousError:
        return
    check_description(found, len(content))


def parser(entry: str) -> Callable[[bytes], None]:
    """Return the target of one entry of the table of formats."""
    one = load(f"hartonomous.formats.{entry}")
    return lambda content: parse(one, content)


def hf_json(content: bytes) -> None:
    """Parse JSON as one of the files that lie beside weights."""
    if content:
        parse(HF_JSON[content[0] % len(HF_JSON)], content[1:])


def detected(content: bytes) -> None:
    """Ask every format, as the parser process does."""
    if content:
        path, content = PATHS[content[0] % len(PATHS)], content[1:]
        check_description(detect.describe(BytesReader(content), path), len(content))


def safetensors_header(content: bytes) -> None:
    """Parse a safetensors file of this header, with 64 bytes behind it."""
    parse(_SAFETENSORS, struct.pack("<Q", len(content)) + content + bytes(64))


def torch_pickle(content: bytes) -> None:
    """Parse a PyTorch zip file of this pickle, with storages as large as it says."""
    members = {"data.pkl": content, "byteorder": b"little", "version": b"3\n"}
    with contextlib.suppress(HartonomousError):
        for view in read_tree(read_pickle(BytesReader(content)).value).views[:64]:
            key, size = view.storage.key, storage_bytes(view.storage)
            if size <= STORAGE_BYTES and len(key) < 40 and key.isalnum() and key.isascii():
                members[f"data/{key}"] = bytes(size)
    parse(_TORCH_ZIP, zipped({f"a/{name}": held for name, held in members.items()}))


def npz_member(content: bytes) -> None:
    """Parse an .npz file of this member, stored and deflated."""
    parse(_NPZ, zipped({"a.npy": content}))
    parse(_NPZ, zipped({"a.npy": content}, zipfile.ZIP_DEFLATED))


def keras_config(content: bytes) -> None:
    """Parse a .keras file of this configuration."""
    parse(_KERAS, zipped({"config.json": content}))


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip file of these members; the same ones give the same bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return out.getvalue()


def with_checksums(content: bytes) -> bytes:
    """Return a zip file whose stored members have the CRC that their bytes have.

    Without this hardly any change of a byte would come past it.
    """
    out = bytearray(content)
    at = content.find(b"PK\x01\x02")
    while at >= 0 and at + 46 <= len(out):
        method, length = struct.unpack_from("<H8xI", out, at + 10)
        place = struct.unpack_from("<I", out, at + 42)[0]
        if method == 0 and place + 30 <= len(out):
            told_behind = out[place + 6] & 8
            start = place + 30 + sum(struct.unpack_from("<HH", out, place + 26))
            check = zlib.crc32(out[start : start + length])
            struct.pack_into("<I", out, at + 16, check)
            if not told_behind:
                struct.pack_into("<I", out, place + 14, check)
        at = content.find(b"PK\x01\x02", at + 4)
    return bytes(out)


def archive(entry: str) -> Callable[[bytes], None]:
    """Return the target of a format in zip files: as the bytes are, and with right CRCs."""
    one = load(f"hartonomous.formats.{entry}")

    def run(content: bytes) -> None:
        parse(one, content)
        mended = with_checksums(content)
        if mended != content:
            parse(one, mended)

    return run


_SAFETENSORS = load("hartonomous.formats.safetensors:SAFETENSORS")
_TORCH_ZIP = load("hartonomous.formats.torch_zip:TORCH_ZIP")
_NPZ = load("hartonomous.formats.npz:NPZ")
_KERAS = load("hartonomous.formats.keras:KERAS")
