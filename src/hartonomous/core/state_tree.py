"""Nested state, such as an optimizer's, as tensors by name and a JSON text; and back, exactly.

Plain JSON stands for itself: null, booleans, integers, finite floats (as ``repr`` writes them,
which gives the same float again), text, lists, and objects whose keys are text. What JSON has not
is an object with one key: ``{"$tensor": NAME}``, ``{"$scalar": NAME}`` (a numpy scalar, kept as a
tensor), ``{"$tuple": [...]}``, ``{"$float": "nan"}`` and ``{"$dict": [[KEY, VALUE], ...]}`` for
keys that are no text or begin with ``$``. Subclasses of dictionaries come back as dictionaries.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hartonomous.errors import StructureError, UsageError

DEPTH_LIMIT = 64

IsTensor = Callable[[object], bool]


def flatten(tensors: Mapping[Any, Any], is_tensor: IsTensor) -> dict[str, Any]:
    """Return nested dictionaries of tensors as {dotted name: tensor}; raises UsageError.

    Two that come to one name, and whatever is no tensor, are refused by name.
    """
    found: dict[str, Any] = {}
    for name, value in _leaves(tensors, "", is_tensor, DEPTH_LIMIT):
        if name in found:
            raise UsageError(f"two tensors come to the name {name!r}", hint="rename one of them")
        found[name] = value
    return found


def _leaves(
    level: Mapping[Any, Any], path: str, is_tensor: IsTensor, depth: int
) -> Iterator[tuple[str, Any]]:
    for key, value in level.items():
        name = _joined(path, key)
        if is_tensor(value):
            yield name, value
        elif isinstance(value, Mapping) and depth:
            yield from _leaves(value, name, is_tensor, depth - 1)
        else:
            deep = isinstance(value, Mapping)
            raise UsageError(
                f"{name!r} is {'nested too deeply' if deep else _kind(value)}, not a tensor",
                hint="give arrays or nested dictionaries of them; an optimizer's state_dict() goes"
                " to optimizer=",
            )


def encode_state(state: object, is_tensor: IsTensor) -> tuple[str, dict[str, Any]]:
    """Return (JSON text, {name: tensor}) of nested state; raises UsageError for other values."""
    tensors: dict[str, Any] = {}
    tree = _encode(state, "", is_tensor, tensors, DEPTH_LIMIT)
    return json.dumps(tree, ensure_ascii=True, allow_nan=False, separators=(",", ":")), tensors


def _encode(
    value: object, path: str, is_tensor: IsTensor, tensors: dict[str, Any], depth: int
) -> Any:
    import numpy as np

    if depth == 0:
        raise UsageError(f"the state is nested deeper than {DEPTH_LIMIT} at {path[:80]!r}")
    if is_tensor(value):
        name, count = path or "tensor", 1
        while name in tensors:
            count += 1
            name = f"{path or 'tensor'}#{count}"
        tensors[name] = value
        return {"$scalar" if isinstance(value, np.generic) else "$tensor": name}
    if value is None or isinstance(value, bool | str) or type(value) is int:
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, Mapping):
        items = [
            (_key(key, path), _encode(one, _joined(path, key), is_tensor, tensors, depth - 1))
            for key, one in value.items()
        ]
        if all(isinstance(key, str) and not key.startswith("$") for key, _ in items):
            return dict(items)
        return {"$dict": [[key, one] for key, one in items]}
    if type(value) in (list, tuple):
        assert isinstance(value, list | tuple)
        found = [
            _encode(one, _joined(path, at), is_tensor, tensors, depth - 1)
            for at, one in enumerate(value)
        ]
        return found if isinstance(value, list) else {"$tuple": found}
    raise UsageError(
        f"{path[:200]!r} is {_kind(value)}, which cannot be kept exactly",
        hint="tensors, numbers, text, None, lists, tuples and dictionaries can",
    )


def _key(key: object, path: str) -> object:
    if key is None or isinstance(key, str | bool) or type(key) is int:
        return key
    raise UsageError(f"a key below {path[:200]!r} is {_kind(key)}", hint="use text or integers")


def _kind(value: object) -> str:
    return f"a {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")


def _joined(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def decode_state(text: str, tensor: Callable[[str], Any]) -> Any:
    """Return the state whose JSON text is ``text``; ``tensor`` gives tensors by name.

    Raises StructureError for a text that ``encode_state`` does not write.
    """
    try:
        return _decode(json.loads(text), tensor)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise StructureError(f"this is not the state of an optimizer: {error}") from error


def _decode(node: Any, tensor: Callable[[str], Any]) -> Any:
    if isinstance(node, list):
        return [_decode(one, tensor) for one in node]
    if not isinstance(node, dict):
        return node
    mark = next(iter(node)) if len(node) == 1 else ""
    if not mark.startswith("$"):
        return {key: _decode(one, tensor) for key, one in node.items()}
    held = node[mark]
    match mark:
        case "$tensor":
            return tensor(held)
        case "$scalar":
            return tensor(held)[()]
        case "$tuple":
            return tuple(_decode(one, tensor) for one in held)
        case "$float":
            return float(held)
        case "$dict":
            return {key: _decode(one, tensor) for key, one in held}
        case _:
            raise ValueError(f"the mark {mark[:40]!r} is unknown")
