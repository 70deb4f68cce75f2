"""Repack: bring what is stored to the encodings that this program would choose now.

A tensor is built on others that came after it, where that takes less; so the order in which a
family of models came matters little in the end. Tensors without a sketch, by which bases are found,
get one on the way: a repair leaves none. Atoms are looked at in the order in which they came. How
far that went is written down, so that a run that was ended, by its time or by force, is gone on
with by the next one. Readers and writers go on beside it.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from hartonomous import locks
from hartonomous.catalog import atoms, events, families, properties, sketches
from hartonomous.codecs.choice import RULE, choose
from hartonomous.codecs.predicted import encoding_of
from hartonomous.core.record import Encoding
from hartonomous.core.undecodable import UNDECODABLE
from hartonomous.errors import HartonomousError, LockedError
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.reencoding import StoredFrames, prospect, reencode
from hartonomous.packs.replanning import Replan, Replanning, Step
from hartonomous.packs.resketching import Resketching
from hartonomous.packs.second_copies import keep_second_copies
from hartonomous.packs.session import WriteSession
from hartonomous.packs.variants import Holder, Onlooker
from hartonomous.ports.progress import NoProgress, Progress

_PROPERTY = "repack"
_PROPERTY_SMALLEST = "repack-smallest"
_PAGE = 256
_MOST_ROUNDS = 3
_FLUSH_BYTES = 256 * 1024 * 1024
"""Decoded bytes after which what was written is sealed and the place written down."""


class Repacked(msgspec.Struct, frozen=True, kw_only=True):
    """What was encoded anew, or (``dry_run``) would be, in bytes; estimates in a dry run.

    ``remaining_count`` atoms were not looked at when the time was up; the next run begins there.
    ``by_encoding`` maps ``former > new`` to the number of atoms. ``copied_count`` atoms that many
    others are built on were given a second copy.
    """

    examined_count: int
    atom_count: int
    logical_bytes: int
    former_bytes: int
    stored_bytes: int
    by_encoding: dict[str, int]
    copied_count: int
    remaining_count: int
    complete: bool
    duration_s: float
    dry_run: bool = False
    notes: tuple[str, ...] = ()


class _Place(msgspec.Struct, frozen=True):
    """How far a pass over all atoms went: under which rule, behind which atom's id it goes on.

    When it began, ``newest`` was the newest sketch. The pass before it saw the sketches up to
    ``former`` and the atoms up to ``former_id``: of those only what has newer relatives is looked
    at again.
    """

    rule: int
    after_id: int
    newest: int = 0
    former: int = 0
    former_id: int = 0
    finished: bool = False


@dataclass(slots=True)
class _Tally:
    examined: int = 0
    atoms: int = 0
    logical: int = 0
    former: int = 0
    stored: int = 0
    copies: int = 0
    by_encoding: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def repack(
    parts: StoreParts,
    *,
    max_duration_s: float | None = None,
    again: bool = False,
    smallest: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Repacked:
    """Encode atoms anew where that saves at least two percent of what they take.

    A tensor is built on others where a better base has come since; what lies over too long a chain
    of bases is written so that it does not, even where that takes more. ``again`` begins with the
    first atom, whatever was looked at before. ``smallest`` allows recipes that take least and are
    slow to decode; it has a place of its own. What is freed becomes free space with the next
    collection. Raises LockedError when another repack runs.
    """
    lock = locks.try_lock(parts.lock_path("repack"))
    if lock is None:
        raise LockedError("another repack is running on this store", hint="wait for it to end")
    try:
        run = _Run(
            parts, max_duration_s, progress or NoProgress(), dry_run=dry_run, smallest=smallest
        )
        return run.run(again=again)
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
        smallest: bool,
    ) -> None:
        self._parts = parts
        self._began = time.monotonic()
        self._limit_s = max_duration_s
        self._progress = progress
        self._dry_run = dry_run
        self._smallest = smallest
        self._property = _PROPERTY_SMALLEST if smallest else _PROPERTY
        self._tally = _Tally()
        self._reader = AtomReader(parts)
        self._resketching = Resketching(parts, self._reader)
        self._replanning: Replanning
        self._place: _Place
        self._unwritten = 0  # decoded bytes since the last flush
        self._touched: set[int] = set()  # ids whose bases change with the next flush
        self._changed: set[int] = set()  # ids of which a row that was read before may be old
        self._again: set[int] = set()  # ids of what is looked at once more in the end
        self._waiting: list[Step] = []  # what comes behind the flush of what it needs

    def run(self, *, again: bool) -> Repacked:
        self._place = self._begin(again=again)
        with self._parts.database.read() as tx:
            _, total = atoms.stored_after(tx, self._place.after_id)
        self._progress.stage("repack", total_bytes=total)
        try:
            if self._dry_run:
                self._work(None, Onlooker(self._parts, self._reader))
            else:
                with WriteSession(self._parts) as session:
                    self._work(session, session)
                    self._settle(session)
        finally:
            self._reader.close()
        done = self._result()
        _tell(self._parts, done)
        return done

    def _begin(self, *, again: bool) -> _Place:
        """Return where this run goes on, or a new pass begins."""
        place = None if again else _load_place(self._parts, self._property)
        with self._parts.database.read() as tx:
            newest = sketches.newest(tx)
            if place is None:
                return _Place(RULE, 0, newest)
        if not place.finished or newest <= place.newest or not self._parts.variants:
            return place
        return _Place(RULE, 0, newest, former=place.newest, former_id=place.after_id)

    def _work(self, session: WriteSession | None, holder: Holder) -> None:
        self._replanning = Replanning(
            holder, self._reader, self._progress.note, smallest=self._smallest
        )
        self._bring_up(session)
        self._walk(session)
        if session is not None and self._place.finished:
            self._look_again(session)
            self._settle(session)
            self._tally.copies = keep_second_copies(session, self._reader, self._tally.notes)

    def _out_of_time(self) -> bool:
        return self._limit_s is not None and time.monotonic() - self._began >= self._limit_s

    # -- what lies too deep

    def _bring_up(self, session: WriteSession | None) -> None:
        """Write anew what lies over too long a chain of bases, the least deep first."""
        with self._parts.database.read() as tx:
            ids = families.too_deep(tx, self._replanning.limits)
        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            self._replanning.look(page)
            for atom_id in page:
                if self._out_of_time():
                    return
                row = self._row(atom_id)
                if row is not None:
                    self._try(session, row, self._replanning.shallower)

    # -- everything

    def _walk(self, session: WriteSession | None) -> None:
        """Look at the atoms behind the place, and move it on."""
        self._place = msgspec.structs.replace(self._place, finished=False)
        for row in self._rows(self._place.after_id):
            if self._out_of_time():
                return
            try:
                if session is not None:
                    self._resketching.take(row.id)
            except HartonomousError as error:
                self._leave(row, error)
            if self._has_news(row):
                self._try(session, row, self._best)
                self._tally.examined += 1
                self._progress.count()
            self._progress.advance(row.size_bytes)
            self._place = msgspec.structs.replace(self._place, after_id=row.id)
            if session is not None and self._unwritten >= _FLUSH_BYTES:
                self._settle(session)
        self._place = msgspec.structs.replace(self._place, finished=True)

    def _look_again(self, session: WriteSession) -> None:
        """Look once more at what was changed, and at its relatives: better bases may lie there now.

        A saving of two percent each time ends this soon; a few rounds are enough.
        """
        for _ in range(_MOST_ROUNDS):
            self._settle(session)
            ids, self._again = sorted(self._again), set()
            for start in range(0, len(ids), _PAGE):
                page = ids[start : start + _PAGE]
                self._replanning.look(page)
                for atom_id in page:
                    if self._out_of_time():
                        return
                    row = self._row(atom_id)
                    if row is not None:
                        self._try(session, row, self._replanning.better)

    def _rows(self, after: int) -> Iterator[atoms.StoredAtom]:
        while True:
            with self._parts.database.read() as tx:
                page = atoms.stored_page(tx, after_id=after, limit=_PAGE)
            if not page:
                return
            self._reader.locate(row.digest for row in page)
            ids = [row.id for row in page]
            self._resketching.look(ids)
            self._replanning.look(ids)
            yield from page
            after = page[-1].id

    def _has_news(self, row: atoms.StoredAtom) -> bool:
        """Say whether an atom is new, or has relatives that came since the former pass."""
        if row.id > self._place.former_id:
            return True
        return self._replanning.has_newer(row, self._place.former)

    def _try(
        self,
        session: WriteSession | None,
        row: atoms.StoredAtom,
        plan: Callable[[atoms.StoredAtom], Replan | None],
    ) -> None:
        """Carry out what is planned for an atom; one that cannot be read is left and noted.

        What is planned rests on bases as the catalog has them: where those are about to change,
        that is written first.
        """
        try:
            current: atoms.StoredAtom | None = row
            if self._touched and self._is_touched(self._replanning.relatives(row)):
                current = self._fresh(session, row.id)
            elif row.id in self._changed:
                current = self._row(row.id)
            found = None if current is None else plan(current)
            if found is not None and self._is_touched(found.touches):
                current = self._fresh(session, row.id)
                found = None if current is None or session is None else plan(current)
            if found is not None:
                self._carry_out(session, found)
        except HartonomousError as error:
            self._leave(row, error)

    def _is_touched(self, ids: Iterable[int]) -> bool:
        return not self._touched.isdisjoint(ids)

    def _fresh(self, session: WriteSession | None, atom_id: int) -> atoms.StoredAtom | None:
        """Return how an atom is kept, once what was planned before is in the catalog."""
        if session is not None:
            self._settle(session)
        return self._row(atom_id)

    def _row(self, atom_id: int) -> atoms.StoredAtom | None:
        with self._parts.database.read() as tx:
            return next(iter(atoms.stored_by_ids(tx, [atom_id])), None)

    def _best(self, row: atoms.StoredAtom) -> Replan | None:
        """Return what saves most: other bases, or another encoding."""
        planned = self._replanning.better(row)
        own = None if row.id <= self._place.former_id else prospect(self._reader, row)
        if own is None:
            return planned
        if planned is not None and (
            len(planned.steps) > 1 or planned.steps[0].stored_bytes < own.stored_bytes
        ):
            return planned
        return Replan((Step(row, None, own.stored_bytes),), frozenset({row.id}))

    def _carry_out(self, session: WriteSession | None, plan: Replan) -> None:
        self._touched |= plan.touches
        self._changed |= plan.touches
        self._again |= plan.touches | plan.near
        if session is None:
            for step in plan.steps:
                self._count(step.row, self._encoding(step), step.stored_bytes)
            return
        first, *later = plan.steps
        self._write(session, first)
        self._waiting += later

    def _encoding(self, step: Step) -> Encoding:
        """Return the encoding that an atom will have."""
        if step.chosen is not None:
            return encoding_of(step.chosen.plan.dtype)
        return choose(StoredFrames(self._reader, step.row), step.row.dtype)

    def _write(self, session: WriteSession, step: Step) -> None:
        row = step.row

        def on_stored(stored_bytes: int, encoding: Encoding) -> None:
            if step.larger or stored_bytes < row.stored_bytes:
                self._count(row, encoding, stored_bytes)

        reencode(
            session, self._reader, row, self._encoding(step), on_stored, step.chosen,
            larger=step.larger, smallest=self._smallest,
        )  # fmt: skip
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

    def _settle(self, session: WriteSession) -> None:
        """Seal what was written, point the rows there, and write down how far that is."""
        session.flush()
        waiting, self._waiting = self._waiting, []
        for step in waiting:
            try:
                self._write(session, step)
            except HartonomousError as error:
                self._leave(step.row, error)
        if waiting:
            session.flush()
        self._resketching.write()
        self._unwritten = 0
        self._touched.clear()
        with self._parts.database.write() as tx:
            properties.put(tx, self._property, msgspec.json.encode(self._place).decode())

    def _result(self) -> Repacked:
        with self._parts.database.read() as tx:
            remaining, _ = atoms.stored_after(tx, self._place.after_id)
        tally = self._tally
        return Repacked(
            examined_count=tally.examined,
            atom_count=tally.atoms,
            logical_bytes=tally.logical,
            former_bytes=tally.former,
            stored_bytes=tally.stored,
            by_encoding=dict(sorted(tally.by_encoding.items())),
            copied_count=tally.copies,
            remaining_count=remaining,
            complete=remaining == 0,
            duration_s=time.monotonic() - self._began,
            dry_run=self._dry_run,
            notes=tuple(tally.notes),
        )


def _tell(parts: StoreParts, done: Repacked) -> None:
    """Write the event of a run that encoded something anew."""
    if not done.dry_run and (done.atom_count or done.copied_count):
        data = {
            "atom_count": done.atom_count,
            "copied_count": done.copied_count,
            "logical_bytes": done.logical_bytes,
            "former_bytes": done.former_bytes,
            "stored_bytes": done.stored_bytes,
            "complete": done.complete,
        }
        with parts.database.write() as tx:
            events.append(tx, "store.repacked", None, data, now_us=parts.clock())


def _name(encoding: int) -> str:
    try:
        return Encoding(encoding).name.lower()
    except ValueError:
        return f"encoding {encoding}"


def _load_place(parts: StoreParts, name: str) -> _Place | None:
    with parts.database.read() as tx:
        text = properties.get(tx, name)
    if text is None:
        return None
    try:
        place = msgspec.json.decode(text, type=_Place)
    except UNDECODABLE:
        return None  # begin anew: that costs time only
    return place if place.rule == RULE else None
