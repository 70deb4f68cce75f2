"""Results as the JSON that the command line promises.

The rules, by type and by field name: a 32-byte value is ``blake3:…`` (``sha256:…`` where the
field's name has sha256 in it); an integer field ``<name>_us``, microseconds UTC, becomes
``<name>_at`` in RFC 3339 (``at_us`` becomes ``at``); enumerations are their words; sets are
sorted; NaN and infinities are null. Everything else keeps its snake_case name. Schemas in
``docs/schemas`` hold the rest.
"""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from pathlib import PurePath

from hartonomous.core.digest import DIGEST_BYTES, format_digest
from hartonomous.core.moment import format_time, time_of

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def as_json(value: object, name: str = "") -> Json:
    """Return ``value`` as JSON can say it; ``name`` is the field that it stands in.

    Depth is that of our own result types. Raises TypeError for a type that has no rule.
    """
    match value:
        case Enum():
            return value.value if isinstance(value.value, str) else value.name.lower()
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case bytes():
            return _digest(value, name)
        case datetime():
            return format_time(time_of(value))
        case PurePath():
            return as_json(str(value))
        case Mapping():
            return {str(key): as_json(item, str(key)) for key, item in value.items()}
        case set() | frozenset():
            return sorted((as_json(item, name) for item in value), key=str)
        case list() | tuple():
            return [as_json(item, name) for item in value]
        case _:
            return _record(value)


def _digest(value: bytes, name: str) -> str:
    if len(value) != DIGEST_BYTES:
        raise TypeError(f"field {name!r}: {len(value)} bytes are no digest; JSON has no bytes")
    return format_digest(value, "sha256" if "sha256" in name else "blake3")


def _record(value: object) -> Json:
    """Return a msgspec.Struct or a dataclass as an object; msgspec need not be loaded for it."""
    names: tuple[str, ...] | None = getattr(type(value), "__struct_fields__", None)
    if names is None:
        if not is_dataclass(value) or isinstance(value, type):
            raise TypeError(f"{type(value).__name__} has no JSON form")
        names = tuple(found.name for found in fields(value))
    return dict(_entry(name, getattr(value, name)) for name in names)


def _entry(name: str, value: object) -> tuple[str, Json]:
    if name.endswith("_us") and (value is None or isinstance(value, int)):
        word = "at" if name == "at_us" else f"{name[:-3]}_at"
        return word, None if value is None else format_time(value)
    return name, as_json(value, name)
