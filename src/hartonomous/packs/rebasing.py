"""Rebasing: what no file holds, and other atoms are built on, is given up where that saves.

When the version that brought a base is removed, its atoms stay as long as others need them. Where
those would take less on another base, or on their own, than they take now together with the one
that is kept for them, they are written anew and the base becomes free. Cut short anywhere, each
atom lies in its old place or in its new one, both good.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import msgspec

from hartonomous.catalog import atoms, bases, families, packs, properties, sketches
from hartonomous.codecs.choice import MIN_GAIN, choose
from hartonomous.core.digest import digest
from hartonomous.core.record import Encoding
from hartonomous.errors import HartonomousError
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.reencoding import StoredFrames, reencode
from hartonomous.packs.replanning import Replanning, Step
from hartonomous.packs.session import WriteSession
from hartonomous.packs.variants import Holder, Onlooker

_PROPERTY = "rebase"
_MOST_DEPENDENTS = 64
"""A base of more atoms is kept without a look: all of them would have to be written anew."""
_FLUSH_BYTES = 256 * 1024 * 1024


@dataclass(slots=True)
class Rebased:
    """What was done, or would be: atoms written anew, bases given up, bytes, and what is kept."""

    atom_count: int = 0
    base_count: int = 0
    saved_bytes: int = 0
    written_bytes: int = 0
    kept_count: int = 0
    kept_bytes: int = 0
    notes: list[str] = field(default_factory=list)


class _Decision(msgspec.Struct, frozen=True):
    """Which bases it was decided to keep; looked at again when one of both changes."""

    kept: str
    newest_sketch: int


def rebase(parts: StoreParts, note: Callable[[str], None]) -> Rebased:
    """Write anew what is cheaper without bases that no file holds; that needs some room first."""
    result = Rebased()
    with parts.database.read() as tx:
        kept = families.kept_for_others(tx)
        newest = sketches.newest(tx)
        before = properties.get(tx, _PROPERTY)
    if kept and before != _decision(kept, newest):
        reader = AtomReader(parts)
        try:
            with WriteSession(parts) as session:
                work = _Rebasing(reader, note, result, kept=kept, holder=session, session=session)
                work.run()
                with parts.database.read() as tx:
                    rows = packs.everything(tx)
                written = (row.size_bytes for row in rows if row.writer_key == session.key)
                result.written_bytes = sum(written)
        finally:
            reader.close()
    with parts.database.write(durable=False) as tx:
        # Some bases are given up now: what is left is what was decided to be kept.
        kept = families.kept_for_others(tx)
        if kept or before is not None:
            properties.put(tx, _PROPERTY, _decision(kept, newest))
        result.kept_count, result.kept_bytes = _taken(tx, kept)
    return result


def foresee(
    parts: StoreParts, kept: Collection[int], gone: Collection[int], note: Callable[[str], None]
) -> Rebased:
    """Return what ``rebase`` would do once the atoms ``gone`` are, and nothing holds ``kept``."""
    result = Rebased()
    with parts.database.read() as tx:
        result.kept_count, result.kept_bytes = _taken(tx, kept)
        unchanged = properties.get(tx, _PROPERTY) == _decision(kept, sketches.newest(tx))
    if not kept or unchanged:
        return result
    reader = AtomReader(parts)
    try:
        holder = Onlooker(parts, reader)
        work = _Rebasing(reader, note, result, kept=kept, gone=gone, holder=holder)
        work.run()
    finally:
        reader.close()
    with parts.database.read() as tx:
        _, freed = _taken(tx, work.given_up)
    result.kept_count -= len(work.given_up)
    result.kept_bytes -= freed
    return result


def _decision(kept: Collection[int], newest: int) -> str:
    ids = digest(msgspec.json.encode(sorted(kept))).hex()
    return msgspec.json.encode(_Decision(ids, newest)).decode()


def _taken(tx: object, ids: Collection[int]) -> tuple[int, int]:
    rows = atoms.stored_by_ids(tx, ids)  # type: ignore[arg-type]
    return len(rows), sum(one.stored_bytes for one in rows)


class _Rebasing:
    def __init__(
        self,
        reader: AtomReader,
        note: Callable[[str], None],
        result: Rebased,
        *,
        kept: Collection[int],
        gone: Collection[int] = (),
        holder: Holder,
        session: WriteSession | None = None,
    ) -> None:
        self._parts = holder.parts
        self._reader = reader
        self._planning = Replanning(holder, reader, note)
        self._result = result
        self._kept = list(kept)
        self._refused = {*kept, *gone}
        self._gone = frozenset(gone)
        self._session = session
        self._touched: set[int] = set()
        self._unwritten = 0
        self.given_up: set[int] = set()

    def run(self) -> None:
        """Look at every base that is kept for others; one that cannot be read is left and noted."""
        for base_id in self._kept:
            try:
                self._look(base_id)
            except HartonomousError as error:
                self._result.notes.append(f"a base is kept as it is: {error.message}")
        self._flush()

    def _look(self, base_id: int) -> None:
        with self._parts.database.read() as tx:
            above = bases.dependents(tx, [base_id])
        if self._touched and not self._touched.isdisjoint({base_id, *above}):
            self._flush()
        with self._parts.database.read() as tx:
            above = bases.dependents(tx, [base_id])
            built = [
                one for one in families.direct_dependents(tx, base_id) if one not in self._gone
            ]
            rows = atoms.stored_by_ids(tx, [base_id, *built])
            rooms = {one: families.room(tx, one, self._planning.limits)[0] for one in built}
        base = next((one for one in rows if one.id == base_id), None)
        rows = [one for one in rows if one.id != base_id]
        if base is None or not rows or len(rows) < len(built) or len(rows) > _MOST_DEPENDENTS:
            return
        self._planning.look([one.id for one in rows])
        steps = self._plan(base, rows, above, rooms)
        if steps is not None:
            self._carry_out(base, rows, steps)

    def _plan(
        self,
        base: atoms.StoredAtom,
        rows: list[atoms.StoredAtom],
        above: Collection[int],
        rooms: dict[int, int],
    ) -> list[Step] | None:
        """Return how the dependents are kept without the base; None if that saves nothing.

        The largest is taken first, and the others may be built on it then.
        """
        now = base.stored_bytes + sum(one.stored_bytes for one in rows)
        steps: list[Step] = []
        heirs: set[int] = set()

        def refused(one: int) -> bool:
            return one in self._refused or (one in above and one not in heirs)

        for row in sorted(rows, key=lambda one: (-one.size_bytes, one.id)):
            most = rooms[row.id] if heirs or len(rows) == 1 else rooms[row.id] - 1
            steps.append(self._planning.without(row, refused, most=most))
            heirs = heirs or {row.id}
            if sum(one.stored_bytes for one in steps) > (1 - MIN_GAIN) * now:
                return None
        return steps

    def _carry_out(
        self, base: atoms.StoredAtom, rows: list[atoms.StoredAtom], steps: list[Step]
    ) -> None:
        result = self._result
        result.atom_count += len(steps)
        result.base_count += 1
        result.saved_bytes += base.stored_bytes + sum(
            step.row.stored_bytes - step.stored_bytes for step in steps
        )
        self.given_up.add(base.id)
        if self._session is None:
            return
        self._touched |= {base.id, *(one.id for one in rows)}
        for step in steps:
            row = step.row
            encoding = None
            if step.chosen is None:
                encoding = choose(StoredFrames(self._reader, row), row.dtype)
            reencode(self._session, self._reader, row, encoding, _ignore, step.chosen, larger=True)
            self._unwritten += row.size_bytes
        if self._unwritten >= _FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._touched.clear()
        self._unwritten = 0
        if self._session is not None:
            self._session.flush()


def _ignore(_stored: int, _encoding: Encoding) -> None:
    """Take what an atom was stored as: what it was thought to take is what is told."""
