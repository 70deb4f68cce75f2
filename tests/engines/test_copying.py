"""A catalog that is moved to a server and back: the same rows, names and bytes."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save
from sqlalchemy import select, text

import hartonomous as hn
from hartonomous.catalog import copying, schemas
from hartonomous.catalog.copying import copy_catalog
from hartonomous.catalog.database import Database, create_sqlite
from hartonomous.catalog.schema import metadata
from hartonomous.errors import ConflictError, HartonomousError, IntegrityError, LockedError
from hartonomous.opening import move_catalog, restore_store
from hartonomous.operations import catalog_copy


@pytest.fixture
def filled(tmp_path: Path, source) -> hn.Store:
    """A store with a row in nearly every table, and more rows than one transaction takes."""
    random = np.random.default_rng(1)
    base = random.standard_normal((64, 128), np.float32)
    with hn.init(tmp_path / "store") as store:
        config = source("model/config.json", b'{"model_type": "bert"}')
        tensors = {f"layers.{n}\0.w": np.full(20, n, "f4") for n in range(700)}
        source("model/model.safetensors", save({**tensors, "big": base}))
        store.add(config.parent, name="model", labels=["prod"], tags=["t"], metadata={"k": "v"})
        moved = base + random.standard_normal(base.shape).astype("f4") * np.float32(1e-5)
        store.add(source("fine.safetensors", save({"big": moved})))
        store.relate("fine.safetensors", "fine-tune-of", "model", weight=0.5, note="é\ue000")
        store.add(source("gone.bin", os.urandom(9000)))
        store.rm("gone.bin")
        store.gc(grace_s=0)
        yield store


def rows_of(store: hn.Store) -> dict[str, list[tuple[object, ...]]]:
    with store.parts.database.read() as tx:
        return {
            table.name: [
                tuple(row) for row in tx.execute(select(table).order_by(*table.primary_key.columns))
            ]
            for table in metadata.sorted_tables
        }


def assert_moved(now: dict[str, Any], before: dict[str, Any]) -> None:
    """Every row is what it was, and events have ids from now on that the former catalog has not."""
    held = [dict(rows["store_property"]) for rows in (now, before)]
    eras = [int(one.pop("event-era")) for one in held]
    assert eras[0] > eras[1]
    assert held[0] == held[1]
    # Reads are counted when a store is closed: before it was moved, but after ``before`` was read.
    apart = dict.fromkeys(("store_property", "access"))
    assert {**now, **apart} == {**before, **apart}


def check(store: hn.Store, out: Path, source_root: Path) -> None:
    assert store.verify(files=True).sound
    store.get("model", out / "model")
    for name in ("config.json", "model.safetensors"):
        wanted = (source_root / "model" / name).read_bytes()
        assert (out / "model" / name).read_bytes() == wanted
    assert store.names() == ["fine.safetensors", "model"]
    store.undo()
    assert "gone.bin" in store.names()
    store.rm("gone.bin")


def test_to_a_server_and_back(
    filled: hn.Store, tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, place = rows_of(filled), filled.path
    assert sum(bool(rows) for rows in before.values()) >= 14
    with pytest.raises(LockedError):
        move_catalog(place, postgres_url)
    filled.close()
    moved = move_catalog(place, postgres_url)
    assert moved.tables == {name: len(rows) for name, rows in before.items()}
    assert moved.kept is not None and Path(moved.kept).exists()
    assert not (place / "catalog.sqlite3").exists()
    monkeypatch.setenv("HARTONOMOUS_CATALOG_URL", postgres_url)
    with pytest.raises(ConflictError, match="already"):
        move_catalog(place, postgres_url)
    with hn.open(place) as store:
        assert store.parts.database.dialect == "postgresql"
        assert_moved(rows_of(store), before)
        check(store, tmp_path / "out", tmp_path / "source")
        again = rows_of(store)
    back = move_catalog(place, "sqlite")
    assert "_was_" in str(back.kept)
    monkeypatch.delenv("HARTONOMOUS_CATALOG_URL")
    with hn.open(place) as store:
        assert store.parts.database.dialect == "sqlite"
        assert_moved(rows_of(store), again)
        check(store, tmp_path / "out2", tmp_path / "source")


def test_ids_go_on_from_where_they_were(
    filled: hn.Store, source, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest rows are gone when the catalog is moved: their ids are not given again."""
    filled.add(source("last.bin", os.urandom(500)))
    last = max(row[0] for row in rows_of(filled)["version"])
    filled.rm("last.bin")
    filled.gc(trash_days=0, grace_s=0)
    place = filled.path
    filled.close()
    monkeypatch.setenv("HARTONOMOUS_CATALOG_URL", postgres_url)
    for number, where in enumerate((postgres_url, "sqlite")):
        move_catalog(place, where)
        with hn.open(place) as store:
            name = f"next{number}.bin"
            store.add(source(name, os.urandom(400)))
            given = max(row[0] for row in rows_of(store)["version"])
            assert given > last
            last = given
            store.rm(name)
            store.gc(trash_days=0, grace_s=0)


def test_a_difference_is_found(filled: hn.Store, tmp_path: Path, monkeypatch) -> None:
    real = copying._go_on_from
    changes = (
        "UPDATE tensor SET name = 'x' WHERE ordinal = 613",
        "DELETE FROM version_tag",
        "INSERT INTO store_property VALUES ('x', 'y')",
        "UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'atom'",
    )
    for number, change in enumerate(changes):
        target = Database(create_sqlite(tmp_path / f"{number}.sqlite3"))

        def tamper(tx, table, last_id, change=change) -> None:
            real(tx, table, last_id)
            if table.name == "version":
                tx.execute(text(change))

        monkeypatch.setattr(copying, "_go_on_from", tamper)
        with pytest.raises(IntegrityError):
            copy_catalog(filled.parts.database, target)
        monkeypatch.setattr(copying, "_go_on_from", real)
        with pytest.raises(ConflictError, match="rows"):
            copy_catalog(filled.parts.database, target)
        target.close()


def test_the_source_may_be_written_to_meanwhile(filled: hn.Store, tmp_path: Path, source) -> None:
    target = Database(create_sqlite(tmp_path / "copy.sqlite3"))
    before = rows_of(filled)
    real, added = copying._copy_table, []

    def copy_and_add(*words) -> int:
        count = real(*words)
        if not added:
            added.append(filled.add(source("meanwhile.bin", os.urandom(3000))))
        return count

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copying, "_copy_table", copy_and_add)
        copied = copy_catalog(filled.parts.database, target)
    assert added
    assert copied.rows == {name: len(rows) for name, rows in before.items()}
    target.close()


@pytest.mark.parametrize("step", ["copy_catalog", "set_catalog"])
def test_a_move_that_is_cut_short_leaves_the_former_catalog(
    filled: hn.Store, postgres_url: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before, place = rows_of(filled), filled.path
    filled.close()

    def cut(*_words: object) -> None:
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(catalog_copy, step, cut)
        with pytest.raises(InterruptedError):
            move_catalog(place, postgres_url)
    with hn.open(place) as store:
        assert store.parts.database.dialect == "sqlite"
        assert rows_of(store) == before
    move_catalog(place, postgres_url)
    with hn.open(place, catalog=postgres_url) as store:
        assert_moved(rows_of(store), before)


def test_a_snapshot_is_restored_to_a_server(
    filled: hn.Store, tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And backed up from there, into a catalog that is a file again."""
    shown = [(one.name, one.number, one.labels) for one in filled.ls(versions=True)]
    filled.backup(tmp_path / "backups")
    done = restore_store(tmp_path / "backups", tmp_path / "there", catalog=postgres_url)
    assert done.id != done.store_id
    assert not (tmp_path / "there" / "catalog.sqlite3").exists()
    monkeypatch.setenv("HARTONOMOUS_CATALOG_URL", postgres_url)
    with hn.open(tmp_path / "there") as store:
        assert store.parts.database.dialect == "postgresql"
        assert [(one.name, one.number, one.labels) for one in store.ls(versions=True)] == shown
        check(store, tmp_path / "out", tmp_path / "source")
        store.backup(tmp_path / "backups")
    monkeypatch.delenv("HARTONOMOUS_CATALOG_URL")
    restore_store(tmp_path / "backups", tmp_path / "back")
    with hn.open(tmp_path / "back") as store:
        assert store.parts.database.dialect == "sqlite"
        check(store, tmp_path / "out2", tmp_path / "source")


def test_a_server_that_cannot_be_reached_is_told_before_anything_is_restored(
    filled: hn.Store, tmp_path: Path
) -> None:
    filled.backup(tmp_path / "backups")
    with pytest.raises(HartonomousError, match="cannot be reached"):
        restore_store(
            tmp_path / "backups", tmp_path / "there",
            catalog=f"postgresql://x@/db?host={tmp_path}&connect_timeout=2",
        )  # fmt: skip
    assert not (tmp_path / "there").exists()


def test_derived_tables_are_left_where_they_are(
    served: hn.Store, source, tmp_path: Path, postgres_url: str
) -> None:
    served.add(source("a.md", b"# Pumps\n\nThe valve leaks.\n"))
    assert served.search("valve").hits
    listed = text("SELECT tablename FROM pg_tables WHERE schemaname = :schema")
    own = {*metadata.tables, "alembic_version"}

    def tables(database: Database, name: str | None = None) -> set[str]:
        with database.read() as tx:
            return set(tx.scalars(listed, {"schema": name or tx.scalar(text(CURRENT))}))

    with served.parts.database.read() as tx:
        schema = str(tx.scalar(text(CURRENT)))
    assert tables(served.parts.database) - own >= {"derived_word_source", "derived_word_passage"}
    with served.parts.database.write() as tx:
        schemas.copy(tx, schema, f"{schema}_aside")
    assert tables(served.parts.database, f"{schema}_aside") == own
    with served.parts.database.write() as tx:
        schemas.drop(tx, f"{schema}_aside")
    served.backup(tmp_path / "backups")
    served.close()
    restore_store(tmp_path / "backups", tmp_path / "there", catalog=postgres_url)
    with hn.open(tmp_path / "there", catalog=postgres_url) as store:
        assert tables(store.parts.database) == own
        assert [one.name for one in store.search("valve").hits] == ["a.md"]
    move_catalog(tmp_path / "there", "sqlite")
    with hn.open(tmp_path / "there") as store:
        assert [one.name for one in store.search("valve").hits] == ["a.md"]


CURRENT = "SELECT current_schema()"
