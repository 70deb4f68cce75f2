"""A small writer of ONNX models, field by field, for files that the onnx library does not write."""

from collections.abc import Iterable

FLOAT, UINT8, INT8, INT32, INT64, STRING, BOOL, FLOAT16 = 1, 2, 3, 6, 7, 8, 9, 10


def varint(value: int) -> bytes:
    """Return a varint; negative numbers as 64-bit two's complement."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    """Return a field of a varint."""
    return varint(field << 3) + varint(value)


def held(field: int, content: bytes | str) -> bytes:
    """Return a field of bytes, text or a message."""
    content = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(content)) + content


def packed(field: int, values: Iterable[int]) -> bytes:
    """Return a field of packed varints."""
    return held(field, b"".join(map(varint, values)))


def entry(key: str, value: str) -> bytes:
    """Return a StringStringEntryProto."""
    return held(1, key) + held(2, value)


def tensor(
    name: str, dtype: int = FLOAT, dims: Iterable[int] = (3,), *, raw: bytes | None = bytes(12),
    more: bytes = b"",
) -> bytes:  # fmt: skip
    """Return a TensorProto."""
    content = b"".join(number(1, extent) for extent in dims) + number(2, dtype) + held(8, name)
    return content + (b"" if raw is None else held(9, raw)) + more


def external(name: str, location: str, *, dims: Iterable[int] = (3,), **said: str) -> bytes:
    """Return a TensorProto whose data lie in another file."""
    entries = {"location": location, **said}
    more = b"".join(held(13, entry(key, value)) for key, value in entries.items()) + number(14, 1)
    return tensor(name, dims=dims, raw=None, more=more)


def graph(*initialisers: bytes, nodes: Iterable[bytes] = (), more: bytes = b"") -> bytes:
    """Return a GraphProto."""
    content = b"".join(held(1, node) for node in nodes) + held(2, "graph")
    return content + b"".join(held(5, one) for one in initialisers) + more


def node(operator: str, *attributes: bytes, output: str = "y", more: bytes = b"") -> bytes:
    """Return a NodeProto."""
    content = held(2, output) + held(4, operator)
    return content + b"".join(held(5, one) for one in attributes) + more


def attribute(name: str, field: int, content: bytes) -> bytes:
    """Return an AttributeProto with a tensor (field 5) or a graph (6)."""
    return held(1, name) + held(field, content)


def model(content: bytes, *, more: bytes = b"") -> bytes:
    """Return a ModelProto of this graph."""
    return number(1, 10) + held(2, "test") + held(7, content) + held(8, number(2, 21)) + more
