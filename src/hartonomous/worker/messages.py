"""What a worker and its child processes say to each other: lines of JSON over two pipes."""

from typing import Any

import msgspec

from hartonomous.core.job import Ending, Job


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """The first line to a child: the store, the settings given, and whether it works alone."""

    store: str
    settings: dict[str, Any]
    force: bool
    alone: bool


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A line from a child: how a job ended, None where it was lost; ``written`` if it wrote that.

    A child cannot write it that works alone (the catalog is being replaced), or that could not open
    the store. ``trouble`` says why one that should have could not.
    """

    job_id: int
    ending: Ending | None
    written: bool
    trouble: str | None = None


def line(message: msgspec.Struct) -> bytes:
    """Return a message as one line."""
    return msgspec.json.encode(message) + b"\n"


to_setup = msgspec.json.Decoder(Setup)
to_job = msgspec.json.Decoder(Job)
to_told = msgspec.json.Decoder(Told)
