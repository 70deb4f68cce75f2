"""Whether a JSON value fits a schema, for those words of JSON Schema that ours use.

It says yes only where jsonschema does too; where it says no, jsonschema is asked, which knows what
is wrong and takes a tenth of a second to be loaded.
"""

from collections.abc import Callable, Mapping
from typing import Any

Schema = Mapping[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list, tuple), "string": (str,), "boolean": (bool,),
    "integer": (int,), "number": (int, float),
}  # fmt: skip


def fits(value: Any, schema: Schema) -> bool:
    """Say whether a value of msgspec's builtins fits; raises KeyError for a word not known here."""
    return all(_RULES[word](value, said, schema) for word, said in schema.items())


def _type(value: Any, said: str, _schema: Schema) -> bool:
    # bool is an int to Python and none to JSON Schema.
    return type(value) in _TYPES[said]


def _properties(value: Any, said: Mapping[str, Schema], _schema: Schema) -> bool:
    return all(fits(value[name], said[name]) for name in said.keys() & value.keys())


def _additional(value: Any, said: Any, schema: Schema) -> bool:
    others = value.keys() - schema.get("properties", {}).keys()
    return all(said is not False and fits(value[name], said) for name in others)


_RULES: dict[str, Callable[[Any, Any, Schema], bool]] = {
    "type": _type,
    "properties": _properties,
    "additionalProperties": _additional,
    "required": lambda value, said, _: all(name in value for name in said),
    "propertyNames": lambda value, said, _: all(fits(name, said) for name in value),
    "maxProperties": lambda value, said, _: len(value) <= said,
    "items": lambda value, said, _: all(fits(one, said) for one in value),
    "maxItems": lambda value, said, _: len(value) <= said,
    "minLength": lambda value, said, _: len(value) >= said,
    "maxLength": lambda value, said, _: len(value) <= said,
    "minimum": lambda value, said, _: value >= said,
    "maximum": lambda value, said, _: value <= said,
    "enum": lambda value, said, _: type(value) is str and value in said,
    "anyOf": lambda value, said, _: any(fits(value, one) for one in said),
    "$schema": lambda *_: True,
    "title": lambda *_: True,
    "description": lambda *_: True,
}
"""What each word says of a value; those about a type come behind the type in our schemas."""
