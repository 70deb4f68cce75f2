"""Reading the change feed, with or without a consumer's cursor; see ``docs/events.md``.

At least once: a consumer's cursor moves on behind events that were dealt with, never before.
"""

import contextlib
import fnmatch
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from hartonomous.catalog import event_cursors
from hartonomous.catalog import events as feed
from hartonomous.core.event import (
    BEGINNING,
    Event,
    Position,
    Start,
    check_consumer,
    parse_since,
    source_of,
)
from hartonomous.errors import (
    HartonomousError,
    IntegrityError,
    NotFoundError,
    UnreachableError,
    UsageError,
)
from hartonomous.packs.parts import StoreParts

__all__ = ["PAGE_EVENTS", "Cursor", "Cursors", "Event", "Feed", "Wanted", "events", "pages"]

PAGE_EVENTS = 200
"""Events that are read, and told of, at once."""
_PAUSE_S = 0.05
_PAUSES = 20
"""So many of them between two looks for a server that is away."""
_PATIENCE_S = 600.0
"""A server that is away for so long ends who follows."""

_AHEAD = "it is ahead of the feed, and events that come would be missed"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events are wanted; see ``Feed``. ``limit`` is the most of them."""

    since: str | None = None
    follow: bool = False
    types: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    consumer: str | None = None
    limit: int | None = None

    def fits(self, row: feed.EventRow) -> bool:
        """Say whether an event is of the types and subjects wanted; no subject fits no pattern."""
        return _fits(row.type, self.types) and (
            not self.subjects or (row.subject is not None and _fits(row.subject, self.subjects))
        )


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """How far a consumer has got: ``behind_count`` events are waiting for it.

    ``damaged`` says why nobody can read on from there.
    """

    consumer: str
    position: str
    updated_us: int
    behind_count: int
    damaged: str | None = None


def events(
    parts: StoreParts, source: str, wanted: Wanted, *, pause: Callable[[], None] | None = None
) -> Iterator[Event]:
    """Yield events, oldest first; what the next one is asked for behind was dealt with.

    Raises UsageError for a wrong option and NotFoundError for a place that the feed does not have,
    both before the first event.
    """
    reader = _Reader(parts, source, wanted)
    return _one_by_one(reader, pause or _sleep)


def pages(
    parts: StoreParts, source: str, wanted: Wanted, *, pause: Callable[[], None] | None = None
) -> Iterator[list[Event]]:
    """Yield events as lists of 1 to ``PAGE_EVENTS``; a list counts as dealt with as a whole."""
    reader = _Reader(parts, source, wanted)
    return _page_by_page(reader, pause or _sleep)


def _page_by_page(reader: "_Reader", pause: Callable[[], None]) -> Iterator[list[Event]]:
    while not reader.ended:
        found = reader.patiently(reader.page, pause)
        if found:
            yield [event for _, event in found]
        reader.patiently(reader.keep_all, pause)
        reader.patiently(lambda: reader.wait(pause), pause)


def _one_by_one(reader: "_Reader", pause: Callable[[], None]) -> Iterator[Event]:
    while not reader.ended:
        done: Position | None = None
        try:
            for position, event in reader.patiently(reader.page, pause):
                yield event
                done = position
        except BaseException:
            # What is not written down comes again, so no error of that may hide the real one.
            with contextlib.suppress(HartonomousError):
                reader.keep(done)
            raise
        reader.patiently(reader.keep_all, pause)
        reader.patiently(lambda: reader.wait(pause), pause)


def _sleep() -> None:
    time.sleep(_PAUSE_S)


def _fits(text: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(text, one) for one in patterns)


class _Reader:
    """Reads pages from a position on; where there is a cursor, that is the position."""

    def __init__(self, parts: StoreParts, source: str, wanted: Wanted) -> None:
        self._parts = parts
        self._source = source
        self._wanted = wanted
        if wanted.limit is not None and wanted.limit < 1:
            raise UsageError(f"--limit {wanted.limit} is no number of events", hint="use 1 or more")
        self._left = wanted.limit
        self.ended = False
        self.drained = False
        self._mark: object = None
        self._cursor: event_cursors.CursorRow | None = None
        self._end = self._begin()

    def _begin(self) -> Position:
        consumer, since = self._wanted.consumer, self._wanted.since
        if since is None:
            since = "now" if self._wanted.follow and consumer is None else "beginning"
        start = parse_since(since, self._parts.clock())
        if consumer is None:
            with self._parts.database.read() as tx:
                return _place_of(tx, start)
        check_consumer(consumer)
        with self._parts.database.read() as tx:
            self._cursor = event_cursors.find(tx, consumer)
            if self._cursor is not None and feed.is_ahead(tx, self._cursor.position):
                raise event_cursors.refused(consumer, _AHEAD)
        if self._cursor is None:
            # From now on the events that it has not read stay, whatever their age.
            with self._parts.database.write(durable=False) as tx:
                place, now = _place_of(tx, start), self._parts.clock()
                event_cursors.begin(tx, consumer, place, now_us=now)
                self._cursor = event_cursors.find(tx, consumer)
        assert self._cursor is not None, "it was there, or was made"
        return self._cursor.position

    def patiently(self, ask: Callable[[], T], pause: Callable[[], None]) -> T:
        """Ask the catalog, again while its server is away and more is waited for.

        What is asked for changes nothing here, or there, that a second time would not find done.
        """
        until: float | None = None
        while True:
            try:
                return ask()
            except UnreachableError:
                now = time.monotonic()
                until = now + _PATIENCE_S if until is None else until
                if not self._wanted.follow or now >= until:
                    raise
            for _ in range(_PAUSES):
                pause()

    def page(self) -> list[tuple[Position, Event]]:
        """Read on; return what is wanted of it."""
        if self._wanted.follow:  # marked first, so that what comes meanwhile is seen
            self._mark = self._parts.database.mark()
        with self._parts.database.read() as tx:
            rows = feed.after(tx, self._end, limit=PAGE_EVENTS)
        self.drained = len(rows) < PAGE_EVENTS
        found: list[tuple[Position, Event]] = []
        for row in rows:
            self._end = row.position
            if self._wanted.fits(row):
                found.append((row.position, self._event(row)))
                if len(found) == self._left:
                    break
        if self._left is not None:
            self._left -= len(found)
        self.ended = self._left == 0 or (self.drained and not self._wanted.follow)
        return found

    def wait(self, pause: Callable[[], None]) -> None:
        """Pause until there may be more, if everything was read and more is wanted."""
        if not self.drained or self.ended:
            return
        pause()
        while self._parts.database.mark() == self._mark:
            pause()

    def _event(self, row: feed.EventRow) -> Event:
        return Event(
            id=str(row.position), source=self._source, type=row.type, subject=row.subject,
            time_us=row.time_us, data=row.data,
        )  # fmt: skip

    def keep_all(self) -> None:
        """Write down that everything read so far was dealt with."""
        self.keep(self._end)

    def keep(self, position: Position | None) -> None:
        """Write down how far was got, or go on where somebody else has put the cursor.

        Raises NotFoundError where the cursor was removed meanwhile.
        """
        cursor = self._cursor
        if cursor is None or position is None or position == cursor.position:
            return
        with self._parts.database.write(durable=False) as tx:
            moved = event_cursors.advance(tx, cursor, position, now_us=self._parts.clock())
            held = event_cursors.find(tx, cursor.consumer)
        if held is None:
            raise _no_cursor(cursor.consumer)
        self._cursor = held
        if not moved:
            self._end = held.position
            self.ended = self.ended and self._left == 0


def _place_of(tx: Any, start: Start) -> Position:
    """Return the position that a start means; raises NotFoundError for one that is not there."""
    if start.time_us is not None:
        return feed.before_time(tx, start.time_us)
    if start.position is None:
        return feed.last(tx)
    if start.position == BEGINNING:
        return start.position
    if start.position > feed.last(tx):
        raise NotFoundError(
            f"the feed has no event {start.position}", hint="is it the feed of another store?"
        )
    if start.position < feed.shed_up_to(tx):
        raise NotFoundError(
            f"events behind {start.position} are gone from the feed",
            hint="--since beginning gives those that are there; event_days says how long they stay",
        )
    return start.position


def _no_cursor(consumer: str) -> NotFoundError:
    return NotFoundError(
        f"no consumer {consumer!r} has a cursor", hint="hart events cursors ls shows all"
    )


class Feed:
    """The change feed of an open store: call it to read; ``cursors`` are those of its consumers."""

    def __init__(self, parts: StoreParts, store_id: str) -> None:
        self._parts = parts
        self.source = source_of(store_id)
        self.cursors = Cursors(parts)

    def __call__(
        self,
        *,
        since: str | None = None,
        follow: bool = False,
        types: Iterable[str] = (),
        subjects: Iterable[str] = (),
        consumer: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Event]:
        """Yield what happened in the store, oldest first; ``follow`` waits for more.

        ``consumer`` names a cursor: an event counts as dealt with when the next one is asked for,
        and the next reading goes on behind it. ``since`` is ``beginning``, ``now``, a time, ``2h``
        or an event's id; of types and subjects shell patterns are taken. See docs/events.md.
        """
        wanted = Wanted(
            since=since, follow=follow, types=tuple(types), subjects=tuple(subjects),
            consumer=consumer, limit=limit,
        )  # fmt: skip
        return events(self._parts, self.source, wanted)

    def pages(self, wanted: Wanted, pause: Callable[[], None]) -> Iterator[list[Event]]:
        """Yield lists of events, each of which counts as dealt with as a whole; see ``pages``."""
        return pages(self._parts, self.source, wanted, pause=pause)


class Cursors:
    """The cursors of the feed's consumers."""

    def __init__(self, parts: StoreParts) -> None:
        self._parts = parts

    def list(self) -> tuple[Cursor, ...]:
        """Return every cursor, by name."""
        with self._parts.database.read() as tx:
            found = (_listed(tx, name) for name in event_cursors.names(tx))
            return tuple(one for one in found if one is not None)

    def set(self, consumer: str, since: str) -> Cursor:
        """Put a consumer's cursor somewhere: ``beginning``, ``now``, a time, ``2h``, an event's id.

        The next event that it gets is the one behind that. A reader at work goes on from there.
        """
        check_consumer(consumer)
        now = self._parts.clock()
        start = parse_since(since, now)
        with self._parts.database.write() as tx:
            event_cursors.put(tx, consumer, _place_of(tx, start), now_us=now)
            row = event_cursors.find(tx, consumer)
            assert row is not None, "it was put there just now"
            return _told(tx, row)

    def remove(self, consumer: str) -> Cursor:
        """Forget a consumer; returns what it had. Raises NotFoundError if there is none."""
        check_consumer(consumer)
        with self._parts.database.write() as tx:
            told = _listed(tx, consumer)
            if told is None:
                raise _no_cursor(consumer)
            event_cursors.remove(tx, consumer)
            return told


def _told(tx: Any, row: event_cursors.CursorRow) -> Cursor:
    return Cursor(
        consumer=row.consumer,
        position=str(row.position),
        updated_us=row.updated_us,
        behind_count=feed.behind(tx, row.position),
        damaged=_AHEAD if feed.is_ahead(tx, row.position) else None,
    )


def _listed(tx: Any, consumer: str) -> Cursor | None:
    """Return a consumer's cursor as it is listed, a damaged one too; None if there is none."""
    try:
        row = event_cursors.find(tx, consumer)
    except IntegrityError as error:
        return Cursor(
            consumer=consumer, position=str(BEGINNING), updated_us=0, behind_count=0,
            damaged=error.message.partition(" is damaged: ")[2],
        )  # fmt: skip
    return None if row is None else _told(tx, row)
