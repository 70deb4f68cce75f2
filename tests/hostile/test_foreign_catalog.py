"""A catalog with values that no writer puts there: each use works, or says that it is damaged."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from sqlalchemy.dialects import sqlite
from tests.durability.workload import DirectParser

import hartonomous as hn
from hartonomous.catalog import health, texts
from hartonomous.catalog.schema import metadata
from hartonomous.errors import HartonomousError, IntegrityError
from hartonomous.packs import directory

VALUES = {
    "text": "no such thing",
    "number": -3,
    "null": None,
    "blob": b"\xff\xfe",
    "fraction": 1.5,
    "huge": 2**62,
    "json": '[{"a": [1.5]}]',
    "surrogate": "CAST(x'ff' AS TEXT)",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a store that has a row in nearly every table."""
    base = tmp_path_factory.mktemp("catalog")
    model = base / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "bert"}')
    weights = {f"layers.{i}.w": np.full((30, 30), i, np.float32) for i in range(3)}
    save_file(weights, model / "model.safetensors")
    (base / "a.bin").write_bytes(bytes(range(256)) * 100)
    with hn.open(base / "store", create=True) as store:
        store.add(model, name="model", labels=["prod"], tags=["t"], metadata={"k": "v"})
        store.add(base / "a.bin")
        store.label("a.bin", "first")
        store.mv("a.bin", "b.bin")
        (base / "c.bin").write_bytes(b"c" * 1000)
        store.add(base / "c.bin")
        store.rm("c.bin")
    return base


def plant(catalog: Path, table: str, column: str, value: object) -> None:
    """Set a column of every row, whatever the schema promises of it."""
    with closing(sqlite3.connect(catalog)) as connection:
        rows = connection.execute(f'SELECT * FROM "{table}"').fetchall()
        fields = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute(f'DROP TABLE "{table}"')
        bare = ", ".join(f'"{one}"' for one in fields)  # no type, no constraint
        connection.execute(f'CREATE TABLE "{table}" ({bare})')
        marks = ", ".join("?" for _ in fields)
        connection.executemany(f'INSERT INTO "{table}" VALUES ({marks})', rows)
        if isinstance(value, str) and value.startswith("CAST"):
            connection.execute(f'UPDATE "{table}" SET "{column}" = {value}')
        else:
            connection.execute(f'UPDATE "{table}" SET "{column}" = ?', [value])
        connection.commit()


def uses(store: hn.Store, base: Path) -> dict[str, object]:
    out = base / "out"
    return {
        "ls": lambda: store.ls(versions=True),
        "trash": lambda: store.ls(trash=True),
        "show": lambda: store.show("model"),
        "log": store.log,
        "events": lambda: list(store.events()),
        "stats": store.stats,
        "names": lambda: store.names("m"),
        "get": lambda: store.get("model", out / "model"),
        "explain": lambda: store.explain("model", "layers.0.w"),
        "diff": lambda: store.diff("model", "b.bin"),
        "estimate": lambda: store.estimate([base / "model"]),
        "verify": lambda: store.verify(files=True),
        "add": lambda: store.add(base / "a.bin", name="another"),
        "label": lambda: store.label("model", "next"),
        "rm": lambda: store.rm("model"),
        "undo": store.undo,
        "gc": lambda: store.gc(trash_days=0, grace_s=0),
    }


@pytest.fixture(autouse=True)
def _one_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "ParserProcess", DirectParser)  # starting a child takes longest


COLUMNS = [(table.name, column) for table in metadata.sorted_tables for column in table.c]


@pytest.mark.parametrize("value", [v for k, v in VALUES.items() if k != "surrogate"])
def test_every_column_gives_what_it_promises_or_is_told_as_damage(value: object):
    """Each column of each table, as SQLAlchemy takes over what SQLite gives."""
    refused = 0
    for table, column in COLUMNS:
        take = column.type.result_processor(sqlite.dialect(), None)
        wanted = {"INTEGER": int, "BIGINT": int, "SMALLINT": int, "TEXT": str, "BLOB": bytes}
        kind = wanted[column.type.compile(sqlite.dialect())]
        try:
            found = take(value)
        except IntegrityError as error:
            refused += 1
            assert error.message.startswith("the catalog is damaged")
            assert "hart repair" in (error.hint or "")
        else:
            assert type(found) is kind or (found is None and column.nullable), (table, column.name)
    assert refused > 20


@pytest.mark.parametrize(
    ("table", "column", "kind"),
    [
        ("version", "size_bytes", "text"),
        ("change", "content", "json"),
    ],
)
def test_every_use_works_or_tells_of_the_damage(
    made: Path, tmp_path: Path, table: str, column: str, kind: str
) -> None:
    place = tmp_path / "place"
    shutil.copytree(made / "store", place / "store")
    for name in ("a.bin", "model"):
        (place / name).symlink_to(made / name)
    plant(place / "store" / "catalog.sqlite3", table, column, VALUES[kind])
    found = try_all(place)
    assert [one for one in found if one] == []
    assert found


def try_all(place: Path) -> list[str]:
    """Use the store in every way; return an empty text for errors of ours, others as text."""
    found: list[str] = []
    try:
        store = hn.open(place / "store")
    except HartonomousError:
        return [""]
    with store:
        for name, use in uses(store, place).items():
            try:
                use()
            except HartonomousError:
                found.append("")
            except Exception as error:
                found.append(f"{name}: {type(error).__name__}: {error}")
    return found


def test_what_was_in_use_at_a_time_is_not_told_from_a_damaged_journal(
    made: Path, tmp_path: Path
) -> None:
    place = tmp_path / "store"
    shutil.copytree(made / "store", place)
    plant(place / "catalog.sqlite3", "change", "content", "{}")
    with hn.open(place) as store, store.parts.database.read() as tx, pytest.raises(IntegrityError):
        texts.moment(tx, 2**60)


def test_a_version_whose_manifest_has_no_row(made: Path, tmp_path: Path) -> None:
    place = tmp_path / "store"
    shutil.copytree(made / "store", place)
    with closing(sqlite3.connect(place / "catalog.sqlite3")) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute("UPDATE member SET manifest_id = 4711")
        connection.commit()
    with hn.open(place) as store:
        for use in (
            lambda: store.file("b.bin").read(),
            lambda: store.get("b.bin", tmp_path / "out"),
            lambda: store.show("b.bin"),
        ):
            with pytest.raises(IntegrityError, match="no manifest 4711") as error:
                use()
            assert error.value.hint
    hn.repair(place)
    with hn.open(place) as store:
        assert store.file("b.bin").read() == bytes(range(256)) * 100


def test_a_file_that_a_row_gives_out_under_anothers_name(tmp_path: Path) -> None:
    """Its own digests are all right; that of the version is not."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    save_file({"w": np.ones((30, 30), np.float32)}, folder / "model.safetensors")
    (tmp_path / "a.bin").write_bytes(b"a.bin" * 2000)
    with hn.init(tmp_path / "store") as store:
        store.add(folder, name="one")
        store.add(tmp_path / "a.bin", name="alone", labels=["t"])
    with closing(sqlite3.connect(tmp_path / "store" / "catalog.sqlite3")) as connection:
        connection.execute(
            "UPDATE member SET manifest_id = (SELECT manifest_id FROM member"
            " WHERE path = 'model.safetensors') WHERE path <> 'model.safetensors'"
        )
        connection.commit()
    with hn.open(tmp_path / "store") as store:
        for use in (
            lambda: store.file("one", "model.safetensors").read(),
            lambda: store.file("alone").read(),
            lambda: store.get("alone", tmp_path / "out"),
            lambda: store.export_all(tmp_path / "out"),
            lambda: store.plain("alone"),
        ):
            with pytest.raises(IntegrityError, match="not those that its digest names"):
                use()
        assert not (tmp_path / "out").exists()
        found = store.verify().faults
        assert {name for one in found for name in one.files} >= {"one@1", "alone@1"}
    hn.repair(tmp_path / "store")
    with hn.open(tmp_path / "store") as store:
        assert store.file("alone").read() == b"a.bin" * 2000
        assert store.verify(files=True).sound


@pytest.mark.parametrize(
    "change",
    ["offset = offset + 4", "length = length - 4", "shape = '[900]'", "dtype = 'I32'",
     "name = 'else'"],
)  # fmt: skip
def test_a_tensor_that_lies_elsewhere_than_its_row_says(
    made: Path, tmp_path: Path, change: str
) -> None:
    place = tmp_path / "store"
    shutil.copytree(made / "store", place)
    with closing(sqlite3.connect(place / "catalog.sqlite3")) as connection:
        connection.execute(f"UPDATE tensor SET {change} WHERE name = 'layers.1.w'")
        connection.commit()
    name = "else" if "name" in change else "layers.1.w"
    with hn.open(place) as store:
        for use in (
            lambda: store.tensor("model", name),
            lambda: store.tensor("model", name, rows=(1, 2)),
            lambda: store.tensor_bytes("model", name),
            lambda: store.tensor_reader("model", name),
            lambda: hn.load_file("model", store),
            lambda: store.explain("model", name),
        ):
            with pytest.raises(IntegrityError, match="tells of no tensor") as error:
                use()
            assert error.value.hint
        other = store.tensor("model", "layers.2.w")
        assert np.array_equal(other, np.full((30, 30), 2, np.float32))
    hn.repair(place)
    with hn.open(place) as store:
        found = store.tensor("model", "layers.1.w")
        assert np.array_equal(found, np.full((30, 30), 1, np.float32))


def test_a_comparison_reads_no_bytes_from_elsewhere(made: Path, tmp_path: Path) -> None:
    place = tmp_path / "store"
    shutil.copytree(made / "store", place)
    with hn.open(place) as store:
        weights = {f"layers.{i}.w": np.full((30, 30), i + 0.5, np.float32) for i in range(3)}
        save_file(weights, tmp_path / "other.safetensors")
        store.add(tmp_path / "other.safetensors", name="other")
    with closing(sqlite3.connect(place / "catalog.sqlite3")) as connection:
        connection.execute("UPDATE tensor SET offset = offset + 4 WHERE name = 'layers.1.w'")
        connection.commit()
    with (
        hn.open(place) as store,
        pytest.raises(IntegrityError, match="tells of no tensor"),
    ):
        store.diff("model", "other")


@pytest.mark.parametrize("kind", ["text", "huge", "blob", "null", "surrogate"])
@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("pack", "key"),
        ("pack", "size_bytes"),
        ("pack", "created_us"),
        ("writer", "host"),
        ("writer", "process"),
        ("alembic_version", "version_num"),
    ],
)
def test_a_look_at_the_catalog_gives_what_it_promises_or_tells_of_the_damage(
    made: Path, tmp_path: Path, table: str, column: str, kind: str
) -> None:
    place = tmp_path / "catalog.sqlite3"
    shutil.copyfile(made / "store" / "catalog.sqlite3", place)
    with closing(sqlite3.connect(place)) as connection:
        connection.execute(
            "INSERT INTO writer VALUES (9, x'00112233445566778899aabbccddeeff', 'h', 1, 1)"
        )
        connection.commit()
    plant(place, table, column, VALUES[kind])
    try:
        found = health.examine(place)
    except HartonomousError as error:
        assert "catalog" in error.message
        return
    assert found.revision is None or type(found.revision) is str
    assert type(found.last_us) is int
    for key, size in found.packs.items():
        assert (type(key), type(size)) == (bytes, int)
    for writer in found.writers:
        assert list(map(type, writer)) == [bytes, str, int]
