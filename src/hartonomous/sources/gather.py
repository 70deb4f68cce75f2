"""Everything below one folder as the members of one artifact."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hartonomous.ports.source import MemberSource, Skipped
from hartonomous.sources.listing import (
    Entry,
    EntryKind,
    join,
    list_folder,
    read_member,
    skipped,
    text_of,
    unreadable,
)
from hartonomous.sources.pattern import Filter

MAX_MEMBERS = 100_000
"""Files of one artifact; a folder with more is walked as a tree, in bounded memory."""
MAX_NOTES = 100
_SHOWN_NAMES = 3

StandsAlone = Callable[[str, list[Entry]], bool]
"""Says of a folder inside (its location, its listing) whether it is an artifact of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Members sorted by the bytes of their paths; ``nested`` are locations left to the caller.

    ``passed_over`` are the names of hidden, lock and temporary files and folders.
    """

    members: tuple[MemberSource, ...]
    skipped: tuple[Skipped, ...]
    nested: tuple[str, ...]
    passed_over: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, as the notes of a candidate: at most ``MAX_NOTES`` and a count."""
        first = sorted(self.skipped, key=lambda item: not item.unread_count)[:MAX_NOTES]
        shown = [f"left out {item.location}: {item.reason}" for item in first]
        more = len(self.skipped) - len(shown)
        if more:
            shown.append(f"left out {more} more")
        if self.passed_over:
            shown.append(
                f"left out hidden or temporary (--hidden takes them): {some_of(self.passed_over)}"
            )
        return tuple(shown)

    @property
    def unread_count(self) -> int:
        """How many files and folders are wanted and cannot be read."""
        return sum(item.unread_count for item in self.skipped)


def some_of(names: Sequence[str]) -> str:
    """Return the first names in order, and how many more there are."""
    listed = ", ".join(text_of(name) for name in sorted(names)[:_SHOWN_NAMES])
    more = len(names) - _SHOWN_NAMES
    return f"{listed} and {more} more" if more > 0 else listed


def gather(
    top: str, *, boundary: str, wanted: Filter, prefix: str, stands_alone: StandsAlone
) -> Gathered | None:
    """Return the files below ``top``, or None if they or the notes are more than ``MAX_MEMBERS``.

    ``prefix`` goes before a member's path when the filter is asked. Links are followed to files
    inside ``boundary`` only, links to folders never, so there are no loops.
    """
    members: list[MemberSource] = []
    left_out: list[Skipped] = []
    nested: list[str] = []
    passed_over: list[str] = []
    for item in _walk(
        top, wanted=wanted, prefix=prefix, stands_alone=stands_alone, passed_over=passed_over
    ):
        if isinstance(item, _Nested):
            nested.append(item.location)
        elif isinstance(item, Skipped):
            left_out.append(item)
        else:
            member = read_member(join(top, item), item, boundary=boundary)
            if isinstance(member, Skipped):
                left_out.append(member)
            else:
                members.append(member)
        if len(members) + len(left_out) + len(nested) + len(passed_over) > MAX_MEMBERS:
            return None
    members.sort(key=lambda member: member.path.encode())
    return Gathered(
        members=tuple(members),
        skipped=tuple(left_out),
        nested=tuple(nested),
        passed_over=tuple(passed_over),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Nested:
    location: str


def _walk(
    top: str,
    *,
    wanted: Filter,
    prefix: str,
    stands_alone: StandsAlone,
    passed_over: list[str],
) -> Iterator[str | Skipped | _Nested]:
    """Yield relative paths of wanted files and links, depth first, without recursion."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            entries = list_folder(join(top, folder), passed_over=passed_over, hidden=wanted.hidden)
        except OSError as error:
            yield unreadable(join(top, folder), error)
            continue
        if folder and stands_alone(join(top, folder), entries):
            yield _Nested(location=join(top, folder))
            continue
        below: list[str] = []
        for entry in entries:
            path = join(folder, entry.name)
            shown = join(prefix, text_of(path))
            if entry.kind is EntryKind.FOLDER:
                if wanted.enters(shown):
                    below.append(path)
            elif not wanted.keeps(shown):
                continue
            elif entry.kind is EntryKind.OTHER:
                yield skipped(join(top, path), "a socket, device or pipe")
            else:
                yield path
        waiting.extend(reversed(below))
