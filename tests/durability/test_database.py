"""The catalog's transactions: how durable each is, what a connection keeps of the last one."""

import os
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection

import hartonomous as hn
from hartonomous.catalog import database as catalog
from hartonomous.catalog import properties, writers
from hartonomous.catalog.database import Database
from hartonomous.catalog.engines import sqlite
from hartonomous.errors import HartonomousError, IntegrityError, LockedError, StorageFullError

FULL, NORMAL = 2, 1


@pytest.fixture
def database(tmp_path: Path) -> Database:
    held = Database(catalog.create_sqlite(tmp_path / "catalog.sqlite3"))
    yield held
    held.close()


def level(tx: Connection) -> int:
    return int(tx.exec_driver_sql("PRAGMA synchronous").scalar_one())


def test_each_transaction_has_its_own_level(database: Database) -> None:
    for durable in (True, False, True, True, False, False):
        with database.write(durable=durable) as tx:
            assert level(tx) == (FULL if durable else NORMAL)


def test_a_failed_transaction_leaves_nothing_behind(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.write(durable=False) as tx:
        properties.put(tx, "left", "behind")
        raise ZeroDivisionError
    with database.write() as tx:
        assert level(tx) == FULL
        assert properties.get(tx, "left") is None


def test_threads_never_share_a_level(database: Database) -> None:
    wrong: list[tuple[bool, int]] = []

    def write(durable: bool) -> None:
        for _ in range(30):
            with database.write(durable=durable) as tx:
                found = level(tx)
            if found != (FULL if durable else NORMAL):
                wrong.append((durable, found))

    threads = [threading.Thread(target=write, args=(bool(i % 2),)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_forty_threads_find_a_connection_each(database: Database) -> None:
    gate = threading.Barrier(40, timeout=60)

    def read() -> None:
        with database.read() as tx:
            properties.get(tx, "x")
            gate.wait()  # all of them hold a transaction now

    threads = [threading.Thread(target=read) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not gate.broken


def test_an_id_is_never_given_again(database: Database) -> None:
    with database.write() as tx:
        first = writers.begin(tx, key=os.urandom(16), host="h", process=1, now_us=1)
        writers.end(tx, first)
        second = writers.begin(tx, key=os.urandom(16), host="h", process=1, now_us=1)
    assert second > first


def test_a_full_database_is_told_as_such(database: Database) -> None:
    with pytest.raises(StorageFullError, match="no room"), database.write() as tx:
        tx.exec_driver_sql("PRAGMA max_page_count=1")
        properties.put(tx, "x", "y" * 5_000_000)


def test_a_busy_database_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    database = Database(catalog.create_sqlite(tmp_path / "catalog.sqlite3"))
    other = sqlite3.connect(tmp_path / "catalog.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LockedError, match="stayed locked"), database.write():
        pass
    other.close()
    database.close()


def test_damage_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite3"
    Database(catalog.create_sqlite(path)).close()
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    database = Database(catalog.open_sqlite(path))
    with pytest.raises(IntegrityError, match="damaged"), database.read() as tx:
        tx.exec_driver_sql("SELECT count(*) FROM atom").all()
    database.close()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = hn.init(tmp_path / "store")
    store.close()
    for use in (store.ls, store.stats, store.verify, store.gc, lambda: store.add(__file__)):
        with pytest.raises(HartonomousError, match="closed"):
            use()
    store.close()
