"""``hart init``, and commands where there is no store or not one to be trusted."""

import json

import pytest
from cli_schema import validate

from hartonomous.packs import directory


def test_without_argument_the_store_lies_in_the_data_folder(hart, home):
    code, out, err = hart("init", "--json")
    assert (code, err) == (0, "")
    made = validate("init", out)[0]
    assert made["path"] == str(home / ".local/share/hartonomous/store")
    assert hart("ls", "-q") == (0, "", "")


def test_with_a_folder(hart, home):
    assert hart("init", "models") == (0, f"made an empty store at {home}/work/models\n", "")
    assert hart("init", "-q", str(home / "other"))[1] == f"{home}/other\n"
    assert hart("--store", "models", "stats")[0] == 0


def test_a_store_at_the_place_that_a_variable_names(hart, home, monkeypatch):
    monkeypatch.setenv("HARTONOMOUS_STORE", str(home / "named"))
    assert hart("init", "-q")[1] == f"{home}/named\n"
    monkeypatch.chdir(home / "named")
    monkeypatch.delenv("HARTONOMOUS_STORE")
    assert hart("stats")[0] == 0, "found from inside"


def test_an_init_inside_a_store_makes_the_users_own(hart, store, home, monkeypatch):
    monkeypatch.delenv("HARTONOMOUS_STORE")
    monkeypatch.chdir(store)
    assert hart("init", "-q")[1] == f"{home}/.local/share/hartonomous/store\n"


def test_twice_is_a_conflict(hart):
    assert hart("init", "models")[0] == 0
    code, out, err = hart("init", "models")
    assert (code, out) == (11, "")
    assert "there is a store" in err


def test_a_folder_with_something_in_it_is_left_alone(hart, home):
    (home / "work" / "file").write_text("mine")
    code, _, err = hart("init", ".")
    assert code == 11
    assert "not an empty folder" in err
    assert [path.name for path in (home / "work").iterdir()] == ["file"]


def test_a_server_that_cannot_be_reached_leaves_nothing(hart, home):
    code, out, err = hart("init", "below/models", "--catalog", "postgresql://127.0.0.1:1/models")
    assert (code != 0, out) == (True, "")
    assert "127.0.0.1" in err
    assert not (home / "work" / "below").exists()


def test_two_places_are_a_usage_error(hart, home):
    assert hart("init", "a", "--store", "b")[0] == 2
    assert not (home / "work" / "a").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("add", "."), ("ls",), ("show", "a"), ("get", "a"), ("export", "--all", "out"),
        ("label", "a", "prod"), ("mv", "a", "b"), ("rm", "a"), ("undo",), ("log",), ("stats",),
        ("verify",), ("repair", "-y"), ("gc",), ("migrate",),
    ],
)  # fmt: skip
def test_no_store_is_ten(hart, arguments):
    code, out, err = hart(*arguments)
    assert (code, out) == (10, "")
    assert "hint: make one with 'hart init'" in err
    assert json.loads(hart(*arguments, "--json")[2])["error"]["kind"] == "no-store"


def test_network_file_systems_are_refused_unless_forced(hart, home, monkeypatch):
    monkeypatch.setattr(directory, "file_system_of", lambda path: "nfs4")
    code, _, err = hart("init", "models")
    assert code == 2
    assert "--force-network" in err
    assert hart("init", "other", "--force-network")[0] == 0
    assert hart("ls", "--store", "other")[0] == 2
    assert hart("ls", "--store", "other", "--force-network")[0] == 0


def test_a_newer_store_is_refused_by_the_features_name(hart, store):
    card = json.loads((store / "store.json").read_text())
    card["required_features"] = ["quantum"]
    (store / "store.json").write_text(json.dumps(card))
    code, _, err = hart("ls")
    assert code == 1
    assert "quantum" in err


def test_wrong_settings_are_usage_errors(hart, store):
    assert hart("ls", "--set", "workers=many")[0] == 2
    (store / "hartonomous.toml").write_text("workers = 0\n")
    assert hart("ls")[0] == 2
