"""A catalog on a PostgreSQL server: credentials, transactions, errors, damage."""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from postgres_server import VARIABLE, end_connections
from safetensors.numpy import save
from sqlalchemy import text

import hartonomous as hn
from hartonomous.catalog import atoms, properties, schemas, writers
from hartonomous.catalog.columns import escaped, unescaped
from hartonomous.catalog.database import Database
from hartonomous.catalog.engines import postgres
from hartonomous.errors import (
    HartonomousError,
    LockedError,
    NoStoreError,
    UnreachableError,
    UnsupportedStoreError,
    UsageError,
)

SECRET = "sesame"


def listing(store: hn.Store) -> list[tuple[object, ...]]:
    rows = store.ls(versions=True)
    return [(one.name, one.number, one.digest, one.labels) for one in rows]


def fill(store: hn.Store, source) -> None:
    store.add(source("a.bin", os.urandom(70_000)), labels=["prod"], tags=["t"])
    store.add(source("b.safetensors", save({"w": np.arange(900, dtype="f4")})))
    store.add(source("c.bin", b"c" * 500))
    store.rm("c.bin")


# -- credentials


def test_no_credentials_are_written_down(tmp_path: Path, postgres_url: str) -> None:
    with_password = postgres_url.replace("//tests@", f"//tests:{SECRET}@")
    assert SECRET in with_password
    with hn.init(tmp_path / "store", catalog=with_password) as store:
        assert not list(store.ls())
        assert SECRET not in store.parts.home.shown()
        assert SECRET not in repr(store.parts.home.place)
    card = json.loads((tmp_path / "store" / "store.json").read_text())
    assert set(card["catalog"]["parameters"]) <= {"host", "port", "dbname"}
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{SECRET}@127.0.0.1:1/there",
        f"postgresql://u:{SECRET}%zz@host/there",
        f"postgresql://u:{SECRET}@ho st/there",
        f"postgresql://u:{SECRET}@host/there?such={SECRET}",
        f"mysql://u:{SECRET}@host/there",
    ],
)
def test_errors_do_not_show_a_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(HartonomousError) as error:
        hn.init(tmp_path / "store", catalog=url)
    told: BaseException | None = error.value
    while told is not None:
        assert SECRET not in str(told)
        assert SECRET not in repr(getattr(told, "hint", ""))
        told = told.__cause__
    assert not (tmp_path / "store" / "store.json").exists()


def test_the_address_may_be_in_a_file(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "url").write_text(postgres_url + "\n")
    monkeypatch.setenv("HARTONOMOUS_CATALOG_URL_FILE", str(tmp_path / "url"))
    with hn.init(tmp_path / "store") as store:
        assert store.parts.database.dialect == "postgresql"
    monkeypatch.setenv("HARTONOMOUS_CATALOG_URL", postgres_url)
    with pytest.raises(UsageError, match="both"):
        hn.open(tmp_path / "store")


def test_the_user_may_come_from_libpqs_own_variables(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hn.init(tmp_path / "store", catalog=postgres_url).close()
    monkeypatch.setenv("PGUSER", "nobody_of_that_name")
    with pytest.raises(HartonomousError, match="does not let you in") as error:
        hn.open(tmp_path / "store")
    assert "PGUSER" in str(error.value.hint)
    monkeypatch.setenv("PGUSER", psycopg.conninfo.conninfo_to_dict(postgres_url)["user"])
    hn.open(tmp_path / "store").close()


def test_a_wrong_password_is_told_as_one(
    tmp_path: Path, postgres_server: Any, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = f"with_password_{os.getpid()}"
    postgres_server.say(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'right'")
    try:
        if VARIABLE not in os.environ:  # the tests' own server, which trusts everybody otherwise
            with psycopg.connect(postgres_server.url) as connection:
                [(hba,)] = connection.execute("SHOW hba_file").fetchall()
            rules = Path(hba).read_text()
            Path(hba).write_text(f"local all {role} scram-sha-256\n{rules}")
            postgres_server.say("SELECT pg_reload_conf()")
            _wait_until_refused(postgres_url, user=role, password="wrong")
        hn.init(tmp_path / "store", catalog=postgres_url).close()
        monkeypatch.setenv("PGUSER", role)
        for password, words in [("wrong", "password authentication failed"), (None, "no password")]:
            if password is None:
                monkeypatch.delenv("PGPASSWORD")
            else:
                monkeypatch.setenv("PGPASSWORD", password)
            with pytest.raises(HartonomousError, match="does not let you in") as error:
                hn.open(tmp_path / "store")
            assert words in error.value.message
            assert "cannot be reached" not in error.value.message
            assert "PGPASSWORD" in str(error.value.hint)
        monkeypatch.setenv("PGPASSWORD", "right")
        hn.open(tmp_path / "store").close()
    finally:
        postgres_server.say(f"DROP ROLE {role}")


def _wait_until_refused(url: str, **words: str) -> None:
    """Wait until a server has read its rules again, which it does some time after it was told."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        try:
            psycopg.connect(url, **words).close()
        except psycopg.OperationalError:
            return
        time.sleep(0.02)
    raise AssertionError("the server lets everybody in")


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UsageError, match="psycopg") as error:
        hn.init(tmp_path / "store", catalog="postgresql://host/there")
    assert "hartonomous[postgres]" in str(error.value.hint)
    hn.init(tmp_path / "plain").close()


@pytest.mark.parametrize(
    ("field", "value"),
    [("schema", "public; DROP SCHEMA x"), ("schema", "pg_catalog"), ("engine", "oracle")],
)
def test_a_card_of_somebody_else_is_looked_at(served: hn.Store, field: str, value: str) -> None:
    served.close()
    path = served.path / "store.json"
    card = json.loads(path.read_text())
    card["catalog"][field] = value
    path.write_text(json.dumps(card))
    with pytest.raises(UnsupportedStoreError, match="does not know"):
        hn.open(served.path)


def test_a_card_cannot_set_every_parameter(
    served: hn.Store, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.close()
    path = served.path / "store.json"
    card = json.loads(path.read_text())
    card["catalog"]["parameters"] |= {"passfile": "/etc/passwd", "options": "-c x=y", "user": "x"}
    path.write_text(json.dumps(card))
    monkeypatch.delenv("HARTONOMOUS_CATALOG_URL")
    monkeypatch.setenv("PGUSER", psycopg.conninfo.conninfo_to_dict(postgres_url)["user"])
    with hn.open(served.path) as store:
        used = store.parts.home.place.parameters
        assert not used.keys() & {"passfile", "options", "user"}
        assert used["require_auth"] == "!password"


# -- transactions


def say(database: Database, question: str) -> str:
    with database.read() as tx:
        return str(tx.scalar(text(question)))


def test_each_transaction_has_its_own_level(served: hn.Store) -> None:
    database = served.parts.database
    for durable in (True, False, True, False):
        with database.write(durable=durable) as tx:
            level = tx.scalar(text("SHOW synchronous_commit"))
            assert level == ("on" if durable else "off")
            assert tx.scalar(text("SHOW transaction_isolation")) == "read committed"
    assert say(database, "SHOW transaction_isolation") == "repeatable read"
    assert say(database, "SHOW transaction_read_only") == "on"


def test_a_reader_sees_one_moment_and_waits_for_nobody(served: hn.Store) -> None:
    database = served.parts.database
    with database.read() as reader:
        assert properties.get(reader, "x") is None
        with database.write() as tx:
            properties.put(tx, "x", "new")
            assert properties.get(reader, "x") is None
        assert properties.get(reader, "x") is None
    with database.read() as reader:
        assert properties.get(reader, "x") == "new"


def test_a_reader_cannot_write(served: hn.Store) -> None:
    with (
        pytest.raises(HartonomousError, match="it only reads here"),
        served.parts.database.read() as tx,
    ):
        properties.put(tx, "x", "y")


def test_writers_come_one_after_another(served: hn.Store) -> None:
    database = served.parts.database

    def count() -> None:
        for _ in range(25):
            with database.write(durable=False) as tx:
                seen = int(properties.get(tx, "count") or 0)
                properties.put(tx, "count", str(seen + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    with database.read() as tx:
        assert properties.get(tx, "count") == "100"


def test_a_writer_who_waits_too_long_is_told(
    served: hn.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(postgres, "LOCK_TIMEOUT_S", 1)
        other = hn.open(served.path)
    with (
        served.parts.database.write(),
        pytest.raises(LockedError, match="stayed locked"),
        other.parts.database.write(),
    ):
        pass
    other.close()


def test_a_writer_that_stops_keeps_the_others_waiting_for_a_while(
    served: hn.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hn.open(served.path) as other:
        monkeypatch.setattr(postgres, "LOCK_TIMEOUT_S", 1)
        with pytest.raises(HartonomousError, match="went away"), other.parts.database.write() as tx:
            properties.put(tx, "x", "stopped")
            with served.parts.database.write() as second:  # when the first one's time is over
                assert properties.get(second, "x") is None
            properties.put(tx, "x", "stopped")


def test_writers_of_two_stores_do_not_wait_for_each_other(served: hn.Store, tmp_path: Path) -> None:
    with (
        hn.init(tmp_path / "second") as other,
        served.parts.database.write(),
        other.parts.database.write() as tx,
    ):
        properties.put(tx, "x", "second")
    with served.parts.database.read() as tx:
        assert properties.get(tx, "x") is None


def test_colliding_transactions_are_tried_again(served: hn.Store) -> None:
    database = served.parts.database
    with database.write() as tx:
        for name in ("one", "two"):
            properties.put(tx, name, "0")
    both, attempts = threading.Barrier(2), []

    def add(names: tuple[str, str]) -> None:
        def work(tx) -> None:
            attempts.append(names)
            for turn, name in enumerate(names):
                if turn and len(attempts) <= 2:
                    both.wait(60)  # each has one row now and wants the other's
                tx.execute(
                    text("UPDATE store_property SET value = value::int + 1 WHERE name = :name"),
                    {"name": name},
                )

        database.run(work, alone=False)

    threads = [threading.Thread(target=add, args=(n,)) for n in (("one", "two"), ("two", "one"))]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(attempts) >= 3
    with database.read() as tx:
        assert (properties.get(tx, "one"), properties.get(tx, "two")) == ("2", "2")


def test_an_id_is_never_given_again(served: hn.Store) -> None:
    with served.parts.database.write() as tx:
        first = writers.begin(tx, key=os.urandom(16), host="h", process=1, now_us=1)
        writers.end(tx, first)
        second = writers.begin(tx, key=os.urandom(16), host="h", process=1, now_us=1)
    assert second > first


def test_atoms_that_are_there_are_not_inserted_again(served: hn.Store) -> None:
    """Some of many, which go by COPY, and some of few, which do not."""
    database = served.parts.database
    made = [
        atoms.NewAtom(digest=bytes([n]) * 32, size_bytes=0, encoding=0, extents=())
        for n in range(100)
    ]
    for some, there in ((made[:40], 0), (made[35:45], 5), (made[20:], 25), (made, 100)):
        with database.write() as tx:
            assert len(atoms.add(tx, some, now_us=1)) == there
    with database.read() as tx:
        assert len(atoms.find(tx, [one.digest for one in made])) == 100


# -- a connection that ends


def test_a_connection_lost_in_the_middle_is_told_and_made_anew(
    served: hn.Store, postgres_url: str
) -> None:
    """One that was lost in between is in test_server_away.py."""
    parts = served.parts
    assert not list(served.ls())
    end_connections(postgres_url)
    with pytest.raises(UnreachableError, match="went away"), parts.database.read() as tx:
        properties.get(tx, "x")
    assert not list(served.ls())


def test_what_was_staged_over_a_lost_connection_is_not_published(
    served: hn.Store, source, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that were not synced may be gone with the server: the writer must not go on."""
    from hartonomous.packs import session

    real = session.WriteSession.flush

    def flush(self) -> None:
        real(self)
        end_connections(postgres_url)
        with pytest.raises(HartonomousError), self.parts.database.read() as tx:
            properties.get(tx, "x")
        with self.parts.database.read() as tx:  # another connection, and it works
            properties.get(tx, "x")

    with monkeypatch.context() as patch:
        patch.setattr(session.WriteSession, "flush", flush)
        with pytest.raises(HartonomousError, match="in the middle of the work"):
            served.add(source("a.bin", os.urandom(5000)))
    assert not list(served.ls())
    served.add(source("b.bin", os.urandom(5000)))
    assert [one.name for one in served.ls()] == ["b.bin"]
    assert served.verify(files=True).sound


def _marked(database) -> None:
    database.mark()


def _copied(database) -> None:
    """What does not go through SQLAlchemy, as COPY does not."""
    with database.read() as tx:
        tx.connection.dbapi_connection.execute("SELECT 1")


@pytest.mark.parametrize("ask", [_marked, _copied])
def test_whoever_finds_a_connection_lost_tells_writers(
    served: hn.Store, postgres_url: str, caplog: pytest.LogCaptureFixture, ask
) -> None:
    """A reader of the feed, say, in another thread: the writer gets a connection that is new."""
    database = served.parts.database
    steady = database.steady()
    end_connections(postgres_url)
    with pytest.raises(HartonomousError, match="went away"):
        ask(database)
    with pytest.raises(HartonomousError, match="in the middle of the work"), steady.write():
        pass
    with database.write():
        pass
    ask(database)
    assert caplog.records == []  # nor does the pool tell of it in its own words


# -- damage


@pytest.mark.parametrize("damage", ["schema", "table", "rows"])
def test_repair_makes_the_catalog_anew(served: hn.Store, source, damage: str) -> None:
    fill(served, source)
    before = listing(served)
    schema = served.parts.home.place.schema
    with served.parts.database.write() as tx:
        if damage == "schema":
            schemas.drop(tx, schema)
        elif damage == "table":
            tx.exec_driver_sql("DROP TABLE atom CASCADE")
        else:
            tx.exec_driver_sql("DELETE FROM label")
    served.close()
    if damage == "schema":
        with pytest.raises(NoStoreError, match="no catalog") as error:
            hn.open(served.path)
        assert "repair" in str(error.value.hint)
    done = hn.repair(served.path)
    assert (done.damaged, done.lost, done.recovered) == ((), (), ())
    with hn.open(served.path) as store:
        assert listing(store) == before
        assert store.verify(files=True).sound
        assert [one.name for one in store.ls(trash=True)] == ["c.bin"]
        with store.parts.database.write() as tx:
            former = f"{schema}_was_"
            names = tx.scalars(text("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'hart%'"))
            kept = [name for name in names if name != schema]
        assert [name.startswith(former) for name in kept] == [True] * (damage != "schema")
        if damage != "schema":
            assert done.former_catalog is not None
            assert kept[0] in done.former_catalog


def test_a_repair_that_fails_leaves_the_former_catalog(
    served: hn.Store, source, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hartonomous.operations import repair

    fill(served, source)
    before = listing(served)
    served.close()
    with monkeypatch.context() as patch:
        patch.setattr(repair._Rebuild, "run", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            hn.repair(served.path)
    with hn.open(served.path) as store:
        assert listing(store) == before
        with store.parts.database.read() as tx:
            assert not schemas.exists(tx, f"{store.parts.home.place.schema}_new")


# -- texts


@given(st.text(st.characters(codec="utf-8") | st.sampled_from("\0\ue00001")))
def test_every_text_can_be_kept(value: str) -> None:
    kept = escaped(value)
    assert "\0" not in kept
    assert unescaped(kept) == value


def test_names_with_a_zero_letter(served: hn.Store, source) -> None:
    tensors = {f"layers.{n}\0\ue000.w": np.full(9, n, "f4") for n in range(20)}
    served.add(source("m.safetensors", save(tensors)))
    assert sorted(served.tensors("m.safetensors")) == sorted(tensors)
    for name, value in tensors.items():
        assert np.array_equal(served.tensor("m.safetensors", name), value)


def test_texts_are_ordered_by_their_bytes(served: hn.Store, source) -> None:
    for name in ("b", "A", "a", "Z", "é", "_"):
        served.add(source("one.bin", name.encode()), name=name)
    assert [one.name for one in served.ls()] == sorted(["b", "A", "a", "Z", "é", "_"])
    query = (
        "SELECT count(*) FILTER (WHERE l.collname <> 'C'), count(*) FROM pg_attribute a "
        "JOIN pg_class c ON c.oid = a.attrelid JOIN pg_collation l ON l.oid = a.attcollation "
        "WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' "
        "AND a.atttypid = 'text'::regtype"
    )
    with served.parts.database.read() as tx:
        other, all_of_them = tx.execute(text(query)).one()
    assert other == 0
    assert all_of_them > 20
