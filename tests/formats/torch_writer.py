"""A small writer of PyTorch's formats, opcode by opcode, for files that PyTorch does not write."""

import io
import struct
import zipfile
from dataclasses import dataclass, field
from typing import Any

STORAGES = {
    "F64": ("DoubleStorage", 8), "F32": ("FloatStorage", 4), "F16": ("HalfStorage", 2),
    "BF16": ("BFloat16Storage", 2), "I64": ("LongStorage", 8), "I32": ("IntStorage", 4),
    "I16": ("ShortStorage", 2), "I8": ("CharStorage", 1), "U8": ("ByteStorage", 1),
    "BOOL": ("BoolStorage", 1), "C64": ("ComplexFloatStorage", 8),
}  # fmt: skip
MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
VERSION = b"\x80\x02M\xe9\x03."


@dataclass(frozen=True)
class Tensor:
    """A view over a storage, as ``_rebuild_tensor_v2`` takes it."""

    key: str
    dtype: str
    count: int  # elements of the storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Name:
    """A global."""

    module: str
    name: str


@dataclass(frozen=True)
class Called:
    """An object that a call makes."""

    function: Any
    arguments: tuple[Any, ...] = ()
    state: Any = None


@dataclass(frozen=True)
class Raw:
    """Opcodes as they are."""

    code: bytes = field(repr=False)


def opcodes(value: Any) -> bytes:
    """Return the opcodes that leave ``value`` on the stack."""
    if isinstance(value, Raw):
        return value.code
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        if -(2**31) <= value < 2**31:
            return b"J" + struct.pack("<i", value)
        content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(content)]) + content
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        content = value.encode("utf-8", "surrogatepass")
        return b"X" + struct.pack("<I", len(content)) + content
    if isinstance(value, list):
        return b"](" + b"".join(map(opcodes, value)) + b"e"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(opcodes, value)) + b"t"
    if isinstance(value, dict):
        return b"}(" + b"".join(opcodes(part) for item in value.items() for part in item) + b"u"
    if isinstance(value, Name):
        return f"c{value.module}\n{value.name}\n".encode()
    if isinstance(value, Called):
        made = opcodes(value.function) + opcodes(value.arguments) + b"R"
        return made if value.state is None else made + opcodes(value.state) + b"b"
    assert isinstance(value, Tensor)
    return opcodes(
        Called(
            Name("torch._utils", "_rebuild_tensor_v2"),
            (
                Raw(storage(value.key, value.dtype, value.count)),
                value.offset,
                value.shape,
                value.strides,
                False,
                Called(Name("collections", "OrderedDict")),
            ),
        )
    )


def storage(key: Any, dtype: str, count: Any) -> bytes:
    """Return the opcodes of a storage's persistent id."""
    kind = Name("torch", STORAGES[dtype][0])
    return opcodes(("storage", kind, key, "cpu", count)) + b"Q"


def pickled(value: Any) -> bytes:
    """Return a pickle of protocol 2."""
    return b"\x80\x02" + opcodes(value) + b"."


def archive(
    value: Any,
    storages: dict[str, bytes],
    *,
    byteorder: str | None = "little",
    compression: int = zipfile.ZIP_STORED,
    root: str = "archive",
) -> bytes:
    """Return a zip checkpoint."""
    members = {"data.pkl": pickled(value)}
    if byteorder is not None:
        members["byteorder"] = byteorder.encode()
    members |= {f"data/{key}": content for key, content in storages.items()}
    return zipped({f"{root}/{name}": part for name, part in members.items()}, compression)


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip file of these members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return file.getvalue()


def legacy(value: Any, storages: dict[str, tuple[str, bytes]]) -> bytes:
    """Return a checkpoint in the legacy format; ``storages`` are dtype and bytes by key."""
    machine = {"protocol_version": 1001, "little_endian": True}
    parts = [MAGIC, VERSION, pickled(machine), pickled(value), pickled(list(storages))]
    for dtype, content in storages.values():
        parts += [struct.pack("<q", len(content) // STORAGES[dtype][1]), content]
    return b"".join(parts)
