"""What a PostgreSQL server is set to, and what of it a store may not depend on."""

import os
import types
from pathlib import Path
from typing import Any

import psycopg
import pytest

import hartonomous as hn
from hartonomous.catalog.engines.postgres import PostgresRules
from hartonomous.errors import UsageError
from hartonomous.packs import catalog_home


def test_what_a_server_sets_for_short_requests_does_not_end_a_store(
    tmp_path: Path, postgres_server: Any, source: Any
) -> None:
    limits = ("statement_timeout", "idle_session_timeout", "idle_in_transaction_session_timeout")
    with postgres_server.database() as url:
        database = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
        for name in limits:
            postgres_server.say(f"ALTER DATABASE {database} SET {name} = '1ms'")
        with hn.init(tmp_path / "store", catalog=url) as store:
            store.add(source("a", b"a" * 100))
            with store.parts.database.read() as tx:
                shown = [tx.exec_driver_sql(f"SHOW {name}").scalar() for name in limits]
                assert shown == ["0", "0", "0"]
            assert [one.name for one in store.ls()] == ["a"]


def test_a_database_that_is_missing_is_told_to_who_came_with_a_password() -> None:
    class Let(psycopg.OperationalError):
        pgconn = types.SimpleNamespace(needs_password=True, used_password=True)

    said = PostgresRules().meaning(
        Let('connection failed: FATAL:  database "nowhere" does not exist')
    )
    assert "does not let you in" not in said.message
    assert "CREATE DATABASE" in str(said.hint)


@pytest.mark.parametrize(
    ("given", "url", "reached"),
    [
        ("postgresql://a:p%40@/", "postgresql://h/t", "postgresql://a:p%40@h/t"),
        ("postgresql://a@/", "postgresql:///t?host=/s", "postgresql://a@/t?host=/s"),
        ("postgresql://a@h:5432/t", "postgresql://h/t", "postgresql://a@h:5432/t"),
        ("postgresql://a@h/t", "postgresql://other/t", "postgresql://other/t"),
        ("postgresql://a@/", "postgresql://b@h/t", "postgresql://b@h/t"),
        ("postgresql:///t", "postgresql://h/t", "postgresql://h/t"),
        ("sqlite", "postgresql://h/t", "postgresql://h/t"),
        ("postgresql://a@/", "sqlite", "sqlite"),
        ("postgresql://a@h/t", None, "postgresql://a@h/t"),
    ],
)
def test_an_address_gets_user_and_password_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, given: str, url: str | None, reached: str
) -> None:
    monkeypatch.setenv("HARTONOMOUS_CATALOG_URL", given)
    assert catalog_home.address(url) == reached


@pytest.mark.parametrize(("set_to", "durable"), [("off", "on"), ("local", "local")])
def test_what_is_acknowledged_is_synced_whatever_the_server_is_set_to(
    tmp_path: Path, postgres_server: Any, set_to: str, durable: str
) -> None:
    with postgres_server.database() as url:
        database = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
        postgres_server.say(f"ALTER DATABASE {database} SET synchronous_commit = {set_to}")
        with hn.init(tmp_path / "store", catalog=url) as store:
            for is_durable, expected in [(True, durable), (False, "off"), (True, durable)]:
                with store.parts.database.write(durable=is_durable) as tx:
                    assert tx.exec_driver_sql("SHOW synchronous_commit").scalar() == expected


def test_a_database_that_cannot_keep_every_text_is_refused(
    tmp_path: Path, postgres_server: Any
) -> None:
    name = f"latin_{os.getpid()}"
    postgres_server.say(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    try:
        with pytest.raises(UsageError, match="LATIN1") as error:
            hn.init(tmp_path / "store", catalog=postgres_server.address(name))
        assert "UTF8" in str(error.value.hint)
        assert not (tmp_path / "store").exists()
    finally:
        postgres_server.say(f"DROP DATABASE {name} WITH (FORCE)")
