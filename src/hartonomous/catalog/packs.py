"""Packs that the catalog knows, and what lives in them."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from hartonomous.catalog.schema import artifact, change, extent, manifest, pack, version


@dataclass(frozen=True, slots=True, kw_only=True)
class PackRow:
    """One sealed pack."""

    id: int
    key: bytes
    writer_key: bytes
    size_bytes: int
    record_count: int
    created_us: int


def add(
    tx: Connection,
    *,
    key: bytes,
    writer_key: bytes,
    size_bytes: int,
    record_count: int,
    created_us: int,
) -> int:
    """Register a sealed pack and return its id."""
    return int(
        tx.execute(
            insert(pack)
            .values(
                key=key,
                writer_key=writer_key,
                size_bytes=size_bytes,
                record_count=record_count,
                created_us=created_us,
            )
            .returning(pack.c.id)
        ).scalar_one()
    )


def everything(tx: Connection) -> list[PackRow]:
    """Return all packs, oldest first."""
    rows = tx.execute(select(pack).order_by(pack.c.id)).mappings()
    return [PackRow(**row) for row in rows]


def live_records(tx: Connection) -> dict[int, tuple[int, int]]:
    """Return {pack id: (records, payload bytes)} that rows still point to."""
    live: dict[int, tuple[int, int]] = {}
    commits = (version, version.c.published == 1)
    for table, condition in ((extent, None), (manifest, None), commits, (change, None)):
        size = table.c.stored_bytes if "stored_bytes" in table.c else None
        query = select(
            table.c.pack_id,
            func.count(),
            func.coalesce(func.sum(size), 0) if size is not None else func.count() * 0,
        ).group_by(table.c.pack_id)
        if condition is not None:
            query = query.where(condition)
        for pack_id, count, total in tx.execute(query):
            if pack_id is not None:
                records, stored = live.get(pack_id, (0, 0))
                live[pack_id] = (records + int(count), stored + int(total))
    return live


def offsets(tx: Connection, pack_id: int) -> dict[int, tuple[str, int]]:
    """Return {header offset: (table, row id)} of every live record of a pack."""
    found: dict[int, tuple[str, int]] = {}
    for table in (extent, manifest, version, change):
        query = select(table.c.header_offset, table.c.id).where(table.c.pack_id == pack_id)
        for offset, row_id in tx.execute(query):
            found[int(offset)] = (table.name, row_id)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A live record's row, where the record was, and where its copy's header lies."""

    table: str
    row_id: int
    from_pack: int
    from_offset: int
    offset: int


def move(tx: Connection, moves: Sequence[Move], *, pack_id: int) -> None:
    """Point live records to their copies in ``pack_id``; rows that changed meanwhile stay."""
    for table in (extent, manifest, version, change):
        rows = [
            {"row": one.row_id, "pack": one.from_pack, "at": one.from_offset, "to": one.offset}
            for one in moves
            if one.table == table.name
        ]
        if rows:
            moved = table.update().where(
                table.c.id == bindparam("row"),
                table.c.pack_id == bindparam("pack"),
                table.c.header_offset == bindparam("at"),
            )
            tx.execute(moved.values(pack_id=pack_id, header_offset=bindparam("to")), rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRow:
    """What the catalog says of a commit (with a uid) or a change that lies in a pack."""

    header_offset: int
    sequence: int
    uid: bytes | None = None
    name: str = ""
    number: int = 0
    digest: bytes = b""

    @property
    def files(self) -> tuple[str, ...]:
        """The version concerned."""
        return () if self.uid is None else (f"{self.name}@{self.number}",)


def journal(tx: Connection, pack_id: int) -> list[JournalRow]:
    """Return what the catalog says of the commits and changes of a pack."""
    commits = (
        select(
            version.c.header_offset, version.c.sequence, version.c.uid, artifact.c.name,
            version.c.number, version.c.digest,
        )
        .join(artifact, artifact.c.id == version.c.artifact_id)
        .where(version.c.pack_id == pack_id, version.c.published == 1)
    )  # fmt: skip
    noted = select(change.c.header_offset, change.c.sequence).where(change.c.pack_id == pack_id)
    return [
        *(JournalRow(**row) for row in tx.execute(commits).mappings()),
        *(JournalRow(**row) for row in tx.execute(noted).mappings()),
    ]


def remove(tx: Connection, pack_id: int) -> None:
    """Forget a pack that nothing points to; the foreign keys refuse any other."""
    tx.execute(delete(pack).where(pack.c.id == pack_id))
