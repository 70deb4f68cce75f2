"""Vectors in PostgreSQL by the conformance suite, on a real server."""

from collections.abc import Iterator

import pytest

from hartonomous.catalog.database import Database, create_postgres, create_sqlite
from hartonomous.catalog.engines.postgres import ServerPlace, parse_url
from hartonomous.catalog.vector_table import VectorTable, drop_stray_tables, why_not
from hartonomous.errors import UsageError
from hartonomous.packs.table_index import table_index
from hartonomous.ports.vector_index import VectorIndex, VectorTruth
from hartonomous.testing.vector_index import (
    ListedVectors,
    VectorIndexContract,
    made_space,
    made_vectors,
    recall,
)
from hartonomous.vectors.approximate import ApproximateIndex


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    place = ServerPlace(parameters=parse_url(postgres_url), schema="of_tests")
    opened = Database(create_postgres(place))
    with opened.write() as tx:
        there = "SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'"
        if not tx.exec_driver_sql(there).scalar():
            pytest.skip("the server has no pgvector")
        tx.exec_driver_sql("CREATE EXTENSION vector SCHEMA public")
    yield opened
    opened.close()


class TestTable(VectorIndexContract):
    count = 2200

    @pytest.fixture(autouse=True)
    def _database(self, database: Database) -> None:
        self.database = database

    def open_index(self, truth: VectorTruth) -> VectorIndex:
        return ApproximateIndex(truth, VectorTable(self.database, truth, "ab12", first_rows=500))

    def delete_index(self, truth: VectorTruth) -> None:
        VectorTable(self.database, truth, "ab12").drop()


def test_removed_vectors_leave_the_table(database: Database) -> None:
    truth = ListedVectors(made_space(48))
    truth.add(made_vectors(1000, 48, 1))
    table = VectorTable(database, truth, "01", first_rows=500)
    table.update()
    for kept in (slice(50, None), slice(300, None)):  # a few: deleted; many: made anew
        truth.remove(truth.ids()[: kept.start])
        table.update()
        assert (table.view().ids == truth.ids()).all()
    queries = made_vectors(20, 48, 2)
    index = ApproximateIndex(truth, table)
    assert index.tail_rows == 0
    assert recall(index.search(queries, 10), truth, queries) >= 0.99
    index.close()


def test_the_server_searches_its_graph(database: Database) -> None:
    truth = ListedVectors(made_space(48))
    truth.add(made_vectors(3000, 48, 1))
    table = VectorTable(database, truth, "02", first_rows=500)
    table.update()
    with database.read() as tx:
        names = tx.exec_driver_sql(
            "SELECT indexdef FROM pg_indexes WHERE tablename = 'derived_vector_02'"
        ).scalars()
        assert any("hnsw" in one and "halfvec_l2_ops" in one for one in names)


def test_a_space_without_a_table_on_sqlite(tmp_path) -> None:  # type: ignore[no-untyped-def]
    opened = Database(create_sqlite(tmp_path / "catalog.sqlite"))
    truth = ListedVectors(made_space(48))
    assert table_index(opened, truth, "ab") is None
    assert why_not(opened, 48) == "the catalog is not in PostgreSQL"
    opened.close()


def test_without_the_extension_there_is_no_table(database: Database) -> None:
    truth = ListedVectors(made_space(48))
    truth.add(made_vectors(1000, 48, 1))
    index = ApproximateIndex(truth, VectorTable(database, truth, "04", first_rows=500))
    index.update()
    assert type(table_index(database, truth, "04")) is ApproximateIndex
    with database.write() as tx:
        tx.exec_driver_sql("DROP EXTENSION vector CASCADE")
    assert table_index(database, truth, "04") is None
    assert "pgvector" in str(why_not(database, 48))
    queries = made_vectors(5, 48, 2)
    assert recall(index.search(queries, 10), truth, queries) == 1.0  # one that was open goes on
    index.update()
    index.close()


def test_tables_of_spaces_that_are_gone_are_dropped(database: Database) -> None:
    truth = ListedVectors(made_space(48))
    truth.add(made_vectors(600, 48, 1))
    for name in ("05", "06"):
        VectorTable(database, truth, name, first_rows=500).update()
    drop_stray_tables(database, {"06"})
    assert not VectorTable(database, truth, "05").view().ids.size
    assert VectorTable(database, truth, "06").view().ids.size == 600


def test_more_dimensions_than_the_server_indexes(database: Database) -> None:
    assert "4,000" in str(why_not(database, 4001))


@pytest.mark.parametrize("name", ["", "AB", "a b", "x", "a" * 33])
def test_names_that_cannot_be(database: Database, name: str) -> None:
    with pytest.raises(UsageError):
        VectorTable(database, ListedVectors(made_space(48)), name)
