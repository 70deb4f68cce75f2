"""``search`` by words and ``views``."""

import shutil
from pathlib import Path

import pytest
from cli_schema import ROOT, validate

PICTURES = ROOT / "tests" / "fixtures" / "pictures"


@pytest.fixture
def texts(hart, store):
    Path("pump.md").write_text("# Pumps\n\nThe valve leaks.\n", encoding="utf-8")
    assert hart("add", "pump.md", "--name", "pump", "--meta", "author=Ada")[0] == 0


def test_search_by_words(hart, texts):
    code, out, _ = hart("search", "leaking", "valve", "--explain")
    assert code == 0
    assert "1. pump@1:pump.md" in out
    assert "The valve leaks." in out
    assert "rank by" in out
    (found,) = validate("search", hart("search", "valve", "--json")[1])
    assert found["hits"][0]["name"] == "pump"
    assert hart("search", "valve", "-q")[1] == "pump@1\n"
    assert "nothing was found" in hart("search", "zzzz")[1]


def test_conditions(hart, texts):
    for given in (
        ["--where", "author=A*"],
        ["--where", "meta.author=Ada"],
        ["--name", "pu*"],
        ["--after", "2020-01-01"],
        ["--before", "2200-01-01T00:00:00+01:00"],
        ["--kind", "passage"],
        ["--no-update"],
    ):
        hart("search", "valve")
        assert "pump@1" in hart("search", "valve", "-q", *given)[1], given
    for given in (["--where", "author=B"], ["--before", "2020-01-01"], ["--tag", "x"]):
        assert hart("search", "valve", "-q", *given)[1] == "", given


@pytest.mark.parametrize(
    "given",
    [
        ["valve", "--tensor", "x"],
        ["valve", "--after", "yesterday"],
        ["valve", "--where", "author"],
        ["--", "-valve"],
        ["valve", "--top-k", "0"],
    ],
)
def test_wrong_usage(hart, texts, given):
    assert hart("search", *given)[0] == 2


def test_a_page_of_hits(hart, texts, tmp_path):
    assert hart("search", "valve", "--html", str(tmp_path / "hits.html"))[0] == 0
    page = (tmp_path / "hits.html").read_text(encoding="utf-8")
    assert "<mark>valve</mark>" in page
    assert hart("search", "valve", "--html", str(tmp_path / "hits.html"))[0] == 11
    assert hart("search", "valve", "--html", str(tmp_path / "hits.html"), "--force")[0] == 0
    code, _, err = hart("search", "valve", "--html", str(tmp_path / "no" / "hits.html"))
    assert code == 1
    assert "cannot be written" in err


def test_limit_of_a_search_by_words(hart, texts):
    Path("more.md").write_text("# Valves\n\nAnother valve.\n", encoding="utf-8")
    assert hart("add", "more.md")[0] == 0
    assert len(hart("search", "valve", "-q")[1].split()) == 2
    assert len(hart("search", "valve", "-q", "--limit", "1")[1].split()) == 1
    assert len(hart("search", "valve", "-q", "--limit", "100000")[1].split()) == 2


def test_a_page_of_hits_and_the_first_hit_opened(hart, texts, tmp_path):
    code, out, err = hart("search", "valve", "--open", "1", "--html", str(tmp_path / "hits.html"))
    assert (code, out) == (0, "pump.md.txt\n")
    assert "hits.html" in err
    assert "<mark>valve</mark>" in (tmp_path / "hits.html").read_text(encoding="utf-8")


def test_no_spaces(hart, store):
    assert hart("spaces", "ls") == (
        0,
        "",
        "hart: note: there are no spaces; 'hart embed' makes one\n",
    )
    assert hart("spaces", "ls", "--json") == (0, "", "")


def test_words_that_are_no_text_make_a_page(hart, texts, tmp_path):
    page = tmp_path / "hits.html"
    assert hart("search", "valve \udcff", "--html", str(page))[0] == 0
    assert "<mark>valve</mark>" in page.read_text(encoding="utf-8")


def test_a_page_is_never_written_through_a_link(hart, texts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hart("search", "valve", "--open", "1")[0] == 0
    (written,) = tmp_path.glob("*.md.txt")
    written.unlink()
    (tmp_path / "precious").write_text("precious", encoding="utf-8")
    written.symlink_to("precious")
    for more in ((), ("--force",)):
        code, _, err = hart("search", "valve", "--open", "1", *more)
        assert code == 11
        assert "is a link" in err
    assert (tmp_path / "precious").read_text(encoding="utf-8") == "precious"


def test_a_key_that_no_metadata_has_is_noted(hart, texts):
    code, _, err = hart("search", "valve", "--where", "meta.auhtor=Ada")
    assert code == 0
    assert "no document has the metadata key 'auhtor'; there is meta.author" in err
    assert "metadata key" not in hart("search", "valve", "--where", "meta.author=Bob")[2]


@pytest.mark.parametrize(
    ("given", "note"),
    [
        (["--name", "nope*"], "no artifact has the name 'nope*'"),
        (["--name", "pumpp"], "no artifact has the name 'pumpp'; did you mean pump?"),
        (["--name", "manual.md"], "did you mean docs/manual.md?"),
        (["--tag", "fiel"], "no artifact has the tag 'fiel'; there is field"),
        (["--where", "kind = passage"], "nothing has the kind 'passage'; there is f"),
        (["--where", "format = csvv"], "nothing has the format 'csvv'; there is f"),
        (["--kind", "picture"], "words do not reach pictures"),
    ],
)
def test_what_nothing_has_is_noted(hart, texts, given, note):
    Path("manual.md").write_text("# Manual\n\nOil the valve.\n", encoding="utf-8")
    assert hart("add", "manual.md", "--name", "docs/manual.md", "--tag", "field")[0] == 0
    code, out, err = hart("search", "valve", *given)
    assert (code, out) == (0, "nothing was found\n")
    assert note in err
    for known in (["--name", "docs/*"], ["--tag", "field"], ["--where", "kind = markdown"]):
        for word in ("valve", "zzzz"):
            assert hart("search", word, *known)[2] == "", known


def test_a_wrong_kind_of_hits_gives_an_example(hart, texts):
    assert "'format = pdf'" in hart("search", "valve", "--kind", "document")[2]
    assert "'format = docx'" in hart("search", "valve", "--kind", "docx")[2]
    assert "--where 'file = *.csv'" in hart("search", "valve", "--kind", "csv")[2]


def test_conditions_without_words_say_what_lists_without_them(hart, texts):
    code, _, err = hart("search", "--where", "author = Ada")
    assert code == 2
    assert "'hart ls PATTERN --tag TAG --kind KIND' lists without words" in err


def test_notes_say_where_a_file_is_and_stand_before_a_hit_that_is_not_there(hart, texts):
    for folder in ("one", "two"):
        Path(folder).mkdir()
        Path(folder, "bad.json").write_text(f'{{"{folder}": [1,', encoding="utf-8")
    assert hart("add", "one", "two", "-q")[0] == 0
    code, _, err = hart("search", "zzzzzz", "--open", "1")
    assert code == 2
    *notes, last = err.splitlines()
    assert [one.partition(": read as plain text")[0] for one in notes] == [
        "hart: note: one/bad.json",
        "hart: note: two/bad.json",
    ]
    assert "there are 0 hits" in last


def test_a_number_of_hits_is_limit(hart, texts):
    code, _, err = hart("search", "valve", "-n", "3")
    assert code == 2
    assert "--limit 3" in err


def test_views(hart, texts):
    (found,) = validate("views", hart("views", "ls", "--json")[1])
    assert (found["waiting_count"], found["waiting_text_count"]) == (1, 1)
    (made,) = validate("views", hart("views", "rebuild", "--json")[1])
    assert made["read_count"] == 1
    out = hart("views", "ls", "pump")[1]
    assert "Pumps" in out
    assert "The valve leaks." in out
    (shown,) = validate("views", hart("views", "ls", "pump", "--json")[1])
    assert shown["passages"][0]["heading"] == "Pumps"
    (dropped,) = validate("views", hart("views", "drop", "--json")[1])
    assert dropped == {"dropped": True}
    assert "nothing to drop" in hart("views", "drop")[1]


def test_lines_of_a_passage_are_listed_as_one(hart, store):
    Path("code.py").write_text("def valve():\n    return 'leaks'\n", encoding="utf-8")
    assert hart("add", "code.py")[0] == 0
    hart("views", "update")
    out = hart("views", "ls", "code.py")[1]
    assert "def valve(): return 'leaks'" in out
    (shown,) = validate("views", hart("views", "ls", "code.py", "--json")[1])
    assert "def valve():\n    return 'leaks'" in shown["passages"][0]["text"]


def test_why_nothing_is_listed_of_a_file(hart, texts):
    shutil.copy(PICTURES / "scene.png", "scene.png")
    Path("changes.gz").write_bytes(b"\x1f\x8b rubbish")
    assert hart("add", "scene.png", "changes.gz", "-q")[0] == 0
    for name in ("scene.png", "pump"):
        code, out, err = hart("views", "ls", name)
        assert (code, out) == (0, "")
        assert "was not looked at yet; 'hart views update' does" in err
    assert hart("views", "update")[0] == 0
    for name in ("scene.png", "pump"):
        code, out, err = hart("views", "ls", name)
        assert (code, err) == (0, "")
        assert name in out
    code, out, err = hart("views", "ls", "changes.gz")
    assert (code, out) == (0, "")
    assert "of files like changes.gz@1:changes.gz nothing is read" in err
