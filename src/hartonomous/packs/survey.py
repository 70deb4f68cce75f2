"""What all packs of a store hold, read from the packs alone: the ground for a new catalog.

Every pack is read by its table of contents or, where that is lost, by looking for record headers.
Commits and changes come out in the order in which they count.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hartonomous.core.digest import digest
from hartonomous.core.journal import unacknowledged_times
from hartonomous.core.journal_entry import decode_entry
from hartonomous.core.record import PackHeader, RecordHeader, RecordKind
from hartonomous.errors import HartonomousError, IntegrityError
from hartonomous.packs.files import MAX_MANIFEST_BYTES
from hartonomous.packs.frames import decode_record_whole
from hartonomous.packs.pack_file import PackReader
from hartonomous.packs.parts import StoreParts, pack_object_key
from hartonomous.ports.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a record lies; ``pack`` numbers the packs in the order in which they were read."""

    pack: int
    writer: bytes
    at: int
    header: RecordHeader


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyedPack:
    """A pack that could be read, with how many records were found in it."""

    header: PackHeader
    size_bytes: int
    record_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A commit or change. ``doubtful``: its number was given again, so nobody was told of it."""

    content: dict[str, Any]
    digest: bytes
    place: Place
    doubtful: bool = False

    @property
    def is_commit(self) -> bool:
        """Whether it is a commit."""
        return bool(self.content["kind"] == "commit")


@dataclass(slots=True)
class Survey:
    """Everything found, by digest; of most objects there is one copy, any intact one serves."""

    packs: list[SurveyedPack] = field(default_factory=list)
    extents: dict[bytes, list[Place]] = field(default_factory=dict)
    manifests: dict[bytes, list[Place]] = field(default_factory=dict)
    journal: list[Entry] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def survey(
    parts: StoreParts, progress: Progress, register: Callable[[SurveyedPack], None]
) -> Survey:
    """Read the headers of all packs, and the commits and changes in them.

    ``register`` is told of each pack, in order. What cannot be read is noted under ``damaged``.
    """
    found = Survey(damaged=[f"{name}: is no regular file" for name in _special_packs(parts)])
    for entry in sorted(parts.objects.list("packs/"), key=lambda one: one.key):
        try:
            reader = PackReader(parts.objects.open(entry.key), entry.key)
        except HartonomousError as error:
            found.damaged.append(f"{entry.key}: {error.message}")
            continue
        with contextlib.closing(reader):
            try:
                pack, places = _read_pack(reader, entry.key, found)
            except HartonomousError as error:
                found.damaged.append(f"{entry.key}: {error.message}")
                continue
            register(pack)  # what fails here is the new catalog's failure, not the pack's
            found.packs.append(pack)
            for place in places:
                _take_record(reader, place, found, entry.key)
            progress.count(len(places))
        progress.advance(entry.size)
    found.journal = in_order(found.journal)
    return found


def _special_packs(parts: StoreParts) -> list[str]:
    """Return what is named like a pack and is a link, pipe or folder: no store of objects lists it.

    Whoever lost packs by it wants to know.
    """
    named = sorted((parts.directory / "packs").rglob("*.pack"))
    return [
        str(path.relative_to(parts.directory))
        for path in named
        if path.is_symlink() or not path.is_file()
    ]


def in_order(entries: list[Entry]) -> list[Entry]:
    """Return commits and changes in the order of (seq, time, digest), each once.

    What was never acknowledged (see ``core.journal``) is left out if it is a change, and marked as
    doubtful if it is a commit.
    """
    once = {entry.digest: entry for entry in entries}
    ordered = sorted(
        once.values(), key=lambda one: (one.content["seq"], one.content["time_us"], one.digest)
    )
    never = unacknowledged_times(entry.content for entry in ordered)
    kept: list[Entry] = []
    for entry in ordered:
        if entry.content["time_us"] not in never:
            kept.append(entry)
        elif entry.is_commit:
            kept.append(replace(entry, doubtful=True))
    return kept


def read_object(reader: PackReader, header: RecordHeader) -> bytes:
    """Return a manifest's, commit's or change's JSON; raises IntegrityError."""
    content = decode_record_whole(reader, header, limit=MAX_MANIFEST_BYTES)
    if digest(content) != header.digest:
        raise IntegrityError("has another digest than it claims")
    return content


def _read_pack(reader: PackReader, key: str, found: Survey) -> tuple[SurveyedPack, list[Place]]:
    """Return a pack and its records, as those of the pack that comes next."""
    pack_header = reader.header()
    if pack_object_key(pack_header.key) != key:
        right = pack_object_key(pack_header.key)
        raise IntegrityError(
            f"is another pack than its name says: rename it to {right}, or remove it if the "
            "same pack is there under its own name"
        )
    records = _records(reader, found, key)
    number = len(found.packs)
    places = [
        Place(pack=number, writer=pack_header.writer, at=at, header=header)
        for at, header in records
    ]
    pack = SurveyedPack(header=pack_header, size_bytes=reader.size, record_count=len(records))
    return pack, places


def _records(reader: PackReader, found: Survey, key: str) -> list[tuple[int, RecordHeader]]:
    try:
        return list(reader.records())
    except HartonomousError as error:
        found.damaged.append(f"{key}: {error.message}; its records were looked for one by one")
        return list(reader.salvage())


def _take_record(reader: PackReader, place: Place, found: Survey, key: str) -> None:
    header = place.header
    if header.kind is RecordKind.EXTENT:
        found.extents.setdefault(header.digest, []).append(place)
    elif header.kind is RecordKind.MANIFEST:
        found.manifests.setdefault(header.digest, []).append(place)
    elif header.kind in (RecordKind.COMMIT, RecordKind.CHANGE):
        try:
            content = decode_entry(read_object(reader, header))
            found.journal.append(Entry(content=content, digest=header.digest, place=place))
        except HartonomousError as error:
            what = RecordKind(header.kind).name.lower()
            found.damaged.append(f"{key}: the {what} at {place.at} {error.message}")


def dropped_members(journal: Sequence[Entry]) -> set[tuple[str, str]]:
    """Return (version uid, path) of members that were dropped in the end."""
    drops = {
        entry.content["seq"]: entry.content
        for entry in journal
        if not entry.is_commit and entry.content["action"] == "drop-members"
    }
    for entry in journal:
        if not entry.is_commit and entry.content["action"] == "undo":
            drops.pop(entry.content["of"], None)
    return {(one["version_uid"], held["path"]) for one in drops.values() for held in one["members"]}
