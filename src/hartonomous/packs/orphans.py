"""Packs that the catalog does not know: litter of a dead writer, or something to be afraid for.

A pack is sealed before a row speaks of it, so a writer that dies leaves unknown packs behind. But a
catalog that was replaced by an older copy does not know acknowledged packs either. The sequence
numbers tell the two apart at first: a commit or change with a number that the catalog has not
reached yet may have been acknowledged. Once work has gone on with the older copy, its numbers were
given out again; so a commit or change that the catalog does not have, whatever its number, speaks
for everything that its writer wrote.

A writer that dies between the seal of a pack and its row leaves such a record too, and nobody was
told of it. The catalog remembers publications from before their first record until they are done,
by their times. A record of one that began in this catalog and was not done in it, by a writer that
is dead, is litter; unless there are records of others too, for then the catalog is an older copy,
and may have been made in the midst of a publication that was acknowledged later. A copy that was
made in the midst of the very last one cannot be told from a catalog whose writer died; so such a
pack is kept as long as the trash keeps things.
"""

import contextlib
from dataclasses import dataclass
from typing import Any

import msgspec

from hartonomous.catalog import changes, packs, properties, versions
from hartonomous.core.record import RecordKind
from hartonomous.core.undecodable import UNDECODABLE
from hartonomous.errors import HartonomousError, NotFoundError
from hartonomous.packs.files import MAX_MANIFEST_BYTES
from hartonomous.packs.frames import decode_record_whole
from hartonomous.packs.pack_file import PackReader
from hartonomous.packs.parts import StoreParts, pack_object_key
from hartonomous.ports.objects import ObjectEntry

_FEARED = "it holds changes that the catalog does not know; hart repair reads them"
_KEPT = "its writer was killed before the end; it goes when the trash keeps nothing so old"
_JOURNAL = (RecordKind.COMMIT, RecordKind.CHANGE)


class _Numbered(msgspec.Struct, frozen=True):
    """What of a commit or change tells whether the catalog has it."""

    seq: int
    kind: str = ""
    uid: str = ""
    time_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """An unknown pack; ``needed`` says why it must stay, None if nothing speaks for it."""

    key: str
    size_bytes: int
    needed: str | None


def orphans(parts: StoreParts, *, before_us: int, killed_before_us: int) -> list[Orphan]:
    """Return the unknown packs that were last written before ``before_us`` by writers now dead.

    Those of publications that were not done are needed unless written before ``killed_before_us``.
    """
    with parts.database.read() as tx:
        known = {pack_object_key(row.key) for row in packs.everything(tx)}
    found: list[tuple[ObjectEntry, bytes, list[_Numbered]]] = []
    damaged: list[Orphan] = []
    for entry in list(parts.objects.list("packs/")):
        if entry.key in known or entry.modified_us > before_us:
            continue
        try:
            writer, journal = _read(parts, entry.key)
        except NotFoundError:
            continue  # another collection or a compaction removed it
        except HartonomousError as error:
            damaged.append(Orphan(key=entry.key, size_bytes=entry.size, needed=error.message))
            continue
        if not parts.writer_alive(writer):
            found.append((entry, writer, journal))
    with parts.database.read() as tx:
        known = {pack_object_key(row.key) for row in packs.everything(tx)}
        begun = set(properties.begun_publications(tx))
        unknown = [(writer, _unknown(tx, journal)) for _, writer, journal in found]
    older = any(not times <= begun for _, times in unknown)
    doubtful = {writer for writer, times in unknown if times}
    young = {writer for entry, writer, _ in found if entry.modified_us > killed_before_us}
    feared, kept = (doubtful, set()) if older else (set(), doubtful & young)
    return damaged + [
        Orphan(
            key=entry.key,
            size_bytes=entry.size,
            needed=_FEARED if writer in feared else _KEPT if writer in kept else None,
        )
        for entry, writer, _ in found
        if entry.key not in known
    ]


def unknown_times(parts: StoreParts) -> list[int]:
    """Return the times of commits and changes in packs that the catalog does not know.

    What cannot be read is left out: a rebuild could not read it either.
    """
    with parts.database.read() as tx:
        known = {pack_object_key(row.key) for row in packs.everything(tx)}
    times: list[int] = []
    for entry in parts.objects.list("packs/"):
        if entry.key not in known:
            with contextlib.suppress(HartonomousError):
                times += [one.time_us for one in _read(parts, entry.key)[1]]
    return times


def _unknown(tx: Any, journal: list[_Numbered]) -> set[int]:
    """Return the times of those of these commits and changes that are not in the catalog."""
    reached, _ = properties.last_publication(tx)
    return {one.time_us for one in journal if one.seq > reached or not _is_known(tx, one)}


def _is_known(tx: Any, one: _Numbered) -> bool:
    if one.kind == "commit":
        try:
            return bool(versions.by_uids(tx, [bytes.fromhex(one.uid)]))
        except ValueError:
            return False
    row = changes.by_sequence(tx, one.seq)
    return row is not None and row.time_us == one.time_us


def _read(parts: StoreParts, key: str) -> tuple[bytes, list[_Numbered]]:
    """Return a pack's writer, and the commits and changes in it."""
    reader = PackReader(parts.objects.open(key), key)
    try:
        journal = []
        for _, header in reader.records():
            if header.kind in _JOURNAL:
                content = decode_record_whole(reader, header, limit=MAX_MANIFEST_BYTES)
                with contextlib.suppress(*UNDECODABLE):
                    journal.append(msgspec.json.decode(content, type=_Numbered))
        return reader.header().writer, journal
    finally:
        reader.close()
