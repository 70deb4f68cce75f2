"""ONNX models: a protobuf of a graph whose constants are the weights.

The file is walked by ``formats/protobuf.py``, never loaded: ``formats/onnx_graph.py`` finds the
tensors, ``formats/onnx_tensor.py`` says where each one's elements lie. What is no range of the file
is listed in ``metadata["other_tensors"]``; tensors in files beside it in ``metadata["external"]``,
by location, and ``core/external_data.py`` describes such a file. Locations that lead out of the
model's folder are told of and not listed there. ONNX has no magic; a file without its ending is
taken for one if it begins as its writers do.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from hartonomous.core.description import Description, Notice, Tensor
from hartonomous.core.dtype import DTYPES
from hartonomous.core.external_data import inner_path
from hartonomous.formats.onnx_graph import GraphWalk, read_model
from hartonomous.formats.onnx_tensor import External, read_entry
from hartonomous.formats.protobuf import Wire
from hartonomous.formats.quoted import quoted_names
from hartonomous.ports.format import Format, RangeReader

Key = TypeVar("Key")

METADATA_LIMIT_CHARS = 1 << 20
_VALUE_BYTES = 64 << 10
_LISTED = 256
_PAIRS_LISTED = 4_096

# ir_version, then the producer's name and whatever field of a model comes behind it.
_BEGINNING = re.compile(rb"\x08[\x01-\x20]\x12(?P<length>[\x01-\x40])")
_NEXT_TAGS = b"\x1a\x22\x28\x32\x3a\x42"


class _Onnx:
    """The format's parser; see the module's text."""

    name = "onnx"

    def matches(self, path: str, head: bytes) -> bool:
        """Say yes to ``*.onnx``, and to what begins with a version and a producer's name."""
        if path.lower().endswith(".onnx"):
            return True
        found = _BEGINNING.match(head)
        if found is None:
            return False
        end = found.end() + found["length"][0]
        name = head[found.end() : end]
        printable = name.isascii() and name.decode("latin-1").isprintable()
        return printable and head[end : end + 1] != b"" and head[end] in _NEXT_TAGS

    def parse(self, reader: RangeReader) -> Description:
        """Return the tensors by offset; raises StructureError or LimitError."""
        wire = Wire(reader)
        told, walk = read_model(wire)
        props, left_out = _properties(wire, told.pop("metadata_ranges"))
        inside, outside = _by_location(walk.external)
        metadata = {
            **told,
            "metadata_props": props,
            "operators": dict(_most_common(walk.operators)),
            "initializer_count": len(walk.initialisers),
            "parameter_count": min(sum(walk.initialisers.values()), 2**63 - 1),
            **_optional(walk, inside, outside),
        }
        return Description(
            format=self.name,
            tensors=tuple(sorted(walk.tensors, key=lambda one: one.offset)),
            metadata=metadata,
            notices=_notices(walk, inside, outside, left_out),
        )


ONNX: Final[Format] = _Onnx()
"""The entry for the table of formats."""


def _properties(wire: Wire, ranges: list[tuple[int, int]]) -> tuple[dict[str, str], int]:
    """Return the properties, in order, that fit the limit together, and how many do not."""
    kept: dict[str, str] = {}
    room = METADATA_LIMIT_CHARS
    left_out = 0
    for start, end in ranges:
        if end - start > min(room, _VALUE_BYTES):
            left_out += 1
            continue
        key, value = read_entry(wire, start, end, limit=_VALUE_BYTES)
        room -= end - start
        kept[key] = value
    return kept, left_out


def _by_location(external: list[External]) -> tuple[dict[str, list[External]], list[External]]:
    """Return the tensors in files of the model's folder by path, and those outside of it."""
    inside: dict[str, list[External]] = {}
    outside = []
    for one in external:
        path = inner_path(one.location)
        if path is None:
            outside.append(one)
        else:
            inside.setdefault(path, []).append(one)
    return inside, outside


def _optional(
    walk: GraphWalk, inside: dict[str, list[External]], outside: list[External]
) -> dict[str, Any]:
    """Return what only some models have."""
    custom: dict[str, dict[str, int]] = {}
    for (domain, operator), count in _most_common(walk.custom):
        if (domain, operator) not in walk.functions:
            custom.setdefault(domain, {})[operator] = count
    others = [
        {"name": one.name, "dtype": one.dtype, "shape": list(one.shape), "reason": one.reason}
        for one in walk.no_range[:_LISTED]
    ]
    others += [
        {"name": one.name, "dtype": one.dtype, "shape": list(one.shape), "reason": "it lies "
         "outside of the model's folder", "location": one.location}
        for one in outside[:_LISTED]
    ]  # fmt: skip
    told: dict[str, Any] = {
        "custom_operators": custom,
        "functions": [f"{domain}::{name}" if domain else name
                      for domain, name in sorted(walk.functions)[:_LISTED]],
        "quantised": _quantised(walk),
        "other_tensors": others,
        "external": {
            path: [
                {"name": one.name, "dtype": one.dtype, "shape": list(one.shape),
                 "offset": one.offset, "length": one.length}
                for one in tensors
            ]
            for path, tensors in inside.items()
        },
    }  # fmt: skip
    return {key: value for key, value in told.items() if value}


def _most_common(counts: Mapping[Key, int]) -> list[tuple[Key, int]]:
    """Return the largest counts; Counter.most_common imports a module each time."""
    return sorted(counts.items(), key=lambda item: -item[1])[:_LISTED]


def _quantised(walk: GraphWalk) -> list[dict[str, str]]:
    """Return the quantised initialisers with their scales and zero points.

    MatMulInteger and ConvInteger know no scale: it is multiplied in later. onnxruntime calls the
    three ``X_quantized``, ``X_scale`` and ``X_zero_point``, and is believed.
    """
    found: dict[str, dict[str, str]] = {}
    for name, scale, zero, operator in walk.quantised:
        if name not in walk.initialisers or name in found or len(found) >= _PAIRS_LISTED:
            continue
        stem = name.removesuffix("_quantized")
        named = scale or f"{stem}_scale"
        told = {"tensor": name, "operator": operator}
        if named in walk.initialisers:
            told["scale"] = named
        if zero in walk.initialisers:
            told["zero_point"] = str(zero)
        found[name] = told
    return list(found.values())


# -- notices


def _notices(
    walk: GraphWalk,
    inside: dict[str, list[External]],
    outside: list[External],
    left_out: int,
) -> tuple[Notice, ...]:
    reasons: dict[str, list[str]] = {}
    for one in walk.no_range:
        reasons.setdefault(one.reason, []).append(one.name)
    found = [
        Notice(
            kind="tensor",
            text=f"{len(names)} tensors are left out, {reason}: {quoted_names(names)}",
        )
        for reason, names in reasons.items()
    ]
    if outside:
        text = f"{len(outside)} tensors lie outside of the model's folder and are not looked for"
        found.append(
            Notice(kind="path", text=f"{text}: {quoted_names([one.location for one in outside])}")
        )
    if inside:
        count, files = sum(map(len, inside.values())), quoted_names(list(inside))
        text = f"{count} tensors lie in {len(inside)} files beside this one: {files}"
        found.append(Notice(kind="external-data", text=text))
    found += _tensor_notices(walk.tensors)
    if walk.renamed:
        text = f"{walk.renamed} tensors have the name of another one and got a number behind it"
        found.append(Notice(kind="name", text=text))
    if left_out:
        text = f"{left_out} properties are left out of the description: they are too long"
        found.append(Notice(kind="limit", text=text))
    return tuple(found)


def _tensor_notices(tensors: list[Tensor]) -> list[Notice]:
    found = []
    unknown = sorted({one.dtype for one in tensors if one.dtype not in DTYPES})
    if unknown:
        text = f"elements of type {quoted_names(unknown)} are taken as bytes"
        found.append(Notice(kind="dtype", text=text))
    coded = [one.name for one in tensors if one.coding is not None]
    if coded:
        text = f"{len(coded)} tensors are spelled as varints, kept as they lie and not shared"
        found.append(Notice(kind="varint", text=f"{text}: {quoted_names(coded)}"))
    return found
