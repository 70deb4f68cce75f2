"""What a database says, told as an error of ours that names the right remedy."""

import sqlite3
from contextlib import closing

import pytest

from hartonomous.catalog.engines.postgres import PostgresRules
from hartonomous.catalog.engines.sqlite import copy_before_migration
from hartonomous.errors import IntegrityError, StorageFullError


def test_a_value_too_large_for_an_index_is_no_lack_of_room():
    errors = pytest.importorskip("psycopg").errors
    text = "index row size 3016 exceeds btree version 4 maximum 2704"
    found = PostgresRules().meaning(errors.ProgramLimitExceeded(text))
    assert not isinstance(found, StorageFullError)
    assert text in found.message
    assert "SQLite" in (found.hint or "")
    assert isinstance(PostgresRules().meaning(errors.DiskFull("full")), StorageFullError)


def test_a_damaged_catalog_is_not_copied_before_a_migration(tmp_path):
    path = tmp_path / "catalog.sqlite3"
    path.write_bytes(b"no catalog" * 1000)
    with pytest.raises(IntegrityError, match="the catalog is damaged"):
        copy_before_migration(path, "0001")
    assert list(tmp_path.iterdir()) == [path]


def test_a_copy_before_a_migration_has_all_rows(tmp_path):
    path = tmp_path / "catalog.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (7)")
        connection.commit()
    copy = copy_before_migration(path, "0001")
    assert copy == tmp_path / "catalog.sqlite3.before-0001"
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT x FROM t").fetchall() == [(7,)]
    assert sorted(tmp_path.iterdir()) == [path, copy]
