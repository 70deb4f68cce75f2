"""``hart get`` and ``hart export``: exact files, and nothing written over."""

from pathlib import Path

import pytest
from cli_files import NAMES
from cli_schema import validate


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def work(home):
    return home / "work"


def test_get_a_file(hart, full, sources, work):
    code, out, _ = hart("get", "x.npy")
    assert code == 0
    assert "x.npy@1: 1 file, 80.1 kB at x.npy" in out
    assert (work / "x.npy").read_bytes() == (sources / "x.npy").read_bytes()
    assert (work / "x.npy").stat().st_mtime_ns // 1000 == (
        (sources / "x.npy").stat().st_mtime_ns // 1000
    )


def test_get_a_model_folder(hart, full, sources, work):
    got = validate("get", hart("get", "tiny", "-o", "there", "--json")[1])[0]
    assert got["output"] == "there"
    assert content(work / "there") == content(sources / "tiny")
    again = validate("get", hart("get", "tiny", "-o", "there", "--json")[1])[0]
    assert all(one["kept"] for one in again["files"])
    assert hart("get", "tiny", "-o", "there", "-q")[1].splitlines() == [
        "there/README.md", "there/config.json", "there/model.safetensors",
    ]  # fmt: skip


def test_get_some_files(hart, full, work):
    assert hart("get", "tiny", "--file", "config.json", "--file", "README.md")[0] == 0
    assert sorted(content(work)) == ["tiny/README.md", "tiny/config.json"]
    code, _, err = hart("get", "tiny", "--file", "weights")
    assert code == 1
    assert "it has README.md, config.json" in err


def test_get_one_file_of_a_folder_goes_where_cp_would_put_it(hart, full, sources, work):
    wanted = (sources / "tiny" / "config.json").read_bytes()
    got = validate("get", hart("get", "tiny", "--file", "config.json", "-o", "c.json", "--json")[1])
    assert got[0]["files"][0]["path"] == got[0]["output"] == "c.json"
    assert hart("get", "tiny", "--file", "config.json", "-o", "new/deep.json")[0] == 0
    (work / "there").mkdir()
    assert hart("get", "tiny", "--file", "config.json", "-o", "there")[0] == 0
    assert hart("get", "tiny", "--file", "config.json", "-o", "folder/")[0] == 0
    assert content(work) == {
        "c.json": wanted, "new/deep.json": wanted, "there/config.json": wanted,
        "folder/config.json": wanted,
    }  # fmt: skip
    code, _, err = hart("get", "tiny", "--file", "README.md", "-o", "c.json")
    assert (code, "c.json exists and is something else" in err) == (11, True)
    two = ("--file", "config.json", "--file", "README.md")
    assert hart("get", "tiny", *two, "-o", "two")[0] == 0
    assert sorted(content(work / "two")) == ["README.md", "config.json"]


def test_a_path_that_ends_in_a_slash_is_a_folder(hart, full, sources, work):
    wanted = (sources / "x.npy").read_bytes()
    out = hart("get", "x.npy", "-o", "new/")[1]
    assert "at new/x.npy" in out
    assert hart("get", "x.npy", "-o", "deep/er/")[0] == 0
    assert content(work) == {"new/x.npy": wanted, "deep/er/x.npy": wanted}


def test_get_never_writes_over_something_else(hart, full, work):
    (work / "x.npy").write_text("mine")
    code, out, err = hart("get", "x.npy")
    assert (code, out) == (11, "")
    assert "--force" in err
    assert (work / "x.npy").read_text() == "mine"
    assert hart("get", "x.npy", "--dry-run")[0] == 11
    assert hart("get", "x.npy", "--force")[0] == 0
    assert (work / "x.npy").read_bytes() != b"mine"


def test_get_dry_run_writes_nothing(hart, full, work):
    code, out, _ = hart("get", "tiny", "-n")
    assert code == 0
    assert "would be written" in out
    assert "nothing was written (dry run)" in out
    assert content(work) == {}


def test_get_goes_on_where_it_was_interrupted(hart, full, sources, work):
    digest = validate("show", hart("show", "x.npy", "--json")[1])[0]["files"][0]["digest"]
    part = work / f".x.npy.{digest.partition(':')[2][:16]}.part"
    part.write_bytes((sources / "x.npy").read_bytes()[:5000])
    assert "written, gone on at 5.0 kB" in hart("get", "x.npy")[1]
    assert content(work) == {"x.npy": (sources / "x.npy").read_bytes()}


@pytest.mark.parametrize(
    ("arguments", "expected"), [((), 2), (("none",), 1), (("x.npy@4",), 1), (("x.npy", "more"), 2)]
)
def test_get_refuses(hart, full, work, arguments, expected):
    code, out, _ = hart("get", *arguments)
    assert (code, out) == (expected, "")
    assert content(work) == {}


def test_export_all(hart, full, sources, work):
    done = validate("export", hart("export", "--all", "out", "--json")[1])
    assert [one["name"] for one in done] == NAMES
    assert content(work / "out") == content(sources)
    code, out, _ = hart("export", "--all", "out")
    assert code == 0
    assert out.splitlines()[-1].startswith("5 exported: 7 files, 7 of them there already, ")


def test_export_some(hart, full, sources, work):
    assert hart("export", "t*", "x.npy@1", "out", "-q")[1].splitlines() == [
        "out/tiny", "out/tuned.safetensors", "out/x.npy",
    ]  # fmt: skip
    code, out, _ = hart("export", "tiny", "dry", "-n")
    assert code == 0
    assert "nothing was written (dry run)" in out
    assert not (work / "dry").exists()


def test_export_versions(hart, store, home, work):
    path = home / "notes"
    for text in ("one", "two"):
        path.write_text(text)
        assert hart("add", str(path), "--name", "notes")[0] == 0
    assert hart("export", "--all", "--versions", "out")[0] == 0
    assert content(work / "out") == {"notes@1/notes": b"one", "notes@2/notes": b"two"}
    assert hart("export", "notes@1", "notes@2", "two")[0] == 0
    assert content(work / "two") == {"notes": b"one", "notes@2/notes": b"two"}
    assert hart("export", "--versions", "notes", "three")[0] == 0
    assert len(content(work / "three")) == 2


def test_export_when_a_name_lies_below_another(hart, store, home, work):
    path = home / "one"
    for name, text in (("a", "1"), ("a/b", "2"), ("a/b/c", "3")):
        path.write_text(text)
        assert hart("add", str(path), "--name", name)[0] == 0
    assert hart("export", "--all", "out")[0] == 0
    assert content(work / "out") == {"a@1/one": b"1", "a/b@1/one": b"2", "a/b/c": b"3"}


def test_export_of_an_empty_store(hart, store, work):
    assert hart("export", "--all", "out") == (
        0, "", "hart: note: the store is empty; nothing to export\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("out",), 2),
        (("--all", "tiny", "out"), 2),
        ((), 2),
        (("none", "out"), 1),
        (("n*z", "out"), 1),
    ],
)
def test_export_refuses(hart, full, work, arguments, expected):
    code, out, _ = hart("export", *arguments)
    assert (code, out) == (expected, "")
    assert content(work) == {}


def test_get_does_not_write_to_standard_output(hart, full, work):
    code, out, err = hart("get", "x.npy", "-o", "-")
    assert (code, out) == (2, "")
    assert "hart cat NAME --file MEMBER" in err
    assert not (work / "-").exists()
    assert hart("get", "x.npy", "-o", "./-")[0] == 0
    assert (work / "-").exists()


def test_the_beginning_of_several_names_is_told_with_a_way_to_write_them(hart, store, home, work):
    tree = home / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "a.txt").write_text("a")
    (tree / "sub" / "b.gguf").write_text("b")
    assert hart("add", str(tree))[0] == 0
    code, _, err = hart("get", "tree")
    assert code == 1
    assert "hart export 'tree/*' DIR" in err
    assert "hart export 'tree/*' DIR" in hart("get", "tree/*")[2]
    assert hart("export", "tree/*", "again")[0] == 0
    assert content(work / "again" / "tree") == content(tree)


def test_names_that_come_near_are_told_nearest_first(hart, store, home):
    for name in ("bertolt", "a-bert-of-long-name", "bert"):
        (home / name).write_text(name)
        assert hart("add", str(home / name))[0] == 0
    assert "did you mean bert, bertolt" in hart("show", "bertx")[2]


def test_files_that_lie_side_by_side_are_exported_so(hart, store, work):
    tree = {
        "tree/a/model.onnx": b"no model at all", "tree/a/model.onnx_data": b"no weights" * 99,
        "tree/a/other.txt": b"text",
        "tree/b/big-00001-of-00002.gguf": b"one", "tree/b/big-00002-of-00002.gguf": b"two",
    }  # fmt: skip
    for name, held in tree.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(held)
    hart("add", "tree")
    names = ["tree/a/model.onnx", "tree/a/other.txt", "tree/b/big"]
    assert hart("ls", "-q")[1].splitlines() == names
    assert hart("export", "tree/*", "out")[0] == 0
    assert content(work / "out") == tree
    assert hart("export", "--versions", "tree/b/big", "all")[0] == 0
    assert set(content(work / "all")) == {
        f"tree/b/big@1/big-0000{part}-of-00002.gguf" for part in (1, 2)
    }
