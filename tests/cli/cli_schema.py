"""Holds what a command prints with ``--json`` to the schema in ``docs/schemas``."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = ROOT / "docs" / "schemas"


@cache
def validator(command: str) -> Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{command}.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def validate(command: str, text: str) -> list[Any]:
    """Return the objects in ``text``, one a line, each held to the command's schema."""
    found = [json.loads(line) for line in text.splitlines()]
    assert found, f"{command} printed nothing"
    for value in found:
        validator(command).validate(value)
    return found
