"""Vectors in PostgreSQL: pgvector's HNSW upon ``halfvec``, one table a space, derived.

It names candidates (``vectors.approximate.CandidateSource``); scores come from the truth. The table
holds vectors centred and scaled; centre and scale stand in its comment, which changes with each
update. It is filled and switched in one transaction, and no other writer of the store waits for it.
"""

import hashlib
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from hartonomous.catalog.database import Database
from hartonomous.catalog.derived_tables import PREFIX, share_tables
from hartonomous.core.nearness import EXACT_ROWS, NONE, is_among, of_unit_length
from hartonomous.errors import UsageError
from hartonomous.ports.vector_index import Ids, Vectors, VectorTruth

MOST_DIMENSIONS = 4000
"""More than that pgvector's HNSW does not take."""

MOST_DEAD = 0.2
"""A table with a larger share of removed vectors is made anew."""

_PREFIX = f"{PREFIX}vector_"
_MOST_HALF = 60_000.0
_PIECE_BYTES = 8 << 20
_COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END = b"\xff\xff"


class _Note(msgspec.Struct, frozen=True, kw_only=True):
    """The comment of a table."""

    token: str
    scale: float
    centre: bytes  # float32 [d], little-endian


@dataclass(frozen=True, eq=False)
class _TableView:
    """The rows of one moment."""

    table: "VectorTable"
    ids: Ids
    note: str
    centre: NDArray[np.float32]
    scale: float

    def candidates(self, queries: Vectors, count: int) -> Ids:
        """Return the best that the server's index names."""
        return self.table.candidates(self, queries, count)


def why_not(database: Database, dimension: int) -> str | None:
    """Return why a space's vectors cannot be indexed on the server; None if they can."""
    if database.dialect != "postgresql":
        return "the catalog is not in PostgreSQL"
    if dimension > MOST_DIMENSIONS:
        return f"pgvector indexes {MOST_DIMENSIONS:,} dimensions at most, not {dimension:,}"
    with database.read() as tx:
        if _extension_schema(tx) is None:
            return "the catalog's database has no extension 'vector' (pgvector)"
    return None


def drop_stray_tables(database: Database, kept: set[str]) -> None:
    """Delete the tables of spaces whose names are not among ``kept``, on PostgreSQL."""
    if database.dialect != "postgresql":
        return
    query = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    with database.read() as tx:
        names = tx.exec_driver_sql(query).scalars().all()
    for name in names:
        if name.startswith(_PREFIX) and name.removeprefix(_PREFIX) not in kept:
            with database.write(alone=False) as tx:
                quoted = tx.dialect.identifier_preparer.quote(name)
                tx.exec_driver_sql(f"DROP TABLE IF EXISTS {quoted}")


class VectorTable:
    """One space's table, named by ``name``: hexadecimal digits, at most 32."""

    def __init__(
        self, database: Database, truth: VectorTruth, name: str, *, first_rows: int = EXACT_ROWS
    ) -> None:
        if not 0 < len(name) <= 32 or set(name) - set("0123456789abcdef"):
            raise UsageError(f"a table of vectors cannot be named by {name!r}")
        self._database = database
        self._truth = truth
        self._table = _PREFIX + name
        self._first_rows = max(1, first_rows)
        self._guard = threading.Lock()
        self._view = self._none()
        number = hashlib.blake2b(self._table.encode(), digest_size=4).digest()
        self._lock = int.from_bytes(number, "big", signed=True)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found wrong: the server tells of damage itself."""
        return ()

    def view(self) -> _TableView:
        """Return what the table holds."""
        with self._guard, self._database.read() as tx:
            self._view = self._read(tx, self._view)
            return self._view

    def close(self) -> None:
        """Let go of the list of ids."""
        with self._guard:
            self._view = self._none()

    def drop(self) -> None:
        """Delete the table."""
        with self._database.write(alone=False) as tx:
            tx.exec_driver_sql(f"DROP TABLE IF EXISTS {self._table}")

    def update(self) -> None:
        """Add what is new and delete what is gone; make the table anew where much is."""
        with self._database.write(alone=False) as tx:
            tx.execute(text("SELECT pg_advisory_xact_lock(:a, :b)"), {"a": _LOCKS, "b": self._lock})
            if _extension_schema(tx) is None:
                return  # it was dropped since; all is compared exactly
            live = self._truth.ids()
            now = self._read(tx, self._none())
            if not now.ids.size and live.size < self._first_rows:
                return
            dead = now.ids[~is_among(now.ids, live)]
            if not now.ids.size or dead.size > MOST_DEAD * now.ids.size:
                self._make(tx, live)
                return
            added = live[~is_among(live, now.ids)]
            if not added.size and not dead.size:
                return
            if dead.size:
                query = text(f"DELETE FROM {self._table} WHERE id = ANY(:ids)")  # noqa: S608
                tx.execute(query, {"ids": dead.tolist()})
            self._fill(tx, self._table, added, now.centre, now.scale)
            self._say(tx, self._table, now.centre, now.scale)

    def candidates(self, view: _TableView, queries: Vectors, count: int) -> Ids:
        """Return ``count`` ids of each query; those of vectors added since may be among them."""
        found = np.full((len(queries), count), NONE, dtype=np.int64)
        rows = self._coordinates(queries, view.centre, view.scale)
        with self._database.read() as tx:
            schema = _extension_schema(tx)
            if schema is None or not self._exists(tx):
                return found
            tx.exec_driver_sql(f"SET LOCAL hnsw.ef_search = {min(1000, max(100, count))}")
            # Goes on beyond ef_search until there are enough.
            tx.exec_driver_sql("SET LOCAL hnsw.iterative_scan = relaxed_order")
            sign = "<#>" if self._truth.space.metric == "dot" else "<->"
            query = text(
                f"SELECT id FROM {self._table}"  # noqa: S608 - names of ours
                f" ORDER BY v OPERATOR({schema}.{sign}) CAST(:query AS {schema}.halfvec)"
                " LIMIT :count"
            )
            for at, row in enumerate(rows):
                said = "[" + ",".join(map(repr, row.tolist())) + "]"
                ids = tx.execute(query, {"query": said, "count": count}).scalars().all()
                found[at, : len(ids)] = ids
        return found

    def _none(self) -> _TableView:
        nothing = np.empty(0, dtype=np.int64)
        return _TableView(self, nothing, "", np.zeros(0, dtype=np.float32), 1.0)

    def _exists(self, tx: Connection) -> bool:
        query = text("SELECT to_regclass(:name) IS NOT NULL")
        return bool(tx.execute(query, {"name": self._table}).scalar())

    def _read(self, tx: Connection, known: _TableView) -> _TableView:
        query = text("SELECT obj_description(to_regclass(:name), 'pg_class')")
        said = tx.execute(query, {"name": self._table}).scalar()
        if not said:
            return known if not known.note else self._none()
        if said == known.note:
            return known
        note = msgspec.json.decode(said, type=_Note)
        query = text(f"SELECT id FROM {self._table} ORDER BY id")  # noqa: S608
        pieces = [
            np.asarray(piece, dtype=np.int64)
            for piece in tx.execute(query).yield_per(50_000).scalars().partitions()
        ]
        ids = np.concatenate([*pieces, np.empty(0, dtype=np.int64)])
        return _TableView(self, ids, said, np.frombuffer(note.centre, "<f4"), note.scale)

    def _make(self, tx: Connection, ids: Ids) -> None:
        schema, space = _extension_schema(tx), self._truth.space
        beside = f"{self._table}_new"
        centre, scale = self._measured(ids)
        tx.exec_driver_sql(f"DROP TABLE IF EXISTS {beside}")
        tx.exec_driver_sql(
            f"CREATE TABLE {beside} (id bigint NOT NULL, v {schema}.halfvec({space.dimension})"
            " NOT NULL)"
        )
        tx.exec_driver_sql(f"ALTER TABLE {beside} ALTER COLUMN v SET STORAGE PLAIN")
        self._fill(tx, beside, ids, centre, scale)
        kind = "ip" if space.metric == "dot" else "l2"
        tx.exec_driver_sql(f"ALTER TABLE {beside} ADD PRIMARY KEY (id)")
        tx.exec_driver_sql(f"CREATE INDEX ON {beside} USING hnsw (v {schema}.halfvec_{kind}_ops)")
        self._say(tx, beside, centre, scale)
        tx.exec_driver_sql(f"DROP TABLE IF EXISTS {self._table}")
        tx.exec_driver_sql(f"ALTER TABLE {beside} RENAME TO {self._table}")
        share_tables(tx)

    def _say(self, tx: Connection, table: str, centre: NDArray[np.float32], scale: float) -> None:
        note = _Note(token=secrets.token_hex(8), scale=scale, centre=centre.tobytes())
        said = msgspec.json.encode(note).decode()  # JSON of base64: no quote, no backslash
        tx.exec_driver_sql(
            f"COMMENT ON TABLE {table} IS '{said}'", execution_options={"no_parameters": True}
        )

    def _measured(self, ids: Ids) -> tuple[NDArray[np.float32], float]:
        """Return the mean of vectors as they are compared, and their spread a dimension."""
        space = self._truth.space
        total, squares = np.zeros(space.dimension), 0.0
        for _, rows in self._pieces(ids):
            wide = self._moved(rows, np.zeros(space.dimension, dtype=np.float32)).astype(float)
            total += wide.sum(axis=0)
            squares += float(np.einsum("ij,ij->", wide, wide))
        centre = np.zeros(space.dimension) if space.metric == "dot" else total / ids.size
        variance = squares / ids.size - float(centre @ centre)
        scale = max(np.sqrt(max(variance, 0.0) / space.dimension), 1e-18)
        return centre.astype(np.float32), float(np.float32(scale))

    def _pieces(self, ids: Ids) -> Iterator[tuple[Ids, Vectors]]:
        step = max(1, _PIECE_BYTES // (4 * self._truth.space.dimension))
        for start in range(0, ids.size, step):
            some = ids[start : start + step]
            yield some, self._truth.vectors(some)

    def _moved(self, rows: Vectors, centre: NDArray[np.float32]) -> Vectors:
        moved = of_unit_length(rows) if self._truth.space.metric == "cosine" else rows
        return np.asarray(moved - centre, dtype=np.float32)

    def _coordinates(
        self, rows: Vectors, centre: NDArray[np.float32], scale: float
    ) -> NDArray[np.float16]:
        moved = self._moved(rows, centre) / np.float32(scale)
        return np.asarray(np.clip(moved, -_MOST_HALF, _MOST_HALF), dtype=np.float16)

    def _fill(
        self, tx: Connection, table: str, ids: Ids, centre: NDArray[np.float32], scale: float
    ) -> None:
        """Copy rows in PostgreSQL's binary form, a ``halfvec`` in pgvector's."""
        wide = self._truth.space.dimension
        kind = np.dtype(
            [("fields", ">i2"), ("id_bytes", ">i4"), ("id", ">i8"), ("v_bytes", ">i4"),
             ("dimension", ">i2"), ("unused", ">i2"), ("v", ">f2", (wide,))]
        )  # fmt: skip
        cursor: Any = tx.connection.cursor()
        with cursor, cursor.copy(f"COPY {table} (id, v) FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(_COPY_HEAD)
            for some, rows in self._pieces(ids):
                out = np.zeros(some.size, dtype=kind)
                out["fields"], out["id_bytes"], out["id"] = 2, 8, some
                out["v_bytes"], out["dimension"] = 4 + 2 * wide, wide
                out["v"] = self._coordinates(rows, centre, scale)
                copy.write(out.tobytes())
            copy.write(_COPY_END)


_LOCKS = 0x68617274
"""Advisory locks of updates of such tables, beside the number of a table."""


def _extension_schema(tx: Connection) -> str | None:
    """Return the quoted schema of pgvector's types, None where it is not made."""
    query = (
        "SELECT quote_ident(nspname) FROM pg_extension"
        " JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'vector'"
    )
    found = tx.exec_driver_sql(query).scalar()
    return None if found is None else str(found)
