"""Repack: bring what is stored to the encodings that this program would choose now.

Tensors without a sketch, by which bases are found, get one on the way: a repair leaves none.
Atoms are looked at in the order in which they came. How far that went is written down, so that a
run that was ended, by its time or by force, is gone on with by the next one. Readers and writers
go on beside it.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from hartonomous import locks
from hartonomous.catalog import atoms, properties
from hartonomous.codecs.choice import RULE
from hartonomous.core.record import Encoding
from hartonomous.errors import HartonomousError, LockedError
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.reencoding import prospect, reencode
from hartonomous.packs.resketching import Resketching
from hartonomous.packs.session import WriteSession
from hartonomous.ports.progress import NoProgress, Progress

_PROPERTY = "repack"
_PAGE = 256
_FLUSH_BYTES = 256 * 1024 * 1024
"""Decoded bytes after which what was written is sealed and the place written down."""


class Repacked(msgspec.Struct, frozen=True, kw_only=True):
    """What was encoded anew, or (``dry_run``) would be, in bytes; estimates in a dry run.

    ``remaining_count`` atoms were not looked at when the time was up; the next run begins there.
    ``by_encoding`` maps ``former > new`` to the number of atoms.
    """

    examined_count: int
    atom_count: int
    logical_bytes: int
    former_bytes: int
    stored_bytes: int
    by_encoding: dict[str, int]
    remaining_count: int
    complete: bool
    duration_s: float
    dry_run: bool = False
    notes: tuple[str, ...] = ()


class _Place(msgspec.Struct, frozen=True):
    """How far the last run went: under which rule, and behind which atom's id the next begins."""

    rule: int
    after_id: int


@dataclass(slots=True)
class _Tally:
    examined: int = 0
    atoms: int = 0
    logical: int = 0
    former: int = 0
    stored: int = 0
    by_encoding: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def repack(
    parts: StoreParts,
    *,
    max_duration_s: float | None = None,
    again: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Repacked:
    """Encode atoms anew where that saves at least two percent of what they take.

    ``again`` begins with the first atom, whatever was looked at before. What is freed becomes free
    space with the next collection. Raises LockedError when another repack runs.
    """
    lock = locks.try_lock(parts.lock_path("repack"))
    if lock is None:
        raise LockedError("another repack is running on this store", hint="wait for it to end")
    try:
        return _Run(parts, max_duration_s, progress or NoProgress(), dry_run=dry_run).run(
            again=again
        )
    finally:
        lock.release()


class _Run:
    def __init__(
        self,
        parts: StoreParts,
        max_duration_s: float | None,
        progress: Progress,
        *,
        dry_run: bool,
    ) -> None:
        self._parts = parts
        self._began = time.monotonic()
        self._limit_s = max_duration_s
        self._progress = progress
        self._dry_run = dry_run
        self._tally = _Tally()
        self._reader = AtomReader(parts)
        self._resketching = Resketching(parts, self._reader)
        self._unwritten = 0  # decoded bytes since the last flush

    def run(self, *, again: bool) -> Repacked:
        after = 0 if again else _load_place(self._parts)
        with self._parts.database.read() as tx:
            _, total = atoms.stored_after(tx, after)
        self._progress.stage("repack", total_bytes=total)
        try:
            if self._dry_run:
                reached = self._walk(None, after)
            else:
                with WriteSession(self._parts) as session:
                    reached = self._walk(session, after)
                    self._settle(session, reached)
        finally:
            self._reader.close()
        return self._result(reached)

    def _walk(self, session: WriteSession | None, after: int) -> int:
        """Look at the atoms behind ``after``; return the id of the last one looked at."""
        for row in self._rows(after):
            if self._limit_s is not None and time.monotonic() - self._began >= self._limit_s:
                break
            try:
                if session is not None:
                    self._resketching.take(row.id)
                self._take(session, row)
            except HartonomousError as error:
                self._leave(row, error)
            self._tally.examined += 1
            self._progress.advance(row.size_bytes)
            after = row.id
            if session is not None and self._unwritten >= _FLUSH_BYTES:
                self._settle(session, after)
        return after

    def _rows(self, after: int) -> Iterator[atoms.StoredAtom]:
        while True:
            with self._parts.database.read() as tx:
                page = atoms.stored_page(tx, after_id=after, limit=_PAGE)
            if not page:
                return
            self._reader.locate(row.digest for row in page)
            self._resketching.look([row.id for row in page])
            yield from page
            after = page[-1].id

    def _take(self, session: WriteSession | None, row: atoms.StoredAtom) -> None:
        better = prospect(self._reader, row)
        if better is None:
            return
        encoding = better.encoding
        if session is None:
            self._count(row, encoding, better.stored_bytes)
            return

        def on_stored(stored_bytes: int) -> None:
            if stored_bytes < row.stored_bytes:
                self._count(row, encoding, stored_bytes)

        reencode(session, self._reader, row, encoding, on_stored)
        self._unwritten += row.size_bytes

    def _count(self, row: atoms.StoredAtom, encoding: Encoding, stored_bytes: int) -> None:
        tally = self._tally
        tally.atoms += 1
        tally.logical += row.size_bytes
        tally.former += row.stored_bytes
        tally.stored += stored_bytes
        change = f"{_name(row.encoding)} > {_name(encoding)}"
        tally.by_encoding[change] = tally.by_encoding.get(change, 0) + 1

    def _leave(self, row: atoms.StoredAtom, error: HartonomousError) -> None:
        """Note what could not be read, unless a collection removed it meanwhile."""
        with self._parts.database.read() as tx:
            if row.digest not in atoms.find(tx, [row.digest]):
                return
        self._tally.notes.append(
            f"atom blake3:{row.digest.hex()} is left as it is: {error.message}"
        )

    def _settle(self, session: WriteSession, after: int) -> None:
        """Seal what was written, point the rows there, and write down how far that is."""
        session.flush()
        self._resketching.write()
        self._unwritten = 0
        with self._parts.database.write() as tx:
            place = msgspec.json.encode(_Place(rule=RULE, after_id=after))
            properties.put(tx, _PROPERTY, place.decode())

    def _result(self, reached: int) -> Repacked:
        with self._parts.database.read() as tx:
            remaining, _ = atoms.stored_after(tx, reached)
        tally = self._tally
        return Repacked(
            examined_count=tally.examined,
            atom_count=tally.atoms,
            logical_bytes=tally.logical,
            former_bytes=tally.former,
            stored_bytes=tally.stored,
            by_encoding=dict(sorted(tally.by_encoding.items())),
            remaining_count=remaining,
            complete=remaining == 0,
            duration_s=time.monotonic() - self._began,
            dry_run=self._dry_run,
            notes=tuple(tally.notes),
        )


def _name(encoding: int) -> str:
    try:
        return Encoding(encoding).name.lower()
    except ValueError:
        return f"encoding {encoding}"


def _load_place(parts: StoreParts) -> int:
    with parts.database.read() as tx:
        text = properties.get(tx, _PROPERTY)
    if text is None:
        return 0
    try:
        place = msgspec.json.decode(text, type=_Place)
    except msgspec.DecodeError:
        return 0  # begin anew: that costs time only
    return place.after_id if place.rule == RULE else 0
