"""Plain values of a checkpoint's pickle as JSON holds them: numbers, texts, names, short lists.

Belongs to ``formats/torch_tree.py``. What numpy and PyTorch would make of a few plain calls (a
scalar, a device, a size) is told from their arguments; nothing is called.
"""

import math
import struct
from collections.abc import Callable
from typing import Any, Final

from hartonomous.errors import LimitError
from hartonomous.formats.pickle_values import Call, Global, Group, Value

AXIS_LIMIT = 64
INTEGER_LIMIT = 2**63 - 1
TEXT_LIMIT_CHARS = 4_096
LIST_LENGTH = 64
"""Lists of up to this many plain values are kept whole."""
HEAD_LENGTH = 16
"""Longer lists are summarised with this many of their first values."""


def is_tuple(value: Value, least: int) -> bool:
    """Say whether a value is a tuple of at least so many items."""
    return isinstance(value, tuple) and len(value) >= least


def is_count(value: Value) -> bool:
    """Say whether a value is a natural number that a file can mean."""
    return type(value) is int and 0 <= value <= INTEGER_LIMIT


def extents_of(value: Value) -> tuple[int, ...] | None:
    """Return a size or strides; None if it is neither."""
    found = sequence_of(value) if isinstance(value, Call) else value
    if not isinstance(found, tuple | list) or not all(is_count(extent) for extent in found):
        return None
    if len(found) > AXIS_LIMIT:
        raise LimitError(f"a tensor has {len(found)} axes, {AXIS_LIMIT} are granted")
    return tuple(found)


def sequence_of(call: Call) -> Any:
    """Return what a call of ``torch.Size``, ``set`` … is given."""
    if not is_tuple(call.arguments, 1):
        return ()
    given = call.arguments[0]
    found = given.items if isinstance(given, Group) else given
    return found if isinstance(found, list | tuple) else ()


def items_of(items: list[Value]) -> list[tuple[str, Value]]:
    """Return keys as text with their values; of a key that comes twice the last value counts."""
    keys = [_key_text(key, at) for at, key in enumerate(items[::2])]
    return list(dict(zip(keys, items[1::2], strict=True)).items())


def _key_text(key: Value, at: int) -> str:
    if isinstance(key, str):
        return readable(key)
    if isinstance(key, tuple) and all(isinstance(part, str | int) for part in key):
        return ",".join(readable(part) if isinstance(part, str) else str(part) for part in key)
    found = plain(key) if key is None or isinstance(key, bool | int | float | Global) else None
    return str(found) if found is not None or key is None else f"?{at}"


def readable(text: str) -> str:
    """Return a text of the file with what UTF-8 cannot hold as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def is_plain(value: Value) -> bool:
    """Say whether a value is one number, text or name, and no container."""
    if isinstance(value, Call):
        return value.path in PLAIN_CALLS
    return value is None or isinstance(value, bool | int | float | str | bytes | Global)


def plain(value: Value) -> Any:
    """Return a plain value, or a list of them, as JSON holds it."""
    if isinstance(value, list | tuple):
        if len(value) <= LIST_LENGTH:
            return [plain(item) for item in value]
        head = [plain(item) for item in value[:HEAD_LENGTH]]
        return {"type": "array", "count": len(value), "head": head}
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) <= INTEGER_LIMIT else f"a number of {value.bit_length()} bits"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return readable(value if len(value) <= TEXT_LIMIT_CHARS else value[:TEXT_LIMIT_CHARS])
    if isinstance(value, bytes):
        return {"type": "bytes", "count": len(value)}
    if isinstance(value, Global):
        return readable(value.path[:TEXT_LIMIT_CHARS])
    return PLAIN_CALLS[value.path](value) if isinstance(value, Call) else None


def _named_by(call: Call) -> Any:
    """Return the text that a call is given: the name of a layout or of numpy's element type."""
    text = call.arguments[0] if is_tuple(call.arguments, 1) else None
    return readable(text[:TEXT_LIMIT_CHARS]) if isinstance(text, str) else None


def _device(call: Call) -> Any:
    parts = call.arguments if isinstance(call.arguments, tuple) else ()
    return ":".join(str(plain(part)) for part in parts[:2] if type(part) in (str, int))


def _encoded(call: Call) -> Any:
    text = call.arguments[0] if is_tuple(call.arguments, 1) else None
    return {"type": "bytes", "count": len(text)} if isinstance(text, str) else None


def _content(value: Value) -> bytes | None:
    """Return bytes, or what ``_codecs.encode(text, "latin1")`` would make."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, Call) and value.path == "_codecs.encode" and is_tuple(value.arguments, 2):
        text = value.arguments[0]
        if isinstance(text, str) and value.arguments[1] in ("latin1", "latin-1"):
            return text.encode("latin-1", "replace")
    return None


_NUMBERS = {
    "f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b",
    "u8": "Q", "u4": "I", "u2": "H", "u1": "B", "b1": "?",
}  # fmt: skip


def _numpy_scalar(call: Call) -> Any:
    """Return the number of ``numpy.core.multiarray.scalar(dtype, bytes)``."""
    if not is_tuple(call.arguments, 2):
        return None
    kind, content = call.arguments[0], _content(call.arguments[1])
    code = kind.arguments[0] if isinstance(kind, Call) and is_tuple(kind.arguments, 1) else None
    order = kind.state[1] if isinstance(kind, Call) and is_tuple(kind.state, 2) else "<"
    form = _NUMBERS.get(code) if isinstance(code, str) else None
    if form is None or content is None or order not in ("<", "|", ">"):
        return {"type": "numpy.generic"}
    layout = struct.Struct(f"{'>' if order == '>' else '<'}{form}")
    return plain(layout.unpack(content)[0]) if len(content) == layout.size else None


def _numpy_array(call: Call) -> Any:
    """Return type and shape of an array; its values lie in the pickle itself."""
    shape = extents_of(call.state[1]) if is_tuple(call.state, 3) else None
    return {"type": "numpy.ndarray", "shape": list(shape) if shape is not None else None}


PLAIN_CALLS: Final[dict[str, Callable[[Call], Any]]] = {
    "torch.device": _device,
    "torch.serialization._get_layout": _named_by,
    "_codecs.encode": _encoded,
    "numpy.dtype": _named_by,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy._core.multiarray.scalar": _numpy_scalar,
    "numpy.core.multiarray._reconstruct": _numpy_array,
    "numpy._core.multiarray._reconstruct": _numpy_array,
}
