"""``hart cat``, ``hart diff`` and ``hart explain``: output, JSON by schema, exit codes."""

import io
import json
import sys

import ml_dtypes
import numpy as np
import pytest
from cli_schema import validate

import hartonomous as hn
from hartonomous.cli.diff import _metadata_row
from hartonomous.cli.main import main
from hartonomous.core.metadata_comparison import MetadataDifference

TENSORS = {
    "w": np.arange(600, dtype=np.float32).reshape(60, 10) / 7,
    "b": np.arange(40, dtype=np.float32),
    "bf": np.linspace(-1, 1, 90).astype(ml_dtypes.bfloat16).reshape(9, 10),
}


@pytest.fixture
def models(home, monkeypatch):
    """A store with three models, and two files in the working folder."""
    place = home / "store"
    monkeypatch.setenv("HARTONOMOUS_STORE", str(place))
    changed = {**TENSORS, "w": TENSORS["w"] + 1, "b": TENSORS["b"].astype(np.float16)}
    changed["moved"] = changed.pop("bf")
    with hn.open(place, create=True) as store:
        hn.save_file(TENSORS, "a", {"step": "1"}, store=store)
        hn.save_file(changed, "b", {"step": "2"}, store=store)
        hn.save_file(TENSORS, "copy", {"step": "1"}, store=store)
        folder = home / "work" / "folder"
        folder.mkdir()
        (folder / "config.json").write_text('{"a": 1}\n')
        store.get("a", folder / "model.safetensors")
        (folder / "evil.txt").write_text("a\x1b[2Jb")
        store.add(folder)
    return home


@pytest.fixture
def binary(capsysbinary):
    """Run a command line: (exit code, standard output as bytes, standard error)."""

    def call(*arguments):
        code = main(arguments)
        captured = capsysbinary.readouterr()
        return code, captured.out, captured.err.decode()

    return call


def test_cat_prints_as_numpy_prints(models, hart):
    code, out, err = hart("cat", "a", "w", "--rows", "1:3")
    assert (code, err) == (0, "")
    assert out == f"w  F32 [60, 10]  rows 1:3  float32 [2, 10]\n{TENSORS['w'][1:3]}\n"
    assert hart("cat", "a", "bf", "-q")[1] == f"{TENSORS['bf']}\n"
    assert hart("cat", "folder", "b", "--file", "model.safetensors")[1].endswith(
        f"{TENSORS['b']}\n"
    )


def test_cat_json(models, hart):
    found = validate("cat", hart("cat", "a@1", "bf", "--rows=-2:", "--json")[1])[0]
    assert found["rows"] == [7, 9]
    assert found["text"] == str(TENSORS["bf"][-2:])
    assert found["logical_bytes"] == 40


def test_cat_raw_npy_and_bytes(models, binary):
    assert binary("cat", "a", "w", "--raw") == (0, TENSORS["w"].tobytes(), "")
    assert binary("cat", "a", "w", "--raw", "--rows", ":2")[1] == TENSORS["w"][:2].tobytes()
    assert binary("cat", "a", "w", "--bytes", "3:9")[1] == TENSORS["w"].tobytes()[3:9]
    assert binary("cat", "a", "w", "--bytes=-4:")[1] == TENSORS["w"].tobytes()[-4:]
    for name, rows in (("w", slice(None)), ("w", slice(5, 50)), ("bf", slice(None))):
        expected = io.BytesIO()
        np.save(expected, TENSORS[name][rows])
        given = [] if rows.start is None else ["--rows", f"{rows.start}:{rows.stop}"]
        assert binary("cat", "a", name, "--npy", *given)[1] == expected.getvalue()


def test_cat_writes_whole_files(models, binary):
    folder = models / "work" / "folder"
    for name in ("config.json", "model.safetensors", "evil.txt"):
        assert binary("cat", "folder", "--file", name)[1] == (folder / name).read_bytes()
    assert binary("cat", "a")[1] == (folder / "model.safetensors").read_bytes()


class _Terminal(io.TextIOWrapper):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        (("a", "w", "--raw"), False),
        (("a",), False),
        (("folder", "--file", "evil.txt"), False),
        (("folder", "--file", "config.json"), True),
        (("a", "w", "--raw", "--force"), True),
    ],
)
def test_cat_keeps_binary_data_off_terminals(models, monkeypatch, capsys, arguments, written):
    terminal = _Terminal(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", terminal)
    code = main(["cat", *arguments])
    content = terminal.buffer.getvalue()
    monkeypatch.undo()
    assert (code, bool(content)) == ((0, True) if written else (2, False))
    assert ("--force" in capsys.readouterr().err) is not written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", "w", "--raw", "--npy"), "exclude each other"),
        (("a", "--raw"), "about a tensor"),
        (("a", "w", "--bytes", "0:1", "--rows", "0:1"), "--bytes excludes"),
        (("a", "w", "--raw", "--dequantise"), "not the stored bytes"),
        (("a", "w", "--raw", "--json"), "no JSON form"),
        (("a", "w", "--rows", "1-2"), "is no range"),
        (("a", "w", "--rows", "0:61"), "outside the tensor's 60"),
        (("folder",), "has 3 files"),
    ],
)
def test_cat_usage(models, hart, arguments, message):
    code, out, err = hart("cat", *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_cat_names_near_tensors(models, hart):
    code, _, err = hart("cat", "a", "ww")
    assert code == 1
    assert err == "hart: error: a@1 has no tensor 'ww'\nhint: did you mean w?\n"


def test_diff_for_people(models, hart):
    code, out, err = hart("diff", "a", "b")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("a: a@1  ")
    rows = {line.split()[0]: line for line in lines[4:7]}
    assert set(rows) == {"cast", "changed", "renamed"}
    assert "100.00 %" in rows["changed"]
    assert "F32 -> F16 [40]" in rows["cast"]
    told = {
        one["status"]: one["values"]
        for one in json.loads(hart("diff", "a", "b", "--json")[1])["tensors"]
    }
    assert lines[3].split()[-2:] == ["largest", "ulps"]
    for status in ("cast", "changed"):
        assert rows[status].split()[-1] == f"{told[status]['largest_ulp']:,}"
    assert "bf -> moved" in rows["renamed"]
    assert "file.__metadata__.step" in out  # the two files have other names
    assert lines[2].startswith("1 renamed, 1 cast, 1 changed tensors; ")  # before the table


def test_diff_json(models, hart):
    found = validate("diff", hart("diff", "a", "b", "--json")[1])[0]
    assert {one["status"] for one in found["tensors"]} == {"cast", "changed", "renamed"}
    changed = next(one for one in found["tensors"] if one["status"] == "changed")
    assert changed["values"]["changed_count"] == 600
    quick = validate("diff", hart("diff", "a", "b", "--json", "--no-values")[1])[0]
    assert all(one["values"] is None for one in quick["tensors"])
    on_disk = validate("diff", hart("diff", "a", "folder/model.safetensors", "--json")[1])[0]
    assert on_disk["identical"]
    assert on_disk["b"]["number"] is None


@pytest.mark.parametrize("equal", ["", "e" * 200])
def test_diff_shows_of_long_values_where_they_differ(equal):
    values = (f"{equal}1{'x' * 100}", f"{equal}2{'x' * 100}")
    difference = MetadataDifference(path="a.key", change="changed", a=values[0], b=values[1])
    _, _, a, b = _metadata_row(difference)
    assert a != b
    assert max(len(a), len(b)) <= 62
    assert a.endswith("x…")


def test_diff_exit_codes(models, hart):
    assert hart("diff", "a", "b", "--exit-code")[0] == 5
    assert hart("diff", "a", "b")[0] == 0
    code, out, _ = hart("diff", "a", "copy", "--exit-code")
    assert code == 0
    assert out.splitlines()[-1] == "identical: the files have the same bytes"
    assert hart("diff", "a", "folder", "--exit-code")[0] == 5
    assert hart("diff", "a", "nothing", "--exit-code")[0] == 1


def test_diff_shows_what_is_asked_for(models, hart):
    found = json.loads(hart("diff", "a", "b", "--json", "--status", "cast, renamed")[1])
    assert {one["status"] for one in found["tensors"]} == {"cast", "renamed"}
    assert found["tensor_omitted_count"] == 1
    assert hart("diff", "a", "b", "-q", "--limit", "1")[1].count("\n") == 1
    assert "2 more tensors are not shown" in hart("diff", "a", "b", "--limit", "1")[1]
    code, _, err = hart("diff", "a", "b", "--status", "odd")
    assert code == 2
    assert "'odd' is no status" in err


def test_explain(models, hart):
    found = validate("explain", hart("explain", "a", "w", "--json")[1])[0]
    assert found["use_count"] == 3
    assert sum(one["stored_bytes"] for one in found["pieces"]) == found["stored_bytes"]
    code, out, err = hart("explain", "a", "w")
    assert (code, err) == (0, "")
    assert found["digest"] in out
    assert found["pieces"][0]["extents"][0]["pack"] in out
    assert "the same bytes:" in out
    assert hart("explain", "a", "w", "-q")[1] == f"{found['digest']}\n"
