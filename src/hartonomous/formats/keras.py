"""Keras's files, looked at for what loading them would run; their weights are not read.

``.keras`` is a zip file whose ``config.json`` says what the layers are; in HDF5 files (``.h5``) the
same JSON is an attribute. What a configuration would import (objects that are not Keras's own have
a ``module``) is listed as the names of a pickle are. A Lambda layer holds Python bytecode
(``__lambda__``), or in old files a list of which the first text is bytecode, or names a function.
The JSON of a zip file is read whole; an HDF5 file's first 64 MiB are searched for the text of a
Lambda layer, which Keras writes at its beginning.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from hartonomous.core.description import Description, Notice
from hartonomous.errors import LimitError, StructureError
from hartonomous.formats.pickle_values import Global
from hartonomous.formats.pickle_verdict import DANGEROUS, listed
from hartonomous.formats.zip_directory import MAGIC as ZIP_MAGIC
from hartonomous.formats.zip_directory import read_directory, read_member
from hartonomous.ports.format import Format, RangeReader

CONFIG_LIMIT_BYTES = 16 << 20
SEARCHED_BYTES = 64 << 20
LAYERS_KEPT = 64
NAMES_KEPT = 256

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_OWN_MODULES = frozenset({"keras", "tf_keras", "builtins"})
_READ_BYTES = 8 << 20
_OVERLAP = 64
_VALUE_LIMIT = 1_000_000
_LAMBDA = re.compile(rb'"class_name"\s{0,8}:\s{0,8}"(?:[^"]{0,24}>)?Lambda"')


class _Keras:
    """The parser of ``.keras``; see the module's text."""

    name = "keras"

    def matches(self, path: str, head: bytes) -> bool:
        """Say yes to zip files of that ending."""
        return path.lower().endswith(".keras") and head.startswith(ZIP_MAGIC)

    def parse(self, reader: RangeReader) -> Description:
        """Return the Lambda layers; raises StructureError or LimitError."""
        entries = read_directory(reader)
        if "config.json" not in entries:
            raise StructureError("the zip file has no config.json")
        content = read_member(reader, entries["config.json"], limit_bytes=CONFIG_LIMIT_BYTES)
        if sum(map(content.count, b",[{")) > _VALUE_LIMIT:
            raise LimitError(f"config.json has more than {_VALUE_LIMIT:,} values")
        try:
            config = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise StructureError(f"config.json cannot be read: {str(error)[:200]}") from error
        told = _described(self.name, _lambda_layers(config))
        names = listed(_imports(config))
        if not names:
            return told
        return Description(
            format=self.name,
            metadata={**told.metadata, "globals": names[:NAMES_KEPT]},
            notices=(*told.notices, *_notices_of_imports(names)),
        )


class _Hdf5:
    """The search of HDF5 files; see the module's text."""

    name = "hdf5"

    def matches(self, path: str, head: bytes) -> bool:
        """Say yes to HDF5's magic and the endings of Keras."""
        return path.lower().endswith((".h5", ".hdf5", ".keras")) and head.startswith(_HDF5_MAGIC)

    def parse(self, reader: RangeReader) -> Description:
        """Return how many Lambda layers the text of the file's beginning has."""
        end = min(reader.size, SEARCHED_BYTES)
        count, before = 0, b""
        for at in range(0, end, _READ_BYTES):
            content = before + reader.read(at, min(_READ_BYTES, end - at))
            count += sum(one.end() > len(before) for one in _LAMBDA.finditer(content))
            before = content[-_OVERLAP:]
        told = _described(self.name, [{"name": None, "bytecode": None}] * count)
        if reader.size <= SEARCHED_BYTES:
            return told
        text = f"only the first {SEARCHED_BYTES:,} bytes were searched for Lambda layers"
        notices = (*told.notices, Notice(kind="limit", text=text))
        return Description(format=self.name, metadata=told.metadata, notices=notices)


KERAS: Final[Format] = _Keras()
HDF5: Final[Format] = _Hdf5()
"""The entries for the table of formats."""


def _described(name: str, layers: list[dict[str, Any]]) -> Description:
    if not layers:
        return Description(format=name)
    notices: tuple[Notice, ...] = ()
    if any(one["bytecode"] is not False for one in layers):
        text = f"{len(layers)} Lambda layers: loading this without safe_mode runs their code"
        notices = (Notice(kind="lambda-layer", text=text),)
    return Description(
        format=name, metadata={"lambda_layers": layers[:LAYERS_KEPT]}, notices=notices
    )


def _notices_of_imports(names: Sequence[dict[str, str]]) -> list[Notice]:
    """Return a notice about names that are dangerous to import."""
    found = [one["name"] for one in names if one["verdict"] == DANGEROUS]
    if not found:
        return []
    text = f"loading this would import {', '.join(map(ascii, found[:8]))}: do not load it"
    return [Notice(kind="dangerous-import", text=text)]


def _lambda_layers(config: Any) -> list[dict[str, Any]]:
    """Return the Lambda layers of a configuration, found at any depth without recursion."""
    found: list[dict[str, Any]] = []
    for value in _objects(config):
        name = value.get("class_name")
        if isinstance(name, str) and name.rpartition(">")[2] == "Lambda":
            found.append(_lambda_layer(value.get("config")))
    return found[::-1]


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of the JSON, at any depth, without recursion."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, dict):
            waiting.extend(value.values())
            yield value


def _imports(config: Any) -> Iterator[Global]:
    """Yield what Keras would import: ``module`` with the name of a function or of a class."""
    for value in _objects(config):
        module, cls, inner = (value.get(key) for key in ("module", "class_name", "config"))
        if not isinstance(module, str) or module.partition(".")[0] in _OWN_MODULES:
            continue
        name = inner if isinstance(inner, str) else cls
        if isinstance(name, str):
            yield Global(module[:200], name[:200])


def _lambda_layer(config: Any) -> dict[str, Any]:
    held = config if isinstance(config, dict) else {}
    function = held.get("function")
    named = isinstance(function, str) or (
        isinstance(function, dict) and function.get("class_name") == "function"
    )
    name = held.get("name")
    return {"name": name[:200] if isinstance(name, str) else None, "bytecode": not named}
