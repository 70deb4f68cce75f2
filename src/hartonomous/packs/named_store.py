"""Errors of a catalog where several stores are at work: they say whose it is."""

import contextlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from hartonomous.errors import HartonomousError, IntegrityError, UnsupportedStoreError

_OF_CATALOG = "the catalog "
_COMMAND = re.compile(r"\bhart (?=(?:repair|verify|migrate)\b)")


@contextlib.contextmanager
def naming_store(place: Path) -> Iterator[None]:
    """Raise what is said of a catalog with the store at ``place`` in it, and in what to do."""
    try:
        yield
    except (IntegrityError, UnsupportedStoreError) as error:
        if not error.message.startswith(_OF_CATALOG):
            raise
        raise _named(error, place) from error


def _named(error: HartonomousError, place: Path) -> HartonomousError:
    command = f"hart --store {shlex.quote(str(place))} "
    hint = error.hint and _COMMAND.sub(lambda _: command, error.hint)
    return type(error)(f"the store at {place}: {error.message}", hint=hint)
