"""The catalog: its schema, its migrations, its plans, and how much one transaction writes."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from alembic import command, op
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from disk import noise
from safetensors.numpy import save
from sqlalchemy import event, inspect, text

import hartonomous as hn
from hartonomous.catalog import (
    artifacts,
    atoms,
    bases,
    database,
    extents,
    manifests,
    reference_counts,
    sketches,
    versions,
    writers,
)
from hartonomous.catalog.engines import postgres, sqlite
from hartonomous.catalog.engines.postgres import ServerPlace, parse_url
from hartonomous.catalog.schema import metadata
from hartonomous.errors import UnsupportedStoreError
from hartonomous.opening import now_us
from hartonomous.packs import directory
from hartonomous.packs.session import WriteSession
from hartonomous.settings import load_settings

SQLITE = pytest.mark.parametrize("catalog_engine", ["sqlite"], indirect=True)
POSTGRESQL = pytest.mark.parametrize("catalog_engine", ["postgresql"], indirect=True)


@pytest.fixture
def bare(catalog_engine, tmp_path, request):
    """Yield an engine on a catalog without tables."""
    if catalog_engine == "sqlite":
        made = sqlite.file_engine(tmp_path / "catalog.sqlite3")
    else:
        url = request.getfixturevalue("postgres_url")
        made = postgres.server_engine(ServerPlace(parameters=parse_url(url), schema="hart_it"))
        with database.Database(made).write() as tx:
            tx.exec_driver_sql("CREATE SCHEMA hart_it")
    yield made
    made.dispose()


@pytest.fixture
def engine(bare):
    database.migrate(bare)
    return bare


def alembic(connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(database.MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def test_the_schema_is_the_sum_of_the_migrations(engine):
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []


def test_the_revision_is_the_newest_migration(engine):
    scripts = ScriptDirectory(str(database.MIGRATIONS))
    assert scripts.get_heads() == [database.SCHEMA_REVISION]
    assert database.current_revision(engine) == database.SCHEMA_REVISION


def test_down_and_up_again(engine):
    with database.Database(engine).write() as connection:
        command.downgrade(alembic(connection), "base")
    assert set(inspect(engine).get_table_names()) <= {"alembic_version"}
    database.migrate(engine)
    assert set(inspect(engine).get_table_names()) == {*metadata.tables, "alembic_version"}


def test_a_migration_that_fails_half_way_leaves_nothing(bare, monkeypatch):
    engine = bare
    real, made = Operations.create_table, []

    def create_table(self, name, *words, **how):
        made.append(name)
        if len(made) == 6:
            raise InterruptedError
        return real(self, name, *words, **how)

    with monkeypatch.context() as patch:
        patch.setattr("alembic.op.create_table", lambda *w, **h: create_table(_ops(), *w, **h))
        with pytest.raises(InterruptedError):
            database.migrate(engine)
    assert len(made) == 6
    assert inspect(engine).get_table_names() == []
    database.migrate(engine)
    assert database.current_revision(engine) == database.SCHEMA_REVISION


def _ops():
    return op._proxy


def test_a_store_with_another_schema_is_refused_and_migrated(store):
    place = store.path
    with store.parts.database.write() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    with pytest.raises(UnsupportedStoreError, match="9999"):
        hn.open(place)
    with hn.open(place.parent / "fresh", create=True):
        pass
    old, new, copy = directory.migrate(
        place.parent / "fresh", settings=load_settings(), clock=now_us
    )
    assert (old, new, copy) == (database.SCHEMA_REVISION, database.SCHEMA_REVISION, "")


# -- plans


@contextmanager
def plans(engine) -> Iterator[list[str]]:
    """Collect the query plans of everything that is executed meanwhile."""
    found: list[str] = []
    how = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN"

    def explain(connection, cursor, statement, parameters, context, many) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            other = cursor.connection.cursor()
            if how == "EXPLAIN":  # of tables without rows it would read the whole
                other.execute("SET LOCAL enable_seqscan = off")
            rows = other.execute(f"{how} {statement}", parameters).fetchall()
            found.extend(row[-1] for row in rows)

    event.listen(engine, "before_cursor_execute", explain)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", explain)


@SQLITE  # the plans are SQLite's own words; those of PostgreSQL are below
@pytest.mark.parametrize(
    ("query", "indexes"),
    [
        (lambda tx: atoms.find(tx, [b"1" * 32, b"2" * 32]), ["sqlite_autoindex_atom_1"]),
        (lambda tx: extents.of_atoms(tx, [b"1" * 32]), ["ix_extent_atom_id_position"]),
        (
            lambda tx: manifests.by_file_digest(tx, b"1" * 32),
            ["sqlite_autoindex_manifest_2"],
        ),
        (lambda tx: versions.same_source(tx, "host", "/a"), ["ix_version_source_place"]),
        (lambda tx: artifacts.by_name(tx, "a"), ["artifact_", "name"]),
        (lambda tx: versions.of_artifact(tx, 1), ["uq_version_artifact_id_number"]),
        (lambda tx: versions.by_uids(tx, [b"1" * 16]), ["sqlite_autoindex_version_1"]),
        (
            lambda tx: atoms.unreferenced(tx, after_id=0, limit=9, spared_writers=[b"w" * 16]),
            [
                "ix_manifest_atom_atom_id",
                "ix_atom_pin_atom_id",
                "ix_extent_atom_id_position",
                "ix_atom_base_base_atom_id",
            ],
        ),
        (lambda tx: bases.dependents(tx, [1, 2]), ["ix_atom_base_base_atom_id"]),
        (lambda tx: bases.of_pack(tx, 1), ["ix_extent_pack_id"]),
        (lambda tx: manifests.needing_atoms(tx, [1]), ["ix_manifest_atom_atom_id"]),
        (
            lambda tx: sketches.signs_after(tx, 4096, after_id=7, limit=9),
            ["COVERING INDEX ix_sketch_signs (element_count=? AND id>?)"],
        ),
        (lambda tx: sketches.by_ids(tx, [1, 2]), ["SEARCH sketch USING INTEGER PRIMARY KEY"]),
        (lambda tx: sketches.ids_of_atoms(tx, [b"1" * 32], 4096), ["uq_sketch_part"]),
        (
            lambda tx: sketches.missing(tx, [1, 2], dtypes=["F32"]),
            ["ix_tensor_digest", "uq_sketch_part"],
        ),
        (lambda tx: sketches.remove_sketches(tx, [1, 2]), ["uq_sketch_part (atom_id=?)"]),
    ],
)
def test_hot_queries_use_their_index(engine, query, indexes):
    with plans(engine) as found, database.Database(engine).read() as tx:
        query(tx)
    assert found
    whole = "\n".join(found)
    for index in indexes:
        assert index in whole, whole
    # Every table is searched, or walked in order of its key where that is the job.
    assert [line for line in found if line.startswith("SCAN") and "VIRTUAL" not in line] == [], (
        whole
    )


@POSTGRESQL
@pytest.mark.parametrize(
    ("query", "indexes"),
    [
        (lambda tx: atoms.find(tx, [b"1" * 32, b"2" * 32]), ["uq_atom_digest"]),
        (
            lambda tx: extents.of_atoms(tx, [b"1" * 32]),
            ["uq_atom_digest", "ix_extent_atom_id_position", "pk_pack"],
        ),
        (lambda tx: manifests.by_file_digest(tx, b"1" * 32), ["uq_manifest_file_digest"]),
        (lambda tx: versions.same_source(tx, "host", "/a"), ["ix_version_source_place"]),
        (lambda tx: artifacts.by_name(tx, "a"), ["artifact_"]),
        (lambda tx: versions.of_artifact(tx, 1), ["uq_version_artifact_id_number"]),
        (lambda tx: versions.by_uids(tx, [b"1" * 16]), ["uq_version_uid"]),
        (lambda tx: bases.dependents(tx, [1, 2]), ["ix_atom_base_base_atom_id"]),
        (lambda tx: bases.of_pack(tx, 1), ["ix_extent_pack_id"]),
        (lambda tx: manifests.needing_atoms(tx, [1]), ["manifest_atom"]),
        (
            lambda tx: sketches.signs_after(tx, 4096, after_id=7, limit=9),
            ["Index Only Scan using ix_sketch_signs"],
        ),
        (lambda tx: sketches.by_ids(tx, [1, 2]), ["pk_sketch"]),
        (lambda tx: sketches.remove_sketches(tx, [1, 2]), ["uq_sketch_part"]),
    ],
)
def test_hot_queries_use_their_index_on_a_server(engine, query, indexes):
    with plans(engine) as found, database.Database(engine).write() as tx:
        query(tx)
    whole = "\n".join(found)
    for index in indexes:
        assert index in whole, whole
    assert "Seq Scan" not in whole


# -- small transactions


@contextmanager
def rows_written(engine) -> Iterator[list[int]]:
    """Collect how many rows each transaction writes."""
    counts: list[int] = [0]
    if engine.dialect.name == "postgresql":
        with _rows_of_server(engine, counts):
            yield counts
        return

    def executed(connection, cursor, statement, parameters, context, many) -> None:
        if statement.startswith("INSERT"):
            # Rows one by one, or many in one statement with one flat list of values.
            apart = many and parameters and isinstance(parameters[0], tuple)
            counts[-1] += len(parameters) if apart else statement.count("), (") + 1
        elif statement.startswith(("UPDATE", "DELETE")):
            counts[-1] += max(0, cursor.rowcount)

    def ended(connection) -> None:
        counts.append(0)

    event.listen(engine, "after_cursor_execute", executed)
    event.listen(engine, "commit", ended)
    try:
        yield counts
    finally:
        event.remove(engine, "after_cursor_execute", executed)
        event.remove(engine, "commit", ended)


@contextmanager
def _rows_of_server(engine, counts: list[int]) -> Iterator[None]:
    """Ask the server before each commit; the rows that it counts are dropped from its memory."""
    query = (
        "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint, "
        "pg_stat_force_next_flush()::text FROM pg_stat_xact_user_tables "
        "WHERE schemaname = current_schema()"
    )

    def ends(connection) -> None:
        counts.append(connection.exec_driver_sql(query).one()[0])

    engine.dispose()  # a connection may have rows of former transactions in its memory still
    event.listen(engine, "commit", ends)
    try:
        yield
    finally:
        event.remove(engine, "commit", ends)


def test_no_transaction_of_an_add_writes_more_than_500_rows(store, source):
    tensors = {f"layers.{n}.w": np.full(20, n, "f4") for n in range(1500)}
    folder = source("m/config.json", b"{}").parent
    source("m/model.safetensors", save(tensors))
    for number in range(700):
        source(f"m/extra/{number}.txt", b"%d" % number)
    with rows_written(store.parts.database.engine) as counts:
        (added,) = store.add(folder).artifacts
    assert (added.file_count, added.tensor_count) == (702, 1500)
    assert sum(counts) > 1500 * 3 + 700 * 2
    assert max(counts) <= database.ROWS_PER_TRANSACTION


def test_rows_of_sketches_count_too(store, source):
    random = np.random.default_rng(1)
    # Of these each has a sketch of the whole and two of its halves.
    tensors = {f"layers.{n}.w": random.standard_normal((160, 32)).astype("f2") for n in range(600)}
    path = source("m.safetensors", save(tensors))
    with rows_written(store.parts.database.engine) as counts:
        store.add(path)
        store.rm("m.safetensors")
        store.gc(trash_days=0, grace_s=0)
    with store.parts.database.read() as tx:
        assert sketches.newest(tx) == 0
        last = "SELECT seq FROM sqlite_sequence WHERE name = 'sketch'"
        if tx.dialect.name == "postgresql":
            last = "SELECT last_value FROM sketch_id_seq"
        assert tx.scalar(text(last)) == 1800
    assert sum(counts) > 1800 * 2
    assert max(counts) <= database.ROWS_PER_TRANSACTION


def test_many_small_files_are_added_in_small_transactions(store, source):
    for number in range(300):
        source(f"tree/{number}.bin", noise(100, number))
    with rows_written(store.parts.database.engine) as counts:
        store.add(source("tree/0.bin", noise(100, 0)).parent, labels=["prod"])
    assert sum(counts) > 1500
    assert max(counts) <= database.ROWS_PER_TRANSACTION


def test_pins_are_dropped_in_small_transactions(store, source):
    store.add([source(f"{number}.bin", noise(100, number)) for number in range(20)])
    with WriteSession(store.parts) as session:
        with store.parts.database.read() as tx:
            found = [digest for _, digest, _ in atoms.page(tx, after_id=0, limit=100)]
            files = [row.file_digest for row in manifests.page(tx, after_id=0, limit=100)]
        session.known_atoms(found)
        for one in files:
            assert session.known_manifest(one)
        left = []
        for _ in range(5):
            with store.parts.database.write() as tx:
                left.append(writers.drop_pins(tx, session.id, limit=10))
        assert left == [False, False, False, False, True]


# -- counts


def test_counts_equal_what_manifests_say(store, source):
    body = np.arange(500, dtype="f4")
    store.add(source("a.safetensors", save({"x": body, "y": body, "z": body + 1})))
    store.add(source("b.safetensors", save({"x": body, "q": body + 2})))
    store.gc(grace_s=0)

    def counted() -> list[int]:
        with store.parts.database.read() as tx:
            assert reference_counts.wrong_counts(tx, limit=10) == []
            assert atoms.holes(tx, limit=10) == []
            return sorted(tx.scalars(text("SELECT reference_count FROM atom")))

    assert counted() == [1, 1, 1, 1, 3]  # the two headers too
    store.rm("b.safetensors")
    store.gc(trash_days=0, grace_s=0)
    assert counted()[-1] == 2
    store.rm("a.safetensors")
    store.gc(trash_days=0, grace_s=0)
    assert counted() == []


def test_folding_in_small_steps_gives_the_same(store, source):
    body = np.arange(500, dtype="f4")
    for number in range(5):
        store.add(source(f"{number}.safetensors", save({"x": body, "y": body + number + 1})))
    steps = 0
    while True:
        with store.parts.database.write() as tx:
            folded = reference_counts.count_references(tx, limit=3)
            assert reference_counts.wrong_counts(tx, limit=10) == []
        if not folded:
            break
        steps += 1
    assert steps >= 3


def test_counts_are_folded_and_taken_back_in_small_transactions(store, source):
    """Of a file with more references than a transaction has rows, and of many small files."""
    tensors = {f"layers.{n}.w": np.full(20, n, "f4") for n in range(1200)}
    large, small = source("m.safetensors", save(tensors)), source("small/0.bin", noise(100, 0))
    for number in range(400):
        source(f"small/{number}.bin", noise(100, number))
    store.add(large)
    store.add(small.parent)
    with rows_written(store.parts.database.engine) as counts:
        store.gc(grace_s=0)
    assert sum(counts) > 1200 + 400 * 2
    assert max(counts) <= database.ROWS_PER_TRANSACTION
    with store.parts.database.read() as tx:
        assert tx.scalar(text("SELECT count(*) FROM manifest WHERE counted = 0")) == 0
        assert tx.scalar(text("SELECT sum(reference_count) FROM atom")) == 1200 + 1 + 400
        assert tx.scalar(text(COUNTED_IN_PART)) == 0
        assert reference_counts.wrong_counts(tx, limit=10) == []
    for one in store.ls():
        store.rm(one.name)
    with rows_written(store.parts.database.engine) as counts:
        store.gc(trash_days=0, grace_s=0)
    assert sum(counts) > 1200 * 4 + 400 * 4
    assert max(counts) <= database.ROWS_PER_TRANSACTION
    assert store.stats().atom_count == 0


COUNTED_IN_PART = "SELECT count(*) FROM store_property WHERE name LIKE 'counted-up-to:%'"


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_a_file_that_is_counted_in_part_is_counted_on_or_removed(store, source, pieces):
    """As a collection leaves it that was killed: no step of either makes a count wrong."""
    body = np.arange(500, dtype="f4")
    tensors = {f"{n}.w": body + n for n in range(20)}
    store.add(source("a.safetensors", save(tensors)))
    store.add(source("b.safetensors", save({name: tensors[name] for name in ("3.w", "7.w")})))

    def step(work) -> int:
        with store.parts.database.write() as tx:
            done = work(tx)
            assert reference_counts.wrong_counts(tx, limit=10) == []
            return done

    def fold(tx):
        return reference_counts.count_references(tx, limit=6)

    with store.parts.database.read() as tx:
        (first, _) = manifests.page(tx, after_id=0, limit=9)
    for _ in range(pieces):
        assert step(fold)
    with store.parts.database.read() as tx:
        assert tx.scalar(text(COUNTED_IN_PART)) == 1
    assert store.verify().sound
    if pieces == 2:
        store.rm("a.safetensors")
        store.gc(trash_days=0, grace_s=0)
    elif pieces == 3:  # as a dead writer's is cleared away
        with store.parts.database.write() as tx:
            tx.execute(text("DELETE FROM member WHERE manifest_id = :id"), {"id": first.id})
        while not step(lambda tx: manifests.remove_some(tx, first.id, limit=6)):
            pass
    while step(fold):
        pass
    with store.parts.database.read() as tx:
        assert tx.scalar(text(COUNTED_IN_PART)) == 0
        found = sorted(
            tx.scalars(text("SELECT reference_count FROM atom WHERE reference_count > 0"))
        )
    # 20 tensors and a header, of which two are in the other file; or that one alone.
    assert found == ([1] * 20 + [2] * 2 if pieces == 1 else [1] * 3)


def test_what_many_share_is_no_hot_row(store, source):
    """Adding and removing files that refer to an atom which is there writes nothing of its row."""
    shared = np.zeros(64, "f4")
    store.add(source("0.safetensors", save({"norm": shared, "w": shared + 1})))
    said = []

    def executed(connection, cursor, statement, parameters, context, many) -> None:
        said.append(statement)

    event.listen(store.parts.database.engine, "after_cursor_execute", executed)
    for number in range(1, 4):
        path = source(f"{number}.safetensors", save({"norm": shared, "w": shared + 1 + number}))
        store.add(path)
    store.rm("1.safetensors")
    event.remove(store.parts.database.engine, "after_cursor_execute", executed)
    assert any("manifest_atom" in one for one in said)
    assert [one for one in said if one.startswith("UPDATE atom ")] == []
    assert not any("FOR UPDATE" in one or "FOR SHARE" in one for one in said)
    store.gc(grace_s=0)
    with store.parts.database.read() as tx:
        counts = sorted(tx.scalars(text("SELECT reference_count FROM atom")))
    assert counts[-1] == 4
