"""Roles of a store's catalog: what each may do on the server, and what not."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from sqlalchemy import text

import hartonomous as hn
from hartonomous.catalog.roles import DUTIES, OWNER, READER, WRITER, StoreRoles, roles_sql
from hartonomous.catalog.schema import metadata
from hartonomous.errors import HartonomousError, NoStoreError, UnsupportedStoreError
from hartonomous.opening import now_us
from hartonomous.operations.catalog_copy import move_catalog, roles_of_store
from hartonomous.settings import load_settings

Login = Callable[[str], str]


@pytest.fixture
def login(served: hn.Store, source, postgres_url: str) -> Iterator[Login]:
    """Return the address under which somebody with a duty logs in."""
    served.add(source("a.bin", os.urandom(3000)))
    found = roles_of_store(served.path)
    people = {duty: f"{found.schema[:20]}_{duty}" for duty in DUTIES}

    def say(*statements: str) -> None:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            for one in statements:
                connection.execute(one)

    for _ in range(2):  # the second time changes nothing
        say(roles_sql(found))
    for duty, name in people.items():
        say(f'CREATE ROLE "{name}" LOGIN', f'GRANT "{found.name(duty)}" TO "{name}"')
    say(f'ALTER ROLE "{people[OWNER]}" SET role = "{found.name(OWNER)}"')

    def address(duty: str) -> str:
        parts = urlsplit(postgres_url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{people[duty]}@{host}"))

    served.close()
    yield address
    for name in (*people.values(), *(found.name(duty) for duty in DUTIES)):
        say(f'DROP OWNED BY "{name}" CASCADE', f'DROP ROLE "{name}"')


def test_a_reader_reads(served: hn.Store, login: Login, tmp_path: Path, source) -> None:
    with hn.open(served.path, catalog=login(READER)) as store:
        assert store.names() == ["a.bin"]
        store.get("a.bin", tmp_path / "out")
        assert len((tmp_path / "out").read_bytes()) == 3000
        for change in (
            lambda: store.rm("a.bin"),
            lambda: store.label("a.bin", "prod"),
            lambda: store.add(source("b.bin", os.urandom(100))),
            lambda: store.gc(grace_s=0),
        ):
            with pytest.raises(HartonomousError, match="this role may not") as error:
                change()
            assert "the right to write" in error.value.message
            assert "permission denied" in error.value.message
            assert "writer role" in str(error.value.hint)
            assert "CREATE" not in str(error.value.hint)
        assert store.names() == ["a.bin"]


def test_a_reader_lists_spaces_and_makes_none(served: hn.Store, login: Login) -> None:
    with hn.open(served.path, catalog=login(READER)) as store:
        assert store.spaces.list() == []
        with pytest.raises(HartonomousError, match="this role may not"):
            store.embed()
    with hn.open(served.path, catalog=login(WRITER)) as store:
        store.embed()
        store.label("a.bin", "prod")  # a publication that nobody looked at since
        made = [one.name for one in store.spaces.list()]
        store.label("a.bin", "again")
    with hn.open(served.path, catalog=login(READER)) as store:
        assert [one.name for one in store.spaces.list()] == made != []


def test_a_reader_backs_up(served: hn.Store, login: Login, tmp_path: Path) -> None:
    with hn.open(served.path, catalog=login(READER)) as store:
        assert store.backup(tmp_path / "backup").version_count == 1
    hn.restore(tmp_path / "backup", tmp_path / "again")


FORBIDDEN = (
    *(f'DELETE FROM "{name}"' for name in metadata.tables),
    *(f'INSERT INTO "{name}" DEFAULT VALUES' for name in metadata.tables),
    "UPDATE atom SET damaged = 1",
    "UPDATE version SET removed_us = 1",
    "SELECT nextval('atom_id_seq')",
    "DROP TABLE atom",
    "TRUNCATE atom CASCADE",
    "CREATE TABLE more (x int)",
    "CREATE SCHEMA hart_of_a_reader",
    "ALTER TABLE atom ADD x int",
    "UPDATE alembic_version SET version_num = '0'",
)


def test_what_a_reader_may_not(served: hn.Store, login: Login) -> None:
    options = f"-c search_path={roles_of_store(served.path).schema}"
    with psycopg.connect(login(READER), options=options, autocommit=True) as connection:
        for table in metadata.tables:
            connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()
        for statement in FORBIDDEN:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_a_writer_writes_and_makes_no_schema(served: hn.Store, login: Login, source) -> None:
    with hn.open(served.path, catalog=login(WRITER)) as store:
        store.add([source(f"b/{n}.bin", os.urandom(100)) for n in range(40)])
        store.label("a.bin", "prod")
        store.rm("a.bin")
        store.gc(trash_days=0, grace_s=0)
        assert store.verify(files=True).sound
        for statement in ("DROP TABLE atom", "UPDATE alembic_version SET version_num = '0'"):
            with pytest.raises(HartonomousError), store.parts.database.write() as tx:
                tx.execute(text(statement))


def test_a_writer_moves_no_catalog(
    served: hn.Store, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = (served.path / "store.json").read_bytes()
    monkeypatch.setenv("HARTONOMOUS_CATALOG_URL", login(WRITER))
    with pytest.raises(HartonomousError, match="this role may not"):
        move_catalog(served.path, "sqlite", settings=load_settings(), clock=now_us)
    assert (served.path / "store.json").read_bytes() == card
    assert not list(served.path.glob("catalog.sqlite3*"))
    monkeypatch.setenv("HARTONOMOUS_CATALOG_URL", login(OWNER))
    moved = move_catalog(served.path, "sqlite", settings=load_settings(), clock=now_us)
    assert "_was_" in str(moved.kept)


def test_a_worker_that_may_not_write_ends(served: hn.Store, login: Login) -> None:
    with hn.open(served.path, catalog=login(OWNER)) as store:
        store.jobs.submit("verify")
    words = ("worker", "--once", "--store", str(served.path))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "hartonomous", *words], capture_output=True, text=True,
        timeout=60, check=False, env={**os.environ, "HARTONOMOUS_CATALOG_URL": login(READER)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "permission denied" in done.stderr
    assert "trying again" not in done.stderr
    assert "Traceback" not in done.stderr


def test_who_may_make_no_schema_leaves_no_folder(
    served: hn.Store, login: Login, tmp_path: Path
) -> None:
    with pytest.raises(HartonomousError, match="may not make a schema") as error:
        hn.init(tmp_path / "other", catalog=login(READER))
    assert "GRANT CREATE" in str(error.value.hint)
    assert not (tmp_path / "other").exists()
    hn.init(tmp_path / "other", catalog=login(OWNER)).close()


def test_an_owner_repairs_and_the_others_go_on(
    served: hn.Store, login: Login, source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARTONOMOUS_CATALOG_URL", login(WRITER))
    with pytest.raises(HartonomousError, match="the right to make a schema is missing") as error:
        hn.repair(served.path)
    assert "CREATE on the database" in str(error.value.hint)
    assert "writer" not in str(error.value.hint)
    monkeypatch.setenv("HARTONOMOUS_CATALOG_URL", login(OWNER))
    hn.repair(served.path)
    with hn.open(served.path, catalog=login(WRITER)) as store:
        store.add(source("c.bin", os.urandom(100)))
    with hn.open(served.path, catalog=login(READER)) as store:
        assert store.names() == ["a.bin", "c.bin"]
        with pytest.raises(HartonomousError, match="this role may not"):
            store.rm("a.bin")


def test_writers_share_the_index_of_words_and_readers_search_it(
    served: hn.Store, login: Login, postgres_url: str, source
) -> None:
    schema = roles_of_store(served.path).schema
    with (
        hn.open(served.path, catalog=login(READER)) as store,
        pytest.raises(HartonomousError, match="index of words is not there") as error,
    ):
        store.search("valve")
    assert "hart views update" in str(error.value.hint)
    with hn.open(served.path, catalog=login(READER)) as store:
        for change in (store.views.make, store.views.drop, store.embed):
            with pytest.raises(HartonomousError, match="the right to write") as refused:
                change()
            assert "writer role" in str(refused.value.hint)
    with hn.open(served.path, catalog=login(WRITER)) as store:
        store.add(source("a.md", b"# Pumps\n\nThe valve leaks.\n"))
        assert [one.name for one in store.search("valve").hits] == ["a.md"]
        store.add(source("b.md", b"# Ships\n\nA valve of a ship.\n"))
    with hn.open(served.path, catalog=login(READER)) as store:
        found = store.search("valve")
        assert [one.name for one in found.hits] == ["a.md"]
        assert any("added lately" in note for note in found.notes)
        with pytest.raises(HartonomousError):
            store.views.make()
    other = f"{schema[:20]}_second_writer"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'CREATE ROLE "{other}" LOGIN IN ROLE "{schema}_writer"')
    try:
        parts = urlsplit(login(WRITER))
        netloc = f"{other}@{parts.netloc.rpartition('@')[2]}"
        with hn.open(served.path, catalog=urlunsplit(parts._replace(netloc=netloc))) as store:
            assert {one.name for one in store.search("valve").hits} == {"a.md", "b.md"}
            with store.parts.database.write() as tx:  # as a newer schema of the index does
                tx.execute(text("DROP TABLE derived_word_source"))
                tx.execute(text("DELETE FROM derived_word_state"))
            assert {one.name for one in store.search("valve").hits} == {"a.md", "b.md"}
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f'DROP OWNED BY "{other}" CASCADE')
            connection.execute(f'DROP ROLE "{other}"')
    with hn.open(served.path, catalog=login(READER)) as store:
        found = store.search("valve")
        assert {one.name for one in found.hits} == {"a.md", "b.md"}
        assert found.notes == ()


def test_writers_search_after_an_owner_repaired(
    served: hn.Store, login: Login, source, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hn.open(served.path, catalog=login(WRITER)) as store:
        store.add(source("a.md", b"# Pumps\n\nThe valve leaks.\n"))
        assert store.search("valve").hits
    monkeypatch.setenv("HARTONOMOUS_CATALOG_URL", login(OWNER))
    hn.repair(served.path)
    with hn.open(served.path, catalog=login(WRITER)) as store:
        assert [one.name for one in store.search("valve").hits] == ["a.md"]
    with hn.open(served.path, catalog=login(READER)) as store:
        assert [one.name for one in store.search("valve").hits] == ["a.md"]


def test_who_has_no_role_is_told_of_roles(
    served: hn.Store, login: Login, postgres_url: str
) -> None:
    stranger = f"{login(READER).split('//')[1].split('@')[0]}_not"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'CREATE ROLE "{stranger}" LOGIN')
        try:
            address = login(READER).replace(stranger.removesuffix("_not"), stranger)
            with pytest.raises(NoStoreError, match="the right to use it is missing") as caught:
                hn.open(served.path, catalog=address)
            connection.execute(
                f'ALTER SCHEMA "{roles_of_store(served.path).schema}" RENAME TO hart_elsewhere'
            )
            with pytest.raises(NoStoreError, match="can be seen") as gone:
                hn.open(served.path, catalog=address)
            connection.execute(
                f'ALTER SCHEMA hart_elsewhere RENAME TO "{roles_of_store(served.path).schema}"'
            )
        finally:
            connection.execute(f'DROP ROLE "{stranger}"')
    assert "hart catalog roles" in str(caught.value.hint)
    assert "repair" not in str(caught.value.hint)
    assert str(gone.value.hint).startswith("your role may lack rights")


def test_the_sql_says_what_the_maker_needs() -> None:
    made = roles_sql(StoreRoles(schema="hart_x", database="d"))
    assert "Who made the store" in made.partition("BEGIN;")[0]


def test_names_are_quoted() -> None:
    made = roles_sql(StoreRoles(schema="hart_x", database='odd "name'))
    assert 'GRANT CONNECT ON DATABASE "odd ""name"' in made


def test_a_store_that_somebody_else_made_brings_no_sql_of_its_own(served: hn.Store) -> None:
    made = roles_sql(StoreRoles(schema="hart_x", database="a\nDROP TABLE t;\r--"))
    comments = [line for line in made.split("\n") if line.startswith("--")]
    assert sum("DROP TABLE" in line for line in comments) == 1
    served.close()
    place = served.path / "store.json"
    card = json.loads(place.read_text())
    card["catalog"]["schema"] += "$$; DROP TABLE t; DO $$"
    place.write_text(json.dumps(card))
    with pytest.raises(UnsupportedStoreError, match="DROP TABLE"):
        roles_of_store(served.path)
