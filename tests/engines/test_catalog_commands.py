"""The commands about a catalog on a server: init, catalog copy, catalog roles, doctor."""

import json
import re
from pathlib import Path

import psycopg
import pytest
from cli_schema import validate

import hartonomous as hn
from hartonomous.catalog.roles import roles_sql
from hartonomous.cli.main import main
from hartonomous.errors import UsageError
from hartonomous.operations.catalog_copy import roles_of_store

SECRET = "sesame"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(list(words))
    found = capsys.readouterr()
    assert SECRET not in found.out + found.err
    return code, found.out


def test_a_catalog_on_a_server_by_commands(
    tmp_path: Path,
    postgres_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = postgres_url.replace("//tests@", f"//tests:{SECRET}@")
    place = str(tmp_path / "store")
    assert main(["init", place, "--catalog", url]) == 0
    said = capsys.readouterr().err
    assert "user and password are not kept" in said
    assert "PGUSER" in said
    assert SECRET not in said
    monkeypatch.setenv("HARTONOMOUS_CATALOG_URL", url)
    code, out = run(capsys, "--store", place, "doctor", "--json")
    (said,) = validate("doctor", out)
    checks = {one["name"]: one for one in said["checks"]}
    assert "PostgreSQL" in checks["server"]["text"]
    assert "ms away" in checks["server"]["text"]
    assert checks["catalog's place"]["text"].startswith("postgresql://")
    assert checks["catalog"]["state"] == "ok"
    assert checks["variables"]["state"] == "ok"
    code, out = run(capsys, "--store", place, "catalog", "roles", "--sql")
    assert code == 0
    assert out == roles_sql(roles_of_store(tmp_path / "store"))
    with psycopg.connect(postgres_url) as connection:  # what is printed is what psql can run
        connection.execute(out)
        made = connection.execute("SELECT rolname FROM pg_roles").fetchall()
        connection.rollback()
    (found,) = validate("catalog", run(capsys, "--store", place, "catalog", "roles", "--json")[1])
    assert [name.rpartition("_")[2] for name in found["roles"]] == ["reader", "writer", "owner"]
    assert {(name,) for name in found["roles"]} <= set(made)
    words = ("--store", place, "-y", "catalog", "copy", "--to")
    (moved,) = validate("catalog", run(capsys, *words, "sqlite", "--json")[1])
    assert moved["catalog"].endswith("catalog.sqlite3")
    with hn.open(place) as store:
        assert store.parts.database.dialect == "sqlite"
    bare = postgres_url.replace("//tests@", "//")  # who comes there is in the environment's address
    assert run(capsys, *words, bare)[0] == 0
    assert json.loads((tmp_path / "store" / "store.json").read_text())["catalog"]["engine"]
    assert run(capsys, *words, url)[0] == 11
    assert run(capsys, "--store", place, "config")[0] == 0


def test_a_database_that_is_not_there_is_told(
    tmp_path: Path, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = re.sub("(//[^/]*/)[^?]*", r"\1nowhere", postgres_url)
    assert main(["init", str(tmp_path / "store"), "--catalog", url]) == 1
    said = capsys.readouterr().err
    assert '"nowhere" does not exist' in said
    assert "CREATE DATABASE" in said
    assert not (tmp_path / "store").exists()


def test_doctor_tells_of_a_server_that_is_not_there(
    served: hn.Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    served.close()
    url = f"postgresql://u:{SECRET}@127.0.0.1:1/there"
    monkeypatch.setenv("HARTONOMOUS_CATALOG_URL", url)
    code, out = run(capsys, "--store", str(served.path), "doctor", "--json")
    assert code == 1
    (catalog,) = [one for one in json.loads(out)["checks"] if one["name"] == "catalog"]
    assert catalog["state"] == "problem"
    assert "cannot be reached" in catalog["text"]


def test_a_file_has_no_roles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hn.init(tmp_path / "store").close()
    assert run(capsys, "--store", str(tmp_path / "store"), "catalog", "roles")[0] == (
        UsageError.exit_code
    )
