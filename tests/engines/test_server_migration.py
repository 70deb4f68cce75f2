"""A populated catalog of an older schema on a server is brought to the newest one, whole."""

import json
from pathlib import Path

import numpy as np
import psycopg
import pytest
from alembic import command
from alembic.config import Config
from psycopg import sql
from safetensors.numpy import save
from sqlalchemy import text

import hartonomous as hn
from hartonomous.catalog.database import MIGRATIONS, SCHEMA_REVISION, Database, open_postgres
from hartonomous.catalog.engines.postgres import ServerPlace, parse_url
from hartonomous.catalog.schema import metadata
from hartonomous.errors import UnsupportedStoreError
from hartonomous.opening import migrate_store

_OLDER = [f"{number:04}" for number in range(1, int(SCHEMA_REVISION))]


@pytest.fixture
def filled(served: hn.Store, source) -> hn.Store:
    """A store with more rows of a table than a transaction of ours takes."""
    random = np.random.default_rng(3)
    tensors = {f"layers.{n}.w": random.standard_normal(20).astype("f4") for n in range(600)}
    served.add(source("model.safetensors", save(tensors)), labels=["prod"], tags=["t"])
    served.add(source("notes.txt", b"a line of text\n" * 400), metadata={"k": "v\ue000"})
    served.add(source("gone.bin", random.bytes(9000)))
    served.rm("gone.bin")
    served.relate("notes.txt", "fine-tune-of", "model.safetensors", note="said")
    return served


def _made_old(url: str, schema: str, revision: str) -> dict[str, int]:
    """Put a catalog of an older revision, with the rows that it can hold, in a catalog's place."""
    quoted, newer = sql.Identifier(schema), sql.Identifier(f"{schema}_newer")
    with psycopg.connect(url) as connection:
        connection.execute(sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(quoted, newer))
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(quoted))
    database = Database(open_postgres(ServerPlace(parameters=parse_url(url), schema=schema)))
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.write() as tx:
        config.attributes["connection"] = tx
        command.upgrade(config, revision)
    database.close()
    counts: dict[str, int] = {}
    with psycopg.connect(url) as connection:
        there = "SELECT table_name FROM information_schema.tables WHERE table_schema = %s"
        held = {name for (name,) in connection.execute(there, [schema])}
        for table in metadata.sorted_tables:
            if table.name not in held:
                continue
            known = connection.execute(
                "SELECT column_name FROM information_schema.columns"
                " WHERE table_schema = %s AND table_name = %s",
                [schema, table.name],
            ).fetchall()
            columns = sql.SQL(", ").join(sql.Identifier(name) for (name,) in known)
            where = sql.SQL("WHERE name <> 'event-era'" if table.name == "store_property" else "")
            counts[table.name] = connection.execute(
                sql.SQL("INSERT INTO {0}.{2} ({3}) SELECT {3} FROM {1}.{2} {4}").format(
                    quoted, newer, sql.Identifier(table.name), columns, where
                )
            ).rowcount
            if ("id",) in known:
                connection.execute(
                    "SELECT setval(pg_get_serial_sequence(%s, 'id'),"
                    f' (SELECT max(id) FROM "{schema}"."{table.name}"))',
                    [f'"{schema}"."{table.name}"'],
                )
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(newer))
    return counts


@pytest.mark.parametrize("revision", _OLDER)
def test_an_older_catalog_with_rows_is_migrated(
    filled: hn.Store, source, tmp_path: Path, postgres_url: str, revision: str
) -> None:
    place = filled.path
    before = [(one.name, one.number, one.labels, one.digest) for one in filled.ls(versions=True)]
    filled.close()
    schema = json.loads((place / "store.json").read_text())["catalog"]["schema"]
    counts = _made_old(postgres_url, schema, revision)
    assert counts["tensor"] == 600
    with pytest.raises(UnsupportedStoreError, match=f"older schema {revision}") as error:
        hn.open(place)
    assert "hart migrate" in str(error.value.hint)
    done = migrate_store(place)
    assert (done.former_schema, done.schema, done.changed) == (revision, SCHEMA_REVISION, True)
    with hn.open(place) as store:
        shown = [(one.name, one.number, one.labels, one.digest) for one in store.ls(versions=True)]
        assert shown == before
        with store.parts.database.read() as tx:
            for name, count in counts.items():
                for where in (schema, f"{schema}_at_{revision}"):  # the copy is whole too
                    query = text(f'SELECT count(*) FROM "{where}"."{name}"')
                    assert tx.scalar(query) == count, (where, name)
        assert store.verify(files=True).sound
        store.add(source("later.bin", b"later" * 100))
        store.undo()
        assert store.events(since="beginning")
        assert store.jobs.submit("verify").status == "pending"
        assert store.verify(files=True).sound
    assert not migrate_store(place).changed
