"""Writes ONNX models: the part of protobuf and of onnx.proto that a graph with weights needs.

A ``GraphWriter`` collects nodes; weights are described by shape and type and made when the model is
written, one after the other, so that a model larger than memory can be written. The numbers of
fields and types are those of onnx.proto (IR version 8).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from hartonomous.errors import LimitError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_MODEL_BYTES = 2**31 - 1
"""What protobuf can hold in one message."""

CONTRIB = "com.microsoft"
"""The domain of onnxruntime's own operators."""

_IR_VERSION = 8
_OPSET = 17
_CONTRIB_VERSION = 1
_ELEMENT_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9}
_FLOAT, _INT, _INTS = 1, 2, 7

Dimension = int | str
Attribute = int | float | Sequence[int]
Pieces = Callable[[], Iterable["NDArray[Any]"]]


@dataclass(frozen=True, slots=True)
class _Weight:
    """An initialiser: its encoded fields but the content, and what makes the content."""

    head: bytes
    length: int
    dtype: str
    pieces: Pieces


class GraphWriter:
    """Collects a graph. Names of values are given out; inputs and outputs keep theirs."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[bytes] = []
        self._weights: list[_Weight] = []
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []
        self._count = 0
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def input(self, name: str, dtype: str, shape: Sequence[Dimension]) -> str:
        """Declare an input; dimensions that vary have names."""
        self._inputs.append(_value(name, dtype, shape))
        return name

    def output(self, name: str, dtype: str, shape: Sequence[Dimension]) -> None:
        """Declare an output, a value that a node makes under this name."""
        self._outputs.append(_value(name, dtype, shape))

    def node(
        self, operator: str, *inputs: str, output: str = "", domain: str = "", **attributes: Any
    ) -> str:
        """Add a node of one output and return the output's name; an input ``""`` is left out."""
        return self.nodes(operator, inputs, [output or self._fresh()], domain, attributes)[0]

    def nodes(
        self,
        operator: str,
        inputs: Sequence[str],
        outputs: int | Sequence[str],
        domain: str = "",
        attributes: dict[str, Attribute] | None = None,
    ) -> list[str]:
        """Add a node of several outputs, given by name or number; return their names."""
        made = [self._fresh() for _ in range(outputs)] if isinstance(outputs, int) else [*outputs]
        fields = [_length(1, one.encode()) for one in inputs]
        fields += [_length(2, one.encode()) for one in made]
        fields.append(_length(4, operator.encode()))
        fields += [_length(5, _attribute(key, of)) for key, of in (attributes or {}).items()]
        if domain:
            fields.append(_length(7, domain.encode()))
        self._nodes.append(b"".join(fields))
        return made

    def constant(self, array: NDArray[Any]) -> str:
        """Add a small array as an initialiser, equal ones once; return its name."""
        array = np.asarray(array, order="C")
        key = (array.dtype.name, array.shape, array.tobytes())
        found = self._constants.get(key)
        if found is None:
            found = self.weight(array.dtype.name, array.shape, lambda: (array,))
            self._constants[key] = found
        return found

    def weight(self, dtype: str, shape: Sequence[int], pieces: Pieces) -> str:
        """Add an initialiser whose rows ``pieces`` makes, in order, when it is written."""
        name = f"w{len(self._weights)}"
        fields = [_number(1, extent) for extent in shape]
        fields += [_number(2, _ELEMENT_TYPES[dtype]), _length(8, name.encode())]
        size = prod(shape) * np.dtype(dtype).itemsize
        self._weights.append(_Weight(b"".join(fields), size, dtype, pieces))
        return name

    def size_bytes(self) -> int:
        """Return how long the model will be; raises LimitError beyond what protobuf holds."""
        graph = self._graph_bytes()
        size = len(_model_head()) + 1 + len(_varint(graph)) + graph
        if size > MOST_MODEL_BYTES:
            raise LimitError(
                f"the graph would take {size:,} bytes, and one file of ONNX holds at most "
                f"{MOST_MODEL_BYTES:,}",
                hint="--quantisation int8 takes a quarter of it",
            )
        return size

    def write(self, out: Callable[[bytes | memoryview], Any]) -> None:
        """Give the model's bytes to ``out``, in order; raises what ``size_bytes`` raises."""
        self.size_bytes()
        out(_model_head())
        out(_key(7, 2) + _varint(self._graph_bytes()))
        out(self._graph_head())
        for one in self._weights:
            content = len(one.head) + _length_of(one.length)
            out(_key(5, 2) + _varint(content) + one.head + _key(9, 2) + _varint(one.length))
            written = 0
            for piece in one.pieces():
                array = np.ascontiguousarray(piece, dtype=one.dtype)
                out(array.data.cast("B") if array.size else b"")
                written += array.nbytes
            assert written == one.length, "a weight has another size than was said"

    def _fresh(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def _graph_head(self) -> bytes:
        fields = [_length(1, one) for one in self._nodes]
        fields.append(_length(2, self._name.encode()))
        fields += [_length(11, one) for one in self._inputs]
        fields += [_length(12, one) for one in self._outputs]
        return b"".join(fields)

    def _graph_bytes(self) -> int:
        return len(self._graph_head()) + sum(
            _length_of(len(one.head) + _length_of(one.length)) for one in self._weights
        )


def in_rows(rows: int, row_bytes: int, read: Callable[[int, int], NDArray[Any]]) -> Pieces:
    """Return pieces of a table that ``read(start, stop)`` gives rows of, of about 16 MiB each."""
    step = max(1, (16 << 20) // max(1, row_bytes))

    def pieces() -> Iterator[NDArray[Any]]:
        for start in range(0, rows, step):
            yield read(start, min(rows, start + step))

    return pieces


def _model_head() -> bytes:
    opsets = [_length(1, b"") + _number(2, _OPSET)]
    opsets.append(_length(1, CONTRIB.encode()) + _number(2, _CONTRIB_VERSION))
    fields = [_number(1, _IR_VERSION), _length(2, b"hartonomous")]
    return b"".join([*fields, *(_length(8, one) for one in opsets)])


def _value(name: str, dtype: str, shape: Sequence[Dimension]) -> bytes:
    dimensions = b"".join(
        _length(1, _number(1, one) if isinstance(one, int) else _length(2, one.encode()))
        for one in shape
    )
    tensor = _number(1, _ELEMENT_TYPES[dtype]) + _length(2, dimensions)
    return _length(1, name.encode()) + _length(2, _length(1, tensor))


def _attribute(name: str, value: Attribute) -> bytes:
    head = _length(1, name.encode())
    if isinstance(value, float):
        return head + _key(2, 5) + struct.pack("<f", value) + _number(20, _FLOAT)
    if isinstance(value, int):
        return head + _number(3, value) + _number(20, _INT)
    return head + b"".join(_number(8, one) for one in value) + _number(20, _INTS)


def _key(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _number(number: int, value: int) -> bytes:
    return _key(number, 0) + _varint(value & (1 << 64) - 1)


def _length(number: int, content: bytes) -> bytes:
    return _key(number, 2) + _varint(len(content)) + content


def _length_of(content_bytes: int) -> int:
    """Return what a field of so many bytes takes; all fields used here have keys of one byte."""
    return 1 + len(_varint(content_bytes)) + content_bytes


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
