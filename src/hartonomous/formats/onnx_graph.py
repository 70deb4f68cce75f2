"""ONNX's graphs, walked for their tensors: initialisers, constants, and those in subgraphs.

A node's attributes may hold tensors and whole graphs (If, Loop, Scan), which hold nodes again;
functions of the model hold nodes too. An initialiser has its own name, a constant that of the value
that it gives, a tensor in another attribute the node's name and the attribute's. Names of a
function's tensors begin with its own, and a name that is there already gets a number behind it.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from hartonomous.core.description import Tensor
from hartonomous.errors import LimitError, StructureError
from hartonomous.formats.onnx_tensor import (
    NAME_LIMIT_BYTES,
    TYPES,
    External,
    NoRange,
    TensorProto,
    place,
    read_tensor,
)
from hartonomous.formats.protobuf import LENGTH, VARINT, Wire

Range = TypeVar("Range")

TENSOR_LIMIT = 200_000
DEPTH_LIMIT = 32
"""How deep graphs may lie in graphs."""
NAMES_LIMIT_CHARS = 24 << 20
"""What all names together may have that are kept until the end of the file."""
RANGES_LIMIT = 250_000
"""Attributes of a node, nodes of a function and properties that are remembered at once."""
VALUES_LISTED = 256
"""Inputs and outputs that are described."""
_INPUTS_READ = 16
_SHORT_BYTES = 512

_STANDARD_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview",
                     "ai.onnx.preview.training")  # fmt: skip

# By operator: positions among its inputs of what is quantised, of its scale and its zero point.
_QUANTISED = {
    "DequantizeLinear": ((0, 1, 2),),
    "QuantizeLinear": ((0, 1, 2),),
    "MatMulInteger": ((0, None, 2), (1, None, 3)),
    "ConvInteger": ((0, None, 2), (1, None, 3)),
    "QLinearMatMul": ((0, 1, 2), (3, 4, 5)),
    "QLinearConv": ((0, 1, 2), (3, 4, 5)),
    "DynamicQuantizeMatMul": ((1, 2, 3),),
    "MatMulIntegerToFloat": ((0, 2, 4), (1, 3, 5)),
    "QGemm": ((0, 1, 2), (3, 4, 5)),
    "MatMulNBits": ((1, 2, 3),),
    "GatherBlockQuantized": ((0, 2, 3),),
}


class Node(msgspec.Struct, kw_only=True):
    """A node's names; its attributes are ranges of the file, read after them."""

    inputs: list[str] = []
    output: str = ""
    name: str = ""
    operator: str = ""
    domain: str = ""
    attributes: list[tuple[int, int]] = []


class GraphWalk:
    """Collects what the graphs of one file hold."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._names: dict[str, int] = {}
        self.tensors: list[Tensor] = []
        self.no_range: list[NoRange] = []
        self.external: list[External] = []
        self.initialisers: dict[str, int] = {}
        self.operators: Counter[str] = Counter()
        self.custom: Counter[tuple[str, str]] = Counter()
        self.functions: set[tuple[str, str]] = set()
        self.quantised: list[tuple[str, str | None, str | None, str]] = []
        self.renamed = 0
        self._chars = 0

    @property
    def tensor_count(self) -> int:
        """Tensors found, wherever they lie."""
        return len(self.tensors) + len(self.no_range) + len(self.external)

    # -- graphs and nodes

    def graph(self, start: int, end: int, *, prefix: str = "", depth: int = 0) -> dict[str, Any]:
        """Take in a graph; return its name, inputs and outputs."""
        if depth > DEPTH_LIMIT:
            raise LimitError(f"graphs lie in graphs deeper than {DEPTH_LIMIT} levels")
        told: dict[str, Any] = {"name": "", "inputs": [], "outputs": []}
        for number, kind, value, stop in self._wire.fields(start, end):
            if kind != LENGTH:
                continue
            if number == 1:
                self._node(value, stop, prefix=prefix, depth=depth)
            elif number == 2:
                told["name"] = self._short(value, stop)
            elif number == 5:
                self._initialiser(value, stop, prefix)
            elif number == 15:
                self._sparse(value, stop, prefix=prefix, name="sparse")
            elif number in (11, 12) and depth == 0:
                listed = told["inputs" if number == 11 else "outputs"]
                if len(listed) < VALUES_LISTED:
                    listed.append(self._value(value, stop))
        return told

    def function(self, start: int, end: int) -> None:
        """Take in a function of the model: its nodes."""
        name = domain = ""
        nodes: list[tuple[int, int]] = []
        for number, kind, value, stop in self._wire.fields(start, end):
            if kind != LENGTH:
                continue
            if number == 1:
                name = self._short(value, stop)
            elif number == 10:
                domain = self._short(value, stop)
            elif number == 7:
                _remember(nodes, (value, stop))
            elif number == 11:  # attributes with defaults, which may be tensors
                self._attribute(value, stop, Node(name=name), prefix="", depth=0)
        self._charge(domain, name)
        self.functions.add((domain, name))
        for one in nodes:
            self._node(*one, prefix=f"{name}/", depth=0)

    def _node(self, start: int, end: int, *, prefix: str, depth: int) -> None:
        node = self._read_node(start, end)
        if node.operator not in self.operators:
            self._charge(node.operator)
        self.operators[node.operator] += 1
        if node.domain not in _STANDARD_DOMAINS:
            if (node.domain, node.operator) not in self.custom:
                self._charge(node.domain, node.operator)
            self.custom[node.domain, node.operator] += 1
        inputs = [*node.inputs, *[""] * 6]
        for what, scale, zero in _QUANTISED.get(node.operator, ()):
            self._charge(*node.inputs)
            self.quantised.append((
                prefix + inputs[what],
                prefix + inputs[scale] if scale is not None and inputs[scale] else None,
                prefix + inputs[zero] if inputs[zero] else None,
                node.operator,
            ))  # fmt: skip
        for one in node.attributes:
            self._attribute(*one, node, prefix=prefix, depth=depth)

    def _read_node(self, start: int, end: int) -> Node:
        node = Node()
        for number, kind, value, stop in self._wire.fields(start, end):
            if kind != LENGTH:
                continue
            if number == 5:
                _remember(node.attributes, (value, stop))
            elif number == 1 and len(node.inputs) < _INPUTS_READ:
                node.inputs.append(self._name(value, stop))
            elif number == 2 and not node.output:
                node.output = self._name(value, stop)
            elif number == 3:
                node.name = self._name(value, stop)
            elif number == 4:
                node.operator = self._short(value, stop)
            elif number == 7:
                node.domain = self._short(value, stop)
        return node

    def _attribute(self, start: int, end: int, node: Node, *, prefix: str, depth: int) -> None:
        name = ""
        held: list[tuple[int, int, int]] = []
        for number, kind, value, stop in self._wire.fields(start, end):
            if kind != LENGTH:
                continue
            if number == 1:
                name = self._short(value, stop)
            elif number in (5, 6, 10, 11, 22, 23):
                _remember(held, (number, value, stop))
        constant = node.operator == "Constant" and node.output
        label = prefix + (
            node.output if constant else f"{node.name or node.output or node.operator}.{name}"
        )
        for number, value, stop in held:
            if number in (6, 11):
                self.graph(value, stop, prefix=prefix, depth=depth + 1)
            elif number in (5, 10):
                self._keep(read_tensor(self._wire, value, stop), label)
            else:
                self._sparse(value, stop, prefix="", name=label)

    # -- tensors

    def _initialiser(self, start: int, end: int, prefix: str) -> None:
        found = read_tensor(self._wire, start, end)
        name = self._keep(found, prefix + (found.name or "initializer"))
        self.initialisers[name] = found.element_count

    def _sparse(self, start: int, end: int, *, prefix: str, name: str) -> None:
        for number, kind, value, stop in self._wire.fields(start, end):
            if kind == LENGTH and number in (1, 2):
                found = read_tensor(self._wire, value, stop)
                if number == 1:
                    name = found.name or name
                part = "values" if number == 1 else "indices"
                self._keep(found, f"{prefix}{name}.{part}")

    def _keep(self, found: TensorProto, name: str) -> str:
        if self.tensor_count >= TENSOR_LIMIT:
            raise LimitError(f"the model has more than {TENSOR_LIMIT} tensors")
        name = self._unique(name)
        self._charge(name, name, *found.external.values())
        placed = place(found, name)
        if isinstance(placed, Tensor):
            self.tensors.append(placed)
        elif isinstance(placed, External):
            self.external.append(placed)
        else:
            self.no_range.append(placed)
        return name

    def _unique(self, name: str) -> str:
        """Return the name, with ``#2`` … where the model has it already."""
        found = name
        while found in self._names:
            self._names[name] += 1
            found = f"{name}#{self._names[name]}"
        self.renamed += found != name
        self._names[found] = 1
        return found

    # -- names and values

    def _charge(self, *names: str) -> None:
        """Count names that are kept; what the file says of itself must not fill the memory."""
        self._chars += sum(map(len, names))
        if self._chars > NAMES_LIMIT_CHARS:
            raise LimitError(f"the model's names have more than {NAMES_LIMIT_CHARS} characters")

    def _name(self, start: int, end: int) -> str:
        if end - start > NAME_LIMIT_BYTES:
            raise LimitError(f"a name at {start} has {end - start} bytes")
        return self._wire.text(start, end, limit=NAME_LIMIT_BYTES)

    def _short(self, start: int, end: int) -> str:
        return self._wire.text(start, end, limit=_SHORT_BYTES)

    def _value(self, start: int, end: int) -> dict[str, Any]:
        """Return name, element type and shape of an input or output."""
        told: dict[str, Any] = {"name": "", "dtype": None, "shape": None}
        for number, kind, value, stop in self._wire.fields(start, end):
            if kind == LENGTH and number == 1:
                told["name"] = self._short(value, stop)
            elif kind == LENGTH and number == 2:
                for inner, at, until in self._messages(value, stop):
                    if inner == 1:
                        told |= self._tensor_type(at, until)
        return told

    def _tensor_type(self, start: int, end: int) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for number, kind, value, stop in self._wire.fields(start, end):
            if number == 1 and kind == VARINT:
                told["dtype"] = TYPES[value][0] if value in TYPES else f"ONNX_{value}"
            elif number == 2 and kind == LENGTH:
                extents = [self._extent(at, until) for _, at, until in self._messages(value, stop)]
                told["shape"] = extents[:VALUES_LISTED]
        return told

    def _extent(self, start: int, end: int) -> int | str | None:
        found: int | str | None = None
        for number, kind, value, stop in self._wire.fields(start, end):
            if number == 1 and kind == VARINT:
                found = value if value < 1 << 63 else value - (1 << 64)
            elif number == 2 and kind == LENGTH:
                found = self._short(value, stop)
        return found

    def _messages(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        for number, kind, value, stop in self._wire.fields(start, end):
            if kind == LENGTH:
                yield number, value, stop


def _remember(ranges: list[Range], one: Range) -> None:
    if len(ranges) >= RANGES_LIMIT:
        raise LimitError(f"a message has more than {RANGES_LIMIT} parts of one kind")
    ranges.append(one)


def read_model(wire: Wire) -> tuple[dict[str, Any], GraphWalk]:
    """Walk a whole file: return what the model says of itself, and what its graphs hold.

    Raises StructureError if it has no graph or two, LimitError.
    """
    walk = GraphWalk(wire)
    told: dict[str, Any] = {"opset_imports": []}
    metadata: list[tuple[int, int]] = []
    graph: dict[str, Any] | None = None
    for number, kind, value, stop in wire.fields(0, wire.size):
        if kind == VARINT and number in (1, 5):
            told["ir_version" if number == 1 else "model_version"] = value
        elif kind != LENGTH:
            continue
        elif number in _TEXTS:
            told[_TEXTS[number]] = wire.text(value, stop, limit=_TEXT_BYTES)
        elif number == 7:
            if graph is not None:
                raise StructureError("the file has two graphs: it is no one model")
            graph = walk.graph(value, stop)
        elif number == 8 and len(told["opset_imports"]) < VALUES_LISTED:
            told["opset_imports"].append(_opset(wire, value, stop))
        elif number == 14:
            _remember(metadata, (value, stop))
        elif number == 20:
            for inner, _, at, until in wire.fields(value, stop):
                if inner in (1, 2):
                    walk.graph(at, until, prefix="training/", depth=1)
        elif number == 25:
            walk.function(value, stop)
    if graph is None:
        raise StructureError("the file has no graph: it is cut, or no ONNX model")
    told |= {"graph_name": graph["name"], "inputs": graph["inputs"], "outputs": graph["outputs"]}
    told["metadata_ranges"] = metadata
    return told, walk


_TEXTS = {2: "producer_name", 3: "producer_version", 4: "domain", 6: "doc_string"}
_TEXT_BYTES = 4_096


def _opset(wire: Wire, start: int, end: int) -> dict[str, Any]:
    told: dict[str, Any] = {"domain": "", "version": 0}
    for number, kind, value, stop in wire.fields(start, end):
        if number == 1 and kind == LENGTH:
            told["domain"] = wire.text(value, stop, limit=_SHORT_BYTES)
        elif number == 2 and kind == VARINT:
            told["version"] = value
    return told
