"""``ls``, ``label``, ``mv``, ``rm``, ``undo`` and ``log``."""

import pytest
from cli_files import NAMES
from cli_schema import validate

pytestmark = pytest.mark.usefixtures("catalog_engine")


@pytest.fixture
def versions(hart, store, home):
    """Three versions of ``notes``."""
    path = home / "notes"
    for number in range(1, 4):
        path.write_text(f"text {number}")
        assert hart("add", "-q", str(path), "--name", "notes")[1] == f"notes@{number}\n"
    return "notes"


def names(out):
    return out.split()


def test_ls(hart, full):
    code, out, err = hart("ls")
    assert (code, err) == (0, "")
    *table, summary = out.splitlines()
    assert [line.split()[0] for line in table] == ["name", *NAMES]
    assert summary.startswith(f"{len(NAMES)} artifacts, 7 files, ")
    assert names(hart("ls", "-q")[1]) == NAMES
    listed = validate("ls", hart("ls", "--json")[1])
    assert [one["name"] for one in listed] == NAMES
    tiny = next(one for one in listed if one["name"] == "tiny")
    assert (tiny["file_count"], tiny["tensor_count"]) == (3, 9)
    assert tiny["parameter_count"] == 120 * 64 + 8 * 64 * 64


def test_ls_patterns_and_order(hart, full):
    assert names(hart("ls", "-q", "t*")[1]) == ["tiny", "tuned.safetensors"]
    assert names(hart("ls", "-q", "tiny")[1]) == ["tiny"]
    sizes = [
        one["logical_bytes"] for one in validate("ls", hart("ls", "--json", "--sort", "size")[1])
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert names(hart("ls", "-q", "--sort", "time")[1])
    assert hart("ls", "none*") == (0, "", "hart: note: nothing fits\n")
    assert hart("ls", "none*", "--json") == (0, "", "")
    assert hart("ls", "--kind", "vectors") == (0, "", "hart: note: nothing fits\n")


def test_ls_of_an_empty_store_says_what_to_do(hart, store):
    assert hart("ls") == (0, "", "hart: note: the store is empty; 'hart add PATH' fills it\n")
    assert hart("ls", "--trash") == (0, "", "hart: note: the trash is empty\n")


def test_ls_versions_and_tags(hart, versions, home):
    assert names(hart("ls", "-q", "--versions")[1]) == ["notes@1", "notes@2", "notes@3"]
    assert [line.split()[1] for line in hart("ls", "--versions")[1].splitlines()[1:-1]] == [
        "1",
        "2",
        "3",
    ]
    (home / "tagged").write_text("tagged")
    assert hart("add", str(home / "tagged"), "--tag", "mine")[0] == 0
    assert names(hart("ls", "-q", "--tag", "mine")[1]) == ["tagged"]


def test_label_moves_and_is_removed(hart, versions):
    code, out, _ = hart("label", "notes@1", "prod", "best")
    assert code == 0
    assert out.splitlines()[0].startswith("notes: prod is version 1; 'hart undo ")
    moved = validate("label", hart("label", "notes", "prod", "--json")[1])[0]
    assert (moved["versions"], moved["changed"]) == (["notes@3"], True)
    assert hart("label", "notes", "prod")[1] == "notes: prod is version 3; nothing to change\n"
    assert hart("show", "-q", "notes@prod")[1] == "notes@3\n"
    assert hart("label", "--remove", "notes", "prod", "best", "-q")[1] == "notes@3\nnotes@1\n"
    assert hart("show", "notes@prod")[0] == 1


def test_several_labels_are_all_or_nothing(hart, versions):
    assert hart("label", "notes", "good", "12")[0] == 2
    assert hart("label", "--remove", "notes", "good")[0] == 1
    assert hart("label", "notes", "good")[0] == 0
    code, _, err = hart("label", "--remove", "notes", "good", "none")
    assert code == 1
    assert "it has good" in err
    assert hart("show", "-q", "notes@good")[0] == 0


def test_label_refuses(hart, versions):
    assert hart("label", "notes")[0] == 2
    assert hart("label", "none", "prod")[0] == 1
    assert hart("label", "notes@9", "prod")[0] == 1
    assert hart("label", "notes", "prod")[0] == 0
    assert hart("label", "--remove", "notes@3", "prod")[0] == 2


def test_mv(hart, full):
    code, out, _ = hart("mv", "tiny", "org/small", "-n")
    assert (code, out) == (0, "org/small: tiny is now org/small; nothing was changed (dry run)\n")
    assert hart("show", "-q", "tiny")[0] == 0
    done = validate("mv", hart("mv", "tiny", "org/small", "--json")[1])[0]
    assert (done["name"], done["changed"]) == ("org/small", True)
    assert "org/small" in names(hart("ls", "-q")[1])
    assert hart("undo", str(done["sequence"]))[0] == 0
    assert names(hart("ls", "-q")[1]) == NAMES


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("tiny", "x.npy"), 11), (("none", "some"), 1), (("tiny", "../x"), 2),
        (("tiny@1", "other"), 2), (("tiny",), 2),
    ],
)  # fmt: skip
def test_mv_refuses(hart, full, arguments, expected):
    code, out, err = hart("mv", *arguments)
    assert (code, out) == (expected, "")
    assert "hint: " in err
    assert names(hart("ls", "-q")[1]) == NAMES


def test_rm_and_undo(hart, full):
    assert hart("rm", "tiny", "-n", "-q")[1] == "tiny@1\n"
    assert "tiny" in hart("ls", "-q")[1]
    (removed,) = validate("rm", hart("rm", "tiny", "x.npy", "tiny@1", "--json")[1])
    assert (removed["name"], removed["versions"]) == ("tiny, x.npy, tiny@1", ["tiny@1", "x.npy@1"])
    assert names(hart("ls", "-q")[1]) == ["a.gguf", "notes.txt", "tuned.safetensors"]
    assert names(hart("ls", "-q", "--trash")[1]) == ["tiny@1", "x.npy@1"]
    assert all(one["removed_at"] for one in validate("ls", hart("ls", "--trash", "--json")[1]))
    undone = validate("undo", hart("undo", "--json")[1])[0]
    assert undone["versions"] == ["tiny@1", "x.npy@1"]
    assert names(hart("ls", "-q")[1]) == NAMES
    (done,) = validate("rm", hart("rm", "tiny", "--json")[1])
    code, out, _ = hart("undo", str(done["sequence"]))
    assert (code, out) == (0, f"tiny: remove {done['sequence']} taken back\n")
    assert names(hart("ls", "-q")[1]) == NAMES


def test_undo_names_what_a_label_or_a_relation_was_about(hart, full):
    assert hart("label", "tiny", "best")[0] == 0
    changes = [
        (("label", "tiny", "prod"), "label"),
        (("label", "--remove", "tiny", "best"), "unlabel"),
        (("relate", "tiny", "fine-tune-of", "x.npy"), "relate"),
        (("mv", "tiny", "small"), "rename"),
    ]
    for arguments, action in changes:
        assert hart(*arguments)[0] == 0
        code, out, _ = hart("undo")
        assert code == 0
        assert out.startswith(f"tiny: {action} ")


def test_rm_keeps_the_last_and_the_labelled(hart, versions):
    assert hart("label", "notes@1", "prod")[0] == 0
    assert hart("rm", "notes", "--keep-last", "1", "-q")[1] == "notes@2\n"
    assert names(hart("ls", "--versions", "-q")[1]) == ["notes@1", "notes@3"]
    assert "nothing to change" in hart("rm", "notes", "--keep-last", "1")[1]


def test_rm_is_all_or_nothing_and_refuses(hart, full):
    code, _, err = hart("rm", "tiny", "tinny")
    assert code == 1
    assert "no artifact is named 'tinny'" in err
    assert names(hart("ls", "-q")[1]) == NAMES
    assert hart("rm")[0] == 2
    assert hart("rm", "tiny", "--keep-last", "0")[0] == 2
    assert hart("rm", "tiny@1", "--keep-last", "1")[0] == 2


def test_a_missing_name_says_where_it_went(hart, full):
    assert hart("rm", "tiny")[0] == 0
    assert "it is in the trash" in hart("show", "tiny")[2]
    assert "hart ls -q 't*'" in hart("show", "t*")[2]


def test_rm_takes_patterns(hart, full):
    (dry,) = validate("rm", hart("rm", "t*", "--json", "-n")[1])
    assert (dry["versions"], dry["dry_run"]) == (["tiny@1", "tuned.safetensors@1"], True)
    assert names(hart("ls", "-q")[1]) == NAMES
    code, out, _ = hart("rm", "t*", "tiny", "[nx]*")
    assert code == 0
    assert "t*, tiny, [nx]*: 4 versions of 4 artifacts to the trash; 'hart undo" in out
    assert len(out.splitlines()) == 5  # tiny is told once
    assert names(hart("ls", "-q")[1]) == ["a.gguf"]
    code, _, err = hart("rm", "a.gguf", "none*")
    assert (code, "no artifact fits 'none*'" in err) == (1, True)
    assert hart("undo")[0] == 0
    assert names(hart("ls", "-q")[1]) == NAMES


def test_rm_of_a_name_with_pattern_marks_takes_that_name(hart, store, home):
    for name in ("a*", "ab"):
        (home / "x").write_text(name)
        assert hart("add", str(home / "x"), "--name", name)[0] == 0
    assert hart("rm", "a*", "-q")[1] == "a*@1\n"
    assert hart("ls", "-q")[1] == "ab\n"


def test_ls_filters_sums_up_and_shortens_commits(hart, full):
    lines = hart("ls", "t*")[1].splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == ["tiny", "tuned.safetensors"]
    assert lines[-1].startswith("2 artifacts, 4 files, ")
    assert hart("ls", "x.npy")[1].splitlines()[-1] == "1 artifact, 1 file, 80.1 kB"
    assert hart("ls", "--versions", "x.npy")[1].splitlines()[-1].startswith("1 version, 1 file, ")
    commit = "0123456789abcdef" * 2 + "01234567"
    assert hart("label", "tiny", commit)[0] == 0
    out = hart("ls", "tiny")[1]
    assert "01234567..." in out
    assert commit not in out
    assert validate("ls", hart("ls", "tiny", "--json")[1])[0]["labels"] == [commit]
    assert hart("ls", "-q", "tiny")[1] == "tiny\n"


def test_undo_of_an_addition_names_the_way(hart, full):
    code, _, err = hart("undo", "1")
    assert code == 1
    assert "no change that can be undone has number 1" in err
    assert "hart rm" in err


def test_rm_twice_in_one_line_is_once(hart, full):
    assert hart("rm", "tiny", "tiny", "-q")[:2] == (0, "tiny@1\n")


def test_undo_refuses(hart, full):
    code, _, err = hart("undo")
    assert code == 1
    assert "nothing to undo" in err
    assert hart("undo", "999")[0] == 1
    assert hart("undo", "0")[0] == 2
    assert hart("rm", "tiny")[0] == 0
    assert hart("undo", "-n")[0] == 0
    assert "tiny" not in names(hart("ls", "-q")[1])
    assert hart("undo")[0] == 0
    number = validate("log", hart("log", "--json")[1])[1]["sequence"]
    assert hart("undo", str(number))[0] == 2


def test_log(hart, versions):
    assert hart("label", "notes@2", "prod")[0] == 0
    assert hart("mv", "notes", "words")[0] == 0
    assert hart("rm", "words@1")[0] == 0
    assert hart("undo")[0] == 0
    entries = validate("log", hart("log", "--json")[1])
    assert [one["action"] for one in entries] == [
        "undo", "remove", "rename", "label", "add", "add", "add",
    ]  # fmt: skip
    numbers = [one["sequence"] for one in entries]
    assert numbers == sorted(numbers, reverse=True)
    assert entries[0]["detail"] == f"remove {numbers[1]} taken back"
    assert [one["undone"] for one in entries] == [False, True, *[False] * 5]
    assert [one["undoable"] for one in entries] == [False, False, True, True, *[False] * 3]
    assert entries[2]["detail"] == "notes became words"
    assert {one["name"] for one in entries if one["action"] != "undo"} == {"words"}
    assert names(hart("log", "-q", "--undoable")[1]) == [str(number) for number in numbers[2:4]]
    assert names(hart("log", "-q", "--limit", "2")[1]) == [str(number) for number in numbers[:2]]
    page = hart("log")[1]
    assert page.splitlines()[0].split() == ["number", "time", "action", "what", "undo"]
    assert "words@2: label prod" in page


def test_log_after_a_purge_still_tells(hart, versions):
    assert hart("rm", "notes@1")[0] == 0
    assert hart("gc", "--empty-trash", "-y")[0] == 0
    entries = validate("log", hart("log", "--json")[1])
    assert entries[0]["action"] == "purge"
    assert entries[0]["detail"] == "1 version gone for good"
    assert hart("log", "--limit", "0")[0] == 2


def test_log_of_an_empty_store(hart, store):
    assert hart("log") == (0, "", "hart: note: nothing to show\n")


def test_a_revision_of_the_hub_is_known_by_its_first_digits(hart, full):
    revision = "0123456789abcdef" * 2 + "01234567"
    assert hart("label", "tiny", revision)[0] == 0
    assert hart("show", f"tiny@{revision[:8]}", "-q")[1] == "tiny@1\n"
    assert hart("show", f"tiny@{revision[:7]}")[0] == 1
    assert hart("label", "tiny", revision + "f")[0] == 0  # no revision: only its whole name counts
    assert hart("show", f"tiny@{revision[:8]}", "-q")[1] == "tiny@1\n"
    assert hart("label", "--remove", "tiny", revision)[0] == 0
    assert hart("show", f"tiny@{revision[:8]}")[0] == 1
