"""How often files refer to each atom, counted beside the work and not in its transactions.

A file that is added or removed writes its own references and touches no count of an atom, so that
what many models share (norms, zeros) is no hot row. ``hart gc`` folds the references of new files
into the counts, a small transaction at a time: those of several small files, or a piece of a large
one, of which a property of the store remembers up to which atom it is counted. A reference that is
removed takes its count along in the same transaction.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, and_, bindparam, delete, func, or_, select, update

from hartonomous.catalog import properties
from hartonomous.catalog.columns import damaged
from hartonomous.catalog.schema import atom, manifest, manifest_atom, store_property

_UP_TO = "counted-up-to:"
"""The property of a manifest that is counted in part: the last atom's id, behind its own."""
_ROWS_BESIDE = 2  # of the manifest and of the property


def count_references(tx: Connection, *, limit: int) -> int:
    """Fold some references of new manifests into the atoms' counts; return how many.

    At most ``limit`` rows are written, 3 or more. The work is done when 0 is returned.
    """
    uncounted = (
        select(manifest.c.id, func.count(manifest_atom.c.atom_id))
        .outerjoin(manifest_atom, manifest_atom.c.manifest_id == manifest.c.id)
        .where(manifest.c.counted == 0, manifest.c.complete == 1)
        .group_by(manifest.c.id)
        .order_by(manifest.c.id)
        .limit(limit)
    )
    begun = _begun(tx)
    chosen: list[int] = []
    rows = 0
    for manifest_id, count in tx.execute(uncounted):
        if manifest_id in begun or rows + count + 1 > limit:
            if not chosen:
                return _count_piece(tx, manifest_id, begun.get(manifest_id, 0), limit)
            break
        chosen.append(manifest_id)
        rows += count + 1
    if chosen:
        among = manifest_atom.c.manifest_id.in_(chosen)
        sums = (
            select(manifest_atom.c.atom_id, func.sum(manifest_atom.c.count))
            .where(among)
            .group_by(manifest_atom.c.atom_id)
        )
        _add(tx, [(row[0], int(row[1])) for row in tx.execute(sums)])
        tx.execute(update(manifest).where(manifest.c.id.in_(chosen)).values(counted=1))
    return rows


def _count_piece(tx: Connection, manifest_id: int, after_id: int, limit: int) -> int:
    """Count the next references of a manifest that has more than one transaction takes."""
    some = max(1, limit - _ROWS_BESIDE)
    query = (
        select(manifest_atom.c.atom_id, manifest_atom.c.count)
        .where(manifest_atom.c.manifest_id == manifest_id, manifest_atom.c.atom_id > after_id)
        .order_by(manifest_atom.c.atom_id)
        .limit(some)
    )
    rows = [(row[0], int(row[1])) for row in tx.execute(query)]
    _add(tx, rows)
    if len(rows) == some:
        properties.put(tx, f"{_UP_TO}{manifest_id}", str(rows[-1][0]))
    else:
        tx.execute(update(manifest).where(manifest.c.id == manifest_id).values(counted=1))
        _forget(tx, manifest_id)
    return len(rows) + 1


def remove_references(tx: Connection, manifest_id: int, *, limit: int) -> bool:
    """Remove references of a manifest and what was counted of them; True when none is left.

    At most ``limit`` rows are written.
    """
    counted = tx.scalar(select(manifest.c.counted).where(manifest.c.id == manifest_id))
    begun = _begun(tx).get(manifest_id, 0)
    query = (
        select(manifest_atom.c.atom_id, manifest_atom.c.count)
        .where(manifest_atom.c.manifest_id == manifest_id)
        .order_by(manifest_atom.c.atom_id)
        .limit(max(1, limit // 2) if counted or begun else limit)
    )
    rows = [(row[0], int(row[1])) for row in tx.execute(query)]
    if not rows:
        _forget(tx, manifest_id)
        return True
    _add(tx, [(atom_id, -count) for atom_id, count in rows if counted or atom_id <= begun])
    tx.execute(
        delete(manifest_atom).where(
            manifest_atom.c.manifest_id == manifest_id,
            manifest_atom.c.atom_id.in_([row[0] for row in rows]),
        )
    )
    return False


def wrong_counts(tx: Connection, *, limit: int) -> list[tuple[bytes, int, int]]:
    """Return (digest, count kept, count by manifests) where the two differ; counted ones only."""
    begun = [
        and_(manifest.c.id == manifest_id, manifest_atom.c.atom_id <= up_to)
        for manifest_id, up_to in _begun(tx).items()
    ]
    real = (
        select(manifest_atom.c.atom_id, func.sum(manifest_atom.c.count).label("total"))
        .join(manifest, manifest.c.id == manifest_atom.c.manifest_id)
        .where(or_(manifest.c.counted == 1, *begun))
        .group_by(manifest_atom.c.atom_id)
        .subquery()
    )
    total = func.coalesce(real.c.total, 0)
    query = (
        select(atom.c.digest, atom.c.reference_count, total)
        .outerjoin(real, real.c.atom_id == atom.c.id)
        .where(atom.c.reference_count != total)
        .limit(limit)
    )
    return [(row[0], int(row[1]), int(row[2])) for row in tx.execute(query)]


def _begun(tx: Connection) -> dict[int, int]:
    """Return {manifest id: last atom id that is counted} of those that are counted in part."""
    query = select(store_property.c.name, store_property.c.value).where(
        store_property.c.name.startswith(_UP_TO, autoescape=True)
    )
    found = {}
    for name, value in tx.execute(query):
        try:
            found[int(name.removeprefix(_UP_TO))] = int(value)
        except ValueError as error:
            raise damaged(f"the property {name[:40]} is no number") from error
    return found


def _forget(tx: Connection, manifest_id: int) -> None:
    tx.execute(delete(store_property).where(store_property.c.name == f"{_UP_TO}{manifest_id}"))


def _add(tx: Connection, counts: Sequence[tuple[int, int]]) -> None:
    if counts:
        tx.execute(
            update(atom)
            .where(atom.c.id == bindparam("key"))
            .values(reference_count=atom.c.reference_count + bindparam("delta")),
            [{"key": atom_id, "delta": delta} for atom_id, delta in sorted(counts)],
        )
