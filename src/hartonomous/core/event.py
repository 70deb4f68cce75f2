"""Events: what happened in a store, in the order of its change feed, as CloudEvents 1.0 tell it.

The envelope is that of https://github.com/cloudevents/spec (version 1.0.2, JSON format). The types
are listed here; ``docs/schemas/event-data.json`` has a schema for the data of each.
"""

import re
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from hartonomous.core.moment import format_time, parse_time
from hartonomous.errors import UsageError

MAX_DATA_BYTES = 64 * 1024
"""Of an event's data as JSON; carriers of CloudEvents must take events of 64 KiB."""
MAX_NAMED = 16
"""How many files, faults or labels an event names; beside them stands how many there are."""
MAX_TEXT = 512
"""Characters of a text in an event's data that somebody else wrote."""

TYPES: Mapping[str, str] = {
    "artifact.added": "A new artifact: its first version.",
    "artifact.updated": "A next version of an artifact.",
    "artifact.labelled": "A label points to another version than before.",
    "artifact.unlabelled": "A label is gone.",
    "artifact.annotated": "A version got tags or metadata.",
    "artifact.moved": "An artifact has another name.",
    "artifact.removed": "A version went to the trash.",
    "artifact.restored": "A version came back from the trash.",
    "artifact.purged": "A version went from the trash for good.",
    "artifact.part-dropped": "Files of a version were dropped.",
    "artifact.part-restored": "Files that had been dropped came back.",
    "model.ingested": "The version that was just added is a model.",
    "relation.created": "Somebody stated what one version is to another.",
    "relation.removed": "Such a statement was taken back.",
    "job.completed": "A job was done.",
    "job.failed": "A run of a job failed; the job is tried again.",
    "job.dead": "A job failed too often, or for good: somebody has to look.",
    "store.collected": "A collection freed something.",
    "store.repacked": "Stored bytes were encoded anew.",
    "store.verified": "A verification found damage.",
    "store.repaired": "The catalog was rebuilt: what was not read before is gone from the feed.",
}
"""Every type of event with what it says."""

_TYPE = re.compile(r"[a-z]{1,32}\.[a-z-]{1,32}")
_POSITION = re.compile(r"([0-9a-f]{1,16})\.([0-9a-f]{1,16})\.([0-9a-f]{1,16})")
_AGO = re.compile(r"([0-9]{1,6})\s*([smhd])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_CONSUMER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")
_MOST = 2**63 - 1


class Position(NamedTuple):
    """A place in the feed: behind the event of these numbers. They order events.

    ``era`` changes when a catalog is rebuilt, so that no id is given twice; ``transaction`` is the
    database's number of the transaction, 0 where writers come one after the other.
    """

    era: int
    transaction: int
    number: int

    def __str__(self) -> str:
        """Return the id of the event, as ``parse_position`` takes it."""
        return f"{self.era:x}.{self.transaction:x}.{self.number:x}"


BEGINNING = Position(0, 0, 0)
"""In front of every event."""


class NewEvent(NamedTuple):
    """An event to be written: its type, what it is about, and data that JSON can say."""

    type: str
    subject: str | None
    data: dict[str, Any]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the feed; ``time_us`` is microseconds UTC."""

    id: str
    source: str
    type: str
    subject: str | None
    time_us: int
    data: dict[str, Any]

    def cloudevent(self) -> dict[str, Any]:
        """Return the event as a CloudEvent in the JSON format."""
        return {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": self.type,
            **({"subject": self.subject} if self.subject else {}),
            "time": format_time(self.time_us),
            "datacontenttype": "application/json",
            "data": self.data,
        }


class Start(NamedTuple):
    """Where reading begins: behind a position, or with the first event from a time on."""

    position: Position | None = None
    time_us: int | None = None


def parse_position(text: str) -> Position | None:
    """Return the position that an event's id says, None for anything else."""
    found = _POSITION.fullmatch(text)
    if found is None:
        return None
    numbers = [int(part, 16) for part in found.groups()]
    return Position(*numbers) if max(numbers) <= _MOST else None


def parse_since(text: str, now_us: int) -> Start:
    """Return where ``beginning``, ``now``, a time, ``2h`` (ago) or an event's id says to begin.

    ``now`` is a Start without either. Raises UsageError for anything else.
    """
    if text == "beginning":
        return Start(BEGINNING)
    if text == "now":
        return Start()
    position = parse_position(text)
    if position is not None:
        return Start(position)
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return Start(time_us=now_us - int(ago[1]) * _SECONDS[ago[2]] * 1_000_000)
    time_us = parse_time(text)
    if time_us is not None:
        return Start(time_us=time_us)
    raise UsageError(
        f"{text[:80]!r} is no place in the feed",
        hint="use beginning, now, a time such as 2026-11-21T08:30:00Z, 2h, or an event's id",
    )


def check_type(text: str) -> str:
    """Return a type of event; raises ValueError for what is not two words with a dot between."""
    if _TYPE.fullmatch(text) is None:
        raise ValueError(f"{text[:80]!r} is no type of an event")
    return text


def check_consumer(text: str) -> str:
    """Return the name of a consumer; raises UsageError for one that is none."""
    if _CONSUMER.fullmatch(text) is None:
        raise UsageError(
            f"{text[:80]!r} is no name of a consumer",
            hint="use 1 to 64 of A-Z a-z 0-9 . _ / - and begin with a letter or digit",
        )
    return text


def source_of(store_id: str) -> str:
    """Return the URI of a store as a source of events."""
    try:
        return uuid.UUID(hex=store_id).urn
    except ValueError:  # a store that somebody else made
        return f"hartonomous/{quote(store_id[:MAX_TEXT], safe='')}"


def short(text: str) -> str:
    """Return the beginning of a text that somebody else wrote."""
    return text[:MAX_TEXT]
