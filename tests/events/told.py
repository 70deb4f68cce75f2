"""Events as a store tells them, each held to the schemas: the envelope's and its type's."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

import hartonomous as hn
from hartonomous.core.event import TYPES, Event

ROOT = Path(__file__).resolve().parents[2]
DATA = json.loads((ROOT / "docs" / "schemas" / "event-data.json").read_text(encoding="utf-8"))


@cache
def envelope() -> Draft202012Validator:
    path = ROOT / "tests" / "fixtures" / "cloudevents" / "cloudevents.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FormatChecker())


@cache
def data_of(kind: str) -> Draft202012Validator:
    schema = DATA["$defs"][kind]
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def check(event: dict[str, Any]) -> None:
    """Hold a CloudEvent to the specification, and its data to the schema of its type."""
    envelope().validate(event)
    assert event["type"] in TYPES
    data_of(event["type"]).validate(event["data"])


def told(store: hn.Store, since: str = "beginning", **how: Any) -> list[Event]:
    """Return events of a store's feed, which are what the schemas say and in order."""
    found = list(store.events(since=since, **how))
    for one in found:
        check(json.loads(json.dumps(one.cloudevent())))
    assert len({one.id for one in found}) == len(found)
    return found


def kinds(events: list[Event]) -> list[str]:
    return [one.type for one in events]
