"""``hart estimate``: with a store and without one."""

import pytest
from cli_schema import validate

import hartonomous as hn


@pytest.fixture
def source(home):
    path = home / "text.txt"
    path.write_text("some words again and again " * 2000)
    return path


def test_without_a_store(hart, home, source):
    code, out, err = hart("estimate", str(source))
    assert (code, err) == (0, "")
    assert "1 file in 1 artifact:" in out
    assert "no store to compare with" in out
    assert not list(home.rglob("store.json"))


def test_json_with_a_store(hart, home, source):
    with hn.open(home / "store", create=True) as store:
        store.add(source)
    code, out, _ = hart("estimate", "--json", "--store", str(home / "store"), str(source))
    (found,) = validate("estimate", out)
    assert code == 0
    assert found["compared"] is True
    kinds = [one["kind"] for one in found["classes"]]
    assert kinds == ["probably already stored", "manifests and rows"]
    assert sum(one["logical_bytes"] for one in found["classes"]) == source.stat().st_size


def test_dry_run_of_add_estimates_the_same(hart, home, source):
    with hn.open(home / "store", create=True):
        pass
    arguments = ("--store", str(home / "store"), str(source), "--json")
    (dry,) = validate("add", hart("add", "-n", *arguments)[1])
    (told,) = validate("estimate", hart("estimate", *arguments)[1])
    rows = next(one for one in told["classes"] if one["kind"] == "manifests and rows")
    assert dry["stored_bytes"] == told["estimated_bytes"] - rows["estimated_bytes"] > 0
    assert dry["logical_bytes"] == told["logical_bytes"]
    with hn.open(home / "store") as store:
        assert store.ls() == []


def test_dry_run_takes_files_only(hart, home):
    code, _, err = hart("add", "-n", "-", "--name", "x", "--store", str(home / "store"))
    assert code == 2
    assert "standard input" in err


def test_what_is_not_there(hart):
    code, out, err = hart("estimate", "nowhere")
    assert (code, out) == (1, "")
    assert "nowhere" in err
